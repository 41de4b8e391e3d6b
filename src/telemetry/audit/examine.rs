//! Proves a trail line by line, or says what is wrong with the first line that is not as it was written, and which lines
//! nothing proves.
//!
//! A seal that holds proves every line before it that its writer had made itself. What a process finds in the file when
//! it starts, behind the last seal, it has not made: its own seals come behind that, and do not prove it.

use core::fmt;
use core::time::Duration;

use super::chain::{ChainLine, Link, MalformedLine, RecordTime};
use super::record::{Beginning, beginning};
use super::seal::{SealAllowance, SealKey, SealVerdict, judge};

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not have the form of a record.
    Form,
    /// It has been changed: its hash is of another text.
    Changed,
    /// It is not the next one: lines are missing, repeated or in another order.
    Order {
        /// The number that it should have.
        expected: u64,
        /// The number that it has.
        found: u64,
    },
    /// It does not follow the line before it: one of the two is from another trail, or has been made anew.
    Link,
    /// It is a seal that was not made with the key that it names, or behind other lines.
    Seal,
    /// It ends without a line break: it is being written, or the process was killed while it wrote.
    Torn,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("it does not have the form of a record"),
            Self::Changed => f.write_str("it has been changed: its hash is that of another text"),
            Self::Order { expected, found } => {
                write!(f, "it has the number {found} where {expected} is next: records are missing, repeated or moved")
            }
            Self::Link => f.write_str("it does not follow the record before it: one of the two has been made anew"),
            Self::Seal => f.write_str("the seal does not hold: it was made with another key, or behind other records"),
            Self::Torn => f.write_str("it is not whole: it is being written, or its writer was killed"),
        }
    }
}

/// What has been found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of the first line; more than 1 when earlier files were not given.
    pub first: u64,
    /// Lines.
    pub records: u64,
    /// The last line.
    pub last: Link,
    /// Seals that hold.
    pub seals: u64,
    /// Seals under keys that are not known here.
    pub unknown_seals: u64,
    /// The number of the last seal that holds; what comes after it is only chained.
    pub sealed: Option<u64>,
}

/// Why records are not proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// They have no seal of their writer, and need not have one: the next one is not due yet, or the writer was killed
    /// before it was.
    Unsealed,
    /// They go on for longer than the writer lets records be without a seal.
    Overdue {
        /// How long they go on, by their own times.
        took: Duration,
        /// How long they may.
        allowed: Duration,
    },
    /// They are more than the writer lets be without a seal.
    TooMany {
        /// How many they are.
        records: u64,
        /// How many they may be.
        allowed: u64,
    },
    /// They are sealed under a key that is not known here.
    OtherKey {
        /// The name of the key, as it stands in the file.
        id: String,
    },
    /// There is no seal that holds before them.
    NoSeal,
}

impl Doubt {
    /// Whether an untouched trail may have such records: at its end, or where a process was killed.
    #[must_use]
    pub const fn is_ordinary(&self) -> bool {
        matches!(self, Self::Unsealed)
    }

    /// A word for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unsealed => "unsealed",
            Self::Overdue { .. } => "overdue",
            Self::TooMany { .. } => "too_many",
            Self::OtherKey { .. } => "other_key",
            Self::NoSeal => "no_seal",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsealed => f.write_str("no seal covers them"),
            Self::Overdue { took, allowed } => {
                write!(f, "no seal covers them for {took:?}, where the next one is due after {allowed:?}")
            }
            Self::TooMany { records, allowed } => {
                write!(f, "no seal covers {records} records, where the next one is due after {allowed}")
            }
            Self::OtherKey { id } => write!(f, "they are sealed with the key `{id}`, which was not given"),
            Self::NoSeal => f.write_str("there is no seal in front of them that holds"),
        }
    }
}

/// Records that nothing proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The number of the first one.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// The earliest time among them.
    pub from: RecordTime,
    /// The latest time among them.
    pub to: RecordTime,
    /// Why.
    pub doubt: Doubt,
}

