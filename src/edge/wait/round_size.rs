//! How much a worker lets happen between two looks at the driver (see [`super::turns`]). A request costs a few microseconds
//! or several hundred, by the kind of its signature, and nothing says so before it is verified. Under a flood of costly ones
//! the time between two looks is as long as the number of turns lets it be, and a delivery on a kept connection needs
//! several looks. So a round becomes smaller while a look takes longer than [`TARGET`], and larger again when it does not.

use std::cell::Cell;
use std::time::Duration;

/// How long a look should take: a delivery on a kept connection needs about four.
const TARGET: Duration = Duration::from_millis(2);

/// Turns of a round, and connections that are accepted in one, at most. Fewer make a genuine delivery wait less, more make
/// looking cheaper.
pub(super) const LARGEST_ROUND: usize = 32;

/// And at least.
const SMALLEST_ROUND: usize = 4;

/// The size of the rounds of one worker, in turns.
#[derive(Debug)]
pub(super) struct RoundSize(Cell<usize>);

impl Default for RoundSize {
    fn default() -> Self {
        Self(Cell::new(LARGEST_ROUND))
    }
}

impl RoundSize {
    /// A look took so long: how many turns the next round has.
    pub(super) fn after(&self, took: Duration) -> usize {
        let size = self.0.get();
        let next = if took > TARGET { (size * 3 / 4).max(SMALLEST_ROUND) } else { (size + 2).min(LARGEST_ROUND) };
        self.0.set(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_shrink_while_looks_take_long_and_grow_when_they_do_not() {
        let size = RoundSize::default();
        let mut before = LARGEST_ROUND;
        for _ in 0..20 {
            let now = size.after(2 * TARGET);
            assert!(now < before || now == SMALLEST_ROUND, "{now} after {before}");
            before = now;
        }
        assert_eq!(before, SMALLEST_ROUND);
        for _ in 0..LARGEST_ROUND {
            size.after(TARGET);
        }
        assert_eq!(size.after(TARGET), LARGEST_ROUND, "and as large as before when they do not");
    }
}
