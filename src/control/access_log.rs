//! Writes the access log: workers make their lines ([`crate::telemetry::access_log`]) in buffers of their own, a thread
//! writes them, and no worker ever waits for it. What finds no room is counted, and the log says how much that was.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::records::{self, BUFFER, Format, Output};
use crate::gate::token_bucket::{Measure, TokenBucket};
use crate::telemetry::access_log::{LINE_LIMIT, Missing, is_repeatable, json, text};
use crate::telemetry::attempt::{self, Attempted};
use crate::telemetry::exchange::Exchange;
use crate::telemetry::line::TimeText;

use super::event_log::{EventLog, Level};
use super::journal::{Journal, JournalSink, RoundEnd, Writers, share};

/// How often the writer looks while there is something to write.
const PACE: Duration = Duration::from_millis(20);

/// The access log of a process. Dropping it writes what is left, if its output takes it.
#[derive(Debug)]
pub struct AccessLog {
    journal: Journal<LogSink>,
    refused: Measure,
    json: bool,
    query: bool,
    /// The position of the thread that delivers, behind those of the workers.
    deliverer: usize,
}

/// What a worker keeps beside its lines.
#[derive(Debug, Default)]
struct LogState {
    stamp: TimeText,
    /// For refused requests whose route is known: an operator may ask about them.
    routed: TokenBucket,
    /// For what is genuine and refused: copies above all.
    copies: TokenBucket,
    /// For all others, so that a scanner does not hide those.
    unrouted: TokenBucket,
}

/// The file is to be opened again by its name.
struct Reopen;

impl AccessLog {
    /// Starts the writer; nothing where the log is off.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(settings: &records::AccessLog, writers: Writers, log: Arc<EventLog>) -> Result<Option<Self>, String> {
        let output = match &settings.output {
            Output::Off => return Ok(None),
            Output::Stdout => LogOutput::stdout().map_err(|error| format!("access log: {error}"))?,
            Output::File(path) => {
                LogOutput::open(path.clone()).map_err(|error| format!("access log {}: {error}", path.display()))?
            }
        };
        let json = match settings.format {
            Format::Json => true,
            Format::Text => false,
            Format::Auto => output.path.is_some() || !io::stdout().is_terminal(),
        };
        let sink = LogSink::new(output, json, Arc::clone(&log));
        let journal =
            Journal::start(sink, writers.all(), false, log).map_err(|error| format!("access log: {error}"))?;
        let refused = share(settings.refused, writers.workers).measure();
        Ok(Some(Self { journal, refused, json, query: settings.query, deliverer: writers.workers }))
    }

    /// Exchanges without a line since the start: those over the rate of refused ones, and those that found no room.
    #[must_use]
    pub fn missing(&self) -> [u64; 2] {
        self.journal.lanes.missed()
    }

    /// Makes the line of an exchange.
    pub fn exchange(&self, exchange: &Exchange<'_>) {
        self.journal.lanes.with(exchange.worker, |pending| {
            let state = &mut pending.state;
            if is_repeatable(exchange) {
                let bucket = match (exchange.route, exchange.key_id) {
                    (_, Some(_)) => &mut state.copies,
                    (Some(_), None) => &mut state.routed,
                    (None, None) => &mut state.unrouted,
                };
                if bucket.take(self.refused, exchange.ended.monotonic).is_err() {
                    pending.counted.left_out += 1;
                    return;
                }
            }
            if pending.bytes.len() + LINE_LIMIT > BUFFER {
                pending.counted.lost += 1;
                return;
            }
            let format = if self.json { json } else { text };
            format(&mut pending.bytes, exchange, &mut state.stamp, self.query);
        });
    }

    /// Makes the line of an attempt.
    pub fn attempted(&self, attempt: &Attempted<'_>) {
        self.journal.lanes.with(self.deliverer, |pending| {
            if attempt.is_repeatable() && pending.state.routed.take(self.refused, attempt.ended.monotonic).is_err() {
                pending.counted.left_out += 1;
            } else if pending.bytes.len() + LINE_LIMIT > BUFFER {
                pending.counted.lost += 1;
            } else {
                let format = if self.json { attempt::json } else { attempt::text };
                format(&mut pending.bytes, attempt, &mut pending.state.stamp);
            }
        });
    }

    /// Opens the file again by its name: after it was moved away.
    pub fn reopen(&self) {
        self.journal.order(Reopen);
    }

    /// Waits until everything so far has been written; false when the output takes too long for that.
    #[must_use]
    pub fn flush(&self) -> bool {
        self.journal.flush()
    }
}

