//! A token bucket and a count of connections for each client, in a table of fixed size.
//!
//! **Bounded, and nothing that was spent is forgotten.** Only an idle client is forgotten: one without connections whose
//! bucket is full, for which a new entry would be the same. So no client gets tokens back, or loses them, because others
//! come and go, however many addresses an attacker cycles through. If there is no room for a new client, it shares one
//! bucket with all others for which there is no room, and their connections are counted for the process alone; clients
//! that are in the table keep what they have.
//!
//! **Where it is kept.** The entries are in a concurrent map (`dashmap`), which never grows ([`map_room`]). Beside it there
//! is a register for each part of the clients: which clients of the part are in the map. Only a client that is not in the
//! map needs the register: it is searched for an idle client a few steps at a time, so each new client costs the same
//! small amount, and there is no sweep. The hash has a secret seed, so that cores rarely meet at a lock and attackers
//! cannot choose addresses that fall together.
//!
//! **Locks.** A register may be locked while the map is asked for an entry, never the other way round. No entry is held
//! across a call into the map or a wait: dashmap would deadlock.

use core::hash::BuildHasher as _;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::hash::RandomState;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dashmap::DashMap;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::gate::admission::token_bucket::{AtomicMeasure, Empty, Measure, Rate, TokenBucket, nanoseconds};
pub use crate::gate::client_key::ClientKey;
use crate::gate::map_room;

/// Where a token or a connection was counted, and must be given back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lender {
    /// The client's own entry.
    Own,
    /// What the clients share for which there is no room.
    Shared,
}

/// How many connections a client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As many as `connections_per_client` says.
    Usual,
    /// An eighth more, at least `SPARE`, for a moment: another one of the client ends for it
    /// ([`super::live::Admission::sheds`]).
    Beyond,
}

/// As many may come before one of those that are there has been looked at: what a worker accepts in a round.
const SPARE: u32 = 32;

impl Allowance {
    pub(super) fn of(self, usual: u32) -> u32 {
        match self {
            Self::Usual => usual,
            Self::Beyond => usual.saturating_add((usual / 8).max(SPARE)),
        }
    }
}

/// The client has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The table.
#[derive(Debug)]
pub struct KeyedBuckets {
    spread: SeedableRandomState,
    map: DashMap<ClientKey, ClientEntry, SeedableRandomState>,
    parts: Box<[ClientPart]>,
    rates: Rates,
    rest: Mutex<Rest>,
}

/// What the clients share for which there is no room.
#[derive(Debug)]
struct Rest {
    bucket: TokenBucket,
    measure: Measure,
}

/// How many clients a part has room for, about.
const PART_SIZE: usize = 1024;

/// The most parts: more than cores.
const PART_LIMIT: usize = 256;

/// The fewest shards of the map.
const FEWEST_SHARDS: usize = 4;

/// Clients that are looked at to make room for a new one.
const SEARCH: usize = 16;

/// A client that was not idle is not looked at again until its bucket can be full, but after this time in any case: its
/// tokens may have been given back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is known of one client: 24 bytes.
#[derive(Clone, Copy, Debug)]
struct ClientEntry {
    bucket: TokenBucket,
    connections: u32,
    /// By which rate the bucket is kept.
    rate: u32,
}

/// A part of the clients, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct ClientPart {
    /// The latest time that was told, in nanoseconds. A clock that goes backwards must not make a difference between a
    /// bucket that was full and one that was forgotten.
    latest: AtomicU64,
    register: Mutex<Register>,
}

/// Which clients of a part are in the map.
#[derive(Debug)]
struct Register {
    /// Reserved at the start; memory is touched as clients come.
    clients: Vec<ClientSlot>,
    capacity: usize,
    /// Where the next search for an idle client begins.
    hand: usize,
}

/// A client that is in the map.
#[derive(Clone, Copy, Debug)]
struct ClientSlot {
    client: ClientKey,
    /// Until when there is no use in looking whether it is idle, in nanoseconds.
    busy_until: u64,
}

/// The rate in force and the one before it: entries name theirs by a number, so that the rate can change while entries are
/// in use. Before a third one comes, no entry is kept by the first any more.
#[derive(Debug)]
struct Rates {
    /// Held while the rate is changed.
    changing: Mutex<()>,
    current: AtomicU32,
    measures: [AtomicMeasure; 2],
}

/// The part of the hash's seed that all tables of a process share. It is secret, too: with a multiplier that is known,
/// addresses could be chosen that often fall together whatever they are mixed with.
static SHARED: OnceLock<SharedSeed> = OnceLock::new();

const fn parts(capacity: usize) -> usize {
    match capacity / PART_SIZE {
        0 => 1,
        PART_LIMIT.. => PART_LIMIT,
        count if count.is_power_of_two() => count,
        count => count.next_power_of_two() / 2,
    }
}

