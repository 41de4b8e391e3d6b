//! Turns: connections whose last request was refused wait for one another, and so do those that send large bodies and
//! requests of clients that are over their budgets.
//!
//! A worker does everything that is ready before it looks for what has become ready meanwhile, and a delivery needs
//! several such looks: its request, the application's answer, the end of each write. Under a flood there would be a
//! look only when every connection of the flood has been served once more. So between two looks only [`SEATS`] of those
//! that wait are served. Large bodies cost as much, and before it is known whether they are genuine: each piece of one
//! takes a turn, too. A connection that was not refused, is within its budget and sends little does not wait.
//!
//! The better [`Rank`] goes first, and within one rank the first that came. Some turns of each round go to those that have waited
//! longest, so that no rank waits for ever. Suspects have a share of the worker's time and no more: when they have had it,
//! they rest.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::gate::conduct::{Conduct, Ended, Rank};
use crate::gate::handshakes::Pace;

use super::handshake_turns::HandshakeTurns;

/// Turns between two looks. Fewer make a genuine delivery wait less, more make looking cheaper.
pub const SEATS: usize = 32;

/// So many of them go to those that have waited longest.
const AGED: usize = 8;

/// As many turns does a piece of a large body take: hashing it takes longer than refusing a request.
const LARGE: usize = 16;

/// What a turn costs at most. Between two rounds the worker may have had nothing to do: that time is not the suspects'.
const TURN: Duration = Duration::from_micros(25);

/// Suspects may be so far ahead of their share before they rest: a timer has a millisecond.
const AHEAD: Duration = Duration::from_millis(2);

/// What the usher needs of its worker.
pub trait Round {
    /// The time.
    fn now(&self) -> Duration;
    /// The share of the worker's time that suspects may have, in percent.
    fn percent(&self) -> u32;
    /// Lets everything that is ready be done, and looks for what has become ready.
    fn look(&self) -> impl Future<Output = io::Result<()>>;
    /// Waits until a time.
    fn rest(&self, until: Duration) -> impl Future<Output = ()>;
}

/// The turns of one worker. Until [`Turns::usher`] runs, nobody waits.
#[derive(Debug, Default)]
pub struct Turns {
    ushered: Cell<bool>,
    free: Cell<usize>,
    /// Grows with each that comes to wait.
    next: Cell<u64>,
    waiting: RefCell<[VecDeque<Rc<Waiter>>; Rank::ALL.len()]>,
    usher: RefCell<Option<Waker>>,
    handshakes: HandshakeTurns,
    /// When suspects have had no more than their share.
    even: Cell<Duration>,
    /// Whether they have had more.
    resting: Cell<bool>,
}

/// A connection that waits.
#[derive(Debug, Default)]
struct Waiter {
    /// Where it stands among all who wait.
    number: Cell<u64>,
    /// How many turns it needs, at most [`SEATS`].
    turns: Cell<usize>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    Waits,
    Called,
    /// It has been given up: its connection had to give way.
    #[default]
    Gone,
}

/// A wait. When it is given up, it takes no turn.
struct Wait<'a>(&'a Waiter);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.state.set(State::Gone);
    }
}

