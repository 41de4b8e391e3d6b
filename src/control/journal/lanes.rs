//! What workers and the writer of a journal share: a buffer for each worker on the way there, and on the way back how far
//! the writer is.
//!
//! A buffer is behind a lock that only its worker and the writer take, the writer for as long as it takes to put an empty
//! one in its place. A worker never waits. It wakes the writer at most once for each time that this sleeps without a limit.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::config::records::BUFFER;
use crate::edge::observer::{Awaited, Kept};

/// How long the writer sleeps that no worker wakes.
const SLEEP: Duration = Duration::from_secs(1);

/// The size at which a buffer calls the writer although it looks by itself.
const URGENT: usize = BUFFER / 2;

/// A buffer that holds more counts as full.
pub(in crate::control) const FULL: usize = BUFFER / 4 * 3;

/// What waits to be written, with what its worker keeps under the same lock.
#[derive(Debug, Default)]
pub(in crate::control) struct Pending<S, C> {
    /// The bytes.
    pub(in crate::control) bytes: Vec<u8>,
    /// Records that this worker has made since the start.
    pub(in crate::control) made: u64,
    /// The worker's own.
    pub(in crate::control) state: S,
    /// What has been counted since the writer came last. It takes this along.
    pub(in crate::control) counted: C,
}

/// On cache lines of its own: neighbours do not slow each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane<S, C> {
    pending: Mutex<Pending<S, C>>,
    full: AtomicBool,
    /// How many records of this worker are durable.
    reached: AtomicU64,
}

impl<S, C> Lane<S, C> {
    fn lock(&self) -> MutexGuard<'_, Pending<S, C>> {
        // A worker that panicked while it appended takes the process with it: nothing goes on with half a line.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lanes of all workers.
#[derive(Debug, Default)]
pub(in crate::control) struct Lanes<S, C> {
    lanes: Box<[Lane<S, C>]>,
    asleep: AtomicBool,
    writer: OnceLock<Thread>,
    /// How often the writer has begun to take everything that there is, and how often it was durable then.
    rounds: [AtomicU64; 2],
    /// An answer waits for everything to be durable.
    awaited: AtomicBool,
    /// Writing does not succeed.
    failing: AtomicBool,
    /// Records that were not written since the start: those of strangers over the rate, and those that found no room.
    missed: [AtomicU64; 2],
}

impl<S: Default, C: Default> Lanes<S, C> {
    /// Buffers of [`BUFFER`] bytes for so many workers. They may become larger, at the price of an allocation.
    pub(super) fn new(workers: usize) -> Self {
        let lanes: Box<[Lane<S, C>]> = (0..workers).map(|_| Lane::default()).collect();
        lanes.iter().for_each(|lane| lane.lock().bytes.reserve_exact(BUFFER));
        Self { lanes, ..Self::default() }
    }

    /// Shows a worker its buffer, and wakes the writer if that has grown. `None` for a worker that was not counted.
    pub(in crate::control) fn with<R>(&self, worker: usize, append: impl FnOnce(&mut Pending<S, C>) -> R) -> Option<R> {
        let lane = self.lanes.get(worker)?;
        let mut pending = lane.lock();
        let before = pending.bytes.len();
        let result = append(&mut pending);
        let after = pending.bytes.len();
        if before < FULL && after >= FULL {
            lane.full.store(true, Ordering::Relaxed);
        }
        drop(pending);
        let filled_up = before < URGENT && after >= URGENT;
        // The lock has ordered this: a writer that did not see these bytes had set the flag before.
        if after > before && (filled_up || self.asleep.load(Ordering::SeqCst)) {
            self.wake();
        }
        Some(result)
    }

    /// Whether what this worker records now will be written soon.
    pub(in crate::control) fn has_room(&self, worker: usize) -> bool {
        !(self.is_failing() || self.lanes.get(worker).is_some_and(|lane| lane.full.load(Ordering::Relaxed)))
    }

    /// Whether writing fails.
    pub(in crate::control) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Records that were not written since the start: those over the rate, and those that found no room.
    pub(in crate::control) fn missed(&self) -> [u64; 2] {
        self.missed.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Has the writer make everything durable that there is by now; what there is to wait for.
    pub(in crate::control) fn ask_for_everything(&self) -> Awaited {
        let [begun, _] = &self.rounds;
        // A round that has begun may have been here already.
        let round = begun.load(Ordering::SeqCst) + 1;
        self.awaited.store(true, Ordering::SeqCst);
        self.wake();
        Awaited::Everything(round)
    }

    /// What has become of what an answer of this worker waits for.
    pub(in crate::control) fn kept(&self, worker: usize, awaited: Awaited) -> Kept {
        let [_, durable] = &self.rounds;
        let reached = match awaited {
            Awaited::Record(made) => {
                self.lanes.get(worker).is_none_or(|lane| lane.reached.load(Ordering::Acquire) >= made)
            }
            Awaited::Everything(round) => durable.load(Ordering::Acquire) >= round,
        };
        match reached {
            true => Kept::Durable,
            false if self.is_failing() => Kept::Failed,
            false => Kept::Pending,
        }
    }

    /// Wakes the writer.
    pub(super) fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

/// The writer's side.
impl<S, C: Default> Lanes<S, C> {
    /// The calling thread is the writer.
    pub(super) fn adopt_writer(&self) {
        let _ = self.writer.set(thread::current());
    }

    /// Begins to take everything that there is: shows `take` what each worker has left and counted. `made` becomes the
    /// numbers of records that the workers have made.
    pub(super) fn take_all(
        &self,
        made: &mut Vec<u64>,
        spare: &mut Vec<u8>,
        mut take: impl FnMut(&[u8], C) -> [u64; 2],
    ) {
        let [begun, _] = &self.rounds;
        begun.fetch_add(1, Ordering::SeqCst);
        made.clear();
        for lane in &self.lanes {
            spare.clear();
            let mut pending = lane.lock();
            lane.full.store(false, Ordering::Relaxed);
            mem::swap(&mut pending.bytes, spare);
            made.push(pending.made);
            let counted = mem::take(&mut pending.counted);
            drop(pending);
            for (total, missed) in self.missed.iter().zip(take(spare, counted)) {
                total.fetch_add(missed, Ordering::Relaxed);
            }
        }
    }

    /// So many records of each worker are durable. Whether that is news.
    pub(super) fn reach(&self, made: &[u64]) -> bool {
        let lanes = self.lanes.iter().zip(made);
        lanes.fold(false, |news, (lane, made)| news | (lane.reached.swap(*made, Ordering::Release) != *made))
    }

    /// Everything that was taken is durable. Whether an answer waits for that.
    pub(super) fn end_round(&self) -> bool {
        let [begun, durable] = &self.rounds;
        durable.store(begun.load(Ordering::Relaxed), Ordering::Release);
        self.awaited.swap(false, Ordering::SeqCst)
    }

    /// Whether writing fails. Whether that is news.
    pub(super) fn set_failing(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::Release) != failing
    }

    /// Lets the writer rest: for `pause`, or without one until something comes. It wakes early when a buffer fills up, or
    /// when [`Lanes::wake`] is called or has been since the last rest.
    pub(super) fn rest(&self, pause: Option<Duration>) {
        if let Some(pause) = pause {
            return thread::park_timeout(pause);
        }
        self.asleep.store(true, Ordering::SeqCst);
        if self.lanes.iter().all(|lane| lane.lock().bytes.is_empty()) {
            thread::park_timeout(SLEEP);
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
