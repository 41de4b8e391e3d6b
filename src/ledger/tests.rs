//! The table against a naive model of it, against threads, and at its limits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::stripe::MARGIN;
use super::*;
use crate::gate::allowlist::AllowList;
use crate::gate::believed::KeptFields;
use crate::gate::identity::CallerList;
use crate::gate::observe::Observe;
use crate::gate::pattern::PathPattern;
use crate::gate::replay::{DuplicateAnswer, ReplayPolicy, WhenFull, accepted};
use crate::gate::route::{Route, RouteKey};
use crate::gate::route_admission::RouteAdmission;
use crate::gate::verify::{Name, Verifier};
use crate::now::Now;
use crate::outcome::Rejection;

const SEED: [u8; Seed::LENGTH] = [7; Seed::LENGTH];

/// A ledger of which nothing waits.
struct Table(Ledger);

impl core::ops::Deref for Table {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.0
    }
}

impl Table {
    fn claim(&self, key: [u8; 16], policy: &ReplayPolicy, now: Now) -> Claimed<'_> {
        self.claim_names(&Name::from(key).into(), policy, now)
    }

    fn claim_names(&self, names: &Names, policy: &ReplayPolicy, now: Now) -> Claimed<'_> {
        at_once(self.0.claim(names, policy, now)).expect("it waits for nothing")
    }

    fn assert_consistent(&self) {
        self.0.local().assert_consistent();
    }
}

fn commit(claim: Claim<'_>, now: Now) {
    at_once(claim.commit(now)).expect("it waits for nothing");
}

fn table(capacity: usize) -> Table {
    Table(Ledger::new(capacity, &Seed::new(&SEED)))
}

fn policy(capacity: usize, when_full: WhenFull) -> ReplayPolicy {
    ReplayPolicy { capacity, when_full, ..ReplayPolicy::with_tolerance(Duration::ZERO) }
}

/// Keys that have as little to tell them apart as possible.
fn key(number: usize) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

fn at(millis: u64) -> Now {
    Now { monotonic: Duration::from_millis(millis), unix: Duration::ZERO }
}

/// The same as a table, in a list that is searched from end to end.
#[derive(Default)]
struct Model {
    claimed: Vec<usize>,
    /// Key and moment, in the order in which they were committed.
    committed: Vec<(usize, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    New { evicted: bool },
    Duplicate,
    InFlight,
    Full { wait: Option<Duration> },
}

impl Model {
    fn held(&self) -> usize {
        self.claimed.len() + self.committed.len()
    }

