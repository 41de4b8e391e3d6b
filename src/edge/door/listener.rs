//! Listening sockets: bound by the process, one per worker and address, and how they are let go of.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket as RawSocket, Type};

use super::inherited;

/// Connections that the kernel completes while all workers are busy.
const BACKLOG: i32 = 4096;

/// The sockets of one configured address, one for each worker.
#[derive(Debug)]
pub struct BoundListener {
    /// The address, with the port that the kernel chose if the configuration said 0.
    pub address: SocketAddr,
    /// Whether another process of this user listens there already: connections are shared with it.
    pub shared: bool,
    /// Whether the process was started with the socket: another one goes on with it when this one has ended.
    pub inherited: bool,
    /// One socket per worker; the kernel spreads connections over them (`SO_REUSEPORT`). Where it is inherited they are
    /// one, with one queue.
    pub sockets: Vec<TcpListener>,
}

/// Binds `address` once per worker.
///
/// # Errors
/// Of the operating system: in use, not permitted, not an address of this host.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<BoundListener> {
    if let Some(socket) = inherited::find(address)? {
        let sockets = (0..workers).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>()?;
        return Ok(BoundListener { address, shared: false, inherited: true, sockets });
    }
    // Without SO_REUSEPORT an address can be bound once only.
    let shared =
        address.port() != 0 && matches!(unbound(address)?.bind(&address.into()), Err(error) if is_taken(&error));
    let first = bind_one(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(bind_one(address)?);
    }
    Ok(BoundListener { address, shared, inherited: false, sockets })
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unbound(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if let IpAddr::V6(ip) = address.ip() {
        // "[::]" stands for every address, as it does in Go, Java and Node.js; the kernel gives a connection to IPv4 to a
        // socket of its own for it, if there is one. Its default is a sysctl (net.ipv6.bindv6only).
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    Ok(socket)
}

/// A listener, whatever its position in a configuration. Numbers are not used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerId(pub u32);

/// A worker's way in: its socket of one listener.
#[derive(Debug)]
pub struct Entrance {
    /// Which listener.
    pub id: ListenerId,
    /// Whether others hold the socket, too, and go on with it.
    pub inherited: bool,
    /// The socket.
    pub socket: TcpListener,
}

/// From now on the kernel begins no new handshakes for this socket: it drops their first packets, as if the network had
/// lost them, while handshakes that have begun are completed and go on to the queue. A client sends its first packet
/// again after a second, and reaches the socket that listens by then.
///
/// This is how a socket is closed without harm. The kernel resets what is in the queue of a listening socket that is
/// closed, and handshakes that have not been completed, also where other sockets listen on the same port (unless the
/// sysctl `net.ipv4.tcp_migrate_req` is set). So it must be closed when there are none.
///
/// # Errors
/// Of the operating system; new clients are still accepted then.
pub(in crate::edge) fn refuse_newcomers(socket: &TcpListener) -> io::Result<()> {
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // A classic BPF program; it is shown packets from their TCP header on.
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    #[test]
    fn new_clients_are_refused_and_those_in_the_queue_are_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every host has IPv6.
            let Ok(bound) = bind(address.parse().unwrap(), 1) else { continue };
            let mut early = TcpStream::connect(bound.address).unwrap();
            refuse_newcomers(&bound.sockets[0]).unwrap();
            let late = TcpStream::connect_timeout(&bound.address, Duration::from_millis(200));
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
            early.write_all(b"x").unwrap();
            let (mut accepted, _) = bound.sockets[0].accept().unwrap();
            accepted.read_exact(&mut [0]).unwrap();
        }
    }
}
