//! The ledger of one route, and claims on it.

use core::future::Future;
use core::pin::pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::local::{self, ClaimVerdict, Local};
use super::names::{CLAIM_KEY, Names, Seed};
use super::naming::NamingKeys;
use super::shared::{EngineKey, EngineNames};
use super::stripe::{MARGIN, Terms};
use crate::gate::replay::{ReplayPolicy, WhenFull};
use crate::gate::verify::{Delivery, Key, Verified, Verifier};
use crate::now::Now;
use crate::outcome::Rejection;

/// A sender is not kept from trying again for longer than this: there is also room when a delivery in flight fails.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A moment is read that much earlier than something is done at it, at most.
const LATE: Duration = Duration::from_secs(60);

/// What one route has seen: deliveries that are with the application, and those that it has accepted.
#[derive(Debug)]
pub struct Ledger {
    seed: Seed,
    kept: Memory,
    naming: ArcSwap<NamingKeys>,
    /// The longest that an entry may be remembered, in milliseconds.
    longest: AtomicU64,
}

/// Where it is kept. Another place would be one that several processes share.
#[derive(Debug)]
enum Memory {
    /// In the memory of this process. Nothing about it ever waits.
    Local(Local),
}

/// The right to forward a delivery. Dropping it releases the delivery, so that it can be tried again.
#[derive(Debug)]
#[must_use = "dropping a claim releases it"]
pub struct Claim<'l> {
    /// Nothing on a route that remembers nothing, or only observes and has seen the delivery.
    held: Option<HeldClaim<'l>>,
}

#[derive(Debug)]
struct HeldClaim<'l> {
    ledger: &'l Ledger,
    names: Names,
    other_body: bool,
}

/// A name that an earlier process has stored.
#[derive(Clone, Copy, Debug)]
pub struct KnownName {
    /// What [`Claim::key`] gave there, or one of [`Claim::other_keys`].
    pub key: [u8; CLAIM_KEY],
    /// Whether it was one of the latter: it is not counted as a delivery.
    pub is_alias: bool,
    /// For how long it is remembered.
    pub left: Duration,
}

/// The answer to [`Ledger::claim`].
#[derive(Debug)]
pub enum Claimed<'l> {
    /// No other exchange has it.
    New {
        /// The right to forward it.
        claim: Claim<'l>,
        /// Whether another delivery was forgotten early for it ([`WhenFull::EvictOldest`]).
        evicted: bool,
    },
    /// The application has accepted it before.
    Duplicate,
    /// It is with the application.
    InFlight,
    /// There is no room to remember it.
    Full {
        /// The time until there is, as far as it is known: an entry expires then. `None` where all are in flight.
        wait: Option<Duration>,
    },
}

/// Bytes of a ledger for `capacity` deliveries when it is full.
#[must_use]
pub const fn memory(capacity: usize) -> usize {
    local::memory(capacity) + NamingKeys::MEMORY
}

