//! Reads what a scheme relies on out of a request: signatures, timestamp, delivery id, signed content.

use std::borrow::Cow;

use super::Delivery;
use super::boundaries;
use super::crc32;
use super::form::{self, FormError};
use super::json::{JsonError, JsonPath};
use super::json_fields::{self, Found};
use super::json_lines::JsonLines;
use super::multipart;
use super::named::NamedHeaders;
use super::pinned::KeyPlace;
use super::scheme::{Kind, Scheme, SignatureSource, Source};
use super::signature::{Encoding, FieldError, Signature, VALUE_LIMIT};
use super::template::Part;
use super::url::{self, PublicUrl};
use crate::outcome::Rejection;

/// The longest delivery id, in bytes.
const ID_LIMIT: usize = 256;

/// The rejections for a value that is missing, repeated, or not in its form.
#[derive(Clone, Copy)]
pub(super) struct Reasons {
    missing: Rejection,
    duplicate: Rejection,
    malformed: Rejection,
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
    fn of_json(self, error: JsonError) -> Rejection {
        match error {
            JsonError::Malformed => self.malformed,
            JsonError::Duplicate => self.duplicate,
            JsonError::TooComplex => Rejection::ContentTooComplex,
        }
    }

    fn of_form(self, error: FormError) -> Rejection {
        match error {
            FormError::Malformed => self.malformed,
            FormError::Duplicate => self.duplicate,
            FormError::TooComplex => Rejection::ContentTooComplex,
            FormError::Ambiguous => Rejection::ContentAmbiguous,
        }
    }

    fn of_field(self, error: FieldError) -> Rejection {
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

/// What the signed content is written from.
pub(super) struct Content<'a, D> {
    pub(super) scheme: &'a Scheme,
    pub(super) delivery: &'a D,
    pub(super) public_url: Option<&'a PublicUrl>,
    pub(super) secret: &'a [u8],
}

impl<D: Delivery> Content<'_, D> {
    /// Writes `parts` into `sink`, in pieces.
    pub(super) fn write(&self, parts: &[Part], sink: &mut dyn FnMut(&[u8])) -> Result<(), Rejection> {
        if !self.scheme.signs_json() {
            return parts.iter().try_for_each(|part| self.write_part(part, sink));
        }
        let paths: Vec<&JsonPath> = parts.iter().filter_map(Part::json_path).collect();
        let mut fields = json_values(self.scheme, self.delivery, &paths, CONTENT)?.into_iter();
        parts.iter().try_for_each(|part| match part {
            Part::Json { optional, .. } => {
                let value = only(fields.next().unwrap_or_default(), *optional)?;
                sink(self.guarded(part, &value)?);
                Ok(())
            }
            other => self.write_part(other, sink),
        })
    }

    fn write_part(&self, part: &Part, sink: &mut dyn FnMut(&[u8])) -> Result<(), Rejection> {
        match part {
            Part::Literal(bytes) => sink(bytes),
            Part::Body => sink(self.delivery.body()),
            Part::Method => sink(self.method()?),
            Part::Path => sink(self.guarded(part, url::path_of(self.delivery.target()))?),
            Part::Target => sink(self.guarded(part, self.delivery.target())?),
            Part::Secret => sink(self.secret),
            Part::Url => self.url(part)?.write(self.delivery.target(), sink),
            Part::UrlUnescaped => {
                self.url(part)?.write(self.delivery.target(), &mut |piece| url::write_unescaped(piece, sink));
            }
            Part::Timestamp => {
                let timestamp = self.scheme.timestamp.as_ref().ok_or(TIMESTAMP.missing)?;
                sink(&required(source(self.scheme, &timestamp.source, self.delivery, TIMESTAMP)?, TIMESTAMP)?);
            }
            Part::Id => sink(&required(id(self.scheme, self.delivery)?, ID)?),
            Part::Header(name) => {
                let value = self.delivery.headers().unique(name).map_err(|_| CONTENT.duplicate)?;
                sink(self.guarded(part, value.ok_or(CONTENT.missing)?)?);
            }
            Part::Field(key) => {
                let value = signature_field(self.scheme, self.delivery, key, CONTENT)?.ok_or(CONTENT.missing)?;
                sink(self.guarded(part, value)?);
            }
            Part::NamedHeaders(key) => self.write_named_headers(part, key, sink)?,
            Part::Form(name) => {
                let value = required(form_field(self.delivery, name, CONTENT)?, CONTENT)?;
                sink(self.guarded(part, &value)?);
            }
            Part::Query(name) => {
                let value = required(query_parameter(self.delivery, name, CONTENT)?, CONTENT)?;
                sink(self.guarded(part, &value)?);
            }
            Part::HashedBody(algorithm, Encoding::Hex) => {
                let digest = algorithm.of(self.delivery.body());
                let mut digits = [0; 128];
                let digits = digits.get_mut(..2 * digest.as_ref().len()).unwrap_or_default();
                const_hex::encode_to_slice(digest, digits).map_err(|_| CONTENT.malformed)?;
                sink(digits);
            }
            Part::HashedBody(algorithm, encoding) => {
                sink(encoding.encode(algorithm.of(self.delivery.body()).as_ref()).as_bytes());
            }
            Part::SortedFormParams => self.write_form(sink)?,
            Part::SortedForm(form) => {
                let is_form = form::is_form(self.delivery.headers());
                let body = is_form.then_some(self.delivery.body()).ok_or(CONTENT.malformed)?;
                form.write(body, sink).map_err(|error| CONTENT.of_form(error))?;
            }
            Part::JsonLines(lines) => self.write_lines(lines, sink)?,
            Part::Checksum => sink(crc32::of(self.delivery.body()).to_string().as_bytes()),
            // `write` has done the first; of the second a route makes a literal.
            Part::Json { .. } | Part::Route(_) => return Err(CONTENT.missing),
        }
        Ok(())
    }

