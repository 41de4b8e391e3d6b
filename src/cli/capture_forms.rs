//! Captures that are no raw HTTP/1.1 message: what tools, logs and editors make of one. What can be read without a guess is
//! read, with a remark; of the rest is said what it looks like, and how to convert it. It is the file that is so: nothing of
//! that is blamed on the client.

use std::borrow::Cow;

use crate::explain::quoted_start;

use super::capture_described::{DescribedRequest, OtherForm, WANTED};
use super::{capture_curl, capture_json};

/// A message, and what was done to the file to read it.
#[derive(Debug)]
pub(super) struct ReadCapture<'b> {
    pub(super) bytes: Cow<'b, [u8]>,
    pub(super) remarks: Vec<String>,
}

/// So many characters of a line are shown.
const SHOWN: usize = 60;

/// Reads a file as one message.
///
/// # Errors
/// What it looks like instead, in a sentence.
pub(super) fn read(bytes: &[u8]) -> Result<ReadCapture<'_>, String> {
    if bytes.trim_ascii().is_empty() {
        return Err(format!("the capture is empty: {WANTED}"));
    }
    if let Some(what) = binary(bytes) {
        return Err(what.to_owned());
    }
    if let Some(text) = from_utf16(bytes) {
        let mut read = text_of(text.as_bytes())?.into_owned();
        read.remarks.insert(0, "the capture is a file in UTF-16: read as that".to_owned());
        return Ok(read);
    }
    text_of(bytes)
}

impl ReadCapture<'_> {
    fn into_owned(self) -> ReadCapture<'static> {
        ReadCapture { bytes: Cow::Owned(self.bytes.into_owned()), remarks: self.remarks }
    }
}

/// Files that are no text.
fn binary(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x1f, 0x8b, ..] => Some("the capture is compressed with gzip: decompress it first (gunzip)"),
        [b'P', b'K', 3, 4, ..] => Some("the capture is a ZIP archive: unpack it first"),
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0xc3, 0xd4, ..] | [0x0a, 0x0d, 0x0d, 0x0a, ..] => Some(
            "the capture is a file of tcpdump or Wireshark (pcap): save the request alone, with \"Follow TCP stream\", as raw",
        ),
        _ => None,
    }
}

fn from_utf16(bytes: &[u8]) -> Option<String> {
    let big = match bytes {
        [0xff, 0xfe, ..] => false,
        [0xfe, 0xff, ..] => true,
        [first, 0, second, 0, ..] if first.is_ascii_graphic() && second.is_ascii_graphic() => false,
        [0, first, 0, second, ..] if first.is_ascii_graphic() && second.is_ascii_graphic() => true,
        _ => return None,
    };
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) });
    Some(char::decode_utf16(units).map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

fn text_of(bytes: &[u8]) -> Result<ReadCapture<'_>, String> {
    let mut remarks = Vec::new();
    let mut bytes = Cow::Borrowed(bytes);
    if let (Cow::Borrowed(whole), Some(_)) = (&bytes, bytes.strip_prefix("\u{feff}".as_bytes())) {
        remarks.push("the capture begins with a byte order mark, which an editor has written: passed over".to_owned());
        bytes = Cow::Borrowed(whole.get(3..).unwrap_or_default());
    }
    let first_end = memchr::memchr(b'\n', &bytes).unwrap_or(bytes.len());
    if bytes.get(..first_end).is_some_and(|first| first.ends_with(b"\r\r")) {
        remarks.push("the capture has CR CR LF for line breaks: read with one CR less, in the body as well".to_owned());
        bytes = Cow::Owned(with_less_cr(&bytes));
    }
    let (form, described) = match other_form(&bytes)? {
        OtherForm::Raw => return Ok(ReadCapture { bytes, remarks }),
        OtherForm::Read(form, described) => (form, described),
    };
    remarks.push(format!("the capture is {form}: read as that"));
    Ok(ReadCapture { bytes: Cow::Owned(described), remarks })
}

