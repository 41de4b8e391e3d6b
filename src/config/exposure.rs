//! A listener that other hosts reach in plain text, with no word about the proxies in front of it.

use core::net::SocketAddr;

use crate::config::reader::Reader;

/// Warns about an address of every interface without TLS where nothing says who is trusted about clients: behind a load
/// balancer or an ingress all clients are then one address, with one budget for what is not genuine. An empty list is an
/// answer, too.
pub(super) fn check(listener: &Reader<'_>, address: SocketAddr, encrypted: bool) {
    let answered = ["trusted_proxies", "proxy_protocol"].into_iter().any(|key| listener.has(key));
    if !address.ip().is_unspecified() || encrypted || answered {
        return;
    }
    let message = "other hosts reach this address in plain text, and no proxy is trusted: behind a load balancer all clients \
                   are one address and share one budget";
    let fix = "name your proxies: trusted_proxies = [\"10.0.0.0/8\"]; or trusted_proxies = [] if clients connect directly, \
               and then [listener.tls]";
    listener.warning("address", message, fix);
}
