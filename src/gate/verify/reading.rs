//! Reads what a scheme relies on out of a request: signatures, timestamp, delivery id, and the values that [`super::content`] is
//! written of.

use std::borrow::Cow;

use super::Delivery;
use super::boundaries;
use super::form::{self, FormError};
use super::json::{JsonError, JsonPath};
use super::json_fields::{self, Found};
use super::multipart;
use super::named::NamedHeaders;
use super::pinned::KeyPlace;
use super::scheme::{Kind, Scheme, SignatureSource, Source};
use super::signature::{FieldError, Signature, VALUE_LIMIT};
use super::template::Part;
use crate::outcome::Rejection;
use crate::wire::headers::Headers;

/// The longest delivery id, in bytes.
const ID_LIMIT: usize = 256;

/// The rejections for a value that is missing, repeated, or not in its form.
#[derive(Clone, Copy)]
pub(super) struct Reasons {
    pub(super) missing: Rejection,
    pub(super) duplicate: Rejection,
    pub(super) malformed: Rejection,
}

pub(super) const SIGNATURE: Reasons = Reasons {
    missing: Rejection::SignatureMissing,
    duplicate: Rejection::SignatureDuplicate,
    malformed: Rejection::SignatureMalformed,
};
pub(super) const CREDENTIAL: Reasons = Reasons {
    missing: Rejection::CredentialMissing,
    duplicate: Rejection::SignatureDuplicate,
    malformed: Rejection::CredentialMismatch,
};
pub(super) const TIMESTAMP: Reasons = Reasons {
    missing: Rejection::TimestampMissing,
    duplicate: Rejection::TimestampDuplicate,
    malformed: Rejection::TimestampMalformed,
};
pub(super) const ID: Reasons =
    Reasons { missing: Rejection::IdMissing, duplicate: Rejection::IdDuplicate, malformed: Rejection::IdMalformed };
const KEY_URL: Reasons = Reasons {
    missing: Rejection::KeyUrlRefused,
    duplicate: Rejection::KeyUrlRefused,
    malformed: Rejection::KeyUrlRefused,
};
pub(super) const CONTENT: Reasons = Reasons {
    missing: Rejection::ContentUnavailable,
    duplicate: Rejection::ContentUnavailable,
    malformed: Rejection::ContentUnavailable,
};

impl Reasons {
    pub(super) fn of_json(self, error: JsonError) -> Rejection {
        match error {
            JsonError::Malformed => self.malformed,
            JsonError::Duplicate => self.duplicate,
            JsonError::TooComplex => Rejection::ContentTooComplex,
        }
    }

    pub(super) fn of_form(self, error: FormError) -> Rejection {
        match error {
            FormError::Malformed => self.malformed,
            FormError::Duplicate => self.duplicate,
            FormError::TooComplex => Rejection::ContentTooComplex,
            FormError::Ambiguous => Rejection::ContentAmbiguous,
        }
    }

    pub(super) fn of_field(self, error: FieldError) -> Rejection {
        match error {
            FieldError::Malformed => self.malformed,
            FieldError::Duplicate => self.duplicate,
        }
    }
}

/// Whether the signature can be read before the body is there.
pub(super) const fn signature_is_in_head(scheme: &Scheme) -> bool {
    matches!(scheme.signature, SignatureSource::Headers(_) | SignatureSource::Query(_))
}

