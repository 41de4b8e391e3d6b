//! What a claim and its commit cost, in a full table that is in no cache and in one that is, alone and beside a second
//! thread; and the memory of a table that is overrun.
//! `cargo bench --bench replay`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign::gate::replay::{ReplayPolicy, WhenFull};
use countersign::gate::verify::Name;
use countersign::ledger::{Claimed, Ledger, Names, Seed, at_once, memory};
use countersign::now::Now;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The default. Such a table is in no cache when it is full.
const CAPACITY: usize = 1 << 18;

/// A table of this size is.
const WARM: usize = 1 << 13;

const DELIVERIES: u64 = 1_000_000;

fn table(capacity: usize) -> Ledger {
    let mut seed = [0; Seed::LENGTH];
    seed.iter_mut().zip((1_u8..).step_by(3)).for_each(|(byte, value)| *byte = value ^ 0xa5);
    Ledger::new(capacity, &Seed::new(&seed))
}

fn policy(when_full: WhenFull) -> ReplayPolicy {
    ReplayPolicy { when_full, ..ReplayPolicy::with_tolerance(Duration::ZERO) }
}

/// As good as the digest that a real name is.
fn name(number: u64) -> Name {
    let mut name = [0; 16];
    let mut state = number;
    for word in name.as_chunks_mut::<8>().0 {
        state = (state ^ (state >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        *word = state.to_le_bytes();
    }
    name.into()
}

fn at(millis: u64) -> Now {
    Now { monotonic: Duration::from_millis(millis), unix: Duration::ZERO }
}

fn claim<'l>(table: &'l Ledger, policy: &ReplayPolicy, number: u64, now: Now) -> Claimed<'l> {
    at_once(table.claim(&Names::from(name(number)), policy, now)).unwrap()
}

/// Claims and commits; whether the delivery was new.
fn deliver(table: &Ledger, policy: &ReplayPolicy, number: u64, now: Now) -> bool {
    match claim(table, policy, number, now) {
        Claimed::New { claim, .. } => {
            at_once(claim.commit(now)).unwrap();
            true
        }
        _ => false,
    }
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// A million distinct deliveries through a table for a quarter of that, and what the system says about our memory.
fn overrun(_: &mut Criterion) {
    for (name, when_full) in [("refuse", WhenFull::Refuse), ("evict_oldest", WhenFull::EvictOldest)] {
        let policy = policy(when_full);
        let before = resident();
        let table = table(CAPACITY);
        let (mut taken, mut when_filled) = (0, 0);
        for number in 0..DELIVERIES {
            taken += u64::from(deliver(&table, &policy, number, at(number / 1000)));
            if number + 1 == CAPACITY as u64 * 5 / 4 {
                when_filled = resident();
            }
        }
        println!(
            "{DELIVERIES} deliveries, {name}: {taken} taken, {} remembered; resident {before} KiB before, {when_filled} KiB \
             when full, {} KiB at the end; check says {} KiB",
            table.held(),
            resident(),
            memory(CAPACITY) / 1024
        );
    }
}

/// A table that has been full for a while, and the number of the next delivery.
fn full(capacity: usize, policy: &ReplayPolicy) -> (Ledger, AtomicU64) {
    let table = table(capacity);
    let count = 2 * capacity as u64;
    (0..count).for_each(|number| _ = deliver(&table, policy, number, at(0)));
    (table, AtomicU64::new(count))
}

fn claims(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    group.throughput(Throughput::Elements(1));
    // Each claim finds a full table: it forgets one entry and makes another.
    let evict = policy(WhenFull::EvictOldest);
    let (table, next) = full(CAPACITY, &evict);
    let (warm, warm_next) = full(WARM, &evict);
    group.bench_function("claim and commit, full table", |b| {
        b.iter(|| black_box(deliver(&table, &evict, next.fetch_add(1, Ordering::Relaxed), at(0))));
    });
    group.bench_function("claim and commit, full table, warm", |b| {
        b.iter(|| black_box(deliver(&warm, &evict, warm_next.fetch_add(1, Ordering::Relaxed), at(0))));
    });
    // Time goes on, so that entries expire as others come.
    group.bench_function("claim and commit, expiring", |b| {
        let begin = next.load(Ordering::Relaxed);
        b.iter(|| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            black_box(deliver(&table, &evict, number, at(700_000 + (number - begin) * 10)))
        });
    });
    group.bench_function("claim and release", |b| {
        b.iter(|| drop(black_box(claim(&table, &evict, next.fetch_add(1, Ordering::Relaxed), at(0)))));
    });
    group.bench_function("duplicate", |b| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        deliver(&table, &evict, number, at(0));
        b.iter(|| black_box(deliver(&table, &evict, number, at(0))));
    });
    for (temperature, table) in [("", &table), (", warm", &warm)] {
        for threads in [1, 2] {
            group.bench_function(format!("claim and commit, each of {threads} threads{temperature}"), |b| {
                b.iter_custom(|count| on_threads(threads, count, table, &evict));
            });
        }
    }
    group.finish();
}

/// The time that `threads` threads take for `count` deliveries each.
fn on_threads(threads: u64, count: u64, table: &Ledger, policy: &ReplayPolicy) -> Duration {
    static ROUND: AtomicU64 = AtomicU64::new(1);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let first = ROUND.fetch_add(1, Ordering::Relaxed) << 40;
            scope.spawn(move || {
                (first..first + count).for_each(|number| _ = black_box(deliver(table, policy, number, at(0))));
            });
        }
    });
    begun.elapsed()
}

criterion_group!(benches, overrun, claims);
criterion_main!(benches);
