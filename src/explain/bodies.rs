//! What a body was when it was signed, before something on its way read it and wrote it again: the usual changes, undone.

use std::borrow::Cow;

use super::case::{TriedCase, Visit};
use super::forms::{form_orders, forms};
use super::mistake::Mistake::{self, BodyByteOrderMark, BodyCharset, BodyLineEnd, BodyLineEnds, BodySpace, BodyString};
use super::opened;
use super::{json_keys, json_numbers, json_spelling, python, text};

/// Undoes a change, where there is something to undo.
struct Undoing {
    mistake: Mistake,
    details: &'static [&'static str],
    /// Whether that can have happened: a look that costs little.
    applies: fn(&[u8]) -> bool,
    undo: fn(&[u8]) -> Option<Cow<'_, [u8]>>,
}

const fn at_end(
    details: &'static [&'static str],
    applies: fn(&[u8]) -> bool,
    undo: fn(&[u8]) -> Option<Cow<'_, [u8]>>,
) -> Undoing {
    Undoing { mistake: BodyLineEnd, details, applies, undo }
}

fn longer<'n>(body: &[u8], end: &[u8]) -> Option<Cow<'n, [u8]>> {
    Some(Cow::Owned([body, end].concat()))
}

/// The end of a body without `end`, and `instead` in its place.
fn other_end<'n>(body: &[u8], end: &[u8], instead: &[u8]) -> Option<Cow<'n, [u8]>> {
    longer(body.strip_suffix(end)?, instead)
}

const LINE_ENDS: [Undoing; 10] = [
    at_end(
        &["ends with a newline that was not signed"],
        |body| body.ends_with(b"\n"),
        |body| body.strip_suffix(b"\n").map(Cow::Borrowed),
    ),
    at_end(
        &["ends with a line break (CRLF) that was not signed"],
        |body| body.ends_with(b"\r\n"),
        |body| body.strip_suffix(b"\r\n").map(Cow::Borrowed),
    ),
    at_end(
        &["has lost the `\\n` of the `\\r\\n` at its end"],
        |body| body.ends_with(b"\r"),
        |body| longer(body, b"\n"),
    ),
    at_end(
        &["ends with a `\\r` that was not signed"],
        |body| body.ends_with(b"\r"),
        |body| body.strip_suffix(b"\r").map(Cow::Borrowed),
    ),
    at_end(
        &["ends with `\\r\\n` where `\\n` was signed"],
        |body| body.ends_with(b"\r\n"),
        |body| other_end(body, b"\r\n", b"\n"),
    ),
    at_end(
        &["ends with `\\n` where `\\r\\n` was signed"],
        |body| body.ends_with(b"\n"),
        |body| other_end(body, b"\n", b"\r\n"),
    ),
    at_end(
        &["ends with a zero byte that was not signed"],
        |body| body.ends_with(b"\0"),
        |body| body.strip_suffix(b"\0").map(Cow::Borrowed),
    ),
    at_end(&["lacks the newline at its end"], |_| true, |body| longer(body, b"\n")),
    at_end(&["lacks the line break (CRLF) at its end"], |_| true, |body| longer(body, b"\r\n")),
    Undoing {
        mistake: BodySpace,
        details: &[],
        applies: |body| body.trim_ascii().len() < body.len(),
        undo: |body| Some(Cow::Borrowed(body.trim_ascii())),
    },
];

fn has(body: &[u8], byte: u8) -> bool {
    memchr::memchr(byte, body).is_some()
}

/// Whether the beginning of a body is of base64.
fn begins_in_base64(body: &[u8]) -> bool {
    let start = body.get(..body.len().min(64)).unwrap_or_default();
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_= \t\r\n".contains(byte);
    body.len() >= 8 && start.iter().all(known)
}

const fn line_ends_of(details: &'static [&'static str], mark: u8, undo: fn(&[u8]) -> Option<Cow<'_, [u8]>>) -> Undoing {
    let applies: fn(&[u8]) -> bool = if mark == b'\r' { |body| has(body, b'\r') } else { |body| has(body, b'\n') };
    Undoing { mistake: BodyLineEnds, details, applies, undo }
}

const UNDOINGS: [Undoing; 10] = [
    Undoing {
        mistake: BodyByteOrderMark,
        details: &[],
        applies: |body| body.starts_with(b"\xef\xbb\xbf"),
        undo: |body| body.strip_prefix(b"\xef\xbb\xbf").map(Cow::Borrowed),
    },
    line_ends_of(&["CRLF or CR", "LF"], b'\r', |body| Some(Cow::Owned(with_line_ends(body, b"\n")))),
    line_ends_of(&["LF", "CRLF"], b'\n', |body| Some(Cow::Owned(with_line_ends(body, b"\r\n")))),
    line_ends_of(&["CR", "CRLF"], b'\r', |body| Some(Cow::Owned(with_line_ends(body, b"\r\n")))),
    line_ends_of(&["LF or CRLF", "CR"], b'\n', |body| Some(Cow::Owned(with_line_ends(body, b"\r")))),
    Undoing {
        mistake: BodyString,
        details: &[],
        applies: |body| body.trim_ascii_start().first() == Some(&b'"'),
        undo: |body| serde_json::from_slice::<String>(body).ok().map(|text| Cow::Owned(text.into_bytes())),
    },
    Undoing {
        mistake: BodyString,
        details: &[],
        applies: |body| body.first() != Some(&b'"') && has(body, b'\\'),
        undo: without_backslashes,
    },
    Undoing {
        mistake: Mistake::BodyBase64,
        details: &[],
        applies: begins_in_base64,
        undo: |body| text::base64(body).map(Cow::Owned),
    },
    Undoing {
        mistake: BodyCharset,
        details: &["is in Latin-1 where UTF-8 was signed"],
        applies: |body| core::str::from_utf8(body).is_err(),
        undo: |body| Some(Cow::Owned(body.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes())),
    },
    Undoing {
        mistake: BodyCharset,
        details: &["has been encoded as UTF-8 twice"],
        applies: |body| !body.is_ascii(),
        undo: encoded_once,
    },
];

