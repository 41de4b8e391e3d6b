//! Seals: an HMAC-SHA256 over the number of the seal and the hash of the line before it, which stands for all lines
//! before.

use core::fmt;

use ring::hmac;

use super::chain::{Digest, Line, Link};
use crate::telemetry::line::{escaped, hex};

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

const PURPOSE: &[u8] = b"countersign audit seal 1\n";
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

    /// Appends the members of a seal behind `last`, after those that say when.
    pub(super) fn seal(&self, out: &mut Vec<u8>, last: Link) {
        out.extend_from_slice(b",\"event\":\"seal\",\"key_id\":\"");
        escaped(out, self.id.as_bytes());
        out.extend_from_slice(b"\",\"seal\":\"");
        hex(out, hmac::sign(&self.key, &sealed(last)).as_ref());
        out.push(b'"');
    }

    /// Whether this key has made `tag` behind `last`.
    fn has_made(&self, tag: &Digest, last: Link) -> bool {
        hmac::verify(&self.key, &sealed(last), tag.bytes()).is_ok()
    }

    /// Tells secrets apart without giving them away: whoever has not got this key cannot try out what they may be.
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

fn sealed(last: Link) -> Vec<u8> {
    [PURPOSE, &(last.seq + 1).to_be_bytes(), last.hash.bytes()].concat()
}

/// What a line has to do with seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is no seal.
    None,
    /// A seal under a key that we have.
    Holds,
    /// A seal under a key that we have not.
    Unknown,
    /// A seal that was not made by the key that it names.
    Broken,
}

/// Judges a line; `last` is the one before.
pub(super) fn judge(line: &Line<'_>, last: Link, keys: &[SealKey]) -> Verdict {
    // "time":"2026-11-25T20:15:01.123Z" has 33 bytes.
    let members = line.entry.get(33..).and_then(|rest| rest.strip_prefix(b",\"event\":\"seal\",\"key_id\":\""));
    let Some(members) = members else { return Verdict::None };
    let parts = || {
        let (id, tag) = members.split_at_checked(members.len().checked_sub(64 + 1)?)?;
        Some((id.strip_suffix(b"\",\"seal\":\"")?, Digest::parse(tag.strip_suffix(b"\"")?)?))
    };
    let Some((id, tag)) = parts() else { return Verdict::Broken };
    match keys.iter().find(|key| key.id.as_bytes() == id) {
        None => Verdict::Unknown,
        Some(key) if key.has_made(&tag, last) => Verdict::Holds,
        Some(_) => Verdict::Broken,
    }
}
