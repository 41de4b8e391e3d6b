//! A token bucket and a count of connections for each client, in a table of fixed size.
//!
//! Only what is idle is forgotten: a client without connections whose bucket is full, for whom a new entry would be the
//! same. So nobody gets his tokens back, and nobody loses them, because others come and go, whoever cycles through how
//! many addresses. When there is no room for a newcomer, he shares one bucket with all others for whom there is no room,
//! and their connections are counted for the process alone; clients that are in the table keep what they have.
//!
//! The table is split by a hash that is keyed for the process, so that cores rarely meet at a lock and nobody can
//! choose addresses that fall together. A part that is full is searched for an idle entry a few steps at a time: each
//! newcomer costs the same small amount, and there is no sweep.

use core::net::IpAddr;
use core::time::Duration;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::gate::token_bucket::{Empty, Measure, Rate, TokenBucket};

/// Who is counted as one: an IPv4 address, or the /64 of an IPv6 address, of which one client has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The key of an address. An IPv4 address in IPv6 clothes is an IPv4 address. Clients without an address (those of
    /// Unix-domain sockets) are one.
    #[must_use]
    pub fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self(0),
            // Beside the /64s of IPv6: ::/8 is not given to anybody (RFC 4291, section 2.4).
            Some(IpAddr::V4(address)) => Self(0xffff_0000_0000 | u64::from(address.to_bits())),
            Some(IpAddr::V6(address)) => Self((address.to_bits() >> 64) as u64),
        }
    }

    /// The key of a client that has proven its name, from wherever it calls. It is among addresses that nobody has
    /// (100::/8; RFC 4291, section 2.4), at a place that only an authority which hands out names could choose.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let word = digest.as_ref().iter().take(7).fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        Self(1 << 56 | word)
    }
}

/// Where a token or a place was taken, and must be brought back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lender {
    /// The client's own entry.
    Own,
    /// What those share for whom there is no room.
    Shared,
}

/// How many connections a client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As many as `connections_per_client` says.
    Usual,
    /// An eighth more, at least `SPARE`, for a moment: another one of the client ends for it
    /// ([`super::admission::Admission::sheds`]).
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
    hash: RandomState,
    shards: Box<[Mutex<Shard>]>,
    rest: Mutex<Rest>,
}

/// What those share for whom there is no room.
#[derive(Debug)]
struct Rest {
    bucket: TokenBucket,
    measure: Measure,
}

/// How many clients a shard has room for, about: few enough that looking for room does not take long.
const SHARD_SIZE: usize = 1024;

/// The most shards: more than cores.
const SHARD_LIMIT: usize = 256;

/// Entries that are looked at to make room for one newcomer.
const SEARCH: usize = 16;

/// No entry.
const NONE: u32 = u32::MAX;

/// One client: 40 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    key: u64,
    bucket: TokenBucket,
    connections: u32,
    /// The head that its chain begins at.
    head: u32,
    /// The next entry of the chain.
    next: u32,
}

/// On a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    /// First entry of each hash; a power of two of them.
    heads: Box<[u32]>,
    /// Reserved at the start; memory is touched as clients come.
    entries: Vec<Entry>,
    capacity: usize,
    /// The rate of its buckets.
    measure: Measure,
    /// Where the next search for an idle entry begins.
    hand: usize,
    /// The latest time that was told. A clock that goes backwards must not make a difference between a bucket that was
    /// full and one that was forgotten.
    latest: Duration,
}

impl KeyedBuckets {
    /// The most memory that a client in the table takes, in bytes: its entry, and at most two heads.
    pub const BYTES_PER_CLIENT: usize = size_of::<Entry>() + 2 * size_of::<u32>();

    /// An empty table for `capacity` clients. `hash` must be random for the process.
    #[must_use]
    pub fn new(rate: Rate, capacity: usize, hash: RandomState) -> Self {
        let capacity = capacity.clamp(1, NONE as usize);
        let count = (capacity / SHARD_SIZE).clamp(1, SHARD_LIMIT);
        let count = if count.is_power_of_two() { count } else { count.next_power_of_two() / 2 };
        let measure = rate.measure();
        let shard = |position: usize| {
            // The first ones take what does not divide.
            Mutex::new(Shard::new(capacity / count + usize::from(position < capacity % count), measure))
        };
        let rest = Mutex::new(Rest { bucket: TokenBucket::default(), measure });
        Self { hash, shards: (0..count).map(shard).collect(), rest }
    }