    fn claim(&mut self, key: usize, now: u64, policy: &ReplayPolicy) -> Said {
        let kept = u64::try_from((policy.lifetime + MARGIN).as_millis()).unwrap();
        let expired = |(_, at): &(usize, u64)| now.saturating_sub(*at) >= kept;
        if self.claimed.contains(&key) {
            return Said::InFlight;
        }
        if let Some(position) = self.committed.iter().position(|(known, _)| *known == key) {
            if !expired(&self.committed[position]) {
                return Said::Duplicate;
            }
            self.committed.remove(position);
            self.claimed.push(key);
            return Said::New { evicted: false };
        }
        for _ in 0..2 {
            if self.committed.first().is_some_and(expired) {
                self.committed.remove(0);
            }
        }
        let full = self.held() >= policy.capacity;
        if full && (policy.when_full == WhenFull::Refuse || self.committed.is_empty()) {
            let left = |at: u64| kept.saturating_sub(now.saturating_sub(at));
            return Said::Full { wait: self.committed.first().map(|(_, at)| Duration::from_millis(left(*at))) };
        }
        if full {
            self.committed.remove(0);
        }
        self.claimed.push(key);
        Said::New { evicted: full }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Claim(usize),
    /// Of the claim at this place, modulo their number.
    Commit(usize),
    Release(usize),
    /// The clock moves, perhaps backwards.
    Wait(i64),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        6 => (0_usize..12).prop_map(Operation::Claim),
        4 => any::<usize>().prop_map(Operation::Commit),
        2 => any::<usize>().prop_map(Operation::Release),
        2 => prop_oneof![0_i64..500, 1_000_i64..20_000, -15_000_i64..0].prop_map(Operation::Wait),
    ];
    prop::collection::vec(operation, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_table_does_what_its_model_does(operations in operations(), capacity in 1_usize..9, evict in any::<bool>()) {
        let when_full = if evict { WhenFull::EvictOldest } else { WhenFull::Refuse };
        let policy = ReplayPolicy { lifetime: Duration::from_secs(5), ..policy(capacity, when_full) };
        let (table, mut model) = (table(capacity), Model::default());
        let mut claims: Vec<(usize, Claim<'_>)> = Vec::new();
        // When each delivery was last committed, and the latest that the clock has shown since: what must not be
        // forgotten before its time.
        let mut promised: HashMap<usize, (u64, u64)> = HashMap::new();
        let mut now = 20_000_u64;
        for operation in operations {
            match operation {
                Operation::Claim(number) => {
                    promised.values_mut().for_each(|(_, latest)| *latest = now.max(*latest));
                    let said = match table.claim(key(number), &policy, at(now)) {
                        Claimed::New { claim, evicted } => {
                            claims.push((number, claim));
                            let kept = promised.remove(&number).is_none_or(|(from, until)| until - from >= 5_000);
                            prop_assert!(kept || evict, "{number} was forgotten early");
                            Said::New { evicted }
                        }
                        Claimed::Duplicate => Said::Duplicate,
                        Claimed::InFlight => Said::InFlight,
                        Claimed::Full { wait } => Said::Full { wait },
                    };
                    prop_assert_eq!(said, model.claim(number, now, &policy));
                }
                Operation::Commit(_) | Operation::Release(_) if claims.is_empty() => {}
                Operation::Commit(place) => {
                    let (number, claim) = claims.swap_remove(place % claims.len());
                    commit(claim, at(now));
                    promised.insert(number, (now, now));
                    model.claimed.retain(|claimed| *claimed != number);
                    model.committed.push((number, now));
                }
                Operation::Release(place) => {
                    let (number, claim) = claims.swap_remove(place % claims.len());
                    drop(claim);
                    model.claimed.retain(|claimed| *claimed != number);
                }
                Operation::Wait(millis) => now = now.saturating_add_signed(millis),
            }
            prop_assert!(table.held() <= capacity);
            prop_assert_eq!(table.held(), model.held());
            table.assert_consistent();
        }
    }
}

#[test]
fn threads_never_hold_the_same_delivery_together_and_commit_it_once() {
    const THREADS: usize = 8;
    const KEYS: usize = 40;
    for round in 0..20 {
        // In the last rounds the table has several shards.
        let capacity = if round < 10 { KEYS } else { 1 << 15 };
        let (table, policy) = (table(capacity), policy(capacity, WhenFull::Refuse));
        let holders: Vec<AtomicUsize> = (0..KEYS).map(|_| AtomicUsize::new(0)).collect();
        let commits: Vec<AtomicUsize> = (0..KEYS).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (table, policy, holders, commits) = (&table, &policy, &holders, &commits);
                scope.spawn(move || {
                    for number in 0..KEYS {
                        let mut tries = 0;
                        loop {
                            match table.claim(key(number), policy, at(0)) {
                                Claimed::New { claim, .. } => {
                                    assert_eq!(holders[number].fetch_add(1, Ordering::SeqCst), 0);
                                    tries += 1;
                                    std::thread::yield_now();
                                    assert_eq!(holders[number].fetch_sub(1, Ordering::SeqCst), 1);
                                    // Every thread fails a few times before it would succeed.
                                    if tries > (thread + number) % 4 {
                                        commits[number].fetch_add(1, Ordering::SeqCst);
                                        commit(claim, at(0));
                                    }
                                }
                                Claimed::InFlight => std::thread::yield_now(),
                                Claimed::Duplicate => break,
                                Claimed::Full { .. } => panic!("there is room for all"),
                            }
                        }
                    }
                });
            }
        });
        assert!(commits.iter().all(|count| count.load(Ordering::SeqCst) == 1), "{commits:?}");
        assert_eq!(table.held(), KEYS);
        table.assert_consistent();
    }
}

/// Claims and commits `count` keys, one a millisecond; how many were taken.
fn fill(table: &Table, policy: &ReplayPolicy, count: usize) -> usize {
    let mut taken = 0;
    for number in 0..count {
        let now = at(number as u64);
        if let Claimed::New { claim, .. } = table.claim(key(number), policy, now) {
            commit(claim, now);
            taken += 1;
        }
    }
    assert!(table.held() <= table.capacity());
    table.assert_consistent();
    taken
}

fn is_duplicate(table: &Table, policy: &ReplayPolicy, number: usize, now: Now) -> bool {
    matches!(table.claim(key(number), policy, now), Claimed::Duplicate)
}