    /// Each field with its name. No value but the first has a line end, or the fields could not be told apart.
    fn write_lines(&self, lines: &JsonLines, sink: &mut dyn FnMut(&[u8])) -> Result<(), Rejection> {
        let paths: Vec<&JsonPath> = lines.fields().iter().map(|field| &field.path).collect();
        let values = json_values(self.scheme, self.delivery, &paths, CONTENT)?;
        for (place, (field, found)) in lines.fields().iter().zip(values).enumerate() {
            let [value] = found.as_slice() else {
                if field.optional && found.is_empty() {
                    continue;
                }
                return Err(if found.is_empty() { CONTENT.missing } else { CONTENT.duplicate });
            };
            if place > 0 && value.contains(&b'\n') {
                return Err(Rejection::ContentAmbiguous);
            }
            self.scheme.check_value(field.path.text(), value)?;
            [field.path.text().as_bytes(), b"\n", value, b"\n"].into_iter().for_each(&mut *sink);
        }
        Ok(())
    }

    /// The value of a part, or a piece of it, if no guard forbids it.
    fn guarded<'v>(&self, part: &Part, value: &'v [u8]) -> Result<&'v [u8], Rejection> {
        self.scheme.guards.check(part, value).map(|()| value)
    }

    /// The method in capitals, as all that can be routed are: a URL after it begins with a small letter.
    fn method(&self) -> Result<&[u8], Rejection> {
        let method = self.delivery.method();
        if method.iter().all(|byte| boundaries::METHOD.has(*byte)) { Ok(method) } else { Err(CONTENT.malformed) }
    }

    fn url(&self, part: &Part) -> Result<&PublicUrl, Rejection> {
        let url = self.public_url.ok_or(CONTENT.missing)?;
        let varying = self.guarded(part, url.varying(self.delivery.target()))?;
        if *part == Part::UrlUnescaped && !url::has_one_meaning(varying) {
            return Err(Rejection::ContentAmbiguous);
        }
        Ok(url)
    }

    /// The values of the headers that a field of the signature names, joined by dots.
    fn write_named_headers(&self, part: &Part, key: &str, sink: &mut dyn FnMut(&[u8])) -> Result<(), Rejection> {
        let names = signature_field(self.scheme, self.delivery, key, CONTENT)?.ok_or(CONTENT.missing)?;
        let mut broken = Ok(());
        NamedHeaders::parse(names)?.write(self.delivery.headers(), &self.scheme.guards, &mut |piece| {
            broken = broken.and(self.scheme.guards.check(part, piece));
            sink(piece);
        })?;
        broken
    }

    /// An empty body has no parameters; any other must say that it is a form, or nothing of it would be covered.
    fn write_form(&self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Rejection> {
        let body = self.delivery.body();
        if body.is_empty() {
            return Ok(());
        }
        if !form::is_form(self.delivery.headers()) {
            return Err(CONTENT.malformed);
        }
        form::sorted(body, sink).map_err(|error| CONTENT.of_form(error))
    }
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

fn form_field<'d, D: Delivery>(
    delivery: &'d D,
    name: &str,
    reasons: Reasons,
) -> Result<Option<Cow<'d, [u8]>>, Rejection> {
    if let Some(boundary) = multipart::boundary(delivery.headers()) {
        return multipart::unique(delivery.body(), boundary, name).map_err(|error| reasons.of_form(error));
    }
    if !form::is_form(delivery.headers()) {
        return Err(reasons.missing);
    }
    form::unique(delivery.body(), name).map_err(|error| reasons.of_form(error))
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
fn document<'d, D: Delivery>(scheme: &Scheme, delivery: &'d D, reasons: Reasons) -> Result<Cow<'d, [u8]>, Rejection> {
    match &scheme.json_form {
        Some(name) => required(form_field(delivery, name, reasons)?, reasons),
        None => Ok(Cow::Borrowed(delivery.body())),
    }
}

fn json<'d, D: Delivery>(
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
fn json_values<'d, D: Delivery>(
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
fn only(found: Found<'_>, optional: bool) -> Result<Cow<'_, [u8]>, Rejection> {
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

fn signature_field<'d, D: Delivery>(
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

fn required<'d>(value: Option<Cow<'d, [u8]>>, reasons: Reasons) -> Result<Cow<'d, [u8]>, Rejection> {
    value.filter(|value| !value.is_empty()).ok_or(reasons.missing)
}
