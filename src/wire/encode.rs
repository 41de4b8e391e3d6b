//! Values to bytes: heads and chunks, appended to a buffer that the caller reuses.
//!
//! What we write ourselves cannot break a line: see [`field`]. What we pass on is passed on byte for byte, without
//! the fields that belong to one connection only (RFC 9110 section 7.6.1) and without those that we alone may set.

use core::ops::Range;

use crate::wire::characters::is_token_byte;
use crate::wire::headers::{Field, Headers, Known};
use crate::wire::message::Version;
use crate::wire::target::Host;

/// The last chunk and the end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The interim answer that a client waits for before it sends a body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a request line. `target` is in origin-form.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends a status line with the canonical reason phrase, or none.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a field. Bytes of `value` that could end the line (CR, LF, NUL) become spaces, as RFC 9110 section 5.5
/// has it; `name` is ours and a token.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(!name.is_empty() && name.iter().all(|byte| is_token_byte(*byte)));
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let start = out.len();
    out.extend_from_slice(value);
    if has_controls(value) {
        for byte in out.iter_mut().skip(start).filter(|byte| matches!(**byte, b'\r' | b'\n' | 0)) {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a field with a host and its port, which the parser of heads has checked.
pub fn host(out: &mut Vec<u8>, name: &[u8], host: Host<'_>) {
    for part in [name, b": ", host.name, host.port, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Whether there is a control character among these bytes, eight at a time: nearly all values are short and have none.
fn has_controls(value: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = value.as_chunks::<8>();
    let below = |word: u64| word.wrapping_sub(EACH * 0x20) & !word & (EACH * 0x80);
    let seen = words.iter().fold(0, |seen, word| seen | below(u64::from_ne_bytes(*word)));
    seen != 0 || rest.iter().any(|byte| *byte < 0x20)
}

/// Appends the `Via` of a message that came in `version` (RFC 9110 section 7.6.3).
pub fn via(out: &mut Vec<u8>, version: Version, pseudonym: &[u8]) {
    out.extend_from_slice(match version {
        Version::Http10 => b"Via: 1.0 ",
        Version::Http11 => b"Via: 1.1 ",
    });
    out.extend_from_slice(pseudonym);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field with a decimal number.
pub fn field_u64(out: &mut Vec<u8>, name: &[u8], value: u64) {
    field(out, name, itoa::Buffer::new().format(value).as_bytes());
}

/// Ends a head.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk of `len` bytes; the bytes and a CRLF must follow. Nothing is written for an empty
/// chunk, which would end the body.
pub fn chunk_header(out: &mut Vec<u8>, len: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if len == 0 {
        return;
    }
    let mut shift = len.ilog2() / 4 * 4;
    loop {
        out.extend(DIGITS.get(len >> shift & 0xf));
        if shift == 0 {
            break;
        }
        shift -= 4;
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether fields of this kind end at the next hop (RFC 9110 section 7.6.1).
#[must_use]
pub const fn hop_by_hop(kind: Known) -> bool {
    matches!(
        kind,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Appends the end-to-end fields of a message as they were received, in order. Left out: hop-by-hop fields and those
/// that `Connection` nominates; `Content-Length` and `Expect`, because framing is ours; `X-Countersign-*`, which we
/// alone may set; and every field for whose kind, name and value `drop` holds.
pub fn copy_end_to_end(out: &mut Vec<u8>, headers: Headers<'_>, drop: impl Fn(Known, &[u8], &[u8]) -> bool) {
    let nominated = headers.options().nominated();
    let bytes = headers.bytes();
    let nominates = |name: &[u8]| nominated.iter().any(|option| option.of(bytes).eq_ignore_ascii_case(name));
    // Lines that stay and stand together are copied together.
    let mut run = 0..0;
    for field in headers.fields() {
        let ours = matches!(field.kind, Known::ContentLength | Known::Expect | Known::XCountersign);
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        if ours || hop_by_hop(field.kind) || drop(field.kind, name, value) || nominates(name) {
            continue;
        }
        match plain_line(field, bytes) {
            Some(line) if line.start == run.end => run.end = line.end,
            Some(line) => out.extend_from_slice(bytes.get(core::mem::replace(&mut run, line)).unwrap_or_default()),
            None => {
                out.extend_from_slice(bytes.get(core::mem::take(&mut run)).unwrap_or_default());
                for part in [name, b": ", value, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
    }
    out.extend_from_slice(bytes.get(run).unwrap_or_default());
}

/// Where the line of a field lies, if it came just as we would write it.
fn plain_line(field: &Field, bytes: &[u8]) -> Option<Range<usize>> {
    let (name_end, value_end) = (field.name.end(), field.value.end());
    let plain = field.value.start() == name_end + 2
        && bytes.get(name_end..name_end + 2) == Some(b": ")
        && bytes.get(value_end..value_end + 2) == Some(b"\r\n");
    plain.then(|| field.name.start()..value_end + 2)
}

/// The canonical reason phrase (RFC 9110 section 15 and the IANA registry), or nothing.
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::headers::HeaderBuf;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderBuf {
        let mut headers = HeaderBuf::default();
        for (name, value) in fields {
            headers.push(name, value.as_bytes());
        }
        headers
    }

    #[test]
    fn lines() {
        assert_eq!(written(|out| status_line(out, 200)), "HTTP/1.1 200 OK\r\n");
        assert_eq!(written(|out| status_line(out, 299)), "HTTP/1.1 299 \r\n");
        assert_eq!(written(|out| request_line(out, b"POST", b"/a?b")), "POST /a?b HTTP/1.1\r\n");
        assert_eq!(written(|out| field(out, b"A", b"b c")), "A: b c\r\n");
        assert_eq!(
            written(|out| field_u64(out, b"Content-Length", u64::MAX)),
            "Content-Length: 18446744073709551615\r\n"
        );
        assert_eq!(written(end), "\r\n");
    }

    #[test]
    fn every_status_of_ours_has_a_phrase() {
        use crate::outcome::{Fault, Rejection};
        let rejections = Rejection::ALL.iter().map(|rejection| rejection.answer());
        for answer in rejections.chain(Fault::ALL.iter().map(|fault| fault.answer())) {
            assert!(!reason(answer.status).is_empty(), "{}", answer.status);
        }
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        assert_eq!(written(|out| field(out, b"A", b"b\r\nC: d\0\xe2\x82\xac")), "A: b  C: d \u{20ac}\r\n");
    }

    #[test]
    fn chunk_sizes() {
        for (len, expected) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (255, "ff\r\n"), (256, "100\r\n"), (0, "")]
        {
            assert_eq!(written(|out| chunk_header(out, len)), expected);
        }
        assert_eq!(written(|out| chunk_header(out, usize::MAX)), format!("{:x}\r\n", usize::MAX));
    }

    #[test]
    fn only_end_to_end_fields_are_copied() {
        #[rustfmt::skip]
        let received = headers(&[
            ("Host", "a"), ("Connection", "close, X-Hop"), ("x-hop", "1"), ("Keep-Alive", "5"), ("Proxy-Connection", "x"),
            ("Proxy-Authenticate", "x"), ("Proxy-Authorization", "x"), ("TE", "trailers"), ("Trailer", "x"), ("Upgrade", "h2c"),
            ("Transfer-Encoding", "chunked"), ("Content-Length", "5"), ("Expect", "100-continue"), ("X-Countersign-Route", "x"),
            ("x_countersign_verdict", "x"), ("X-CounterSign", "x"), ("Via", "1.1 b"), ("X-a", "\u{e9} ; B"), ("Content-Type", "x"),
            ("X-A", "2"),
        ]);
        let copied = written(|out| copy_end_to_end(out, received.view(), |kind, _, _| kind == Known::Via));
        assert_eq!(copied, "Host: a\r\nX-a: \u{e9} ; B\r\nContent-Type: x\r\nX-A: 2\r\n");
    }

    proptest! {
        #[test]
        fn a_written_field_is_one_line(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            field(&mut out, b"A", &value);
            prop_assert_eq!(out.len(), value.len() + 5);
            prop_assert_eq!(memchr::memchr3_iter(b'\r', b'\n', 0, &out).count(), 2);
        }
    }
}
