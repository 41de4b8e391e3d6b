//! The slow connections of one worker: those that make us wait for the rest of a head or a body, or for an answer to be
//! taken. When a limit of the process is reached, they are evicted in the order of [`crate::gate::eviction`].
//!
//! A request that arrives whole never comes here. One that does not costs a slot in a map; what it holds is counted for
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

/// Connections of a client that are looked at to find one that can be evicted for another of its own.
const LOOK: usize = 8;

/// The connection has been evicted: nothing that it holds counts any more, and it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted;

/// The slow connections.
#[derive(Debug, Default)]
pub struct SlowSet {
    next: Cell<u64>,
    slots: RefCell<BTreeMap<u64, SlowSlot>>,
    orders: RefCell<EvictionOrders>,
}

#[derive(Debug)]
struct SlowSlot {
    holding: Rc<Holding>,
    since: Duration,
    waker: Option<Waker>,
}

/// Who holds what. Slots are counted from the first on, up to but not including `counted`.
#[derive(Debug, Default)]
struct EvictionOrders {
    counted: u64,
    connections: EvictionOrder,
    requests: EvictionOrder,
    body_memory: EvictionOrder,
    suspect_requests: EvictionOrder,
    suspect_memory: EvictionOrder,
}

impl SlowSet {
    /// Evicts one connection for a new one. What it held is free at once. Returns false where none may be evicted.
    pub fn evict_for(&self, bound: Bound, newcomer: Newcomer, now: Duration) -> bool {
        let mut orders = self.orders.borrow_mut();
        self.count(&mut orders);
        let Some(number) = orders.of(bound).next_to_go(newcomer, now) else { return false };
        orders.leave(number);
        drop(orders);
        self.end(number)
    }

    /// Evicts a connection of a client on which nothing was proven genuine: of the oldest that wait, the one with the fewest
    /// bytes of a body, at most `arrived`. A large delivery takes long, and is not evicted for requests that have stopped.
    /// Returns false when none of the oldest is like that.
    pub fn evict_of(&self, client: ClientKey, arrived: u64) -> bool {
        let mut orders = self.orders.borrow_mut();
        self.count(&mut orders);
        let slots = self.slots.borrow();
        let useless = |number: u64| {
            let holding = &slots.get(&number)?.holding;
            (!holding.is_proven() && holding.body() <= arrived).then(|| (holding.body(), number))
        };
        let found = orders.connections.oldest_of(Owner::Client(client)).take(LOOK).filter_map(useless).min();
        drop(slots);
        let Some((_, number)) = found else { return false };
        orders.leave(number);
        drop(orders);
        self.end(number)
    }

    /// In how many connections a client makes us wait.
    pub fn len_of(&self, client: ClientKey) -> usize {
        let mut orders = self.orders.borrow_mut();
        self.count(&mut orders);
        orders.connections.len_of(Owner::Client(client))
    }

    /// Takes a slot away, and everything that is held with it.
    fn end(&self, number: u64) -> bool {
        let Some(SlowSlot { holding, waker, .. }) = self.slots.borrow_mut().remove(&number) else { return false };
        holding.surrender();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The most that one client holds of a bound.
    #[must_use]
    pub fn largest(&self, bound: Bound) -> u64 {
        let mut orders = self.orders.borrow_mut();
        self.count(&mut orders);
        orders.of(bound).largest()
    }

    /// How many connections wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.borrow().is_empty()
    }

    /// Counts the connections that have come since room was last needed.
    fn count(&self, orders: &mut EvictionOrders) {
        for (number, slot) in self.slots.borrow().range(orders.counted..) {
            orders.join(*number, &slot.holding, slot.since);
        }
        orders.counted = self.next.get();
    }

