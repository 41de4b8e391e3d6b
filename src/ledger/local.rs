//! A table in the memory of this process: a concurrent map of entries, and accounts beside it.
//!
//! The map decides who has a name: the entry of a name is made or changed under the lock of one of its shards. The accounts
//! ([`Stripe`]) know how many entries there are and which is the oldest.
//!
//! # A claim under several names
//! takes them in their order, and gives back what it has when it meets one that is taken. Nothing waits, so nothing can
//! deadlock. Of two copies the one that takes the least of the names that they share has them all: the other one meets it
//! there, and holds none of the greater ones. So exactly one goes through.
//!
//! # Two bodies under one id
//! The entry of an id holds the hash of the body that it was claimed with. Another body is claimed by a second name, made of
//! the id and that hash. A delivery can thus be found under either name, and whether it has the id depends on who came
//! first. So a claim puts down the name that it takes and *then* looks whether the delivery stands under the other one,
//! and withdraws if it does: of two copies at least one sees the other. Where no id has been used twice yet, nothing
//! stands under a second name, and the look is saved.
//!
//! # Room
//! The map never grows ([`map_room`]): a claim never waits for a map to be rehashed.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use core::hash::BuildHasher as _;

use dashmap::Entry as Place;
use foldhash::quality::SeedableRandomState;

use super::names::{Names, Seed};
use super::naming::FORMER;
use super::stripe::{Entry, Map, Role, Stamp, Stripe, Terms};
use crate::gate::map_room;
use crate::gate::verify::Name;

/// Stripes of a large table: many more than cores would be of no use, because a table that is full of entries that
/// live for minutes takes a few hundred new ones a second at most.
const STRIPES: usize = 16;

/// A table with fewer entries has one stripe, and knows exactly when it is full.
const LARGE: usize = STRIPES << 10;

/// Shards of the map of a large table, and of a small one. The map wants at least two.
const SHARDS: (usize, usize) = (64, 4);

/// Accounts with a cache line to themselves.
#[repr(align(128))]
#[derive(Debug)]
struct StripeLock(Mutex<Stripe>);

/// What one route has seen.
#[derive(Debug)]
pub(super) struct Local {
    capacity: usize,
    spread: SeedableRandomState,
    /// Made with the first claim.
    map: OnceLock<Map>,
    stripes: Box<[StripeLock]>,
    /// Whether two bodies have been met under one id.
    has_second_names: AtomicBool,
}

/// What a table says to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimVerdict {
    /// The names are the claimant's until they are committed or released. Another entry may have been forgotten early for
    /// them.
    Claimed { evicted: bool },
    /// Committed, and not expired.
    Duplicate,
    /// Claimed by another.
    InFlight,
    /// No room; the milliseconds until an entry expires, where one is committed.
    Full { wait: Option<u64> },
    /// The name is taken by a delivery with another body.
    OtherBody,
}

const fn stripes(capacity: usize) -> usize {
    if capacity < LARGE { 1 } else { STRIPES }
}

const fn shards(capacity: usize) -> usize {
    if capacity < LARGE { SHARDS.1 } else { SHARDS.0 }
}

/// Bytes of a table of `capacity` deliveries when it is full, with an alias for each. Half of the room of the map is for
/// aliases.
pub(super) const fn memory(capacity: usize) -> usize {
    let stripes = stripes(capacity);
    map_room::memory(capacity, shards(capacity), size_of::<(Name, Entry)>())
        + stripes * (Stripe::memory(capacity / stripes) + size_of::<StripeLock>())
}

