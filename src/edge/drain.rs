//! How a worker stops: first every answer says that its connection closes, then nothing more is accepted, what is in
//! flight is finished, and idle connections are closed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// How far a worker is on its way out. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainStage {
    /// It is not on its way out.
    #[default]
    Serving,
    /// It accepts and serves, but every answer says `Connection: close`.
    Parting,
    /// It accepts nothing new and finishes what has begun.
    Closing,
}

/// One worker's view of whether it is stopping, and of what is still there.
#[derive(Debug, Default)]
pub struct Drain {
    stage: Cell<DrainStage>,
    in_flight: Cell<usize>,
    open: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

/// An exchange in flight; it counts until it is dropped.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Drain);

/// Something that must end before the worker does: a connection, or a listener that is being closed.
#[derive(Debug)]
pub struct Open(Rc<Drain>);

impl Drain {
    /// Goes on to a later stage.
    pub fn advance(&self, stage: DrainStage) {
        self.stage.set(self.stage.get().max(stage));
    }

    /// How far we are.
    #[must_use]
    pub fn stage(&self) -> DrainStage {
        self.stage.get()
    }

    /// Whether the worker is on its way out.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.stage.get() > DrainStage::Serving
    }

    /// Whether nothing new is served.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.stage.get() == DrainStage::Closing
    }

    /// Counts an exchange.
    #[must_use]
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.set(self.in_flight.get() + 1);
        InFlight(self)
    }

    /// Counts something that the worker must not end before.
    #[must_use]
    pub fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }

    /// Waits until nothing is open.
    pub async fn finished(&self) {
        poll_fn(|cx| {
            if self.open.get() == 0 {
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
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let left = self.0.open.get() - 1;
        self.0.open.set(left);
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
    use std::future::Future;
    use std::pin::pin;
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
    fn finished_waits_for_the_last_one() {
        let drain = Rc::new(Drain::default());
        let (first, second) = (drain.open(), drain.open());
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

    #[test]
    fn there_is_no_way_back() {
        let drain = Drain::default();
        assert!(!drain.has_begun());
        drain.advance(DrainStage::Closing);
        drain.advance(DrainStage::Parting);
        assert_eq!(drain.stage(), DrainStage::Closing);
    }
}
