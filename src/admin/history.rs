//! The last minutes, for the sparklines of the status page: so that whoever opens it sees what was, and not only what
//! comes. A ring of fixed size.

use core::time::Duration;
use std::collections::VecDeque;

use crate::telemetry::metrics::Metrics;

/// How often a sample is taken.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Samples that are kept: five minutes.
pub const SAMPLES: usize = 150;

/// Counts since the start of the process, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The monotonic clock.
    pub at: Duration,
    /// Deliveries forwarded.
    pub forwarded: u64,
    /// Requests refused.
    pub refused: u64,
    /// Exchanges in which something broke.
    pub failed: u64,
    /// Nanoseconds that forwarded exchanges took, all together.
    pub nanos: u64,
}

/// The last samples.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// Takes a sample if it is time for one.
    pub fn tick(&mut self, now: Duration, metrics: &Metrics) {
        if self.samples.back().is_some_and(|last| now < last.at + INTERVAL) {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        let unrouted = metrics.unrouted().totals();
        let mut sample =
            Sample { at: now, forwarded: 0, refused: unrouted.refused(), failed: unrouted.broken(), nanos: 0 };
        for route in &metrics.registered().routes {
            let totals = route.totals();
            sample.forwarded += totals.forwarded() + totals.acknowledged();
            sample.refused += totals.refused();
            sample.failed += totals.broken();
            sample.nanos += totals.total.sum;
        }
        self.samples.push_back(sample);
    }

    /// The samples, the oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        let (mut history, metrics) = (History::default(), Metrics::new(1));
        for second in 0..10_000 {
            history.tick(Duration::from_secs(second), &metrics);
        }
        assert_eq!(history.samples().count(), SAMPLES);
        let last = history.samples().last().map(|sample| sample.at.as_secs());
        assert_eq!(last, Some(9_998));
    }
}
