//! What the service manager that has started the process is told (`sd_notify`, of systemd and others): that it is ready, that
//! it stops, and a line on how it stands.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A moment in the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState<'a> {
    /// It accepts; with a line for people.
    Ready(&'a str),
    /// It accepts nothing more, or will soon.
    Stopping(&'a str),
}

/// Tells the service manager, if one asks (`NOTIFY_SOCKET`).
///
/// # Errors
/// It does not listen.
#[expect(clippy::disallowed_methods, reason = "a convention of service managers, which is no configuration")]
pub fn tell(moment: ServiceState<'_>) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let message = match moment {
        ServiceState::Ready(status) => format!("READY=1\nSTATUS={status}\n"),
        ServiceState::Stopping(status) => format!("STOPPING=1\nSTATUS={status}\n"),
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}
