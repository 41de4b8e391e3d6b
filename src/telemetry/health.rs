//! Whether an application can be reached, as `/ready` asks for it: judged by looks at intervals, with hysteresis, so
//! that one bad moment changes nothing and an application that comes and goes does not make `/ready` flutter.
//!
//! A look is what became of the deliveries since the look before. Whatever the application answered was an answer, 5xx
//! included: it is there, and what it thinks of a delivery is between it and the sender. One delivery that it always
//! answers with 500 must not take all others away from it. What counts against it are the faults of its side: it cannot
//! be reached, breaks off, or does not answer in time.

use core::num::NonZeroU32;

use super::cells::RouteTotals;
use crate::outcome::{Fault, Side};

/// How many looks in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Bad ones, until an application counts as one that cannot be reached.
    pub failures: NonZeroU32,
    /// Good ones, until it counts as one that can be again.
    pub successes: NonZeroU32,
}

/// What a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It was reached.
    Good,
    /// Some deliveries were answered and some were not: no end of a run of good looks or bad ones, and neither itself.
    Mixed,
    /// It was not reached, and why, in words for people.
    Bad(String),
}

/// What is thought of an application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It has not been reached so far, nor missed often enough.
    #[default]
    Unknown,
    /// It can be reached.
    Healthy,
    /// It cannot.
    Unhealthy,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One application.
#[derive(Clone, Debug, Default)]
pub struct Health {
    standing: Standing,
    presumed: bool,
    good: u32,
    bad: u32,
    trouble: Option<String>,
}

impl Health {
    /// Of an application that has not been looked at. `presumed`: it counts as reached until it has been missed often
    /// enough, because it has come into a process that was ready, which one unknown application is not to undo.
    #[must_use]
    pub fn unknown(presumed: bool) -> Self {
        Self { presumed, ..Self::default() }
    }

    /// Takes a look into account. Gives whether that changes what is thought.
    pub fn look(&mut self, look: Look, thresholds: Thresholds) -> bool {
        let before = self.standing;
        match look {
            Look::Good => {
                self.bad = 0;
                self.good = self.good.saturating_add(1);
                // At the start, once is enough: an application that has just come up is not made to wait.
                if before == Standing::Unknown || self.good >= thresholds.successes.get() {
                    self.standing = Standing::Healthy;
                }
            }
            Look::Mixed => {
                (self.good, self.bad) = (0, 0);
                if before == Standing::Unknown {
                    self.standing = Standing::Healthy;
                }
            }
            Look::Bad(why) => {
                self.good = 0;
                self.bad = self.bad.saturating_add(1);
                self.trouble = Some(why);
                if self.bad >= thresholds.failures.get() {
                    self.standing = Standing::Unhealthy;
                }
            }
        }
        if self.standing == Standing::Healthy && self.bad == 0 {
            self.trouble = None;
        }
        self.standing != before
    }

    /// What is thought of it.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether `/ready` may say yes.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        match self.standing {
            Standing::Healthy => true,
            Standing::Unknown => self.presumed,
            Standing::Unhealthy => false,
        }
    }

    /// What was wrong with the last bad look, unless it is of no account any more.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

/// What is told of an application that `/ready` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReading {
    /// Its address, as it is configured.
    pub upstream: String,
    /// What is thought of it.
    pub standing: Standing,
    /// Whether `/ready` may say yes.
    pub good: bool,
    /// What was wrong with the last bad look, unless it is of no account any more.
    pub trouble: Option<String>,
    /// Unix seconds since which this is thought of it.
    pub since: u64,
}

/// What has become of the deliveries of a route, or of all routes to one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Answered by the application, with whatever status.
    answered: u64,
    /// Faults of its side, in the order of the table of outcomes.
    faults: Vec<u64>,
}

