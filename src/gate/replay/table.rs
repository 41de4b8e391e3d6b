//! The table of one route, and claims on it.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::policy::{ReplayPolicy, WhenFull};
use super::shard::{Key, MARGIN, Shard, Terms, Verdict};
use super::tables::ReplaySeed;
use crate::gate::verify::{Identities, Key as RingKey, ReplayKeys};
use crate::now::Now;
use crate::outcome::Rejection;

/// Shards of a large table: many more than cores would be of no use, because a table that is full of entries that
/// live for minutes takes a few hundred new ones a second at most.
const SHARDS: usize = 16;

/// A table with fewer entries has one shard, and is exact.
const LARGE: usize = SHARDS << 10;

/// A sender is not kept from trying again for longer than this: there is also room when a delivery in flight fails.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A moment is read that much earlier than something is done at it, at most.
const LATE: Duration = Duration::from_secs(60);

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
    /// By what deliveries are told apart.
    identities: ArcSwap<Identities>,
    /// The longest that an entry may be remembered, in milliseconds.
    longest: AtomicU64,
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
    Full {
        /// The time until there is, as far as it is known: an entry expires then. Nothing where all are in flight.
        wait: Option<Duration>,
    },
}

const fn shards(capacity: usize) -> usize {
    if capacity < LARGE { 1 } else { SHARDS }
}

/// Bytes of a table of `capacity` entries when it is full.
#[must_use]
pub const fn memory(capacity: usize) -> usize {
    let shards = shards(capacity);
    shards * (Shard::memory(capacity / shards) + size_of::<Part>()) + Identities::MEMORY
}

impl ReplayTable {
    /// An empty table. `seed` spreads the entries and must not be known to strangers.
    #[must_use]
    pub fn new(capacity: usize, seed: ReplaySeed) -> Self {
        let shards = shards(capacity);
        // What does not divide is left out, so that there are never more than `capacity`.
        let part = |_| Part(Mutex::new(Shard::new(capacity / shards)));
        Self {
            seed,
            capacity,
            parts: (0..shards).map(part).collect(),
            identities: ArcSwap::default(),
            longest: AtomicU64::new(0),
        }
    }

    /// Claims a delivery by its replay key ([`crate::gate::verify::Verified::replay_key`]). Of the policy, lifetime and
    /// `when_full` count: they may change while the table lives.
    pub fn claim(&self, key: Key, policy: &ReplayPolicy, now: Now) -> Claimed<'_> {
        loop {
            let era = self.identities.load().era();
            if let Some(claimed) = self.claim_in_era(&key, Terms::of(policy, now, era)) {
                return claimed;
            }
        }
    }

    /// Claims a delivery by what tells it apart under the identities of the table
    /// ([`crate::gate::verify::Verifier::replay_keys`]); nothing where nothing does. It is new only if it is so by former
    /// identities, too.
    pub fn claim_delivery(
        &self,
        keys: impl Fn(&Identities) -> Option<ReplayKeys>,
        policy: &ReplayPolicy,
        now: Now,
    ) -> Option<Claimed<'_>> {
        loop {
            let identities = self.identities.load();
            let keys = keys(&identities)?;
            let terms = Terms::of(policy, now, identities.era());
            // Of two copies that are told apart by different identities at this moment one has the later era. If the
            // other one is there before it, it is seen here; if not, it is too late for its era.
            let seen = keys.former().iter().find_map(|key| self.seen(key, terms));
            let claimed = match seen {
                Some(Verdict::Outdated) => continue,
                Some(Verdict::Duplicate) => Some(Claimed::Duplicate),
                Some(_) => Some(Claimed::InFlight),
                None => self.claim_in_era(keys.current(), terms),
            };
            if claimed.is_some() {
                return claimed;
            }
        }
    }

    /// The keys of the route are these from now on, and nothing is remembered for longer than `lifetime`.
    pub fn adopt(&self, ring: &[RingKey], lifetime: Duration, now: Now) {
        self.longest.fetch_max(millis(lifetime.saturating_add(MARGIN)), Ordering::Relaxed);
        if let Some(identities) = self.identities.load().with_ring(ring, now) {
            self.identities.store(Arc::new(identities));
        }
    }

    /// Lets go of keys by which nothing is remembered any more. To be called again and again.
    pub fn forget_identities(&self, now: Duration) {
        let identities = self.identities.load();
        if !identities.has_former() {
            return;
        }
        // What is claimed by a former identity is remembered by it, however long the application takes.
        let era = identities.era();
        let unsettled = (0..self.parts.len()).any(|part| self.lock(part).has_claims_before(era));
        let longest = Duration::from_millis(self.longest.load(Ordering::Relaxed)).saturating_add(LATE);
        if !unsettled && let Some(left) = identities.without_expired(longest, now) {
            // Whoever exchanges them at the same time forgets nothing by it; this is tried again.
            self.identities.compare_and_swap(&*identities, Arc::new(left));
        }
    }

    /// What is known of a delivery by a former identity, if anything is.
    fn seen(&self, key: &Key, terms: Terms) -> Option<Verdict> {
        let hash = self.seed.hash(key);
        self.lock(self.part_of(hash)).look(key, hash, terms)
    }

    /// Nothing when the era has passed.
    fn claim_in_era(&self, key: &Key, terms: Terms) -> Option<Claimed<'_>> {
        let hash = self.seed.hash(key);
        let part = self.part_of(hash);
        let verdict = self.lock(part).claim(key, hash, terms);
        Some(match verdict {
            Verdict::Claimed { slot, evicted } => {
                Claimed::New { claim: Claim { held: Some(Held { table: self, part, slot }) }, evicted }
            }
            Verdict::Duplicate => Claimed::Duplicate,
            Verdict::InFlight => Claimed::InFlight,
            Verdict::Full { wait } => Claimed::Full { wait: wait.map(Duration::from_millis) },
            Verdict::Outdated => return None,
        })
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

    const fn part_of(&self, hash: u32) -> usize {
        // The upper bits; the lower ones choose the bucket.
        (hash >> 24) as usize % self.parts.len()
    }

    fn lock(&self, part: usize) -> MutexGuard<'_, Shard> {
        // What is done under the lock does not panic; if it did, the shard would be no worse for it than the process.
        self.parts[part].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn era(&self) -> u64 {
        self.identities.load().era()
    }

    #[cfg(test)]
    pub(super) fn has_former_identities(&self) -> bool {
        self.identities.load().has_former()
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
            table.lock(part).release(slot);
        }
    }
}

impl<'t> Claimed<'t> {
    /// For `Retry-After`, where it is known when there is room again: whole seconds, rounded up, from 1 to
    /// [`LONGEST_WAIT`].
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        let Self::Full { wait: Some(wait) } = self else { return None };
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(seconds.clamp(1, LONGEST_WAIT.as_secs()))
    }

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
            Self::Full { .. } => Err(Rejection::ReplayTableFull),
        }
    }
}

impl Terms {
    fn of(policy: &ReplayPolicy, now: Now, era: u64) -> Self {
        let lifetime = millis(policy.lifetime.saturating_add(MARGIN));
        Self { now: millis(now.monotonic), lifetime, evict: policy.when_full == WhenFull::EvictOldest, era }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
