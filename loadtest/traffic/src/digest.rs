//! How long SHA-256 takes on this CPU: the price that no verifier can avoid.

use std::hint::black_box;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use ring::digest;

use crate::options::Options;

/// Digests between two looks at the clock.
const BATCH: u32 = 16;

/// Hashes the same bytes until so much CPU time is spent, and reports the microseconds for once. What others do on the
/// CPU meanwhile does not count.
///
/// # Errors
/// A wrong option; the operating system.
pub fn run(mut options: Options) -> Result<(), String> {
    let size: usize = options.or("body", 64 << 10)?;
    let time = options.seconds("seconds", 0.5)?;
    options.finish()?;
    if size > 1 << 30 {
        return Err("--body is at most 1 GiB".to_owned());
    }
    let body = vec![b'x'; size];
    let (count, taken) = repeat(&body, time).map_err(|error| error.to_string())?;
    println!("{{\"digests\":{count},\"microseconds\":{:.3}}}", taken.as_secs_f64() * 1e6 / f64::from(count));
    Ok(())
}

/// How often, and how long that took.
fn repeat(body: &[u8], time: Duration) -> nix::Result<(u32, Duration)> {
    let spent = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let begun = spent()?;
    let mut count = 0;
    loop {
        for _ in 0..BATCH {
            black_box(digest::digest(&digest::SHA256, black_box(body)));
        }
        count += BATCH;
        let taken = spent()?.saturating_sub(begun);
        if taken >= time {
            return Ok((count, taken));
        }
    }
}
