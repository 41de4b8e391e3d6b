//! JSON Web Tokens as signatures (RFC 7515, RFC 7519, RFC 8725): the compact form, its claims, and how they are judged.
//!
//! A token never says how it is verified: the algorithm and the keys are those of the scheme and of the route, and a
//! header that names another algorithm or brings a key of its own is refused.

mod algorithm;
mod check;
mod claims;
mod compact;
mod judge;
mod place;
mod query_hash;
pub mod rules;
mod signing;
mod sound;

pub use algorithm::JwsAlgorithm;
pub(super) use check::{Proven, TokenCheck, TokenRule};
pub use compact::TOKEN_LIMIT;
pub(crate) use compact::{HeaderFacts, facts};
pub(super) use place::claim;
pub(crate) use place::text;
pub use rules::{ClaimDigest, ClaimRule, TokenRules};
pub(super) use signing::{TokenDraft, sign};
pub(super) use sound::problems;
