//! The last minutes, for the sparklines of the status page: so that an operator who opens it sees what was, and not only what
//! comes. A ring of fixed size.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::telemetry::metrics::Metrics;

/// How often a sample is taken.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Samples that are kept: five minutes.
pub const SAMPLES: usize = 150;

/// Counts since the start of the process, at one moment.
#[derive(Clone, Debug, Default)]
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
    routes: Vec<RouteSample>,
}

/// The same for one route.
#[derive(Clone, Debug)]
struct RouteSample {
    name: Arc<str>,
    passed: u64,
    /// Refused or failed.
    refused: u64,
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
            Sample { at: now, refused: unrouted.refused(), failed: unrouted.broken(), ..Sample::default() };
        for route in &metrics.registered().routes {
            let totals = route.totals();
            sample.forwarded += totals.forwarded() + totals.acknowledged();
            sample.refused += totals.refused();
            sample.failed += totals.broken();
            sample.nanos += totals.total.sum;
            sample.routes.push(RouteSample {
                name: Arc::clone(&route.name),
                passed: totals.forwarded() + totals.acknowledged(),
                refused: totals.refused() + totals.broken(),
            });
        }
        self.samples.push_back(sample);
    }

    /// What passed on a route and what did not, from each sample to the next, as rates per second. `position` is where
    /// the route is likely to be.
    #[must_use]
    pub fn rates(&self, name: &Arc<str>, position: usize) -> (Vec<f64>, Vec<f64>) {
        let of = |sample: &Sample| {
            let likely = sample.routes.get(position).filter(|route| Arc::ptr_eq(&route.name, name));
            let found = likely.or_else(|| sample.routes.iter().find(|route| route.name == *name));
            found.map(|route| (sample.at, route.passed, route.refused))
        };
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let rates = pairs.filter_map(|(before, after)| {
            let ((from, passed, refused), (to, passed_then, refused_then)) = (of(before)?, of(after)?);
            let seconds = to.saturating_sub(from).as_secs_f64();
            // One decimal is all that a line of thirty pixels can show.
            let rate = |grown: u64| (grown as f64 / seconds * 10.0).round() / 10.0;
            let passed = passed_then.saturating_sub(passed);
            (seconds > 0.0).then(|| (rate(passed), rate(refused_then.saturating_sub(refused))))
        });
        rates.unzip()
    }

    /// The samples, the oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::RouteLabels;

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

    #[test]
    fn a_route_has_its_rates_for_as_long_as_it_was_there() {
        let (mut history, metrics) = (History::default(), Metrics::new(1));
        history.tick(Duration::from_secs(0), &metrics);
        let labels = RouteLabels { name: "a".to_owned(), scheme: "s".to_owned(), keys: Vec::new() };
        let _meters = metrics.register(&[labels], &[]);
        for second in [2, 4, 6] {
            history.tick(Duration::from_secs(second), &metrics);
        }
        assert_eq!(history.rates(&Arc::from("a"), 0), (vec![0.0, 0.0], vec![0.0, 0.0]));
        assert_eq!(history.rates(&Arc::from("b"), 0), (vec![], vec![]));
    }
}
