//! What deliveries are told apart by: a name of fixed length.

use core::fmt;

use super::mac::{self, Tag};

/// The name of a delivery: what it is made of, and the first 15 bytes of a digest or tag. 120 bits are enough: to make
/// two deliveries of one name takes a key of the route, and 2^60 tries.
///
/// A name can be a part of a tag that no sender has shown (that under another key of the route), so it is not printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name([u8; 16]);

/// What a name is made of. Names of different kinds never meet.
#[derive(Clone, Copy)]
enum NameKind {
    /// The delivery id.
    Id = 1,
    /// The delivery id and the body.
    IdAndBody = 2,
    /// The tag of the signed content, under a key.
    Tag = 3,
    /// The signed bytes.
    SignedBytes = 4,
    /// The body.
    Body = 5,
}

impl Name {
    /// Bytes of a digest or tag that a name holds.
    const DIGEST: usize = 15;

    fn new(kind: NameKind, digest: &[u8]) -> Self {
        let mut name = [0; 16];
        name.iter_mut().zip(digest.iter().take(Self::DIGEST)).for_each(|(to, from)| *to = *from);
        name[Self::DIGEST] = kind as u8;
        Self(name)
    }

    pub(super) fn of_id(id: &[u8]) -> Self {
        Self::new(NameKind::Id, &mac::labelled_sha256(b"id", id))
    }

    /// A tag is the output of a keyed hash: its first bytes are as good as any.
    pub(super) fn of_tag(tag: &Tag) -> Self {
        Self::new(NameKind::Tag, tag.reveal())
    }

    pub(super) fn of_signed_bytes(digest: &Tag) -> Self {
        Self::new(NameKind::SignedBytes, digest.reveal())
    }

    pub(super) fn of_body(body: &[u8]) -> Self {
        Self::new(NameKind::Body, &mac::labelled_sha256(b"body", body))
    }

    /// The name of a delivery that has this id and a body with this hash, where another one has the id alone.
    #[must_use]
    pub fn with_body(self, hash: u64) -> Self {
        let mut name = self.0;
        name.iter_mut().zip(hash.to_le_bytes()).for_each(|(to, from)| *to ^= from);
        name[Self::DIGEST] = NameKind::IdAndBody as u8;
        Self(name)
    }

    /// All bytes, the last of which says what the name is made of.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// For tests and benchmarks: a name that nothing was verified for.
impl From<[u8; 16]> for Name {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// As one number, which is what hashes of two words are made for.
impl core::hash::Hash for Name {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.0));
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name")
    }
}
