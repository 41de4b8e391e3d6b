//! Connections that have just answered keep their buffer and their timer for a moment: many clients send the next request
//! at once.

use std::cell::Cell;
use std::time::Duration;

/// How long a connection that has just answered keeps its buffer and its timer.
pub(in crate::edge) const WARM: Duration = Duration::from_millis(250);

/// And how long when more than [`MANY`] of a worker do: such a connection holds fifteen times what an idle one does.
const WARM_AMONG_MANY: Duration = Duration::from_millis(50);
const MANY: usize = 128;

/// The connections of a worker that wait for a request with their buffer.
#[derive(Debug, Default)]
pub struct Warm(Cell<usize>);

/// One of them; it counts until this is dropped.
#[derive(Debug)]
pub(in crate::edge) struct Warming<'a>(&'a Cell<usize>);

impl Warm {
    pub(in crate::edge) fn enter(&self) -> Warming<'_> {
        self.0.set(self.0.get() + 1);
        Warming(&self.0)
    }
}

impl Warming<'_> {
    /// For how long.
    pub(in crate::edge) const fn time(&self) -> Duration {
        if self.0.get() > MANY { WARM_AMONG_MANY } else { WARM }
    }
}

impl Drop for Warming<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_stay_warm_for_a_shorter_time() {
        let warm = Warm::default();
        let mut all: Vec<Warming<'_>> = (0..MANY).map(|_| warm.enter()).collect();
        assert!(all.iter().all(|one| one.time() == WARM));
        all.push(warm.enter());
        assert_eq!(warm.enter().time(), WARM_AMONG_MANY);
        all.truncate(1);
        assert_eq!(warm.enter().time(), WARM);
    }
}
