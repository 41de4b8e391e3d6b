//! The idle connections of one worker, oldest first, so that they can be closed when the process has no room for more.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::gate::admission::ConnectionPermit;
use crate::gate::holding::{Holding, IdleStanding};
use crate::gate::keyed_buckets::ClientKey;

/// Idle connections, in the order in which they became idle. Each leaves its permit here while it waits: a connection
/// that is closed to make room has made it at once.
#[derive(Debug, Default)]
pub struct IdleSet {
    next: Cell<u64>,
    /// How often all of them have been woken.
    calls: Cell<u64>,
    slots: RefCell<BTreeMap<u64, IdleSlot>>,
    clients: RefCell<Clients>,
}

/// Whose connections they are: by client and standing. Made when it is asked for, of those
/// who have come since; up to but not including `counted`.
#[derive(Debug, Default)]
struct Clients {
    counted: u64,
    idle: BTreeSet<(ClientKey, IdleStanding, u64)>,
}

impl Clients {
    /// The connections of one client, the oldest first.
    fn of(&self, client: ClientKey, standing: IdleStanding) -> impl Iterator<Item = u64> {
        self.idle.range((client, standing, 0)..=(client, standing, u64::MAX)).map(|(.., number)| *number)
    }
}

#[derive(Debug)]
struct IdleSlot {
    permit: ConnectionPermit,
    waker: Option<Waker>,
}

impl IdleSet {
    /// Waits for `operation` (pinned by the caller, so that an idle connection does not hold it twice) with the permit put
    /// down. Gives its output, or nothing when all have been woken, and the permit; or nothing at all when the
    /// connection must be closed because another was let in for it.
    pub fn wait<'a, F: Future>(&'a self, permit: ConnectionPermit, operation: Pin<&'a mut F>) -> IdleWait<'a, F> {
        let number = self.next.get();
        self.next.set(number + 1);
        self.slots.borrow_mut().insert(number, IdleSlot { permit, waker: None });
        IdleWait { set: self, number, calls: self.calls.get(), operation }
    }

    /// Closes the connection that has been idle longest. False when there is none.
    pub fn close_oldest(&self) -> bool {
        let Some(oldest) = self.slots.borrow().keys().next().copied() else { return false };
        self.close(oldest)
    }

    /// Closes the one that has been idle longest among those of one client with this standing.
    pub fn close_oldest_of(&self, client: ClientKey, standing: IdleStanding) -> bool {
        self.name_new();
        let oldest = self.clients.borrow().of(client, standing).next();
        oldest.is_some_and(|oldest| self.close(oldest))
    }

    /// Whether at least so many connections of one client with this standing are idle.
    pub fn has(&self, count: usize, client: ClientKey, standing: IdleStanding) -> bool {
        self.name_new();
        self.clients.borrow().of(client, standing).take(count).count() == count
    }

    /// Takes down the clients of the connections that have come since.
    fn name_new(&self) {
        let mut clients = self.clients.borrow_mut();
        for (number, slot) in self.slots.borrow().range(clients.counted..) {
            clients.idle.extend(slot.name(*number));
        }
        clients.counted = self.next.get();
    }

    /// Closes every connection on which nothing was proven genuine and whose client has too many, as `sheds` says; how many.
    pub fn close_useless(&self, mut sheds: impl FnMut(&Holding) -> bool) -> usize {
        let slots = self.slots.borrow();
        let useless = slots.iter().filter(|(_, slot)| {
            let holding = slot.permit.holding();
            !holding.is_proven() && sheds(holding)
        });
        let numbers: Vec<u64> = useless.map(|(number, _)| *number).collect();
        drop(slots);
        numbers.into_iter().filter(|number| self.close(*number)).count()
    }

    fn remove(&self, number: u64) -> Option<IdleSlot> {
        let slot = self.slots.borrow_mut().remove(&number)?;
        let mut clients = self.clients.borrow_mut();
        if number < clients.counted
            && let Some(name) = slot.name(number)
        {
            clients.idle.remove(&name);
        }
        Some(slot)
    }

