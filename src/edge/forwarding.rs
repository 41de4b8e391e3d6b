//! What the application is told about whom the request came through.
//!
//! A stranger's words are replaced. A trusted proxy's `X-Forwarded-For` is continued with the proxy's own address, and
//! its `X-Forwarded-Proto` and `X-Forwarded-Host` are passed on as they came. `Forwarded` and every other
//! `X-Forwarded-*` end here: applications read one list, and it is this one.

use std::io::Write as _;

use crate::gate::client::{Account, ClientAddress};
use crate::wire::encode;
use crate::wire::headers::{Headers, Known};

use super::connection::{Peer, Sender};

/// Whether a header of the request is replaced by one of ours.
pub(super) const fn replaces(client: ClientAddress, kind: Known) -> bool {
    match kind {
        Known::XForwardedProto | Known::XForwardedHost => !client.account.is_believed(),
        kind => kind.is_forwarding(),
    }
}

/// Writes `X-Forwarded-For`, and `X-Forwarded-Proto` and `X-Forwarded-Host` unless they have been passed on.
pub(super) fn encode(
    out: &mut Vec<u8>,
    headers: Headers<'_>,
    host: &[u8],
    (client, sender): (ClientAddress, Sender<'_>),
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
    let passed_on = |kind| !replaces(client, kind) && headers.of_kind(kind).next().is_some();
    if !passed_on(Known::XForwardedProto) {
        encode::field(out, b"X-Forwarded-Proto", if sender.encrypted { b"https" } else { b"http" });
    }
    if !passed_on(Known::XForwardedHost) {
        encode::field(out, b"X-Forwarded-Host", host);
    }
}
