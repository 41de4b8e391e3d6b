//! Sockets that the process was started with (`LISTEN_FDS`, as systemd does it): the process that starts it holds them, too, so that
//! connections wait in them while one process ends and the next one starts.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::OnceLock;

use listenfd::ListenFd;

static SOCKETS: OnceLock<Vec<(SocketAddr, TcpListener)>> = OnceLock::new();

/// Takes over what the process was started with, once; the addresses.
///
/// # Errors
/// One of them is no listening TCP socket.
pub fn take_over() -> io::Result<Vec<SocketAddr>> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for position in 0..given.len() {
        if let Some(socket) = given.take_tcp_listener(position)? {
            sockets.push((socket.local_addr()?, socket));
        }
    }
    let sockets = SOCKETS.get_or_init(|| sockets);
    Ok(sockets.iter().map(|(address, _)| *address).collect())
}

/// The socket for an address, if the process was started with it.
///
/// # Errors
/// There is no descriptor for another reference to it.
pub fn find(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    let mut all = SOCKETS.get().into_iter().flatten();
    all.find(|(given, _)| *given == address).map(|(_, socket)| socket.try_clone()).transpose()
}
