//! `[admin]`: where probes, metrics and the status page are, and who may ask for changes there.

use core::fmt;
use core::net::SocketAddr;
use std::path::PathBuf;

use super::listener::ListenerSettings;
use super::ready::{self, Readiness};
use crate::config::address::{self, NotAnAddress, arrives_at, parse_host};
use crate::config::lines::line;
use crate::config::reader::Reader;
use crate::gate::upstream::UpstreamAddress;

/// `[admin]`: the port for probes, metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it is.
    pub address: AdminEndpoint,
    /// Names by which it is called beside its addresses and `localhost`, in lower case.
    pub hosts: Vec<String>,
    /// Whether reload, drain and pairing may be asked for from other hosts.
    pub remote_control: bool,
    /// So many refused requests are kept in memory.
    pub capture_refused: usize,
    /// Which applications `/ready` asks for; nothing where it asks for none.
    pub ready: Option<Readiness>,
}

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminEndpoint {
    /// An address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix-domain socket.
    Unix(PathBuf),
}

impl core::fmt::Display for AdminEndpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

const HOSTS: usize = 16;

/// What the port must not collide with.
pub(crate) struct Neighbours<'s> {
    /// The listeners.
    pub(crate) listeners: &'s [ListenerSettings],
    /// The applications that routes forward to.
    pub(crate) upstreams: &'s [UpstreamAddress],
    /// Whether every route could be read.
    pub(crate) whole: bool,
}

/// The section; nothing where there is none.
pub(crate) fn read(root: &Reader<'_>, others: &Neighbours<'_>) -> Option<AdminSettings> {
    let reader = root.table("admin")?;
    reader.require("address", "add address = \"127.0.0.1:9090\"");
    let address = reader.string("address").and_then(|text| match admin_address(text) {
        Ok(address) => Some(address),
        Err(wrong) => {
            reader.error("address", wrong.message, wrong.fix);
            None
        }
    });
    let remote_control = reader.bool("remote_control").unwrap_or_default();
    let hosts = hosts(&reader);
    let capture_refused = captures(&reader);
    let ready = ready::read(&reader, others.whole.then_some(others.upstreams));
    if let Some(address) = &address {
        check_neighbours(&reader, address, others);
        if remote_control {
            check_remote(&reader, address);
        }
    }
    reader.finish();
    Some(AdminSettings { address: address?, hosts, remote_control, capture_refused, ready })
}

/// Reads the address of an admin port: an IP address and a port, or `unix:/path`.
///
/// # Errors
/// [`NotAnAddress`] says what is wrong and what to write.
pub fn admin_address(text: &str) -> Result<AdminEndpoint, NotAnAddress> {
    if !text.starts_with("unix:") {
        return address::parse_listener(text).map(AdminEndpoint::Tcp);
    }
    match address::parse_upstream(text)? {
        UpstreamAddress::Unix(path) => Ok(AdminEndpoint::Unix(path)),
        UpstreamAddress::Tcp { .. } => {
            Err(NotAnAddress { message: "is no socket".to_owned(), fix: "write \"unix:/run/admin.sock\"".to_owned() })
        }
    }
}

/// So many bytes of the head of a refused request are kept at most.
pub const CAPTURED_HEAD: usize = 16 << 10;
/// And of its body.
pub const CAPTURED_BODY: usize = 64 << 10;

/// More than this is no look at single requests any more.
const CAPTURES: u64 = 100;

fn captures(reader: &Reader<'_>) -> usize {
    let count = reader.integer("capture_refused", 0..=CAPTURES).unwrap_or_default();
    if count > 0 {
        let message = format!("the last {count} refused requests are kept in memory, with bodies and signatures");
        reader.warning("capture_refused", message, "remove it when you have found out why they are refused");
    }
    usize::try_from(count).unwrap_or_default()
}

fn hosts(reader: &Reader<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    let written = reader.placed_strings("hosts").unwrap_or_default();
    if written.len() > HOSTS {
        reader.error("hosts", format!("has more than {HOSTS} names"), "remove some");
    }
    for (text, place) in written {
        match parse_host(text) {
            Ok(host) => hosts.push(host),
            Err(wrong) => reader.error_at(place, wrong.message, wrong.fix),
        }
    }
    hosts
}

/// A port that two things want, or that deliveries would be sent to.
fn check_neighbours(reader: &Reader<'_>, address: &AdminEndpoint, others: &Neighbours<'_>) {
    let AdminEndpoint::Tcp(own) = address else {
        let own = address.to_string();
        if others.upstreams.iter().any(|upstream| upstream.to_string() == own) {
            reader.error("address", format!("{own} is an application, too"), "give one of the two another path");
        }
        return;
    };
    let taken = |other: &std::net::SocketAddr| {
        let any = other.ip().is_unspecified() || own.ip().is_unspecified() || other.ip() == own.ip();
        own.port() != 0 && other.port() == own.port() && any && other.is_ipv4() == own.is_ipv4()
    };
    if let Some(listener) = others.listeners.iter().find(|listener| taken(&listener.address)) {
        let message = format!("{own} is taken by the listener in line {}", listener.place.line);
        reader.error("address", message, "give the admin port another number");
    }
    if let Some(upstream) = others.upstreams.iter().find(|upstream| own.port() != 0 && arrives_at(upstream, *own)) {
        let message = format!("the upstream {upstream} is this port: deliveries would be sent to it");
        reader.error("address", message, "give the admin port or the application another number");
    }
}

fn check_remote(reader: &Reader<'_>, address: &AdminEndpoint) {
    match address {
        AdminEndpoint::Tcp(address) if !address.ip().is_loopback() => {
            let message =
                "every client that reaches this port can reload the configuration and stop deliveries from coming";
            reader.warning("remote_control", message, "make sure that only your own hosts reach it");
        }
        _ => {
            let message = "changes nothing: no other host reaches this address";
            reader.warning("remote_control", message, "remove it, or give the port an address that others reach");
        }
    }
}

/// For `check`; nothing where there is no port.
pub(crate) fn describe(out: &mut String, admin: Option<&AdminSettings>) -> fmt::Result {
    let Some(admin) = admin else { return line(out, "admin", "no port: neither probes nor metrics") };

    let changes = if admin.remote_control { "every host that reaches it" } else { "this host alone" };
    line(out, "admin", format_args!("{}; reload, drain and pairing for {changes}", admin.address))?;
    admin.ready.iter().try_for_each(|ready| line(out, "", ready::described(ready)))
}
