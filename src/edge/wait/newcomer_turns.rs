//! How many connections are accepted between two looks of a worker (see [`super::turns`]). A new connection has not been
//! refused, so it does not wait when it sends, whatever it costs. Under a flood of new connections that cost much, the time
//! between two looks is as long as they let it be, and a delivery on a kept connection needs several looks. So a worker
//! accepts fewer connections while a look takes longer than [`TARGET`], and more again when it does not; the others wait in
//! the socket.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a look should take: a delivery on a kept connection needs about four.
const TARGET: Duration = Duration::from_millis(2);

/// Connections that are accepted between two looks, at most and at least.
const MOST: usize = 32;
const FEWEST: usize = 4;

/// The turns of connections that are about to be accepted on one worker.
#[derive(Debug)]
pub(super) struct NewcomerTurns {
    /// How many may be accepted between two looks.
    allowed: Cell<usize>,
    /// How many more until the next look.
    left: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl Default for NewcomerTurns {
    fn default() -> Self {
        Self { allowed: Cell::new(MOST), left: Cell::new(MOST), waiting: RefCell::default() }
    }
}

impl NewcomerTurns {
    /// Takes a turn, if one can be had without waiting.
    pub(super) fn take(&self) -> bool {
        let left = self.left.get().checked_sub(1);
        left.inspect(|left| self.left.set(*left)).is_some()
    }

    /// Waits for the next look, after which a turn can be asked for again.
    pub(super) async fn wait(&self) {
        let mut asked = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A look has been done, and took so long.
    pub(super) fn hand_out(&self, took: Duration) {
        let allowed = self.allowed.get();
        let next = if took > TARGET { (allowed * 3 / 4).max(FEWEST) } else { (allowed + 2).min(MOST) };
        self.allowed.set(next);
        self.left.set(next);
        let mut waiting = self.waiting.borrow_mut();
        let called = next.min(waiting.len());
        waiting.drain(..called).for_each(Waker::wake);
    }

    /// Ends all waiting.
    pub(super) fn let_all_go(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Whether some wait.
    pub(super) fn is_crowded(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// How many can be accepted until the next look.
    fn accepted(turns: &NewcomerTurns) -> usize {
        std::iter::repeat_with(|| turns.take()).take_while(|taken| *taken).count()
    }

    #[test]
    fn fewer_are_accepted_while_looks_take_long() {
        let turns = NewcomerTurns::default();
        assert_eq!(accepted(&turns), MOST);
        let mut before = MOST;
        for _ in 0..20 {
            turns.hand_out(2 * TARGET);
            let now = accepted(&turns);
            assert!(now < before || now == FEWEST, "{now} after {before}");
            before = now;
        }
        assert_eq!(before, FEWEST);
        for _ in 0..MOST {
            turns.hand_out(TARGET);
        }
        assert_eq!(accepted(&turns), MOST, "and as many as before when they do not");
    }

    #[test]
    fn those_who_wait_are_woken_by_the_next_look_and_no_more_than_may_be_accepted() {
        let turns = NewcomerTurns::default();
        accepted(&turns);
        let mut waits: Vec<_> = (0..MOST + 3).map(|_| Box::pin(turns.wait())).collect();
        let mut poll = |at: usize| waits[at].as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
        assert!((0..MOST + 3).all(|at| poll(at).is_pending()));
        assert!(turns.is_crowded());
        turns.hand_out(TARGET);
        assert_eq!(turns.waiting.borrow().len(), 3);
        assert!(poll(0).is_ready() && turns.take());
        turns.let_all_go();
        assert!(!turns.is_crowded());
    }
}
