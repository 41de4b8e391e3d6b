//! A lock for what only one connection of a worker does at a time, in the order in which they come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// FifoGuard by one, waited for by others. All of them are of one worker.
#[derive(Debug, Default)]
pub struct FifoLock {
    held: Cell<bool>,
    waiting: RefCell<VecDeque<Rc<LockWaiter>>>,
}

#[derive(Debug, Default)]
struct LockWaiter {
    called: Cell<bool>,
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The lock is held until this is dropped.
#[derive(Debug)]
pub struct FifoGuard<'b> {
    lock: &'b FifoLock,
}

impl Drop for FifoGuard<'_> {
    fn drop(&mut self) {
        self.lock.pass_on();
    }
}

/// A wait in the queue. One that is dropped is skipped later, and passes the lock on if it has just been given it.
struct FifoWait<'b> {
    lock: &'b FifoLock,
    waiter: Rc<LockWaiter>,
}

impl Drop for FifoWait<'_> {
    fn drop(&mut self) {
        self.waiter.gone.set(true);
        if self.waiter.called.get() {
            self.lock.pass_on();
        }
    }
}

impl FifoLock {
    /// Waits for the lock.
    pub async fn take(&self) -> FifoGuard<'_> {
        if !self.held.replace(true) {
            return FifoGuard { lock: self };
        }
        let wait = FifoWait { lock: self, waiter: Rc::default() };
        self.waiting.borrow_mut().push_back(Rc::clone(&wait.waiter));
        poll_fn(|cx| {
            // What was given is no longer the wait's to pass on.
            if wait.waiter.called.replace(false) {
                return Poll::Ready(());
            }
            wait.waiter.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        FifoGuard { lock: self }
    }

    /// Gives it to the waiter that came first.
    fn pass_on(&self) {
        let next = loop {
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                Some(waiter) if waiter.gone.get() => {}
                next => break next,
            }
        };
        let Some(waiter) = next else { return self.held.set(false) };
        waiter.called.set(true);
        if let Some(waker) = waiter.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Context;

    use super::*;

    fn poll<'b>(take: &mut Pin<Box<impl Future<Output = FifoGuard<'b>>>>) -> Option<FifoGuard<'b>> {
        match take.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(held) => Some(held),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_has_it_and_the_others_get_it_in_their_order() {
        let lock = FifoLock::default();
        let first = poll(&mut Box::pin(lock.take()));
        assert!(first.is_some());
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(lock.take())).collect();
        assert!(waits.iter_mut().all(|wait| poll(wait).is_none()));
        drop(first);
        assert!(poll(&mut waits[1]).is_none() && poll(&mut waits[2]).is_none());
        let second = poll(&mut waits[0]);
        assert!(second.is_some() && poll(&mut waits[1]).is_none());
        drop(second);
        let third = poll(&mut waits[1]);
        assert!(third.is_some());
        drop(third);
        assert!(poll(&mut waits[2]).is_some());
        assert!(!lock.held.get());
    }

    #[test]
    fn a_wait_that_is_given_up_holds_up_no_other() {
        let lock = FifoLock::default();
        let first = poll(&mut Box::pin(lock.take()));
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(lock.take())).collect();
        assert!(waits.iter_mut().all(|wait| poll(wait).is_none()));
        // One goes while it waits, one when it has been called.
        drop(waits.remove(0));
        drop(first);
        drop(waits.remove(0));
        assert!(poll(&mut waits[0]).is_some());
        drop(waits);
        assert!(!lock.held.get() && poll(&mut Box::pin(lock.take())).is_some());
    }
}
