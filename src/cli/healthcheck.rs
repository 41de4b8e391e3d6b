//! `countersign healthcheck`: asks the admin port of a running process, for container probes without curl.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::admin_address;
use crate::config::load::load_admin;
use crate::config::settings::AdminAddress;
use crate::wire::head::{HeadLimits, ResponseHead, ResponseScan};

use super::FOUND_WRONG;
use super::output::{complain, line};

#[derive(Debug, clap::Args)]
pub(super) struct HealthcheckArguments {
    /// Ask whether it lives: no worker is stuck
    #[arg(long, group = "probe")]
    live: bool,
    /// Ask whether it takes deliveries (the default)
    #[arg(long, group = "probe")]
    ready: bool,
    /// Ask whether it has started
    #[arg(long, group = "probe")]
    startup: bool,
    /// The configuration file, for the address of its admin port
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CONFIG", default_value = "countersign.toml")]
    config: PathBuf,
    /// The admin port itself: 127.0.0.1:9090, or unix:/path
    #[arg(long, conflicts_with = "config")]
    address: Option<String>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=60))]
    timeout: u16,
}

/// 0 when the answer is yes. 1 when it is no, and when there is none: container runtimes know no other code.
pub(super) fn run(arguments: &HealthcheckArguments) -> ExitCode {
    let path = match (arguments.live, arguments.startup) {
        (true, _) => "/live",
        (_, true) => "/startup",
        _ => "/ready",
    };
    let timeout = Duration::from_secs(u64::from(arguments.timeout));
    let asked = address(arguments).and_then(|address| {
        ask(&address, path, timeout).map_err(|error| format!("the admin port at {address} does not answer: {error}"))
    });
    match asked {
        Ok((200, words)) => {
            line(words);
            ExitCode::SUCCESS
        }
        Ok((status, words)) => {
            complain(format!("{path} says {status}: {words}"));
            ExitCode::from(FOUND_WRONG)
        }
        Err(why) => {
            complain(why);
            ExitCode::from(FOUND_WRONG)
        }
    }
}

fn address(arguments: &HealthcheckArguments) -> Result<AdminAddress, String> {
    match &arguments.address {
        Some(text) => admin_address(text).map_err(|wrong| format!("--address: {}: {}", wrong.message, wrong.fix)),
        None => configured(&arguments.config),
    }
}

/// A running process has read its configuration already: mistakes that have come into the file since are not asked for.
fn configured(path: &Path) -> Result<AdminAddress, String> {
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

fn ask(address: &AdminAddress, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut received = Vec::new();
    match address {
        AdminAddress::Tcp(address) => {
            let mut stream = TcpStream::connect_timeout(&reachable(*address), timeout)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.write_all(request.as_bytes())?;
            stream.take(ANSWER).read_to_end(&mut received)?;
        }
        AdminAddress::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.write_all(request.as_bytes())?;
            stream.take(ANSWER).read_to_end(&mut received)?;
        }
    }
    read(&received).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// An answer to a probe is a few hundred bytes.
const ANSWER: u64 = 8 << 10;

fn read(received: &[u8]) -> Option<(u16, String)> {
    let limits = HeadLimits { size: 8 << 10, fields: 64, target: 0 };
    let length = ResponseScan::new().scan(received, limits).ok()??;
    let mut head = ResponseHead::new();
    head.parse(received.get(..length)?, limits).ok()?;
    let body = received.get(length..)?;
    Some((head.status, String::from_utf8_lossy(body).trim().escape_debug().to_string()))
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
        assert_eq!(read(b"HTTP/1.1 503 x\r\nA: b\r\n\r\ndraining\n"), Some((503, "draining".to_owned())));
        for bytes in [&b""[..], b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n"] {
            assert_eq!(read(bytes), None);
        }
    }
}