#[test]
fn a_full_table_refuses_and_forgets_nothing() {
    for capacity in [100, 16_383, 16_384, 40_000] {
        let (table, policy) = (table(capacity), policy(capacity, WhenFull::Refuse));
        let taken = fill(&table, &policy, 3 * capacity);
        // Entries are spread evenly, although the keys are not random.
        assert!(taken <= capacity && (capacity >= 16_384 || taken == capacity) && taken > capacity * 98 / 100);
        assert_eq!(table.held(), taken);
        let end = at(3 * capacity as u64);
        let known = (0..3 * capacity).filter(|number| is_duplicate(&table, &policy, *number, end)).count();
        assert_eq!(known, taken);
        // The first that expire make room.
        let later = Now { monotonic: end.monotonic + policy.lifetime + MARGIN, ..end };
        assert!(matches!(table.claim(key(usize::MAX), &policy, later), Claimed::New { evicted: false, .. }));
    }
}

#[test]
fn a_full_table_evicts_the_oldest_and_never_a_claim() {
    for capacity in [100, 16_384, 40_000] {
        let (table, policy) = (table(capacity), policy(capacity, WhenFull::EvictOldest));
        assert_eq!(fill(&table, &policy, 3 * capacity), 3 * capacity);
        assert!(table.held() > capacity * 98 / 100);
        let end = at(3 * capacity as u64);
        let youngest = 3 * capacity - capacity * 9 / 10..3 * capacity;
        assert!(youngest.clone().all(|number| is_duplicate(&table, &policy, number, end)));
        assert!(!is_duplicate(&table, &policy, 0, end));
    }
    let (table, policy) = (table(2), policy(2, WhenFull::EvictOldest));
    let claims: Vec<Claimed<'_>> = (0..2).map(|number| table.claim(key(number), &policy, at(0))).collect();
    assert!(matches!(table.claim(key(2), &policy, at(0)), Claimed::Full { wait: None }));
    drop(claims);
    assert_eq!(table.held(), 0);
}

#[test]
fn an_entry_outlives_its_lifetime_by_the_margin_and_no_more() {
    let (table, policy) = (table(4), policy(4, WhenFull::Refuse));
    let Claimed::New { claim, .. } = table.claim(key(1), &policy, at(7)) else { panic!("a new delivery") };
    commit(claim, at(1_000));
    let end = 1_000 + 600_000 + 1_000;
    assert!(is_duplicate(&table, &policy, 1, at(0)));
    assert!(is_duplicate(&table, &policy, 1, at(end - 1)));
    assert!(matches!(table.claim(key(1), &policy, at(end)), Claimed::New { .. }));
    // The policy may change while the table lives.
    let longer = ReplayPolicy { lifetime: Duration::from_secs(1200), ..policy };
    let Claimed::New { claim, .. } = table.claim(key(2), &policy, at(0)) else { panic!("a new delivery") };
    commit(claim, at(0));
    assert!(is_duplicate(&table, &longer, 2, at(end)));
}

#[test]
fn what_a_table_says_becomes_an_answer() {
    let policy = policy(1, WhenFull::EvictOldest);
    let conflict = ReplayPolicy { duplicates: DuplicateAnswer::Conflict, ..policy };
    assert_eq!(Claimed::Duplicate.judge(&policy).unwrap_err(), Rejection::Duplicate);
    assert_eq!(Claimed::Duplicate.judge(&conflict).unwrap_err(), Rejection::DuplicateConflict);
    assert_eq!(Claimed::InFlight.judge(&policy).unwrap_err(), Rejection::DuplicateInFlight);
    assert_eq!(Claimed::Full { wait: None }.judge(&policy).unwrap_err(), Rejection::ReplayTableFull);
    let table = table(1);
    fill(&table, &policy, 1);
    let (_claim, noted) = table.claim(key(9), &policy, at(9)).judge(&policy).unwrap();
    assert_eq!(noted, Some(Rejection::ReplayTableFull));
    assert!([200, 202, 204, 299].into_iter().all(accepted));
    assert!(![100, 199, 300, 304, 400, 409, 429, 500, 503].into_iter().any(accepted));
}

#[test]
fn memory_is_at_most_186_bytes_an_entry_where_the_capacity_is_a_large_power_of_two() {
    let own = |capacity| memory(capacity) - NamingKeys::MEMORY;
    for capacity in [1 << 14, 1 << 18, 1 << 24] {
        assert!(own(capacity) <= 186 * capacity, "{capacity}: {}", own(capacity));
    }
    // What is left free differs with the capacity.
    assert!((1..50_000).all(|capacity| own(capacity) < 300 * capacity + 16_000));
}

