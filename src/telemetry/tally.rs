//! Numbers that are written without a lock.

use core::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and others read. Adding is a load and a store: no bus lock, no cache line that
/// another core writes.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds. Only the thread that owns the number may; two that did would lose counts, and nothing else.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it, from any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that any thread adds to. For what does not happen on the path of a request that is served.
#[derive(Debug, Default)]
pub struct SharedTally(AtomicU64);

impl SharedTally {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
