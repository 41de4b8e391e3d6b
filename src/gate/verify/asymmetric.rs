//! Public keys and the signatures they verify. Both algorithms need the whole signed content at once.

use core::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};

use super::key_form::KeyForm;
use super::signature::Encoding;

/// An algorithm with public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicAlgorithm {
    /// Ed25519 (RFC 8032): signatures of 64 bytes.
    Ed25519,
    /// ECDSA over P-256 with SHA-256; signatures in ASN.1 DER (RFC 3279, section 2.2.3).
    EcdsaP256Sha256,
}

/// SubjectPublicKeyInfo of an Ed25519 key up to the 32 bytes of the key (RFC 8410, section 4).
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// SubjectPublicKeyInfo of a P-256 key up to the 65 bytes of the uncompressed point (RFC 5480, section 2).
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl PublicAlgorithm {
    /// The name in a scheme table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        }
    }

    /// Whether a signature can have this length in bytes.
    pub(super) const fn fits(self, length: usize) -> bool {
        match self {
            Self::Ed25519 => length == 64,
            Self::EcdsaP256Sha256 => length >= 8 && length <= 72,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
        }
    }

    /// The raw key inside a SubjectPublicKeyInfo in DER.
    fn unwrap_spki(self, der: &[u8]) -> Option<&[u8]> {
        let (prefix, length) = match self {
            Self::Ed25519 => (ED25519_SPKI, 32),
            Self::EcdsaP256Sha256 => (P256_SPKI, 65),
        };
        der.strip_prefix(prefix).filter(|key| key.len() == length)
    }

    fn is_raw_key(self, bytes: &[u8]) -> bool {
        match self {
            Self::Ed25519 => bytes.len() == 32,
            Self::EcdsaP256Sha256 => bytes.len() == 65 && bytes.first() == Some(&4),
        }
    }
}

/// A public key.
#[derive(Clone)]
pub(super) struct PublicKey {
    key: UnparsedPublicKey<Vec<u8>>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

impl PublicKey {
    /// Reads a key as PEM, as base64 of a SubjectPublicKeyInfo or of the raw key, or as hexadecimal of either; a prefix
    /// of the form (`whpk_`) is taken off where it is present.
    pub(super) fn parse(algorithm: PublicAlgorithm, text: &str, form: &KeyForm) -> Option<Self> {
        let text = core::str::from_utf8(form.without_prefix(text.trim().as_bytes())).ok()?;
        let bytes = match text.strip_prefix("-----BEGIN PUBLIC KEY-----") {
            Some(rest) => {
                let body: String = rest.strip_suffix("-----END PUBLIC KEY-----")?.split_ascii_whitespace().collect();
                decode(Encoding::Base64, &body)?
            }
            None => decode_any(text)?,
        };
        let raw = algorithm.unwrap_spki(&bytes).or_else(|| algorithm.is_raw_key(&bytes).then_some(&bytes))?;
        Some(Self { key: UnparsedPublicKey::new(algorithm.verification(), raw.to_vec()) })
    }

    pub(super) fn verifies(&self, content: &[u8], signature: &[u8]) -> bool {
        #[cfg(test)]
        VERIFICATIONS.with(|count| count.set(count.get() + 1));
        self.key.verify(content, signature).is_ok()
    }
}

#[cfg(test)]
std::thread_local! {
    /// How many signatures this thread has tried a public key on.
    pub(super) static VERIFICATIONS: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// Hexadecimal where every character is a digit, base64 otherwise.
fn decode_any(text: &str) -> Option<Vec<u8>> {
    let encoding = if text.bytes().all(|byte| byte.is_ascii_hexdigit()) { Encoding::Hex } else { Encoding::Base64 };
    decode(encoding, text)
}

fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    let mut out = vec![0; text.len() + 3];
    let length = encoding.decode_key_into(text.as_bytes(), &mut out)?;
    out.truncate(length);
    Some(out)
}
