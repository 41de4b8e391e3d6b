//! Tasks that wait for the same event.

use std::cell::RefCell;
use std::task::Waker;

/// The wakers of tasks that look again when one of them is told to.
#[derive(Debug, Default)]
pub struct WakeList(RefCell<Vec<Waker>>);

impl WakeList {
    /// Adds a task, until the next [`Self::wake`].
    pub fn push(&self, waker: &Waker) {
        self.0.borrow_mut().push(waker.clone());
    }

    /// Lets all of them look again.
    pub fn wake(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }
}