/// Calls `visit` with every value that holds signatures.
pub(super) fn signature_values<D: Delivery>(
    scheme: &Scheme,
    delivery: &D,
    reasons: Reasons,
    mut visit: impl FnMut(&[u8]) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    match &scheme.signature {
        SignatureSource::Headers(names) => {
            let mut found = false;
            for name in names {
                let value = delivery.headers().unique(name).map_err(|_| reasons.duplicate)?;
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    found = true;
                    visit(value)?;
                }
            }
            if found { Ok(()) } else { Err(reasons.missing) }
        }
        SignatureSource::Json(path) if path.has_each() => {
            let document = document(scheme, delivery, reasons)?;
            let found = json_fields::each(path, &document).map_err(|error| reasons.of_json(error))?;
            // Of a credential each item has to bring one; a signature is one of the whole.
            if found.is_empty() || scheme.signs() && found.len() > 1 {
                return Err(if found.is_empty() { reasons.missing } else { reasons.duplicate });
            }
            found.iter().try_for_each(|value| visit(value))
        }
        SignatureSource::Json(path) => visit(&required(json(scheme, delivery, path, reasons)?, reasons)?),
        SignatureSource::Form(name) => visit(&required(form_field(delivery, name, reasons)?, reasons)?),
        SignatureSource::Query(name) => visit(&required(query_parameter(delivery, name, reasons)?, reasons)?),
        SignatureSource::Body => visit(delivery.body()),
    }
}

/// The only value that holds a signature, where there is one place for it.
pub(super) fn only_value<'d, D: Delivery>(
    scheme: &Scheme,
    delivery: &'d D,
    reasons: Reasons,
) -> Result<Cow<'d, [u8]>, Rejection> {
    let value = match &scheme.signature {
        SignatureSource::Headers(names) => headers_alike(delivery, names, reasons)?.map(Cow::Borrowed),
        SignatureSource::Json(path) => json(scheme, delivery, path, reasons)?,
        SignatureSource::Form(name) => form_field(delivery, name, reasons)?,
        SignatureSource::Query(name) => query_parameter(delivery, name, reasons)?,
        SignatureSource::Body => Some(Cow::Borrowed(delivery.body())),
    };
    required(value, reasons)
}

/// Calls `visit` with every signature that counts, decoded, each of a length that the scheme's algorithm can have. What
/// stands in its place and is none is passed over. At least one is a signature, and of both there are no more than
/// [`Scheme::candidate_limit`]; anything else is refused.
pub(super) fn signatures<D: Delivery, const LIMIT: usize>(
    scheme: &Scheme,
    delivery: &D,
    mut visit: impl FnMut(&Signature<LIMIT>),
) -> Result<(), Rejection> {
    let limit = scheme.candidate_limit();
    let (mut count, mut found, mut signature) = (0, false, Signature::<LIMIT>::EMPTY);
    signature_values(scheme, delivery, SIGNATURE, |value| {
        if value.len() > VALUE_LIMIT {
            return Err(SIGNATURE.malformed);
        }
        for text in scheme.syntax.candidates(value) {
            count += 1;
            if count > limit {
                return Err(SIGNATURE.malformed);
            }
            if let Ok(text) = text
                && scheme.encoding.read(text, &mut signature)
                && fits(scheme.kind, signature.bytes().len())
            {
                found = true;
                visit(&signature);
            }
        }
        Ok(())
    })?;
    if found { Ok(()) } else { Err(SIGNATURE.malformed) }
}

/// Whether a signature of this algorithm can have this length in bytes.
pub(super) const fn fits(kind: Kind, length: usize) -> bool {
    match kind {
        Kind::Hmac(algorithm) => length == algorithm.tag_length(),
        Kind::Digest(algorithm) => length == algorithm.tag_length(),
        Kind::Public(algorithm) => algorithm.fits(length),
        Kind::Jws(_) | Kind::Token | Kind::Basic => false,
    }
}

/// The text of a timestamp or an id as received.
pub(super) fn source<'d, D: Delivery>(
    scheme: &Scheme,
    source: &Source,
    delivery: &'d D,
    reasons: Reasons,
) -> Result<Option<Cow<'d, [u8]>>, Rejection> {
    let found = match source {
        Source::Headers(names) => headers_alike(delivery, names, reasons)?.map(Cow::Borrowed),
        Source::Field(key) => signature_field(scheme, delivery, key, reasons)?.map(Cow::Borrowed),
        Source::Json(path) => json(scheme, delivery, path, reasons)?,
        Source::Form(name) => form_field(delivery, name, reasons)?,
        Source::Query(name) => query_parameter(delivery, name, reasons)?,
        // Read with the token, and passed on as evidence.
        Source::Claim(_) => None,
    };
    Ok(found.filter(|value| !value.is_empty()))
}

