//! Where a body ends, and where it should: by its Content-Length, by its chunks, and by what it holds.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::bodies::{signs_body, with_line_ends};
use super::body_end::BodyEnd;
use super::case::{TriedCase, Visit};
use super::finding::NamedMistake;
use super::mistake::Mistake;
use super::quoted::quoted;
use crate::gate::verify::{Part, Scheme};

/// So many bytes, in words.
pub(super) fn bytes(number: usize) -> String {
    if number == 1 { "1 byte".to_owned() } else { format!("{number} bytes") }
}

/// What Content-Length says, where it says one thing and nothing else frames the body (RFC 9112 section 6.3).
fn declared(case: TriedCase<'_>) -> Option<usize> {
    if case.seen.headers.all("Transfer-Encoding").next().is_some() {
        return None;
    }
    let value = case.seen.header("Content-Length")?;
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// A way to end a body otherwise, with the words for it.
type OtherEnd = (fn(&[u8]) -> Option<Cow<'_, [u8]>>, &'static str);

/// What editors change of a body.
const EDITED: [OtherEnd; 5] = [
    (|whole| Some(Cow::Borrowed(whole)), ""),
    (|whole| whole.strip_suffix(b"\n").map(Cow::Borrowed), " but the newline at the end"),
    (|whole| whole.strip_suffix(b"\r\n").map(Cow::Borrowed), " but the line break (CRLF) at the end"),
    (|whole| Some(Cow::Borrowed(whole.trim_ascii_end())), " but the white space at the end"),
    (
        |whole| whole.contains(&b'\r').then(|| Cow::Owned(with_line_ends(whole, b"\n"))),
        ", with LF line breaks for CRLF",
    ),
];

/// All bytes that follow the head, where Content-Length says fewer; as many as it says, where the body has more.
pub(super) fn lengths(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    if !signs_body(case) {
        return false;
    }
    if let Some(said) = declared(case).filter(|said| *said < body.len()) {
        let extra = bytes(body.len() - said);
        return visit(case.with_body(body.get(..said).unwrap_or_default()), Mistake::BodyExtra, &[&extra]);
    }
    let BodyEnd::Beyond(whole) = case.known.end else { return false };
    let said = bytes(body.len());
    EDITED.iter().any(|(edit, but)| {
        if !case.known.budget.spend(whole.len()) {
            return false;
        }
        let Some(longer) = edit(whole).filter(|it| **it != *body) else { return false };
        let over = format!("all {} that follow in the capture{but}", bytes(whole.len()));
        visit(case.with_body(&longer), Mistake::BodyLeftOut, &[&said, &over])
    })
}

/// All bytes that follow the head, for what may have happened to them beside.
pub(super) fn whole(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let BodyEnd::Beyond(whole) = case.known.end else { return false };
    let (said, over) = (bytes(case.seen.body.len()), format!("all {} that follow in the capture", bytes(whole.len())));
    signs_body(case) && visit(case.with_body(whole), Mistake::BodyLeftOut, &[&said, &over])
}

/// Whether a part of the body is signed, or all of it.
pub(super) fn reads_body(scheme: &Scheme) -> bool {
    let is_of_body = |part: &Part| matches!(part, Part::Form(_) | Part::Json { .. } | Part::JsonLines(_));
    scheme.covers_body() || scheme.content.any(is_of_body)
}

/// A body that is shorter than its framing says.
pub(super) fn lacking(case: TriedCase<'_>) -> Option<NamedMistake> {
    if let BodyEnd::Broken(words) = case.known.end {
        return Some(NamedMistake::new(Mistake::BodyChunks, &[words]));
    }
    let there = case.seen.body.len();
    let said = declared(case).filter(|said| *said > there)?;
    let what = match there {
        0 => format!("is missing: Content-Length says {}, and none are there", bytes(said)),
        _ if is_whole_json(case) => {
            let shorter = bytes(said - there);
            format!("is {shorter} shorter than the {said} that Content-Length says: it was changed, or cut")
        }
        _ => format!("lacks {} at its end: it has {there} of the {said} that Content-Length says", bytes(said - there)),
    };
    Some(NamedMistake::new(Mistake::BodyShort, &[&what]))
}

/// Whether the body is JSON to its end: then it may be short, but it was not cut.
pub(super) fn is_whole_json(case: TriedCase<'_>) -> bool {
    matches!(case.seen.body.trim_ascii(), [b'{', .., b'}'] | [b'[', .., b']'])
}

/// What follows the end of the body by its Content-Length, where that is more than white space and not another request.
pub(super) fn beyond(case: TriedCase<'_>) -> Option<NamedMistake> {
    let BodyEnd::Beyond(whole) = case.known.end else { return None };
    let rest = whole.get(case.seen.body.len()..)?;
    let first = rest.get(..rest.len().min(128)).unwrap_or_default();
    let is_request = memchr::memmem::find(first, b" HTTP/1.").is_some();
    if is_request || rest.trim_ascii().is_empty() {
        return None;
    }
    Some(NamedMistake::new(Mistake::BodyLength, &[&bytes(case.seen.body.len()), &bytes(rest.len())]))
}

/// What a body is by its looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TextForm {
    Json,
    Form,
    Multipart,
    Xml,
}

fn form_of(case: TriedCase<'_>, trimmed: &[u8]) -> Option<TextForm> {
    let content_type = case.seen.header("Content-Type").unwrap_or_default();
    match trimmed.first()? {
        b'{' | b'[' => Some(TextForm::Json),
        b'-' if content_type.to_ascii_lowercase().starts_with(b"multipart/") => Some(TextForm::Multipart),
        b'<' => Some(TextForm::Xml),
        _ if content_type.to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded") => {
            Some(TextForm::Form)
        }
        first if first.is_ascii_alphanumeric() && content_type.is_empty() => {
            let start = trimmed.get(..trimmed.len().min(64)).unwrap_or_default();
            start.contains(&b'=').then_some(TextForm::Form)
        }
        _ => None,
    }
}

