//! Which part of what is signed cannot be read, and what is wrong with it, for schemes whose content is made of parsed parts.

use super::case::TriedCase;
use super::finding::NamedMistake;
use super::mistake::Mistake;
use super::places::{place_of, place_of_signature};
use super::quoted::{quoted, quoted_start};
use crate::gate::verify::flaws::{self, PartFlaw};
use crate::gate::verify::{Part, Source};

/// So many bytes of a broken escape are shown.
const SHOWN: usize = 3;
/// Names that are longer are cut where they are shown.
const NAME: usize = 40;

/// The first part of the content that cannot be written, or that a guard forbids.
pub(super) fn broken_part(case: TriedCase<'_>) -> Option<NamedMistake> {
    let (scheme, seen) = (case.scheme, &case.seen);
    let found = scheme.content.parts().iter().find_map(|part| {
        // The verdict has read the body as well: what it costs to look at it again is little beside the trials.
        let affordable = case.known.budget.searches(seen.body, 4);
        let flaw = if affordable { flaws::of_part(scheme, seen, case.url, part) } else { None };
        Some((part, flaw?))
    });
    if let Some((part, flaw)) = found {
        return Some(named(case, &place(case, part), flaw, matches!(part, Part::Query(_))));
    }
    body_guard(case)
}

/// What is wrong in the body, or the query, with the place of an id or a timestamp.
pub(super) fn broken_source(case: TriedCase<'_>, source: &Source) -> Option<NamedMistake> {
    let flaw = flaws::of_source(case.scheme, &case.seen, source)?;
    let is_plain = matches!(flaw, PartFlaw::Missing | PartFlaw::Twice | PartFlaw::NoScalar);
    (!is_plain).then(|| named(case, &place_of(source), flaw, matches!(source, Source::Query(_))))
}

/// The same of the signature.
pub(super) fn broken_signature(case: TriedCase<'_>) -> Option<NamedMistake> {
    use crate::gate::verify::SignatureSource;
    let flaw = flaws::of_signature(case.scheme, &case.seen)?;
    let in_query = matches!(case.scheme.signature, SignatureSource::Query(_));
    let is_plain = matches!(flaw, PartFlaw::Missing | PartFlaw::Twice);
    (!is_plain).then(|| named(case, &place_of_signature(case), flaw, in_query))
}

fn place(case: TriedCase<'_>, part: &Part) -> String {
    match part {
        Part::Header(name) => format!("the header `{name}`"),
        Part::Query(name) => format!("the query parameter `{name}`"),
        Part::Form(name) => format!("the form field `{name}`"),
        Part::SortedFormParams | Part::SortedForm(_) => "the form in the body".to_owned(),
        Part::Json { path, .. } => format!("the member `{}` of the JSON body", path.text()),
        Part::JsonLines(lines) => format!("the members `{lines}` of the JSON body"),
        Part::Route(name) => format!("the value `{name}` of the route"),
        Part::Field(key) => format!("the field `{key}` of the signature"),
        Part::NamedHeaders(key) => format!("one of the headers that the field `{key}` of the signature names"),
        Part::Method => format!("the method `{}`", quoted(case.seen.method)),
        Part::Url | Part::UrlUnescaped | Part::Path | Part::Target => "the URL".to_owned(),
        Part::Timestamp => case.scheme.timestamp.as_ref().map_or_else(String::new, |it| place_of(&it.source)),
        Part::Id => case.scheme.id.as_ref().map_or_else(String::new, place_of),
        Part::Literal(_) | Part::Body | Part::Checksum | Part::HashedBody(..) | Part::Secret => "the body".to_owned(),
    }
}

const BYTE_FOR_BYTE: &str =
    "pass the request on byte for byte: no sender writes this, so something on its way has changed it";
const OF_SENDER: &str = "is the scheme the sender's? It signs this part of every delivery; if it is, look what removes it on \
                         the way";

