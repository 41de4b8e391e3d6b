//! What a claim and its commit cost, alone and beside a second thread; and the memory of a table that is overrun.
//! `cargo bench --bench replay`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign::gate::replay::{Claimed, ReplayPolicy, ReplaySeed, ReplayTable, WhenFull, memory};
use countersign::now::Now;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const CAPACITY: usize = 1 << 18;
const DELIVERIES: u64 = 1_000_000;

fn table() -> ReplayTable {
    let mut seed = [0; ReplaySeed::LENGTH];
    seed.iter_mut().zip((1_u8..).step_by(3)).for_each(|(byte, value)| *byte = value ^ 0xa5);
    ReplayTable::new(CAPACITY, ReplaySeed::new(&seed))
}

fn policy(when_full: WhenFull) -> ReplayPolicy {
    ReplayPolicy { when_full, ..ReplayPolicy::with_tolerance(Duration::ZERO) }
}

/// As good as the digest that a real key is.
fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    let mut state = number;
    for word in key.as_chunks_mut::<8>().0 {
        state = (state ^ (state >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        *word = state.to_le_bytes();
    }
    key
}

fn at(millis: u64) -> Now {
    Now { monotonic: Duration::from_millis(millis), unix: Duration::ZERO }
}

/// Claims and commits; whether the delivery was new.
fn deliver(table: &ReplayTable, policy: &ReplayPolicy, number: u64, now: Now) -> bool {
    match table.claim(key(number), policy, now) {
        Claimed::New { claim, .. } => {
            claim.commit(now);
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
        let table = table();
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

fn claims(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    group.throughput(Throughput::Elements(1));
    // Each claim finds a full table: it forgets one entry and makes another.
    let (table, evict) = (table(), policy(WhenFull::EvictOldest));
    let next = AtomicU64::new(0);
    (0..2 * CAPACITY as u64).for_each(|_| _ = deliver(&table, &evict, next.fetch_add(1, Ordering::Relaxed), at(0)));
    group.bench_function("claim and commit, full table", |b| {
        b.iter(|| black_box(deliver(&table, &evict, next.fetch_add(1, Ordering::Relaxed), at(0))));
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
        b.iter(|| drop(black_box(table.claim(key(next.fetch_add(1, Ordering::Relaxed)), &evict, at(0)))));
    });
    group.bench_function("duplicate", |b| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        deliver(&table, &evict, number, at(0));
        b.iter(|| black_box(deliver(&table, &evict, number, at(0))));
    });
    for threads in [1, 2] {
        group.bench_function(format!("claim and commit, each of {threads} threads"), |b| {
            b.iter_custom(|count| on_threads(threads, count, &table, &evict));
        });
    }
    group.finish();
}

/// The time that `threads` threads take for `count` deliveries each.
fn on_threads(threads: u64, count: u64, table: &ReplayTable, policy: &ReplayPolicy) -> Duration {
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
