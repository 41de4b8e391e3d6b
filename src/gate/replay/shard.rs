//! One part of a table: slots, chains to find them by, and a list of what has been committed from the oldest on.
//!
//! Positions of slots come from the chains and lists themselves, never from a stranger's bytes: indexing with them
//! cannot miss.

use core::time::Duration;

/// What identifies a delivery: a digest of signed content.
pub(super) type Key = [u8; 32];

/// No slot.
const NONE: u32 = u32::MAX;

/// Chains for each slot: with so many of them most are empty or have one slot, and a claim seldom looks at the slot of
/// another delivery, which is a miss in the cache.
const CHAINS_PER_SLOT: usize = 4;

/// Entries that a claim removes at most because they have expired.
const REMOVED_PER_CLAIM: usize = 2;

/// Entries live this much longer than they must: the wall clock, by which a sender's timestamp is judged, is read in
/// milliseconds and may be slewed against the monotonic clock, by which entries expire.
pub(super) const MARGIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In no chain and no list.
    Free,
    /// With the application.
    Claimed,
    /// Accepted by it.
    Committed,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    /// Monotonic milliseconds; the era of its claim before that.
    committed_at: u64,
    /// The next slot of the same bucket, or of the free ones.
    next: u32,
    /// Neighbours in the list of committed slots.
    older: u32,
    younger: u32,
    state: State,
}

/// What a shard says to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The slot is yours until you commit or release it. Another entry may have been forgotten early for it.
    Claimed { slot: u32, evicted: bool },
    /// Committed, and not expired.
    Duplicate,
    /// Claimed by somebody else.
    InFlight,
    /// No slot.
    Full,
    /// The era of the claim has passed.
    Outdated,
}

/// The moment of a claim and what its route says; in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) now: u64,
    pub(super) lifetime: u64,
    pub(super) evict: bool,
    /// How often the key by which deliveries are told apart has been exchanged.
    pub(super) era: u64,
}

/// At most `capacity` entries.
#[derive(Debug)]
pub(super) struct Shard {
    capacity: usize,
    /// Never more than `capacity`, reserved at once.
    slots: Vec<Slot>,
    /// The first slot of each chain, plus one: zeroed memory is an empty table, and costs nothing until it is used.
    buckets: Vec<u32>,
    free: u32,
    oldest: u32,
    youngest: u32,
    held: usize,
    /// The latest era that has been seen here, and how many claims of it and of earlier ones are in flight.
    era: u64,
    claimed: usize,
    claimed_before: usize,
}