/// The id in a form that leaves no doubt about where it ends.
pub(super) fn id<'d, D: Delivery>(scheme: &Scheme, delivery: &'d D) -> Result<Option<Cow<'d, [u8]>>, Rejection> {
    let Some(from) = &scheme.id else { return Ok(None) };
    let Some(id) = source(scheme, from, delivery, ID)? else { return Ok(None) };
    let may = boundaries::id_bytes(scheme);
    if id.len() > ID_LIMIT || !id.iter().all(|byte| may.has(*byte)) {
        return Err(ID.malformed);
    }
    scheme.guards.check(&Part::Id, &id)?;
    Ok(Some(id))
}

/// An id out of the head, for show: signed or not, sound or absent.
pub(super) fn id_in_head<'d, D: Delivery>(scheme: &Scheme, delivery: &'d D) -> Option<Cow<'d, [u8]>> {
    if scheme.id.as_ref()?.is_in_body() { None } else { id(scheme, delivery).ok().flatten() }
}

/// The timestamp in unix milliseconds; nothing when the scheme has none.
pub(super) fn timestamp<D: Delivery>(scheme: &Scheme, delivery: &D) -> Result<Option<i64>, Rejection> {
    let Some(timestamp) = &scheme.timestamp else { return Ok(None) };
    let text = required(source(scheme, &timestamp.source, delivery, TIMESTAMP)?, TIMESTAMP)?;
    timestamp.unit.parse(&text).map(Some).ok_or(TIMESTAMP.malformed)
}

/// The value of a query parameter.
pub(super) fn query_parameter<'d, D: Delivery>(
    delivery: &'d D,
    name: &str,
    reasons: Reasons,
) -> Result<Option<Cow<'d, [u8]>>, Rejection> {
    let query = form::query(delivery.target()).unwrap_or_default();
    form::unique(query, name).map_err(|error| reasons.of_form(error))
}

pub(super) fn form_field<'d, D: Delivery>(
    delivery: &'d D,
    name: &str,
    reasons: Reasons,
) -> Result<Option<Cow<'d, [u8]>>, Rejection> {
    let found = if let Some(boundary) = multipart::boundary(delivery.headers()) {
        multipart::unique(delivery.body(), boundary, name)
    } else if form::is_form(delivery.headers()) {
        form::unique(delivery.body(), name)
    } else {
        return Err(reasons.missing);
    };
    // Some receivers read both under one name, and that of the URL first.
    let is_in_query = form::query(delivery.target()).is_some_and(|query| form::mentions(query, name.as_bytes()));
    if is_in_query && matches!(found, Ok(Some(_))) {
        return Err(reasons.of_form(FormError::Duplicate));
    }
    found.map_err(|error| reasons.of_form(error))
}

/// What a delivery says about its key.
pub(super) fn key_name<'d, D: Delivery>(
    scheme: &Scheme,
    place: &KeyPlace,
    delivery: &'d D,
) -> Result<Cow<'d, [u8]>, Rejection> {
    let found = match place {
        KeyPlace::Header(name) => headers_alike(delivery, core::slice::from_ref(name), KEY_URL)?.map(Cow::Borrowed),
        KeyPlace::Json(path) => json(scheme, delivery, path, KEY_URL)?,
    };
    required(found, KEY_URL)
}

/// The JSON document that paths are about.
pub(super) fn document<'d, D: Delivery>(
    scheme: &Scheme,
    delivery: &'d D,
    reasons: Reasons,
) -> Result<Cow<'d, [u8]>, Rejection> {
    match &scheme.json_form {
        Some(name) => required(form_field(delivery, name, reasons)?, reasons),
        None if scheme.signs_json() && may_be_a_form(delivery.headers()) => Err(reasons.malformed),
        None => Ok(Cow::Borrowed(delivery.body())),
    }
}

