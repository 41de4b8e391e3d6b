//! The table of one route, and claims on it.

use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::policy::{ReplayPolicy, WhenFull};
use super::shard::{Key, MARGIN, Shard, Terms, Verdict};
use super::tables::ReplaySeed;
use crate::now::Now;
use crate::outcome::Rejection;

/// Shards of a large table: many more than cores would be of no use, because a table that is full of entries that
/// live for minutes takes a few hundred new ones a second at most.
const SHARDS: usize = 16;

/// A table with fewer entries has one shard, and is exact.
const LARGE: usize = SHARDS << 10;

/// A shard with a cache line to itself.
#[repr(align(128))]
#[derive(Debug)]
struct Part(Mutex<Shard>);

/// What one route has seen: deliveries that are with the application, and those that it has accepted.
#[derive(Debug)]
pub struct ReplayTable {
    seed: ReplaySeed,
    capacity: usize,
    parts: Box<[Part]>,
}

/// The right to forward a delivery. Dropping it releases the delivery, so that it can be tried again.
#[derive(Debug)]
#[must_use = "dropping a claim releases it"]
pub struct Claim<'t> {
    /// Nothing on a route that remembers nothing, or only observes and has seen the delivery.
    held: Option<Held<'t>>,
}

#[derive(Debug)]
struct Held<'t> {
    table: &'t ReplayTable,
    part: usize,
    slot: u32,
}

/// The answer to [`ReplayTable::claim`].
#[derive(Debug)]
pub enum Claimed<'t> {
    /// Nobody else has it.
    New {
        /// The right to forward it.
        claim: Claim<'t>,
        /// Whether another delivery was forgotten early for it ([`WhenFull::EvictOldest`]).
        evicted: bool,
    },
    /// The application has accepted it before.
    Duplicate,
    /// It is with the application.
    InFlight,
    /// There is no room to remember it.
    Full,
}

const fn shards(capacity: usize) -> usize {
    if capacity < LARGE { 1 } else { SHARDS }
}

/// Bytes of a table of `capacity` entries when it is full.
#[must_use]
pub const fn memory(capacity: usize) -> usize {
    let shards = shards(capacity);
    shards * (Shard::memory(capacity / shards) + size_of::<Part>())
}

impl ReplayTable {
    /// An empty table. `seed` spreads the entries and must not be known to strangers.
    #[must_use]
    pub fn new(capacity: usize, seed: ReplaySeed) -> Self {
        let shards = shards(capacity);
        // What does not divide is left out, so that there are never more than `capacity`.
        let part = |_| Part(Mutex::new(Shard::new(capacity / shards)));
        Self { seed, capacity, parts: (0..shards).map(part).collect() }
    }

    /// Claims a delivery by its replay key ([`crate::gate::verify::Verified::replay_key`]). Of the policy, lifetime and
    /// `when_full` count: they may change while the table lives.
    pub fn claim(&self, key: Key, policy: &ReplayPolicy, now: Now) -> Claimed<'_> {
        let part = self.part_of(&key);
        let lifetime = policy.lifetime.saturating_add(MARGIN);
        let evict = policy.when_full == WhenFull::EvictOldest;
        let terms = Terms { now: millis(now.monotonic), lifetime: millis(lifetime), evict };
        let verdict = self.lock(part).claim(&key, |key| self.seed.hash(key), terms);
        match verdict {
            Verdict::Claimed { slot, evicted } => {
                Claimed::New { claim: Claim { held: Some(Held { table: self, part, slot }) }, evicted }
            }
            Verdict::Duplicate => Claimed::Duplicate,
            Verdict::InFlight => Claimed::InFlight,
            Verdict::Full => Claimed::Full,
        }
    }

    /// Entries, claimed and committed; those that have expired count until they are removed.
    #[must_use]
    pub fn held(&self) -> usize {
        (0..self.parts.len()).map(|part| self.lock(part).held()).sum()
    }

    /// Entries that are claimed: deliveries that are with the application.
    #[must_use]
    pub fn claimed(&self) -> usize {
        (0..self.parts.len()).map(|part| self.lock(part).claimed()).sum()
    }

    /// Entries that there can be.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    fn part_of(&self, key: &Key) -> usize {
        // The upper bits; the lower ones choose the bucket.
        (self.seed.hash(key) >> 24) as usize % self.parts.len()
    }

    fn lock(&self, part: usize) -> MutexGuard<'_, Shard> {
        // What is done under the lock does not panic; if it did, the shard would be no worse for it than the process.
        self.parts[part].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        (0..self.parts.len()).for_each(|part| self.lock(part).assert_consistent(|key| self.seed.hash(key)));
    }
}

impl Claim<'_> {
    /// The right to forward a delivery that is not remembered.
    pub const fn unremembered() -> Self {
        Self { held: None }
    }

    /// The application has accepted the delivery: it is remembered from now on.
    pub fn commit(mut self, now: Now) {
        if let Some(Held { table, part, slot }) = self.held.take() {
            table.lock(part).commit(slot, millis(now.monotonic));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(Held { table, part, slot }) = self.held.take() {
            table.lock(part).release(slot, |key| table.seed.hash(key));
        }
    }
}

impl<'t> Claimed<'t> {
    /// The claim, and what an observer should know of it; or why there is none.
    ///
    /// # Errors
    /// [`Rejection::Duplicate`] or [`Rejection::DuplicateConflict`], as the route wants it;
    /// [`Rejection::DuplicateInFlight`]; [`Rejection::ReplayTableFull`].
    pub fn judge(self, policy: &ReplayPolicy) -> Result<(Claim<'t>, Option<Rejection>), Rejection> {
        match self {
            Self::New { claim, evicted } => Ok((claim, evicted.then_some(Rejection::ReplayTableFull))),
            Self::Duplicate => Err(policy.duplicates.rejection()),
            Self::InFlight => Err(Rejection::DuplicateInFlight),
            Self::Full => Err(Rejection::ReplayTableFull),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
