//! Turns: connections whose last request was refused wait for one another, and so do those that send large bodies.
//!
//! A worker does everything that is ready before it looks for what has become ready meanwhile, and a delivery needs
//! several such looks: its request, the application's answer, the end of each write. Under a flood there would be a
//! look only when every connection of the flood has been served once more. So between two looks only [`SEATS`] of the
//! connections that were refused last are served, in their order. Large bodies cost as much, and before anybody knows
//! whether they are genuine: each piece of one takes a turn, too. Whoever has not been refused and sends little waits for
//! nobody, and waiting for a turn never lasts longer than what others really do.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::gate::handshakes::Pace;
use crate::outcome::Outcome;

use super::handshake_turns::HandshakeTurns;

/// Turns between two looks. Fewer make a genuine delivery wait less, more make looking cheaper.
pub const SEATS: usize = 32;

/// As many turns does a piece of a large body take: hashing it takes longer than refusing a request.
const LARGE: usize = 16;

/// The turns of one worker. Until [`Turns::usher`] runs, nobody waits.
#[derive(Debug, Default)]
pub struct Turns {
    ushered: Cell<bool>,
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    usher: RefCell<Option<Waker>>,
    handshakes: HandshakeTurns,
}

/// Somebody who waits.
#[derive(Debug, Default)]
struct Waiter {
    /// How many turns it needs, at most [`SEATS`].
    turns: Cell<usize>,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Turns {
    /// Waits for so many turns. Whoever waits again is the same `waiter`: that costs no memory.
    async fn turn(&self, waiter: &OnceCell<Rc<Waiter>>, turns: usize) {
        if !self.ushered.get() {
            return;
        }
        if let Some(left) = self.free.get().checked_sub(turns) {
            self.free.set(left);
            return;
        }
        let waiter = waiter.get_or_init(Rc::default);
        waiter.called.set(false);
        waiter.turns.set(turns);
        self.waiting.borrow_mut().push_back(Rc::clone(waiter));
        if let Some(usher) = self.usher.take() {
            usher.wake();
        }
        poll_fn(|cx| {
            if waiter.called.get() {
                return Poll::Ready(());
            }
            waiter.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Waits until a TLS handshake may be gone on with, which will cost so much
    /// ([`crate::gate::chain::KeyKind::handshake_cost`]). They have a budget of their own ([`super::handshake_turns`]).
    pub async fn handshake(&self, cost: u32, pace: Pace) {
        if !self.ushered.get() || self.handshakes.take(cost, pace) {
            return;
        }
        if let Some(usher) = self.usher.take() {
            usher.wake();
        }
        self.handshakes.wait(cost, pace).await;
    }

    /// A handshake has cost less than was thought.
    pub fn give_back_handshake(&self, cost: u32) {
        self.handshakes.give_back(cost);
    }

    /// Hands turns out, as often as somebody waits and `look` has been done once more. One task of the worker runs this;
    /// it ends when `look` fails, and then nobody waits any more.
    pub async fn usher<F: Future<Output = io::Result<()>>>(&self, mut look: impl FnMut() -> F) {
        self.ushered.set(true);
        loop {
            self.hand_out(SEATS);
            self.handshakes.hand_out();
            self.crowded().await;
            if look().await.is_err() {
                break;
            }
        }
        self.ushered.set(false);
        self.hand_out(usize::MAX);
        self.handshakes.let_all_go();
    }

    fn hand_out(&self, turns: usize) {
        let (mut waiting, mut free) = (self.waiting.borrow_mut(), turns);
        while let Some(left) = waiting.front().and_then(|waiter| free.checked_sub(waiter.turns.get()))
            && let Some(waiter) = waiting.pop_front()
        {
            free = left;
            waiter.called.set(true);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
        self.free.set(free);
    }

    async fn crowded(&self) {
        poll_fn(|cx| {
            if !self.waiting.borrow().is_empty() || self.handshakes.is_crowded() {
                return Poll::Ready(());
            }
            self.usher.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// A connection among the others of its worker.
#[derive(Debug)]
pub struct Place {
    turns: Rc<Turns>,
    refused: bool,
    waiter: OnceCell<Rc<Waiter>>,
}

impl Place {
    /// Nothing is known of the connection: it waits for nobody.
    #[must_use]
    pub fn new(turns: &Rc<Turns>) -> Self {
        Self::of(turns, false)
    }

    /// The place of a connection whose last request was refused, or was not.
    pub(super) fn of(turns: &Rc<Turns>, refused: bool) -> Self {
        Self { turns: Rc::clone(turns), refused, waiter: OnceCell::new() }
    }

    /// Whether the last request was refused.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused
    }

    /// Waits for its turn, if its last request was refused or what arrives is `large`. To be called whenever something has
    /// arrived.
    pub async fn take_turn(&self, large: bool) {
        if self.refused || large {
            self.turns.turn(&self.waiter, if large { LARGE } else { 1 }).await;
        }
    }

    /// How the last request ended.
    pub fn note(&mut self, outcome: Outcome) {
        self.refused = matches!(outcome, Outcome::Rejected(_));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Rejection;
    use std::pin::Pin;
    use std::task::Context;

    const REFUSED: Outcome = Outcome::Rejected(Rejection::SignatureMismatch);

    /// An usher whose looks are done when somebody says so.
    struct Usher {
        turns: Rc<Turns>,
        looked: Rc<RefCell<Option<io::Result<()>>>>,
        task: Pin<Box<dyn Future<Output = ()>>>,
    }

    impl Usher {
        fn new() -> Self {
            let (turns, looked) = (Rc::new(Turns::default()), Rc::new(RefCell::new(None)));
            let (all, seen) = (Rc::clone(&turns), Rc::clone(&looked));
            let task = async move {
                let look = || poll_fn(|_| seen.take().map_or(Poll::Pending, Poll::Ready));
                all.usher(look).await;
            };
            let mut usher = Self { turns, looked, task: Box::pin(task) };
            assert!(!poll(usher.task.as_mut()));
            usher
        }

        /// A look is done, or fails; whether the usher goes on.
        fn look(&mut self, result: io::Result<()>) -> bool {
            assert!(!poll(self.task.as_mut()), "it has not looked yet");
            self.looked.replace(Some(result));
            !poll(self.task.as_mut())
        }

        fn refused(&self, count: usize) -> Vec<Place> {
            let mut places: Vec<Place> = (0..count).map(|_| Place::new(&self.turns)).collect();
            places.iter_mut().for_each(|place| place.note(REFUSED));
            places
        }
    }

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// How many of those who wait have been called. Polling is not repeated for them.
    fn called(waits: &mut [Pin<Box<impl Future>>]) -> Vec<bool> {
        waits.iter_mut().map(|wait| poll(wait.as_mut())).collect()
    }

    #[test]
    fn between_two_looks_only_a_few_are_served_in_their_order() {
        let mut usher = Usher::new();
        let places = usher.refused(2 * SEATS + 2);
        let mut waits: Vec<_> = places.iter().map(|place| Box::pin(place.take_turn(false))).collect();
        let done = called(&mut waits);
        assert!(done[..SEATS].iter().all(|done| *done) && !done[SEATS..].contains(&true));
        let mut waits = waits.split_off(SEATS);
        // Whoever has gone meanwhile is called in vain, and in nobody's way.
        drop(waits.remove(0));
        assert!(usher.look(Ok(())));
        let done = called(&mut waits);
        assert!(done[..SEATS - 1].iter().all(|done| *done) && !done[SEATS - 1..].contains(&true));
        let mut waits = waits.split_off(SEATS - 1);
        assert!(usher.look(Ok(())));
        assert_eq!(called(&mut waits), [true, true]);
        // Nobody waits: what is left of the turns is there for whoever comes.
        let places = usher.refused(SEATS);
        let mut waits: Vec<_> = places.iter().map(|place| Box::pin(place.take_turn(false))).collect();
        assert_eq!(called(&mut waits).iter().filter(|done| **done).count(), SEATS - 2);
    }

    #[test]
    fn pieces_of_large_bodies_take_several_turns() {
        let mut usher = Usher::new();
        let places: Vec<Place> = (0..SEATS).map(|_| Place::new(&usher.turns)).collect();
        let mut waits: Vec<_> = places.iter().map(|place| Box::pin(place.take_turn(true))).collect();
        let done = called(&mut waits);
        assert_eq!(done.iter().filter(|done| **done).count(), SEATS / LARGE);
        let mut waits = waits.split_off(SEATS / LARGE);
        assert!(usher.look(Ok(())));
        let done = called(&mut waits);
        assert!(done[..SEATS / LARGE].iter().all(|done| *done) && !done[SEATS / LARGE..].contains(&true));
    }

    #[test]
    fn whoever_was_not_refused_waits_for_nobody() {
        let usher = Usher::new();
        let places = usher.refused(SEATS);
        let at_once = |place: &Place| poll(Box::pin(place.take_turn(false)).as_mut());
        assert!(places.iter().all(at_once));
        let mut new = Place::new(&usher.turns);
        assert!(at_once(&new));
        new.note(REFUSED);
        assert!(!at_once(&new));
        new.note(Outcome::Forwarded { status: 200 });
        assert!(at_once(&new));
        assert!(!poll(Box::pin(new.take_turn(true)).as_mut()), "what it sends is large");
    }

    #[test]
    fn without_an_usher_nobody_waits() {
        let mut usher = Usher::new();
        let places = usher.refused(3 * SEATS);
        let mut waits: Vec<_> = places.iter().map(|place| Box::pin(place.take_turn(false))).collect();
        assert!(called(&mut waits).contains(&false));
        let mut waits = waits.split_off(SEATS);
        assert!(!usher.look(Err(io::ErrorKind::Other.into())));
        assert!(!called(&mut waits).contains(&false));
        let places = usher.refused(3 * SEATS);
        let mut waits: Vec<_> = places.iter().map(|place| Box::pin(place.take_turn(false))).collect();
        assert!(!called(&mut waits).contains(&false));
    }
}
