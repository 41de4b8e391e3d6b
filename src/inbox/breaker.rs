//! Stops attempts at an application that is away, and brings them back slowly.

use crate::inbox::backoff::Dice;

/// So many failures in a row open the breaker, if they are also half of the last [`WINDOW`] attempts, or come directly
/// after an outage.
const FAILURES: u32 = 5;

/// How many of the last attempts are looked at.
const WINDOW: u32 = 20;

/// For how long it is open the first time, in milliseconds.
const FIRST_PAUSE: u64 = 1_000;

/// For how long it is open at most, in milliseconds, a quarter of random time not counted.
const LONGEST_PAUSE: u64 = 60_000;

/// The last 20 ends, one bit each, the youngest lowest.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndWindow {
    bits: u32,
    count: u32,
}

impl EndWindow {
    /// Notes an end.
    pub fn note(&mut self, marked: bool) {
        self.bits = ((self.bits << 1) | u32::from(marked)) & ((1 << WINDOW) - 1);
        self.count = (self.count + 1).min(WINDOW);
    }

    /// Whether at least half of those noted were marked.
    #[must_use]
    pub const fn half_are_marked(self) -> bool {
        self.bits.count_ones() * 2 >= self.count
    }

    /// Whether more than half of a whole window were marked, however many were noted.
    #[must_use]
    pub const fn most_are_marked(self) -> bool {
        self.bits.count_ones() * 2 > WINDOW
    }
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Everything.
    Closed,
    /// So many attempts at a time, after an outage: twice as many after each that succeed.
    SlowStart {
        /// How many.
        limit: u32,
        /// How many have succeeded since the limit was set.
        succeeded: u32,
    },
    /// Nothing until then (milliseconds of the monotonic clock).
    Open {
        /// When one attempt may be made.
        until: u64,
    },
    /// One attempt is being made.
    Probing,
}

/// The breaker of one application.
#[derive(Clone, Debug)]
pub struct Breaker {
    flow: Flow,
    window: EndWindow,
    in_a_row: u32,
    /// Pauses since it was last closed.
    pauses: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { flow: Flow::Closed, window: EndWindow::default(), in_a_row: 0, pauses: 0 }
    }
}