#[test]
fn tables_outlive_a_configuration_by_the_name_of_their_route() {
    let route = |name: &str, replay| Route {
        name: name.to_owned(),
        key: RouteKey { host: None, path: PathPattern::parse("/").unwrap(), methods: Vec::new() },
        verifier: Verifier::none(),
        body_limit: 1,
        upstream: 0,
        replay,
        challenges: None,
        clients: AllowList::default(),
        callers: CallerList::default(),
        kept: KeptFields::default(),
        observe: Observe::default(),
        admission: RouteAdmission::default(),
        durable: None,
    };
    let (small, large) = (Some(policy(8, WhenFull::Refuse)), Some(policy(9, WhenFull::Refuse)));
    let tables = Ledgers::new(Seed::new(&SEED));
    let after = |monotonic| Now { monotonic, unix: Duration::ZERO };
    let second = after(Duration::from_secs(1));
    let first = tables.of(&[route("a", small), route("b", None), route("c", small), route("d", small)], second);
    let second_time = tables.of(&[route("d", large), route("c", small), route("b", small)], second);
    let same = |one: &[Option<std::sync::Arc<Ledger>>], at: usize, other: &Option<std::sync::Arc<Ledger>>| {
        one[at].as_ref().zip(other.as_ref()).is_some_and(|(one, other)| std::sync::Arc::ptr_eq(one, other))
    };
    assert!(first[1].is_none() && same(&first, 2, &second_time[1]) && second_time[2].is_some());
    // Another capacity would have to forget.
    assert!(same(&first, 3, &second_time[0]));
    assert_eq!(second_time[0].as_ref().unwrap().capacity(), 8);
    // A route that is gone may come back as long as its entries live.
    let lifetime = small.unwrap().lifetime;
    assert!(same(&first, 0, &tables.of(&[route("a", small)], after(lifetime))[0]));
    let _ = tables.of(&[], after(2 * lifetime));
    let _ = tables.of(&[], after(3 * lifetime + MARGIN));
    assert!(!same(&first, 0, &tables.of(&[route("a", small)], after(3 * lifetime + MARGIN))[0]));
}

#[test]
fn a_full_table_says_when_there_is_room_again() {
    let (table, policy) = (table(2), ReplayPolicy { lifetime: Duration::from_secs(10), ..policy(2, WhenFull::Refuse) });
    let claim = |number, millis| table.claim(key(number), &policy, at(millis));
    let Claimed::New { claim: first, .. } = claim(1, 0) else { panic!("there is room") };
    let Claimed::New { claim: second, .. } = claim(2, 0) else { panic!("there is room") };
    assert_eq!(claim(3, 0).retry_after(), None, "how long the application takes is not known");
    commit(second, at(2_000));
    commit(first, at(3_500));
    // The one that was committed first goes first, its margin included.
    let lives = 10_000 + u64::try_from(MARGIN.as_millis()).unwrap();
    for (now, seconds) in [(4_000, 9), (4_001, 9), (5_000, 8), (1_999 + lives, 1), (0, 11)] {
        assert_eq!(claim(3, now).retry_after(), Some(seconds), "at {now}");
    }
    assert!(matches!(claim(3, 2_000 + lives), Claimed::New { .. }));
    let wait = |seconds| Claimed::Full { wait: Some(Duration::from_secs(seconds)) }.retry_after();
    assert_eq!((wait(0), wait(300), wait(301), wait(86_400)), (Some(1), Some(300), Some(300), Some(300)));
    assert_eq!(Claimed::Duplicate.retry_after(), None);
}

#[test]
fn what_an_earlier_process_has_accepted_is_a_copy_for_the_next() {
    let now = Now { monotonic: Duration::from_secs(5), unix: Duration::from_secs(1_000) };
    let policy = policy(8, WhenFull::Refuse);
    let names = Names::from(Name::from([7; 16])).with_body(9);
    let before = table(8);
    let key = match before.claim_names(&names, &policy, now) {
        Claimed::New { claim, .. } => {
            let key = claim.key().unwrap();
            commit(claim, now);
            key
        }
        other => panic!("{other:?}"),
    };
    let after = table(8);
    let known = KnownName { key, is_alias: false, left: Duration::from_secs(1) };
    assert!(after.restore(&known, &policy, now) && after.held() == 1);
    assert!(matches!(after.claim_names(&names, &policy, now), Claimed::Duplicate));
    let alias = Names::from(Name::from([8; 16]));
    let known = KnownName { key: alias.key(), is_alias: true, ..known };
    assert!(after.restore(&known, &policy, now) && after.restore(&known, &policy, now), "once more changes nothing");
    assert_eq!(after.held(), 1, "another name is no delivery");
    assert!(matches!(after.claim_names(&alias, &policy, now), Claimed::Duplicate));
    after.assert_consistent();
    let later = Now { monotonic: now.monotonic + policy.lifetime + MARGIN, ..now };
    assert!(matches!(after.claim_names(&names, &policy, later), Claimed::New { .. }), "its time has passed");
    assert!(matches!(after.claim_names(&alias, &policy, later), Claimed::New { .. }), "and that of its other name");
}
