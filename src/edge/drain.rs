//! How a worker stops: exchanges in flight are finished, idle connections are closed.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

/// One worker's view of whether it is stopping, and of what is still in flight.
#[derive(Debug, Default)]
pub struct Drain {
    draining: Cell<bool>,
    in_flight: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
    accepting: RefCell<Vec<Waker>>,
}

/// An exchange in flight; it counts until it is dropped.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Drain);

impl Drain {
    /// From now on: no new requests, `Connection: close` on every answer.
    pub fn begin(&self) {
        self.draining.set(true);
        for waker in self.accepting.take() {
            waker.wake();
        }
    }

    /// Drives `operation` until it is done, or gives it up (`None`) when the worker begins to stop.
    pub async fn unless_draining<F: Future>(&self, operation: F) -> Option<F::Output> {
        let mut operation = pin!(operation);
        poll_fn(|cx| {
            if self.is_draining() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = operation.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let mut accepting = self.accepting.borrow_mut();
            if !accepting.iter().any(|waker| waker.will_wake(cx.waker())) {
                accepting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the worker is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Counts an exchange.
    #[must_use]
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.set(self.in_flight.get() + 1);
        InFlight(self)
    }

    /// Waits until nothing is in flight.
    pub async fn finished(&self) {
        poll_fn(|cx| {
            if self.in_flight.get() == 0 {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// How many exchanges are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        if left == 0
            && let Some(waker) = self.0.waiting.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn finished_waits_for_the_last_exchange() {
        let drain = Drain::default();
        let (first, second) = (drain.enter(), drain.enter());
        let wakes = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let mut finished = pin!(drain.finished());
        assert!(finished.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
        drop(second);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(finished.as_mut().poll(&mut cx).is_ready());
    }
}
