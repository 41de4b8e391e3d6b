//! Asks the admin port of a running process.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::config::admin_address;
use crate::config::load::load_admin;
use crate::config::section::admin::AdminEndpoint;
use crate::wire::head::{HeadLimits, ResponseHead, ResponseScan};

/// Where to ask: what was given, or what the configuration says.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn address(given: Option<&str>, config: &Path) -> Result<AdminEndpoint, String> {
    match given {
        Some(text) => admin_address(text).map_err(|wrong| format!("{text}: {}: {}", wrong.message, wrong.fix)),
        None => configured(config),
    }
}

/// A running process has read its configuration already: mistakes that have come into the file since are not asked for.
fn configured(path: &Path) -> Result<AdminEndpoint, String> {
    let admin = load_admin(path).map_err(|error| format!("{}: {error}", path.display()))?;
    admin.map(|admin| admin.address).ok_or_else(|| format!("{} has no [admin] address", path.display()))
}

/// An address that stands for all of a host is asked at the host itself.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// Asks for a path: the status and the body of the answer, of which `limit` bytes are read at most.
///
/// # Errors
/// There is no answer in time, or none that is one.
pub(super) fn ask(address: &AdminEndpoint, path: &str, bounds: (Duration, u64)) -> io::Result<(u16, Vec<u8>)> {
    request(address, &format!("GET {path}"), bounds)
}

/// Asks for a change.
///
/// # Errors
/// As [`ask`].
pub(super) fn change(address: &AdminEndpoint, path: &str, bounds: (Duration, u64)) -> io::Result<(u16, Vec<u8>)> {
    request(address, &format!("POST {path}"), bounds)
}

fn request(address: &AdminEndpoint, line: &str, (timeout, limit): (Duration, u64)) -> io::Result<(u16, Vec<u8>)> {
    let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut received = Vec::new();
    match address {
        AdminEndpoint::Tcp(address) => {
            let mut stream = TcpStream::connect_timeout(&reachable(*address), timeout)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.write_all(request.as_bytes())?;
            stream.take(limit).read_to_end(&mut received)?;
        }
        AdminEndpoint::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.write_all(request.as_bytes())?;
            stream.take(limit).read_to_end(&mut received)?;
        }
    }
    read(&received).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read(received: &[u8]) -> Option<(u16, Vec<u8>)> {
    let limits = HeadLimits { size: 8 << 10, fields: 64, target: 0 };
    let length = ResponseScan::new().scan(received, limits).ok()??;
    let mut head = ResponseHead::new();
    head.parse(received.get(..length)?, limits).ok()?;
    let body = received.get(length..)?;
    Some((head.status, body.to_vec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_of_a_host_is_asked_at_the_host() {
        for (address, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(address.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(read(b"HTTP/1.1 503 x\r\nA: b\r\n\r\ndraining\n"), Some((503, b"draining\n".to_vec())));
        for bytes in [&b""[..], b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n"] {
            assert_eq!(read(bytes), None);
        }
    }
}
