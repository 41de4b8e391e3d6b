//! Bodies whose bytes were written as something else on the way: as numbers, as hexadecimal digits, in UTF-16, with what
//! framed them on the wire, escaped for HTML.

use super::bodies::signs_body;
use super::case::{TriedCase, Visit};
use super::mistake::Mistake;
use super::opened::decompressed;
use super::text;

/// So many bytes at the beginning show what a body may be.
const START: usize = 64;

/// Every such encoding.
pub(super) fn encodings(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    signs_body(case)
        && (numbers(case, visit)
            || hexadecimal(case, visit)
            || utf16(case, visit)
            || chunk_sizes(case, visit)
            || entities(case, visit)
            || compressed_text(case, visit))
}

fn start(body: &[u8]) -> &[u8] {
    body.get(..body.len().min(START)).unwrap_or_default()
}

/// `{"type":"Buffer","data":[1,2]}`, `[1,2]` and `{"0":1,"1":2}`.
fn numbers(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body.trim_ascii();
    let begin: Vec<u8> = start(body).iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let has = |part: &[u8]| memchr::memmem::find(&begin, part).is_some();
    let (form, keyed) = match begin.as_slice() {
        [b'{', ..] if has(b"\"Buffer\"") && has(b"\"data\":[") => ("a Buffer of Node.js, written as JSON", false),
        [b'{', b'"', b'0', b'"', b':', ..] => ("a Uint8Array, written as JSON", true),
        [b'[', digit, ..] if digit.is_ascii_digit() => ("an array of numbers", false),
        _ => return false,
    };
    if !case.pays(1) {
        return false;
    }
    let from = if keyed { Some(0) } else { memchr::memchr(b'[', body) };
    let list = from.and_then(|from| body.get(from + 1..)).and_then(|list| bytes_of(list, keyed));
    list.is_some_and(|bytes| visit(case.with_body(&bytes), Mistake::BodyNumbers, &[form]))
}

/// The numbers of a list up to its end, each of them a byte.
fn bytes_of(list: &[u8], keyed: bool) -> Option<Vec<u8>> {
    let end = if keyed { b'}' } else { b']' };
    let list = list.get(..memchr::memchr(end, list)?)?;
    let mut out = Vec::with_capacity(list.len() / 3);
    for item in list.split(|byte| *byte == b',') {
        let item = if keyed { item.get(memchr::memchr(b':', item)? + 1..)? } else { item };
        out.push(core::str::from_utf8(item.trim_ascii()).ok()?.parse::<u8>().ok()?);
    }
    Some(out)
}

fn hexadecimal(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body.trim_ascii();
    let digits = body.strip_prefix(b"\\x").or_else(|| body.strip_prefix(b"0x")).unwrap_or(body);
    if digits.len() < 8 || !start(digits).iter().all(u8::is_ascii_hexdigit) || !case.pays(1) {
        return false;
    }
    text::hex(digits).is_some_and(|bytes| visit(case.with_body(&bytes), Mistake::BodyHex, &[]))
}

fn utf16(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    let may = matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, 0, ..] | [_, 0, _, 0, ..]);
    if !may || !case.pays(3) {
        return false;
    }
    let Some(text) = text::from_utf16(body) else { return false };
    let bare = text.trim_start_matches('\u{feff}');
    visit(case.with_body(bare.as_bytes()), Mistake::BodyCharset, &["is in UTF-16 where UTF-8 was signed"])
}

/// What RFC 9112 section 7.1 puts around the pieces of a body, in a request that does not say so.
fn chunk_sizes(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    let line_end = memchr::memchr(b'\n', start(body)).unwrap_or_default();
    let first = body.get(..line_end).unwrap_or_default().trim_ascii_end();
    if first.is_empty() || !first.first().is_some_and(u8::is_ascii_hexdigit) || !case.pays(1) {
        return false;
    }
    unframed(body).is_some_and(|payload| visit(case.with_body(&payload), Mistake::BodyChunkSizes, &[]))
}

fn unframed(body: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut payload) = (body, Vec::with_capacity(body.len()));
    loop {
        let end = memchr::memchr(b'\n', start(rest))?;
        let line = rest.get(..end)?.trim_ascii_end();
        let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
        let size = usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            return (!payload.is_empty()).then_some(payload);
        }
        let (data, after) = rest.get(end + 1..)?.split_at_checked(size)?;
        payload.extend_from_slice(data);
        if after.trim_ascii().is_empty() {
            return Some(payload);
        }
        rest = after.strip_prefix(b"\r\n").or_else(|| after.strip_prefix(b"\n"))?;
    }
}

fn entities(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    let budget = case.known.budget;
    let has = |part: &[u8]| memchr::memmem::find(body, part).is_some();
    if !budget.searches(body, 3) || !(has(b"&quot;") || has(b"&#") || has(b"&amp;")) || !case.pays(1) {
        return false;
    }
    let plain = text::without_entities(body);
    plain != body && visit(case.with_body(&plain), Mistake::BodyEntities, &[])
}

/// The base64 of a compressed body: what gateways hand to functions where the sender compresses.
fn compressed_text(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    // The base64 of the first bytes of gzip.
    if !body.trim_ascii_start().starts_with(b"H4sI") || !case.pays(2) {
        return false;
    }
    let opened = text::base64(body).and_then(|bytes| decompressed(&bytes, case.known.budget));
    opened.is_some_and(|(before, how)| {
        let how = format!("{how} and written in base64");
        visit(case.with_body(&before), Mistake::BodyCompressed, &[&how])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_out_of_numbers_and_chunks() {
        assert_eq!(bytes_of(b"123, 125]}", false), Some(b"{}".to_vec()));
        assert_eq!(bytes_of(b"\"0\":123,\"1\":125}", true), Some(b"{}".to_vec()));
        for list in [&b"256]"[..], b"-1]", b"1,]", b"1", b"1.0]", b"[1]]"] {
            assert_eq!(bytes_of(list, false), None, "{list:?}");
        }
        assert_eq!(unframed(b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n"), Some(b"{}".to_vec()));
        assert_eq!(unframed(b"2\n{}\n"), Some(b"{}".to_vec()));
        for body in [&b"0\r\n\r\n"[..], b"5\r\n{}", b"x\r\n{}", b"2\r\n{}x\r\n0\r\n", b"ffffffffffffffffff\r\n{}", b"2"]
        {
            assert_eq!(unframed(body), None, "{body:?}");
        }
    }
}
