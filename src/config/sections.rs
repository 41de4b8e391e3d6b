//! Reads `[server]`, `[[listener]]`, `[upstream]` and `[limits]`: the bounds of every number stand here.

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::config::address::{self, arrives_at};
use crate::config::admission;
use crate::config::exposure;
use crate::config::networks;
use crate::config::reader::Reader;
use crate::config::settings::{Driver, Limits, Listener, Server, Settings, Upstream};
use crate::config::tls;
use crate::gate::upstream::UpstreamAddress;

/// Bodies are buffered: more than this is not a webhook.
pub(super) const BODY_SIZE: RangeInclusive<u64> = 1..=256 << 20;

const LISTENER_LIMIT: usize = 64;

const TEN_SECONDS: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=HOUR;

/// Keeps the default when nothing, or nothing valid, was written.
fn set<T>(value: &mut T, written: Option<T>) {
    if let Some(written) = written {
        *value = written;
    }
}

fn count(reader: &Reader<'_>, key: &str, range: RangeInclusive<u64>) -> Option<usize> {
    reader.integer(key, range).and_then(|number| usize::try_from(number).ok())
}

fn bytes(reader: &Reader<'_>, key: &str, range: RangeInclusive<u64>) -> Option<usize> {
    reader.size(key, range).and_then(|number| usize::try_from(number).ok())
}

pub(super) fn server(root: &Reader<'_>) -> Server {
    let mut server = Server::default();
    let Some(reader) = root.table("server") else { return server };
    let drivers = [Driver::Auto, Driver::IoUring, Driver::Epoll].map(|driver| (driver.name(), driver));
    set(&mut server.workers, count(&reader, "workers", 0..=1024));
    set(&mut server.driver, reader.choice("driver", &drivers));
    set(&mut server.drain_delay, reader.duration("drain_delay", Duration::ZERO..=HOUR));
    set(&mut server.drain_grace, reader.duration("drain_grace", Duration::ZERO..=HOUR));
    reader.finish();
    server
}

pub(super) fn listeners(root: &Reader<'_>) -> Vec<Listener> {
    const FIX: &str = "add:\n\n[[listener]]\naddress = \"127.0.0.1:8080\"\n";
    let mut listeners: Vec<Listener> = Vec::new();
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
        let (proxy_protocol, trusted_proxies) = networks::proxies(&reader);
        let tls = tls::read(&reader);
        match reader.string("address").map(address::parse_listener) {
            None => {}
            Some(Err(wrong)) => reader.error("address", wrong.message, wrong.fix),
            Some(Ok(address)) => {
                let same = |other: &&Listener| other.address == address && address.port() != 0;
                if let Some(other) = listeners.iter().find(same) {
                    let message = format!("{address} is already given in line {}", other.place.line);
                    reader.error("address", message, "remove one of the two");
                }
                exposure::check(&reader, address, tls.is_some());
                let place = reader.place("address");
                listeners.push(Listener { address, proxy_protocol, trusted_proxies, tls, place });
            }
        }
        reader.finish();
    }
    listeners
}

/// The section, and the address for routes without their own.
pub(super) fn upstream(root: &Reader<'_>) -> (Upstream, Option<UpstreamAddress>) {
    let mut upstream = Upstream::default();
    let Some(reader) = root.table("upstream") else { return (upstream, None) };
    let address = upstream_address(&reader, "address");
    set(&mut upstream.connect_timeout, reader.duration("connect_timeout", TIMEOUT));
    set(&mut upstream.response_timeout, reader.duration("response_timeout", TIMEOUT));
    set(&mut upstream.idle_timeout, reader.duration("idle_timeout", TIMEOUT));
    set(&mut upstream.idle_connections, count(&reader, "idle_connections", 0..=4096));
    set(&mut upstream.reuse_after, reader.duration("reuse_after", Duration::ZERO..=TEN_SECONDS));
    if reader.has("reuse_after") && upstream.reuse_after >= upstream.idle_timeout {
        let message = "is not shorter than idle_timeout: no connection would ever be used again";
        reader.error("reuse_after", message, "make it shorter, or write idle_connections = 0 to use none again");
    }
    reader.finish();
    (upstream, address)
}

pub(super) fn upstream_address(reader: &Reader<'_>, key: &str) -> Option<UpstreamAddress> {
    match address::parse_upstream(reader.string(key)?) {
        Ok(address) => Some(address),
        Err(wrong) => {
            reader.error(key, wrong.message, wrong.fix);
            None
        }
    }
}

pub(super) fn limits(root: &Reader<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(reader) = root.table("limits") else { return limits };
    set(&mut limits.head_size, bytes(&reader, "head_size", 1 << 10..=64 << 10));
    set(&mut limits.headers, count(&reader, "headers", 8..=256));
    let target_size = bytes(&reader, "target_size", 64..=32 << 10);
    set(&mut limits.body_size, reader.size("body_size", BODY_SIZE));
    set(&mut limits.head_timeout, reader.duration("head_timeout", TIMEOUT));
    set(&mut limits.body_timeout, reader.duration("body_timeout", TIMEOUT));
    set(&mut limits.handshake_timeout, reader.duration("handshake_timeout", TIMEOUT));
    set(&mut limits.idle_timeout, reader.duration("idle_timeout", TIMEOUT));
    set(&mut limits.write_timeout, reader.duration("write_timeout", TIMEOUT));
    let requests = reader.integer("requests_per_connection", 1..=1_000_000_000);
    set(&mut limits.requests_per_connection, requests.and_then(|number| u32::try_from(number).ok()));
    admission::limits(&reader, &mut limits);
    match target_size {
        Some(size) if size >= limits.head_size => {
            let fix = "make target_size smaller, or head_size larger";
            reader.error("target_size", "is not smaller than head_size, of which the target is a part", fix);
        }
        Some(size) => limits.target_size = size,
        // A smaller head by itself leaves half of it for the target.
        None => limits.target_size = limits.target_size.min(limits.head_size / 2),
    }
    reader.finish();
    limits
}

/// A proxy that forwards to one of its own listeners would call itself until it runs out of connections.
pub(super) fn check_loops(root: &Reader<'_>, settings: &Settings) {
    for listener in &settings.listeners {
        for upstream in settings.upstreams.iter().filter(|upstream| arrives_at(upstream, listener.address)) {
            let message = format!("the upstream {upstream} is this listener: requests would go round in circles");
            root.error_at(listener.place.clone(), message, "give the listener or the application another port");
        }
    }
}