/// Times of records lag behind the clock of the writer by no more than this: records are made by workers, and taken up
/// in rounds.
const LAG: Duration = Duration::from_secs(1);

/// Records behind the last seal that holds.
#[derive(Clone, Debug)]
struct Stretch {
    first: u64,
    last: u64,
    /// Records, without those with which processes begin.
    records: u64,
    from: RecordTime,
    to: RecordTime,
    /// The earliest and the latest time of the process that writes now.
    running: Option<(RecordTime, RecordTime)>,
    /// How long the processes before it went on.
    took: Duration,
    /// The last unknown key that seals among them were made with.
    other_key: Option<String>,
}

impl Stretch {
    const fn new(seq: u64, time: RecordTime) -> Self {
        Self {
            first: seq,
            last: seq,
            records: 0,
            from: time,
            to: time,
            running: None,
            took: Duration::ZERO,
            other_key: None,
        }
    }

    fn add(&mut self, seq: u64, time: RecordTime) {
        self.last = seq;
        (self.from, self.to) = (self.from.min(time), self.to.max(time));
    }

    /// A record in the life of a process.
    fn count(&mut self, time: RecordTime) {
        self.records += 1;
        let (from, to) = self.running.unwrap_or((time, time));
        self.running = Some((from.min(time), to.max(time)));
    }

    /// Time that passes while no process runs does not count.
    fn end_process(&mut self) {
        self.took = self.elapsed();
        self.running = None;
    }

    /// Times that cannot be read are none that a writer has written.
    fn elapsed(&self) -> Duration {
        let running = self.running.map(|(from, to)| to.since(from).unwrap_or(Duration::MAX));
        self.took.saturating_add(running.unwrap_or_default())
    }

    fn judge(&self, allowance: Option<SealAllowance>) -> Unproven {
        let Self { first, last, records, from, to, .. } = *self;
        let took = self.elapsed();
        let doubt = match (&self.other_key, allowance) {
            (Some(id), _) => Doubt::OtherKey { id: id.clone() },
            (None, None) => Doubt::NoSeal,
            (None, Some(SealAllowance { records: Some(allowed), .. })) if records > allowed => {
                Doubt::TooMany { records, allowed }
            }
            (None, Some(SealAllowance { every: allowed, .. })) if took > allowed + LAG => {
                Doubt::Overdue { took, allowed }
            }
            _ => Doubt::Unsealed,
        };
        Unproven { first, last, from, to, doubt }
    }
}

/// Goes through a trail.
#[derive(Debug)]
pub struct Examiner<'k> {
    keys: &'k [SealKey],
    /// The record before the first line, where it is known from elsewhere.
    before: Option<Link>,
    summary: Option<Summary>,
    /// What the last seal that holds says about the next one.
    allowance: Option<SealAllowance>,
    open: Option<Stretch>,
    /// What of the open stretch was there when its last process started.
    left: Option<Stretch>,
    /// The line before was one with which a process begins, and not the last such one.
    begins: bool,
    /// The last record that is no seal says that its process stops.
    stopped: bool,
    unproven: Vec<Unproven>,
    abrupt: Vec<u64>,
}

impl<'k> Examiner<'k> {
    /// An examiner that knows these keys; without any, seals are only counted.
    #[must_use]
    pub const fn new(keys: &'k [SealKey]) -> Self {
        Self {
            keys,
            before: None,
            summary: None,
            allowance: None,
            open: None,
            left: None,
            begins: false,
            stopped: false,
            unproven: Vec::new(),
            abrupt: Vec::new(),
        }
    }

    /// The same for lines that must follow the record `before`.
    #[must_use]
    pub fn behind(keys: &'k [SealKey], before: Option<Link>) -> Self {
        Self { before, ..Self::new(keys) }
    }

