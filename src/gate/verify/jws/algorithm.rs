//! The algorithms of RFC 7518, section 3, and RFC 8037 that ring has. There is no `none`, and no ES512 (P-521).

use super::super::asymmetric::PublicAlgorithm;
use super::super::mac::MacAlgorithm;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwsAlgorithm {
    /// A keyed hash: `HS256`, `HS384`, `HS512`.
    Mac(MacAlgorithm),
    /// A signature that a public key verifies: `RS…`, `PS…`, `ES256`, `ES384`, `EdDSA`.
    Public(PublicAlgorithm),
}

impl JwsAlgorithm {
    /// The value of `alg` in the header of a token. Empty for an algorithm that tokens do not have.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mac(MacAlgorithm::HmacSha256) => "HS256",
            Self::Mac(MacAlgorithm::HmacSha384) => "HS384",
            Self::Mac(MacAlgorithm::HmacSha512) => "HS512",
            Self::Public(PublicAlgorithm::RsaPkcs1Sha256) => "RS256",
            Self::Public(PublicAlgorithm::RsaPkcs1Sha384) => "RS384",
            Self::Public(PublicAlgorithm::RsaPkcs1Sha512) => "RS512",
            Self::Public(PublicAlgorithm::RsaPssSha256) => "PS256",
            Self::Public(PublicAlgorithm::RsaPssSha384) => "PS384",
            Self::Public(PublicAlgorithm::RsaPssSha512) => "PS512",
            Self::Public(PublicAlgorithm::EcdsaP256Sha256Fixed) => "ES256",
            Self::Public(PublicAlgorithm::EcdsaP384Sha384Fixed) => "ES384",
            Self::Public(PublicAlgorithm::Ed25519) => "EdDSA",
            Self::Mac(MacAlgorithm::HmacSha1)
            | Self::Public(
                PublicAlgorithm::EcdsaP256Sha256 | PublicAlgorithm::EcdsaP384Sha384 | PublicAlgorithm::RsaPkcs1Sha1,
            ) => "",
        }
    }

    /// Whether it verifies with public keys.
    #[must_use]
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Public(_))
    }
}
