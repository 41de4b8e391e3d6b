//! By which key a delivery is told apart from every other one.
//!
//! Where neither an id nor the bytes alone identify a delivery, the tag of its content does, and a tag needs a key. Which
//! keys of a ring count changes with time and with each configuration; were the tag that of whichever key counts, a
//! delivery would be another one after that. So the key is chosen once, and kept by whoever remembers deliveries
//! ([`crate::gate::replay::ReplayTable`]): it is the first of the route's ring, whether it counts or not, until it is
//! none of the ring's any more. The key that takes its place tells deliveries apart from then on; the former one does so
//! as well, and nothing else, for as long as something may be remembered by it. An identity never verifies anything.

use core::time::Duration;

use super::keyring::Key;

/// The key by which deliveries are told apart, and those by which they were before.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// How often the current key has been exchanged.
    era: u64,
    current: Option<Key>,
    former: Vec<Former>,
}

/// A key by which deliveries may be remembered still.
#[derive(Clone, Debug)]
struct Former {
    key: Key,
    /// The last moment at which something may have been remembered by it.
    last: Duration,
}

/// What tells a delivery apart: one key of a table, and what it would have been by former identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayKeys {
    /// By this it is remembered.
    pub current: [u8; 32],
    /// By these it may be.
    pub former: Vec<[u8; 32]>,
}

impl From<[u8; 32]> for ReplayKeys {
    fn from(current: [u8; 32]) -> Self {
        Self { current, former: Vec::new() }
    }
}

impl Identities {
    /// How often the current key has been exchanged.
    #[must_use]
    pub const fn era(&self) -> u64 {
        self.era
    }

    /// The identities when these are the keys of the route from `now` on; nothing if that changes nothing.
    #[must_use]
    pub fn with_ring(&self, ring: &[Key], now: Duration) -> Option<Self> {
        let first = ring.iter().find(|key| key.makes_tags())?;
        let Some(current) = &self.current else {
            return Some(Self { current: Some(first.clone()), ..self.clone() });
        };
        if ring.iter().any(|key| key.is_same(current)) {
            return None;
        }
        let mut former = self.former.clone();
        // What had been removed and is there again is as good as ever.
        former.retain(|former| !former.key.is_same(first));
        former.push(Former { key: current.clone(), last: now });
        Some(Self { era: self.era + 1, current: Some(first.clone()), former })
    }

    /// The identities when something has been remembered by a former one, after it was exchanged, at `now`.
    #[must_use]
    pub fn used(&self, now: Duration) -> Self {
        let mut used = self.clone();
        used.former.iter_mut().for_each(|former| former.last = former.last.max(now));
        used
    }

    /// The identities without those by which nothing is remembered any more, where everything is forgotten after
    /// `lifetime`; nothing if that changes nothing.
    #[must_use]
    pub fn without_expired(&self, lifetime: Duration, now: Duration) -> Option<Self> {
        let mut left = self.clone();
        left.former.retain(|former| now < former.last.saturating_add(lifetime));
        (left.former.len() < self.former.len()).then_some(left)
    }

    /// Whether there are former ones.
    #[must_use]
    pub const fn has_former(&self) -> bool {
        !self.former.is_empty()
    }

    pub(super) const fn current(&self) -> Option<&Key> {
        self.current.as_ref()
    }

    pub(super) fn former(&self) -> impl Iterator<Item = &Key> {
        self.former.iter().map(|former| &former.key)
    }
}
