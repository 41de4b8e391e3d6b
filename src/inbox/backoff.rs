//! How long a delivery waits for its next attempt.

/// A source of numbers that look random, from a seed (SplitMix64). For spreading load, not for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Throws that depend on the seed alone.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `limit`, both included.
    pub const fn throw(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        match limit.checked_add(1) {
            Some(count) => ((bits as u128 * count as u128) >> 64) as u64,
            None => bits,
        }
    }
}

/// Exponential backoff with full jitter: after failure n a delivery waits a random time up to `first · 2^(n-1)`, at most
/// `cap`, and at least half of `first`. Deliveries that failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound after the first failure, in milliseconds.
    pub first: u64,
    /// The greatest bound, in milliseconds.
    pub cap: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: 1_000, cap: 15 * 60_000 }
    }
}

impl Backoff {
    /// Milliseconds to wait after failure number `failures` (from 1).
    #[must_use]
    pub fn delay(self, failures: u32, dice: &mut Dice) -> u64 {
        let doublings = failures.saturating_sub(1).min(40);
        let bound = self.first.saturating_mul(1 << doublings).min(self.cap);
        dice.throw(bound).max(self.first / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_within_their_bounds_and_use_all_of_them() {
        let backoff = Backoff::default();
        let mut dice = Dice::new(7);
        for (failures, bound) in [(0, 1_000), (1, 1_000), (2, 2_000), (5, 16_000), (11, 900_000), (u32::MAX, 900_000)] {
            let delays: Vec<u64> = (0..2_000).map(|_| backoff.delay(failures, &mut dice)).collect();
            assert!(delays.iter().all(|delay| (500..=bound).contains(delay)), "{failures}");
            assert!(delays.iter().any(|delay| *delay > bound * 9 / 10), "{failures}: the bound is used");
            assert!(delays.iter().any(|delay| *delay < (bound / 10).max(600)), "{failures}: so is the beginning");
        }
    }

    #[test]
    fn throws_are_even_and_within_the_limit() {
        let mut dice = Dice::new(1);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            counts[usize::try_from(dice.throw(9)).unwrap_or(99)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(dice.throw(0), 0);
        let _ = dice.throw(u64::MAX);
    }
}