/// Where lines go.
struct LogOutput {
    /// Standard output, too, not by way of the standard library, whose buffer would hide how much has been written.
    file: File,
    /// Nothing for standard output.
    path: Option<PathBuf>,
}

impl LogOutput {
    fn stdout() -> io::Result<Self> {
        io::stdout().as_fd().try_clone_to_owned().map(|fd| Self { file: fd.into(), path: None })
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&path)?;
        Ok(Self { file, path: Some(path) })
    }

    /// Takes `bytes` from the front as far as they are written.
    fn write(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
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
        let length = self.file.metadata().map(|metadata| metadata.len().saturating_sub(count));
        self.path.is_some() && length.and_then(|length| self.file.set_len(length)).is_ok()
    }

    /// Whether the name still stands for the file that is open.
    fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let Some(path) = &self.path else { return true };
        let (named, open) = (path.metadata().map(identity), self.file.metadata().map(identity));
        matches!((named, open), (Ok(named), Ok(open)) if named == open)
    }
}

/// The log as its writer has it.
struct LogSink {
    output: LogOutput,
    json: bool,
    log: Arc<EventLog>,
    /// Lines that are missing since the log has said so.
    missing: Missing,
    stamp: TimeText,
    reopens: bool,
    /// Why writing has failed since the last time that the journal asked.
    failed: Option<io::Error>,
    /// The output ends in the middle of a line that could not be taken back.
    torn: bool,
}

impl LogSink {
    fn new(output: LogOutput, json: bool, log: Arc<EventLog>) -> Self {
        let (missing, stamp) = (Missing::default(), TimeText::default());
        Self { output, json, log, missing, stamp, reopens: false, failed: None, torn: false }
    }

    /// Gives how many lines could not be written.
    fn append(&mut self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        let ended = if self.torn { self.output.write(&mut b"\n".as_slice()) } else { Ok(()) };
        self.torn &= ended.is_err();
        if let Err(error) = ended.and_then(|()| self.output.write(&mut rest)) {
            self.failed = Some(error);
            let written = lines.get(..lines.len() - rest.len()).unwrap_or_default();
            let torn = written.len() - memchr::memrchr(b'\n', written).map_or(0, |end| end + 1);
            self.torn |= torn > 0 && !self.output.take_back(torn as u64);
        }
        memchr::memchr_iter(b'\n', rest).count() as u64
    }

    fn reopen(&mut self) {
        match self.output.path.clone().map(LogOutput::open) {
            None => {}
            Some(Ok(output)) => (self.output, self.torn) = (output, false),
            Some(Err(error)) => {
                self.log.event(Level::Error, &format!("the access log cannot be opened again: {error}"));
            }
        }
    }
}

impl JournalSink for LogSink {
    type State = LogState;
    type Counted = Missing;
    type Order = Reopen;

    const NAME: &'static str = "the access log";
    const THREAD: &'static str = "access-log";

    /// Lines that were made before this are still for the file that is open.
    fn order(&mut self, _: Reopen, _: Duration) {
        self.reopens = true;
    }

    fn take(&mut self, lines: &[u8], mut counted: Missing, _: Duration) -> [u64; 2] {
        if !lines.is_empty() {
            counted.lost += self.append(lines);
        }
        self.missing.left_out += counted.left_out;
        self.missing.lost += counted.lost;
        [counted.left_out, counted.lost]
    }

    fn end_round(&mut self, RoundEnd { now, due, stops }: RoundEnd) {
        if due || stops {
            if !self.missing.is_nothing() {
                let mut line = Vec::new();
                self.missing.write(&mut line, (&mut self.stamp, now), self.json);
                if self.append(&line) == 0 {
                    self.missing = Missing::default();
                }
            }
            self.reopens |= !self.output.is_in_place();
        }
        if std::mem::take(&mut self.reopens) {
            self.reopen();
        }
    }

    /// Lines are written as they are taken, and those that cannot be are counted, not tried again.
    fn write(&mut self, _: Duration, _: bool) -> io::Result<bool> {
        self.failed.take().map_or(Ok(true), Err)
    }

    fn pause(&self, wrote: bool) -> Option<Duration> {
        (wrote || !self.missing.is_nothing()).then_some(PACE)
    }
}
