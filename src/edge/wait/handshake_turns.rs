//! TurnQueue of TLS handshakes. A handshake costs as much as eight refused requests, or some hundreds, depending on the key
//! of the listener: all of it at once, and before anything is known of the client. Between two looks of a worker (see
//! [`super::turns`]) handshakes are begun until they have cost [`BUDGET`]. After one that has cost more, the next begins
//! when as many looks have been done as the rest of its cost is worth.
//!
//! Clients that are over their rate ([`crate::gate::handshakes`]) wait behind the others; one in [`ALTERNATE`]
//! handshakes is theirs all the same, so that they get on however many others come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::gate::handshakes::HandshakeStanding;

/// What is done for handshakes between two looks, in units of [`crate::gate::chain::KeyKind::handshake_cost`]: two thirds
/// of a millisecond.
const BUDGET: i64 = 32;

/// Of so many handshakes in a row, one is that of a client over its rate.
const ALTERNATE: u32 = 4;

/// The turns of handshakes on one worker.
#[derive(Debug, Default)]
pub(in crate::edge) struct HandshakeTurns {
    /// What is left until the next look; negative where more has been spent.
    left: Cell<i64>,
    within: RefCell<VecDeque<Rc<HandshakeWaiter>>>,
    over_rate: RefCell<VecDeque<Rc<HandshakeWaiter>>>,
    handed_out: Cell<u32>,
}

