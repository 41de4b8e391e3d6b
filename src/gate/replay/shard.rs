//! One part of a table: slots, an index to find them by, and a list of what has been committed from the oldest on.
//!
//! Positions of slots come from the index and the list themselves, never from a stranger's bytes: indexing with them
//! cannot miss.

use core::time::Duration;

use super::index::Index;

/// What identifies a delivery: a digest of signed content.
pub(super) type Key = [u8; 32];

/// No slot.
const NONE: u32 = u32::MAX;

/// Entries that a claim removes at most because they have expired.
const REMOVED_PER_CLAIM: usize = 2;

/// Entries live this much longer than they must: the wall clock, by which a sender's timestamp is judged, is read in
/// milliseconds and may be slewed against the monotonic clock, by which entries expire.
pub(super) const MARGIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Neither in the index nor in the list.
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
    /// Of the key.
    hash: u32,
    /// Neighbours in the list of committed slots. Of a free slot, `younger` is the next free one.
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
    /// No slot; the milliseconds until an entry expires, where one is committed.
    Full { wait: Option<u64> },
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

/// At most `capacity` entries. What changes with every claim is kept together, in one line of the cache with the lock:
/// when another core was here before, that line must be fetched from it, and no more than that.
#[derive(Debug)]
pub(super) struct Shard {
    memory: Box<Memory>,
    /// The latest era that has been seen here, and how many claims of it and of earlier ones are in flight.
    era: u64,
    claimed: u32,
    claimed_before: u32,
    capacity: u32,
    held: u32,
    free: u32,
    oldest: u32,
    youngest: u32,
}

