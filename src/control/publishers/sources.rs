//! Which keys of a configuration are fetched.

use std::sync::Arc;

use crate::gate::Gate;
use crate::gate::confirming::Confirmations;
use crate::gate::ranges::PublishedRanges;
use crate::gate::verify::pinned::PinnedKeys;
use crate::gate::verify::published::PublishedKeys;
use crate::gate::verify::{Challenges, Key};

/// The keys of routes that stand at URLs, and the networks of senders.
#[derive(Clone, Debug, Default)]
pub struct KeySources {
    /// At URLs of the configuration.
    pub sets: Vec<Arc<PublishedKeys>>,
    /// At URLs that deliveries name, within what their schemes pin.
    pub pinned: Vec<Arc<PinnedKeys>>,
    /// Subscriptions that wait to be confirmed.
    pub confirmations: Vec<Arc<Confirmations>>,
    /// The networks that senders publish, of each sender once.
    pub ranges: Vec<Arc<PublishedRanges>>,
}

impl KeySources {
    /// Those of all routes.
    #[must_use]
    pub fn of(gate: &Gate) -> Self {
        let routes = gate.routes.routes().iter();
        let confirms = |it: &Challenges| it.handshake.calls.iter().any(|call| call.confirm.is_some());
        let challenges = routes.clone().filter_map(|route| route.challenges.as_deref()).filter(|it| confirms(it));
        let confirmations = challenges.map(|it| Arc::clone(&it.confirmations)).collect();
        let mut ranges: Vec<Arc<PublishedRanges>> = Vec::new();
        for one in routes.clone().flat_map(|route| route.clients.published()) {
            if !ranges.iter().any(|known| Arc::ptr_eq(known, one)) {
                ranges.push(Arc::clone(one));
            }
        }
        Self { confirmations, ranges, ..Self::among(routes.flat_map(|route| route.verifier.keys())) }
    }

    /// Those among these keys.
    pub fn among<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Self {
        let mut sources = Self::default();
        for key in keys {
            sources.sets.extend(key.published().cloned());
            sources.pinned.extend(key.pinned().cloned());
        }
        sources
    }
}