/// What a future has to say that does not wait, as those of a ledger in this process; `None` if it waits all the same.
pub fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl Ledger {
    /// An empty ledger in the memory of this process.
    #[must_use]
    pub fn new(capacity: usize, seed: &Seed) -> Self {
        Self {
            kept: Memory::Local(Local::new(capacity, seed)),
            seed: seed.clone(),
            naming: ArcSwap::default(),
            longest: AtomicU64::new(0),
        }
    }

    /// The names of a verified delivery under the present naming keys. `None` where nothing tells it apart.
    pub fn names<D: Delivery>(&self, verifier: &Verifier, verified: &Verified<'_, D>) -> Option<Names> {
        Names::of(verifier, verified, &self.naming.load(), &self.seed)
    }

    /// The names in the shared engine of a delivery that has these names here.
    pub fn engine_names<D: Delivery>(
        key: &EngineKey,
        route: &str,
        names: &Names,
        verified: &Verified<'_, D>,
    ) -> EngineNames {
        let body = verified.body_beside_id();
        key.names(route, names, body)
    }

    /// Claims a delivery by all its names. It is new only if it is so by each of them. Of the policy, lifetime and
    /// `when_full` count: they may change while the ledger lives.
    pub async fn claim(&self, names: &Names, policy: &ReplayPolicy, now: Now) -> Claimed<'_> {
        let Memory::Local(local) = &self.kept;
        let (other_body, verdict) = local.claim(names, Terms::of(policy, now));
        match verdict {
            ClaimVerdict::Claimed { evicted } => {
                let names = if other_body { names.told_apart_by_body() } else { *names };
                let held = Some(HeldClaim { ledger: self, names, other_body });
                Claimed::New { claim: Claim { held }, evicted }
            }
            ClaimVerdict::Duplicate => Claimed::Duplicate,
            ClaimVerdict::InFlight | ClaimVerdict::OtherBody => Claimed::InFlight,
            ClaimVerdict::Full { wait } => Claimed::Full { wait: wait.map(Duration::from_millis) },
        }
    }

    /// The keys of the route are these from now on, and nothing is remembered for longer than `lifetime`.
    pub fn adopt(&self, ring: &[Key], lifetime: Duration, now: Now) {
        self.longest.fetch_max(millis(lifetime.saturating_add(MARGIN)), Ordering::Relaxed);
        let naming = self.naming.load();
        let Some(adopted) = naming.with_ring(ring, now).or_else(|| naming.refreshed(ring)) else { return };
        let Memory::Local(local) = &self.kept;
        // Before a delivery can be named under the new keys: a claim must not be of a later generation than its stripe.
        local.enter(adopted.generation());
        self.naming.store(Arc::new(adopted));
    }

    /// Remembers a delivery that an earlier process with the same seed has accepted, for as long as is left of its time.
    /// The oldest comes first. Gives whether there was room.
    pub fn restore(&self, known: &KnownName, policy: &ReplayPolicy, now: Now) -> bool {
        let Memory::Local(local) = &self.kept;
        let names = Names::restored(&known.key);
        let ends = now.monotonic.saturating_add(known.left);
        let begun = ends.saturating_sub(policy.lifetime.saturating_add(MARGIN)).min(now.monotonic);
        if known.is_alias {
            return local.restore_alias(&names, Terms::of(policy, now), millis(begun));
        }
        local.expect_name(&names);
        let Some(Claimed::New { claim, .. }) = at_once(self.claim(&names, policy, now)) else { return false };
        at_once(claim.commit(Now { monotonic: begun, ..now }));
        true
    }

    /// Other processes, which may have the keys of the route in another order or not all of them, are to find the deliveries:
    /// they bear their name under every key of the route.
    pub fn name_by_every(&self, ring: &[Key]) {
        let naming = self.naming.load();
        if let Some(with) = naming.with_every(ring) {
            self.naming.store(Arc::new(with));
        }
    }

    /// The names of deliveries are stored: they also bear the one under the key that comes next on the route, so that a
    /// process that starts without the present one recognises them.
    pub fn name_by_next(&self, ring: &[Key]) {
        let naming = self.naming.load();
        if let Some(with) = naming.with_next(ring) {
            self.naming.store(Arc::new(with));
        }
    }

    /// An earlier process may have named deliveries under any of these keys: all of them name, until what was accepted
    /// then is forgotten.
    pub fn name_by_all(&self, ring: &[Key]) {
        let naming = self.naming.load();
        if let Some(all) = naming.with_all(ring) {
            self.naming.store(Arc::new(all));
        }
    }

    /// Lets go of naming keys under which nothing is remembered any more. To be called again and again.
    pub fn forget_keys(&self, now: Duration) {
        let naming = self.naming.load();
        if !naming.has_former() {
            return;
        }
        let Memory::Local(local) = &self.kept;
        let longest = Duration::from_millis(self.longest.load(Ordering::Relaxed)).saturating_add(LATE);
        // What is claimed under a former key is remembered under it, however long the application takes.
        let left =
            if local.has_claims_of_earlier_keys() { naming.in_use() } else { naming.without_expired(longest, now) };
        let Some(left) = left else { return };
        let is_last = !left.has_former();
        // If another thread exchanges them at the same time, nothing is forgotten; this is tried again.
        self.naming.compare_and_swap(&*naming, Arc::new(left));
        if is_last {
            local.shrink();
        }
    }

    /// Deliveries, claimed and committed; those that have expired count until they are removed.
    #[must_use]
    pub fn held(&self) -> usize {
        let Memory::Local(local) = &self.kept;
        local.held()
    }

    /// Deliveries that are claimed: they are with the application.
    #[must_use]
    pub fn claimed(&self) -> usize {
        let Memory::Local(local) = &self.kept;
        local.claimed()
    }

    /// Deliveries that there can be.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        let Memory::Local(local) = &self.kept;
        local.capacity()
    }

    #[cfg(test)]
    pub(super) fn naming(&self) -> Arc<NamingKeys> {
        self.naming.load_full()
    }

    #[cfg(test)]
    pub(super) const fn local(&self) -> &Local {
        let Memory::Local(local) = &self.kept;
        local
    }
}

