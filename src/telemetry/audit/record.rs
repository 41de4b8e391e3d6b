//! What the lines of a trail say. Entries are the members of a JSON object without its braces, in ASCII without line
//! breaks: numbers and hashes come later ([`super::chain`]), from the one thread that knows the line before.

use core::time::Duration;

use super::chain::{Digest, Link};
use super::inbox_change::InboxChange;
use super::seal::SealKey;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::telemetry::access_log::{ending, string, who};
use crate::telemetry::exchange::Exchange;
use crate::telemetry::line::{TimeText, hex, number};

/// No entry is longer, in bytes, as long as the names that the operator chose have less than a kibibyte.
pub const ENTRY_LIMIT: usize = 8 << 10;

fn time(out: &mut Vec<u8>, stamp: &mut TimeText, unix: Duration) {
    out.extend_from_slice(b"\"time\":\"");
    stamp.write(out, unix);
    out.push(b'"');
}

/// Appends the entry of a delivery. With `digest`, the SHA-256 of its body, where that was received whole.
pub fn delivery(out: &mut Vec<u8>, exchange: &Exchange<'_>, stamp: &mut TimeText, digest: bool) {
    time(out, stamp, exchange.ended.unix);
    out.extend_from_slice(b",\"event\":\"delivery\",\"request_id\":\"");
    out.extend_from_slice(&exchange.request_id);
    out.push(b'"');
    who(out, exchange);
    ending(out, exchange);
    out.extend_from_slice(b",\"received\":");
    number(out, exchange.received);
    if let Some(body) = exchange.body.filter(|_| digest) {
        out.extend_from_slice(b",\"body_sha256\":\"");
        hex(out, Digest::of(body).bytes());
        out.push(b'"');
    }
}

/// What a seal is made with.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// The key.
    pub key: &'a SealKey,
    /// How long records may be without the next seal.
    pub every: Duration,
}

/// Appends the entry of a seal behind `last`.
pub fn seal(out: &mut Vec<u8>, sealing: Sealing<'_>, last: Link, stamp: &mut TimeText, unix: Duration) {
    let start = out.len();
    time(out, stamp, unix);
    sealing.key.seal(out, start, last, sealing.every);
}

/// What happens beside deliveries.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The process has started.
    Start {
        /// The program's version.
        version: &'a str,
        /// The SHA-256 of the configuration file, as `sha256sum` shows it.
        configuration: &'a str,
    },
    /// The process stops.
    Stop,
    /// Another configuration is in force.
    Configuration {
        /// The SHA-256 of the file.
        fingerprint: &'a str,
        /// How many there have been before it in this process.
        generation: u64,
    },
    /// A key of a route.
    Secret {
        /// The route.
        route: &'a str,
        /// The key.
        key_id: &'a str,
        /// [`SealKey::fingerprint`] of its bytes.
        step: Transition<'a>,
    },
    /// The certificate that a listener shows from a file.
    Certificate {
        /// The listener.
        listener: &'a str,
        /// The file.
        file: &'a str,
        /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` shows it.
        step: Transition<'a>,
    },
    /// An authority whose clients a listener lets in.
    Authority {
        /// The listener.
        listener: &'a str,
        /// SHA-256 of its certificate, likewise.
        step: Transition<'a>,
    },
    /// The last line was not whole: so many bytes of it were removed.
    Torn {
        /// Bytes.
        bytes: u64,
    },
    /// What was in the trail when the process started and no seal proved: what the lines are from here on does not make
    /// it any better.
    Unproven {
        /// The number of the first such record.
        first: u64,
        /// That of the last one.
        last: u64,
        /// [`super::Doubt::code`], or `broken`.
        why: &'a str,
    },
    /// The file was no longer there, or had been replaced, while it was written to. A new one has been made.
    FileLost,
    /// Something was done to stored deliveries beside delivering them.
    Inbox(InboxChange<'a>),
    /// What was written could not be made durable: it may be missing after a crash of the machine.
    SyncFailed,
}

/// From what to what something has changed, by fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition<'a> {
    /// What the process starts with.
    InForce(&'a str),
    /// It was not there before.
    Added(&'a str),
    /// It was another before.
    Changed {
        /// What it was.
        before: &'a str,
        /// What it is.
        after: &'a str,
    },
    /// It is gone.
    Removed(&'a str),
}

impl<'a> Transition<'a> {
    /// The word for it, what was there before, and what is there now.
    const fn parts(self) -> (&'static str, Option<&'a str>, Option<&'a str>) {
        match self {
            Self::InForce(now) => ("in_force", None, Some(now)),
            Self::Added(now) => ("added", None, Some(now)),
            Self::Changed { before, after } => ("changed", Some(before), Some(after)),
            Self::Removed(before) => ("removed", Some(before), None),
        }
    }

    fn write(self, text: &mut impl FnMut(&[u8], &str)) {
        let (word, before, now) = self.parts();
        text(b",\"change\":\"", word);
        before.into_iter().for_each(|it| text(b",\"fingerprint_before\":\"", it));
        now.into_iter().for_each(|it| text(b",\"fingerprint\":\"", it));
    }
}

/// With these a process begins, in this order; the last one is always there.
const TORN: &str = "torn_line_removed";
const UNPROVEN: &str = "unproven";
const START: &str = "start";

/// What an event, as it stands in a line behind `,"event":"`, has to do with the start of a process.
pub(super) fn beginning(event: &[u8]) -> Option<Beginning> {
    let is = |name: &str| event.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"\""));
    if is(START) {
        return Some(Beginning::Complete);
    }
    (is(TORN) || is(UNPROVEN)).then_some(Beginning::Begun)
}