impl Shard {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            slots: Vec::new(),
            buckets: Vec::new(),
            free: NONE,
            oldest: NONE,
            youngest: NONE,
            held: 0,
            era: 0,
            claimed: 0,
            claimed_before: 0,
        }
    }

    /// Bytes of a shard that is full.
    pub(super) const fn memory(capacity: usize) -> usize {
        capacity * size_of::<Slot>() + chains(capacity) * size_of::<u32>()
    }

    /// Entries, claimed and committed.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Entries that are with the application.
    pub(super) const fn claimed(&self) -> usize {
        self.claimed + self.claimed_before
    }

    /// Whether claims of an era before this one are in flight. There will be no more of them.
    pub(super) fn has_claims_before(&mut self, era: u64) -> bool {
        self.enter(era);
        self.claimed_before > 0
    }

    pub(super) fn claim(&mut self, key: &Key, hash: impl Fn(&Key) -> u32, terms: Terms) -> Verdict {
        if !self.enter(terms.era) {
            return Verdict::Outdated;
        }
        if self.buckets.is_empty() {
            self.buckets = vec![0; chains(self.capacity)];
            self.slots.reserve_exact(self.capacity);
        }
        if let Some(found) = self.find(key, hash(key)) {
            let slot = self.slots[found as usize];
            return match slot.state {
                State::Committed if terms.expired(&slot) => {
                    self.leave_list(found);
                    let slot = &mut self.slots[found as usize];
                    (slot.state, slot.committed_at) = (State::Claimed, terms.era);
                    self.claimed += 1;
                    Verdict::Claimed { slot: found, evicted: false }
                }
                State::Committed => Verdict::Duplicate,
                State::Claimed | State::Free => Verdict::InFlight,
            };
        }
        for _ in 0..REMOVED_PER_CLAIM {
            if self.oldest == NONE || !terms.expired(&self.slots[self.oldest as usize]) {
                break;
            }
            self.forget_oldest(&hash);
        }
        let full = self.held >= self.capacity;
        if full && terms.evict && self.oldest != NONE {
            self.forget_oldest(&hash);
        }
        match self.insert(key, hash(key), terms.era) {
            Some(slot) => Verdict::Claimed { slot, evicted: full },
            None => Verdict::Full,
        }
    }

    /// What is known of a key, if anything is. There will be no claim of an earlier era that it could miss.
    pub(super) fn look(&mut self, key: &Key, hash: impl Fn(&Key) -> u32, terms: Terms) -> Option<Verdict> {
        if !self.enter(terms.era) {
            return Some(Verdict::Outdated);
        }
        if self.buckets.is_empty() {
            return None;
        }
        let slot = self.slots[self.find(key, hash(key))? as usize];
        match slot.state {
            State::Committed if terms.expired(&slot) => None,
            State::Committed => Some(Verdict::Duplicate),
            State::Claimed | State::Free => Some(Verdict::InFlight),
        }
    }

    /// Remembers a claimed slot from `now` on.
    pub(super) fn commit(&mut self, position: u32, now: u64) {
        let older = self.youngest;
        self.discount(position);
        let slot = &mut self.slots[position as usize];
        slot.state = State::Committed;
        slot.committed_at = now;
        (slot.older, slot.younger) = (older, NONE);
        match older {
            NONE => self.oldest = position,
            older => self.slots[older as usize].younger = position,
        }
        self.youngest = position;
    }

    /// Forgets a claimed slot.
    pub(super) fn release(&mut self, position: u32, hash: impl Fn(&Key) -> u32) {
        self.discount(position);
        self.remove(position, hash);
    }

    /// Whether it is not too late for this era.
    fn enter(&mut self, era: u64) -> bool {
        if era > self.era {
            self.claimed_before += std::mem::take(&mut self.claimed);
            self.era = era;
        }
        era == self.era
    }

    /// One claim less.
    fn discount(&mut self, position: u32) {
        let Slot { state, committed_at: era, .. } = self.slots[position as usize];
        debug_assert_eq!(state, State::Claimed);
        *(if era == self.era { &mut self.claimed } else { &mut self.claimed_before }) -= 1;
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// The slots of a chain, from the one that came last.
    fn chain(&self, hash: u32) -> impl Iterator<Item = u32> {
        let mut next = self.buckets[self.bucket(hash)].wrapping_sub(1);
        core::iter::from_fn(move || {
            let position = next;
            next = self.slots.get(position as usize)?.next;
            Some(position)
        })
    }

    fn find(&self, key: &Key, hash: u32) -> Option<u32> {
        self.chain(hash).find(|position| self.slots[*position as usize].key == *key)
    }

    fn insert(&mut self, key: &Key, hash: u32, era: u64) -> Option<u32> {
        if self.held >= self.capacity {
            return None;
        }
        let bucket = self.bucket(hash);
        let next = self.buckets[bucket].wrapping_sub(1);
        let state = State::Claimed;
        let slot = Slot { key: *key, committed_at: era, next, older: NONE, younger: NONE, state };
        let position = self.free;
        let position = if position == NONE {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).ok()?
        } else {
            self.free = self.slots[position as usize].next;
            self.slots[position as usize] = slot;
            position
        };
        self.buckets[bucket] = position + 1;
        self.held += 1;
        self.claimed += 1;
        Some(position)
    }

    fn forget_oldest(&mut self, hash: impl Fn(&Key) -> u32) {
        let oldest = self.oldest;
        self.leave_list(oldest);
        self.remove(oldest, hash);
    }

    /// Takes a committed slot out of the list.
    fn leave_list(&mut self, position: u32) {
        let Slot { older, younger, .. } = self.slots[position as usize];
        match older {
            NONE => self.oldest = younger,
            older => self.slots[older as usize].younger = younger,
        }
        match younger {
            NONE => self.youngest = older,
            younger => self.slots[younger as usize].older = older,
        }
    }

    /// Takes a slot that is in no list out of its chain.
    fn remove(&mut self, position: u32, hash: impl Fn(&Key) -> u32) {
        let Slot { key, next, .. } = self.slots[position as usize];
        let hash = hash(&key);
        let before = self.chain(hash).find(|before| self.slots[*before as usize].next == position);
        match before {
            Some(before) => self.slots[before as usize].next = next,
            None => {
                let bucket = self.bucket(hash);
                self.buckets[bucket] = next.wrapping_add(1);
            }
        }
        let free = self.free;
        let slot = &mut self.slots[position as usize];
        (slot.state, slot.next) = (State::Free, free);
        self.free = position;
        self.held -= 1;
    }

    /// That chains, lists and counts agree.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self, hash: impl Fn(&Key) -> u32) {
        let count = |state| self.slots.iter().filter(|slot| slot.state == state).count();
        let (claimed, committed) = (count(State::Claimed), count(State::Committed));
        assert!(self.slots.len() <= self.capacity && self.slots.capacity() <= self.capacity);
        assert_eq!((self.held, self.claimed()), (claimed + committed, claimed));
        for slot in self.slots.iter().filter(|slot| slot.state != State::Free) {
            let found = self.find(&slot.key, hash(&slot.key)).map(|position| self.slots[position as usize].key);
            assert_eq!(found, Some(slot.key));
        }
        let mut free = 0;
        let mut next = self.free;
        while next != NONE {
            assert_eq!(self.slots[next as usize].state, State::Free);
            (free, next) = (free + 1, self.slots[next as usize].next);
        }
        assert_eq!(free, count(State::Free));
        let (mut listed, mut before, mut next) = (0, NONE, self.oldest);
        while next != NONE {
            let slot = &self.slots[next as usize];
            assert_eq!((slot.state, slot.older), (State::Committed, before));
            (listed, before, next) = (listed + 1, next, slot.younger);
        }
        assert_eq!((listed, before), (committed, self.youngest));
    }
}

const fn chains(capacity: usize) -> usize {
    capacity.next_power_of_two() * CHAINS_PER_SLOT
}

impl Terms {
    fn expired(self, slot: &Slot) -> bool {
        self.now.saturating_sub(slot.committed_at) >= self.lifetime
    }
}
