//! Exchanges in memory, for `count`, which counts the instructions of [`counted`] under callgrind.
//! Usage: `instructions CASE COUNT`, or nothing for one exchange of each case.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::telemetry::exchange::Exchange;
use world::{Kind, Scribe, World, delivery};

#[path = "../../world/mod.rs"]
mod world;

/// Name, kind, bytes of the body, how exchanges end; the last case sends the same delivery again and again.
const CASES: [(&str, Kind, usize, &str); 7] = [
    ("forwarded-256", Kind::Genuine, 256, "forwarded"),
    ("forwarded-8k", Kind::Genuine, 8 << 10, "forwarded"),
    ("forwarded-64k", Kind::Genuine, 64 << 10, "forwarded"),
    ("chunked-8k", Kind::Chunked, 8 << 10, "forwarded"),
    ("unsigned-256", Kind::Unsigned, 256, "signature_missing"),
    ("forged-256", Kind::Forged, 256, "signature_mismatch"),
    ("duplicate-256", Kind::Genuine, 256, "duplicate"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [case, count] => {
            let case = CASES.iter().find(|(name, ..)| name == case);
            let (Some(case), Ok(count)) = (case, count.parse()) else { return ExitCode::from(2) };
            run(case, count);
        }
        _ => CASES.iter().for_each(|case| run(case, 1)),
    }
    ExitCode::SUCCESS
}

/// One connection with so many deliveries, after a first one that makes all the others duplicates where that is the case.
fn run((name, kind, size, code): &(&str, Kind, usize, &'static str), count: usize) {
    let ended = Arc::new(AtomicUsize::new(0));
    let (counter, code) = (Arc::clone(&ended), *code);
    let scribe = Scribe::new(move |exchange: &Exchange<'_>| {
        counter.fetch_add(usize::from(exchange.outcome.code() == code), Ordering::Relaxed);
    });
    let number = |at: usize| if code == "duplicate" { 0 } else { at };
    let deliveries: Vec<Vec<u8>> = (0..=count).map(|at| delivery(*kind, *size, number(at))).collect();
    // Each read brings one delivery: all are of the same length.
    let world = World::new(deliveries[0].len(), count + 1, Arc::new(scribe));
    let (first, input) = (deliveries[0].clone(), deliveries[1..].concat());
    world.converse(&first);
    ended.store(0, Ordering::Relaxed);
    counted(&world, &input);
    assert_eq!(ended.load(Ordering::Relaxed), count, "{name}: every exchange ends as {code}");
}

/// Its name is what callgrind is told to count.
#[inline(never)]
fn counted(world: &World, input: &[u8]) {
    world.converse(input);
}
