//! Seals: an HMAC-SHA256 over the number of the seal, the hash of the line before it, which stands for all lines before,
//! and what the seal says: when it was made, under which key, and how long records may be without the next one.

use core::fmt;
use core::time::Duration;

use ring::hmac;

use super::chain::{ChainLine, Digest, Link};
use crate::telemetry::line::{escaped, hex, number};

/// The key of seals, and its name.
pub struct SealKey {
    id: String,
    key: hmac::Key,
}

/// Shows the name alone.
impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

const PURPOSE: &[u8] = b"countersign audit seal 2\n";
const FORMER_PURPOSE: &[u8] = b"countersign audit seal 1\n";
const FINGERPRINT: &[u8] = b"countersign audit fingerprint 1\n";

impl SealKey {
    /// The key that is made of `secret`.
    #[must_use]
    pub fn new(id: &str, secret: &[u8]) -> Self {
        Self { id: id.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Appends the members of a seal behind `last`, after those that say when; the entry begins at `start` of `out`.
    /// `every` is how long records may be without the next seal, in whole milliseconds.
    pub(super) fn seal(&self, out: &mut Vec<u8>, start: usize, last: Link, every: Duration) {
        out.extend_from_slice(b",\"event\":\"seal\",\"key_id\":\"");
        escaped(out, self.id.as_bytes());
        out.extend_from_slice(EVERY);
        number(out, u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        let tag = hmac::sign(&self.key, &sealed(last, out.get(start..).unwrap_or_default()));
        out.extend_from_slice(SEAL);
        hex(out, tag.as_ref());
        out.push(b'"');
    }

    /// Whether this key has made `tag` over `message`.
    fn has_made(&self, tag: &Digest, message: &[u8]) -> bool {
        hmac::verify(&self.key, message, tag.bytes()).is_ok()
    }

    /// Tells secrets apart without giving them away: without this key a guess cannot be tested.
    /// Sixteen hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&self.key);
        signing.update(FINGERPRINT);
        signing.update(secret);
        let tag = signing.sign();
        let mut text = Vec::new();
        hex(&mut text, tag.as_ref().get(..8).unwrap_or_default());
        String::from_utf8(text).unwrap_or_default()
    }
}

/// What a seal is made over: its number and the hash of the line before it, which stands for all lines before, and
/// `members`, everything that the seal itself says.
fn sealed(last: Link, members: &[u8]) -> Vec<u8> {
    [PURPOSE, &(last.seq + 1).to_be_bytes(), last.hash.bytes(), members].concat()
}

/// The same as earlier versions did it: nothing that the seal says about itself was protected.
fn sealed_before(last: Link) -> Vec<u8> {
    [FORMER_PURPOSE, &(last.seq + 1).to_be_bytes(), last.hash.bytes()].concat()
}

/// How much may stand behind a seal before the next one is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealAllowance {
    /// By the times of the records.
    pub every: Duration,
    /// Records; nothing where the writer had no such bound.
    pub records: Option<u64>,
}

/// The writer seals when there are so many records without a seal, whatever the time: what an attacker without the key may
/// change unseen is never more.
pub const SEAL_RECORDS: u64 = 256;

/// Seals of earlier versions do not say when the next one is due; this was the longest that could be configured.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a line has to do with seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SealVerdict<'a> {
    /// It is no seal.
    None,
    /// A seal under a key that we have.
    Holds(SealAllowance),
    /// A seal under a key that we have not, by its name.
    Unknown(&'a [u8]),
    /// A seal that was not made by the key that it names.
    Broken,
}

const EVENT: &[u8] = b"seal\",\"key_id\":\"";
const EVERY: &[u8] = b"\",\"seal_every_ms\":";
const SEAL: &[u8] = b",\"seal\":\"";

/// Judges a line; `last` is the one before.
pub(super) fn judge<'a>(line: &ChainLine<'a>, last: Link, keys: &[SealKey]) -> SealVerdict<'a> {
    let Some(members) = line.parts().and_then(|(_, event)| event.strip_prefix(EVENT)) else { return SealVerdict::None };
    let parts = || {
        let said = line.entry.len().checked_sub(SEAL.len() + 64 + 1)?;
        let (said, tag) = line.entry.split_at_checked(said)?;
        let tag = Digest::parse(tag.strip_prefix(SEAL)?.strip_suffix(b"\"")?)?;
        let members = members.get(..members.len().checked_sub(line.entry.len() - said.len())?)?;
        let (id, every) = match memchr::memmem::rfind(members, EVERY) {
            None => (members.strip_suffix(b"\"")?, None),
            Some(at) => {
                let every = core::str::from_utf8(members.get(at + EVERY.len()..)?).ok()?.parse().ok()?;
                (members.get(..at)?, Some(Duration::from_millis(every)))
            }
        };
        Some((said, id, every, tag))
    };
    let Some((said, id, every, tag)) = parts() else { return SealVerdict::Broken };
    let Some(key) = keys.iter().find(|key| key.id.as_bytes() == id) else { return SealVerdict::Unknown(id) };
    let (message, allowance) = match every {
        Some(every) => (sealed(last, said), SealAllowance { every, records: Some(SEAL_RECORDS) }),
        None => (sealed_before(last), SealAllowance { every: LONGEST, records: None }),
    };
    if key.has_made(&tag, &message) { SealVerdict::Holds(allowance) } else { SealVerdict::Broken }
}
