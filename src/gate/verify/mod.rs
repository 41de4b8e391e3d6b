//! Is this delivery genuine?
//!
//! A [`Scheme`] describes how a provider signs, a [`Verifier`] joins it with a route's keys, and one engine interprets
//! all of them: there is no function per provider. [`Verifier::begin`] judges the head, [`Check::update`] takes the
//! body as it arrives, [`Verifier::finish`] makes [`Verified`], which nothing else can make and without which nothing
//! can be forwarded. Tags and credentials are compared in `mac` only, in constant time.

mod asymmetric;
mod boundaries;
mod bytes;
mod candidates;
pub mod challenge;
mod content;
mod crc32;
mod credential;
mod decoded;
mod der;
mod der_names;
mod described;
pub mod engine;
pub mod equal_bytes;
mod fit;
pub(crate) mod flaws;
#[cfg(test)]
pub(crate) mod for_tests;
mod form;
pub mod guard;
pub(crate) mod inspect;
mod json;
mod json_fields;
mod json_lines;
pub mod jws;
mod key_form;
pub mod keyring;
mod mac;
mod multipart;
mod name;
mod named;
mod pin;
pub mod pinned;
mod private_key;
mod public_key;
pub mod published;
mod reading;
mod rule;
pub mod scheme;
mod scheme_rules;
pub mod sign;
pub mod signature;
pub mod template;
#[cfg(test)]
mod tests;
pub mod tolerance;
pub mod url;
pub mod verified;

pub use asymmetric::PublicAlgorithm;
pub use bytes::ByteSet;
pub use candidates::Work;
pub use challenge::{CallProof, ChallengeReply, Challenges, HandshakeCall, HandshakeScheme, Question, VerifyToken};
pub use decoded::SignedBody;
pub use engine::{Check, Verifier};
pub use equal_bytes::{EqualBytes, ToldApart};
pub use form::SortedForm;
pub use guard::{Exactly, Guards, Without};
pub use json::JsonPath;
pub use json_lines::JsonLines;
pub use jws::{ClaimDigest, ClaimRule, JwsAlgorithm, TOKEN_LIMIT, TokenRules};
pub use key_form::{KeyEncoding, KeyForm};
pub use keyring::{Key, KeyError, Keyring, Validity};
pub use mac::{DigestAlgorithm, MacAlgorithm, sha256};
pub use name::Name;
pub use named::NAMED_LIMIT;
pub use pin::{QueryPin, UrlPin};
pub use pinned::{Brings, CertificateRule, KeyLocator, KeyPlace};
pub use scheme::{
    BodyDigest, Kind, ReplayKey, RouteValue, Scheme, SchemeProblem, SignatureSource, Source, TimestampSource,
};
pub use scheme_rules::{TOLERANCE_LIMIT, Weakness};
pub use sign::{SignError, SignInput, sign};
pub use signature::{CANDIDATE_LIMIT, Encoding, PUBLIC_CANDIDATE_LIMIT, Syntax, VALUE_LIMIT};
pub use template::{Part, TOKENS, Template, TemplateError};
pub use tolerance::{Tolerance, Unit};
pub use url::{PublicUrl, UrlError, UrlPort};
pub use verified::Verified;

use crate::wire::headers::Headers;

/// What a scheme can look at: one request as it was received. The proxy implements it over its connection buffer,
/// commands and tests over values of their own.
pub trait Delivery {
    /// The method as received.
    fn method(&self) -> &[u8];
    /// Path and query as received (origin-form).
    fn target(&self) -> &[u8];
    /// The header fields as received.
    fn headers(&self) -> Headers<'_>;
    /// The bytes of the body that have arrived. `begin` does not read it; at `finish` it is whole.
    fn body(&self) -> &[u8];
}

macro_rules! delivery_for {
    ($($reference:ty)*) => {$(
        impl<D: Delivery> Delivery for $reference {
            fn method(&self) -> &[u8] {
                (**self).method()
            }

            fn target(&self) -> &[u8] {
                (**self).target()
            }

            fn headers(&self) -> Headers<'_> {
                (**self).headers()
            }

            fn body(&self) -> &[u8] {
                (**self).body()
            }
        }
    )*};
}

delivery_for!(&D &mut D);