impl Local {
    pub(super) fn new(capacity: usize, seed: &Seed) -> Self {
        let stripes = stripes(capacity);
        // What does not divide is left out, so that there are never more than `capacity`.
        let line = |_| StripeLock(Mutex::new(Stripe::new(capacity / stripes)));
        Self {
            capacity,
            spread: seed.spread(),
            map: OnceLock::new(),
            stripes: (0..stripes).map(line).collect(),
            has_second_names: AtomicBool::new(false),
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Deliveries, claimed and committed; those that have expired count until they are removed.
    pub(super) fn held(&self) -> usize {
        self.lines().map(|stripe| stripe.deliveries()).sum()
    }

    /// Deliveries that are claimed.
    pub(super) fn claimed(&self) -> usize {
        self.lines().map(|stripe| stripe.claimed()).sum()
    }

    /// The naming keys are of this generation from now on.
    pub(super) fn enter(&self, generation: u64) {
        self.lines().for_each(|mut stripe| stripe.enter(generation));
    }

    /// Whether deliveries are claimed that were named under keys of an earlier generation.
    pub(super) fn has_claims_of_earlier_keys(&self) -> bool {
        self.lines().any(|stripe| stripe.has_claims_of_earlier_keys())
    }

    /// There are no former naming keys any more.
    pub(super) fn shrink(&self) {
        self.lines().for_each(|mut stripe| stripe.shrink());
    }

    /// Claims a delivery: also says whether that was by the name that is made of its id and its body.
    pub(super) fn claim(&self, names: &Names, terms: Terms) -> (bool, ClaimVerdict) {
        if !names.former().is_empty() {
            return (false, self.claim_all(names, terms));
        }
        let taken = self.take(names, (names.own(), Role::Delivery), terms);
        between_steps();
        match taken {
            ClaimVerdict::Claimed { .. } if self.has_second_names.load(Ordering::Relaxed) => {
                // What was put down before this name is seen: its lock was taken in between.
                (false, self.unless_seen(names, names.told_apart_by_body().own(), (terms, taken)))
            }
            ClaimVerdict::OtherBody => (true, self.claim_by_body(names, terms)),
            verdict => (false, verdict),
        }
    }

    /// Claims a delivery by the name that is made of its id and its body: a delivery with another body has the id.
    #[cold]
    fn claim_by_body(&self, names: &Names, terms: Terms) -> ClaimVerdict {
        self.has_second_names.store(true, Ordering::Relaxed);
        let second = names.told_apart_by_body();
        let taken = self.take(&second, (second.own(), Role::Delivery), terms);
        between_steps();
        match taken {
            ClaimVerdict::Claimed { .. } => self.unless_seen(&second, names.own(), (terms, taken)),
            // Another id and another body make the same name: one in 2^120.
            ClaimVerdict::OtherBody => ClaimVerdict::InFlight,
            refused => refused,
        }
    }

    /// A delivery is about to be claimed by a name that may be made of its id and its body.
    pub(super) fn expect_name(&self, names: &Names) {
        if names.own().is_of_id_and_body() {
            self.has_second_names.store(true, Ordering::Relaxed);
        }
    }

    /// Remembers what was claimed, from `now` on.
    pub(super) fn commit(&self, names: &Names, now: u64) {
        roles(names).for_each(|taken| self.commit_one(names, taken, now));
    }

    fn commit_one(&self, names: &Names, (name, role): (Name, Role), now: u64) {
        let mut stripe = self.stripe(name);
        if role == Role::Delivery {
            stripe.settle(names.generation());
        }
        let stamp = stripe.commit(name, role, now);
        if let Some(mut entry) = self.map().get_mut(&name) {
            entry.stamp = stamp;
        }
    }

    /// Remembers another name of a delivery that an earlier process has accepted, as of `begun`. Gives whether there was
    /// room.
    pub(super) fn restore_alias(&self, names: &Names, terms: Terms, begun: u64) -> bool {
        let alias = (names.own(), Role::Alias);
        match self.take(names, alias, terms) {
            ClaimVerdict::Claimed { .. } => self.commit_one(names, alias, begun),
            verdict => return verdict == ClaimVerdict::Duplicate,
        }
        true
    }

    /// Forgets what was claimed.
    pub(super) fn release(&self, names: &Names) {
        roles(names).for_each(|taken| self.give_back(names, taken));
    }

    /// Claims every name of a delivery, or none.
    fn claim_all(&self, names: &Names, terms: Terms) -> ClaimVerdict {
        let mut all = [(names.own(), Role::Delivery); FORMER + 1];
        let mut count = 0;
        for (place, taken) in all.iter_mut().zip(roles(names)) {
            *place = taken;
            count += 1;
        }
        let all = all.get_mut(..count).unwrap_or_default();
        all.sort_unstable_by_key(|(name, _)| *name);
        let mut any_evicted = false;
        for (at, taken) in all.iter().enumerate() {
            between_steps();
            match self.take(names, *taken, terms) {
                ClaimVerdict::Claimed { evicted } => any_evicted |= evicted,
                refused => {
                    all.iter().take(at).for_each(|taken| self.give_back(names, *taken));
                    // Bodies are told apart under ids only, which have no other names.
                    return if refused == ClaimVerdict::OtherBody { ClaimVerdict::InFlight } else { refused };
                }
            }
        }
        ClaimVerdict::Claimed { evicted: any_evicted }
    }

    /// Claims one name.
    fn take(&self, names: &Names, (name, role): (Name, Role), terms: Terms) -> ClaimVerdict {
        let map = self.map();
        let claimed = Entry { stamp: Stamp::claimed(role), body: names.body() };
        let expired = match map.entry(name) {
            Place::Occupied(mut place) => match seen(*place.get(), names.body(), terms) {
                Some(verdict) => return verdict,
                None => Some(place.insert(claimed).stamp),
            },
            Place::Vacant(place) => {
                place.insert(claimed);
                None
            }
        };
        // The lock of the map is free again.
        between_steps();
        let mut stripe = self.stripe(name);
        expired.into_iter().for_each(|stamp| stripe.void(map, stamp, terms));
        let counted = match expired.map(Stamp::role) {
            Some(before) if before == role => Ok(false),
            before => {
                before.into_iter().for_each(|before| stripe.discount(before));
                stripe.count(map, role, terms)
            }
        };
        let evicted = match counted {
            Ok(evicted) => evicted,
            Err(wait) => {
                map.remove(&name);
                return ClaimVerdict::Full { wait };
            }
        };
        if role == Role::Delivery {
            stripe.claim(names.generation());
        }
        ClaimVerdict::Claimed { evicted }
    }

    /// Withdraws a claim of one name if the same delivery stands under the other one.
    fn unless_seen(&self, taken: &Names, other: Name, (terms, verdict): (Terms, ClaimVerdict)) -> ClaimVerdict {
        let entry = self.map().view(&other, |_, entry| *entry).filter(|entry| entry.body == taken.body());
        match entry.and_then(|entry| seen(entry, taken.body(), terms)) {
            Some(seen) => {
                between_steps();
                self.release(taken);
                seen
            }
            None => verdict,
        }
    }

    /// Forgets one name that was claimed.
    fn give_back(&self, names: &Names, (name, role): (Name, Role)) {
        let mut stripe = self.stripe(name);
        self.map().remove(&name);
        stripe.discount(role);
        if role == Role::Delivery {
            stripe.settle(names.generation());
        }
    }

    fn map(&self) -> &Map {
        self.map.get_or_init(|| {
            Map::with_capacity_and_hasher_and_shard_amount(
                map_room::room(self.capacity, shards(self.capacity)),
                self.spread.clone(),
                shards(self.capacity),
            )
        })
    }

    fn stripe(&self, name: Name) -> MutexGuard<'_, Stripe> {
        let at = if self.stripes.len() == 1 {
            0
        } else {
            // The upper bits: the lower ones choose the place in a shard, and some in between the shard.
            (self.spread.hash_one(name) >> 57) as usize % self.stripes.len()
        };
        lock(&self.stripes[at])
    }

    fn lines(&self) -> impl Iterator<Item = MutexGuard<'_, Stripe>> {
        self.stripes.iter().map(lock)
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        let mut of_stripes = vec![Vec::new(); self.stripes.len()];
        for entry in self.map() {
            let at = (self.spread.hash_one(entry.key()) >> 57) as usize % self.stripes.len();
            of_stripes[at].push((*entry.key(), *entry.value()));
        }
        self.lines().zip(of_stripes).for_each(|(stripe, entries)| stripe.assert_consistent(&entries));
        // It has not grown.
        let shards = shards(self.capacity);
        assert!(
            self.map().capacity() <= shards * map_room::places(map_room::room(self.capacity, shards) / shards) / 8 * 7
        );
    }
}

/// Where other threads may be in between, no lock is held: tests let others claim here.
#[cfg(not(test))]
const fn between_steps() {}

#[cfg(test)]
use super::interleaving_tests::between_steps;

/// What an entry says to a claim with this body; `None` if it has expired.
fn seen(entry: Entry, body: u64, terms: Terms) -> Option<ClaimVerdict> {
    if !entry.stamp.is_claimed() && terms.expired(entry.stamp) {
        None
    } else if entry.body != body {
        Some(ClaimVerdict::OtherBody)
    } else if entry.stamp.is_claimed() {
        Some(ClaimVerdict::InFlight)
    } else {
        Some(ClaimVerdict::Duplicate)
    }
}

/// The names of a delivery, and as what they are counted.
fn roles(names: &Names) -> impl Iterator<Item = (Name, Role)> {
    let former = names.former().iter().map(|name| (*name, Role::Alias));
    core::iter::once((names.own(), Role::Delivery)).chain(former)
}

fn lock(line: &StripeLock) -> MutexGuard<'_, Stripe> {
    // What is done under the lock does not panic; if it did, the accounts would be no worse for it than the process.
    line.0.lock().unwrap_or_else(PoisonError::into_inner)
}