/// What a transfer as text has made of `\n`, in files that had `\r\n`, undone.
fn with_less_cr(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        out.push(b'\n');
        rest = from.get(2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

fn other_form(bytes: &[u8]) -> Result<OtherForm, String> {
    let text = bytes.trim_ascii_start();
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let starts = |start: &str| text.starts_with(start.as_bytes());
    let shown = || quoted_start(first, SHOWN);
    if starts("HTTP/1") || starts("HTTP/2") {
        return Err(format!("the capture is a response (`{}`), and not the request: {WANTED}", shown()));
    }
    if starts(":") {
        return pseudo_headers(text);
    }
    if starts("{") || starts("[") {
        return capture_json::read(text);
    }
    if starts("curl ") || starts("curl.exe ") || starts("$ curl ") {
        return capture_curl::command(text);
    }
    if starts("=> Send") || starts("== Info") {
        return Err(format!("the capture is the output of curl --trace: {WANTED}, or use the output of curl -v"));
    }
    if starts("> ") || starts("* ") {
        return capture_curl::verbose(text);
    }
    if is_field(first) {
        return Err(format!(
            "the capture has no request line: it begins with a header field (`{}`): write the line in front as it was sent, \
             POST /path HTTP/1.1",
            shown()
        ));
    }
    let has = |part: &str| memchr::memmem::find(first, part.as_bytes()).is_some();
    if has(" IP ") && has(" > ") && has("Flags [") {
        return Err(format!("the capture is the text that tcpdump prints (`{}`): {WANTED}", shown()));
    }
    // A request line with the time of a log, or spaces, in front of it.
    let indented = text.len() < bytes.len() && !bytes.starts_with(b"\r\n") && !bytes.starts_with(b"\n");
    let inside = ["POST /", "PUT /", "GET /"].iter().find_map(|start| memchr::memmem::find(first, start.as_bytes()));
    let versioned = memchr::memmem::find(first, b" HTTP/").is_some();
    if versioned && (inside.is_some_and(|at| at > 0) || indented) {
        return Err(format!(
            "the lines of the capture have something in front of the request (`{}`): remove that from each line",
            shown()
        ));
    }
    Ok(OtherForm::Raw)
}

/// Whether a line is `Name: value`.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line.get(..colon).unwrap_or_default();
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(is_token)
        && !line.get(colon..).is_some_and(|rest| rest.starts_with(b"://"))
}

/// The fields of HTTP/2 that stand for the request line (RFC 9113 section 8.3.1), as tools print them.
fn pseudo_headers(text: &[u8]) -> Result<OtherForm, String> {
    let mut described = DescribedRequest { method: String::new(), ..DescribedRequest::default() };
    let mut rest = text;
    let mut fields = Vec::new();
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end + 1);
        let bare = line.trim_ascii_end();
        let Some(pseudo) = bare.strip_prefix(b":") else { break };
        let Some(colon) = memchr::memchr(b':', pseudo) else {
            return Err(format!(
                "the capture has names and values in lines of their own, as a browser shows those of HTTP/2: use its \"Copy as \
                 cURL\", or {WANTED}"
            ));
        };
        let value = String::from_utf8_lossy(pseudo.get(colon + 1..).unwrap_or_default()).trim().to_owned();
        match pseudo.get(..colon).unwrap_or_default() {
            b"method" => described.method = value,
            b"path" => described.target = value,
            b"authority" => fields.push(value),
            _ => {}
        }
        rest = after;
    }
    if described.method.is_empty() || described.target.is_empty() {
        return Err("the capture has fields of HTTP/2, and no `:method:` or no `:path:` among them".to_owned());
    }
    let mut out = format!("{} {} HTTP/1.1\r\n", described.method, described.target).into_bytes();
    let head_end = memchr::memmem::find(rest, b"\n\n").or_else(|| memchr::memmem::find(rest, b"\r\n\r\n"));
    let head = rest.get(..head_end.unwrap_or(rest.len())).unwrap_or_default().to_ascii_lowercase();
    let has_host = head.starts_with(b"host:") || memchr::memmem::find(&head, b"\nhost:").is_some();
    if let Some(host) = fields.first().filter(|_| !has_host) {
        out.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
    }
    out.extend_from_slice(rest);
    Ok(OtherForm::Read("a request of HTTP/2 with its pseudo-headers (`:method:`)".to_owned(), out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RAW: &[u8] = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-S: 1\r\nContent-Length: 3\r\n\r\n{\n}";

    #[track_caller]
    fn assert_reads(bytes: &[u8], expected: &[u8], remark: &str) {
        let read = read(bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&read.bytes), String::from_utf8_lossy(expected));
        let remarks = read.remarks.join("\n");
        assert!(remarks.contains(remark) && (!remark.is_empty() || remarks.is_empty()), "{remarks}");
    }

    #[test]
    fn a_message_is_read_as_it_is() {
        assert_reads(RAW, RAW, "");
        for other in
            [&b"POST /a\r\n\r\n"[..], b"\r\nPOST / HTTP/1.1\r\n\r\n", b"FOO bar\n\n", b"POST http://x/ HTTP/1.1\n\n"]
        {
            assert_reads(other, other, "");
        }
    }

    #[test]
    fn what_editors_make_of_a_file_is_undone() {
        assert_reads(&[b"\xef\xbb\xbf", RAW].concat(), RAW, "begins with a byte order mark");
        let text = core::str::from_utf8(RAW).unwrap();
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_reads(&little, RAW, "UTF-16");
        assert_reads(&[&b"\xff\xfe"[..], &little].concat(), RAW, "UTF-16");
        assert_reads(&[&b"\xfe\xff"[..], &big].concat(), RAW, "UTF-16");
        let doubled = text.replace('\n', "\r\n");
        assert_reads(doubled.as_bytes(), RAW, "CR CR LF");
    }

    #[test]
    fn pseudo_headers_are_a_request_line() {
        let text = b":method: POST\n:path: /a?b=c\n:scheme: https\n:authority: x\nX-S: 1\n\n{}";
        assert_reads(text, b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-S: 1\n\n{}", "pseudo-headers");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (bytes, what) in [
            (&b"\n \r\n"[..], "is empty"),
            (b"\x1f\x8b\x08", "gunzip"),
            (b"\xd4\xc3\xb2\xa1\x02\x00", "pcap"),
            (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "is a response"),
            (b"Host: x\r\nX-S: 1\r\n\r\n{}", "no request line: it begins with a header field (`Host: x`)"),
            (b"2026-11-25 20:00:00 INFO POST /a HTTP/1.1\nHost: x\n\n", "something in front of the request"),
            (b"    POST /a HTTP/1.1\n    Host: x\n\n", "something in front of the request"),
            (b":authority\nx\n:method\nPOST\n\n", "Copy as cURL"),
            (b"22:52:29.1 IP 10.0.0.1.443 > 10.0.0.2.80: Flags [P.], length 4\nPOST / HTTP/1.1\n\n", "tcpdump prints"),
            (b"=> Send header, 300 bytes (0x12c)\n", "curl --trace"),
        ] {
            let why = read(bytes).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }
}
