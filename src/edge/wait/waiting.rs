//! The connections of one worker that make us wait: for the rest of a head or a body, or for an answer to be taken. When
//! a bound of the process is met, they give way ([`crate::gate::eviction`]).
//!
//! A request that arrives whole never comes here. One that does not costs a seat in a map; what it holds is counted for
//! its client only when room is needed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::gate::eviction::{Bound, EvictionOrder, Newcomer, Owner};
use crate::gate::holding::Holding;
use crate::gate::keyed_buckets::ClientKey;

/// Connections of a client that are looked at to find one that gives way to another of its own.
const LOOK: usize = 8;

/// The connection has been made to give way: nothing that it holds counts any more, and it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveWay;

/// The waiting connections.
#[derive(Debug, Default)]
pub struct Waiting {
    next: Cell<u64>,
    seats: RefCell<BTreeMap<u64, Seat>>,
    crowds: RefCell<Crowds>,
}

#[derive(Debug)]
struct Seat {
    holding: Rc<Holding>,
    since: Duration,
    waker: Option<Waker>,
}

/// Who holds what. Seats are counted from the first on, up to but not including `counted`.
#[derive(Debug, Default)]
struct Crowds {
    counted: u64,
    connections: EvictionOrder,
    requests: EvictionOrder,
    body_memory: EvictionOrder,
    suspect_requests: EvictionOrder,
    suspect_memory: EvictionOrder,
}

impl Waiting {
    /// Makes one connection give way to a newcomer. What it held is free at once. False when nobody has to.
    pub fn make_way(&self, bound: Bound, newcomer: Newcomer, now: Duration) -> bool {
        let mut crowds = self.crowds.borrow_mut();
        self.count(&mut crowds);
        let Some(number) = crowds.of(bound).next_to_go(newcomer, now) else { return false };
        crowds.leave(number);
        drop(crowds);
        self.end(number)
    }

    /// Makes a connection of a client give way on which nothing was proven genuine: of the oldest that wait, the one of whose
    /// body least has arrived, and at most `arrived` bytes. A large delivery, which takes long, does not give way to requests
    /// that have stopped. False when none of the oldest is like that.
    pub fn make_way_of(&self, client: ClientKey, arrived: u64) -> bool {
        let mut crowds = self.crowds.borrow_mut();
        self.count(&mut crowds);
        let seats = self.seats.borrow();
        let useless = |number: u64| {
            let holding = &seats.get(&number)?.holding;
            (!holding.is_proven() && holding.body() <= arrived).then(|| (holding.body(), number))
        };
        let found = crowds.connections.oldest_of(Owner::Client(client)).take(LOOK).filter_map(useless).min();
        drop(seats);
        let Some((_, number)) = found else { return false };
        crowds.leave(number);
        drop(crowds);
        self.end(number)
    }

    /// In how many connections a client makes us wait.
    pub fn len_of(&self, client: ClientKey) -> usize {
        let mut crowds = self.crowds.borrow_mut();
        self.count(&mut crowds);
        crowds.connections.len_of(Owner::Client(client))
    }

    /// Takes a seat away, and everything that is held with it.
    fn end(&self, number: u64) -> bool {
        let Some(Seat { holding, waker, .. }) = self.seats.borrow_mut().remove(&number) else { return false };
        holding.surrender();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The most that one client holds of a bound.
    #[must_use]
    pub fn largest(&self, bound: Bound) -> u64 {
        let mut crowds = self.crowds.borrow_mut();
        self.count(&mut crowds);
        crowds.of(bound).largest()
    }

    /// How many connections wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seats.borrow().len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.borrow().is_empty()
    }

    /// Counts those who have come since somebody last needed room.
    fn count(&self, crowds: &mut Crowds) {
        for (number, seat) in self.seats.borrow().range(crowds.counted..) {
            crowds.join(*number, &seat.holding, seat.since);
        }
        crowds.counted = self.next.get();
    }

    fn sit(&self, holding: &Rc<Holding>, since: Duration) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        self.seats.borrow_mut().insert(number, Seat { holding: Rc::clone(holding), since, waker: None });
        number
    }

    /// Whether the seat is there still.
    fn stand_up(&self, number: u64) -> bool {
        let mut crowds = self.crowds.borrow_mut();
        if number < crowds.counted {
            crowds.leave(number);
        }
        self.seats.borrow_mut().remove(&number).is_some()
    }

    /// What somebody holds who has been counted may have grown.
    fn recount(&self, number: u64) {
        let mut crowds = self.crowds.borrow_mut();
        if number < crowds.counted
            && let Some(Seat { holding, since, .. }) = self.seats.borrow().get(&number)
        {
            crowds.join(number, holding, *since);
        }
    }

    /// Notes whom to wake. False when the seat is gone.
    fn listen(&self, number: u64, waker: &Waker) -> bool {
        match self.seats.borrow_mut().get_mut(&number) {
            None => return false,
            Some(seat) if seat.waker.as_ref().is_some_and(|known| known.will_wake(waker)) => {}
            Some(seat) => seat.waker = Some(waker.clone()),
        }
        true
    }
}

