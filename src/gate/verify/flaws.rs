//! What is wrong with a part of the signed content, or with the place of a signature, an id or a timestamp: more than the
//! reason of the refusal says. Only for explanations; no verdict rests on it.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::Delivery;
use super::content::Content;
use super::form;
use super::json::{JsonError, JsonPath};
use super::multipart;
use super::reading;
use super::scheme::{Scheme, SignatureSource, Source};
use super::template::Part;
use super::url::PublicUrl;
use crate::outcome::Rejection;

/// What is wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartFlaw {
    /// It is not there, or is empty.
    Missing,
    /// It stands more than once.
    Twice,
    /// The content type does not say that the body is a form.
    NoForm,
    /// The percent sign at this byte has no two hexadecimal digits behind it, counted from 0.
    Escape {
        /// Where it stands in the form or the query.
        at: usize,
    },
    /// From here on the body is not JSON; both are counted from 1.
    NoJson {
        /// The line.
        line: usize,
        /// The byte in it.
        column: usize,
    },
    /// It is neither a text nor a number nor a boolean.
    NoScalar,
    /// There is more than is read, or it is nested too deeply.
    TooComplex,
    /// A guard of the scheme forbids its value, or it could be taken for a part of its neighbour.
    Forbidden,
    /// It is not in its form.
    Unreadable,
}

/// What is wrong with `part`; nothing where it can be written.
pub(crate) fn of_part<D: Delivery>(
    scheme: &Scheme,
    delivery: &D,
    public_url: Option<&PublicUrl>,
    part: &Part,
) -> Option<PartFlaw> {
    let content = Content { scheme, delivery, public_url, secret: &[] };
    let rejection = content.write(core::slice::from_ref(part), &mut |_| {}).err()?;
    let closer = match part {
        Part::Header(name) => of_header(delivery, name),
        Part::Query(name) => of_form(form::query(delivery.target()).unwrap_or_default(), name),
        Part::Form(name) => of_field(delivery, name),
        Part::SortedFormParams | Part::SortedForm(_) => of_whole_form(delivery),
        Part::Json { path, .. } => of_json(scheme, delivery, path),
        Part::Field(_) => Some(PartFlaw::Missing),
        _ => None,
    };
    Some(match rejection {
        Rejection::ContentTooComplex => PartFlaw::TooComplex,
        Rejection::ContentAmbiguous => PartFlaw::Forbidden,
        _ => closer.unwrap_or(PartFlaw::Unreadable),
    })
}

/// What is wrong with the place where an id or a timestamp stands, where that is in the body or in the query.
pub(crate) fn of_source<D: Delivery>(scheme: &Scheme, delivery: &D, source: &Source) -> Option<PartFlaw> {
    match source {
        Source::Json(path) => of_json(scheme, delivery, path),
        Source::Form(name) => of_field(delivery, name),
        Source::Query(name) => of_form(form::query(delivery.target()).unwrap_or_default(), name),
        Source::Headers(_) | Source::Field(_) | Source::Claim(_) => None,
    }
}

/// The same of the signature.
pub(crate) fn of_signature<D: Delivery>(scheme: &Scheme, delivery: &D) -> Option<PartFlaw> {
    match &scheme.signature {
        SignatureSource::Json(path) if path.has_each() => no_json(delivery.body()),
        SignatureSource::Json(path) => of_json(scheme, delivery, path),
        SignatureSource::Form(name) => of_field(delivery, name),
        SignatureSource::Query(name) => of_form(form::query(delivery.target()).unwrap_or_default(), name),
        SignatureSource::Headers(_) | SignatureSource::Body => None,
    }
}

fn of_header<D: Delivery>(delivery: &D, name: &str) -> Option<PartFlaw> {
    match delivery.headers().unique(name) {
        Ok(None) => Some(PartFlaw::Missing),
        Ok(Some(_)) => None,
        Err(_) => Some(PartFlaw::Twice),
    }
}

fn of_field<D: Delivery>(delivery: &D, name: &str) -> Option<PartFlaw> {
    let is_in_query = form::query(delivery.target()).is_some_and(|query| form::mentions(query, name.as_bytes()));
    of_body(delivery, name).or(is_in_query.then_some(PartFlaw::Twice))
}

fn of_body<D: Delivery>(delivery: &D, name: &str) -> Option<PartFlaw> {
    if let Some(boundary) = multipart::boundary(delivery.headers()) {
        return match multipart::unique(delivery.body(), boundary, name) {
            Ok(value) => value.is_none_or(|value| value.is_empty()).then_some(PartFlaw::Missing),
            Err(form::FormError::Duplicate) => Some(PartFlaw::Twice),
            Err(form::FormError::TooComplex) => Some(PartFlaw::TooComplex),
            Err(_) => Some(PartFlaw::Unreadable),
        };
    }
    if !form::is_form(delivery.headers()) {
        return Some(PartFlaw::NoForm);
    }
    of_form(delivery.body(), name)
}