/// Whether a receiver may find other fields in the body than a JSON document has: one that goes by the content type reads a
/// form, or another encoding.
fn may_be_a_form(headers: Headers<'_>) -> bool {
    let is_form = |media: &[u8]| {
        media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
            || media.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/"))
    };
    form::media_type(headers).is_some_and(is_form) || !form::has_plain_charset(headers)
}

pub(super) fn json<'d, D: Delivery>(
    scheme: &Scheme,
    delivery: &'d D,
    path: &JsonPath,
    reasons: Reasons,
) -> Result<Option<Cow<'d, [u8]>>, Rejection> {
    match document(scheme, delivery, reasons)? {
        Cow::Borrowed(document) => path.find(document).map_err(|error| reasons.of_json(error)),
        Cow::Owned(document) => {
            let found = path.find(&document).map_err(|error| reasons.of_json(error))?;
            Ok(found.map(|value| Cow::Owned(value.into_owned())))
        }
    }
}

/// The values at several paths, all found in one walk.
pub(super) fn json_values<'d, D: Delivery>(
    scheme: &Scheme,
    delivery: &'d D,
    paths: &[&JsonPath],
    reasons: Reasons,
) -> Result<Vec<Found<'d>>, Rejection> {
    match document(scheme, delivery, reasons)? {
        Cow::Borrowed(document) => json_fields::read(paths, document).map_err(|error| reasons.of_json(error)),
        Cow::Owned(document) => {
            let found = json_fields::read(paths, &document).map_err(|error| reasons.of_json(error))?;
            let owned = |values: Found<'_>| values.into_iter().map(|value| Cow::Owned(value.into_owned())).collect();
            Ok(found.into_iter().map(owned).collect())
        }
    }
}

/// The one value of a field that is signed; nothing where it may be missing.
pub(super) fn only(found: Found<'_>, optional: bool) -> Result<Cow<'_, [u8]>, Rejection> {
    let several = found.len() > 1;
    match found.into_iter().next() {
        Some(_) if several => Err(Rejection::ContentAmbiguous),
        Some(value) => Ok(value),
        None if optional => Ok(Cow::Borrowed(b"")),
        None => Err(CONTENT.missing),
    }
}

fn headers_alike<'d, D: Delivery>(
    delivery: &'d D,
    names: &[String],
    reasons: Reasons,
) -> Result<Option<&'d [u8]>, Rejection> {
    let mut found: Option<&[u8]> = None;
    for name in names {
        let value = delivery.headers().unique(name).map_err(|_| reasons.duplicate)?;
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if found.is_some_and(|other| other != value) {
            return Err(reasons.duplicate);
        }
        found = Some(value);
    }
    Ok(found)
}

pub(super) fn signature_field<'d, D: Delivery>(
    scheme: &Scheme,
    delivery: &'d D,
    key: &str,
    reasons: Reasons,
) -> Result<Option<&'d [u8]>, Rejection> {
    let SignatureSource::Headers(names) = &scheme.signature else { return Ok(None) };
    let Some(name) = names.first() else { return Ok(None) };
    let value = delivery.headers().unique(name).map_err(|_| reasons.duplicate)?.unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    scheme.syntax.field(value, key).map_err(|error| reasons.of_field(error))
}

/// The headers that the signature itself says it covers (`{named_headers:KEY}`); nothing for a list that no signature
/// can be verified with.
pub(super) fn named_headers<'d, D: Delivery>(scheme: &Scheme, delivery: &'d D) -> Option<NamedHeaders<'d>> {
    let key = scheme.content.parts().iter().find_map(|part| match part {
        Part::NamedHeaders(key) => Some(key),
        _ => None,
    })?;
    NamedHeaders::parse(signature_field(scheme, delivery, key, CONTENT).ok()??).ok()
}

pub(super) fn required<'d>(value: Option<Cow<'d, [u8]>>, reasons: Reasons) -> Result<Cow<'d, [u8]>, Rejection> {
    value.filter(|value| !value.is_empty()).ok_or(reasons.missing)
}