    fn insert(&self, holding: &Rc<Holding>, since: Duration) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        self.slots.borrow_mut().insert(number, SlowSlot { holding: Rc::clone(holding), since, waker: None });
        number
    }

    /// Whether the slot is there still.
    fn remove(&self, number: u64) -> bool {
        let mut orders = self.orders.borrow_mut();
        if number < orders.counted {
            orders.leave(number);
        }
        self.slots.borrow_mut().remove(&number).is_some()
    }

    /// What a connection holds that has been counted may have grown.
    fn recount(&self, number: u64) {
        let mut orders = self.orders.borrow_mut();
        if number < orders.counted
            && let Some(SlowSlot { holding, since, .. }) = self.slots.borrow().get(&number)
        {
            orders.join(number, holding, *since);
        }
    }

    /// Notes whom to wake. False when the slot is gone.
    fn listen(&self, number: u64, waker: &Waker) -> bool {
        match self.slots.borrow_mut().get_mut(&number) {
            None => return false,
            Some(slot) if slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) => {}
            Some(slot) => slot.waker = Some(waker.clone()),
        }
        true
    }
}

impl EvictionOrders {
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

/// What a connection holds of the limits, and whether it is slow.
#[derive(Debug)]
pub struct Occupancy {
    set: Rc<SlowSet>,
    holding: Rc<Holding>,
    slot: Cell<Option<u64>>,
    evicted: Cell<bool>,
}

impl Occupancy {
    /// A connection that does not make us wait yet.
    #[must_use]
    pub const fn new(set: Rc<SlowSet>, holding: Rc<Holding>) -> Self {
        Self { set, holding, slot: Cell::new(None), evicted: Cell::new(false) }
    }

    /// What the connection holds.
    #[must_use]
    pub const fn holding(&self) -> &Rc<Holding> {
        &self.holding
    }

    /// Whether it is slow, or has been evicted and has not noticed.
    #[must_use]
    pub const fn is_slow(&self) -> bool {
        self.slot.get().is_some()
    }

    /// Drives an operation that waits for the client (pinned by the caller: it is large, and moving it costs more than
    /// driving it). The slot is kept when it ends: a client that sends byte after byte has made us wait since the
    /// first of them. [`Self::end`] gives it back.
    ///
    /// # Errors
    /// [`Evicted`]; the operation has been given up then.
    pub async fn during<F: Future>(
        &self,
        now: impl Fn() -> Duration,
        operation: Pin<&mut F>,
    ) -> Result<F::Output, Evicted> {
        self.drive(0, now, operation).await
    }

    /// Like [`Self::during`], for writes. They usually wait for the kernel, so the client is blamed only from the second
    /// pending poll on.
    ///
    /// # Errors
    /// [`Evicted`]
    pub async fn during_write<F: Future>(
        &self,
        now: impl Fn() -> Duration,
        operation: Pin<&mut F>,
    ) -> Result<F::Output, Evicted> {
        let output = self.drive(1, now, operation).await?;
        self.end()?;
        Ok(output)
    }

    async fn drive<F: Future>(
        &self,
        looks: u32,
        now: impl Fn() -> Duration,
        mut operation: Pin<&mut F>,
    ) -> Result<F::Output, Evicted> {
        let mut looks = looks;
        if let Some(number) = self.slot.get() {
            self.set.recount(number);
        }
        poll_fn(|cx| {
            if self.was_evicted() {
                return Poll::Ready(Err(Evicted));
            }
            if let Poll::Ready(output) = operation.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            match self.slot.get() {
                None if looks > 0 => looks -= 1,
                slot => {
                    let number = slot.unwrap_or_else(|| self.set.insert(&self.holding, now()));
                    self.slot.set(Some(number));
                    self.set.listen(number, cx.waker());
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the connection has been evicted.
    pub fn was_evicted(&self) -> bool {
        if let Some(number) = self.slot.get()
            && !self.set.slots.borrow().contains_key(&number)
        {
            self.slot.set(None);
            self.evicted.set(true);
        }
        self.evicted.get()
    }

    /// The connection does not make us wait any more.
    ///
    /// # Errors
    /// [`Evicted`]: it had been evicted before.
    pub fn end(&self) -> Result<(), Evicted> {
        if let Some(number) = self.slot.take()
            && !self.set.remove(number)
        {
            self.evicted.set(true);
        }
        if self.evicted.get() { Err(Evicted) } else { Ok(()) }
    }
}

impl Drop for Occupancy {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
