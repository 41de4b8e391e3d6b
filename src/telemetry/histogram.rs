//! Durations counted by size, in an array of fixed length.
//!
//! The exporter's own histograms keep every sample in a list of blocks until they are drained: they allocate on the
//! path of a request, share an atomic between all cores, and grow while they are not read (`benches/metrics.rs` has the
//! figures). This one has one writer, never grows, and is added up when it is read.

use core::time::Duration;

use super::tally::Tally;

/// Upper bounds of the buckets, in nanoseconds: from 100 µs to 30 s.
const BOUNDS: [u64; 17] = {
    const MICROS: u64 = 1_000;
    const MILLIS: u64 = 1_000_000;
    [
        100 * MICROS,
        250 * MICROS,
        500 * MICROS,
        MILLIS,
        2_500 * MICROS,
        5 * MILLIS,
        10 * MILLIS,
        25 * MILLIS,
        50 * MILLIS,
        100 * MILLIS,
        250 * MILLIS,
        500 * MILLIS,
        1_000 * MILLIS,
        2_500 * MILLIS,
        5_000 * MILLIS,
        10_000 * MILLIS,
        30_000 * MILLIS,
    ]
};

/// Buckets, that of what is over all bounds included.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// The upper bounds in seconds, as the label `le` has them.
pub const BOUNDS_TEXT: [&str; BUCKETS] = [
    "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1",
    "2.5", "5", "10", "30", "+Inf",
];

/// What one worker has counted.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Tally; BUCKETS],
    /// Nanoseconds; enough for five centuries.
    sum: Tally,
}

/// What all workers have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How many fell into each bucket, not cumulated.
    pub buckets: [u64; BUCKETS],
    /// All of them together, in nanoseconds.
    pub sum: u64,
}

impl Histogram {
    /// Counts one duration. Only the worker that owns the histogram may.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let position = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.buckets.get(position) {
            bucket.add(1);
        }
        self.sum.add(nanos);
    }
}

impl Distribution {
    /// Adds what one worker has counted.
    pub fn add(&mut self, histogram: &Histogram) {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.get();
        }
        self.sum = self.sum.wrapping_add(histogram.sum.get());
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together, in seconds.
    #[must_use]
    pub const fn sum_seconds(&self) -> f64 {
        Duration::from_nanos(self.sum).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_buckets() {
        let histogram = Histogram::default();
        for nanos in [0, 100_000, 100_001, 30_000_000_000, 30_000_000_001] {
            histogram.record(Duration::from_nanos(nanos));
        }
        let mut all = Distribution::default();
        all.add(&histogram);
        let filled: Vec<(usize, u64)> = all.buckets.iter().copied().enumerate().filter(|(_, n)| *n > 0).collect();
        assert_eq!(filled, [(0, 2), (1, 1), (16, 1), (17, 1)]);
        assert_eq!((all.count(), all.sum), (5, 60_000_200_002));
    }

    #[test]
    fn the_text_of_a_bound_is_the_bound() {
        for (bound, text) in BOUNDS.iter().zip(BOUNDS_TEXT) {
            assert_eq!(text.parse::<f64>().ok(), Some(Duration::from_nanos(*bound).as_secs_f64()));
        }
    }
}
