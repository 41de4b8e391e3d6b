//! Turns: connections whose last request was refused wait for one another, and so do those that send large bodies and
//! requests of clients that are over their budgets.
//!
//! A worker does everything that is ready before it looks for what has become ready meanwhile, and a delivery needs
//! several such looks: its request, the application's answer, the end of each write. Under a flood there would be a
//! look only when every connection of the flood has been served once more. So between two looks only a few of those that
//! wait are served (`round_size.rs`). Large bodies cost as much, and before it is known whether they are genuine: each piece of one
//! takes a turn, too. A connection that was not refused, is within its budget and sends little does not wait.
//!
//! The better [`Rank`] goes first, and within one rank the first that came. Some turns of each round go to those that have waited
//! longest, so that no rank waits for ever. Suspects have a share of the worker's time and no more: when they have had it,
//! they rest.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::gate::client_key::ClientKey;
use crate::gate::conduct::{Conduct, Ended, Rank};
use crate::gate::handshakes::HandshakeStanding;

use super::handshake_turns::HandshakeTurns;
use super::round_size::{LARGEST_ROUND, RoundSize};
use super::round_turns::RoundTurns;
use super::turn_lines::{TurnLines, TurnStanding, TurnState, Waiter};

/// One turn in so many goes to those that have waited longest.
pub(super) const AGED: usize = 4;

/// A piece of a large body costs this many turns: hashing it takes longer than refusing a request. A round that is smaller
/// has one piece.
pub(super) const LARGE: usize = 16;

/// What a turn is charged at most, beside what its request is charged for a verification that took longer
/// ([`TurnQueue::charge`]). Between two rounds the worker may have had nothing to do: that time is not the suspects'.
const TURN: Duration = Duration::from_micros(25);

/// Suspects may be so far ahead of their share before they rest: a timer has a millisecond.
const AHEAD: Duration = Duration::from_millis(2);

/// What the loop that hands out turns needs of its worker.
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

/// The turns of one worker. Until [`TurnQueue::run`] runs, no connection waits.
#[derive(Debug, Default)]
pub struct TurnQueue {
    is_running: Cell<bool>,
    round: RoundSize,
    free: Cell<usize>,
    /// Grows with each that comes to wait.
    next: Cell<u64>,
    waiting: RefCell<TurnLines>,
    runner: RefCell<Option<Waker>>,
    handshakes: HandshakeTurns,
    newcomers: RoundTurns,
    late: RoundTurns,
    /// The share of the time that suspects may have, in percent.
    percent: Cell<u32>,
    /// When suspects have had no more than their share.
    even: Cell<Duration>,
    /// Whether they have had more.
    resting: Cell<bool>,
}

/// A wait. When it is given up, it takes no turn.
struct Wait<'a>(&'a Waiter);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.state.set(TurnState::Gone);
    }
}

