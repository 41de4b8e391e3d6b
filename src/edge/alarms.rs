//! The deadlines of those who wait long: one timer for all of a worker, which a task of its own keeps. A timer of the
//! runtime is larger than everything else that an idle connection holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::time::Instant;

use super::clock::Clock;

/// The deadlines of one worker, the nearest first. They are only met while [`Self::keep`] runs.
#[derive(Debug)]
pub struct Alarms {
    clock: Clock,
    next: Cell<u64>,
    set: RefCell<BTreeMap<(Duration, u64), Waker>>,
    /// The task that keeps the timer.
    keeper: RefCell<Option<Waker>>,
}

impl Alarms {
    /// No deadlines yet, on this clock.
    #[must_use]
    pub const fn new(clock: Clock) -> Self {
        Self { clock, next: Cell::new(0), set: RefCell::new(BTreeMap::new()), keeper: RefCell::new(None) }
    }

    /// The clock of the process.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// An alarm that rings at `deadline`, if it is still there.
    pub(super) fn at(&self, deadline: Duration) -> Alarm<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        Alarm { alarms: self, key: (deadline, number) }
    }

    /// Wakes whoever waits for a deadline when it has come. One task of the worker runs this; it does not end.
    pub async fn keep(&self) {
        let mut timer = pin!(monoio::time::sleep(Duration::ZERO));
        poll_fn::<(), _>(|cx| {
            while let Some(nearest) = self.ring() {
                timer.as_mut().reset(Instant::from_std(self.clock.instant(nearest)));
                if timer.as_mut().poll(cx).is_pending() {
                    break;
                }
            }
            self.keeper.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Wakes those whose deadlines have come; the nearest of the others.
    fn ring(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let mut set = self.set.borrow_mut();
        while let Some(first) = set.first_entry() {
            let (deadline, _) = *first.key();
            if deadline > now {
                return Some(deadline);
            }
            first.remove().wake();
        }
        None
    }
}

/// A deadline that somebody waits for. It is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Alarm<'a> {
    alarms: &'a Alarms,
    key: (Duration, u64),
}

impl Alarm<'_> {
    /// Whether the deadline has come; if not, the task is woken when it does.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let (deadline, _) = self.key;
        if self.alarms.clock.monotonic() >= deadline {
            return Poll::Ready(());
        }
        let mut set = self.alarms.set.borrow_mut();
        set.insert(self.key, cx.waker().clone());
        let is_nearest = set.first_key_value().is_some_and(|(first, _)| *first == self.key);
        drop(set);
        if is_nearest && let Some(keeper) = self.alarms.keeper.take() {
            keeper.wake();
        }
        Poll::Pending
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.alarms.set.borrow_mut().remove(&self.key);
    }
}