/// A body that is cut, or that has bytes that no text of its kind has.
pub(super) fn looks_of_end(case: TriedCase<'_>) -> Option<NamedMistake> {
    let trimmed = case.seen.body.trim_ascii();
    let form = form_of(case, trimmed)?;
    if !case.known.budget.searches(trimmed, 2) {
        return None;
    }
    // Files in a form may have any bytes.
    if form == TextForm::Multipart {
        return (!is_closed_multipart(case, trimmed)).then(|| cut_in(case, "its multipart form"));
    }
    if let Err(error) = core::str::from_utf8(trimmed) {
        let at = error.valid_up_to();
        return Some(match error.error_len() {
            // A character that has begun where one may stand, and no byte that contradicts it.
            None if trimmed.len() == case.seen.body.len() && may_have_character(form, trimmed) => {
                cut_in(case, "a character")
            }
            _ => {
                let byte = trimmed.get(at).copied().unwrap_or_default();
                NamedMistake::new(Mistake::BodyBytes, &[&misplaced(case, byte, at + 1)])
            }
        });
    }
    match form {
        TextForm::Json => looks_of_json(case, trimmed),
        TextForm::Form => match trimmed {
            [.., b'%'] => Some(cut_in(case, "a percent-escape")),
            [.., b'%', digit] if digit.is_ascii_hexdigit() => Some(cut_in(case, "a percent-escape")),
            _ => None,
        },
        TextForm::Multipart => None,
        TextForm::Xml => (trimmed.last() != Some(&b'>')).then(|| cut_in(case, "its XML")),
    }
}

/// Whether a character beyond ASCII may stand at the end: in JSON within strings alone.
fn may_have_character(form: TextForm, text: &[u8]) -> bool {
    form != TextForm::Json || opened(text).0
}

/// Whether the boundary that the body begins with stands at its end, too, as the last one (RFC 2046 section 5.1.1).
fn is_closed_multipart(case: TriedCase<'_>, trimmed: &[u8]) -> bool {
    let first = trimmed.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
    let last = [first, b"--"].concat();
    !case.known.budget.searches(trimmed, 2) || memchr::memmem::rfind(trimmed, &last).is_some()
}

fn looks_of_json(case: TriedCase<'_>, text: &[u8]) -> Option<NamedMistake> {
    if !case.pays(2) {
        return None;
    }
    let error = serde_json::from_slice::<&RawValue>(text).err()?;
    if error.is_eof() || breaks_off_in_number(case, text, &error) {
        return is_open(text).then(|| cut_in(case, "its JSON"));
    }
    let before: usize = text.split(|byte| *byte == b'\n').take(error.line() - 1).map(|line| line.len() + 1).sum();
    let at = before + error.column();
    let byte = *text.get(at.checked_sub(1)?)?;
    // What is unreadable from its beginning was never JSON.
    (at > 2).then(|| NamedMistake::new(Mistake::BodyBroken, &[&misplaced(case, byte, at)]))
}

/// Whether a digit more makes an error at the end one of JSON that goes on: a number that ends with a point or an exponent
/// is an error for the parser, and a cut for us.
fn breaks_off_in_number(case: TriedCase<'_>, text: &[u8], error: &serde_json::Error) -> bool {
    let at_end = matches!(text.last(), Some(b'.' | b'-' | b'+' | b'e' | b'E'));
    let longer = || [text, b"0"].concat();
    !error.is_eof()
        && at_end
        && case.pays(2)
        && serde_json::from_slice::<&RawValue>(&longer()).is_err_and(|error| error.is_eof())
}

/// A byte that stands where it cannot stand; `at` counts from 1, without white space in front of the body.
fn misplaced(case: TriedCase<'_>, byte: u8, at: usize) -> String {
    let body = case.seen.body;
    let place = body.len() - body.trim_ascii_start().len() + at;
    format!("`{}` at byte {place} of {} cannot stand there", quoted([byte]), body.len())
}

/// The body ends in the middle of something: with words for where a limit may be.
fn cut_in(case: TriedCase<'_>, what: &str) -> NamedMistake {
    let length = case.seen.body.len();
    let more = match case.known.end {
        BodyEnd::Beyond(whole) => {
            format!(": Content-Length says {}, and {} more follow", bytes(length), bytes(whole.len() - length))
        }
        _ if length.is_multiple_of(1024) => format!(", after exactly {} KiB", length / 1024),
        _ => String::new(),
    };
    NamedMistake::new(Mistake::BodyCut, &[what, &more])
}

/// Whether JSON ends before all that it has opened is closed. Hostile bodies open without end.
fn is_open(text: &[u8]) -> bool {
    let (in_string, open) = opened(text);
    in_string || (open > 0 && open < 64)
}

/// Whether JSON ends in a string, and how many brackets are open there.
fn opened(text: &[u8]) -> (bool, usize) {
    let (mut in_string, mut after_backslash, mut open) = (false, false, 0_usize);
    for byte in text {
        if in_string {
            in_string = after_backslash || *byte != b'"';
            after_backslash = !after_backslash && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => open += 1,
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    (in_string, open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_is_cut_is_open() {
        assert!(is_open(b"{\"a\":[1,") && is_open(b"{\"a\":\"b") && !is_open(b"{\"a\":\"}{\"}"));
        assert!(!is_open(&[b'['; 100]));
    }
}
