//! The only place that reads the clocks of a running proxy.

use std::cell::Cell;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::now::Now;

/// Both clocks, with a common origin for every worker of the process.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic origin is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock room")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock room")]
    pub fn now(&self) -> Now {
        Now {
            monotonic: self.origin.elapsed(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
        }
    }

    /// Reads the monotonic clock alone.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The instant at which the monotonic clock reads `monotonic`.
    #[must_use]
    pub fn instant(&self, monotonic: Duration) -> Instant {
        self.origin + monotonic
    }
}

/// For how long the distance between the two clocks is taken to stay as it is. A step of the wall clock is noticed so
/// much later.
const STEP: Duration = Duration::from_millis(100);

/// The clock of one worker. While a task is polled in [`Self::turn`] it is looked at once: what happens between two
/// waits happens at one time, and a dozen readings for each request would cost more than its verification. Outside of a
/// turn every reading is a look.
#[derive(Debug)]
pub struct WorkerClock {
    clock: Clock,
    in_turn: Cell<bool>,
    seen: Cell<Option<Now>>,
    /// Both clocks, at the last look at the wall clock.
    wall: Cell<Now>,
}

impl WorkerClock {
    /// The clock of a worker.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let wall = Cell::new(clock.now());
        Self { clock, in_turn: Cell::new(false), seen: Cell::new(None), wall }
    }

    /// The clock of the process.
    #[must_use]
    pub const fn of_process(&self) -> &Clock {
        &self.clock
    }

    /// Both clocks, as they were at the first look of the turn.
    #[must_use]
    pub fn now(&self) -> Now {
        match self.seen.get() {
            Some(now) => now,
            None => self.look(),
        }
    }

    /// Looks at the clock in any case: after work that takes time.
    pub fn look(&self) -> Now {
        let monotonic = self.clock.monotonic();
        let mut wall = self.wall.get();
        if monotonic >= wall.monotonic + STEP {
            wall = self.clock.now();
            self.wall.set(wall);
        }
        let now = Now { monotonic, unix: wall.unix + monotonic.saturating_sub(wall.monotonic) };
        self.seen.set(self.in_turn.get().then_some(now));
        now
    }

    /// Drives a task; each time it is polled is a turn.
    pub const fn turn<'a, F: Future>(&'a self, task: Pin<&'a mut F>) -> Turn<'a, F> {
        Turn { clock: self, task }
    }
}

/// A task that is driven by [`WorkerClock::turn`]. Each connection is one.
#[derive(Debug)]
pub struct Turn<'a, F> {
    clock: &'a WorkerClock,
    task: Pin<&'a mut F>,
}

impl<F: Future> Future for Turn<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.clock.in_turn.set(true);
        let progress = self.task.as_mut().poll(cx);
        self.clock.in_turn.set(false);
        self.clock.seen.set(None);
        progress
    }
}

/// The `Date` header of our own answers, formatted at most once a second.
#[derive(Debug, Default)]
pub struct DateLine {
    second: Cell<u64>,
    text: Cell<[u8; 29]>,
}

impl DateLine {
    /// RFC 9110 section 5.6.7 (IMF-fixdate) for `now`.
    #[must_use]
    pub fn at(&self, now: Now) -> [u8; 29] {
        let second = now.unix.as_secs();
        if self.second.get() != second {
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            let mut text = [0; 29];
            if write!(text.as_mut_slice(), "{date}").is_ok() {
                self.text.set(text);
                self.second.set(second);
            }
        }
        self.text.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_an_imf_fixdate_and_moves_with_the_second() {
        let date = DateLine::default();
        assert_eq!(&date.at(Now::at_unix(Duration::from_secs(784_111_777))), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date.at(Now::at_unix(Duration::from_secs(784_111_778))), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
