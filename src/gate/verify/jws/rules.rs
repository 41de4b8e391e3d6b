//! What a scheme asks of a token beside its signature. Values only.

use core::time::Duration;

use super::super::signature::Encoding;

/// The most claims that are judged by their values.
pub const CLAIM_LIMIT: usize = 20;

/// How far the clock of a sender may be off where a scheme does not say it.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The largest leeway.
pub const LEEWAY_LIMIT: Duration = Duration::from_secs(600);

/// A claim that must have one of these values. Of a list in the token (`aud`), one item is enough (RFC 7519, section
/// 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// The name of the claim.
    pub name: String,
    /// What it may be, as text: a whole number in digits, `true` or `false`.
    pub values: Vec<String>,
}

/// A claim that holds the SHA-256 of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimDigest {
    /// The name of the claim.
    pub claim: String,
    /// How it is written.
    pub encoding: Encoding,
    /// Whether a delivery with an empty body may leave it out, as some senders do.
    pub unless_empty: bool,
}

/// What is asked of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// Claims that must have one of the given values.
    pub claims: Vec<ClaimRule>,
    /// Claims whose values only a route can know. A scheme is used with none of them left.
    pub route_claims: Vec<String>,
    /// The claim that holds a digest of the body.
    pub body_digest: Option<ClaimDigest>,
    /// The claim that holds a hash of method, path and query as Atlassian Connect makes it (`qsh`).
    pub query_hash: Option<String>,
    /// Whether `exp` must be there. Where it is there, it counts in any case.
    pub expires: bool,
    /// How far the clock of the sender may be off when `exp`, `nbf` and `iat` are judged.
    pub leeway: Duration,
    /// The claim that names the key, instead of `kid` in the header.
    pub key_claim: Option<String>,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self {
            claims: Vec::new(),
            route_claims: Vec::new(),
            body_digest: None,
            query_hash: None,
            expires: false,
            leeway: LEEWAY,
            key_claim: None,
        }
    }
}

impl TokenRules {
    /// The same with the values that a route gives. A claim of the route takes the place of the scheme's.
    #[must_use]
    pub fn with_claims(mut self, claims: &[ClaimRule]) -> Self {
        for claim in claims {
            self.claims.retain(|own| own.name != claim.name);
            self.route_claims.retain(|name| *name != claim.name);
            self.claims.push(claim.clone());
        }
        self
    }
}