impl Claim<'_> {
    /// The right to forward a delivery that is not remembered.
    pub const fn unremembered() -> Self {
        Self { held: None }
    }

    /// Whether the id of the delivery was seen before with another body.
    #[must_use]
    pub fn has_reused_id(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.other_body)
    }

    /// What stands for the delivery in a store, for [`Ledger::restore`]. Nothing for one that is not remembered.
    #[must_use]
    pub fn key(&self) -> Option<[u8; CLAIM_KEY]> {
        self.held.as_ref().map(|held| held.names.key())
    }

    /// The same for each name that the delivery has besides, under other keys of its route.
    pub fn other_keys(&self) -> impl Iterator<Item = [u8; CLAIM_KEY]> {
        self.held.iter().flat_map(|held| held.names.former_keys())
    }

    /// Another process has accepted the delivery: it is remembered as if it had been accepted here so long ago that `left`
    /// is left of its time.
    pub async fn accepted_elsewhere(self, policy: &ReplayPolicy, left: Duration, now: Now) {
        let lifetime = policy.lifetime.saturating_add(MARGIN);
        let begun = now.monotonic.saturating_sub(lifetime.saturating_sub(left));
        self.commit(Now { monotonic: begun, ..now }).await;
    }

    /// The application has accepted the delivery: it is remembered from now on.
    pub async fn commit(mut self, now: Now) {
        if let Some(HeldClaim { ledger, names, .. }) = self.held.take() {
            let Memory::Local(local) = &ledger.kept;
            local.commit(&names, millis(now.monotonic));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(HeldClaim { ledger, names, .. }) = self.held.take() {
            let Memory::Local(local) = &ledger.kept;
            local.release(&names);
        }
    }
}

impl<'l> Claimed<'l> {
    /// For `Retry-After`, where it is known when there is room again: whole seconds, rounded up, from 1 to
    /// [`LONGEST_WAIT`].
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        let Self::Full { wait: Some(wait) } = self else { return None };
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(seconds.clamp(1, LONGEST_WAIT.as_secs()))
    }

    /// The claim, and what an observer should know of the ledger; or why there is none.
    ///
    /// # Errors
    /// [`Rejection::Duplicate`] or [`Rejection::DuplicateConflict`], as the route wants it;
    /// [`Rejection::DuplicateInFlight`]; [`Rejection::ReplayTableFull`].
    pub fn judge(self, policy: &ReplayPolicy) -> Result<(Claim<'l>, Option<Rejection>), Rejection> {
        match self {
            Self::New { claim, evicted } => Ok((claim, evicted.then_some(Rejection::ReplayTableFull))),
            Self::Duplicate => Err(policy.duplicates.rejection()),
            Self::InFlight => Err(Rejection::DuplicateInFlight),
            Self::Full { .. } => Err(Rejection::ReplayTableFull),
        }
    }
}

impl Terms {
    fn of(policy: &ReplayPolicy, now: Now) -> Self {
        let lifetime = millis(policy.lifetime.saturating_add(MARGIN));
        Self { now: millis(now.monotonic), lifetime, evict: policy.when_full == WhenFull::EvictOldest }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