impl Turns {
    /// Waits for so many turns. Whoever waits again is the same `waiter`: that costs no memory.
    async fn turn(&self, waiter: &OnceCell<Rc<Waiter>>, rank: Rank, turns: usize) {
        if !self.ushered.get() {
            return;
        }
        // Suspects are counted: the usher gives them what they get.
        if rank != Rank::Suspect
            && let Some(left) = self.free.get().checked_sub(turns)
        {
            self.free.set(left);
            return;
        }
        let waiter = waiter.get_or_init(Rc::default);
        waiter.state.set(State::Waits);
        waiter.turns.set(turns);
        waiter.number.set(self.next.replace(self.next.get() + 1));
        if let Some(queue) = self.waiting.borrow_mut().get_mut(rank as usize) {
            queue.push_back(Rc::clone(waiter));
        }
        if let Some(usher) = self.usher.take() {
            usher.wake();
        }
        let wait = Wait(waiter);
        poll_fn(|cx| {
            if wait.0.state.get() == State::Called {
                return Poll::Ready(());
            }
            wait.0.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Waits until a TLS handshake may be gone on with, which will cost so much
    /// ([`crate::gate::chain::KeyKind::handshake_cost`]). They have a budget of their own (`handshake_turns.rs`).
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

    /// Hands turns out, as often as a connection waits and a look has been done once more. One task of the worker runs
    /// this; it ends when a look fails, and then no connection waits any more.
    pub async fn usher(&self, worker: &impl Round) {
        self.ushered.set(true);
        let mut began = worker.now();
        loop {
            let suspects = self.hand_out(SEATS);
            self.handshakes.hand_out();
            self.crowded(worker).await;
            if worker.look().await.is_err() {
                break;
            }
            let now = worker.now();
            self.charge(suspects, (began, now), worker.percent());
            began = now;
        }
        self.ushered.set(false);
        self.resting.set(false);
        self.hand_out(usize::MAX);
        self.handshakes.let_all_go();
    }

    /// Counts a round in which suspects had so many turns against their share.
    fn charge(&self, turns: usize, (began, now): (Duration, Duration), percent: u32) {
        let cost = now.saturating_sub(began).min(TURN.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX)));
        self.even.set(self.even.get().max(began) + cost.saturating_mul(100) / percent.max(1));
        self.resting.set(self.is_ahead(now));
    }

    fn is_ahead(&self, now: Duration) -> bool {
        self.even.get() > now + AHEAD
    }

    /// How many turns suspects got.
    fn hand_out(&self, turns: usize) -> usize {
        let (mut waiting, mut free) = (self.waiting.borrow_mut(), turns);
        let (mut aged, mut suspects) = (AGED, 0);
        while let Some(rank) = self.next_rank(&mut *waiting, aged > 0)
            && let Some(queue) = waiting.get_mut(rank as usize)
            && let Some(left) = queue.front().and_then(|waiter| free.checked_sub(waiter.turns.get()))
            && let Some(waiter) = queue.pop_front()
        {
            let used = waiter.turns.get();
            free = left;
            aged = aged.saturating_sub(used);
            suspects += if rank == Rank::Suspect { used } else { 0 };
            waiter.state.set(State::Called);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
        self.free.set(free);
        suspects
    }

    /// Who is next: who has waited longest, or the best one.
    fn next_rank(&self, waiting: &mut [VecDeque<Rc<Waiter>>], by_age: bool) -> Option<Rank> {
        for queue in waiting.iter_mut() {
            while queue.front().is_some_and(|waiter| waiter.state.get() != State::Waits) {
                queue.pop_front();
            }
        }
        let allowed = Rank::ALL.into_iter().filter(|rank| *rank != Rank::Suspect || !self.resting.get());
        let mut fronts = allowed.filter_map(|rank| {
            let front = waiting.get(rank as usize)?.front()?;
            Some((front.number.get(), rank))
        });
        let found = if by_age { fronts.min() } else { fronts.next() };
        found.map(|(_, rank)| rank)
    }

    /// Waits until a connection waits that may be served.
    async fn crowded(&self, worker: &impl Round) {
        loop {
            self.resting.set(self.is_ahead(worker.now()));
            let someone = self.next_rank(&mut *self.waiting.borrow_mut(), false).is_some();
            if someone || self.handshakes.is_crowded() {
                return;
            }
            let suspects = self.waiting.borrow().iter().any(|queue| !queue.is_empty());
            let woken = pin!(self.woken());
            if suspects {
                first_of(woken, pin!(worker.rest(self.even.get()))).await;
            } else {
                woken.await;
            }
        }
    }

    /// Waits until a connection comes to wait.
    async fn woken(&self) {
        let mut asked = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut asked, true) && self.usher.borrow().is_none() {
                return Poll::Ready(());
            }
            self.usher.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().iter().map(VecDeque::len).sum()
    }
}

async fn first_of(mut one: std::pin::Pin<&mut impl Future>, mut other: std::pin::Pin<&mut impl Future>) {
    poll_fn(|cx| {
        let done = one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready();
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A connection among the others of its worker.
#[derive(Debug)]
pub struct Place {
    turns: Rc<Turns>,
    conduct: Conduct,
    waiter: OnceCell<Rc<Waiter>>,
}

impl Place {
    /// Nothing is known of the connection: it waits for nobody.
    #[must_use]
    pub fn new(turns: &Rc<Turns>) -> Self {
        Self::of(turns, Conduct::default())
    }

    /// The place of a connection that has behaved like this.
    pub(in crate::edge) fn of(turns: &Rc<Turns>, conduct: Conduct) -> Self {
        Self { turns: Rc::clone(turns), conduct, waiter: OnceCell::new() }
    }

    /// How the connection has behaved.
    pub(in crate::edge) const fn conduct(&self) -> Conduct {
        self.conduct
    }

    /// Waits for its turn, if its last request was refused or what arrives is `large`. To be called whenever something has
    /// arrived.
    pub async fn take_turn(&self, large: bool) {
        let rank = self.conduct.rank();
        if large || rank >= Rank::Refused {
            self.turns.turn(&self.waiter, rank, if large { LARGE } else { 1 }).await;
        }
    }

    /// Waits for the turn of a request whose client is over its budget. One whose connection was refused before has waited
    /// already.
    pub async fn take_suspects_turn(&self) {
        let rank = self.conduct.rank();
        if rank < Rank::Refused {
            self.turns.turn(&self.waiter, rank, 1).await;
        }
    }

    /// How the last request ended.
    pub fn note(&mut self, ended: Ended) {
        self.conduct.note(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::keyed_buckets::ClientKey;
    use crate::outcome::{Outcome, Rejection};
    use std::pin::Pin;
    use std::task::Context;

    const FORGED: Rejection = Rejection::SignatureMismatch;

    fn ended(outcome: impl Into<Outcome>, over_budget: bool) -> Ended {
        let outcome = outcome.into();
        let genuine = matches!(outcome, Outcome::Forwarded { .. });
        Ended { outcome, client: Some(ClientKey::of(None)), genuine, over_budget, shared: false }
    }

    /// A worker whose looks are done, and whose time passes, when a test says so.
    #[derive(Default)]
    struct World {
        looked: RefCell<Option<io::Result<()>>>,
        now: Cell<Duration>,
        percent: Cell<u32>,
    }

    impl Round for Rc<World> {
        fn now(&self) -> Duration {
            self.now.get()
        }
        fn percent(&self) -> u32 {
            self.percent.get()
        }
        fn look(&self) -> impl Future<Output = io::Result<()>> {
            poll_fn(|_| self.looked.take().map_or(Poll::Pending, Poll::Ready))
        }
        fn rest(&self, until: Duration) -> impl Future<Output = ()> {
            poll_fn(move |_| if self.now.get() >= until { Poll::Ready(()) } else { Poll::Pending })
        }
    }

    /// An usher whose looks are done when somebody says so.
    struct Usher {
        turns: Rc<Turns>,
        world: Rc<World>,
        task: Pin<Box<dyn Future<Output = ()>>>,
    }

    impl Usher {
        fn new() -> Self {
            let (turns, world) = (Rc::new(Turns::default()), Rc::new(World::default()));
            world.percent.set(100);
            let (all, of) = (Rc::clone(&turns), Rc::clone(&world));
            let task = async move { all.usher(&of).await };
            let mut usher = Self { turns, world, task: Box::pin(task) };
            assert!(!poll(usher.task.as_mut()));
            usher
        }

        /// A look is done, or fails; whether the usher goes on.
        fn look(&mut self, result: io::Result<()>) -> bool {
            assert!(!poll(self.task.as_mut()), "it has not looked yet");
            self.world.looked.replace(Some(result));
            !poll(self.task.as_mut())
        }

        /// A round of so many microseconds.
        fn round(&mut self, micros: u64) {
            self.pass(micros);
            assert!(self.look(Ok(())));
        }

        fn pass(&self, micros: u64) {
            self.world.now.set(self.world.now.get() + Duration::from_micros(micros));
        }

        fn new_places(&self, count: usize) -> Vec<Place> {
            (0..count).map(|_| Place::new(&self.turns)).collect()
        }

        /// Places of connections that were refused so often, within the budget or over it.
        fn refused(&self, count: usize, (times, over_budget): (usize, bool)) -> Vec<Place> {
            let mut places = self.new_places(count);
            places.iter_mut().for_each(|place| (0..times).for_each(|_| place.note(ended(FORGED, over_budget))));
            places
        }
    }

    const ONCE: (usize, bool) = (1, false);
    const OFTEN: (usize, bool) = (9, true);

    type Waits<'a> = Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>;

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn wait(places: &[Place], large: bool) -> Waits<'_> {
        places.iter().map(|place| Box::pin(place.take_turn(large)) as _).collect()
    }

    /// Which of those who wait have been called; those have gone.
    fn called(waits: &mut Waits<'_>) -> Vec<bool> {
        let done: Vec<bool> = waits.iter_mut().map(|wait| poll(wait.as_mut())).collect();
        let mut at = done.iter();
        waits.retain(|_| !at.next().copied().unwrap_or_default());
        done
    }

    fn count(waits: &mut Waits<'_>) -> usize {
        called(waits).iter().filter(|done| **done).count()
    }

    #[test]
    fn between_two_looks_only_a_few_are_served_in_their_order() {
        let mut usher = Usher::new();
        let places = usher.refused(2 * SEATS + 2, ONCE);
        let mut waits = wait(&places, false);
        let done = called(&mut waits);
        assert!(done[..SEATS].iter().all(|done| *done) && !done[SEATS..].contains(&true));
        // One that has gone meanwhile takes no turn.
        drop(waits.remove(0));
        assert!(usher.look(Ok(())));
        let done = called(&mut waits);
        assert!(done[..SEATS].iter().all(|done| *done) && !done[SEATS..].contains(&true));
        assert!(usher.look(Ok(())));
        assert_eq!(called(&mut waits), [true]);
        // Nobody waits: what is left of the turns is there for whoever comes.
        let places = usher.refused(SEATS, ONCE);
        assert_eq!(count(&mut wait(&places, false)), SEATS - 1);
    }

    #[test]
    fn pieces_of_large_bodies_take_several_turns() {
        let mut usher = Usher::new();
        let places = usher.new_places(SEATS);
        let mut waits = wait(&places, true);
        assert_eq!(count(&mut waits), SEATS / LARGE);
        assert!(usher.look(Ok(())));
        let done = called(&mut waits);
        assert!(done[..SEATS / LARGE].iter().all(|done| *done) && !done[SEATS / LARGE..].contains(&true));
    }

    /// 6,400 unfinished bodies that have had to give way must not leave as many turns behind that are not used.
    #[test]
    fn those_who_have_gone_take_no_turns() {
        let mut usher = Usher::new();
        let places = usher.new_places(1000);
        let mut waits = wait(&places, true);
        assert_eq!(count(&mut waits), SEATS / LARGE);
        let mut last = waits.split_off(waits.len() - 1);
        drop(waits);
        assert!(usher.look(Ok(())));
        assert_eq!(called(&mut last), [true]);
        assert_eq!(usher.turns.waiting(), 0);
    }

    #[test]
    fn whoever_was_not_refused_waits_for_nobody() {
        let usher = Usher::new();
        let places = usher.refused(SEATS, ONCE);
        let at_once = |place: &Place| poll(Box::pin(place.take_turn(false)).as_mut());
        assert!(places.iter().all(at_once));
        let mut new = Place::new(&usher.turns);
        assert!(at_once(&new));
        new.note(ended(FORGED, false));
        assert!(!at_once(&new));
        new.note(ended(Outcome::Forwarded { status: 200 }, false));
        assert!(at_once(&new));
        assert!(!poll(Box::pin(new.take_turn(true)).as_mut()), "what it sends is large");
    }

    /// A genuine delivery on a fresh connection from the address of a flood waits for one round, however wide that is.
    #[test]
    fn a_connection_that_was_never_refused_goes_before_those_that_were() {
        let mut usher = Usher::new();
        let (flood, refused) = (usher.refused(1000, OFTEN), usher.refused(1000, ONCE));
        let (mut flood, mut refused) = (wait(&flood, false), wait(&refused, false));
        assert_eq!((count(&mut flood), count(&mut refused)), (0, SEATS));
        let (new, mut proven) = (usher.new_places(20), usher.new_places(1));
        proven[0].note(ended(Outcome::Forwarded { status: 204 }, true));
        let mut suspects: Waits<'_> = new.iter().map(|place| Box::pin(place.take_suspects_turn()) as _).collect();
        assert_eq!(count(&mut suspects), 0);
        let mut body = wait(&proven, true);
        assert_eq!(count(&mut body), 0);
        usher.round(500);
        // Those who have waited longest, then the proven one, then those that are new.
        assert_eq!((count(&mut flood), count(&mut body)), (AGED, 1));
        assert_eq!((count(&mut suspects), count(&mut refused)), (SEATS - AGED - LARGE, 0));
        usher.round(500);
        assert_eq!((count(&mut flood), count(&mut suspects)), (AGED, 20 - (SEATS - AGED - LARGE)));
        assert!(count(&mut refused) > 0);
    }

    #[test]
    fn every_rank_is_served_however_many_better_ones_come() {
        let mut usher = Usher::new();
        let flood = usher.refused(100, OFTEN);
        let mut flood = wait(&flood, false);
        assert_eq!(count(&mut flood), 0);
        for _ in 0..100_usize.div_ceil(AGED) {
            let new = usher.new_places(4 * SEATS);
            let mut suspects: Waits<'_> = new.iter().map(|place| Box::pin(place.take_suspects_turn()) as _).collect();
            let _ = count(&mut suspects);
            usher.round(100);
            let _ = count(&mut flood);
        }
        assert!(flood.is_empty(), "{}", flood.len());
    }

    /// The share of the time that suspects have had after a second in which they always wait.
    fn share_of_suspects(percent: u32, micros: u64) -> f64 {
        let mut usher = Usher::new();
        usher.world.percent.set(percent);
        let places = usher.refused(100, OFTEN);
        let (mut waits, mut busy) = (wait(&places, false), 0);
        let _ = count(&mut waits);
        let mut polled = 0_u32;
        while usher.world.now.get() < Duration::from_secs(1) {
            polled += 1;
            let served = places.iter().zip(called(&mut waits)).filter(|(_, done)| *done).count();
            if served > 0 {
                busy += micros;
                usher.pass(micros);
                drop(waits);
                waits = wait(&places, false);
                let _ = called(&mut waits);
            } else {
                usher.pass(50);
            }
            usher.world.looked.replace(Some(Ok(())));
            let _ = poll(usher.task.as_mut());
        }
        assert!(polled > 10);
        busy as f64 / 1e6
    }

    #[test]
    fn suspects_have_their_share_of_the_time_and_no_more() {
        for percent in [10, 25, 50, 75] {
            let had = share_of_suspects(percent, 400) * 100.0;
            let wanted = f64::from(percent);
            assert!(had < wanted + 3.0 && had > wanted * 0.7, "{had} of {wanted} %");
        }
        assert!(share_of_suspects(100, 400) > 0.9);
    }

    #[test]
    fn new_connections_do_not_wait_for_the_rest_of_suspects() {
        let mut usher = Usher::new();
        usher.world.percent.set(1);
        let flood = usher.refused(1000, OFTEN);
        let mut flood = wait(&flood, false);
        assert_eq!(count(&mut flood), 0);
        usher.round(500);
        assert_eq!(count(&mut flood), SEATS);
        usher.round(500);
        assert_eq!(count(&mut flood), 0, "they rest");
        for _ in 0..10 {
            // What was left of the turns is taken first.
            let new = usher.new_places(SEATS);
            let mut suspects: Waits<'_> = new.iter().map(|place| Box::pin(place.take_suspects_turn()) as _).collect();
            let at_once = count(&mut suspects);
            usher.round(100);
            assert_eq!(count(&mut suspects), SEATS - at_once);
        }
        assert_eq!(count(&mut flood), 0);
        // A look that was not asked for.
        usher.world.looked.take();
        usher.pass(1_000_000);
        usher.round(0);
        assert_eq!(count(&mut flood), SEATS);
    }

    #[test]
    fn without_an_usher_nobody_waits() {
        let mut usher = Usher::new();
        let places = usher.refused(3 * SEATS, OFTEN);
        let mut waits = wait(&places, false);
        assert!(called(&mut waits).contains(&false));
        assert!(!usher.look(Err(io::ErrorKind::Other.into())));
        assert!(!called(&mut waits).contains(&false));
        let places = usher.refused(3 * SEATS, OFTEN);
        assert!(!called(&mut wait(&places, false)).contains(&false));
    }
}