    fn close(&self, number: u64) -> bool {
        let Some(IdleSlot { permit, waker }) = self.remove(number) else { return false };
        drop(permit);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Wakes all of them: something has changed that concerns idle connections.
    pub fn wake_all(&self) {
        self.calls.set(self.calls.get() + 1);
        for slot in self.slots.borrow_mut().values_mut() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// How many connections are idle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether no connection is idle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.borrow().is_empty()
    }
}

impl IdleSlot {
    fn name(&self, number: u64) -> Option<(ClientKey, IdleStanding, u64)> {
        let holding = self.permit.holding();
        holding.owning_client().map(|client| (client, holding.standing(), number))
    }
}

/// A connection that waits. Its slot is taken away even when the wait is given up. Written by hand, because a compiled
/// one is three times as large, ten thousand times.
pub struct IdleWait<'a, F> {
    set: &'a IdleSet,
    number: u64,
    /// The calls when it sat down.
    calls: u64,
    operation: Pin<&'a mut F>,
}

impl<F> IdleWait<'_, F> {
    fn leave(&self) -> Option<ConnectionPermit> {
        self.set.remove(self.number).map(|slot| slot.permit)
    }
}

impl<F: Future> Future for IdleWait<'_, F> {
    type Output = Option<(Option<F::Output>, ConnectionPermit)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.set.slots.borrow_mut().get_mut(&self.number) {
            None => return Poll::Ready(None),
            Some(slot) if slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) => {}
            Some(slot) => slot.waker = Some(cx.waker().clone()),
        }
        let output = if self.set.calls.get() == self.calls {
            match self.operation.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(output) => Some(output),
            }
        } else {
            None
        };
        Poll::Ready(self.leave().map(|permit| (output, permit)))
    }
}

impl<F> Drop for IdleWait<'_, F> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::pin::pin;

    use super::*;
    use crate::gate::admission::Admission;
    use crate::gate::keyed_buckets::Allowance;
    use crate::gate::limits::AdmissionLimits;
    use std::hash::RandomState;
    use std::sync::Arc;
    use std::task::Context;
    use std::time::Duration;

    fn admission() -> (Arc<Admission>, impl Fn() -> ConnectionPermit) {
        let admission = Arc::new(Admission::new(AdmissionLimits::default(), RandomState::new()));
        let open = Arc::clone(&admission);
        (admission, move || open.open(None, Allowance::Usual, Duration::ZERO).unwrap())
    }

    #[test]
    fn the_oldest_goes_first_and_its_place_is_free_at_once() {
        let (admission, permit) = admission();
        let set = IdleSet::default();
        let mut cx = Context::from_waker(Waker::noop());
        let first = pin!(std::future::pending::<()>());
        let mut first = Box::pin(set.wait(permit(), first));
        let second = pin!(std::future::pending::<()>());
        let mut second = Box::pin(set.wait(permit(), second));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert_eq!((set.len(), admission.held().connections), (2, 2));
        assert!(set.close_oldest());
        assert_eq!(admission.held().connections, 1);
        assert!(matches!(first.as_mut().poll(&mut cx), Poll::Ready(None)));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        set.wake_all();
        let Poll::Ready(Some((None, called))) = second.as_mut().poll(&mut cx) else { panic!("it is called") };
        drop(called);
        let third = pin!(std::future::ready(7));
        let mut third = Box::pin(set.wait(permit(), third));
        let Poll::Ready(Some((Some(7), back))) = third.as_mut().poll(&mut cx) else { panic!("its permit comes back") };
        drop(back);
        // A wait that is given up leaves nothing behind.
        drop((first, second, third));
        assert!(set.is_empty() && !set.close_oldest());
        assert_eq!(admission.held().connections, 0);
    }
}
