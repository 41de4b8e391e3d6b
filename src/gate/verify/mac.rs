//! Streaming MACs and digests, and the only comparison of secret values in the program.
//!
//! Tags are compared in constant time. Tokens and passwords are compared as SHA-256 digests, so that neither their
//! content nor their length shows in the time it takes. Nothing outside of this file compares a tag or a credential.

use ring::{digest, hmac};
use subtle::ConstantTimeEq;

use super::signature::{Encoding, Signature};

/// A keyed hash (RFC 2104).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacAlgorithm {
    /// HMAC-SHA-1: 20 bytes. Still sound as a MAC; only for senders that offer nothing newer.
    HmacSha1,
    /// HMAC-SHA-256: 32 bytes.
    HmacSha256,
    /// HMAC-SHA-384: 48 bytes.
    HmacSha384,
    /// HMAC-SHA-512: 64 bytes.
    HmacSha512,
}

impl MacAlgorithm {
    /// Length of a tag in bytes.
    #[must_use]
    pub const fn tag_length(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    pub(super) fn key(self, secret: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, secret)
    }
}

/// A digest: of content that contains the secret, or of the body inside the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-1: 20 bytes.
    Sha1,
    /// SHA-256: 32 bytes.
    Sha256,
    /// SHA-384: 48 bytes.
    Sha384,
    /// SHA-512: 64 bytes.
    Sha512,
}

impl DigestAlgorithm {
    /// Length of a digest in bytes.
    #[must_use]
    pub const fn tag_length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `bytes`.
    pub(super) fn of(self, bytes: &[u8]) -> digest::Digest {
        digest::digest(self.implementation(), bytes)
    }

    const fn implementation(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A hash under way. It owns no heap memory.
pub(super) enum Hasher {
    Mac(hmac::Context),
    Digest(digest::Context),
}

impl Hasher {
    pub(super) fn mac(key: &hmac::Key) -> Self {
        Self::Mac(hmac::Context::with_key(key))
    }

    pub(super) fn digest(algorithm: DigestAlgorithm) -> Self {
        Self::Digest(digest::Context::new(algorithm.implementation()))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Mac(context) => context.update(bytes),
            Self::Digest(context) => context.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Tag {
        match self {
            Self::Mac(context) => Tag::new(context.sign().as_ref()),
            Self::Digest(context) => Tag::new(context.finish().as_ref()),
        }
    }
}

/// A tag that we computed. It is as secret as a password until a sender has shown that it knows it, so it cannot be
/// printed, and only this file looks at it.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    bytes: [u8; 64],
    length: usize,
}

impl Tag {
    fn new(bytes: &[u8]) -> Self {
        let mut tag = Self { bytes: [0; 64], length: bytes.len().min(64) };
        for (to, from) in tag.bytes.iter_mut().zip(bytes) {
            *to = *from;
        }
        tag
    }

    /// The bytes of a tag that may be shown: one that we are asked to produce, or that the sender has proven to know.
    pub(super) fn reveal(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Whether the signature that arrived is this tag, in constant time.
    pub(super) fn matches(&self, signature: &Signature) -> bool {
        self.reveal().ct_eq(signature.bytes()).into()
    }
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    copy(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn copy(digest: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest) {
        *to = *from;
    }
    out
}

/// SHA-256 of a label and `bytes`, so that values of different kinds never meet.
pub(super) fn labelled_sha256(label: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(b":");
    context.update(bytes);
    copy(context.finish().as_ref())
}

/// The digest of signed bytes in place of a tag, for algorithms whose signatures can be rewritten.
pub(super) fn digest_tag(content: &[u8]) -> Tag {
    Tag::new(&sha256(content))
}

/// A SHA-256 that a sender vouches for, or one to compare it with.
#[derive(Clone, Copy, Debug)]
pub(super) struct FixedDigest([u8; 32]);

impl FixedDigest {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(sha256(bytes))
    }

    /// Reads one as it is written; nothing for text of another form or length.
    pub(super) fn decode(text: &[u8], encoding: Encoding) -> Option<Self> {
        let mut bytes = [0; 48];
        let length = encoding.decode_into(text, &mut bytes)?;
        bytes.get(..length)?.try_into().ok().map(Self)
    }

    pub(super) fn encode(&self, encoding: Encoding) -> String {
        encoding.encode(&self.0)
    }

    /// Whether both are the same, in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The digest of both, in place of a tag.
    pub(super) fn with(&self, other: &Self) -> Tag {
        digest_tag([self.0, other.0].as_flattened())
    }
}

/// The SHA-256 of a body, under way.
pub(super) struct BodyHash {
    hash: digest::Context,
    length: usize,
}

impl BodyHash {
    pub(super) fn new() -> Self {
        Self { hash: digest::Context::new(&digest::SHA256), length: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length = self.length.saturating_add(bytes.len());
    }

    /// The digest, if the body had this length.
    pub(super) fn finish(self, length: usize) -> Option<FixedDigest> {
        (self.length == length).then(|| FixedDigest(copy(self.hash.finish().as_ref())))
    }
}

/// What is kept of a static token or password: enough to recognise it, not to show it.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(credential: &[u8]) -> Self {
        Self(sha256(credential))
    }

    /// Whether both are fingerprints of the same credential, in constant time.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Whether `digest` is the SHA-256 of `body`, in constant time.
pub(super) fn is_sha256_of(digest: &Signature, body: &[u8]) -> bool {
    sha256(body).as_slice().ct_eq(digest.bytes()).into()
}
