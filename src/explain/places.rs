//! Words for the places of a request where something stands.

use super::case::TriedCase;
use crate::gate::verify::{Kind, SignatureSource, Source};

/// The words for where something stands.
pub(super) fn place_of(source: &Source) -> String {
    match source {
        Source::Headers(names) => format!("header `{}`", names.join("` or `")),
        Source::Field(key) => format!("the field `{key}` of the signature"),
        Source::Json(path) => format!("the JSON body at `{}`", path.text()),
        Source::Form(name) => format!("the form field `{name}`"),
        Source::Query(name) => format!("the query parameter `{name}`"),
        Source::Claim(name) => format!("the claim `{name}` of the token"),
    }
}

pub(super) fn place_of_signature(case: TriedCase<'_>) -> String {
    match &case.scheme.signature {
        SignatureSource::Headers(_) if case.scheme.kind == Kind::Basic => "the header `Authorization`".to_owned(),
        SignatureSource::Headers(names) => format!("the header `{}`", names.join("` or `")),
        SignatureSource::Json(path) => format!("the member `{}` of the JSON body", path.text()),
        SignatureSource::Form(name) => format!("the form field `{name}`"),
        SignatureSource::Query(name) => format!("the query parameter `{name}`"),
        SignatureSource::Body => "the body".to_owned(),
    }
}
