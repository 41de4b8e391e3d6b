//! Writes the access log: workers make their lines ([`crate::telemetry::access_log`]) in buffers of their own, a thread
//! writes them, and no worker ever waits for it. What finds no room is counted, and the log says how much that was.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::records::{self, BUFFER, Format, Output};
use crate::gate::token_bucket::{Measure, Rate, TokenBucket};
use crate::telemetry::access_log::{LINE_LIMIT, Missing, is_repeatable, json, text};
use crate::telemetry::exchange::Exchange;
use crate::telemetry::line::Stamp;

use super::event_log::{EventLog, Level, unix_now};
use super::worker_buffers::WorkerBuffers;

/// How often the writer looks while there is something to write.
const PACE: Duration = Duration::from_millis(20);

/// How often the log says that lines are missing, and looks whether its file is still there.
const ROUND: Duration = Duration::from_secs(1);

/// How long the end of the process waits for an output that takes nothing: a pipe that nobody reads would keep it for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// The access log of a process. Dropping it writes what is left, if its output takes it.
#[derive(Debug)]
pub struct AccessLog {
    buffers: Arc<WorkerBuffers<WorkerState>>,
    orders: Sender<Order>,
    writer: Option<JoinHandle<()>>,
    refused: Measure,
    json: bool,
    query: bool,
    totals: Arc<Totals>,
    /// The output took nothing for longer than anybody waits.
    stuck: AtomicBool,
}

/// Exchanges without a line since the start. The writer alone adds.
#[derive(Debug, Default)]
struct Totals {
    left_out: AtomicU64,
    lost: AtomicU64,
}

impl Totals {
    fn add(&self, missing: Missing) {
        self.left_out.fetch_add(missing.left_out, Ordering::Relaxed);
        self.lost.fetch_add(missing.lost, Ordering::Relaxed);
    }
}

/// What a worker keeps beside its lines.
#[derive(Debug, Default)]
struct WorkerState {
    stamp: Stamp,
    /// For refused requests whose route is known: somebody may ask about them.
    routed: TokenBucket,
    /// For what is genuine and refused: copies above all.
    copies: TokenBucket,
    /// For all others, so that a scanner does not hide those.
    unrouted: TokenBucket,
    missing: Missing,
}

enum Order {
    Reopen,
    /// Everything before this has been written when the other end answers.
    Flush(SyncSender<()>),
    Stop,
}

impl AccessLog {
    /// Starts the writer; nothing where the log is off.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(settings: &records::AccessLog, workers: usize, log: Arc<EventLog>) -> Result<Option<Self>, String> {
        let sink = match &settings.output {
            Output::Off => return Ok(None),
            Output::Stdout => Sink::stdout().map_err(|error| format!("access log: {error}"))?,
            Output::File(path) => {
                Sink::open(path).map_err(|error| format!("access log {}: {error}", path.display()))?
            }
        };
        let json = match settings.format {
            Format::Json => true,
            Format::Text => false,
            Format::Auto => !matches!(sink, Sink::Stdout(_)) || !io::stdout().is_terminal(),
        };
        let buffers = Arc::new(WorkerBuffers::new(workers, BUFFER));
        let (orders, queue) = channel();
        let totals = Arc::<Totals>::default();
        let (buffers_too, totals_too) = (Arc::clone(&buffers), Arc::clone(&totals));
        let writing =
            Writing { buffers: buffers_too, queue, sink, json, log, totals: totals_too, troubled: false, torn: false };
        let writer = thread::Builder::new().name("access-log".to_owned()).spawn(move || writing.run());
        let writer = Some(writer.map_err(|error| format!("access log: {error}"))?);
        let refused = share(settings.refused, workers).measure();
        Ok(Some(Self {
            buffers,
            orders,
            writer,
            refused,
            json,
            query: settings.query,
            totals,
            stuck: AtomicBool::default(),
        }))
    }

    /// Exchanges without a line since the start: those over the rate of refused ones, and those that found no room.
    #[must_use]
    pub fn missing(&self) -> (u64, u64) {
        (self.totals.left_out.load(Ordering::Relaxed), self.totals.lost.load(Ordering::Relaxed))
    }

    /// Makes the line of an exchange.
    pub fn exchange(&self, exchange: &Exchange<'_>) {
        self.buffers.with(exchange.worker, |pending| {
            let state = &mut pending.state;
            if is_repeatable(exchange) {
                let bucket = match (exchange.route, exchange.key_id) {
                    (_, Some(_)) => &mut state.copies,
                    (Some(_), None) => &mut state.routed,
                    (None, None) => &mut state.unrouted,
                };
                if bucket.take(self.refused, exchange.ended.monotonic).is_err() {
                    state.missing.left_out += 1;
                    return;
                }
            }
            if pending.bytes.len() + LINE_LIMIT > BUFFER {
                state.missing.lost += 1;
                return;
            }
            let format = if self.json { json } else { text };
            format(&mut pending.bytes, exchange, &mut state.stamp, self.query);
        });
    }

    /// Opens the file again by its name: after somebody has moved it away.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Waits until everything so far has been written; false when the output takes too long for that.
    #[must_use]
    pub fn flush(&self) -> bool {
        let (done, wait) = sync_channel(1);
        self.order(Order::Flush(done));
        let flushed = wait.recv_timeout(PATIENCE).is_ok();
        self.stuck.store(!flushed, Ordering::Relaxed);
        flushed
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        self.buffers.wake();
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        // Once is enough to wait in vain.
        let flushed = !self.stuck.load(Ordering::Relaxed) && self.flush();
        self.order(Order::Stop);
        self.writer.take().filter(|_| flushed).map(JoinHandle::join);
    }
}

