//! A journal that is open: what workers and the rest of the process see of it.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::control::event_log::EventLog;

use super::lanes::Lanes;
use super::writer::{Instruction, JournalSink, Writer};

/// How long the end of the process waits for an output that takes nothing: a pipe without a reader would keep it for
/// ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// A journal that is being written.
pub(in crate::control) struct Journal<S: JournalSink> {
    /// What workers record, and what they ask.
    pub(in crate::control) lanes: Arc<Lanes<S::State, S::Counted>>,
    instructions: Sender<Instruction<S::Order>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The workers' ends of the sockets by which they are told.
    changes: Mutex<Vec<Option<UnixStream>>>,
}

impl<S: JournalSink> Journal<S> {
    /// Starts the writer. `tells` says whether workers are told when something has become durable.
    ///
    /// # Errors
    /// There are no descriptors, or there is no thread.
    pub(in crate::control) fn start(sink: S, workers: usize, tells: bool, log: Arc<EventLog>) -> io::Result<Self> {
        let lanes = Arc::new(Lanes::new(workers));
        let pairs = (0..if tells { workers } else { 0 }).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>()?;
        let (signals, changes): (Vec<_>, Vec<_>) =
            pairs.into_iter().map(|(signal, change)| (signal, Some(change))).unzip();
        signals.iter().try_for_each(|signal| signal.set_nonblocking(true))?;
        let (instructions, queue) = channel();
        let (next_round, looked) = (Duration::ZERO, Duration::ZERO);
        let writer = Writer { lanes: Arc::clone(&lanes), sink, queue, signals, log, next_round, looked };
        let writer = thread::Builder::new().name(S::THREAD.to_owned()).spawn(move || writer.run())?;
        Ok(Self { lanes, instructions, writer: Mutex::new(Some(writer)), changes: Mutex::new(changes) })
    }

    /// The socket by which a worker is told; once.
    pub(in crate::control) fn changes(&self, worker: usize) -> Option<UnixStream> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.get_mut(worker).and_then(Option::take)
    }

    /// Tells the sink something.
    pub(in crate::control) fn order(&self, order: S::Order) {
        self.instruct(Instruction::Order(order));
    }

    /// Waits until everything so far has been written; false when the output takes too long for that.
    pub(in crate::control) fn flush(&self) -> bool {
        let (done, wait) = sync_channel(1);
        self.instruct(Instruction::Flush(done));
        let flushed = wait.recv_timeout(PATIENCE).is_ok();
        if !flushed {
            // It is not waited for again.
            self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        flushed
    }

    /// Writes what is left, and ends, however long that takes. What comes later is not recorded.
    pub(in crate::control) fn finish(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            self.instruct(Instruction::Stop);
            let _ = writer.join();
        }
    }

    fn instruct(&self, instruction: Instruction<S::Order>) {
        let _ = self.instructions.send(instruction);
        self.lanes.wake();
    }
}

/// Ends without waiting for an output that takes nothing.
impl<S: JournalSink> Drop for Journal<S> {
    fn drop(&mut self) {
        let is_open = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).is_some();
        match is_open && self.flush() {
            true => self.finish(),
            false => self.instruct(Instruction::Stop),
        }
    }
}

impl<S: JournalSink> fmt::Debug for Journal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("name", &S::NAME).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::RoundEnd;
    use super::*;
    use crate::edge::observer::{Awaited, Kept};

    /// A sink that writes everything at once into memory that the test reads.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl JournalSink for Memory {
        type State = ();
        type Counted = u64;
        type Order = &'static [u8];

        const NAME: &'static str = "the memory";
        const THREAD: &'static str = "memory";

        fn order(&mut self, order: &'static [u8], _: Duration) {
            self.0.lock().unwrap().extend_from_slice(order);
        }
        fn take(&mut self, bytes: &[u8], counted: u64, _: Duration) -> [u64; 2] {
            self.0.lock().unwrap().extend_from_slice(bytes);
            [counted, 0]
        }
        fn end_round(&mut self, _: RoundEnd) {}
        fn write(&mut self, _: Duration, _: bool) -> io::Result<bool> {
            Ok(true)
        }
        fn pause(&self, _: bool) -> Option<Duration> {
            None
        }
    }

    #[test]
    fn what_workers_and_orders_leave_is_written_and_counted_before_a_flush_returns() {
        let memory = Memory::default();
        let journal = Journal::start(memory.clone(), 3, false, Arc::new(EventLog::start())).unwrap();
        let record = |worker: usize| {
            journal.lanes.with(worker, |pending| {
                pending.bytes.extend_from_slice(b"record");
                pending.made += 1;
                pending.counted += 2;
                Awaited::Record(pending.made)
            })
        };
        let awaited: Vec<Awaited> = (0..3).filter_map(record).collect();
        assert_eq!((awaited.len(), record(3)), (3, None), "there are three workers");
        journal.order(b"order");
        assert!(journal.flush());
        assert!(awaited.iter().enumerate().all(|(worker, it)| journal.lanes.kept(worker, *it) == Kept::Durable));
        assert_eq!(journal.lanes.kept(0, Awaited::Record(2)), Kept::Pending);
        assert_eq!(journal.lanes.missed(), [6, 0]);
        journal.finish();
        let written = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!((written.matches("record").count(), written.matches("order").count(), written.len()), (3, 1, 23));
    }
}
