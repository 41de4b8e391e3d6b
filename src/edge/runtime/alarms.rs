//! The deadlines of those who wait long: one timer for all of a worker, which a task of its own keeps. A timer of the
//! runtime is larger than everything else that an idle connection holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::time::Instant;

use super::clock::Clock;

/// A deadline in milliseconds, the next whole one, and a number of its own.
type Key = (u64, u64);

/// The deadlines of one worker, the nearest first. They are only met while [`Self::keep`] runs.
#[derive(Debug)]
pub struct Alarms {
    clock: Clock,
    next: Cell<u64>,
    set: RefCell<BTreeMap<Key, Waker>>,
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

    /// Drives `operation` (pinned by the caller, so that it is not held twice) until it is done, or gives nothing when it
    /// is not by `deadline`.
    pub(in crate::edge) fn until<'a, F: Future>(
        &'a self,
        deadline: Duration,
        operation: Pin<&'a mut F>,
    ) -> Until<'a, F> {
        let number = self.next.get();
        self.next.set(number + 1);
        let millis = deadline.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX);
        Until { alarms: self, key: (millis, number), operation }
    }

    /// Wakes the tasks whose deadlines have come. One task of the worker runs this; it does not end.
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

    fn set(&self, key: Key, waker: &Waker) {
        let mut set = self.set.borrow_mut();
        set.insert(key, waker.clone());
        let is_nearest = set.first_key_value().is_some_and(|(first, _)| *first == key);
        if is_nearest && let Some(keeper) = self.keeper.take() {
            keeper.wake();
        }
    }

    /// Wakes those whose deadlines have come; the nearest of the others.
    fn ring(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let mut set = self.set.borrow_mut();
        while let Some(first) = set.first_entry() {
            let deadline = Duration::from_millis(first.key().0);
            if deadline > now {
                return Some(deadline);
            }
            first.remove().wake();
        }
        None
    }
}

/// An operation and its deadline, which is forgotten when this is dropped.
#[derive(Debug)]
pub(in crate::edge) struct Until<'a, F> {
    alarms: &'a Alarms,
    key: Key,
    operation: Pin<&'a mut F>,
}

impl<F: Future> Future for Until<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.operation.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if self.alarms.clock.monotonic() >= Duration::from_millis(self.key.0) {
            return Poll::Ready(None);
        }
        self.alarms.set(self.key, cx.waker());
        Poll::Pending
    }
}

impl<F> Drop for Until<'_, F> {
    fn drop(&mut self) {
        self.alarms.set.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::future::{pending, ready};
    use std::rc::Rc;

    /// Runs `task` on a worker's runtime, with alarms that are kept.
    fn run<F: Future>(task: impl FnOnce(Rc<Alarms>) -> F) -> F::Output {
        let runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build();
        runtime.unwrap().block_on(async {
            let alarms = Rc::new(Alarms::new(Clock::start()));
            let kept = Rc::clone(&alarms);
            monoio::spawn(async move { kept.keep().await });
            monoio::time::timeout(Duration::from_secs(10), task(alarms)).await.expect("an alarm that rings")
        })
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn deadlines_are_met_in_their_order() {
        let order = run(|alarms| async move {
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = [90, 30, 3_600_000, 60]
                .map(|deadline| {
                    let (alarms, order) = (Rc::clone(&alarms), Rc::clone(&order));
                    monoio::spawn(async move {
                        assert_eq!(alarms.until(ms(deadline), pin!(pending::<()>())).await, None);
                        assert!(alarms.clock.monotonic() >= ms(deadline), "{deadline} ms have not passed");
                        order.borrow_mut().push(deadline);
                    })
                })
                .into_iter()
                .collect();
            let mut tasks = tasks.into_iter();
            tasks.next().unwrap().await;
            assert_eq!(alarms.set.borrow().len(), 1, "who has been woken is forgotten");
            order.take()
        });
        assert_eq!(order, [30, 60, 90]);
    }

    #[test]
    fn what_is_done_or_given_up_has_no_deadline_any_more() {
        run(|alarms| async move {
            assert_eq!(alarms.until(ms(0), pin!(ready(7))).await, Some(7), "what is done is not late");
            {
                let mut waiting = pin!(pending::<()>());
                let mut until = pin!(alarms.until(ms(3_600_000), waiting.as_mut()));
                let waits = poll_fn(|cx| Poll::Ready(until.as_mut().poll(cx).is_pending())).await;
                assert!(waits);
                assert_eq!(alarms.set.borrow().len(), 1);
            }
            assert!(alarms.set.borrow().is_empty());
        });
    }
}
