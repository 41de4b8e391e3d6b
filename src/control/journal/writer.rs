//! The thread that writes a journal, whatever its sink is.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use crate::control::event_log::{EventLog, Level, unix_now};

use super::lanes::Lanes;

/// How often the writer tries again what has failed.
const RETRY: Duration = Duration::from_millis(100);

/// How often a sink looks after its file, and says what is missing.
const ROUND: Duration = Duration::from_secs(1);

/// Where records go: what the writer's thread does with them.
pub(in crate::control) trait JournalSink: Send + 'static {
    /// What each worker keeps beside its bytes.
    type State: Default + Send;
    /// What a worker counts for the writer.
    type Counted: Default + Send;
    /// What it can be told beside the workers' bytes.
    type Order: Send;

    /// What it is called in the log, with its article.
    const NAME: &'static str;
    /// The name of its thread.
    const THREAD: &'static str;

    /// Takes up an order.
    fn order(&mut self, order: Self::Order, now: Duration);
    /// Takes what a worker has left and counted. Gives how many records are not written: those over the rate, and those
    /// for which there was no room.
    fn take(&mut self, bytes: &[u8], counted: Self::Counted, now: Duration) -> [u64; 2];
    /// Everything that there was has been taken.
    fn end_round(&mut self, round: RoundEnd);
    /// Whether something that was taken has not been written yet. Then nothing more is taken.
    fn is_behind(&self) -> bool {
        false
    }
    /// A second has passed while it is behind.
    fn look_after_file(&mut self, _now: Duration) {}
    /// Writes what it has. True when everything is durable, or as durable as it is to be; `stops` at the end.
    ///
    /// # Errors
    /// Of the disk.
    fn write(&mut self, now: Duration, stops: bool) -> io::Result<bool>;
    /// How long the writer may rest after it `wrote` something, or nothing; `None` until something comes.
    fn pause(&self, wrote: bool) -> Option<Duration>;
    /// The clock has been put back: nothing waits until it has caught up.
    fn clock_was_put_back(&mut self) {}
    /// Nothing more will come.
    fn end(&mut self) {}
    /// Begins another file where it is time for that.
    ///
    /// # Errors
    /// Of the disk.
    fn rotate(&mut self, _now: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// One time that everything was taken.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct RoundEnd {
    /// The time, since 1970.
    pub(in crate::control) now: Duration,
    /// Another second has begun, or all that is known is to be written now.
    pub(in crate::control) due: bool,
    /// It is the last time.
    pub(in crate::control) stops: bool,
}

/// What the writer is told.
pub(super) enum Instruction<O> {
    Order(O),
    /// Everything before this has been written when the other end answers.
    Flush(SyncSender<()>),
    /// Write what is left, and end.
    Stop,
}

/// The state of the thread.
pub(super) struct Writer<S: JournalSink> {
    pub(super) lanes: Arc<Lanes<S::State, S::Counted>>,
    pub(super) sink: S,
    pub(super) queue: Receiver<Instruction<S::Order>>,
    /// Sockets by which workers are told that something has changed.
    pub(super) signals: Vec<UnixStream>,
    pub(super) log: Arc<EventLog>,
    pub(super) next_round: Duration,
    /// When it looked at the clock last.
    pub(super) looked: Duration,
}

impl<S: JournalSink> Writer<S> {
    pub(super) fn run(mut self) {
        self.lanes.adopt_writer();
        let (mut made, mut spare, mut flushes, mut stops) = (Vec::new(), Vec::new(), Vec::new(), false);
        loop {
            let now = self.look();
            let due = now >= self.next_round;
            if due {
                self.next_round = now + ROUND;
            }
            // What could not be written is tried again before more is taken.
            let takes = !self.sink.is_behind();
            // Instructions are looked at first: what was recorded before them is in the buffers by now.
            for instruction in self.queue.try_iter() {
                match instruction {
                    Instruction::Order(order) => self.sink.order(order, now),
                    Instruction::Flush(done) => flushes.push(done),
                    Instruction::Stop => stops = true,
                }
            }
            let mut wrote = false;
            if takes {
                self.lanes.take_all(&mut made, &mut spare, |bytes, counted| {
                    wrote |= !bytes.is_empty();
                    self.sink.take(bytes, counted, now)
                });
                self.sink.end_round(RoundEnd { now, due: due || !flushes.is_empty(), stops });
            } else if due {
                // Room is made by moving the file away, and while it is open here that makes none.
                self.sink.look_after_file(now);
            }
            wrote |= self.sink.is_behind();
            let written = self.write(&made, now, stops);
            if !self.sink.is_behind() {
                flushes.drain(..).for_each(|done: SyncSender<()>| _ = done.send(()));
            }
            if stops && (takes || written.is_err()) {
                return self.sink.end();
            }
            self.lanes.rest(if written.is_err() { Some(RETRY) } else { self.sink.pause(wrote) });
        }
    }

    /// The time.
    fn look(&mut self) -> Duration {
        let now = unix_now();
        if now < self.looked {
            self.next_round = now;
            self.sink.clock_was_put_back();
        }
        self.looked = now;
        now
    }

    /// Writes what has been taken, and tells those who wait what has become of it. `made` is how many records of each
    /// worker have been taken.
    fn write(&mut self, made: &[u64], now: Duration, stops: bool) -> io::Result<()> {
        let written = self.sink.write(now, stops);
        let is_durable = matches!(written, Ok(true));
        let mut news = is_durable && self.lanes.reach(made);
        let written = written.and_then(|_| self.sink.rotate(now));
        news |= is_durable && written.is_ok() && self.lanes.end_round();
        if self.lanes.set_failing(written.is_err()) {
            news = true;
            match &written {
                Ok(()) => self.log.event(Level::Info, &format!("{} is written again", S::NAME)),
                Err(error) => self.log.event(Level::Error, &format!("{} cannot be written: {error}", S::NAME)),
            }
        }
        for signal in self.signals.iter_mut().filter(|_| news) {
            // A socket that is full wakes its worker as well.
            let _ = signal.write(&[1]);
        }
        written
    }
}