fn named(case: TriedCase<'_>, place: &str, flaw: PartFlaw, in_query: bool) -> NamedMistake {
    let (what, advice) = match flaw {
        PartFlaw::Missing => ("is missing or empty, and it is signed".to_owned(), OF_SENDER),
        PartFlaw::Twice => {
            ("stands more than once, and it is signed".to_owned(), "let the sender, or what is in front, send it once")
        }
        PartFlaw::NoForm => (
            format!("cannot be read: {}", content_type(case)),
            "let nothing on the way change Content-Type; where the sender sends JSON, choose its scheme for JSON",
        ),
        PartFlaw::Escape { at } => (escape(case, at, in_query), BYTE_FOR_BYTE),
        PartFlaw::NoJson { line, column } => {
            (format!("cannot be read: the JSON breaks off or is broken at line {line}, column {column}"), BYTE_FOR_BYTE)
        }
        PartFlaw::NoScalar => ("is neither a text nor a number nor true or false".to_owned(), OF_SENDER),
        PartFlaw::TooComplex => (
            "is nested too deeply, or has too many values".to_owned(),
            "genuine deliveries nest a few levels and have few values: an attacker may have made this one",
        ),
        PartFlaw::Forbidden => (
            "has a value that could be taken for a part of what stands beside it in what is signed".to_owned(),
            "if the delivery is genuine, the `guard` of the scheme does not fit the sender: `countersign schemes NAME` \
             shows it",
        ),
        PartFlaw::Unreadable => ("is not in its form".to_owned(), BYTE_FOR_BYTE),
    };
    NamedMistake { advice: Some(advice.to_owned()), ..NamedMistake::new(Mistake::ContentPart, &[place, &what]) }
}

fn content_type(case: TriedCase<'_>) -> String {
    match case.seen.header("Content-Type") {
        Some(value) => format!("Content-Type is `{}`, which is no form", cut(value)),
        None => "Content-Type is missing or stands twice, so the body is no form".to_owned(),
    }
}

/// Where a percent sign stands that begins no escape: the byte, counted from 1, and the field.
fn escape(case: TriedCase<'_>, at: usize, in_query: bool) -> String {
    let target = case.seen.target;
    let query = || target.iter().position(|byte| *byte == b'?').and_then(|mark| target.get(mark + 1..));
    let text = if in_query { query().unwrap_or_default() } else { case.seen.body };
    let (before, from) = text.split_at(at.min(text.len()));
    let start = memchr::memrchr(b'&', before).map_or(0, |start| start + 1);
    let field = before.get(start..).unwrap_or_default();
    let name = field.split(|byte| *byte == b'=').next().unwrap_or_default();
    let shown = quoted(from.get(..SHOWN.min(from.len())).unwrap_or_default());
    let whose = if name.is_empty() { String::new() } else { format!(" (in the field `{}`)", cut(name)) };
    let whole = if in_query { "query" } else { "body" };
    format!("cannot be read: `{shown}` at byte {} of the {whole}{whose} is no percent-escape", at + 1)
}

fn cut(text: &[u8]) -> String {
    quoted_start(text, NAME)
}

/// A body that does not begin or end as the scheme asks for.
fn body_guard(case: TriedCase<'_>) -> Option<NamedMistake> {
    let guards = &case.scheme.guards;
    let (first, last) = (case.seen.body.first()?, case.seen.body.last()?);
    let wrong = |byte: &u8, verb: &str| format!("{verb} with `{}`", quoted([*byte]));
    let begins = guards.begins.filter(|bytes| !bytes.has(*first));
    let ends = guards.ends.filter(|bytes| !bytes.has(*last));
    let (what, bytes) = begins
        .map(|bytes| (wrong(first, "begins"), bytes))
        .or_else(|| ends.map(|bytes| (wrong(last, "ends"), bytes)))?;
    let what = format!("{what}, and the scheme takes only bodies with `{bytes}` there");
    let advice =
        "pass the body on byte for byte; if the delivery is genuine, the `guard` of the scheme does not fit the sender";
    Some(NamedMistake {
        advice: Some(advice.to_owned()),
        ..NamedMistake::new(Mistake::ContentPart, &["the body", &what])
    })
}
