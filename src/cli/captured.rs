//! A captured request: a file with the bytes of one HTTP/1.1 message. It is read leniently, because captures go through
//! editors and terminals; what is odd about one is said.

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
}