/// Where the entries are: does not change itself once as many slots have been used as there may be.
#[derive(Debug)]
#[repr(align(64))]
struct Memory {
    /// Never more than the capacity, reserved at once.
    slots: Vec<Slot>,
    index: Index,
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            memory: Box::new(Memory { slots: Vec::new(), index: Index::absent() }),
            era: 0,
            claimed: 0,
            claimed_before: 0,
            capacity: u32::try_from(capacity).unwrap_or(NONE),
            held: 0,
            free: NONE,
            oldest: NONE,
            youngest: NONE,
        }
    }

    /// Bytes of a shard that is full.
    pub(super) const fn memory(capacity: usize) -> usize {
        size_of::<Memory>() + capacity * size_of::<Slot>() + Index::memory(capacity)
    }

    /// Entries, claimed and committed.
    pub(super) const fn held(&self) -> usize {
        self.held as usize
    }

    /// Entries that are with the application.
    pub(super) const fn claimed(&self) -> usize {
        (self.claimed + self.claimed_before) as usize
    }

    /// Whether claims of an era before this one are in flight. There will be no more of them.
    pub(super) fn has_claims_before(&mut self, era: u64) -> bool {
        self.enter(era);
        self.claimed_before > 0
    }

    /// Claims a key, which has this hash.
    pub(super) fn claim(&mut self, key: &Key, hash: u32, terms: Terms) -> Verdict {
        if !self.enter(terms.era) {
            return Verdict::Outdated;
        }
        if self.memory.index.is_absent() {
            self.memory.index = Index::new(self.capacity as usize);
            self.memory.slots.reserve_exact(self.capacity as usize);
        }
        if let Some(found) = self.find(key, hash) {
            let slot = &self.memory.slots[found as usize];
            return match slot.state {
                State::Committed if terms.expired(slot) => {
                    self.leave_list(found);
                    let slot = &mut self.memory.slots[found as usize];
                    (slot.state, slot.committed_at) = (State::Claimed, terms.era);
                    self.claimed += 1;
                    Verdict::Claimed { slot: found, evicted: false }
                }
                State::Committed => Verdict::Duplicate,
                State::Claimed | State::Free => Verdict::InFlight,
            };
        }
        for _ in 0..REMOVED_PER_CLAIM {
            if self.oldest == NONE || !terms.expired(&self.memory.slots[self.oldest as usize]) {
                break;
            }
            self.forget_oldest();
        }
        let full = self.held >= self.capacity;
        if full && terms.evict && self.oldest != NONE {
            self.forget_oldest();
        }
        match self.insert(key, hash, terms.era) {
            Some(slot) => Verdict::Claimed { slot, evicted: full },
            None => {
                let oldest = self.memory.slots.get(self.oldest as usize);
                Verdict::Full { wait: oldest.map(|oldest| terms.left(oldest)) }
            }
        }
    }

    /// What is known of a key, if anything is. There will be no claim of an earlier era that it could miss.
    pub(super) fn look(&mut self, key: &Key, hash: u32, terms: Terms) -> Option<Verdict> {
        if !self.enter(terms.era) {
            return Some(Verdict::Outdated);
        }
        let slot = &self.memory.slots[self.find(key, hash)? as usize];
        match slot.state {
            State::Committed if terms.expired(slot) => None,
            State::Committed => Some(Verdict::Duplicate),
            State::Claimed | State::Free => Some(Verdict::InFlight),
        }
    }

    /// Remembers a claimed slot from `now` on.
    pub(super) fn commit(&mut self, position: u32, now: u64) {
        let older = self.youngest;
        self.discount(position);
        let slot = &mut self.memory.slots[position as usize];
        slot.state = State::Committed;
        slot.committed_at = now;
        (slot.older, slot.younger) = (older, NONE);
        match older {
            NONE => self.oldest = position,
            older => self.memory.slots[older as usize].younger = position,
        }
        self.youngest = position;
    }

    /// Forgets a claimed slot.
    pub(super) fn release(&mut self, position: u32) {
        self.discount(position);
        self.remove(position);
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
        let Slot { state, committed_at: era, .. } = self.memory.slots[position as usize];
        debug_assert_eq!(state, State::Claimed);
        *(if era == self.era { &mut self.claimed } else { &mut self.claimed_before }) -= 1;
    }

    fn find(&self, key: &Key, hash: u32) -> Option<u32> {
        self.memory.index.find(hash, |position| self.memory.slots[position as usize].key == *key)
    }

    fn insert(&mut self, key: &Key, hash: u32, era: u64) -> Option<u32> {
        if self.held >= self.capacity {
            return None;
        }
        let state = State::Claimed;
        let slot = Slot { key: *key, committed_at: era, hash, older: NONE, younger: NONE, state };
        let position = self.free;
        let position = if position == NONE {
            self.memory.slots.push(slot);
            u32::try_from(self.memory.slots.len() - 1).ok()?
        } else {
            self.free = self.memory.slots[position as usize].younger;
            self.memory.slots[position as usize] = slot;
            position
        };
        self.memory.index.insert(hash, position);
        self.held += 1;
        self.claimed += 1;
        Some(position)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.oldest;
        self.leave_list(oldest);
        self.remove(oldest);
    }

    /// Takes a committed slot out of the list.
    fn leave_list(&mut self, position: u32) {
        let Slot { older, younger, .. } = self.memory.slots[position as usize];
        // Nobody asks who is older than the oldest: its slot need not be written, which is a line of the cache less.
        if position == self.oldest {
            self.oldest = younger;
        } else {
            self.memory.slots[older as usize].younger = younger;
            if younger != NONE {
                self.memory.slots[younger as usize].older = older;
            }
        }
        if position == self.youngest {
            self.youngest = if self.oldest == NONE { NONE } else { older };
        }
    }

    /// Frees a slot that is in no list.
    fn remove(&mut self, position: u32) {
        let slot = &mut self.memory.slots[position as usize];
        self.memory.index.remove(slot.hash, position);
        (slot.state, slot.younger) = (State::Free, self.free);
        self.free = position;
        self.held -= 1;
    }

    /// That index, lists and counts agree.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self, hash: impl Fn(&Key) -> u32) {
        let count = |state| self.memory.slots.iter().filter(|slot| slot.state == state).count();
        let (claimed, committed) = (count(State::Claimed), count(State::Committed));
        assert!(self.memory.slots.capacity() <= self.capacity as usize);
        assert_eq!((self.held(), self.claimed()), (claimed + committed, claimed));
        for slot in self.memory.slots.iter().filter(|slot| slot.state != State::Free) {
            assert_eq!(slot.hash, hash(&slot.key));
            let found = self.find(&slot.key, slot.hash).map(|position| self.memory.slots[position as usize].key);
            assert_eq!(found, Some(slot.key));
        }
        let mut free = 0;
        let mut next = self.free;
        while next != NONE {
            assert_eq!(self.memory.slots[next as usize].state, State::Free);
            (free, next) = (free + 1, self.memory.slots[next as usize].younger);
        }
        assert_eq!(free, count(State::Free));
        let (mut listed, mut before, mut next) = (0, NONE, self.oldest);
        while next != NONE {
            let slot = &self.memory.slots[next as usize];
            assert_eq!(slot.state, State::Committed);
            assert!(before == NONE || slot.older == before);
            (listed, before, next) = (listed + 1, next, slot.younger);
        }
        assert_eq!((listed, before), (committed, self.youngest));
    }
}

impl Terms {
    fn expired(self, slot: &Slot) -> bool {
        self.left(slot) == 0
    }

    /// The milliseconds until a committed slot expires.
    const fn left(self, slot: &Slot) -> u64 {
        self.lifetime.saturating_sub(self.now.saturating_sub(slot.committed_at))
    }
}
