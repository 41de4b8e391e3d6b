//! What can be seen in a request without any trial: a header that is missing, a timestamp in no form.

use super::case::TriedCase;
use super::finding::NamedMistake;
use super::mistake::Mistake;
use super::signatures::{names, similar};
use crate::gate::verify::{Encoding, Kind, SignatureSource, Source, Syntax, inspect};
use crate::outcome::Rejection;

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

fn place_of_signature(case: TriedCase<'_>) -> String {
    match &case.scheme.signature {
        SignatureSource::Headers(_) if case.scheme.kind == Kind::Basic => "the header `Authorization`".to_owned(),
        SignatureSource::Headers(names) => format!("the header `{}`", names.join("` or `")),
        SignatureSource::Json(path) => format!("the member `{}` of the JSON body", path.text()),
        SignatureSource::Form(name) => format!("the form field `{name}`"),
        SignatureSource::Query(name) => format!("the query parameter `{name}`"),
        SignatureSource::Body => "the body".to_owned(),
    }
}

/// The mistake that a reason code alone, with a look at the request, names.
pub(super) fn seen(case: TriedCase<'_>, rejection: Rejection) -> Option<NamedMistake> {
    let place = place_of_signature(case);
    let found = |mistake: Mistake, details: &[&str]| Some(NamedMistake::new(mistake, details));
    match rejection {
        Rejection::SignatureMissing | Rejection::CredentialMissing => {
            let empty = names(case).iter().any(|name| case.seen.header(name) == Some(b""));
            if empty {
                return found(Mistake::HeaderEmpty, &[&place]);
            }
            let similar = similar(case);
            let instead = if similar.is_empty() { String::new() } else { format!(" (but `{}`)", similar.join("`, `")) };
            found(Mistake::HeaderMissing, &[&place, &instead])
        }
        Rejection::SignatureDuplicate => found(Mistake::HeaderTwice, &[&place]),
        Rejection::SignatureMalformed => Some(malformed(case)),
        Rejection::CredentialMismatch => found(Mistake::CredentialWrong, &[]),
        Rejection::HeaderRequired => {
            let missing =
                case.scheme.require.iter().find(|(name, value)| case.seen.header(name) != Some(value.as_bytes()));
            missing.and_then(|(name, value)| found(Mistake::HeaderRequired, &[name, value]))
        }
        Rejection::TimestampMissing | Rejection::TimestampDuplicate | Rejection::TimestampMalformed => {
            let timestamp = case.scheme.timestamp.as_ref()?;
            let place = place_of(&timestamp.source);
            match rejection {
                Rejection::TimestampMissing => found(Mistake::TimeMissing, &[&place]),
                Rejection::TimestampDuplicate => found(Mistake::HeaderTwice, &[&format!("the timestamp ({place})")]),
                _ => found(Mistake::TimeForm, &[&place, timestamp.unit.name()]),
            }
        }
        Rejection::IdMissing => found(Mistake::IdMissing, &[&place_of(case.scheme.id.as_ref()?)]),
        Rejection::IdDuplicate => {
            found(Mistake::HeaderTwice, &[&format!("the delivery id ({})", place_of(case.scheme.id.as_ref()?))])
        }
        Rejection::IdMalformed => {
            let source = case.scheme.id.as_ref()?;
            found(Mistake::IdForm, &[&place_of(source), &strange(case, source)])
        }
        _ => None,
    }
}

fn strange(case: TriedCase<'_>, source: &Source) -> String {
    match inspect::strange_in_id(case.scheme, source, &case.seen) {
        Some(byte) if case.scheme.content.separates(byte) => {
            format!("contains `{}`, which separates the parts of what is signed", byte.escape_ascii())
        }
        Some(byte) => format!("contains `{}`, which an id cannot have", byte.escape_ascii()),
        None => "is too long, or cannot be read".to_owned(),
    }
}

/// What is wrong with the form of the signature.
fn malformed(case: TriedCase<'_>) -> NamedMistake {
    let values = inspect::signature_values(case.scheme, &case.seen).unwrap_or_default();
    let syntax = &case.scheme.syntax;
    if let Some(text) = values.iter().find_map(|value| syntax.candidates(value).take(4).flatten().next()) {
        return of_text(case, text);
    }
    let wanted = match syntax {
        Syntax::Single { prefix } | Syntax::List { prefix, .. } => format!("does not begin with `{prefix}`"),
        Syntax::Pairs { keys, .. } => format!("has no pair with the key `{}`", keys.join("` or `")),
        Syntax::Items { first, .. } => format!("has no item behind the first {first}"),
    };
    NamedMistake::new(Mistake::HeaderForm, &[&wanted])
}

fn of_text(case: TriedCase<'_>, text: &[u8]) -> NamedMistake {
    let wanted = case.scheme.encoding;
    let length_of = |encoding: Encoding| inspect::decoded_length(encoding, text);
    let fits = |length: &usize| inspect::fits(case.scheme.kind, *length);
    let others = [Encoding::Hex, Encoding::Base64, Encoding::Base64Url];
    let other = others.into_iter().find(|other| *other != wanted && length_of(*other).is_some_and(|n| fits(&n)));
    match (other, length_of(wanted)) {
        (Some(other), _) => {
            let what = format!("is written in {}, but {} is expected", other.name(), wanted.name());
            NamedMistake::new(Mistake::HeaderForm, &[&what])
        }
        (None, Some(length)) => {
            // The base64 of hexadecimal digits is as long as the signature of another algorithm.
            let digits = super::text::base64(text).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
            if digits && wanted != Encoding::Hex {
                return NamedMistake::new(Mistake::HeaderForm, &["is the base64 of hexadecimal digits"]);
            }
            NamedMistake::new(Mistake::HeaderLength, &[&format!("{length} bytes{}", algorithm_of(length))])
        }
        (None, None) if text.is_empty() => NamedMistake::new(Mistake::HeaderForm, &["is empty"]),
        (None, None) => NamedMistake::new(Mistake::HeaderForm, &[&format!("is not valid {}", wanted.name())]),
    }
}

const fn algorithm_of(length: usize) -> &'static str {
    match length {
        20 => ", as SHA-1 has",
        32 => ", as SHA-256 has",
        48 => ", as SHA-384 has",
        64 => ", as SHA-512 and Ed25519 have",
        _ => ", which is the length of no algorithm",
    }
}
