//! What the thread that delivers counts, by route.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::tally::Tally;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The application has the delivery.
    Delivered,
    /// It is attempted again.
    Again,
    /// It is a dead letter.
    Dead,
}

impl AttemptResult {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::Again, Self::Dead];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Again => "again",
            Self::Dead => "dead",
        }
    }
}

/// The deliveries of one route. The thread that delivers alone writes it.
#[derive(Debug, Default)]
pub struct DeliveryCells {
    results: [Tally; 3],
    waiting: Tally,
    /// When the oldest that waits was accepted, in milliseconds since 1970; 0 where none waits.
    oldest: Tally,
}

impl DeliveryCells {
    /// An attempt has ended.
    pub fn ended(&self, result: AttemptResult) {
        self.results.iter().skip(result as usize).take(1).for_each(|cell| cell.add(1));
    }

    /// How many wait, and when the oldest of them was accepted.
    pub fn stand(&self, waiting: u64, oldest: u64) {
        self.waiting.set(waiting);
        self.oldest.set(oldest);
    }
}

/// The deliveries of all routes, by name: they outlive a configuration.
#[derive(Debug, Default)]
pub struct DeliveryMeters(Mutex<BTreeMap<Arc<str>, Arc<DeliveryCells>>>);

/// What there is to read of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReading {
    /// The name of the route.
    pub route: String,
    /// Attempts by how they ended, in the order of [`AttemptResult::ALL`].
    pub results: [u64; 3],
    /// Deliveries that wait, or are being attempted.
    pub waiting: u64,
    /// Since when the oldest of them waits; zero where none waits.
    pub oldest: Duration,
}

impl DeliveryMeters {
    /// The cells of a route.
    #[must_use]
    pub fn of(&self, route: &Arc<str>) -> Arc<DeliveryCells> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(Arc::clone(route)).or_default())
    }

    /// Reads all routes; `unix` is the present.
    #[must_use]
    pub fn read(&self, unix: Duration) -> Vec<DeliveryReading> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |(route, cells): (&Arc<str>, &Arc<DeliveryCells>)| DeliveryReading {
            route: route.to_string(),
            results: core::array::from_fn(|at| cells.results.get(at).map_or(0, Tally::get)),
            waiting: cells.waiting.get(),
            oldest: match cells.oldest.get() {
                0 => Duration::ZERO,
                oldest => unix.saturating_sub(Duration::from_millis(oldest)),
            },
        };
        known.iter().map(read).collect()
    }
}
