//! Writes the signed content of a delivery: the parts of the scheme's template, one after the other, without a copy of the body.

use super::Delivery;
use super::boundaries;
use super::crc32;
use super::form;
use super::json::JsonPath;
use super::json_lines::JsonLines;
use super::named::NamedHeaders;
use super::reading::{
    CONTENT, ID, TIMESTAMP, form_field, id, json_values, only, query_parameter, required, signature_field, source,
};
use super::scheme::Scheme;
use super::signature::Encoding;
use super::template::Part;
use super::url::{self, PublicUrl};
use crate::outcome::Rejection;

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