fn of_form(text: &[u8], name: &str) -> Option<PartFlaw> {
    match form::unique(text, name) {
        Ok(value) => value.is_none_or(|value| value.is_empty()).then_some(PartFlaw::Missing),
        Err(form::FormError::Duplicate) => Some(PartFlaw::Twice),
        Err(form::FormError::TooComplex) => Some(PartFlaw::TooComplex),
        Err(_) => Some(broken_escape(text).map_or(PartFlaw::Unreadable, |at| PartFlaw::Escape { at })),
    }
}

fn of_whole_form<D: Delivery>(delivery: &D) -> Option<PartFlaw> {
    if !form::is_form(delivery.headers()) {
        return Some(PartFlaw::NoForm);
    }
    broken_escape(delivery.body()).map(|at| PartFlaw::Escape { at })
}

/// The first percent sign without two hexadecimal digits behind it.
fn broken_escape(text: &[u8]) -> Option<usize> {
    let sound = |at: usize| text.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    memchr::memchr_iter(b'%', text).find(|at| !sound(*at))
}

fn of_json<D: Delivery>(scheme: &Scheme, delivery: &D, path: &JsonPath) -> Option<PartFlaw> {
    let document = match &scheme.json_form {
        Some(name) => {
            let flaw = of_field(delivery, name);
            if flaw.is_some() {
                return flaw;
            }
            reading::source(scheme, &Source::Form(name.clone()), delivery, reading::CONTENT).ok()??
        }
        None => Cow::Borrowed(delivery.body()),
    };
    match path.find(&document) {
        Ok(value) => value.is_none_or(|value| value.is_empty()).then_some(PartFlaw::Missing),
        Err(JsonError::Duplicate) => Some(PartFlaw::Twice),
        Err(JsonError::TooComplex) => Some(PartFlaw::TooComplex),
        Err(JsonError::Malformed) => Some(no_json(&document).unwrap_or(PartFlaw::NoScalar)),
    }
}

/// Where a text stops to be JSON.
fn no_json(text: &[u8]) -> Option<PartFlaw> {
    let error = serde_json::from_slice::<IgnoredAny>(text).err()?;
    Some(PartFlaw::NoJson { line: error.line(), column: error.column() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::for_tests::*;
    use super::*;

    fn flaw(part: &str, target: &str, content_type: &str, body: &str) -> Option<PartFlaw> {
        let scheme = Scheme { content: template(&format!("{{{part}}}")), ..github() };
        let request = Request::post(body.as_bytes()).with("Content-Type", content_type).with("X-A", "1");
        let request = Request { target: target.to_owned(), ..request.with("X-B", "1").with("X-B", "2") };
        of_part(&scheme, &request, None, &Part::named(part).unwrap())
    }

    #[test]
    fn what_is_wrong_with_a_part_is_told() {
        let (form, json) = ("application/x-www-form-urlencoded", "application/json");
        let cases = [
            ("header:X-A", "/", json, "{}", None),
            ("header:X-C", "/", json, "{}", Some(PartFlaw::Missing)),
            ("header:X-B", "/", json, "{}", Some(PartFlaw::Twice)),
            ("query:a", "/?b=1", json, "{}", Some(PartFlaw::Missing)),
            ("query:a", "/?b=%2&a=1", json, "{}", Some(PartFlaw::Escape { at: 2 })),
            ("query:a", "/?a=1&a=2", json, "{}", Some(PartFlaw::Twice)),
            ("form:a", "/", json, "a=1", Some(PartFlaw::NoForm)),
            ("form:a", "/", form, "b=1", Some(PartFlaw::Missing)),
            ("form:a", "/", form, "a=1&b=%zz", Some(PartFlaw::Escape { at: 6 })),
            ("sorted_form_params", "/", json, "a=1", Some(PartFlaw::NoForm)),
            ("sorted_form_params", "/", form, "a=1%", Some(PartFlaw::Escape { at: 3 })),
            ("sorted_form:=&", "/", form, "a=", Some(PartFlaw::Forbidden)),
            ("json:a.b", "/", json, "{\"a\":{\"b\":1},}", Some(PartFlaw::NoJson { line: 1, column: 14 })),
            ("json:a.b", "/", json, "{\"a\":{\"b\":{}}}", Some(PartFlaw::NoScalar)),
            ("json:a.b", "/", json, "{\"a\":{}}", Some(PartFlaw::Missing)),
            ("json:a.b", "/", json, "{\"a\":{\"b\":1.5}}", None),
        ];
        for (part, target, content_type, body, wanted) in cases {
            assert_eq!(flaw(part, target, content_type, body), wanted, "{part} {body}");
        }
    }
}
