//! What an explanation and a record read of a delivery: the same readings that a verdict rests on, as values of their own.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::boundaries;
use super::content::Content;
use super::jws::{self, HeaderFacts};
use super::keyring::{self, KeyError};
use super::reading;
use super::scheme::{Kind, Scheme, Source};
use super::signature::Encoding;
use super::{Delivery, url};
use crate::outcome::Rejection;

/// Every value that holds signatures.
pub(crate) fn signature_values<D: Delivery>(scheme: &Scheme, delivery: &D) -> Result<Vec<Vec<u8>>, Rejection> {
    let mut values = Vec::new();
    reading::signature_values(scheme, delivery, reading::SIGNATURE, |value| {
        values.push(value.to_vec());
        Ok(())
    })?;
    Ok(values)
}

/// How many bytes a signature has that is written like this; nothing where it is not.
pub(crate) fn decoded_length(encoding: Encoding, text: &[u8]) -> Option<usize> {
    encoding.decode(text).map(|signature| signature.bytes().len())
}

/// Whether a signature of this algorithm can have this length in bytes.
pub(crate) const fn fits(kind: Kind, length: usize) -> bool {
    reading::fits(kind, length)
}

/// The text of a timestamp as received.
pub(crate) fn timestamp_text<D: Delivery>(
    scheme: &Scheme,
    source: &Source,
    delivery: &D,
) -> Result<Option<Vec<u8>>, Rejection> {
    if let Source::Claim(claim) = source {
        return jws::claim(scheme, delivery, claim);
    }
    Ok(reading::source(scheme, source, delivery, reading::TIMESTAMP)?.map(Cow::into_owned))
}

/// The timestamp in unix milliseconds; nothing when the scheme has none.
pub(crate) fn timestamp<D: Delivery>(scheme: &Scheme, delivery: &D) -> Result<Option<i64>, Rejection> {
    let Some(timestamp) = &scheme.timestamp else { return Ok(None) };
    if let Source::Claim(_) = &timestamp.source {
        let text = timestamp_text(scheme, &timestamp.source, delivery)?;
        return Ok(text.and_then(|text| timestamp.unit.parse(&text)));
    }
    reading::timestamp(scheme, delivery)
}

/// What a token says about itself; nothing where there is none.
pub(crate) fn token_facts<D: Delivery>(scheme: &Scheme, delivery: &D) -> Option<HeaderFacts> {
    jws::facts(&jws::text(scheme, delivery).ok()?)
}

/// The first byte of an id that an id of this scheme cannot have.
pub(crate) fn strange_in_id<D: Delivery>(scheme: &Scheme, source: &Source, delivery: &D) -> Option<u8> {
    let id = reading::source(scheme, source, delivery, reading::ID).ok()??;
    let may = boundaries::id_bytes(scheme);
    id.iter().copied().find(|byte| !may.has(*byte))
}

/// The path of a target, without its query.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    url::path_of(target)
}

/// The bytes that the scheme makes of the text of a secret.
pub(crate) fn decode_secret(scheme: &Scheme, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    keyring::decode_secret(scheme, secret)
}

/// What the scheme signs of a delivery; nothing where a part of it is missing.
pub(crate) fn content<D: Delivery>(
    scheme: &Scheme,
    delivery: &D,
    public_url: Option<&url::PublicUrl>,
) -> Option<Vec<u8>> {
    let content = Content { scheme, delivery, public_url, secret: &[] };
    let mut out = Vec::new();
    content.write(scheme.content.parts(), &mut |piece| out.extend_from_slice(piece)).ok()?;
    Some(out)
}