const fn shards(parts: usize) -> usize {
    if parts < FEWEST_SHARDS { FEWEST_SHARDS } else { parts }
}

impl KeyedBuckets {
    /// The memory that a table for `capacity` clients takes when it is full, in bytes.
    #[must_use]
    pub const fn memory(capacity: usize) -> usize {
        let parts = parts(capacity);
        map_room::memory(capacity, shards(parts), size_of::<(ClientKey, ClientEntry)>())
            + parts * size_of::<ClientPart>()
            + capacity * size_of::<ClientSlot>()
    }

    /// An empty table for `capacity` clients. `random` must be random for the process.
    #[must_use]
    pub fn new(rate: Rate, capacity: usize, random: &RandomState) -> Self {
        let capacity = capacity.max(1);
        let count = parts(capacity);
        let shared = SHARED.get_or_init(|| SharedSeed::from_u64(random.hash_one("of all tables")));
        let spread = SeedableRandomState::with_seed(random.hash_one("of a table"), shared);
        let part = |position: usize| {
            // The first ones take what does not divide.
            let capacity = capacity / count + usize::from(position < capacity % count);
            let register = Register { clients: Vec::with_capacity(capacity), capacity, hand: 0 };
            ClientPart { latest: AtomicU64::new(0), register: Mutex::new(register) }
        };
        let (room, shards) = (map_room::room(capacity, shards(count)), shards(count));
        let map = DashMap::with_capacity_and_hasher_and_shard_amount(room, spread.clone(), shards);
        let measure = rate.measure();
        let rest = Mutex::new(Rest { bucket: TokenBucket::default(), measure });
        Self { spread, map, parts: (0..count).map(part).collect(), rates: Rates::new(measure), rest }
    }

    /// Changes the rate of all buckets. What has been spent stays spent ([`TokenBucket::convert`]).
    pub fn set_rate(&self, rate: Rate, now: Duration) {
        let to = rate.measure();
        let _changing = locked(&self.rates.changing);
        if let Some((number, from)) = self.rates.change(to) {
            for part in &self.parts {
                part.tell(now);
                // A new entry that was made by the rate before is in the map when its register is free.
                locked(&part.register).clients.iter_mut().for_each(|registered| registered.busy_until = 0);
            }
            for mut entry in self.map.iter_mut().filter(|entry| entry.rate != number) {
                let latest = self.part(*entry.key()).latest();
                entry.bucket.convert(from, to, latest);
                entry.rate = number;
            }
        }
        let mut rest = locked(&self.rest);
        let from = std::mem::replace(&mut rest.measure, to);
        if from != to {
            rest.bucket.convert(from, to, now);
        }
    }

    /// Takes a token of a client.
    ///
    /// # Errors
    /// [`Empty`]
    pub fn take(&self, client: ClientKey, now: Duration) -> Result<Lender, Empty> {
        let taken = self.with(client, now, |entry, latest| {
            let behind = |empty: Empty| Empty { wait: empty.wait + (latest - now) };
            entry.bucket.take(self.rates.of(entry), latest).map_err(behind)
        });
        match taken {
            Some(taken) => taken.map(|()| Lender::Own),
            None => {
                let Rest { bucket, measure } = &mut *locked(&self.rest);
                bucket.take(*measure, now).map(|()| Lender::Shared)
            }
        }
    }

    /// Gives a token back that [`Self::take`] gave.
    pub fn give_back(&self, client: ClientKey, lender: Lender) {
        match lender {
            Lender::Shared => {
                let Rest { bucket, measure } = &mut *locked(&self.rest);
                bucket.give_back(*measure);
            }
            Lender::Own => {
                // Without an entry its bucket has been full in the meantime.
                if let Some(mut entry) = self.map.get_mut(&client) {
                    let measure = self.rates.of(&entry);
                    entry.bucket.give_back(measure);
                }
            }
        }
    }