impl TurnQueue {
    /// Waits for so many turns. A connection that waits again uses the same `waiter`: that costs no memory.
    async fn turn(&self, waiter: &OnceCell<Rc<Waiter>>, standing: TurnStanding, turns: usize) {
        if !self.is_running.get() {
            return;
        }
        // Suspects are counted: the loop gives them what they get.
        if standing.rank() != Rank::Suspect
            && let Some(left) = self.free.get().checked_sub(turns)
        {
            self.free.set(left);
            return;
        }
        let waiter = waiter.get_or_init(Rc::default);
        waiter.state.set(TurnState::Waits);
        waiter.turns.set(turns);
        waiter.number.set(self.next.replace(self.next.get() + 1));
        self.waiting.borrow_mut().push(standing, Rc::clone(waiter));
        if let Some(runner) = self.runner.take() {
            runner.wake();
        }
        let wait = Wait(waiter);
        poll_fn(|cx| {
            if wait.0.state.get() == TurnState::Called {
                return Poll::Ready(());
            }
            wait.0.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Waits until a TLS handshake may be gone on with, which will cost so much
    /// ([`crate::gate::chain::KeyKind::handshake_cost`]). They have a budget of their own (`handshake_turns.rs`).
    pub async fn handshake(&self, cost: u32, pace: HandshakeStanding) {
        if !self.is_running.get() || self.handshakes.take(cost, pace) {
            return;
        }
        if let Some(runner) = self.runner.take() {
            runner.wake();
        }
        self.handshakes.wait(cost, pace).await;
    }

    /// Waits until another connection may be accepted.
    pub async fn newcomer(&self) {
        self.round_turn(&self.newcomers).await;
    }

    /// Waits until another connection may end whose time is over.
    async fn late(&self) {
        self.round_turn(&self.late).await;
    }

    async fn round_turn(&self, turns: &RoundTurns) {
        while self.is_running.get() && !turns.take() {
            if let Some(runner) = self.runner.take() {
                runner.wake();
            }
            turns.wait().await;
        }
    }

    /// A handshake has cost less than was thought.
    pub fn give_back_handshake(&self, cost: u32) {
        self.handshakes.give_back(cost);
    }

    /// Hands turns out, as often as a connection waits and a look has been done once more. One task of the worker runs
    /// this; it ends when a look fails, and then no connection waits any more.
    pub async fn run(&self, worker: &impl Round) {
        self.is_running.set(true);
        let mut began = worker.now();
        let mut took = Duration::ZERO;
        loop {
            self.percent.set(worker.percent());
            let turns = self.round.after(took);
            let suspects = self.hand_out(turns);
            self.handshakes.hand_out();
            self.newcomers.hand_out(turns);
            self.late.hand_out(LARGEST_ROUND);
            self.crowded(worker).await;
            let looking = worker.now();
            if worker.look().await.is_err() {
                break;
            }
            let now = worker.now();
            took = now.saturating_sub(looking);
            let turns = TURN.saturating_mul(u32::try_from(suspects).unwrap_or(u32::MAX));
            self.even.set(self.even.get().max(began));
            self.charge_suspects(now.saturating_sub(began).min(turns));
            self.resting.set(self.is_ahead(now));
            began = now;
        }
        self.is_running.set(false);
        self.resting.set(false);
        self.hand_out(usize::MAX);
        self.handshakes.let_all_go();
        self.newcomers.let_all_go();
        self.late.let_all_go();
    }

    /// A suspect's request was verified, and not genuine. What that cost beyond a turn counts against the share of suspects: a
    /// signature of a slow kind costs as much as twenty others.
    pub fn charge(&self, cost: Duration) {
        self.charge_suspects(cost.saturating_sub(TURN));
    }

    fn charge_suspects(&self, cost: Duration) {
        self.even.set(self.even.get() + cost.saturating_mul(100) / self.percent.get().max(1));
    }

    fn is_ahead(&self, now: Duration) -> bool {
        self.even.get() > now + AHEAD
    }

    /// Hands out so many; how many of them suspects got.
    fn hand_out(&self, turns: usize) -> usize {
        let (mut waiting, mut free) = (self.waiting.borrow_mut(), turns);
        let (mut aged, mut suspects) = (turns.div_ceil(AGED), 0);
        while free > 0
            && let Some(rank) = self.next_rank(&mut waiting, aged > 0)
            // Half of a round is enough for what needs more turns than that.
            && let Some(needed) = waiting.front(rank).map(|waiter| waiter.turns.get()).filter(|it| *it.min(&(turns / 2)) <= free)
            && let Some(waiter) = waiting.pop(rank)
        {
            let used = needed.min(free);
            free -= used;
            aged = aged.saturating_sub(used);
            suspects += if rank == Rank::Suspect { used } else { 0 };
            waiter.state.set(TurnState::Called);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
        self.free.set(free);
        suspects
    }

    /// Who is next: the one that has waited longest, or the best one.
    fn next_rank(&self, waiting: &mut TurnLines, by_age: bool) -> Option<Rank> {
        let allowed = Rank::ALL.into_iter().filter(|rank| *rank != Rank::Suspect || !self.resting.get());
        let mut fronts = allowed.filter_map(|rank| waiting.front(rank).map(|front| (front.number.get(), rank)));
        let found = if by_age { fronts.min() } else { fronts.next() };
        found.map(|(_, rank)| rank)
    }

    /// Waits until a connection waits that may be served.
    async fn crowded(&self, worker: &impl Round) {
        loop {
            self.resting.set(self.is_ahead(worker.now()));
            let someone = self.next_rank(&mut self.waiting.borrow_mut(), false).is_some();
            if someone || self.handshakes.is_crowded() || self.newcomers.is_crowded() || self.late.is_crowded() {
                return;
            }
            let suspects = self.waiting() > 0;
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
            if std::mem::replace(&mut asked, true) && self.runner.borrow().is_none() {
                return Poll::Ready(());
            }
            self.runner.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Whether more wait than a round has turns.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.waiting() > LARGEST_ROUND
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
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
pub struct TurnSlot {
    turns: Rc<TurnQueue>,
    conduct: Conduct,
    waiter: OnceCell<Rc<Waiter>>,
}

impl TurnSlot {
    /// Nothing is known of the connection: it does not wait.
    #[must_use]
    pub fn new(turns: &Rc<TurnQueue>) -> Self {
        Self::of(turns, Conduct::default())
    }

    /// The slot of a connection that has behaved like this.
    pub(in crate::edge) fn of(turns: &Rc<TurnQueue>, conduct: Conduct) -> Self {
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
            self.turns.turn(&self.waiter, TurnStanding::Ranked(rank), if large { LARGE } else { 1 }).await;
        }
    }

    /// Waits for the turn of the first request of a connection, before it is admitted: room is made for it, so that others end.
    /// It is there at once, unless more of them have come since the last look than a round has turns; then clients take turns.
    pub async fn take_first_turn(&self, client: impl FnOnce() -> ClientKey) {
        if self.conduct.rank() == Rank::New {
            self.turns.turn(&self.waiter, TurnStanding::First(client()), 1).await;
        }
    }

    /// Waits for the turn to end, because the client was too slow.
    pub async fn take_turn_to_end(&self) {
        self.turns.late().await;
    }

    /// Waits for the turn of a request whose client is over its budget, on a connection that was proven genuine. On others it has
    /// waited already.
    pub async fn take_suspects_turn(&self) {
        let rank = self.conduct.rank();
        if rank == Rank::Proven {
            self.turns.turn(&self.waiter, TurnStanding::Ranked(rank), 1).await;
        }
    }

    /// Waits for the turn of a piece of a body that has not been read.
    pub async fn take_piece(&self, large: bool) {
        self.turns.turn(&self.waiter, TurnStanding::Ranked(self.conduct.rank()), if large { LARGE } else { 1 }).await;
    }

    /// How the last request ended.
    pub fn note(&mut self, ended: Ended) {
        self.conduct.note(ended);
    }
}
