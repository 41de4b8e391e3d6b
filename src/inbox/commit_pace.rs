//! How long a commit waits for company.
//!
//! Senders that were answered together send again together, but one after another reaches the store. A commit that begins
//! with the first of them leaves the others to the next one, and every commit costs the same two syncs.

use core::time::Duration;

/// No delivery waits longer than this for others.
const LONGEST: Duration = Duration::from_micros(500);

/// A commit of so many does not wait for more: its syncs cost little for each (`loadtest/inbox --part answers`).
const ENOUGH: usize = 16;

/// What the last commit says about the next one.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitPace {
    /// Deliveries of the last commit.
    held: usize,
    /// How long it took.
    took: Duration,
}

impl CommitPace {
    /// How long to wait when `waiting` deliveries have gathered: half as long as the last commit took, 0.5 ms at most, while
    /// fewer have come than it held, and fewer than 16.
    #[must_use]
    pub fn pause(&self, waiting: usize) -> Option<Duration> {
        (waiting > 0 && waiting < self.held.min(ENOUGH)).then(|| (self.took / 2).min(LONGEST))
    }

    /// A commit of `held` deliveries has taken so long. One without deliveries says nothing.
    pub const fn committed(&mut self, held: usize, took: Duration) {
        if held > 0 {
            (self.held, self.took) = (held, took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_commit_waits_for_as_many_as_the_last_one_held() {
        let mut pace = CommitPace::default();
        assert_eq!(pace.pause(1), None, "nothing is known");
        pace.committed(16, MILLISECOND / 2);
        assert_eq!(pace.pause(0), None, "nothing waits");
        assert_eq!(pace.pause(3), Some(MILLISECOND / 4));
        assert_eq!(pace.pause(16), None, "all have come");
        pace.committed(64, MILLISECOND / 2);
        assert_eq!(pace.pause(15), Some(MILLISECOND / 4));
        assert_eq!(pace.pause(16), None, "enough have come");
        pace.committed(0, MILLISECOND);
        assert_eq!(pace.pause(3), Some(MILLISECOND / 4), "settlements alone say nothing");
    }

    #[test]
    fn one_sender_never_waits_and_a_slow_disk_makes_nothing_wait_longer() {
        let mut pace = CommitPace::default();
        pace.committed(1, MILLISECOND);
        assert_eq!(pace.pause(1), None);
        pace.committed(9, MILLISECOND * 700);
        assert_eq!(pace.pause(1), Some(LONGEST));
        pace.committed(1, MILLISECOND);
        assert_eq!(pace.pause(1), None, "those that came were fewer: the next one does not wait for more");
    }
}
