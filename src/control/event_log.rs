//! The process's own log: start, stop, driver, connections closed at a bound. One line an event on standard error,
//! written by a thread of its own behind a bounded queue, so that a slow terminal never slows a worker, and at most
//! twenty a second of those that strangers can cause. Exchanges are in the access log.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::section::log::{LogFormat, LogSettings};
use crate::config::shown::plain_line;
use crate::edge::clock::Clock;
use crate::outcome::ConnectionEnd;
use crate::telemetry::handshake::RefusedCertificate;
use crate::telemetry::line::{TimeText, escaped};

pub use crate::config::section::log::LogLevel as Level;

use super::terminal::{Stream, write_line};

/// Lines that wait to be written.
const QUEUE: usize = 1024;

/// Lines of strangers that are written in one second; the rest is counted.
const LINES_PER_SECOND: u64 = 20;

/// Seconds between two lines about an event that comes again and again while its cause lasts.
const SILENCE: u64 = 10;

/// How long a thread waits for standard error, once: a pipe without a reader must not keep the process from ending.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a thread that waits for room looks for it.
const PACE: Duration = Duration::from_millis(10);

/// The sending end; clones write to the same log.
#[derive(Debug)]
pub struct EventLog {
    lines: SyncSender<LogLine>,
    look: LogLook,
    /// For what strangers can cause.
    strangers: LineBudget,
    pauses: Repeated,
    left_out: AtomicU64,
    /// Nothing has found room for longer than a thread waits.
    stuck: AtomicBool,
}

/// How lines look and which there are: what [`LogSettings`] say, for many threads.
#[derive(Debug, Default)]
struct LogLook {
    json: AtomicBool,
    /// A [`Level`] as a number: what is below it is not written.
    least: AtomicU8,
}

impl LogLook {
    fn writes(&self, level: Level) -> bool {
        level as u8 >= self.least.load(Ordering::Relaxed)
    }

    fn line(&self, level: Level, message: &str) -> String {
        if self.json.load(Ordering::Relaxed) { json_line(level, message) } else { text_line(level, message) }
    }
}

/// Lines that may be written in one second.
#[derive(Debug, Default)]
struct LineBudget {
    second: AtomicU64,
    written: AtomicU64,
    suppressed: AtomicU64,
}

impl LineBudget {
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

/// An event that comes again and again while its cause lasts.
#[derive(Debug, Default)]
struct Repeated {
    /// From when on there may be another line.
    next: AtomicU64,
    /// Events without a line since the last one.
    silent: AtomicU64,
}

impl Repeated {
    /// Notes the event at `second`. Where there is to be a line: how many events have had none.
    fn note(&self, second: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        // A clock that was set back must not silence it for longer than the interval.
        let due = second >= next || next - second > SILENCE;
        let mine = || self.next.compare_exchange(next, second + SILENCE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && mine() {
            return Some(self.silent.swap(0, Ordering::Relaxed));
        }
        self.silent.fetch_add(1, Ordering::Relaxed);
        None
    }
}

enum LogLine {
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
        let (strangers, pauses) = (LineBudget::default(), Repeated::default());
        Self {
            lines,
            look: LogLook::default(),
            strangers,
            pauses,
            left_out: AtomicU64::new(0),
            stuck: AtomicBool::default(),
        }
    }

    /// Lines look like this from now on. The default is text, and all levels.
    pub fn configure(&self, settings: LogSettings) {
        self.look.json.store(settings.format == LogFormat::Json, Ordering::Relaxed);
        self.look.least.store(settings.level as u8, Ordering::Relaxed);
    }

