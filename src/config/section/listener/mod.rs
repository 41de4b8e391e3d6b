//! `[[listener]]`: the sockets that the process accepts connections on.

pub(crate) mod described;
pub(crate) mod outline;
pub mod tls;

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::address::{self, arrives_at};
use crate::config::exposure;
use crate::config::lines::{line, listed};
use crate::config::networks;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::gate::networks::{Network, Networks};
use crate::gate::upstream::UpstreamAddress;
use crate::now::Now;

use self::tls::TlsSettings;

/// `[[listener]]`: a bound socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// The proxies that are believed about who their clients are.
    pub trusted_proxies: Vec<Network>,
    /// How it is encrypted; `None` for plain text.
    pub tls: Option<TlsSettings>,
    /// Where it is configured.
    pub place: Place,
}

impl ListenerSettings {
    /// Whether clients are asked for a certificate.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.callers.is_some())
    }
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// They do, in either version, and come from trusted proxies alone.
    V1V2,
}

impl ProxyProtocol {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::V1V2 => "v1v2",
        }
    }
}

const LISTENER_LIMIT: usize = 64;

pub(crate) fn read(root: &Reader<'_>) -> Vec<ListenerSettings> {
    const FIX: &str = "add:\n\n[[listener]]\naddress = \"127.0.0.1:8080\"\n";
    let mut listeners: Vec<ListenerSettings> = Vec::new();
    root.require("listener", FIX);
    let readers = root.tables("listener");
    if readers.as_ref().is_some_and(Vec::is_empty) {
        root.error("listener", "is empty", FIX);
    }
    if readers.as_ref().is_some_and(|readers| readers.len() > LISTENER_LIMIT) {
        root.error("listener", format!("is given more than {LISTENER_LIMIT} times"), "remove some");
    }
    for reader in readers.into_iter().flatten().take(LISTENER_LIMIT) {
        reader.require("address", "add address = \"127.0.0.1:8080\"");
        let (proxy_protocol, trusted_proxies) = proxies(&reader);
        let tls = tls::read(&reader);
        match reader.string("address").map(address::parse_listener) {
            None => {}
            Some(Err(wrong)) => reader.error("address", wrong.message, wrong.fix),
            Some(Ok(address)) => {
                let same = |other: &&ListenerSettings| other.address == address && address.port() != 0;
                if let Some(other) = listeners.iter().find(same) {
                    let message = format!("{address} is already given in line {}", other.place.line);
                    reader.error("address", message, "remove one of the two");
                }
                exposure::check(&reader, address, tls.is_some());
                let place = reader.place("address");
                listeners.push(ListenerSettings { address, proxy_protocol, trusted_proxies, tls, place });
            }
        }
        reader.finish();
    }
    listeners
}

/// What a listener thinks of proxies.
fn proxies(listener: &Reader<'_>) -> (ProxyProtocol, Vec<Network>) {
    let choices = [ProxyProtocol::Off, ProxyProtocol::V1V2].map(|choice| (choice.name(), choice));
    let protocol = listener.choice("proxy_protocol", &choices).unwrap_or_default();
    let proxies = networks::list(listener, "trusted_proxies");
    if proxies.iter().copied().collect::<Networks>().holds_a_whole_world() {
        let message = "trusts every address: any client could claim any address";
        listener.error("trusted_proxies", message, "name only the networks of your own proxies");
    }
    if protocol == ProxyProtocol::V1V2 && proxies.is_empty() && !listener.failed() {
        let message = "no client could connect: headers of the PROXY protocol are taken from trusted_proxies alone";
        listener.error("proxy_protocol", message, "add trusted_proxies = [\"…\"] with the networks of your proxies");
    }
    (protocol, proxies)
}

/// A proxy that forwards to one of its own listeners would call itself until it runs out of connections.
pub(crate) fn check_loops(root: &Reader<'_>, listeners: &[ListenerSettings], upstreams: &[UpstreamAddress]) {
    for listener in listeners {
        for upstream in upstreams.iter().filter(|upstream| arrives_at(upstream, listener.address)) {
            let message = format!("the upstream {upstream} is this listener: requests would go round in circles");
            root.error_at(listener.place.clone(), message, "give the listener or the application another port");
        }
    }
}

/// For `check`.
pub(crate) fn describe(out: &mut String, listener: &ListenerSettings, now: Now) -> fmt::Result {
    line(out, "listener", listener.address)?;
    if listener.address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        line(out, "", "all addresses, IPv6 and IPv4 (a listener for an IPv4 address and this port goes first)")?;
    }
    described::write(out, listener.tls.as_ref(), now)?;
    let proxies = listed(&listener.trusted_proxies);
    match (listener.proxy_protocol, listener.trusted_proxies.is_empty()) {
        (ProxyProtocol::Off, true) => line(out, "", "the client is the peer: no proxy is trusted"),
        (ProxyProtocol::Off, false) => {
            line(out, "", format_args!("X-Forwarded-For, Forwarded believed from {proxies}"))
        }
        (ProxyProtocol::V1V2, _) => {
            line(out, "", format_args!("connections from {proxies} alone, with a header of the PROXY protocol"))?;
            line(out, "", "X-Forwarded-For, Forwarded believed from the same")
        }
    }
}
