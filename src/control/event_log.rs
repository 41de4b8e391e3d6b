//! The process's own log: start, stop, driver, connections closed at a bound. One line an event on standard error,
//! written by a thread of its own behind a bounded queue, so that a slow terminal never slows a worker, and at most
//! twenty a second of those that strangers can cause. Exchanges are in the access log.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::outcome::ConnectionEnd;

/// Lines that wait to be written.
const QUEUE: usize = 1024;

/// Lines of strangers that are written in one second; the rest is counted.
const LINES_PER_SECOND: u64 = 20;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Someone should look.
    Warn,
    /// Something does not work.
    Error,
}

/// The sending end; clones write to the same log.
#[derive(Debug)]
pub struct EventLog {
    lines: SyncSender<Line>,
    /// For what strangers can cause.
    strangers: Budget,
    left_out: AtomicU64,
}

/// Lines that may be written in one second.
#[derive(Debug, Default)]
struct Budget {
    second: AtomicU64,
    written: AtomicU64,
    suppressed: AtomicU64,
}

impl Budget {
    /// Whether a line may be written in `second`, and how many have been left out since the last one.
    fn spend(&self, second: u64) -> (bool, u64) {
        let mut left_out = 0;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.written.store(0, Ordering::Relaxed);
            left_out = self.suppressed.swap(0, Ordering::Relaxed);
        }
        let spent = self.written.fetch_add(1, Ordering::Relaxed);
        if spent >= LINES_PER_SECOND {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        (spent < LINES_PER_SECOND, left_out)
    }
}

enum Line {
    Text(String),
    /// Everything before this has been written when the other end answers.
    Flush(SyncSender<()>),
}

impl EventLog {
    /// Starts the writer.
    #[must_use]
    pub fn start() -> Self {
        let (lines, queue) = sync_channel(QUEUE);
        thread::spawn(move || write_all(&queue));
        Self { lines, strangers: Budget::default(), left_out: AtomicU64::new(0) }
    }

    /// Writes an event of the process itself. Waits when the queue is full: these must not be lost.
    pub fn event(&self, level: Level, message: &str) {
        let _ = self.lines.send(Line::Text(line(level, message)));
    }

    /// Waits until everything has been written: before the process ends.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.send(Line::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Lines that have been left out since the start: over the budget, or because the writer was too slow.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Writes an event that a stranger can cause: within the budget, and never waiting.
    fn bounded(&self, level: Level, message: impl FnOnce() -> String) {
        let (may_write, left_out) = self.strangers.spend(unix_now().as_secs());
        if left_out > 0 {
            self.offer(line(Level::Warn, &format!("{left_out} further lines were left out")));
        }
        if may_write {
            self.offer(line(level, &message()));
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn offer(&self, text: String) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(text)) {
            self.strangers.suppressed.fetch_add(1, Ordering::Relaxed);
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventLog {
    /// A connection was refused or closed at a bound.
    pub fn connection_ended(&self, end: ConnectionEnd, peer: Option<IpAddr>) {
        self.bounded(Level::Info, || {
            let client = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_canonical().to_string());
            format!("connection closed reason={} client={client}", end.code())
        });
    }

    /// Accepting pauses.
    pub fn accept_failed(&self, error: &io::Error) {
        self.bounded(Level::Error, || format!("accepting connections pauses: {error}"));
    }
}

fn write_all(queue: &Receiver<Line>) {
    for line in queue {
        match line {
            // Nobody is left to tell when standard error is gone.
            Line::Text(text) => drop(io::stderr().lock().write_all(text.as_bytes())),
            Line::Flush(done) => drop(done.send(())),
        }
    }
}

fn line(level: Level, message: &str) -> String {
    let level = match level {
        Level::Info => "INFO ",
        Level::Warn => "WARN ",
        Level::Error => "ERROR",
    };
    let now = unix_now();
    let whole = OffsetDateTime::from_unix_timestamp(i64::try_from(now.as_secs()).unwrap_or_default());
    let text = whole.ok().and_then(|whole| whole.format(&Rfc3339).ok()).unwrap_or_default();
    // Always three digits, so that lines sort as text.
    format!("{}.{:03}Z {level} {message}\n", text.trim_end_matches('Z'), now.subsec_millis())
}

#[expect(clippy::disallowed_methods, reason = "the log stamps its lines itself, off the path of a request")]
pub(super) fn unix_now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