/// A record that a process writes before all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Others of the kind follow.
    Begun,
    /// It is the last one of the kind.
    Complete,
}

/// Appends the entry of a change.
pub fn change(out: &mut Vec<u8>, change: &Change<'_>, stamp: &mut TimeText, unix: Duration) {
    time(out, stamp, unix);
    let event = match change {
        Change::Start { .. } => START,
        Change::Stop => "stop",
        Change::Configuration { .. } => "configuration",
        Change::Secret { .. } => "secret",
        Change::Certificate { .. } => "certificate",
        Change::Authority { .. } => "authority",
        Change::Torn { .. } => TORN,
        Change::Unproven { .. } => UNPROVEN,
        Change::FileLost => "file_lost",
        Change::SyncFailed => "sync_failed",
        Change::Inbox(_) => "inbox",
    };
    string(out, b",\"event\":\"", event.as_bytes());
    let mut text = |name: &[u8], value: &str| string(out, name, value.as_bytes());
    match change {
        Change::Start { version, configuration } => {
            text(b",\"version\":\"", version);
            text(b",\"configuration\":\"", configuration);
        }
        Change::Configuration { fingerprint, generation } => {
            text(b",\"configuration\":\"", fingerprint);
            out.extend_from_slice(b",\"generation\":");
            number(out, *generation);
        }
        Change::Secret { route, key_id, step } => {
            text(b",\"route\":\"", route);
            text(b",\"key_id\":\"", key_id);
            step.write(&mut text);
        }
        Change::Certificate { listener, file, step } => {
            text(b",\"listener\":\"", listener);
            text(b",\"file\":\"", file);
            step.write(&mut text);
        }
        Change::Authority { listener, step } => {
            text(b",\"listener\":\"", listener);
            step.write(&mut text);
        }
        Change::Torn { bytes } => {
            out.extend_from_slice(b",\"bytes\":");
            number(out, *bytes);
        }
        Change::Unproven { first, last, why } => {
            text(b",\"why\":\"", why);
            for (name, value) in [(&b",\"first\":"[..], first), (b",\"last\":", last)] {
                out.extend_from_slice(name);
                number(out, *value);
            }
        }
        Change::Inbox(change) => change.members(out),
        Change::Stop | Change::FileLost | Change::SyncFailed => {}
    }
}

const REJECTIONS: usize = Rejection::ALL.len();
const FAULTS: usize = Fault::ALL.len();
/// Behind those come what was forwarded, answered and accepted, and attempts to deliver.
const REASONS: usize = REJECTIONS + FAULTS + 4;

/// Deliveries without a line of their own, by reason: nothing goes missing without a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnrecordedTally {
    counts: [u64; REASONS],
}

impl Default for UnrecordedTally {
    fn default() -> Self {
        Self { counts: [0; REASONS] }
    }
}

impl UnrecordedTally {
    /// Counts a delivery that ended so.
    pub fn count(&mut self, outcome: Outcome) {
        let position = match outcome {
            Outcome::Forwarded { .. } => REJECTIONS + FAULTS,
            Outcome::Answered { .. } => REJECTIONS + FAULTS + 1,
            Outcome::Accepted { .. } => REJECTIONS + FAULTS + 2,
            Outcome::Rejected(rejection) => rejection as usize,
            Outcome::Failed(fault) => REJECTIONS + fault as usize,
        };
        self.counts.iter_mut().skip(position).take(1).for_each(|count| *count += 1);
    }

    /// Counts an attempt to deliver what is stored.
    pub fn count_attempt(&mut self) {
        self.counts.iter_mut().last().into_iter().for_each(|count| *count += 1);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
    }

    /// How many in all.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Appends the entry about them: `why` is `rate` for refused ones over the configured rate, `blocked` for those
    /// that could not be written.
    pub fn write(&self, out: &mut Vec<u8>, why: &str, (stamp, unix): (&mut TimeText, Duration)) {
        let codes = Rejection::ALL.iter().map(|it| it.code()).chain(Fault::ALL.iter().map(|it| it.code()));
        let codes = codes.chain(["forwarded", "challenge_answered", "accepted", "attempt"]);
        time(out, stamp, unix);
        string(out, b",\"event\":\"unrecorded\",\"why\":\"", why.as_bytes());
        out.extend_from_slice(b",\"count\":");
        number(out, self.sum());
        out.extend_from_slice(b",\"reasons\":{");
        for (position, (code, count)) in codes.zip(self.counts).filter(|(_, count)| *count > 0).enumerate() {
            out.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(code.as_bytes());
            out.extend_from_slice(b"\":");
            number(out, count);
        }
        out.push(b'}');
    }
}