/// Each worker has its share of a rate, so that none has to ask the others.
pub(super) fn share(rate: Rate, workers: usize) -> Rate {
    let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
    match rate.tokens / workers {
        0 => Rate { tokens: 1, per: (rate.per * workers / rate.tokens.max(1)).min(Rate::PERIOD_LIMIT), burst: 1 },
        tokens => Rate { tokens, per: rate.per, burst: tokens },
    }
}

/// Where lines go.
enum Sink {
    /// Not by way of the standard library, whose buffer would hide how much has been written.
    Stdout(File),
    File {
        path: PathBuf,
        file: File,
    },
}

impl Sink {
    fn stdout() -> io::Result<Self> {
        io::stdout().as_fd().try_clone_to_owned().map(|fd| Self::Stdout(fd.into()))
    }

    fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        Ok(Self::File { path: path.to_owned(), file })
    }

    const fn file(&mut self) -> &mut File {
        let (Self::Stdout(file) | Self::File { file, .. }) = self;
        file
    }

    /// Takes `bytes` from the front as far as they are written.
    fn write(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file().write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes the last `count` bytes: the beginning of a line that had no room. False where that is not possible.
    fn take_back(&self, count: u64) -> bool {
        let Self::File { file, .. } = self else { return false };
        let length = file.metadata().map(|metadata| metadata.len().saturating_sub(count));
        length.and_then(|length| file.set_len(length)).is_ok()
    }

    /// Whether the name still stands for the file that is open.
    fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Self::File { path, file } = self else { return true };
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (named, open) = (path.metadata().map(identity), file.metadata().map(identity));
        matches!((named, open), (Ok(named), Ok(open)) if named == open)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, .. } = self {
            *self = Self::open(&path.clone())?;
        }
        Ok(())
    }
}

/// The writer's own state.
struct Writing {
    buffers: Arc<WorkerBuffers<WorkerState>>,
    queue: Receiver<Order>,
    sink: Sink,
    json: bool,
    log: Arc<EventLog>,
    totals: Arc<Totals>,
    /// The last attempt to write failed; said once.
    troubled: bool,
    /// The output ends in the middle of a line that could not be taken back.
    torn: bool,
}

impl Writing {
    fn run(mut self) {
        self.buffers.adopt_writer();
        let mut spare = Vec::with_capacity(BUFFER);
        let (mut missing, mut stamp, mut next_round) = (Missing::default(), Stamp::default(), Duration::ZERO);
        loop {
            // Orders are looked at first: what was written before them is in the buffers by now.
            let orders: Vec<Order> = self.queue.try_iter().collect();
            let mut wrote = false;
            for worker in 0..self.buffers.workers() {
                let found = self.buffers.take(worker, &mut spare, |state| std::mem::take(&mut state.missing));
                let mut found = found.unwrap_or_default();
                if !spare.is_empty() {
                    wrote = true;
                    found.lost += self.write(&spare);
                }
                self.totals.add(found);
                missing.left_out += found.left_out;
                missing.lost += found.lost;
            }
            let now = unix_now();
            let at_once = orders.iter().any(|order| !matches!(order, Order::Reopen));
            if now >= next_round || at_once {
                next_round = now + ROUND;
                if !missing.is_nothing() {
                    spare.clear();
                    missing.write(&mut spare, (&mut stamp, now), self.json);
                    if self.write(&spare) == 0 {
                        missing = Missing::default();
                    }
                }
                if !self.sink.is_in_place() {
                    self.reopen();
                }
            }
            for order in orders {
                match order {
                    Order::Reopen => self.reopen(),
                    Order::Flush(done) => drop(done.send(())),
                    Order::Stop => return,
                }
            }
            self.buffers.rest((wrote || !missing.is_nothing()).then_some(PACE));
        }
    }

    /// Gives how many lines could not be written.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        let ended = if self.torn { self.sink.write(&mut b"\n".as_slice()) } else { Ok(()) };
        self.torn &= ended.is_err();
        match ended.and_then(|()| self.sink.write(&mut rest)) {
            Ok(()) => self.troubled = false,
            Err(error) => {
                if !self.troubled {
                    self.log.event(Level::Error, &format!("the access log cannot be written: {error}"));
                }
                self.troubled = true;
                let written = lines.get(..lines.len() - rest.len()).unwrap_or_default();
                let torn = written.len() - memchr::memrchr(b'\n', written).map_or(0, |end| end + 1);
                self.torn |= torn > 0 && !self.sink.take_back(torn as u64);
            }
        }
        memchr::memchr_iter(b'\n', rest).count() as u64
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => self.torn &= matches!(self.sink, Sink::Stdout(_)),
            Err(error) => self.log.event(Level::Error, &format!("the access log cannot be opened again: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_rate() {
        let second = Duration::from_secs(1);
        let rate = |tokens| Rate { tokens, per: second, burst: tokens };
        assert_eq!(share(rate(100), 4), rate(25));
        assert_eq!(share(rate(1), 4), Rate { tokens: 1, per: 4 * second, burst: 1 });
        assert_eq!(share(rate(2), 4), Rate { tokens: 1, per: 2 * second, burst: 1 });
        assert_eq!(share(rate(7), 0), rate(7));
    }
}
