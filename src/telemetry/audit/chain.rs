//! How lines hang together: `{"seq":N,"prev":"…",` what happened `,"hash":"…"}`.
//!
//! `hash` is the SHA-256 of everything in front of `,"hash":`, and so of the line before it through `prev`. Numbers
//! begin with 1; the line before the first one has a hash of zeros.

use core::fmt;
use core::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::telemetry::line::{hex, number};

/// SHA-256 of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// In front of the first line.
    pub const ZERO: Self = Self([0; 32]);

    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        Self(digest.as_ref().try_into().unwrap_or_default())
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (place, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            for digit in pair {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                *place = *place << 4 | value;
            }
        }
        Some(Self(bytes))
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A line, as the next one refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Link {
    /// In front of the first line.
    pub const NONE: Self = Self { seq: 0, hash: Digest::ZERO };

    /// Reads `SEQ:HASH`, as it is written by [`fmt::Display`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, hash) = text.split_once(':')?;
        Some(Self { seq: seq.parse().ok()?, hash: Digest::parse(hash.as_bytes())? })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// The end of a trail that goes on.
#[derive(Clone, Debug)]
pub struct Chain {
    last: Link,
}

const PREV: &[u8] = b",\"prev\":\"";
const HASH: &[u8] = b",\"hash\":\"";

impl Chain {
    /// Goes on behind this line.
    #[must_use]
    pub const fn behind(last: Link) -> Self {
        Self { last }
    }

    /// The last line so far.
    #[must_use]
    pub const fn last(&self) -> Link {
        self.last
    }

    /// Appends a line about `entry`, the members of a JSON object without its braces and without a line break.
    pub fn append(&mut self, out: &mut Vec<u8>, entry: &[u8]) {
        let start = out.len();
        let seq = self.last.seq + 1;
        out.extend_from_slice(b"{\"seq\":");
        number(out, seq);
        out.extend_from_slice(PREV);
        hex(out, self.last.hash.bytes());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(entry);
        let hash = Digest::of(out.get(start..).unwrap_or_default());
        out.extend_from_slice(HASH);
        hex(out, hash.bytes());
        out.extend_from_slice(b"\"}\n");
        self.last = Link { seq, hash };
    }
}

/// A line that has been taken apart; its hash holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLine<'a> {
    /// Number and hash.
    pub link: Link,
    /// The hash of the line before, as it says.
    pub prev: Digest,
    /// What happened: the members of a JSON object without its braces.
    pub entry: &'a [u8],
}

/// Why a line is none of a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedLine {
    /// It does not have the form.
    Form,
    /// Its hash is of another line.
    Hash,
}

impl<'a> ChainLine<'a> {
    /// Takes a line apart, without its line break.
    ///
    /// # Errors
    /// [`MalformedLine`]
    pub fn parse(line: &'a [u8]) -> Result<Self, MalformedLine> {
        let parts = || {
            let body = line.strip_suffix(b"\"}")?;
            let (hashed, hash) = body.split_at_checked(body.len().checked_sub(64 + HASH.len())?)?;
            let hash = Digest::parse(hash.strip_prefix(HASH)?)?;
            let rest = hashed.strip_prefix(b"{\"seq\":")?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (seq, rest) = rest.split_at_checked(digits)?;
            let seq = core::str::from_utf8(seq).ok()?.parse().ok()?;
            let (prev, entry) = rest.strip_prefix(PREV)?.split_at_checked(64)?;
            let (prev, entry) = (Digest::parse(prev)?, entry.strip_prefix(b"\",")?);
            Some((hashed, Self { link: Link { seq, hash }, prev, entry }))
        };
        let (hashed, line) = parts().ok_or(MalformedLine::Form)?;
        if Digest::of(hashed) == line.link.hash { Ok(line) } else { Err(MalformedLine::Hash) }
    }

    /// When it happened, as every entry begins: `"time":"2026-11-25T20:15:01.123Z"`, and what stands behind
    /// `,"event":"`. Nothing for an entry that is not one of ours.
    #[must_use]
    pub fn parts(&self) -> Option<(RecordTime, &'a [u8])> {
        let (time, rest) = self.entry.strip_prefix(b"\"time\":\"")?.split_first_chunk::<24>()?;
        Some((RecordTime(*time), rest.strip_prefix(b"\",\"event\":\"")?))
    }
}

/// The time of a record, as it is written. Earlier ones are less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordTime([u8; 24]);

impl RecordTime {
    /// The time from `earlier` to this one; nothing where one of them is no time. Zero for what is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Duration> {
        let parse = |it: &Self| OffsetDateTime::parse(core::str::from_utf8(&it.0).ok()?, &Rfc3339).ok();
        Some(Duration::try_from(parse(&self)? - parse(&earlier)?).unwrap_or_default())
    }
}

impl fmt::Display for RecordTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}

impl fmt::Debug for RecordTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