impl Traffic {
    /// All of a route, since the start.
    #[must_use]
    pub fn of(totals: &RouteTotals) -> Self {
        let count = |(fault, count): (&Fault, &u64)| if fault.side() == Side::Upstream { *count } else { 0 };
        Self { answered: totals.forwarded(), faults: Fault::ALL.iter().zip(&totals.failed).map(count).collect() }
    }

    /// What has come since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let earlier_fault = |at| earlier.faults.get(at).copied().unwrap_or_default();
        let fault = |(at, count): (usize, &u64)| count.saturating_sub(earlier_fault(at));
        Self {
            answered: self.answered.saturating_sub(earlier.answered),
            faults: self.faults.iter().enumerate().map(fault).collect(),
        }
    }

    /// Adds what has come over another route.
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.faults.resize(self.faults.len().max(other.faults.len()), 0);
        self.faults.iter_mut().zip(&other.faults).for_each(|(sum, count)| *sum += count);
    }

    /// What that says of the application; nothing where no delivery has come to an end.
    #[must_use]
    pub fn look(&self) -> Option<Look> {
        let failed: u64 = self.faults.iter().sum();
        match (self.answered, failed) {
            (0, 0) => None,
            (_, 0) => Some(Look::Good),
            (0, _) => {
                let most = Fault::ALL.iter().zip(&self.faults).max_by_key(|(_, count)| **count);
                let code = most.map_or("", |(fault, _)| fault.code());
                Some(Look::Bad(format!("deliveries fail ({code})")))
            }
            _ => Some(Look::Mixed),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn thresholds(failures: u32, successes: u32) -> Thresholds {
        Thresholds { failures: NonZeroU32::new(failures).unwrap(), successes: NonZeroU32::new(successes).unwrap() }
    }

    fn bad() -> Look {
        Look::Bad("cannot connect".to_owned())
    }

    /// What is thought after each of these looks: `+` good, `-` bad, `~` mixed.
    fn story(health: &mut Health, looks: &str, thresholds: Thresholds) -> String {
        let letter = |health: &Health| match health.standing() {
            Standing::Unknown => '?',
            Standing::Healthy => 'h',
            Standing::Unhealthy => 'u',
        };
        let step = |look| {
            let (before, look) = (
                health.standing(),
                match look {
                    '+' => Look::Good,
                    '-' => bad(),
                    _ => Look::Mixed,
                },
            );
            assert_eq!(health.look(look, thresholds), before != health.standing());
            letter(health)
        };
        looks.chars().map(step).collect()
    }

    #[test]
    fn it_takes_so_many_in_a_row() {
        for (looks, expected) in [
            ("+", "h"),
            ("~", "h"),
            ("--+", "??h"),
            ("---+", "??uu"),
            ("---++", "??uuh"),
            ("---+-++", "??uuuuh"),
            ("---+~++", "??uuuuh"),
            ("+--+--", "hhhhhh"),
            ("+--~--", "hhhhhh"),
            ("+---", "hhhu"),
            ("+---++--+---", "hhhuuhhhhhhu"),
        ] {
            assert_eq!(story(&mut Health::unknown(false), looks, thresholds(3, 2)), expected, "{looks}");
            assert_eq!(story(&mut Health::unknown(true), looks, thresholds(3, 2)), expected, "{looks}");
        }
    }

    #[test]
    fn what_is_unknown_is_good_only_where_that_is_presumed() {
        let (mut strict, mut lenient) = (Health::unknown(false), Health::unknown(true));
        assert!(!strict.is_good() && lenient.is_good());
        for health in [&mut strict, &mut lenient] {
            story(health, "---", thresholds(3, 2));
            assert!(!health.is_good(), "nothing is presumed against what has been seen");
            story(health, "+", thresholds(3, 2));
            assert!(!health.is_good());
            story(health, "+", thresholds(3, 2));
            assert!(health.is_good());
        }
    }

    #[test]
    fn trouble_is_told_while_it_counts() {
        let mut health = Health::unknown(false);
        for (look, told) in [("+", false), ("-", true), ("+", false), ("---", true), ("+", true), ("+", false)] {
            story(&mut health, look, thresholds(3, 2));
            assert_eq!(health.trouble(), told.then_some("cannot connect"), "{look}");
        }
    }

    #[test]
    fn answers_are_good_whatever_they_say_and_faults_count_by_their_side() {
        let mut totals = RouteTotals { failed: vec![0; Fault::ALL.len()], ..RouteTotals::default() };
        let begin = Traffic::of(&totals);
        assert_eq!(begin.look(), None);
        for fault in [Fault::DownstreamClosed, Fault::BodyTimeout, Fault::ResponseUnread, Fault::Draining] {
            totals.failed[fault as usize] += 9;
        }
        assert_eq!(Traffic::of(&totals).look(), None, "clients that go away say nothing of the application");
        for class in [1, 3, 4] {
            let earlier = Traffic::of(&totals);
            totals.forwarded[class] += 1;
            assert_eq!(Traffic::of(&totals).since(&earlier).look(), Some(Look::Good));
        }
        let earlier = Traffic::of(&totals);
        totals.failed[Fault::UpstreamConnect as usize] += 2;
        totals.failed[Fault::UpstreamTimeout as usize] += 3;
        let mut failing = Traffic::of(&totals).since(&earlier);
        assert_eq!(failing.look(), Some(Look::Bad("deliveries fail (upstream_timeout)".to_owned())));
        // Another route to the same application.
        failing.add(&Traffic { answered: 1, faults: Vec::new() });
        assert_eq!(failing.look(), Some(Look::Mixed));
        let mut sum = Traffic::default();
        sum.add(&failing);
        assert_eq!(sum, failing);
    }

    #[test]
    fn every_fault_of_the_application_counts_against_it() {
        for fault in Fault::ALL {
            let mut totals = RouteTotals { failed: vec![0; Fault::ALL.len()], ..RouteTotals::default() };
            totals.failed[*fault as usize] = 1;
            let expected = (fault.side() == Side::Upstream).then(|| format!("deliveries fail ({})", fault.code()));
            assert_eq!(Traffic::of(&totals).look(), expected.map(Look::Bad));
        }
    }

    proptest! {
        /// What is thought is what the last run that was long enough says, however the looks come.
        #[test]
        fn the_last_run_that_was_long_enough_counts(
            looks in "[-+~]{0,40}", failures in 1u32..6, successes in 1u32..6, presumed: bool,
        ) {
            let mut health = Health::unknown(presumed);
            story(&mut health, &looks, thresholds(failures, successes));
            let run = |end: usize, sign: char| {
                looks[..end].chars().rev().take_while(|look| *look == sign).count() as u32
            };
            // Found backwards, where the machine goes forwards.
            let decided = (1..=looks.len()).rev().find_map(|end| {
                let first = !looks[..end - 1].contains(['+', '~'])
                    && (1..end).all(|end| run(end, '-') < failures)
                    && !looks[..end].ends_with('-');
                if run(end, '-') >= failures {
                    Some(Standing::Unhealthy)
                } else if run(end, '+') >= successes || first {
                    Some(Standing::Healthy)
                } else {
                    None
                }
            });
            prop_assert_eq!(health.standing(), decided.unwrap_or_default());
        }

        /// Between two changes there are at least as many looks as the threshold of the second.
        #[test]
        fn it_does_not_flutter(looks in "[-+~]{0,60}", failures in 1u32..6, successes in 1u32..6) {
            let mut health = Health::unknown(false);
            let story = format!("?{}", story(&mut health, &looks, thresholds(failures, successes)));
            let letters: Vec<char> = story.chars().collect();
            let changes: Vec<usize> = (1..letters.len()).filter(|at| letters[*at] != letters[at - 1]).collect();
            for pair in changes.windows(2) {
                let needed = if letters[pair[1]] == 'u' { failures } else { successes };
                prop_assert!((pair[1] - pair[0]) as u32 >= needed, "{} {}", looks, story);
            }
        }
    }
}