impl Crowds {
    const fn of(&self, bound: Bound) -> &EvictionOrder {
        match bound {
            Bound::Connections => &self.connections,
            Bound::Requests => &self.requests,
            Bound::BodyMemory => &self.body_memory,
            Bound::SuspectRequests => &self.suspect_requests,
            Bound::SuspectMemory => &self.suspect_memory,
        }
    }

    fn join(&mut self, number: u64, holding: &Holding, since: Duration) {
        let (owner, client) = (holding.owner(number), holding.client(number));
        for (crowd, party, bound) in [
            (&mut self.connections, owner, Bound::Connections),
            (&mut self.requests, client, Bound::Requests),
            (&mut self.body_memory, client, Bound::BodyMemory),
            (&mut self.suspect_requests, client, Bound::SuspectRequests),
            (&mut self.suspect_memory, client, Bound::SuspectMemory),
        ] {
            let amount = holding.held(bound);
            if amount > 0 {
                crowd.join(number, party, amount, since);
            }
        }
    }

    fn leave(&mut self, number: u64) {
        self.connections.leave(number);
        self.requests.leave(number);
        self.body_memory.leave(number);
        self.suspect_requests.leave(number);
        self.suspect_memory.leave(number);
    }
}

/// A connection, as one that may make us wait.
#[derive(Debug)]
pub struct Patience {
    waiting: Rc<Waiting>,
    holding: Rc<Holding>,
    seat: Cell<Option<u64>>,
    gave_way: Cell<bool>,
}

impl Patience {
    /// A connection that does not make us wait yet.
    #[must_use]
    pub const fn new(waiting: Rc<Waiting>, holding: Rc<Holding>) -> Self {
        Self { waiting, holding, seat: Cell::new(None), gave_way: Cell::new(false) }
    }

    /// What the connection holds.
    #[must_use]
    pub const fn holding(&self) -> &Rc<Holding> {
        &self.holding
    }

    /// Whether it makes us wait, or has been made to give way and has not noticed.
    #[must_use]
    pub const fn is_seated(&self) -> bool {
        self.seat.get().is_some()
    }

    /// Drives an operation that waits for the client (pinned by the caller: it is large, and moving it costs more than
    /// driving it). The seat is kept when it ends: whoever sends byte after byte has
    /// made us wait since the first of them. [`Self::is_over`] gives it back.
    ///
    /// # Errors
    /// [`GaveWay`]; the operation has been given up then.
    pub async fn during<F: Future>(
        &self,
        now: impl Fn() -> Duration,
        operation: Pin<&mut F>,
    ) -> Result<F::Output, GaveWay> {
        self.drive(0, now, operation).await
    }

    /// The same for what waits for the kernel, too, and seldom for the client: it is taken to wait for the client when it
    /// has been looked at twice.
    ///
    /// # Errors
    /// [`GaveWay`]
    pub async fn during_write<F: Future>(
        &self,
        now: impl Fn() -> Duration,
        operation: Pin<&mut F>,
    ) -> Result<F::Output, GaveWay> {
        let output = self.drive(1, now, operation).await?;
        self.is_over()?;
        Ok(output)
    }

    async fn drive<F: Future>(
        &self,
        looks: u32,
        now: impl Fn() -> Duration,
        mut operation: Pin<&mut F>,
    ) -> Result<F::Output, GaveWay> {
        let mut looks = looks;
        if let Some(number) = self.seat.get() {
            self.waiting.recount(number);
        }
        poll_fn(|cx| {
            if self.has_given_way() {
                return Poll::Ready(Err(GaveWay));
            }
            if let Poll::Ready(output) = operation.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            match self.seat.get() {
                None if looks > 0 => looks -= 1,
                seat => {
                    let number = seat.unwrap_or_else(|| self.waiting.sit(&self.holding, now()));
                    self.seat.set(Some(number));
                    self.waiting.listen(number, cx.waker());
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the connection has been made to give way.
    pub fn has_given_way(&self) -> bool {
        if let Some(number) = self.seat.get()
            && !self.waiting.seats.borrow().contains_key(&number)
        {
            self.seat.set(None);
            self.gave_way.set(true);
        }
        self.gave_way.get()
    }

    /// The connection does not make us wait any more.
    ///
    /// # Errors
    /// [`GaveWay`]: it had been made to give way before.
    pub fn is_over(&self) -> Result<(), GaveWay> {
        if let Some(number) = self.seat.take()
            && !self.waiting.stand_up(number)
        {
            self.gave_way.set(true);
        }
        if self.gave_way.get() { Err(GaveWay) } else { Ok(()) }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        let _ = self.is_over();
    }
}
