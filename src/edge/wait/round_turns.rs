//! Turns for what has no rank, so many in each round of a worker (see [`super::turns`]), in the order in which they are asked
//! for. A new connection has not been refused, and does not wait when it sends, whatever it costs: so a worker accepts no more
//! of them in a round than it has turns ([`super::round_size`]), and the others wait in the socket. Connections whose time is
//! over end in such turns of their own: thousands may be at the same time, and ending one costs little.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::round_size::LARGEST_ROUND;

/// Turns of one kind on one worker.
#[derive(Debug)]
pub(super) struct RoundTurns {
    /// How many are left until the next look.
    left: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl Default for RoundTurns {
    fn default() -> Self {
        Self { left: Cell::new(LARGEST_ROUND), waiting: RefCell::default() }
    }
}

impl RoundTurns {
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

    /// A look has been done: there are so many until the next one.
    pub(super) fn hand_out(&self, turns: usize) {
        self.left.set(turns);
        let mut waiting = self.waiting.borrow_mut();
        let called = turns.min(waiting.len());
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

    #[test]
    fn there_are_as_many_as_a_round_has_and_no_more() {
        let turns = RoundTurns::default();
        let taken = || std::iter::repeat_with(|| turns.take()).take_while(|taken| *taken).count();
        assert_eq!(taken(), LARGEST_ROUND);
        turns.hand_out(5);
        assert_eq!(taken(), 5);
    }

    #[test]
    fn those_who_wait_are_woken_by_the_next_look_and_no_more_than_there_are_turns() {
        let turns = RoundTurns::default();
        turns.hand_out(0);
        let mut waits: Vec<_> = (0..8).map(|_| Box::pin(turns.wait())).collect();
        let mut poll = |at: usize| waits[at].as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
        assert!((0..8).all(|at| poll(at).is_pending()));
        assert!(turns.is_crowded());
        turns.hand_out(5);
        assert_eq!(turns.waiting.borrow().len(), 3);
        assert!(poll(0).is_ready() && turns.take());
        turns.let_all_go();
        assert!(!turns.is_crowded());
    }
}
