//! Proves a trail line by line, or says what is wrong with the first line that is not as it was written.

use core::fmt;

use super::chain::{Line, Link, Malformed};
use super::seal::{SealKey, Verdict, judge};

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

/// What has been proven so far.
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

/// Goes through a trail.
#[derive(Debug)]
pub struct Examiner<'k> {
    keys: &'k [SealKey],
    summary: Option<Summary>,
}

impl<'k> Examiner<'k> {
    /// An examiner that knows these keys; without any, seals are only counted.
    #[must_use]
    pub const fn new(keys: &'k [SealKey]) -> Self {
        Self { keys, summary: None }
    }

    /// The next line, without its line break. The first one is believed about the line before it, unless it is the first
    /// of the trail.
    ///
    /// # Errors
    /// [`Flaw`]
    pub fn line(&mut self, line: &[u8]) -> Result<(), Flaw> {
        let line = Line::parse(line).map_err(|malformed| match malformed {
            Malformed::Form => Flaw::Form,
            Malformed::Hash => Flaw::Changed,
        })?;
        let before = match &self.summary {
            Some(summary) => summary.last,
            None if line.link.seq == 1 => Link::NONE,
            None => Link { seq: line.link.seq.checked_sub(1).ok_or(Flaw::Form)?, hash: line.prev },
        };
        if line.link.seq != before.seq + 1 {
            return Err(Flaw::Order { expected: before.seq + 1, found: line.link.seq });
        }
        if line.prev != before.hash {
            return Err(Flaw::Link);
        }
        let verdict = judge(&line, before, self.keys);
        let start =
            Summary { first: line.link.seq, records: 0, last: before, seals: 0, unknown_seals: 0, sealed: None };
        let summary = self.summary.get_or_insert(start);
        match verdict {
            Verdict::None => {}
            Verdict::Holds => {
                summary.seals += 1;
                summary.sealed = Some(line.link.seq);
            }
            Verdict::Unknown => summary.unknown_seals += 1,
            Verdict::Broken => return Err(Flaw::Seal),
        }
        summary.records += 1;
        summary.last = line.link;
        Ok(())
    }

    /// What has been proven; nothing without a line.
    #[must_use]
    pub const fn summary(&self) -> Option<Summary> {
        self.summary
    }
}