    /// The next line, without its line break. What the first line says about the line before it is believed, unless it is
    /// the first line of the trail or the line before it is known ([`Examiner::behind`]).
    ///
    /// # Errors
    /// [`Flaw`]
    pub fn line(&mut self, line: &[u8]) -> Result<(), Flaw> {
        let line = ChainLine::parse(line).map_err(|malformed| match malformed {
            MalformedLine::Form => Flaw::Form,
            MalformedLine::Hash => Flaw::Changed,
        })?;
        let before = match self.summary.map(|summary| summary.last).or(self.before) {
            Some(before) => before,
            None if line.link.seq == 1 => Link::NONE,
            None => Link { seq: line.link.seq.checked_sub(1).ok_or(Flaw::Form)?, hash: line.prev },
        };
        let expected = before.seq.checked_add(1).ok_or(Flaw::Form)?;
        if line.link.seq != expected {
            return Err(Flaw::Order { expected, found: line.link.seq });
        }
        if line.prev != before.hash {
            return Err(Flaw::Link);
        }
        let (time, event) = line.parts().ok_or(Flaw::Form)?;
        let verdict = judge(&line, before, self.keys);
        if verdict == SealVerdict::Broken {
            return Err(Flaw::Seal);
        }
        let start =
            Summary { first: line.link.seq, records: 0, last: before, seals: 0, unknown_seals: 0, sealed: None };
        let summary = self.summary.get_or_insert(start);
        summary.records += 1;
        summary.last = line.link;
        match verdict {
            SealVerdict::Holds(allowance) => {
                summary.seals += 1;
                summary.sealed = Some(line.link.seq);
                self.close(allowance);
            }
            SealVerdict::Unknown(id) => {
                summary.unknown_seals += 1;
                self.add(line.link.seq, time, None);
                let id = String::from_utf8_lossy(id).into_owned();
                self.open.iter_mut().for_each(|open| open.other_key = Some(id.clone()));
            }
            SealVerdict::None | SealVerdict::Broken => {
                self.add(line.link.seq, time, beginning(event));
                self.stopped = event.starts_with(b"stop\"");
            }
        }
        Ok(())
    }

    /// A line that is no seal that holds.
    fn add(&mut self, seq: u64, time: RecordTime, beginning: Option<Beginning>) {
        if beginning.is_some() && !self.begins {
            self.open.iter_mut().for_each(Stretch::end_process);
            self.left.clone_from(&self.open);
            if self.open.is_none() && !self.stopped && self.summary.is_some_and(|summary| summary.records > 1) {
                self.abrupt.push(seq);
            }
        }
        self.begins = beginning == Some(Beginning::Begun);
        let open = self.open.get_or_insert_with(|| Stretch::new(seq, time));
        open.add(seq, time);
        if beginning.is_none() {
            open.count(time);
        }
    }

    /// A seal that holds: what is open is proven, but for what its process had found when it started.
    fn close(&mut self, allowance: SealAllowance) {
        if let Some(left) = self.left.take() {
            self.unproven.push(left.judge(self.allowance.or(Some(allowance))));
        }
        self.open = None;
        self.begins = false;
        self.allowance = Some(allowance);
    }

    /// What has been found; nothing without a line.
    #[must_use]
    pub const fn summary(&self) -> Option<Summary> {
        self.summary
    }

    /// Records that seals come behind and do not prove, because the process that made the seals had not made them.
    #[must_use]
    pub fn unproven(&self) -> &[Unproven] {
        &self.unproven
    }

    /// The first record of each process that found a seal at the end, and no record before it that says that the process
    /// stops: that one was killed right then, or what it wrote behind the seal has been removed.
    #[must_use]
    pub fn abrupt(&self) -> &[u64] {
        &self.abrupt
    }

    /// Records behind the last seal that holds.
    #[must_use]
    pub fn tail(&self) -> Option<Unproven> {
        self.open.as_ref().map(|open| open.judge(self.allowance))
    }
}