    /// Writes an event of the process itself. Waits when the queue is full, because these should not be lost, but not for
    /// ever, and not again before something has found room.
    pub fn event(&self, level: Level, message: &str) {
        if self.look.writes(level) && !self.insist(LogLine::Text(self.look.line(level, message))) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything has been written, if it can be: before the process ends.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.insist(LogLine::Flush(done)) {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }

    /// Whether there was room before patience ended.
    fn insist(&self, mut line: LogLine) -> bool {
        let clock = Clock::start();
        loop {
            line = match self.lines.try_send(line) {
                Ok(()) => {
                    self.stuck.store(false, Ordering::Relaxed);
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(line)) => line,
            };
            if self.stuck.load(Ordering::Relaxed) || clock.monotonic() >= PATIENCE {
                self.stuck.store(true, Ordering::Relaxed);
                return false;
            }
            thread::park_timeout(PACE);
        }
    }

    /// Lines that have been left out since the start: over the budget, or because the writer was too slow.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Writes an event that a stranger can cause: within the budget, and never waiting.
    fn bounded(&self, level: Level, message: impl FnOnce() -> String) {
        if !self.look.writes(level) {
            return;
        }
        let (may_write, left_out) = self.strangers.spend(unix_now().as_secs());
        if left_out > 0 {
            self.offer(self.look.line(Level::Warn, &format!("{left_out} further lines were left out")));
        }
        if may_write {
            self.offer(self.look.line(level, &message()));
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn offer(&self, text: String) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(LogLine::Text(text)) {
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

    /// A connection has ended because of the certificate of its client.
    pub fn certificate_refused(&self, end: ConnectionEnd, peer: Option<IpAddr>, certificate: &RefusedCertificate) {
        self.bounded(Level::Info, || {
            let client = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_canonical().to_string());
            let RefusedCertificate { subject, why } = certificate;
            format!("connection closed reason={} client={client} subject=\"{subject}\" why=\"{why}\"", end.code())
        });
    }

    /// Accepting pauses. It does so many times a second while there are no descriptors: one line in a while says how often.
    pub fn accept_failed(&self, error: &io::Error) {
        if let Some(before) = self.pauses.note(unix_now().as_secs()) {
            let before =
                if before > 0 { format!(" ({before} more pauses since the last line)") } else { String::new() };
            self.offer(self.look.line(Level::Error, &format!("accepting connections pauses: {error}{before}")));
        }
    }
}

fn write_all(queue: &Receiver<LogLine>) {
    for line in queue {
        match line {
            // There is no other place to report to when standard error is gone.
            LogLine::Text(text) => drop(write_line(Stream::Error, &text)),
            LogLine::Flush(done) => drop(done.send(())),
        }
    }
}

/// The present as RFC 3339 with milliseconds: always three digits, so that lines sort as text.
fn stamp(out: &mut Vec<u8>) {
    TimeText::default().write(out, unix_now());
}

fn text_line(level: Level, message: &str) -> String {
    let level = match level {
        Level::Info => "INFO ",
        Level::Warn => "WARN ",
        Level::Error => "ERROR",
    };
    let mut out = Vec::with_capacity(message.len() + 40);
    stamp(&mut out);
    format!("{} {level} {}", String::from_utf8_lossy(&out), plain_line(message))
}

/// In ASCII: what is beyond it, and control characters, are escapes of JSON.
fn json_line(level: Level, message: &str) -> String {
    let mut out = Vec::with_capacity(message.len() + 80);
    out.extend_from_slice(b"{\"time\":\"");
    stamp(&mut out);
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(level.name().as_bytes());
    out.extend_from_slice(b"\",\"message\":\"");
    escaped(&mut out, message.as_bytes());
    out.extend_from_slice(b"\"}");
    String::from_utf8(out).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the log stamps its lines itself, off the path of a request")]
pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_means_its_message() {
        let message = "a \"b\"\n\u{1b}[2J é";
        let line = json_line(Level::Warn, message);
        assert!(line.is_ascii() && !line.contains('\n'), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        assert_eq!((read["level"].as_str(), read["message"].as_str()), (Some("warn"), Some(message)));
        assert!(read["time"].as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{line}");
    }

    #[test]
    fn what_comes_again_and_again_has_one_line_in_a_while() {
        let repeated = Repeated::default();
        let lines: Vec<u64> = (0..780).filter_map(|event| repeated.note(1_000_000 + event / 20)).collect();
        assert_eq!(lines, [0, 199, 199, 199]);
        assert_eq!(repeated.note(2_000_000), Some(179));
        // The clock is set back.
        assert_eq!(repeated.note(1_000), Some(0));
        assert_eq!(repeated.note(1_001), None);
    }
}
