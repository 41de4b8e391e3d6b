//! Whether an application accepts connections: what is asked of it when no delivery says so.
//!
//! Blocks, and so never runs on a worker. A connection is made as a worker makes one, one address after the other within
//! the time that a delivery would have, and closed without a byte.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, ProtocolVersion};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::edge::clock::Clock;
use crate::edge::policy::Target;
use crate::edge::tls::outbound::ClientTls;

/// For so long the refusal of our certificate is awaited, or a ticket, which is sent only to a client that is accepted.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// Connects, and closes the connection.
///
/// # Errors
/// Of the last address that was tried; [`io::ErrorKind::TimedOut`] when the time is over.
pub fn probe(target: &Target, timeout: Duration) -> io::Result<()> {
    reach(target, timeout).map(drop)
}

/// Connects and makes the handshake of TLS, as a worker does, and closes the connection.
///
/// # Errors
/// As [`probe`]; [`io::ErrorKind::InvalidData`]: the handshake failed, with the reason of rustls.
pub fn probe_tls(target: &Target, tls: &ClientTls, timeout: Duration) -> io::Result<()> {
    let socket = reach(target, timeout)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    let refused = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut client = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(refused)?;
    let mut stream = TcpStream::from(socket);
    while client.is_handshaking() || client.wants_write() {
        client.complete_io(&mut stream)?;
    }
    // With TLS 1.3 a server refuses our certificate when the handshake is over for us.
    stream.set_read_timeout(Some(AFTERWARDS))?;
    while client.tls13_tickets_received() == 0
        && client.protocol_version() == Some(ProtocolVersion::TLSv1_3)
        && let Ok(1..) = client.read_tls(&mut stream)
    {
        client.process_new_packets().map_err(refused)?;
    }
    Ok(())
}

fn reach(target: &Target, timeout: Duration) -> io::Result<Socket> {
    match target {
        Target::Unix(path) => connect(Domain::UNIX, &SockAddr::unix(path)?, timeout),
        Target::Tcp(addresses) => {
            let clock = Clock::start();
            let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
            for address in addresses.current().iter() {
                let left = timeout.saturating_sub(clock.monotonic());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                match connect(Domain::for_address(*address), &SockAddr::from(*address), left) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

fn connect(domain: Domain, address: &SockAddr, timeout: Duration) -> io::Result<Socket> {
    // Not those of the standard library: one for a Unix socket has no timeout, and a full queue there would hold us up.
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain != Domain::UNIX {
        return socket.connect_timeout(address, timeout).map(|()| socket);
    }
    socket.set_nonblocking(true)?;
    socket.connect(address).map(|()| socket).map_err(|error| match error.kind() {
        // The queue is full: the application does not accept.
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "its queue of connections is full"),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{SocketAddr, TcpListener};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::*;
    use crate::edge::policy::Addresses;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn tcp(list: Vec<SocketAddr>) -> Target {
        Target::Tcp(Arc::new(Addresses::new("app:1".to_owned(), list)))
    }

    #[test]
    fn an_address_without_a_listener_refuses_and_the_next_one_is_tried() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        assert!(probe(&tcp(vec![address]), PATIENCE).is_ok());
        assert!(probe(&tcp(vec![free, address]), PATIENCE).is_ok());
        assert_eq!(probe(&tcp(vec![free]), PATIENCE).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(probe(&tcp(Vec::new()), PATIENCE).unwrap_err().to_string(), "its name has no address");
        assert_eq!(probe(&tcp(vec![address]), Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_socket_without_an_accepting_process_delays_no_other() {
        let folder = std::env::temp_dir().join(format!("countersign-probe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("app.sock");
        let target = Target::Unix(path.clone());
        assert_eq!(probe(&target, PATIENCE).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        socket2::SockRef::from(&listener).listen(1).unwrap();
        assert!(probe(&target, PATIENCE).is_ok());
        // They stay in the queue although they are closed; one more than it holds would wait for the application to accept.
        let full = (0..100).find_map(|_| probe(&target, PATIENCE).err()).unwrap();
        assert_eq!(full.to_string(), "its queue of connections is full");
        drop(listener);
        assert_eq!(probe(&target, PATIENCE).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