impl Breaker {
    /// What it lets through.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        self.flow
    }

    /// Whether another attempt may begin beside `flying`. Where it is open and its pause is over, one may.
    #[must_use]
    pub const fn permits(&self, flying: u32, now: u64) -> bool {
        match self.flow {
            Flow::Closed => true,
            Flow::SlowStart { limit, .. } => flying < limit,
            // Attempts that began before it opened may be under way.
            Flow::Open { until } => now >= until,
            Flow::Probing => false,
        }
    }

    /// Whether an attempt that begins now is the probe of an open breaker.
    #[must_use]
    pub const fn probes(&self) -> bool {
        matches!(self.flow, Flow::Open { .. } | Flow::Probing)
    }

    /// How many pauses there have been in this outage: another delivery probes after each.
    #[must_use]
    pub const fn pauses(&self) -> u32 {
        self.pauses
    }

    /// When it lets something through again; nothing where it does now, or waits for a probe.
    #[must_use]
    pub const fn opens_at(&self) -> Option<u64> {
        match self.flow {
            Flow::Open { until } => Some(until),
            _ => None,
        }
    }

    /// An attempt begins, which [`Self::permits`] has allowed. Gives whether it is the probe.
    pub const fn begin(&mut self) -> bool {
        let probe = matches!(self.flow, Flow::Open { .. });
        if probe {
            self.flow = Flow::Probing;
        }
        probe
    }

    /// An attempt has ended. Gives whether the breaker opened by it.
    pub fn end(&mut self, probe: bool, failed: bool, now: u64, dice: &mut Dice) -> bool {
        if self.probes() {
            // What began before it opened decides nothing, but an answer of an application that was thought away.
            if failed && !probe {
                return false;
            }
            if failed {
                self.open(now, dice);
                return false;
            }
            *self = Self { flow: Flow::SlowStart { limit: 1, succeeded: 0 }, ..Self::default() };
            return false;
        }
        self.window.note(failed);
        if failed {
            self.in_a_row += 1;
            let starting = matches!(self.flow, Flow::SlowStart { .. });
            if self.in_a_row >= FAILURES && (starting || self.window.half_are_marked()) {
                self.open(now, dice);
                return true;
            }
            if let Flow::SlowStart { limit, succeeded } = &mut self.flow {
                (*limit, *succeeded) = (1, 0);
            }
            return false;
        }
        self.in_a_row = 0;
        if let Flow::SlowStart { limit, succeeded } = &mut self.flow {
            *succeeded += 1;
            if *succeeded >= *limit {
                (*limit, *succeeded) = (*limit * 2, 0);
            }
            if *limit > 1_024 {
                self.flow = Flow::Closed;
            }
        }
        false
    }

    /// A probe was given up without a word about the application.
    pub const fn abandon(&mut self, now: u64) {
        if matches!(self.flow, Flow::Probing) {
            self.flow = Flow::Open { until: now };
        }
    }

    /// The application is known to be there: the pause is over. For a lookout that probes on its own.
    pub const fn hasten(&mut self, now: u64) {
        if matches!(self.flow, Flow::Open { .. }) {
            self.flow = Flow::Open { until: now };
        }
    }

    /// Opens, for twice as long as before, and up to a quarter more by chance.
    pub fn open(&mut self, now: u64, dice: &mut Dice) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16)).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        self.in_a_row = 0;
        self.flow = Flow::Open { until: now + pause + dice.throw(pause / 4) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, now: u64, dice: &mut Dice) -> bool {
        let probe = breaker.begin();
        breaker.end(probe, true, now, dice)
    }

    fn succeed(breaker: &mut Breaker, now: u64, dice: &mut Dice) {
        let probe = breaker.begin();
        breaker.end(probe, false, now, dice);
    }

    #[test]
    fn five_failures_in_a_row_open_it_if_they_are_half_of_the_last_twenty() {
        let (mut breaker, mut dice) = (Breaker::default(), Dice::new(1));
        assert_eq!(
            (0..5).map(|_| fail(&mut breaker, 0, &mut dice)).collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
        let mut breaker = Breaker::default();
        (0..20).for_each(|_| succeed(&mut breaker, 0, &mut dice));
        assert!((0..9).all(|_| !fail(&mut breaker, 0, &mut dice)), "9 of 20");
        assert!(fail(&mut breaker, 0, &mut dice), "10 of 20");
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            (0..4).for_each(|_| assert!(!fail(&mut breaker, 0, &mut dice)));
            succeed(&mut breaker, 0, &mut dice);
        }
    }

    #[test]
    fn pauses_double_to_a_minute_and_one_attempt_follows_each() {
        let (mut breaker, mut dice) = (Breaker::default(), Dice::new(2));
        (0..5).for_each(|_| _ = fail(&mut breaker, 0, &mut dice));
        let mut now = 0;
        for bound in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let until = breaker.opens_at().unwrap_or_default();
            assert!((bound * 1_000..=bound * 1_250).contains(&(until - now)), "{bound}: {}", until - now);
            assert!(!breaker.permits(0, until - 1) && breaker.permits(0, until));
            now = until;
            assert!(breaker.begin());
            assert!(!breaker.permits(0, now + 1_000_000), "one probe at a time");
            breaker.end(true, true, now, &mut dice);
        }
    }

    #[test]
    fn attempts_come_back_one_two_four_at_a_time() {
        let (mut breaker, mut dice) = (Breaker::default(), Dice::new(3));
        (0..5).for_each(|_| _ = fail(&mut breaker, 0, &mut dice));
        succeed(&mut breaker, 10_000, &mut dice);
        for limit in [1, 2, 4, 8, 16] {
            assert!(breaker.permits(limit - 1, 10_000) && !breaker.permits(limit, 10_000), "{limit}");
            (0..limit).for_each(|_| succeed(&mut breaker, 10_000, &mut dice));
        }
        assert!(!fail(&mut breaker, 10_000, &mut dice));
        assert!(breaker.permits(0, 10_000) && !breaker.permits(1, 10_000), "a failure begins again with one");
        (0..4).for_each(|_| _ = fail(&mut breaker, 10_000, &mut dice));
        assert!(breaker.opens_at().is_some());
    }

    #[test]
    fn what_began_before_it_opened_does_not_prolong_it_but_can_close_it() {
        let (mut breaker, mut dice) = (Breaker::default(), Dice::new(4));
        (0..5).for_each(|_| _ = fail(&mut breaker, 0, &mut dice));
        let until = breaker.opens_at();
        breaker.end(false, true, 500, &mut dice);
        assert_eq!(breaker.opens_at(), until);
        breaker.end(false, false, 500, &mut dice);
        assert_eq!(breaker.flow(), Flow::SlowStart { limit: 1, succeeded: 0 });
    }

    #[test]
    fn a_lookout_ends_the_pause_early_and_a_probe_that_was_given_up_is_made_again() {
        let (mut breaker, mut dice) = (Breaker::default(), Dice::new(5));
        (0..5).for_each(|_| _ = fail(&mut breaker, 0, &mut dice));
        breaker.hasten(10);
        assert!(breaker.permits(0, 10) && breaker.begin());
        breaker.abandon(20);
        assert!(breaker.permits(0, 20));
    }
}
