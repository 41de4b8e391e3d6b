//! The deliveries of one route that wait, in the order in which they may be attempted.

use std::collections::{BTreeSet, HashMap};

use crate::inbox::backoff::Backoff;
use crate::inbox::breaker::{Breaker, EndWindow};
use crate::inbox::delivery::DeliveryId;
use crate::inbox::judgement::DEAD_ON;

/// What an ordered route does when a delivery dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDead {
    /// The next of its key goes on.
    #[default]
    Continue,
    /// The key waits until the dead one is redriven or purged.
    Hold,
}

/// The terms of a route's deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneTerms {
    /// The application, by its position among the breakers.
    pub upstream: usize,
    /// How many attempts at a time.
    pub concurrency: u32,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// How many attempts; 0 for as many as there is time for.
    pub attempts: u16,
    /// For how long, from acceptance, in milliseconds.
    pub give_up_after: u64,
    /// What follows when a delivery of a key dies.
    pub on_dead: OnDead,
    /// Statuses after which a delivery is dead at once.
    pub dead_on: Vec<u16>,
}

impl Default for LaneTerms {
    fn default() -> Self {
        Self {
            upstream: 0,
            concurrency: 8,
            backoff: Backoff::default(),
            attempts: 0,
            give_up_after: 72 * 3_600_000,
            on_dead: OnDead::Continue,
            dead_on: DEAD_ON.to_vec(),
        }
    }
}

/// A key by which deliveries are ordered: a digest. All zeros is no key.
pub type OrderKey = [u8; 16];

/// What waits, and what holds it back.
#[derive(Debug, Default)]
pub struct RouteLane {
    /// The terms.
    pub terms: LaneTerms,
    /// Held by the operator.
    pub held: bool,
    /// The application wants to be left alone until then (milliseconds, monotonic).
    pub quiet_until: u64,
    /// Attempts under way.
    pub flying: u32,
    /// Opens when the application refuses everything.
    pub guard: Breaker,
    /// Which of the last attempts ended as dead, or would have.
    pub refusals: EndWindow,
    /// Deliveries without a time of their own: new ones, and those that failed because the application was away.
    pub by_age: BTreeSet<DeliveryId>,
    /// Deliveries that failed for themselves: when they are due, and which.
    pub by_clock: BTreeSet<(u64, DeliveryId)>,
    /// Of each key: its deliveries. Only the first of a key is in one of the two sets above.
    keys: HashMap<OrderKey, BTreeSet<DeliveryId>>,
}

impl RouteLane {
    /// A lane with these terms.
    #[must_use]
    pub fn new(terms: LaneTerms) -> Self {
        Self { terms, ..Self::default() }
    }

    /// Puts a delivery behind the others of its key. Gives whether it is the first, and which other one was before.
    pub fn enqueue(&mut self, key: &OrderKey, id: DeliveryId) -> Enqueued {
        if *key == [0; 16] {
            return Enqueued { first: true, displaced: None };
        }
        let ids = self.keys.entry(*key).or_default();
        let before = ids.first().copied();
        ids.insert(id);
        let first = ids.first() == Some(&id);
        Enqueued { first, displaced: before.filter(|before| first && *before != id) }
    }

    /// Takes a delivery out. Gives the next of its key, if that is now the first.
    pub fn dequeue(&mut self, key: &OrderKey, id: DeliveryId) -> Option<DeliveryId> {
        let ids = self.keys.get_mut(key)?;
        let was_first = ids.first() == Some(&id);
        ids.remove(&id);
        let next = ids.first().copied();
        if next.is_none() {
            self.keys.remove(key);
        }
        next.filter(|_| was_first)
    }

    /// The delivery that may be attempted next, if time, operator and terms allow it: the oldest without a time of its
    /// own, or the one that was due first. `rank` picks among the oldest where the breaker probes.
    #[must_use]
    pub fn candidate(&self, now: u64, rank: usize) -> Option<DeliveryId> {
        if self.held || now < self.quiet_until || self.flying >= self.terms.concurrency {
            return None;
        }
        if !self.guard.permits(self.flying, now) {
            return None;
        }
        let aged = self.by_age.iter().nth(rank.checked_rem(self.by_age.len().min(8)).unwrap_or(0)).copied();
        aged.or_else(|| self.by_clock.first().filter(|(due, _)| *due <= now).map(|(_, id)| *id))
    }

    /// When [`Self::candidate`] may give something that it does not give now, by the clock alone.
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        if self.held || self.flying >= self.terms.concurrency {
            return None;
        }
        let first = if self.by_age.is_empty() { self.by_clock.first().map(|(due, _)| *due) } else { Some(0) };
        first.map(|due| due.max(self.quiet_until).max(self.guard.opens_at().unwrap_or(0)))
    }
}

/// Where a delivery has come to stand in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// It is the first, or has no key.
    pub first: bool,
    /// The one that was first before it.
    pub displaced: Option<DeliveryId>,
}
