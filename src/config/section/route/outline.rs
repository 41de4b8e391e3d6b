//! What a route was, for comparison with the next configuration: its parts and its keys as digests.

use core::fmt::Debug;
use std::collections::BTreeMap;

use super::RouteSettings;
use super::clients::ClientSettings;
use super::keys::KeySettings;
use crate::config::differences::{changed, differences};
use crate::config::digest::{Digest, digest, digest_of_bytes};
use crate::config::secret::Secret;
use crate::gate::identity::CallerList;
use crate::gate::verify::Validity;

/// A route.
#[derive(Clone)]
pub(crate) struct RouteOutline {
    parts: [(&'static str, Digest); 8],
    pub(crate) keys: BTreeMap<String, KeyOutline>,
}

/// A key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyOutline {
    validity: Validity,
    name: Option<String>,
    pub(crate) content: Digest,
    /// Since when it has been this content, in unix seconds, as far as is known.
    pub(crate) since: Option<i64>,
}

impl KeyOutline {
    /// Where a key comes from is left out: the same bytes elsewhere are the same key.
    fn is_as(&self, other: &Self) -> bool {
        self.validity == other.validity && self.name == other.name && self.content == other.content
    }
}

impl RouteOutline {
    pub(crate) fn of(route: &RouteSettings, upstream: &impl Debug, bytes: &[Option<Secret>]) -> Self {
        let RouteSettings {
            name: _,
            key,
            verification,
            body_size,
            upstream: _,
            clients,
            admission,
            observe,
            replay,
            callers,
            callers_place: _,
            kept,
            challenge,
            delivery,
            place: _,
        } = route;
        let verified = verification.as_ref().map(|it| (&it.scheme, &it.public_url, &it.tolerance));
        let tokens = challenge.iter().flat_map(|it| &it.read);
        let tokens: Vec<_> = tokens.map(|(secret, validity)| (digest_of_bytes(secret.bytes()), *validity)).collect();
        let challenge = challenge.as_ref().map(|it| (&it.handshake, &it.url, it.first_calls, tokens));
        let parts = [
            ("requests", digest(key)),
            ("verification", digest(&verified)),
            ("clients", of_clients(clients, callers)),
            ("limits", digest(&(body_size, admission, observe, replay))),
            ("upstream", digest(upstream)),
            ("headers", digest(kept)),
            ("handshake", digest(&challenge)),
            ("delivery", digest(delivery)),
        ];
        let settings = verification.iter().flat_map(|it| &it.keys);
        let keys = settings.zip(bytes).map(|(settings, bytes)| (settings.id.clone(), of_key(settings, bytes.as_ref())));
        Self { parts, keys: keys.collect() }
    }

    pub(crate) fn changes(&self, newer: &Self, name: &str) -> Vec<String> {
        let mut words = Vec::new();
        let parts: Vec<&str> = changed(&self.parts, &newer.parts).collect();
        if !parts.is_empty() {
            words.push(format!("route {name} changed ({})", parts.join(", ")));
        }
        for (id, change) in differences(&self.keys, &newer.keys, KeyOutline::is_as) {
            words.push(format!("key \"{id}\" of route {name} {}", change.word()));
        }
        words
    }
}

fn of_clients(clients: &ClientSettings, callers: &CallerList) -> Digest {
    let senders: Vec<_> = clients.senders.iter().map(|sender| &sender.source).collect();
    digest(&(&clients.allow, senders, clients.allow_file.as_ref().map(|list| &list.path), &clients.deny, callers))
}

fn of_key(settings: &KeySettings, bytes: Option<&Secret>) -> KeyOutline {
    let content = digest_of_bytes(bytes.map(Secret::bytes).unwrap_or_default());
    KeyOutline { validity: settings.validity, name: settings.name.clone(), content, since: settings.written }
}
