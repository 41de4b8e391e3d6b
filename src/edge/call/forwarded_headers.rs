//! What the application is told about whom the request came through.
//!
//! A stranger's words are replaced. A trusted proxy's `X-Forwarded-For` is continued with the proxy's own address, and
//! its `X-Forwarded-Proto` and `X-Forwarded-Host` are passed on as they came. What else applications believe is judged by
//! [`crate::gate::believed`].

use std::io::Write as _;

use crate::gate::client::{Account, ClientAddress};
use crate::wire::encode;
use crate::wire::head::Host;
use crate::wire::headers::{Headers, Known};

use crate::edge::peer::{Peer, Sender};

/// Whom a request came through, and which kinds of fields have been passed on.
pub(in crate::edge) struct Told<'c, P> {
    /// The client.
    pub(in crate::edge) client: ClientAddress,
    /// The other end of the connection.
    pub(in crate::edge) sender: Sender<'c>,
    /// Whether a field of this kind has been passed on.
    pub(in crate::edge) passes: P,
}

/// Writes `X-Forwarded-For`, and `X-Forwarded-Proto` and `X-Forwarded-Host` unless they have been passed on. Without a
/// host there is nothing to say of it.
pub(in crate::edge) fn encode<P: Fn(Known) -> bool>(
    out: &mut Vec<u8>,
    headers: Headers<'_>,
    host: Host<'_>,
    Told { client, sender, passes }: Told<'_, P>,
) {
    let peer = sender.peer;
    out.extend_from_slice(b"X-Forwarded-For: ");
    match (client.account, client.address) {
        (Account::ForwardedFor, _) => {
            for before in headers.of_kind(Known::XForwardedFor).filter(|value| !value.is_empty()) {
                out.extend_from_slice(before);
                out.extend_from_slice(b", ");
            }
        }
        // The list itself is in another language; who stands at its end is what counts.
        (Account::Forwarded, Some(address)) if peer.is_some_and(|peer| peer.address != address) => {
            // Writing to memory cannot fail.
            let _ = write!(out, "{address}, ");
        }
        _ => {}
    }
    out.extend_from_slice(peer.map_or(b"unknown", Peer::text));
    out.extend_from_slice(b"\r\n");
    if !passes(Known::XForwardedProto) {
        encode::field(out, b"X-Forwarded-Proto", if sender.encrypted { b"https" } else { b"http" });
    }
    if !host.name.is_empty() && !passes(Known::XForwardedHost) {
        encode::host(out, b"X-Forwarded-Host", host);
    }
}
