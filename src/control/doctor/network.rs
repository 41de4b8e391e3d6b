//! The network: listeners, applications, and who the clients seem to be.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use crate::config::section::inbox::InboxSettings;
use crate::config::section::listener::{ListenerSettings, ProxyProtocol};
use crate::config::settings::Settings;
use crate::control::engine_inbox;
use crate::control::probe::{probe, probe_tls};
use crate::edge::policy::{Policy, Upstream};
use crate::edge::shared::EngineTerms;
use crate::gate::upstream::UpstreamAddress;

use super::finding::{Finding, Grade};

/// Whether each address can be listened on. `running` says that a process with this configuration answers already.
pub(super) fn listeners(settings: &Settings, running: bool) -> Vec<Finding> {
    settings.listeners.iter().map(|listener| judge_bind(listener.address, bind(listener.address), running)).collect()
}

/// Binds, and does not listen: a socket that listened would be given connections of a running process.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn judge_bind(address: SocketAddr, bound: io::Result<()>, running: bool) -> Finding {
    let name = "listeners";
    let Err(error) = bound else { return Finding::good(name, format!("{address} can be listened on")) };
    let port = address.port();
    let (says, fix) = match error.kind() {
        io::ErrorKind::AddrInUse if running => {
            return Finding::good(name, format!("{address} belongs to the running process"));
        }
        io::ErrorKind::AddrInUse => (
            format!("another process listens on {address}"),
            format!("find it with: ss -ltnp 'sport = :{port}'; in a pod, containers share their ports: choose another one"),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("this user may not listen on port {port}"),
            "choose a port from 1024 on, or allow it: CAP_NET_BIND_SERVICE, or the sysctl net.ipv4.ip_unprivileged_port_start"
                .to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{} is no address of this host", address.ip()),
            "use 0.0.0.0 or [::] for all addresses of the host, or one that `ip address` shows".to_owned(),
        ),
        _ => (format!("{address} cannot be listened on: {error}"), "the system's message says why".to_owned()),
    };
    Finding::bad(name, Grade::Fault, says, fix)
}

/// Whether each application accepts connections, and over TLS is the one that it should be.
pub(super) fn applications(policy: &Policy) -> Vec<Finding> {
    policy
        .upstreams
        .iter()
        .zip(&policy.gate.upstreams)
        .map(|(upstream, address)| application(upstream, address))
        .collect()
}

fn application(upstream: &Upstream, address: &UpstreamAddress) -> Finding {
    let name = "application";
    let probed = match &upstream.tls {
        Some(tls) => probe_tls(&upstream.target, tls, upstream.connect_timeout),
        None => probe(&upstream.target, upstream.connect_timeout),
    };
    match probed {
        Ok(()) if upstream.tls.is_some() => {
            Finding::good(name, format!("{address} accepts connections over TLS, and its certificate holds"))
        }
        Ok(()) => Finding::good(name, format!("{address} accepts connections")),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Finding::bad(
            name,
            Grade::Fault,
            format!("{address} accepts connections, but the handshake of TLS fails: {error}"),
            "compare the certificate of the application with ca and server_name of [upstream] tls; if it asks for a \
             certificate, name one there; until then deliveries are answered 502",
        ),
        Err(error) => Finding::bad(
            name,
            Grade::Fault,
            format!("{address} does not accept connections: {error}"),
            "start the application, or correct [upstream] address (in a pod the application is at 127.0.0.1, whatever \
             its Service is called); until then deliveries are answered 503",
        ),
    }
}

/// Whether the engine keeps what the inbox promises; nothing where the inbox is on disk.
pub(super) fn inbox_engine(inbox: &InboxSettings, engine: EngineTerms) -> Option<Finding> {
    if inbox.directory.is_some() {
        return None;
    }
    let name = "inbox";
    Some(match engine_inbox::examine(engine, inbox.durability, inbox.trust_engine) {
        Ok(means) => Finding::good(name, format!("a 202 means that the delivery is kept in {means}")),
        Err(why) => Finding::bad(
            name,
            Grade::Fault,
            format!("deliveries cannot be kept in the engine: {why}"),
            "docs/inbox-engine.md says what the engine must have; until then durable routes answer 503",
        ),
    })
}

/// Listeners on which all clients look like one if a proxy stands before them, and those without encryption.
pub(super) fn clients(settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = settings.listeners.iter().filter_map(judge_clients).collect();
    if findings.is_empty() {
        findings.push(Finding::good("clients", "every public listener knows the proxies before it"));
    }
    findings
}

fn judge_clients(listener: &ListenerSettings) -> Option<Finding> {
    let knows = !listener.trusted_proxies.is_empty() || listener.proxy_protocol != ProxyProtocol::Off;
    if knows || listener.address.ip().is_loopback() {
        return None;
    }
    let address = listener.address;
    Some(Finding::bad(
        "clients",
        Grade::Note,
        format!(
            "{address} trusts no proxy: if a load balancer, an ingress or a tunnel connects to it, all clients look like \
             one, and share one budget"
        ),
        "list the networks of that proxy in trusted_proxies of the listener; if clients connect directly, nothing is to be done",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_reason_has_its_fix() {
        let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let of = |kind: io::ErrorKind, running| judge_bind(address, Err(kind.into()), running);
        assert_eq!(of(io::ErrorKind::AddrInUse, true).verdict, Grade::Good);
        for (kind, fix) in [
            (io::ErrorKind::AddrInUse, "ss -ltnp"),
            (io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            (io::ErrorKind::AddrNotAvailable, "0.0.0.0"),
        ] {
            let finding = of(kind, false);
            assert_eq!(finding.verdict, Grade::Fault);
            assert!(finding.fix.unwrap().contains(fix), "{kind}");
        }
    }
}
