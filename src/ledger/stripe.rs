//! One part of a table's accounts: how many names of it there are, and in which order they were committed.
//!
//! The entries themselves are in the map. The order may lag behind it for a moment: an item says which commit it stands
//! for, and stands for nothing when its entry has been claimed anew since. **Order of locks**: the accounts may be locked while the map is
//! asked for an entry, never the other way round, and never those of two stripes.

use core::time::Duration;
use std::collections::VecDeque;

use dashmap::DashMap;
use foldhash::quality::SeedableRandomState;

use crate::gate::verify::Name;

/// The entries of a table.
pub(super) type Map = DashMap<Name, Entry, SeedableRandomState>;

/// Entries that a claim removes at most because they have expired.
const REMOVED_PER_CLAIM: usize = 2;

/// Items of the order that a claim looks at for that: more, because some stand for nothing.
const LOOKED_AT_PER_CLAIM: usize = 32;

/// Entries live this much longer than they must: the wall clock, by which a sender's timestamp is judged, is read in
/// milliseconds and may be slewed against the monotonic clock, by which entries expire.
pub const MARGIN: Duration = Duration::from_secs(1);

/// What a table holds under a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    /// The hash of the body, where only that tells two deliveries of one name apart.
    pub(super) body: u64,
}

/// Whether a name is claimed, or which commit it is of and when that was, and as which role it is counted: in one word,
/// because there are hundreds of thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

/// As what a name is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// As a delivery.
    Delivery,
    /// As another name of one.
    Alias,
}

/// The moment of a claim and what its route says; in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) now: u64,
    pub(super) lifetime: u64,
    pub(super) evict: bool,
}

impl Stamp {
    const ALIAS: u64 = 1 << 63;
    /// No commit.
    const CLAIMED: u64 = Self::ALIAS - 1;
    /// Bits of the number of a commit: more than there are items in the order of a stripe.
    const NUMBER: u32 = 22;

    const NUMBERS: u64 = (1 << Self::NUMBER) - 1;

    pub(super) const fn claimed(role: Role) -> Self {
        match role {
            Role::Delivery => Self(Self::CLAIMED),
            Role::Alias => Self(Self::CLAIMED | Self::ALIAS),
        }
    }

    fn committed(role: Role, millis: u64, number: u64) -> Self {
        let Self(claimed) = Self::claimed(role);
        // Of 41 bits, which are 69 years, the last value is left out: it would be that of a claim.
        let millis = millis.min((Self::CLAIMED >> Self::NUMBER) - 1);
        Self((claimed & Self::ALIAS) | millis << Self::NUMBER | number & Self::NUMBERS)
    }

    /// How many commits came between an earlier one and this.
    const fn commits_since(self, earlier: Self) -> usize {
        (self.0.wrapping_sub(earlier.0) & Self::NUMBERS) as usize
    }

    pub(super) const fn is_claimed(self) -> bool {
        self.0 & Self::CLAIMED == Self::CLAIMED
    }

    pub(super) const fn role(self) -> Role {
        if self.0 & Self::ALIAS == 0 { Role::Delivery } else { Role::Alias }
    }

    /// When it was committed.
    const fn millis(self) -> u64 {
        (self.0 & Self::CLAIMED) >> Self::NUMBER
    }
}

impl Terms {
    /// Whether a commit is not remembered any more.
    pub(super) const fn expired(self, stamp: Stamp) -> bool {
        self.left(stamp) == 0
    }

    /// The milliseconds until a commit expires.
    const fn left(self, stamp: Stamp) -> u64 {
        self.lifetime.saturating_sub(self.now.saturating_sub(stamp.millis()))
    }
}

#[derive(Clone, Copy, Debug)]
struct Item {
    name: Name,
    stamp: Stamp,
}

/// The accounts of a part of a table: at most `capacity` deliveries, and as many aliases of them.
#[derive(Debug)]
pub(super) struct Stripe {
    capacity: u32,
    deliveries: u32,
    aliases: u32,
    /// How many deliveries are claimed under the present naming keys, and under earlier ones.
    claimed: u32,
    claimed_before: u32,
    /// That of the present naming keys.
    generation: u64,
    commits: u64,
    /// What has been committed, from the oldest on.
    order: VecDeque<Item>,
}