/// A handshake that waits.
#[derive(Debug)]
struct HandshakeWaiter {
    cost: i64,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl HandshakeTurns {
    /// Takes a turn, if one can be had without waiting.
    pub(in crate::edge) fn take(&self, cost: u32, pace: HandshakeStanding) -> bool {
        let others = !self.within.borrow().is_empty()
            || pace == HandshakeStanding::OverRate && !self.over_rate.borrow().is_empty();
        let taken = self.left.get() > 0 && !others;
        if taken {
            self.left.set(self.left.get() - i64::from(cost));
        }
        taken
    }

    /// Waits for a turn, which [`Self::hand_out`] gives. A handshake that gives up waiting costs no turn.
    pub(in crate::edge) async fn wait(&self, cost: u32, pace: HandshakeStanding) {
        let waiter =
            Rc::new(HandshakeWaiter { cost: i64::from(cost), called: Cell::new(false), waker: RefCell::new(None) });
        self.queue(pace).borrow_mut().push_back(Rc::clone(&waiter));
        poll_fn(|cx| {
            if waiter.called.get() {
                return Poll::Ready(());
            }
            waiter.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// A look has been done.
    pub(in crate::edge) fn hand_out(&self) {
        self.left.set((self.left.get() + BUDGET).min(BUDGET));
        while self.left.get() > 0
            && let Some(waiter) = self.next()
        {
            self.left.set(self.left.get() - waiter.cost);
            waiter.call();
        }
    }

    /// Ends all waiting.
    pub(in crate::edge) fn let_all_go(&self) {
        while let Some(waiter) = self.next() {
            waiter.call();
        }
    }

    /// A handshake has cost less than was thought.
    pub(in crate::edge) fn give_back(&self, cost: u32) {
        self.left.set((self.left.get() + i64::from(cost)).min(BUDGET));
    }

    /// Whether some wait.
    pub(in crate::edge) fn is_crowded(&self) -> bool {
        !self.within.borrow().is_empty() || !self.over_rate.borrow().is_empty()
    }

    fn next(&self) -> Option<Rc<HandshakeWaiter>> {
        let number = self.handed_out.get().wrapping_add(1);
        let first =
            if number.is_multiple_of(ALTERNATE) { HandshakeStanding::OverRate } else { HandshakeStanding::Within };
        let second =
            if first == HandshakeStanding::Within { HandshakeStanding::OverRate } else { HandshakeStanding::Within };
        let waiter = self.next_of(first).or_else(|| self.next_of(second))?;
        self.handed_out.set(number);
        Some(waiter)
    }

    fn next_of(&self, pace: HandshakeStanding) -> Option<Rc<HandshakeWaiter>> {
        let mut queue = self.queue(pace).borrow_mut();
        loop {
            let waiter = queue.pop_front()?;
            // One that only the queue holds has been given up.
            if Rc::strong_count(&waiter) > 1 {
                return Some(waiter);
            }
        }
    }

    const fn queue(&self, pace: HandshakeStanding) -> &RefCell<VecDeque<Rc<HandshakeWaiter>>> {
        match pace {
            HandshakeStanding::Within => &self.within,
            HandshakeStanding::OverRate => &self.over_rate,
        }
    }
}

impl HandshakeWaiter {
    fn call(&self) {
        self.called.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Context;

    type Wait<'t> = Pin<Box<dyn Future<Output = ()> + 't>>;

    fn is_called(wait: &mut Wait<'_>) -> bool {
        wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn queue(turns: &HandshakeTurns, count: usize, cost: u32, pace: HandshakeStanding) -> Vec<Wait<'_>> {
        let mut waits: Vec<Wait<'_>> = (0..count).map(|_| Box::pin(turns.wait(cost, pace)) as Wait<'_>).collect();
        assert!(waits.iter_mut().all(|wait| !is_called(wait)));
        waits
    }

    /// How many of those who waited are called by the next look.
    fn look(turns: &HandshakeTurns, waits: &mut Vec<Wait<'_>>) -> usize {
        turns.hand_out();
        let before = waits.len();
        waits.retain_mut(|wait| !is_called(wait));
        before - waits.len()
    }

    fn ready() -> HandshakeTurns {
        let turns = HandshakeTurns::default();
        turns.hand_out();
        turns
    }

    #[test]
    fn between_two_looks_as_many_are_made_as_the_budget_has_room_for() {
        let turns = ready();
        assert!((0..4).all(|_| turns.take(8, HandshakeStanding::Within)));
        assert!(!turns.take(8, HandshakeStanding::Within));
        let mut waits = queue(&turns, 10, 8, HandshakeStanding::Within);
        assert_eq!([look(&turns, &mut waits), look(&turns, &mut waits), look(&turns, &mut waits)], [4, 4, 2]);
        assert!(!turns.is_crowded());
    }

    #[test]
    fn what_costs_more_than_the_budget_is_followed_by_looks_without_any() {
        // RSA with 4096 bits.
        let (turns, cost) = (ready(), 325);
        assert!(turns.take(cost, HandshakeStanding::Within));
        let mut waits = queue(&turns, 3, cost, HandshakeStanding::Within);
        let called: Vec<usize> = (0..30).map(|_| look(&turns, &mut waits)).collect();
        let looks: Vec<usize> = called.iter().enumerate().filter(|(_, count)| **count > 0).map(|(at, _)| at).collect();
        assert_eq!(called.iter().sum::<usize>(), 3);
        assert!(looks.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{looks:?}");
    }

    #[test]
    fn a_client_over_its_rate_waits_behind_others_and_gets_on() {
        let turns = ready();
        assert!(turns.take(BUDGET as u32, HandshakeStanding::OverRate));
        let mut over = queue(&turns, 40, BUDGET as u32, HandshakeStanding::OverRate);
        let mut within = queue(&turns, 30, BUDGET as u32, HandshakeStanding::Within);
        let mut order = String::new();
        for _ in 0..40 {
            turns.hand_out();
            let (others, mine) = (over.len(), within.len());
            over.retain_mut(|wait| !is_called(wait));
            within.retain_mut(|wait| !is_called(wait));
            assert_eq!((others - over.len()) + (mine - within.len()), 1);
            order.push(if within.len() < mine { 'w' } else { 'o' });
        }
        assert!(order.starts_with("wwwowwwo"), "{order}");
        assert!(within.is_empty(), "{order}");
    }

    #[test]
    fn a_newcomer_within_its_rate_does_not_wait_for_those_over_theirs() {
        let turns = ready();
        assert!(turns.take(BUDGET as u32, HandshakeStanding::Within));
        let mut over = queue(&turns, 3, 1000, HandshakeStanding::OverRate);
        turns.give_back(8);
        assert!(turns.take(8, HandshakeStanding::Within) && !turns.take(8, HandshakeStanding::OverRate));
        assert_eq!(look(&turns, &mut over), 1);
    }

    #[test]
    fn a_handshake_that_was_given_up_costs_no_turn() {
        let turns = ready();
        assert!(turns.take(BUDGET as u32, HandshakeStanding::Within));
        let mut waits = queue(&turns, 6, BUDGET as u32, HandshakeStanding::Within);
        waits.drain(..5);
        assert_eq!(look(&turns, &mut waits), 1);
        assert!(!turns.is_crowded());
    }

    #[test]
    fn what_was_not_spent_comes_back_but_is_not_saved_up() {
        let turns = ready();
        assert!(turns.take(45, HandshakeStanding::Within));
        turns.give_back(41);
        assert!(turns.take(45, HandshakeStanding::Within));
        turns.give_back(45);
        turns.give_back(1000);
        assert_eq!(turns.left.get(), BUDGET);
        let mut waits = queue(&turns, 9, 1000, HandshakeStanding::OverRate);
        turns.let_all_go();
        assert!(waits.iter_mut().all(is_called));
    }
}