/// How many times an undoing goes through the body.
const PASSES: usize = 2;

fn undone(case: TriedCase<'_>, visit: &mut Visit<'_>, undoings: &[Undoing]) -> bool {
    let (body, budget) = (case.seen.body, case.known.budget);
    undoings.iter().any(|it| {
        if !budget.searches(body, 1) || !(it.applies)(body) || !budget.spend(body.len()) {
            return false;
        }
        // What is at the ends costs no look at all of it.
        let before = if it.mistake == BodyLineEnd || case.pays(PASSES) { (it.undo)(body) } else { None };
        before.is_some_and(|before| *before != *body && visit(case.with_body(&before), it.mistake, it.details))
    })
}

/// Newlines and white space around the body.
pub(super) fn line_ends(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    signs_body(case) && undone(case, visit, &LINE_ENDS)
}

/// What was encoded, escaped, wrapped or compressed on the way.
pub(super) fn wrappings(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if !signs_body(case) {
        return false;
    }
    if undone(case, visit, &UNDOINGS) || python(case, visit) {
        return true;
    }
    if let Some((opened, how)) = opened::decompressed(case.seen.body, case.known.budget)
        && visit(case.with_body(&opened), Mistake::BodyCompressed, &[how])
    {
        return true;
    }
    envelopes(case, visit) || forms(case, visit) || form_orders(case, visit)
}

fn python(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    python::may_be_it(case.seen.body)
        && case.pays(4)
        && python::read(case.seen.body).iter().any(|body| visit(case.with_body(body), Mistake::BodyPython, &[]))
}

/// Fields of the events in which gateways and queues hand on a body.
const ENVELOPES: [&str; 8] = ["body", "rawBody", "payload", "data", "message", "Message", "content", "Body"];

fn envelopes(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if case.seen.body.trim_ascii_start().first() != Some(&b'{') || !json_keys::pays(case) {
        return false;
    }
    let Some(tree) = json_keys::Tree::read(case.seen.body) else { return false };
    ENVELOPES.into_iter().any(|name| {
        let Some(raw) = tree.member(name) else { return false };
        if visit(case.with_body(raw), Mistake::BodyEnvelope, &[name]) {
            return true;
        }
        if !case.known.budget.steps(raw, PASSES) {
            return false;
        }
        let Ok(inner) = serde_json::from_slice::<String>(raw) else { return false };
        visit(case.with_body(inner.as_bytes()), Mistake::BodyEnvelope, &[name])
            || text::base64(inner.as_bytes())
                .is_some_and(|inner| visit(case.with_body(&inner), Mistake::BodyEnvelope, &[name]))
    })
}

/// JSON written in another way, as far as that can be tried.
pub(super) fn json(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    signs_body(case)
        && may_be_rewritten(case)
        && (json_spelling::spellings(case, visit)
            || json_keys::orders(case, visit)
            || json_numbers::numbers(case, visit))
}

/// A body that is longer has to be JSON for what writes JSON again to be tried.
const LONGEST_UNREAD: usize = 64 << 10;

/// Whether something that writes JSON can have written the body. A long one that is none costs one look instead of many.
fn may_be_rewritten(case: TriedCase<'_>) -> bool {
    let body = case.seen.body;
    body.len() <= LONGEST_UNREAD
        || (case.pays(PASSES) && serde_json::from_slice::<&serde_json::value::RawValue>(body).is_ok())
}

/// The ways in which long JSON is written again most often, before the trials that hash all of it many times.
pub(super) fn long_json(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let is_long = case.seen.body.len() > LONGEST_UNREAD;
    is_long && signs_body(case) && may_be_rewritten(case) && json_spelling::frequent(case, visit)
}

/// The ways in which JSON is written again most often.
pub(super) fn frequent_json(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    signs_body(case) && case.seen.body.len() < 64 << 10 && json_spelling::layouts(case, visit)
}

pub(super) fn signs_body(case: TriedCase<'_>) -> bool {
    case.scheme.covers_body()
}

/// The body with its line breaks (CRLF, LF and CR) written in one way.
pub(super) fn with_line_ends(body: &[u8], end: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut rest = body;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, from) = rest.split_at(at);
        out.extend_from_slice(line);
        out.extend_from_slice(end);
        let after = from.strip_prefix(b"\r\n").or_else(|| from.get(1..));
        rest = after.unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// The inside of a string of JavaScript, read as if it stood in quotes.
fn without_backslashes(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let quoted = [b"\"", body, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).ok().map(|text| Cow::Owned(text.into_bytes()))
}

fn encoded_once(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let characters = core::str::from_utf8(body).ok()?.chars();
    characters.map(|character| u8::try_from(character).ok()).collect::<Option<Vec<u8>>>().map(Cow::Owned)
}
