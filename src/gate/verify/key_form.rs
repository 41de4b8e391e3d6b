//! How providers write the secrets and public keys that they show.

use super::mac::DigestAlgorithm;
use super::signature::Encoding;

/// How a secret is written by the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEncoding {
    /// The bytes of the text are the key.
    Raw,
    /// The text is an encoding of the key.
    Encoded(Encoding),
}

/// How a secret becomes a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyForm {
    /// How it is written.
    pub encoding: KeyEncoding,
    /// Prefixes that are no part of the key (`whsec_`). The first that is present is taken off, and no other.
    pub strip_prefix: Vec<String>,
    /// What the sender writes behind the secret before it signs with it (`&`).
    pub append: String,
    /// The digest of the secret that the sender signs with, instead of the secret itself.
    pub hashed: Option<DigestAlgorithm>,
}

impl Default for KeyForm {
    fn default() -> Self {
        Self { encoding: KeyEncoding::Raw, strip_prefix: Vec::new(), append: String::new(), hashed: None }
    }
}

impl KeyForm {
    /// The secret without its prefix, where it has one.
    pub(crate) fn without_prefix<'s>(&self, secret: &'s [u8]) -> &'s [u8] {
        self.strip_prefix.iter().find_map(|prefix| secret.strip_prefix(prefix.as_bytes())).unwrap_or(secret)
    }
}