    /// Counts a connection of a client, which may have `limit` of them; where, and how many it has now. Those of clients for
    /// which there is no room are not counted: one of them would keep the others out.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn connect(&self, client: ClientKey, limit: u32, now: Duration) -> Result<(Lender, u32), TooMany> {
        let connected = self.with(client, now, |entry, _| entry.connect(limit));
        connected.map_or(Ok((Lender::Shared, 0)), |connected| connected.map(|count| (Lender::Own, count)))
    }

    /// A connection that [`Self::connect`] counted has ended; how many were counted with it.
    pub fn disconnect(&self, client: ClientKey, lender: Lender) -> u32 {
        match lender {
            Lender::Shared => 0,
            Lender::Own => self.map.get_mut(&client).map_or(0, |mut entry| entry.disconnect()),
        }
    }

    /// How many connections of a client are counted.
    #[must_use]
    pub fn connections(&self, client: ClientKey) -> u32 {
        self.map.view(&client, |_, entry| entry.connections).unwrap_or(0)
    }

    /// How many clients are in the table.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.map.len()
    }

    /// Looks at the entry of a client, a new one if it has none. `None` when there is no room.
    fn with<T>(&self, client: ClientKey, now: Duration, look: impl Fn(&mut ClientEntry, Duration) -> T) -> Option<T> {
        let part = self.part(client);
        let latest = part.tell(now);
        if let Some(mut entry) = self.map.get_mut(&client) {
            return Some(look(&mut entry, latest));
        }
        self.with_new(client, part, look)
    }

    /// The same for a client that had no entry a moment ago.
    #[cold]
    fn with_new<T>(
        &self,
        client: ClientKey,
        part: &ClientPart,
        look: impl Fn(&mut ClientEntry, Duration) -> T,
    ) -> Option<T> {
        let mut register = locked(&part.register);
        // Another thread may have told a later time, and made or forgotten the entry.
        let latest = part.latest();
        if let Some(mut entry) = self.map.get_mut(&client) {
            return Some(look(&mut entry, latest));
        }
        let forget = |client: &ClientKey| {
            let mut wait = None;
            self.map.remove_if(client, |_, entry| {
                wait = entry.busy_for(self.rates.of(entry), latest);
                wait.is_none()
            });
            wait
        };
        if !register.enter(client, latest, forget) {
            return None;
        }
        let mut entry = ClientEntry { bucket: TokenBucket::default(), connections: 0, rate: self.rates.current() };
        let seen = look(&mut entry, latest);
        self.map.insert(client, entry);
        Some(seen)
    }

    fn part(&self, client: ClientKey) -> &ClientPart {
        // The number of parts is a power of two and not 0.
        &self.parts[self.spread.hash_one(client) as usize & (self.parts.len() - 1)]
    }
}

/// Registers are whole whatever a thread has done that panicked: nothing in here can panic half-way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientEntry {
    const fn connect(&mut self, limit: u32) -> Result<u32, TooMany> {
        if self.connections >= limit {
            return Err(TooMany);
        }
        self.connections += 1;
        Ok(self.connections)
    }

    const fn disconnect(&mut self) -> u32 {
        let before = self.connections;
        self.connections = before.saturating_sub(1);
        before
    }

    /// For how long there is no use in looking again whether a new entry would be the same; `None` if it would.
    fn busy_for(&self, measure: Measure, now: Duration) -> Option<Duration> {
        let wait = self.bucket.full_in(measure, now).min(LOOK_AGAIN);
        (self.connections > 0 || !wait.is_zero()).then_some(wait)
    }
}

impl ClientPart {
    /// Notes a time; the latest one that is known.
    fn tell(&self, now: Duration) -> Duration {
        now.max(Duration::from_nanos(self.latest.fetch_max(nanoseconds(now), Ordering::Relaxed)))
    }

    fn latest(&self) -> Duration {
        Duration::from_nanos(self.latest.load(Ordering::Relaxed))
    }
}

impl Register {
    /// Puts a client in, if there is room, or in place of one that was idle and that `forget` has forgotten. `forget` says
    /// for how long a client will be busy.
    fn enter(&mut self, client: ClientKey, now: Duration, forget: impl Fn(&ClientKey) -> Option<Duration>) -> bool {
        if self.clients.len() < self.capacity {
            self.clients.push(ClientSlot { client, busy_until: 0 });
            return true;
        }
        for _ in 0..SEARCH.min(self.clients.len()) {
            let at = self.hand;
            self.hand = (at + 1) % self.clients.len();
            let Some(other) = self.clients.get_mut(at).filter(|other| other.busy_until <= nanoseconds(now)) else {
                continue;
            };
            let Some(wait) = forget(&other.client) else {
                *other = ClientSlot { client, busy_until: 0 };
                return true;
            };
            other.busy_until = nanoseconds(now.saturating_add(wait));
        }
        false
    }
}

impl Rates {
    fn new(measure: Measure) -> Self {
        let measures = [AtomicMeasure::new(measure), AtomicMeasure::new(measure)];
        Self { changing: Mutex::new(()), current: AtomicU32::new(0), measures }
    }

    /// The number of the rate that new entries have.
    fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// The rate by which an entry is kept. The lock under which the entry was last changed orders the two.
    fn of(&self, entry: &ClientEntry) -> Measure {
        self.numbered(entry.rate).get()
    }

    const fn numbered(&self, number: u32) -> &AtomicMeasure {
        let [even, odd] = &self.measures;
        if number.is_multiple_of(2) { even } else { odd }
    }

    /// Changes the rate of new entries: its number, and the rate before; `None` if it is the same.
    fn change(&self, to: Measure) -> Option<(u32, Measure)> {
        let before = self.current();
        let from = self.numbered(before).get();
        if from == to {
            return None;
        }
        let number = before.wrapping_add(1);
        self.numbered(number).set(to);
        self.current.store(number, Ordering::Relaxed);
        Some((number, from))
    }
}

#[cfg(test)]
mod tests;
