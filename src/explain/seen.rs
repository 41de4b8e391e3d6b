//! What can be seen in a request without any trial: a header that is missing, a timestamp in no form.

use super::case::TriedCase;
use super::finding::NamedMistake;
use super::mistake::Mistake;
use super::parts::{broken_part, broken_signature, broken_source};
use super::places::{place_of, place_of_signature};
use super::quoted::quoted;
use super::signatures::{names, similar};
use super::units::wrong_time;
use crate::gate::verify::{Encoding, Source, Syntax, inspect};
use crate::outcome::Rejection;

/// The mistake that a reason code alone, with a look at the request, names.
pub(super) fn seen(case: TriedCase<'_>, rejection: Rejection) -> Option<NamedMistake> {
    let place = place_of_signature(case);
    let found = |mistake: Mistake, details: &[&str]| Some(NamedMistake::new(mistake, details));
    let broken = broken(case, rejection);
    if broken.is_some() {
        return broken;
    }
    match rejection {
        Rejection::ContentUnavailable | Rejection::ContentAmbiguous | Rejection::ContentTooComplex => broken_part(case),
        Rejection::DigestMismatch => found(Mistake::ContentDigestOther, &[&case.scheme.body_digest.as_ref()?.query]),
        Rejection::CompressionUnreadable => found(Mistake::ContentCoding, &[&coding(case)]),
        Rejection::SignatureMissing | Rejection::CredentialMissing => {
            let empty = names(case).iter().any(|name| case.seen.header(name) == Some(b""));
            if empty {
                return found(Mistake::HeaderEmpty, &[&place]);
            }
            let similar = similar(case);
            let instead = if similar.is_empty() { String::new() } else { format!(" (but `{}`)", similar.join("`, `")) };
            let missing = NamedMistake::new(Mistake::HeaderMissing, &[&place, &instead]);
            let advice = (!similar.is_empty()).then(|| signed_elsewhere(case));
            Some(NamedMistake { advice, ..missing })
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
                _ => found(Mistake::TimeForm, &[&place, &wrong_time(case, timestamp)]),
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

/// What to do where the sender does sign, but not in the header of the scheme.
fn signed_elsewhere(case: TriedCase<'_>) -> String {
    let name = &case.scheme.name;
    format!(
        "the sender signs, so it has a secret: is `{name}` its scheme? If it is, a proxy on the way removes or renames the \
         header"
    )
}

/// A body or a query that cannot be read where the signature, the timestamp or the id stands.
fn broken(case: TriedCase<'_>, rejection: Rejection) -> Option<NamedMistake> {
    match rejection {
        Rejection::SignatureMissing | Rejection::SignatureMalformed | Rejection::ContentTooComplex => {
            broken_signature(case)
        }
        Rejection::TimestampMissing | Rejection::TimestampMalformed => {
            broken_source(case, &case.scheme.timestamp.as_ref()?.source)
        }
        Rejection::IdMissing | Rejection::IdMalformed => broken_source(case, case.scheme.id.as_ref()?),
        _ => None,
    }
}

/// Why a body cannot be decompressed.
fn coding(case: TriedCase<'_>) -> String {
    let Some(coding) = case.seen.header("Content-Encoding") else {
        return "Content-Encoding stands more than once".to_owned();
    };
    let shown = quoted(coding);
    let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
    let is_gzip = is("gzip") || is("x-gzip");
    if !is_gzip && !is("deflate") {
        return format!("Content-Encoding is `{shown}`");
    }
    if is_gzip && !case.seen.body.starts_with(&[0x1f, 0x8b]) {
        return format!("Content-Encoding says `{shown}`, and the body does not begin as that does");
    }
    format!("Content-Encoding says `{shown}`, and the body breaks off, is broken, or goes on behind its end")
}

fn strange(case: TriedCase<'_>, source: &Source) -> String {
    match inspect::strange_in_id(case.scheme, source, &case.seen) {
        Some(byte) if case.scheme.content.separates(byte) => {
            format!("contains `{}`, which separates the parts of what is signed", quoted([byte]))
        }
        Some(byte) => format!("contains `{}`, which an id cannot have", quoted([byte])),
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
