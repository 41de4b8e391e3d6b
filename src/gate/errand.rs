//! What another thread does for one request while that waits: how far it has come, and the bells that let workers look.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// How an errand has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrandEnd {
    /// It is done, and stays so.
    Done = 3,
    /// It could not be done.
    Failed = 4,
    /// What the request has brought is of no use.
    Unfit = 5,
}

const WAITING: u8 = 0;
const UNDER_WAY: u8 = 1;
const WITHDRAWN: u8 = 2;

/// What becomes of an errand. Both sides see the same: what was withdrawn is not done.
#[derive(Debug, Default)]
pub struct ErrandFate(AtomicU8);

impl ErrandFate {
    /// Begins the errand; false where it has been withdrawn.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.0.compare_exchange(WAITING, UNDER_WAY, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Withdraws the errand; false where it is under way, or has ended.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Says how it has ended. [`WorkerBells::ring`] lets the one that waits look.
    pub fn end(&self, end: ErrandEnd) {
        self.0.store(end as u8, Ordering::Release);
    }

    /// How it has ended, once that is known.
    #[must_use]
    pub fn ended(&self) -> Option<ErrandEnd> {
        let state = self.0.load(Ordering::Acquire);
        [ErrandEnd::Done, ErrandEnd::Failed, ErrandEnd::Unfit].into_iter().find(|end| *end as u8 == state)
    }
}

/// A bell for each worker. Errands are few: all workers look when one has ended.
#[derive(Default)]
pub struct WorkerBells(Mutex<Vec<Bell>>);

type Bell = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for WorkerBells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBells").finish_non_exhaustive()
    }
}

impl WorkerBells {
    /// Adds the bell of a worker. It must not block.
    pub fn add(&self, bell: impl Fn() + Send + Sync + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(bell));
    }

    /// Rings all of them.
    pub fn ring(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|bell| bell());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_withdrawn_is_not_done() {
        let (withdrawn, done) = (ErrandFate::default(), ErrandFate::default());
        assert!(withdrawn.withdraw() && !withdrawn.begin());
        assert!(done.begin() && !done.withdraw());
        assert_eq!(done.ended(), None);
        for end in [ErrandEnd::Done, ErrandEnd::Failed, ErrandEnd::Unfit] {
            done.end(end);
            assert_eq!(done.ended(), Some(end));
        }
    }
}
