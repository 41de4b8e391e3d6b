//! `[upstream]`: how applications are connected to.

use core::fmt;
use core::time::Duration;

use crate::config::address;
use crate::config::digest::{self, Digest};
use crate::config::lines::line;
use crate::config::reader::{Reader, set};
use crate::config::section::upstream_tls::{self, UpstreamTls};
use crate::config::units::{TIMEOUT, show_duration};
use crate::gate::upstream::UpstreamAddress;

/// `[upstream]`: how we talk to applications. The addresses are in [`crate::config::Settings::upstreams`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer, and between two pieces of its body.
    pub response_timeout: Duration,
    /// How long a pooled connection may be idle.
    pub idle_timeout: Duration,
    /// How many idle connections each worker keeps for each address.
    pub idle_connections: usize,
    /// How long a pooled connection rests after an answer before it can be used again.
    pub reuse_after: Duration,
    /// How connections over TCP are encrypted; nothing for plain text.
    pub tls: Option<UpstreamTls>,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(4),
            idle_connections: 64,
            reuse_after: Duration::from_millis(5),
            tls: None,
        }
    }
}

impl UpstreamSettings {
    /// For comparison: what the section says, wherever it stands, and the bytes of its files.
    pub(crate) fn digest(&self) -> Digest {
        let tls = self.tls.as_ref().map(|tls| {
            let loaded = tls.loaded.as_ref().map(|loaded| loaded.digest);
            (tls.ca.is_some(), tls.pair.is_some(), &tls.server_name, loaded)
        });
        digest::digest(&(Self { tls: None, ..self.clone() }, tls))
    }
}

/// The longest rest of a connection between two requests.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// The section, and the address for routes without their own.
pub(crate) fn read(root: &Reader<'_>) -> (UpstreamSettings, Option<UpstreamAddress>) {
    let mut upstream = UpstreamSettings::default();
    let Some(reader) = root.table("upstream") else { return (upstream, None) };
    let address = upstream_address(&reader, "address");
    set(&mut upstream.connect_timeout, reader.duration("connect_timeout", TIMEOUT));
    set(&mut upstream.response_timeout, reader.duration("response_timeout", TIMEOUT));
    set(&mut upstream.idle_timeout, reader.duration("idle_timeout", TIMEOUT));
    set(&mut upstream.idle_connections, reader.count("idle_connections", 0..=4096));
    set(&mut upstream.reuse_after, reader.duration("reuse_after", Duration::ZERO..=TEN_SECONDS));
    upstream.tls = upstream_tls::read(&reader);
    if reader.has("reuse_after") && upstream.reuse_after >= upstream.idle_timeout {
        let message = "is not shorter than idle_timeout: no connection would ever be used again";
        reader.error("reuse_after", message, "make it shorter, or write idle_connections = 0 to use none again");
    }
    if reader.failed() {
        root.mark_failed();
    }
    reader.finish();
    (upstream, address)
}

/// Reads the address of an application.
pub(crate) fn upstream_address(reader: &Reader<'_>, key: &str) -> Option<UpstreamAddress> {
    match address::parse_upstream(reader.string(key)?) {
        Ok(address) => Some(address),
        Err(wrong) => {
            reader.error(key, wrong.message, wrong.fix);
            None
        }
    }
}

/// For `check`: `addresses` are those that routes forward to.
pub(crate) fn describe(out: &mut String, upstream: &UpstreamSettings, addresses: &[UpstreamAddress]) -> fmt::Result {
    for address in addresses {
        line(out, "upstream", address)?;
    }
    upstream_tls::describe(out, upstream.tls.as_ref(), addresses)?;
    let (connect, response) = (show_duration(upstream.connect_timeout), show_duration(upstream.response_timeout));
    line(out, "", format_args!("connect within {connect}, respond within {response}"))?;
    let idle = show_duration(upstream.idle_timeout);
    let rest = show_duration(upstream.reuse_after);
    let kept = upstream.idle_connections;
    line(
        out,
        "",
        format_args!(
            "keep {kept} idle connections per worker and address for {idle}, rest {rest} between two deliveries"
        ),
    )
}
