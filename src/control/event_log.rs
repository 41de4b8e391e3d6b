//! The process's own log: start, stop, driver, refusals. One line an event on standard error, written by a thread of
//! its own behind a bounded queue, so that a slow terminal never slows a worker, and at most twenty a second of the
//! lines that strangers can cause.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::edge::exchange::Record;
use crate::edge::worker::Observer;
use crate::outcome::{ConnectionEnd, Outcome};

/// Lines that wait to be written.
const QUEUE: usize = 1024;

/// Lines about exchanges that are written in one second; the rest is counted.
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
    second: AtomicU64,
    written: AtomicU64,
    suppressed: AtomicU64,
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
        Self { lines, second: AtomicU64::new(0), written: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
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

    /// Writes an event that a stranger can cause: within the bound, and never waiting.
    fn bounded(&self, level: Level, message: impl FnOnce() -> String) {
        let second = unix_now().as_secs();
        let previous = self.second.swap(second, Ordering::Relaxed);
        if previous != second {
            self.written.store(0, Ordering::Relaxed);
            let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
            if suppressed > 0 {
                self.offer(line(Level::Warn, &format!("{suppressed} further lines were left out")));
            }
        }
        if self.written.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND {
            self.offer(line(level, &message()));
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn offer(&self, text: String) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(text)) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for EventLog {
    fn exchange(&self, record: &Record<'_>) {
        let level = match record.outcome {
            Outcome::Forwarded { .. } if record.asked.observed.is_empty() => return,
            Outcome::Forwarded { .. } => Level::Info,
            Outcome::Rejected(_) => Level::Info,
            Outcome::Failed(_) => Level::Warn,
        };
        self.bounded(level, || {
            let id = record.asked.id.text();
            format!(
                "{} reason={} status={} route={} client={} request_id={}{}{}",
                match record.outcome {
                    Outcome::Forwarded { .. } => "passed",
                    Outcome::Rejected(_) => "refused",
                    Outcome::Failed(_) => "failed",
                },
                record.outcome.code(),
                record.outcome.answer().map_or(0, |answer| answer.status),
                record.asked.route.map_or("-", |route| route.name.as_str()),
                record.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
                String::from_utf8_lossy(&id),
                if record.asked.observed.is_empty() { "" } else { " observed=" },
                record.asked.observed,
            )
        });
    }

    fn connection_ended(&self, end: ConnectionEnd, peer: Option<IpAddr>) {
        self.bounded(Level::Info, || {
            let client = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_canonical().to_string());
            format!("connection closed reason={} client={client}", end.code())
        });
    }

    fn accept_failed(&self, error: &io::Error) {
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
    let now =
        OffsetDateTime::from_unix_timestamp_nanos(i128::try_from(unix_now().as_millis()).unwrap_or(0) * 1_000_000);
    let now = now.ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default();
    format!("{now} {level} {message}\n")
}

#[expect(clippy::disallowed_methods, reason = "the log stamps its lines itself, off the path of a request")]
fn unix_now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
