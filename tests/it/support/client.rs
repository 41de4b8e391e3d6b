//! A client that writes exactly what it is told to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use super::answer::{Answer, AnswerReader};

/// A connection to the proxy.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: AnswerReader,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the proxy accepts"))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, reader: AnswerReader::default() }
    }

    /// From an address of our own.
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this host");
        socket.connect(&address.into()).expect("the proxy accepts");
        Self::over(socket.into())
    }

    /// Sends bytes. That the proxy may have closed already shows in what it answered.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.stream.write_all(bytes);
        self
    }

    /// Sends nothing more.
    pub(crate) fn stop_talking(&mut self) -> &mut Self {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// Sends bytes, and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes).answer()
    }

    /// Reads one answer to a request that was not HEAD.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.reader.read(&mut self.stream, false).expect("an answer")
    }

    #[track_caller]
    pub(crate) fn answer_to_head(&mut self) -> Answer {
        self.reader.read(&mut self.stream, true).expect("an answer")
    }

    /// Reads one answer, or why there is none.
    pub(crate) fn try_answer(&mut self) -> io::Result<Answer> {
        self.reader.read(&mut self.stream, false)
    }

    /// Everything that still comes until the proxy closes the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.reader.take();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection stays open ({error}), after {:?}", rest.escape_ascii().to_string()),
        }
        rest
    }

    /// The connection is closed, and nothing more came.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more came: {:?}", rest.escape_ascii().to_string());
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let got = self.reader.exactly(&mut self.stream, bytes.len()).expect("bytes");
        assert_eq!(got.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }
}
