//! A number that is held of something bounded.

use core::sync::atomic::{AtomicU64, Ordering};

/// How much of something is held, and how much may be, on a cache line of its own. When the limit is lowered below what
/// is held, nothing more is given until enough of it has come back.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Gauge {
    held: AtomicU64,
    limit: AtomicU64,
}

impl Gauge {
    pub(super) const fn new(limit: u64) -> Self {
        Self { held: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    pub(super) fn take(&self, amount: u64) -> bool {
        let limit = self.limit();
        let add = |held: u64| held.checked_add(amount).filter(|held| *held <= limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// The same, for one who holds `own` of it already: where no other holds any of it, the limit refuses nothing.
    /// A share must not make impossible what is allowed by itself.
    pub(super) fn take_share(&self, amount: u64, own: u64) -> bool {
        let limit = self.limit();
        let add = |held: u64| held.checked_add(amount).filter(|sum| *sum <= limit || held == own);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(super) fn release(&self, amount: u64) {
        self.held.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(super) fn has_plenty(&self, amount: u64) -> bool {
        self.held().saturating_add(amount) <= self.limit() / 2
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_gauge_goes_over_its_limit_under_threads() {
        let gauge = Gauge::new(7);
        std::thread::scope(|scope| {
            for amount in 1..5 {
                let gauge = &gauge;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if gauge.take(amount) {
                            assert!(gauge.held() <= 7);
                            gauge.release(amount);
                        }
                    }
                });
            }
        });
        assert_eq!(gauge.held(), 0);
        assert!(!gauge.take(u64::MAX) && gauge.take(7));
        gauge.set_limit(u64::MAX);
        assert!(!gauge.take(u64::MAX));
    }

    #[test]
    fn the_only_one_is_not_kept_from_what_is_allowed_elsewhere() {
        let gauge = Gauge::new(10);
        assert!(gauge.take_share(25, 0), "no other holds any");
        assert!(gauge.take_share(5, 25) && gauge.held() == 30);
        assert!(!gauge.take_share(1, 0));
        gauge.release(30);
        assert!(gauge.take_share(4, 0) && gauge.take_share(6, 0) && !gauge.take_share(1, 6));
    }
}
