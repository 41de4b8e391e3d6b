//! Bytes on their way from the workers to a thread that writes them: a buffer for each worker, behind a lock that only
//! this worker and the writer ever take, the writer for as long as it takes to put an empty buffer in its place.
//!
//! A worker never waits and wakes the writer at most once for each of its rests: while the writer is about, it looks by
//! itself often enough. What a full buffer means is for the worker's side to say: it is shown the buffer before it
//! appends.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// What waits to be written, with whatever else its worker keeps under the same lock.
#[derive(Debug, Default)]
pub struct Pending<S> {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The worker's own.
    pub state: S,
}

/// On cache lines of its own: neighbours do not slow each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot<S>(Mutex<Pending<S>>);

/// The buffers of all workers.
#[derive(Debug)]
pub struct WorkerBuffers<S> {
    slots: Box<[Slot<S>]>,
    /// The size at which a buffer calls the writer although it is about.
    urgent: usize,
    asleep: AtomicBool,
    writer: OnceLock<Thread>,
}

impl<S: Default> WorkerBuffers<S> {
    /// Buffers of `size` bytes for so many workers. They may become larger, at the price of an allocation.
    #[must_use]
    pub fn new(workers: usize, size: usize) -> Self {
        let slot = |_| Slot(Mutex::new(Pending { bytes: Vec::with_capacity(size), state: S::default() }));
        Self {
            slots: (0..workers).map(slot).collect(),
            urgent: size / 2,
            asleep: AtomicBool::new(false),
            writer: OnceLock::new(),
        }
    }

    /// Shows a worker its buffer, and wakes the writer if that has grown. `None` for a worker that was not counted.
    pub fn with<R>(&self, worker: usize, append: impl FnOnce(&mut Pending<S>) -> R) -> Option<R> {
        let mut pending = self.lock(worker)?;
        let before = pending.bytes.len();
        let result = append(&mut pending);
        let after = pending.bytes.len();
        drop(pending);
        let filled_up = before < self.urgent && after >= self.urgent;
        // The lock has ordered this: a writer that did not see these bytes had set the flag before.
        if after > before && (filled_up || self.asleep.load(Ordering::SeqCst)) {
            self.wake();
        }
        Some(result)
    }

    /// Wakes the writer.
    pub fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// The writer's side: takes what a worker has left, and leaves the empty `spare` in its place. `look` is shown the
    /// state at the same moment.
    pub fn take<R>(&self, worker: usize, spare: &mut Vec<u8>, look: impl FnOnce(&mut S) -> R) -> Option<R> {
        spare.clear();
        let mut pending = self.lock(worker)?;
        mem::swap(&mut pending.bytes, spare);
        Some(look(&mut pending.state))
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.slots.len()
    }

    /// The calling thread is the writer.
    pub fn adopt_writer(&self) {
        let _ = self.writer.set(thread::current());
    }

    /// Lets the writer rest: for `pace`, or, when there is none, until something comes. Wakes early when a buffer fills
    /// up, or when [`WorkerBuffers::wake`] is called or has been since the last rest.
    pub fn rest(&self, pace: Option<Duration>) {
        if let Some(pace) = pace {
            return thread::park_timeout(pace);
        }
        self.asleep.store(true, Ordering::SeqCst);
        let empty = (0..self.slots.len()).all(|worker| self.lock(worker).is_none_or(|it| it.bytes.is_empty()));
        if empty {
            thread::park_timeout(SLEEP);
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn lock(&self, worker: usize) -> Option<MutexGuard<'_, Pending<S>>> {
        // A worker that panicked while it appended takes the process with it; nobody goes on with half a line.
        self.slots.get(worker).map(|slot| slot.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long a writer sleeps that nobody wakes.
const SLEEP: Duration = Duration::from_secs(1);
