//! The compact form of a token: three parts in base64url, and what its header says (RFC 7515, sections 3.1 and 4.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::{self, ClaimValue};
use crate::outcome::Rejection;

/// The longest token outside of a body, in bytes.
pub const TOKEN_LIMIT: usize = 8 << 10;

/// The longest header, in bytes of base64url: names of an algorithm, a type and a key.
const HEADER_LIMIT: usize = 2 << 10;

/// The longest name of a key, in bytes.
pub(super) const KEY_NAME_LIMIT: usize = 256;

/// What is decoded without an allocation, in bytes.
const ON_STACK: usize = 3 << 10;

/// Members of a header that would let a token bring its own key, or change how it is read. A receiver that knows its keys
/// needs none of them.
const REFUSED: [&str; 6] = ["crit", "jku", "jwk", "x5u", "x5c", "b64"];

/// A token in its parts, still in base64url.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactToken<'t> {
    /// Header and claims with the dot between them: what is signed.
    pub(super) signed: &'t [u8],
    header: &'t [u8],
    claims: &'t [u8],
    /// The signature.
    pub(super) signature: &'t [u8],
}

impl<'t> CompactToken<'t> {
    /// Takes a token apart.
    pub(super) fn parse(text: &'t [u8]) -> Result<Self, Rejection> {
        let mut parts = text.splitn(4, |byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Rejection::TokenMalformed);
        };
        if header.len() > HEADER_LIMIT {
            return Err(Rejection::TokenTooLarge);
        }
        // RFC 7515, section 2: no padding. One token has one spelling.
        if header.is_empty() || claims.is_empty() || signature.contains(&b'=') {
            return Err(Rejection::TokenMalformed);
        }
        let signed = text.get(..header.len() + 1 + claims.len()).unwrap_or_default();
        Ok(Self { signed, header, claims, signature })
    }

    /// Judges the header, and gives `with_key` the name of the key, where it has one.
    pub(super) fn judge_header<T>(
        &self,
        algorithm: &str,
        with_key: impl FnOnce(Option<&str>) -> Result<T, Rejection>,
    ) -> Result<T, Rejection> {
        decoded(self.header, |json| {
            let mut key_name = [0; KEY_NAME_LIMIT];
            let mut key_length = None;
            let mut named = None;
            claims::walk(json, &mut |name, value| match name {
                "alg" if named.is_some() => Err(Rejection::TokenMalformed),
                "alg" => {
                    named = Some(value == ClaimValue::Text(algorithm));
                    Ok(())
                }
                "kid" => {
                    let (ClaimValue::Text(text), None) = (value, key_length) else {
                        return Err(Rejection::TokenMalformed);
                    };
                    let room = key_name.get_mut(..text.len()).ok_or(Rejection::TokenTooLarge)?;
                    room.copy_from_slice(text.as_bytes());
                    key_length = Some(text.len());
                    Ok(())
                }
                refused if REFUSED.contains(&refused) => Err(Rejection::TokenHeaderRefused),
                _ => Ok(()),
            })?;
            match named {
                Some(true) => {}
                Some(false) => return Err(Rejection::TokenAlgorithmRefused),
                None => return Err(Rejection::TokenMalformed),
            }
            let name = key_length.and_then(|length| core::str::from_utf8(key_name.get(..length)?).ok());
            with_key(name)
        })
    }

    /// Shows each claim to `visit`.
    pub(super) fn claims(
        &self,
        visit: &mut dyn FnMut(&str, ClaimValue<'_>) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        decoded(self.claims, |json| claims::walk(json, visit))
    }
}

/// Gives `read` the bytes that stand behind base64url as RFC 7515, section 2 writes it: without padding, and with one
/// spelling only.
fn decoded<T>(text: &[u8], read: impl FnOnce(&[u8]) -> Result<T, Rejection>) -> Result<T, Rejection> {
    let length = text.len() / 4 * 3 + 3;
    if length <= ON_STACK {
        let mut bytes = [0; ON_STACK];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| Rejection::TokenMalformed)?;
        return read(bytes.get(..length).unwrap_or_default());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Rejection::TokenMalformed)?;
    read(&bytes)
}

/// What a token says about itself: for explanations, never for a verdict.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderFacts {
    /// `alg`.
    pub(crate) algorithm: Option<String>,
    /// `kid`.
    pub(crate) key: Option<String>,
    /// Members for which it is refused.
    pub(crate) refused: Vec<&'static str>,
    /// Claims with one value, as text.
    pub(crate) claims: Vec<(String, String)>,
}

/// What a token says about itself; nothing where it is none.
pub(crate) fn facts(text: &[u8]) -> Option<HeaderFacts> {
    let token = CompactToken::parse(text).ok()?;
    let mut facts = HeaderFacts::default();
    let header = |json: &[u8]| {
        claims::walk(json, &mut |name, value| {
            match (name, value) {
                ("alg", ClaimValue::Text(text)) => facts.algorithm = Some(text.to_owned()),
                ("kid", ClaimValue::Text(text)) => facts.key = Some(text.to_owned()),
                _ => facts.refused.extend(REFUSED.iter().find(|refused| **refused == name)),
            }
            Ok(())
        })
    };
    decoded(token.header, header).ok()?;
    let mut all = Vec::new();
    let claims = |name: &str, value: ClaimValue<'_>| {
        let text = match value {
            ClaimValue::Text(text) | ClaimValue::Item(text) => text.to_owned(),
            ClaimValue::Whole(number) => number.to_string(),
            ClaimValue::Truth(truth) => truth.to_string(),
            ClaimValue::Fraction(number) => number.to_string(),
            ClaimValue::List | ClaimValue::Other => return Ok(()),
        };
        all.push((name.to_owned(), text));
        Ok(())
    };
    token.claims(&mut { claims }).ok()?;
    facts.claims = all;
    Some(facts)
}