    /// Changes the rate of all buckets. What has been spent stays spent ([`TokenBucket::convert`]).
    pub fn set_rate(&self, rate: Rate, now: Duration) {
        let to = rate.measure();
        for shard in &self.shards {
            let mut shard = locked(shard);
            let from = std::mem::replace(&mut shard.measure, to);
            if from != to {
                shard.latest = shard.latest.max(now);
                let latest = shard.latest;
                shard.entries.iter_mut().for_each(|entry| entry.bucket.convert(from, to, latest));
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
        let (mut shard, hash) = self.shard(client);
        let latest = shard.latest.max(now);
        shard.latest = latest;
        let measure = shard.measure;
        match shard.entry(client, hash) {
            Some(entry) => {
                let behind = |empty: Empty| Empty { wait: empty.wait + (latest - now) };
                entry.bucket.take(measure, latest).map(|()| Lender::Own).map_err(behind)
            }
            None => {
                drop(shard);
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
                let (mut shard, hash) = self.shard(client);
                let measure = shard.measure;
                // Without an entry its bucket has been full in the meantime.
                if let Some(entry) = shard.find(client, hash).and_then(|at| shard.entries.get_mut(at)) {
                    entry.bucket.give_back(measure);
                }
            }
        }
    }

    /// Counts a connection of a client, which may have `limit` of them; where, and how many it has now. Those of clients for
    /// whom there is no room are not counted: one of them would keep the others out.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn connect(&self, client: ClientKey, limit: u32, now: Duration) -> Result<(Lender, u32), TooMany> {
        let (mut shard, hash) = self.shard(client);
        shard.latest = shard.latest.max(now);
        match shard.entry(client, hash) {
            Some(entry) => entry.connect(limit).map(|()| (Lender::Own, entry.connections)),
            None => Ok((Lender::Shared, 0)),
        }
    }

    /// A connection that [`Self::connect`] counted has ended; how many were counted with it.
    pub fn disconnect(&self, client: ClientKey, lender: Lender) -> u32 {
        if lender == Lender::Shared {
            return 0;
        }
        let (mut shard, hash) = self.shard(client);
        let entry = shard.find(client, hash).and_then(|at| shard.entries.get_mut(at));
        entry.map_or(0, Entry::disconnect)
    }

    /// How many connections of a client are counted.
    #[must_use]
    pub fn connections(&self, client: ClientKey) -> u32 {
        let (shard, hash) = self.shard(client);
        let entry = shard.find(client, hash).and_then(|at| shard.entries.get(at));
        entry.map_or(0, |entry| entry.connections)
    }

    /// How many clients are in the table.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).entries.len()).sum()
    }

    fn shard(&self, client: ClientKey) -> (MutexGuard<'_, Shard>, usize) {
        let hash = self.hash.hash_one(client.0) as usize;
        // The number of shards is a power of two and not 0; the bits above choose the head.
        let count = self.shards.len();
        let shard = &self.shards[hash & (count - 1)];
        (locked(shard), hash >> count.trailing_zeros())
    }
}

/// What a thread left behind that panicked is whole: nothing in here can panic half-way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    const fn connect(&mut self, limit: u32) -> Result<(), TooMany> {
        if self.connections >= limit {
            return Err(TooMany);
        }
        self.connections += 1;
        Ok(())
    }

    const fn disconnect(&mut self) -> u32 {
        let before = self.connections;
        self.connections = before.saturating_sub(1);
        before
    }
}

impl Shard {
    fn new(capacity: usize, measure: Measure) -> Self {
        let heads = vec![NONE; capacity.next_power_of_two()].into_boxed_slice();
        Self { heads, entries: Vec::with_capacity(capacity), capacity, measure, hand: 0, latest: Duration::ZERO }
    }

    const fn head(&self, hash: usize) -> usize {
        hash & (self.heads.len() - 1)
    }

