//! What a body was when it was signed, before something on its way read it and wrote it again: the usual changes, undone.

use super::case::{TriedCase, Visit};
use super::forms::{form_orders, forms};
use super::mistake::Mistake::{self, BodyByteOrderMark, BodyCharset, BodyLineEnd, BodyLineEnds, BodySpace, BodyString};
use super::opened;
use super::{json_keys, json_numbers, json_spelling, python, text};

/// Undoes a change, where there is something to undo.
struct Undoing {
    mistake: Mistake,
    details: &'static [&'static str],
    undo: fn(&[u8]) -> Option<Vec<u8>>,
}

const fn undoing(mistake: Mistake, details: &'static [&'static str], undo: fn(&[u8]) -> Option<Vec<u8>>) -> Undoing {
    Undoing { mistake, details, undo }
}

const LINE_ENDS: [Undoing; 5] = [
    undoing(BodyLineEnd, &["ends with a newline that was not signed"], |body| body.strip_suffix(b"\n").map(Vec::from)),
    undoing(BodyLineEnd, &["ends with a line break (CRLF) that was not signed"], |body| {
        body.strip_suffix(b"\r\n").map(Vec::from)
    }),
    undoing(BodyLineEnd, &["lacks the newline at its end"], |body| Some([body, b"\n"].concat())),
    undoing(BodyLineEnd, &["lacks the line break (CRLF) at its end"], |body| Some([body, b"\r\n"].concat())),
    undoing(BodySpace, &[], |body| Some(body.trim_ascii().to_vec())),
];

const UNDOINGS: [Undoing; 8] = [
    undoing(BodyByteOrderMark, &[], |body| body.strip_prefix(b"\xef\xbb\xbf").map(Vec::from)),
    undoing(BodyLineEnds, &["CRLF", "LF"], |body| body.contains(&b'\r').then(|| lines(body).join(&b"\n"[..]))),
    undoing(BodyLineEnds, &["LF", "CRLF"], |body| body.contains(&b'\n').then(|| lines(body).join(&b"\r\n"[..]))),
    undoing(BodyString, &[], |body| serde_json::from_slice::<String>(body).ok().map(String::into_bytes)),
    undoing(BodyString, &[], without_backslashes),
    undoing(Mistake::BodyBase64, &[], |body| if body.len() < 8 { None } else { text::base64(body) }),
    undoing(BodyCharset, &["is in Latin-1 where UTF-8 was signed"], from_latin_1),
    undoing(BodyCharset, &["has been encoded as UTF-8 twice"], encoded_once),
];

fn undone(case: TriedCase<'_>, visit: &mut Visit<'_>, undoings: &[Undoing]) -> bool {
    undoings.iter().any(|it| {
        if !case.pays(1) {
            return false;
        }
        let body = case.seen.body;
        let before = (it.undo)(body).filter(|before| before != body);
        before.is_some_and(|before| {
            case.known.budget.charge(before.len()) && visit(case.with_body(&before), it.mistake, it.details)
        })
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
    case.pays(4)
        && python::read(case.seen.body).iter().any(|body| visit(case.with_body(body), Mistake::BodyPython, &[]))
}

/// Fields of the events in which gateways and queues hand on a body.
const ENVELOPES: [&str; 8] = ["body", "rawBody", "payload", "data", "message", "Message", "content", "Body"];

fn envelopes(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if case.seen.body.trim_ascii_start().first() != Some(&b'{') || !case.pays(json_keys::COST) {
        return false;
    }
    let Some(tree) = json_keys::Tree::read(case.seen.body) else { return false };
    ENVELOPES.into_iter().any(|name| {
        let Some(raw) = tree.member(name) else { return false };
        if visit(case.with_body(raw), Mistake::BodyEnvelope, &[name]) {
            return true;
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
        && (json_spelling::spellings(case, visit)
            || json_keys::orders(case, visit)
            || json_numbers::numbers(case, visit))
}

/// The ways in which JSON is written again most often.
pub(super) fn frequent_json(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    signs_body(case) && case.seen.body.len() < 64 << 10 && json_spelling::layouts(case, visit)
}

pub(super) fn signs_body(case: TriedCase<'_>) -> bool {
    case.scheme.covers_body()
}

fn lines(body: &[u8]) -> Vec<&[u8]> {
    body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}

/// The inside of a string of JavaScript, read as if it stood in quotes.
fn without_backslashes(body: &[u8]) -> Option<Vec<u8>> {
    if !body.contains(&b'\\') || body.first() == Some(&b'"') {
        return None;
    }
    let quoted = [b"\"", body, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).ok().map(String::into_bytes)
}

fn from_latin_1(body: &[u8]) -> Option<Vec<u8>> {
    if core::str::from_utf8(body).is_ok() {
        return None;
    }
    Some(body.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes())
}

fn encoded_once(body: &[u8]) -> Option<Vec<u8>> {
    core::str::from_utf8(body).ok()?.chars().map(|character| u8::try_from(character).ok()).collect()
}
