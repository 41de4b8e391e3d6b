//! Public keys and the signatures they verify. All algorithms need the whole signed content at once.

use core::fmt;

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};

use super::der;
use super::key_form::KeyForm;
use super::public_key::{self, PublicKeyKind};

/// An algorithm with public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicAlgorithm {
    /// Ed25519 (RFC 8032): signatures of 64 bytes.
    Ed25519,
    /// ECDSA over P-256 with SHA-256; signatures in ASN.1 DER (RFC 3279, section 2.2.3).
    EcdsaP256Sha256,
    /// ECDSA over P-384 with SHA-384; signatures in ASN.1 DER.
    EcdsaP384Sha384,
    /// ECDSA over P-256 with SHA-256; signatures as two numbers of 32 bytes (RFC 7518, section 3.4).
    EcdsaP256Sha256Fixed,
    /// ECDSA over P-384 with SHA-384; signatures as two numbers of 48 bytes.
    EcdsaP384Sha384Fixed,
    /// RSASSA-PKCS1-v1_5 with SHA-1 (RFC 8017, section 8.2): only for senders that offer nothing newer.
    RsaPkcs1Sha1,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256, and a salt as long as the digest (RFC 8017, section 8.1).
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384, and a salt as long as the digest.
    RsaPssSha384,
    /// RSASSA-PSS with SHA-512, and a salt as long as the digest.
    RsaPssSha512,
}

impl PublicAlgorithm {
    /// The name in a scheme table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::EcdsaP256Sha256Fixed => "ecdsa-p256-sha256-fixed",
            Self::EcdsaP384Sha384Fixed => "ecdsa-p384-sha384-fixed",
            Self::RsaPkcs1Sha1 => "rsa-pkcs1-sha1",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPkcs1Sha384 => "rsa-pkcs1-sha384",
            Self::RsaPkcs1Sha512 => "rsa-pkcs1-sha512",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::RsaPssSha384 => "rsa-pss-sha384",
            Self::RsaPssSha512 => "rsa-pss-sha512",
        }
    }

    pub(super) const fn key_kind(self) -> PublicKeyKind {
        match self {
            Self::Ed25519 => PublicKeyKind::Ed25519,
            Self::EcdsaP256Sha256 | Self::EcdsaP256Sha256Fixed => PublicKeyKind::P256,
            Self::EcdsaP384Sha384 | Self::EcdsaP384Sha384Fixed => PublicKeyKind::P384,
            Self::RsaPkcs1Sha1
            | Self::RsaPkcs1Sha256
            | Self::RsaPkcs1Sha384
            | Self::RsaPkcs1Sha512
            | Self::RsaPssSha256
            | Self::RsaPssSha384
            | Self::RsaPssSha512 => PublicKeyKind::Rsa,
        }
    }

    /// Whether a signature can have this length in bytes. One of RSA is as long as the modulus.
    pub(super) const fn fits(self, length: usize) -> bool {
        match self.key_kind() {
            PublicKeyKind::Ed25519 => length == 64,
            PublicKeyKind::P256 => length >= 8 && length <= 72,
            PublicKeyKind::P384 => length >= 8 && length <= 104,
            PublicKeyKind::Rsa => length >= 256 && length <= 1024,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384Sha384 => &ECDSA_P384_SHA384_ASN1,
            Self::EcdsaP256Sha256Fixed => &ECDSA_P256_SHA256_FIXED,
            Self::EcdsaP384Sha384Fixed => &ECDSA_P384_SHA384_FIXED,
            Self::RsaPkcs1Sha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Self::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::RsaPkcs1Sha512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            Self::RsaPssSha384 => &RSA_PSS_2048_8192_SHA384,
            Self::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
        }
    }
}

/// What the arithmetic of one verification costs beside hashing, as a number of hashed bytes: of Ed25519, P-256 and RSA
/// with up to 4096 bits.
pub(super) const VERIFICATION: usize = 64 << 10;

/// A public key.
#[derive(Clone)]
pub(super) struct PublicKey {
    key: UnparsedPublicKey<Vec<u8>>,
    cost: usize,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

impl PublicKey {
    /// Reads a key as PEM (a key or a certificate), JWK, or as base64, base64url or hexadecimal of a SubjectPublicKeyInfo,
    /// a certificate or the raw key; a prefix of the form (`whpk_`) is taken off where it is present.
    pub(super) fn parse(algorithm: PublicAlgorithm, text: &str, form: &KeyForm) -> Option<Self> {
        let text = core::str::from_utf8(form.without_prefix(text.trim().as_bytes())).ok()?;
        let key = public_key::read(algorithm.key_kind(), text)?;
        let cost = match algorithm.key_kind() {
            PublicKeyKind::Ed25519 | PublicKeyKind::P256 => VERIFICATION,
            PublicKeyKind::P384 => 4 * VERIFICATION,
            // It grows with the square of the length.
            PublicKeyKind::Rsa if der::modulus_bits(&key).is_some_and(|bits| bits > 4096) => 4 * VERIFICATION,
            PublicKeyKind::Rsa => VERIFICATION,
        };
        Some(Self { key: UnparsedPublicKey::new(algorithm.verification(), key), cost })
    }

    /// What the arithmetic of one verification costs, as a number of hashed bytes.
    pub(super) const fn cost(&self) -> usize {
        self.cost
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