    fn find(&self, client: ClientKey, hash: usize) -> Option<usize> {
        let mut at = *self.heads.get(self.head(hash))?;
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.key == client.0 {
                return Some(at as usize);
            }
            at = entry.next;
        }
        None
    }

    /// The entry of a client, a new one if it has none; nothing when there is no room.
    fn entry(&mut self, client: ClientKey, hash: usize) -> Option<&mut Entry> {
        let at = match self.find(client, hash) {
            Some(at) => at,
            None => {
                let at = if self.entries.len() < self.capacity { self.entries.len() } else { self.make_room()? };
                let head = self.head(hash);
                let next = self.heads.get(head).copied().unwrap_or(NONE);
                let entry = Entry { key: client.0, head: head as u32, next, ..Entry::default() };
                match self.entries.get_mut(at) {
                    Some(place) => *place = entry,
                    None => self.entries.push(entry),
                }
                self.set_link(head, None, at as u32);
                at
            }
        };
        self.entries.get_mut(at)
    }

    /// Forgets an idle entry, if one is found in a few steps; its place.
    fn make_room(&mut self) -> Option<usize> {
        for _ in 0..SEARCH.min(self.entries.len()) {
            let at = self.hand;
            self.hand = (at + 1) % self.entries.len();
            let entry = self.entries.get_mut(at)?;
            if entry.connections == 0 && entry.bucket.is_full(self.measure, self.latest) {
                self.unlink(at);
                return Some(at);
            }
        }
        None
    }

    /// Takes an entry out of its chain.
    fn unlink(&mut self, at: usize) {
        let Some(Entry { head, next, .. }) = self.entries.get(at).copied() else { return };
        let mut before = None;
        let mut current = self.heads.get(head as usize).copied().unwrap_or(NONE) as usize;
        while current != at {
            let Some(entry) = self.entries.get(current) else { return };
            before = Some(current);
            current = entry.next as usize;
        }
        self.set_link(head as usize, before, next);
    }

    /// Lets a head, or the entry `before`, point to another entry.
    fn set_link(&mut self, head: usize, before: Option<usize>, to: u32) {
        let link = match before {
            Some(before) => self.entries.get_mut(before).map(|entry| &mut entry.next),
            None => self.heads.get_mut(head),
        };
        if let Some(link) = link {
            *link = to;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const SECOND: Duration = Duration::from_secs(1);

    fn table(rate: Rate, capacity: usize) -> KeyedBuckets {
        KeyedBuckets::new(rate, capacity, RandomState::new())
    }

    fn client(number: u32) -> ClientKey {
        ClientKey::of(Some(IpAddr::V4(number.into())))
    }

    #[test]
    fn clients_are_addresses_or_networks() {
        let key = |text: &str| ClientKey::of(Some(text.parse().unwrap()));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn whoever_cycles_through_addresses_gets_nothing_back() {
        let table = table(Rate::per_second(1, 2), 8);
        for _ in 0..2 {
            assert_eq!(table.take(client(0), SECOND), Ok(Lender::Own));
        }
        for other in 1..1000 {
            let _ = table.take(client(other), SECOND);
        }
        assert!(table.take(client(0), SECOND).is_err(), "its own bucket is still empty");
        assert_eq!(table.tracked(), 8);
    }

    #[test]
    fn newcomers_share_when_there_is_no_room_and_the_others_keep_theirs() {
        let table = table(Rate::per_second(1, 2), 4);
        for number in 0..4 {
            assert_eq!(table.take(client(number), SECOND), Ok(Lender::Own));
        }
        let spent: Vec<_> = (4..8).map(|number| table.take(client(number), SECOND).ok()).collect();
        assert_eq!(spent, [Some(Lender::Shared), Some(Lender::Shared), None, None]);
        for number in 0..4 {
            assert_eq!(table.take(client(number), SECOND), Ok(Lender::Own), "a known client keeps its tokens");
        }
        // Two seconds later all are idle, and whoever comes first gets a place.
        assert_eq!(table.take(client(9), 3 * SECOND), Ok(Lender::Own));
        assert_eq!(table.tracked(), 4);
    }

    #[test]
    fn a_client_with_connections_is_not_forgotten() {
        let table = table(Rate::per_second(1, 2), 1);
        let own = |count| Ok((Lender::Own, count));
        assert_eq!(table.connect(client(0), 2, SECOND), own(1));
        assert_eq!(table.connect(client(0), 2, SECOND), own(2));
        assert_eq!(table.connect(client(0), 2, SECOND), Err(TooMany));
        // A client for whom there is no room is not kept out by others of the kind.
        (0..9).for_each(|_| assert_eq!(table.connect(client(1), 1, SECOND), Ok((Lender::Shared, 0))));
        assert_eq!(table.connect(client(2), 1, SECOND), Ok((Lender::Shared, 0)));
        assert_eq!(table.disconnect(client(1), Lender::Shared), 0);
        assert_eq!((table.connections(client(0)), table.disconnect(client(0), Lender::Own)), (2, 2));
        assert_eq!((table.connections(client(0)), table.disconnect(client(0), Lender::Own)), (1, 1));
        assert_eq!(table.connect(client(3), 9, SECOND), own(1));
        assert_eq!((table.connections(client(0)), table.disconnect(client(0), Lender::Own)), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(i64),
        Take(u32),
        GiveBack(usize),
        Connect(u32),
        Disconnect(usize),
        Rate(u32, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (-2_000_i64..2_000).prop_map(Step::Wait),
            (0..12_u32).prop_map(Step::Take),
            (0..12_u32).prop_map(Step::Take),
            any::<usize>().prop_map(Step::GiveBack),
            (0..12_u32).prop_map(Step::Connect),
            any::<usize>().prop_map(Step::Disconnect),
            (1..4_u32, 1..6_u32).prop_map(|(tokens, burst)| Step::Rate(tokens, burst)),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        /// Against a table that never forgets anybody: a client with an entry of its own is always answered as there,
        /// also when the rate changes.
        #[test]
        fn forgetting_is_not_seen(capacity in 1..10_usize, steps in steps()) {
            let mut rate = Rate::per_second(2, 3);
            let table = table(rate, capacity);
            let mut model: HashMap<u32, (TokenBucket, u32)> = HashMap::new();
            let (mut taken, mut connected) = (Vec::new(), Vec::new());
            let (mut now, mut latest) = (0_i64, Duration::ZERO);
            for step in steps {
                let time = Duration::from_millis(now as u64);
                if matches!(step, Step::Take(_) | Step::Connect(_)) {
                    latest = latest.max(time);
                }
                match step {
                    Step::Wait(millis) => now = (now + millis).max(0),
                    Step::Rate(tokens, burst) => {
                        let next = Rate::per_second(tokens, burst);
                        table.set_rate(next, time);
                        if next != rate {
                            latest = latest.max(time);
                            let convert = |(bucket, _): &mut (TokenBucket, u32)| {
                                bucket.convert(rate.measure(), next.measure(), latest);
                            };
                            model.values_mut().for_each(convert);
                        }
                        rate = next;
                    }
                    Step::Take(number) => {
                        let shard = locked(&table.shards[0]);
                        let known = shard.find(client(number), table.hash.hash_one(client(number).0) as usize).is_some();
                        drop(shard);
                        let got = table.take(client(number), time);
                        if known || got == Ok(Lender::Own) {
                            let expected = model.entry(number).or_default().0.take(rate.measure(), latest);
                            let expected = expected.map_err(|empty| Empty { wait: empty.wait + (latest - time) });
                            prop_assert_eq!(got, expected.map(|()| Lender::Own));
                        }
                        taken.extend(got.ok().map(|lender| (number, lender)));
                    }
                    Step::GiveBack(which) if !taken.is_empty() => {
                        let (number, lender) = taken.swap_remove(which % taken.len());
                        table.give_back(client(number), lender);
                        if lender == Lender::Own {
                            model.entry(number).or_default().0.give_back(rate.measure());
                        }
                    }
                    Step::Connect(number) => {
                        let got = table.connect(client(number), 2, time);
                        let count = &mut model.entry(number).or_default().1;
                        match got {
                            Ok((Lender::Own, counted)) => {
                                *count += 1;
                                prop_assert_eq!(counted, *count);
                            }
                            Ok((Lender::Shared, _)) => prop_assert_eq!(*count, 0),
                            Err(TooMany) => prop_assert_eq!(*count, 2),
                        }
                        connected.extend(got.ok().map(|(lender, _)| (number, lender)));
                        prop_assert!(model[&number].1 <= 2);
                    }
                    Step::Disconnect(which) if !connected.is_empty() => {
                        let (number, lender) = connected.swap_remove(which % connected.len());
                        table.disconnect(client(number), lender);
                        if lender == Lender::Own {
                            model.get_mut(&number).unwrap().1 -= 1;
                        }
                    }
                    Step::GiveBack(_) | Step::Disconnect(_) => {}
                }
                prop_assert!(table.tracked() <= capacity);
            }
        }
    }

    #[test]
    fn threads_over_the_same_clients_take_no_more_than_there_is() {
        let table = table(Rate::per_second(100, 20), 4096);
        let clock = std::sync::atomic::AtomicU64::new(0);
        let taken: Vec<_> = (0..8).map(|_| std::sync::atomic::AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (table, clock, taken) = (&table, &clock, &taken);
                scope.spawn(move || {
                    for round in 0..20_000_u32 {
                        let now = clock.fetch_add(50_000, std::sync::atomic::Ordering::Relaxed);
                        let number = (round.wrapping_mul(2_654_435_761) >> 8) % 8;
                        if table.take(client(number), Duration::from_nanos(now)).is_ok() {
                            taken[number as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                        // Others come and go all the time.
                        let _ = table.take(client(1000 + thread * 20_000 + round), Duration::from_nanos(now));
                    }
                });
            }
        });
        // 4 s of virtual time.
        for taken in taken {
            let taken = taken.into_inner();
            assert!(taken <= 20 + 400, "{taken}");
            assert!(taken > 300, "{taken}");
        }
    }
}
