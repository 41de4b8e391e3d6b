//! The application behind the proxy: it follows a script and remembers every byte.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{PATIENCE, eventually, tcp_table};

/// What an application says when nothing else is asked of it.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request as it reached the application.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    /// Names and values as they were written, in order.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came over, counted from 0.
    pub(crate) connection: usize,
}

impl Request {
    /// The values of the fields called `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of the one field called `name`.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &str {
        let values = self.all(name);
        assert_eq!(values.len(), 1, "one {name} in {:?}", self.fields);
        values[0]
    }
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    /// All bytes, one entry a connection.
    raw: Mutex<Vec<Vec<u8>>>,
    /// Connections that the proxy has closed.
    closed: Mutex<Vec<usize>>,
    /// Connections on which something has happened that a test waits for.
    marked: Mutex<Vec<usize>>,
}

enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An application.
pub(crate) struct Application {
    address: Address,
    seen: Arc<Seen>,
}

impl Application {
    /// Answers every request with `reply`, keeping connections.
    pub(crate) fn answering(reply: &[u8]) -> Self {
        let reply = reply.to_vec();
        Self::following(move |visit| {
            while visit.request().is_some() {
                visit.say(&reply);
            }
        })
    }

    /// Follows `script` on each connection, each on a thread of its own. The connection closes when the script ends.
    pub(crate) fn following(script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
        let address = Address::Tcp(listener.local_addr().expect("an address"));
        let incoming = move || listener.accept().map(|(stream, _)| Stream::Tcp(stream));
        Self { address, seen: serve(incoming, script) }
    }

    /// Answers every request with `reply` where a test wants it, and can stop listening there.
    pub(crate) fn answering_at(address: SocketAddr, reply: &[u8]) -> Stoppable {
        let listener = TcpListener::bind(address).expect("a listener");
        let (gone, reply) = (Arc::<AtomicBool>::default(), reply.to_vec());
        let stop = Arc::clone(&gone);
        let incoming = move || match listener.accept() {
            Ok((stream, _)) if !stop.load(Ordering::SeqCst) => Ok(Stream::Tcp(stream)),
            _ => Err(std::io::ErrorKind::Other.into()),
        };
        let script = move |visit: &mut Visit| {
            while visit.request().is_some() {
                visit.say(&reply);
            }
        };
        Stoppable { application: Self { address: Address::Tcp(address), seen: serve(incoming, script) }, gone }
    }

    /// The same on a Unix-domain socket.
    pub(crate) fn on_unix_socket(path: &Path) -> Self {
        Self::following_on_unix_socket(path, |visit| {
            while visit.request().is_some() {
                visit.say(OK);
            }
        })
    }

    /// Follows `script` on each connection to a Unix-domain socket, which takes a few hundred kilobytes at a time; TCP on
    /// loopback may take many megabytes.
    pub(crate) fn following_on_unix_socket(path: &Path, script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a listener");
        let incoming = move || listener.accept().map(|(stream, _)| Stream::Unix(stream));
        Self { address: Address::Unix(path.to_owned()), seen: serve(incoming, script) }
    }

