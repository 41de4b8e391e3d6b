//! By which key a delivery is told apart from every other one.
//!
//! Where neither an id nor the bytes alone identify a delivery, the tag of its content does, and a tag needs a key. Which
//! keys of a ring count changes with time and with each configuration; were the tag that of whichever key counts, a
//! delivery would be another one after that. So the key is chosen once, and kept by whoever remembers deliveries
//! ([`crate::gate::replay::ReplayTable`]): it is the first of the route's ring that counts, and stays so until it is none
//! of the ring's any more, or its time has ended when a configuration comes. The key that takes its place tells deliveries
//! apart from then on; the former one does so as well, for as long as something may be remembered by it.
//!
//! An identity never verifies anything. A secret that has been removed from a configuration stays in memory as one, no
//! longer than a delivery is remembered.

use core::time::Duration;

use super::keyring::Key;
use crate::now::Now;

/// Former identities that are kept. Each costs a hash of every new delivery while it is there. When more keys than this
/// are removed within the time for which deliveries are remembered, the one that was exchanged first is let go.
pub const FORMER: usize = 8;

/// The key by which deliveries are told apart, and those by which they were before.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// How often the current key has been exchanged.
    era: u64,
    current: Option<Key>,
    /// At most [`FORMER`], the one that was exchanged first in front.
    former: Vec<Former>,
}

/// A key by which deliveries may be remembered still.
#[derive(Clone, Debug)]
struct Former {
    key: Key,
    /// The last moment at which something may have been remembered by it, when that is known.
    last: Option<Duration>,
}

/// What tells a delivery apart: one key of a table, and what it would have been by former identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayKeys {
    current: [u8; 32],
    former: [[u8; 32]; FORMER],
    /// How many of `former` there are.
    count: usize,
}

impl From<[u8; 32]> for ReplayKeys {
    fn from(current: [u8; 32]) -> Self {
        Self { current, former: [[0; 32]; FORMER], count: 0 }
    }
}

impl ReplayKeys {
    /// By this it is remembered.
    #[must_use]
    pub const fn current(&self) -> &[u8; 32] {
        &self.current
    }

    /// By these it may be.
    #[must_use]
    pub fn former(&self) -> &[[u8; 32]] {
        self.former.get(..self.count).unwrap_or_default()
    }

    /// The same, with keys by which it may be remembered; no more than there can be.
    pub(super) fn or_by(mut self, former: impl Iterator<Item = [u8; 32]>) -> Self {
        for (place, key) in self.former.iter_mut().skip(self.count).zip(former) {
            *place = key;
            self.count += 1;
        }
        self
    }
}

impl Identities {
    /// Bytes of the identities of a table, with those that take their place while they do.
    pub const MEMORY: usize = 2 * (size_of::<Self>() + FORMER * size_of::<Former>());

    /// How often the current key has been exchanged.
    #[must_use]
    pub const fn era(&self) -> u64 {
        self.era
    }

    /// The identities when these are the keys of the route from `now` on; nothing if that changes nothing.
    #[must_use]
    pub fn with_ring(&self, ring: &[Key], now: Now) -> Option<Self> {
        let able = || ring.iter().filter(|key| key.makes_tags());
        let counting = able().find(|key| key.validity().contains(now));
        let Some(current) = &self.current else {
            let first = counting.or_else(|| able().next())?;
            return Some(Self { current: Some(first.clone()), ..self.clone() });
        };
        let same = || able().filter(|key| key.is_same(current));
        if same().any(|key| !key.validity().has_ended(now)) {
            return None;
        }
        // For the sake of one that has ended each delivery would be hashed once more.
        let next = if same().next().is_some() { counting? } else { counting.or_else(|| able().next())? };
        let mut former = Vec::with_capacity(FORMER);
        // What had been removed and is there again is as good as ever.
        former.extend(self.former.iter().filter(|former| !former.key.is_same(next)).cloned());
        if former.len() == FORMER {
            former.remove(0);
        }
        former.push(Former { key: current.clone(), last: None });
        Some(Self { era: self.era + 1, current: Some(next.clone()), former })
    }

    /// The identities without those by which nothing is remembered any more, where everything is forgotten after
    /// `lifetime` and nothing can be remembered by a former one any more at `now`; nothing if that changes nothing.
    #[must_use]
    pub fn without_expired(&self, lifetime: Duration, now: Duration) -> Option<Self> {
        let settled = self.former.iter().all(|former| former.last.is_some());
        let expired = |former: &Former| former.last.is_some_and(|last| now >= last.saturating_add(lifetime));
        if settled && !self.former.iter().any(expired) {
            return None;
        }
        let mut left = self.clone();
        left.former.retain(|former| !expired(former));
        left.former.iter_mut().for_each(|former| _ = former.last.get_or_insert(now));
        Some(left)
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