impl Stripe {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity: if capacity > u32::MAX as usize { u32::MAX } else { capacity as u32 },
            deliveries: 0,
            aliases: 0,
            claimed: 0,
            claimed_before: 0,
            generation: 0,
            commits: 0,
            order: VecDeque::new(),
        }
    }

    /// Items that there is room for without aliases: some more than deliveries, because of those that stand for nothing.
    const fn items(capacity: usize) -> usize {
        capacity + capacity / 8 + 64
    }

    /// Bytes of the accounts of `capacity` deliveries with an alias each.
    pub(super) const fn memory(capacity: usize) -> usize {
        (Self::items(capacity) + capacity) * size_of::<Item>()
    }

    pub(super) const fn deliveries(&self) -> usize {
        self.deliveries as usize
    }

    pub(super) const fn claimed(&self) -> usize {
        (self.claimed + self.claimed_before) as usize
    }

    /// Whether deliveries are claimed that were named under keys of an earlier generation.
    pub(super) const fn has_claims_of_earlier_keys(&self) -> bool {
        self.claimed_before > 0
    }

    /// The naming keys are of this generation from now on.
    pub(super) fn enter(&mut self, generation: u64) {
        if generation > self.generation {
            self.claimed_before += std::mem::take(&mut self.claimed);
            self.generation = generation;
        }
    }

    /// Counts a name that has been put into the map, or says in how many milliseconds there is room for it, where that is
    /// known. `true` if another one was forgotten early for it.
    pub(super) fn count(&mut self, map: &Map, role: Role, terms: Terms) -> Result<bool, Option<u64>> {
        self.forget_expired(map, terms);
        let full = self.is_full(role);
        if full && terms.evict {
            while self.is_full(role) && self.forget_oldest(map).is_some() {}
        }
        if self.is_full(role) {
            return Err(self.wait(map, terms));
        }
        *self.counter(role) += 1;
        Ok(full)
    }

    /// The entry of a commit that had expired has been claimed anew: the item of that commit stands for nothing any more.
    pub(super) fn void(&mut self, map: &Map, stamp: Stamp, terms: Terms) {
        let Some(front) = self.numbered_front() else { return };
        match self.order.get_mut(stamp.commits_since(front)) {
            Some(item) if item.stamp == stamp => item.stamp = Stamp::claimed(stamp.role()),
            // It has been removed in the meantime.
            _ => {}
        }
        if self.order.len() > Self::items(self.capacity as usize) + self.aliases as usize {
            // It is older than some that have been claimed anew, so it has expired.
            self.forget_expired(map, terms);
        }
    }

    /// A name is not counted as this any more.
    pub(super) fn discount(&mut self, role: Role) {
        let counter = self.counter(role);
        *counter = counter.saturating_sub(1);
    }

    /// A delivery is claimed that was named under keys of this generation.
    pub(super) fn claim(&mut self, generation: u64) {
        *self.claims(generation) += 1;
    }

    /// It is not any more.
    pub(super) fn settle(&mut self, generation: u64) {
        *self.claims(generation) -= 1;
    }

    /// A name is remembered from `now` on: gives what its entry is stamped with.
    pub(super) fn commit(&mut self, name: Name, role: Role, now: u64) -> Stamp {
        self.commits += 1;
        let stamp = Stamp::committed(role, now, self.commits);
        if self.order.len() == self.order.capacity() {
            let capacity = self.capacity as usize;
            let wanted = Self::items(capacity) + if self.aliases > 0 { capacity } else { 0 };
            self.order.reserve_exact(wanted.saturating_sub(self.order.len()).max(64));
        }
        self.order.push_back(Item { name, stamp });
        stamp
    }

    /// Gives back what the aliases took, when there are none any more.
    pub(super) fn shrink(&mut self) {
        let items = Self::items(self.capacity as usize);
        if self.aliases == 0 && self.order.capacity() > items {
            self.order.shrink_to(items);
        }
    }

    fn is_full(&mut self, role: Role) -> bool {
        *self.counter(role) >= self.capacity
    }

    const fn counter(&mut self, role: Role) -> &mut u32 {
        match role {
            Role::Delivery => &mut self.deliveries,
            Role::Alias => &mut self.aliases,
        }
    }

    const fn claims(&mut self, generation: u64) -> &mut u32 {
        if generation == self.generation { &mut self.claimed } else { &mut self.claimed_before }
    }

    /// The stamp that the first item has, or had.
    fn numbered_front(&self) -> Option<Stamp> {
        let number = self.commits.wrapping_sub(self.order.len() as u64).wrapping_add(1);
        (!self.order.is_empty()).then(|| Stamp::committed(Role::Delivery, 0, number))
    }

    fn forget_expired(&mut self, map: &Map, terms: Terms) {
        let mut removed = 0;
        for _ in 0..LOOKED_AT_PER_CLAIM {
            match self.order.front() {
                Some(item) if item.stamp.is_claimed() => _ = self.order.pop_front(),
                Some(item) if removed < REMOVED_PER_CLAIM && terms.expired(item.stamp) => {
                    removed += usize::from(self.forget_front(map).is_some());
                }
                _ => break,
            }
        }
    }

    /// Forgets the oldest name that is remembered; `None` where none is.
    fn forget_oldest(&mut self, map: &Map) -> Option<Role> {
        while !self.order.is_empty() {
            if let Some(role) = self.forget_front(map) {
                return Some(role);
            }
        }
        None
    }

    /// Forgets what the first item stands for; `None` if that is nothing.
    fn forget_front(&mut self, map: &Map) -> Option<Role> {
        let item = self.order.pop_front()?;
        if item.stamp.is_claimed() {
            return None;
        }
        map.remove_if(&item.name, |_, entry| entry.stamp == item.stamp)?;
        self.discount(item.stamp.role());
        Some(item.stamp.role())
    }

    /// The milliseconds until an entry expires, where one is committed.
    fn wait(&mut self, map: &Map, terms: Terms) -> Option<u64> {
        while let Some(item) = self.order.front().copied() {
            let stands = |_: &Name, entry: &Entry| entry.stamp == item.stamp;
            if !item.stamp.is_claimed() && map.view(&item.name, stands) == Some(true) {
                return Some(terms.left(item.stamp));
            }
            self.order.pop_front();
        }
        None
    }

    /// That the accounts agree with the entries that are theirs.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self, entries: &[(Name, Entry)]) {
        let count = |role, claimed: bool| {
            entries.iter().filter(|(_, it)| it.stamp.role() == role && (!claimed || it.stamp.is_claimed())).count()
        };
        assert_eq!(self.deliveries(), count(Role::Delivery, false));
        assert_eq!(self.aliases as usize, count(Role::Alias, false));
        assert_eq!(self.claimed(), count(Role::Delivery, true));
        assert!(self.order.len() <= Self::items(self.capacity as usize) + self.aliases as usize + 1);
        let stands_for = |item: &&Item| {
            !item.stamp.is_claimed() && entries.iter().any(|(name, it)| *name == item.name && it.stamp == item.stamp)
        };
        let committed = entries.iter().filter(|(_, it)| !it.stamp.is_claimed()).count();
        if entries.len() < 1000 {
            assert_eq!(self.order.iter().filter(stands_for).count(), committed);
        }
    }
}
