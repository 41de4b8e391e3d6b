//! A captured request: a file with the bytes of one HTTP/1.1 message. It is read leniently, because captures go through
//! editors and terminals; what is odd about one is said.

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};

use crate::explain::TrialBudget;
use crate::wire::chunked::ChunkDecoder;
use crate::wire::headers::HeaderBuf;

use super::offline::{LIMIT, Written};

/// A request, and what is odd about the capture.
#[derive(Debug)]
pub(super) struct CapturedRequest {
    pub(super) request: Written,
    pub(super) oddities: Vec<String>,
}

/// Takes a message apart.
///
/// # Errors
/// A sentence for the user.
pub(super) fn parse(bytes: &[u8]) -> Result<CapturedRequest, String> {
    let mut oddities = Vec::new();
    let crlf = memchr::memmem::find(bytes, b"\r\n\r\n").map(|end| (end, end + 4));
    let found = crlf.or_else(|| memchr::memmem::find(bytes, b"\n\n").map(|end| (end, end + 2)));
    let (end, start) = found.ok_or("there is no empty line after the header fields: is this a raw HTTP request?")?;
    if crlf.is_none() {
        oddities.push(
            "the head has LF line ends: the capture went through an editor, so the body may have, too".to_owned(),
        );
    }
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err("the first line is no request line (POST /path HTTP/1.1)".to_owned());
    };
    let (mut headers, mut length, mut chunked) = (HeaderBuf::default(), None, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("a header field without a colon: {}", line.escape_debug()));
        };
        let value = value.trim_matches([' ', '\t', '\r']);
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<usize>().ok(),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
        headers.push(name, value.as_bytes());
    }
    let mut body = bytes.get(start..).unwrap_or_default().to_vec();
    match length {
        _ if chunked => unchunk(&mut body, &mut oddities),
        Some(length) if length < body.len() => {
            oddities
                .push(format!("the file has {} bytes more than Content-Length says: left out", body.len() - length));
            body.truncate(length);
        }
        Some(length) if length > body.len() => {
            let missing = length - body.len();
            oddities.push(format!("{missing} bytes of the body are missing: it is shorter than Content-Length says"));
        }
        _ => {}
    }
    let target = absolute(target);
    Ok(CapturedRequest { request: Written { method: method.to_owned(), target, headers, body }, oddities })
}

/// Takes the chunks out of a body; one that was captured without them stays as it is.
fn unchunk(body: &mut Vec<u8>, oddities: &mut Vec<String>) {
    let mut copy = body.clone();
    match ChunkDecoder::new(LIMIT).compact(&mut copy) {
        Ok(compacted) if compacted.done => {
            copy.truncate(compacted.data);
            *body = copy;
        }
        _ => oddities.push("the body is not chunked although the head says so: taken as it is".to_owned()),
    }
}

/// The target in origin-form.
fn absolute(target: &str) -> String {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    match rest.map(|rest| rest.find('/').and_then(|at| rest.get(at..))) {
        None => target.to_owned(),
        Some(path) => path.unwrap_or("/").to_owned(),
    }
}

/// What a compressed body was before, with the words for what has happened; nothing where that is more than a quarter of
/// what `budget` has left.
pub(super) fn decompressed(body: &[u8], budget: &TrialBudget) -> Option<(Vec<u8>, String)> {
    let limit = budget.bound() / 4;
    let (opened, how) = match body {
        [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, rest @ ..] => {
            (decompress_to_vec_with_limit(behind_names(*flags, rest)?, limit), "gzip")
        }
        [first, ..] if first & 0xf == 8 => (decompress_to_vec_zlib_with_limit(body, limit), "zlib (deflate)"),
        _ => return None,
    };
    // What was written before it failed has been paid for as well.
    let written = opened.as_ref().map_or_else(|failed| failed.output.len(), Vec::len);
    let paid = budget.charge(written);
    let too_long = opened.as_ref().is_err_and(|failed| failed.status == TINFLStatus::HasMoreOutput);
    if too_long {
        budget.refuse();
    }
    let before = opened.ok().filter(|_| paid)?;
    Some((before, format!("is compressed with {how}, and was signed before that")))
}

/// RFC 1952 section 2.3: extra field, name and comment may stand in front of the compressed bytes.
fn behind_names(flags: u8, rest: &[u8]) -> Option<&[u8]> {
    let mut rest = rest;
    if flags & 4 != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            rest = rest.get(memchr::memchr(0, rest)? + 1..)?;
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn captures_are_read_as_they_were_meant() {
        let plain = parse(b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok\n").unwrap();
        assert_eq!((plain.request.method.as_str(), plain.request.target.as_str()), ("POST", "/a?b"));
        assert_eq!(plain.request.body, b"ok");
        assert!(plain.oddities.concat().contains("1 bytes more"));
        let chunked =
            parse(b"POST http://x/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").unwrap();
        assert_eq!((chunked.request.target.as_str(), chunked.request.body.as_slice()), ("/a", &b"ok"[..]));
        let edited = parse(b"POST / HTTP/1.1\nHost: x\nContent-Length: 9\n\nok").unwrap();
        assert_eq!((edited.request.body.as_slice(), edited.oddities.len()), (&b"ok"[..], 2));
        assert!(parse(b"{}").is_err() && parse(b"\r\n\r\n").is_err());
    }

    /// Little that would be 64 MiB.
    #[test]
    fn what_is_opened_is_paid_for() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'['; 64 << 20], 9);
        let budget = TrialBudget::of(bomb.len());
        assert!(decompressed(&bomb, &budget).is_none() && budget.has_refused());
        assert!(budget.spent() <= (64 << 20) / 4 + 128 * bomb.len() as u64, "{}", budget.spent());
    }

    #[test]
    fn compressed_bodies_are_opened() {
        let deflated = miniz_oxide::deflate::compress_to_vec(b"hello hello", 6);
        let head = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
        let gzip = [&head[..], b"name\0", &deflated, &[0; 8]].concat();
        assert_eq!(decompressed(&gzip, &TrialBudget::of(0)).unwrap().0, b"hello hello");
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(b"hello", 6);
        assert_eq!(decompressed(&zlib, &TrialBudget::of(0)).unwrap().0, b"hello");
        for nothing in [&b"{}"[..], &head] {
            assert!(decompressed(nothing, &TrialBudget::of(0)).is_none());
        }
    }
}