    /// As the configuration has it.
    pub(crate) fn address(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// The requests that have arrived whole.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until exactly `count` requests have arrived.
    #[track_caller]
    pub(crate) fn assert_requests(&self, count: usize) -> Vec<Request> {
        eventually(|| self.requests().len() >= count);
        let requests = self.requests();
        assert_eq!(requests.len(), count, "{requests:?}");
        requests
    }

    /// Not one byte has arrived.
    #[track_caller]
    pub(crate) fn assert_saw_nothing(&self, why: &str) {
        let raw = self.seen.raw.lock().unwrap();
        let bytes: Vec<String> = raw.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
        assert!(raw.iter().all(Vec::is_empty), "{why}: {bytes:?}");
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.raw.lock().unwrap().len()
    }

    /// Waits until the script has marked this connection, has stopped talking on it, or has ended it, and until what it
    /// sent has arrived at the proxy's socket. On a busy machine the kernel takes its time for that, even on loopback.
    #[track_caller]
    pub(crate) fn await_mark(&self, connection: usize) {
        assert!(eventually(|| self.seen.marked.lock().unwrap().contains(&connection)));
        if let Address::Tcp(address) = self.address {
            assert!(eventually(|| tcp_table::has_arrived(address.port())));
        }
    }

    /// Waits until the proxy has closed a connection.
    pub(crate) fn sees_closed(&self, connection: usize) -> bool {
        eventually(|| self.seen.closed.lock().unwrap().contains(&connection))
    }
}

/// An application that can stop listening.
pub(crate) struct Stoppable {
    pub(crate) application: Application,
    gone: Arc<AtomicBool>,
}

impl Stoppable {
    /// Connects are refused from now on. Open connections stay.
    pub(crate) fn stop(self) -> Application {
        self.gone.store(true, Ordering::SeqCst);
        let Address::Tcp(address) = self.application.address else { unreachable!("it was given one") };
        assert!(eventually(|| TcpStream::connect(address).is_err()));
        self.application
    }
}

fn serve(
    incoming: impl Fn() -> std::io::Result<Stream> + Send + 'static,
    script: impl Fn(&mut Visit) + Send + Sync + 'static,
) -> Arc<Seen> {
    let seen = Arc::<Seen>::default();
    let script = Arc::new(script);
    let record = Arc::clone(&seen);
    thread::spawn(move || {
        while let Ok(stream) = incoming() {
            let connection = {
                let mut raw = record.raw.lock().unwrap();
                raw.push(Vec::new());
                raw.len() - 1
            };
            let mut visit = Visit { stream, unread: Vec::new(), connection, seen: Arc::clone(&record) };
            let script = Arc::clone(&script);
            thread::spawn(move || {
                script(&mut visit);
                let Visit { stream, connection, seen, .. } = visit;
                drop(stream);
                seen.marked.lock().unwrap().push(connection);
            });
        }
    });
    seen
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection of the proxy, as the script sees it.
pub(crate) struct Visit {
    stream: Stream,
    unread: Vec<u8>,
    /// Which connection this is, counted from 0.
    pub(crate) connection: usize,
    seen: Arc<Seen>,
}

impl Visit {
    /// Reads and records the next request; `None` when the proxy closes the connection instead.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        let length = head.lines().filter_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map(|value| value.parse::<usize>().expect("a length")).next().unwrap_or(0);
        while self.unread.len() < length {
            self.read()?;
        }
        let body = self.unread.drain(..length).collect();
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let line = lines.next().unwrap_or_default().to_owned();
        let split = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a field: {line:?}"));
            (name.to_owned(), value.to_owned())
        };
        let request = Request { line, fields: lines.map(split).collect(), body, connection: self.connection };
        self.seen.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// Reads the body behind a head that has been read, and records the request.
    pub(crate) fn body_of(&mut self, head: &str) -> Option<Request> {
        self.unread.splice(..0, head.bytes());
        self.request()
    }

    /// Reads a head and leaves the body where it is.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Some(head.iter().map(|byte| char::from(*byte)).collect());
            }
            self.read()?;
        }
    }

    /// Reads some more; `None` at the end.
    fn read(&mut self) -> Option<()> {
        let mut buf = [0; 16 << 10];
        let result = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut buf),
            Stream::Unix(stream) => stream.read(&mut buf),
        };
        match result {
            Ok(count) if count > 0 => {
                self.unread.extend_from_slice(&buf[..count]);
                self.seen.raw.lock().unwrap()[self.connection].extend_from_slice(&buf[..count]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.read(),
            _ => {
                self.seen.closed.lock().unwrap().push(self.connection);
                None
            }
        }
    }

    /// Sends bytes; that the proxy may be gone is not the application's business.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        };
    }

    /// Waits until the proxy has read what was sent.
    pub(crate) fn await_read(&self) {
        if let Stream::Tcp(stream) = &self.stream {
            let (own, proxy) = (stream.local_addr().expect("an address"), stream.peer_addr().expect("an address"));
            assert!(eventually(|| tcp_table::is_read(own.port(), proxy.port())));
        }
    }

    /// Sends nothing more; the other direction stays open.
    pub(crate) fn stop_talking(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        self.mark();
    }

    /// Lets [`Application::await_mark`] go on.
    pub(crate) fn mark(&self) {
        self.seen.marked.lock().unwrap().push(self.connection);
    }

    /// Waits until the proxy closes the connection, and records that.
    pub(crate) fn wait_for_end(&mut self) {
        while self.read().is_some() {}
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        if let Stream::Tcp(stream) = &self.stream {
            let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// Does nothing for longer than any test waits, unless the proxy closes the connection.
    pub(crate) fn say_nothing(&mut self) {
        if let Stream::Tcp(stream) = &self.stream {
            let _ = stream.set_read_timeout(Some(PATIENCE));
        }
        self.wait_for_end();
    }
}
