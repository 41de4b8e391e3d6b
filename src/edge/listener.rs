//! Listening sockets: bound once by the process, one per worker and address, and an accept loop that survives.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpListener;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::telemetry::WorkerCells;

use super::connection;
use super::driver::Driver;
use super::net::Sockets;
use super::stream::Socket;
use super::worker::Worker;

/// Connections that the kernel completes while all workers are busy.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the process is out of file descriptors or memory: something must end first.
const PAUSE: Duration = Duration::from_millis(50);

/// The sockets of one configured address, one for each worker.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port that the kernel chose if the configuration said 0.
    pub address: SocketAddr,
    /// Whether another process of this user listens there already: connections are shared with it.
    pub shared: bool,
    /// One socket per worker; the kernel spreads connections over them (`SO_REUSEPORT`).
    pub sockets: Vec<std::net::TcpListener>,
}

/// Binds `address` once per worker.
///
/// # Errors
/// Of the operating system: in use, not permitted, not an address of this host.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    // Without SO_REUSEPORT an address can be bound by nobody else.
    let shared =
        address.port() != 0 && matches!(unbound(address)?.bind(&address.into()), Err(error) if is_taken(&error));
    let first = bind_one(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(bind_one(address)?);
    }
    Ok(Bound { address, shared, sockets })
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unbound(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Accepts until the worker begins to stop. What goes wrong with one connection ends that connection; running out of
/// descriptors or memory pauses the loop instead of spinning in it. `position` is that of the listener.
pub(super) async fn accept(worker: Rc<Worker<Sockets>>, listener: TcpListener, position: usize) {
    while let Some(accepted) = worker.drain.unless_draining(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                let origin = connection::Origin { peer: Some(peer.ip()), listener: position };
                // Refused quickly: the socket is closed as it is.
                let Some(permit) = worker.open(origin) else { continue };
                worker.cells(WorkerCells::accepted);
                let socket = Socket::tcp(stream, worker.net.clock.clone());
                monoio::spawn(connection::serve(Rc::clone(&worker), socket, origin, permit));
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                worker.accept_failed(&error);
                monoio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// `accept(2)`: errors of a connection that was lost before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Hands a bound socket to the runtime of the calling thread.
///
/// # Errors
/// The socket cannot be registered.
pub(super) fn adopt(socket: std::net::TcpListener, driver: Driver) -> io::Result<TcpListener> {
    // io_uring waits inside the kernel and must be given a blocking socket; epoll the opposite.
    socket.set_nonblocking(driver == Driver::Epoll)?;
    TcpListener::from_std(socket)
}
