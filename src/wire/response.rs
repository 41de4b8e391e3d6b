//! The head of the application's answer, under the same strictness as a request's.

use core::mem::MaybeUninit;

use crate::outcome::coded_causes;
use crate::wire::headers::{Field, Headers, Kinds, Known, Span};
use crate::wire::message::{HeadLimits, MAX_FIELDS, Version, lines_are_well_formed};
use crate::wire::options::{ConnectionOptions, TooManyOptions};

coded_causes! {
    /// The rule that an answer of the application breaks.
    ResponseError {
        /// The answer does not begin with a status line of HTTP/1.0 or HTTP/1.1 (RFC 9112 section 4).
        StatusLine = "status_line";
        /// A line of the head does not end with CRLF, or has a CR inside (RFC 9112 section 2.2).
        LineEnd = "line_end";
        /// A header field is malformed: its name, its value, or a folded line (RFC 9112 section 5).
        FieldMalformed = "field_malformed";
        /// The head is larger than 64 KiB.
        HeadTooLarge = "head_too_large";
        /// The head has more than 200 header fields.
        TooManyFields = "too_many_fields";
        /// The head has more than 32 `Connection` options.
        TooManyOptions = "too_many_options";
        /// `Content-Length` stands more than once (RFC 9112 section 6.3).
        ContentLengthTwice = "content_length_twice";
        /// `Content-Length` is not a number (RFC 9110 section 8.6).
        ContentLengthMalformed = "content_length_malformed";
        /// `Content-Length` stands beside `Transfer-Encoding` (RFC 9112 section 6.3).
        BothFramings = "both_framings";
        /// `Transfer-Encoding` stands more than once (RFC 9112 section 6.1).
        TransferEncodingTwice = "transfer_encoding_twice";
        /// `Transfer-Encoding` is malformed, or names `chunked` before its end (RFC 9112 section 6.1).
        TransferEncodingMalformed = "transfer_encoding_malformed";
        /// `Transfer-Encoding` in an answer of HTTP/1.0 (RFC 9112 section 6.1).
        TransferEncodingVersion = "transfer_encoding_http_1_0";
        /// `Transfer-Encoding` names a coding other than `chunked` alone: the request asked for none (RFC 9112 section 7).
        UnknownCoding = "unknown_coding";
        /// The chunked body breaks the grammar (RFC 9112 section 7.1).
        ChunkMalformed = "chunk_malformed";
        /// 101 Switching Protocols, which the request did not ask for (RFC 9110 section 7.8).
        UpgradeUnasked = "upgrade_unasked";
        /// More than 8 interim answers (1xx) came before the answer.
        TooManyInterim = "too_many_interim";
    }
}

impl ResponseError {
    /// Whether the answer exceeds one of our limits on heads. All others are rules of HTTP.
    #[must_use]
    pub const fn is_over_limit(self) -> bool {
        matches!(self, Self::HeadTooLarge | Self::TooManyFields)
    }
}

impl core::fmt::Display for ResponseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.code())
    }
}

impl core::error::Error for ResponseError {}

/// The status that the first line of an answer gives, once that line has ended. The rest of the head may be missing or
/// malformed, and a bare LF ends the line, too: this says what the application has decided, not whether its answer can be
/// passed on. Nothing for what is not a status line of HTTP/1.x (RFC 9112 section 4).
#[must_use]
pub fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.get(..memchr::memchr(b'\n', answer)?)?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let [b'0'..=b'9', b' ', code @ ..] = line.strip_prefix(b"HTTP/1.")? else { return None };
    match code {
        [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']
        | [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
            Some([a, b, c].into_iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
        }
        _ => None,
    }
}

/// A response head. Spans are relative to the first byte that [`ResponseHead::parse`] was given.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The version.
    pub version: Version,
    /// The reason phrase as sent; empty when there is none, or when it is not ASCII.
    pub reason: Span,
    /// The fields in order of arrival.
    pub fields: Vec<Field>,
    kinds: Kinds,
    options: ConnectionOptions,
}

impl ResponseHead {
    /// An empty head, to parse into.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses one head: `bytes` is what [`ResponseScan::scan`](crate::wire::scan::ResponseScan::scan) found, and not
    /// a byte more. After an error the head is empty.
    ///
    /// # Errors
    /// The first rule that the head breaks. Its framing is judged by [`crate::wire::framing::of_response`].
    pub fn parse(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<(), ResponseError> {
        self.clear();
        let parsed = self.tokenize(bytes, limits);
        if parsed.is_err() {
            self.clear();
        }
        parsed
    }

    fn clear(&mut self) {
        let (mut fields, mut options) = (core::mem::take(&mut self.fields), core::mem::take(&mut self.options));
        fields.clear();
        options.clear();
        *self = Self { fields, options, ..Self::default() };
    }

    fn tokenize(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<(), ResponseError> {
        if bytes.len() > limits.size {
            return Err(ResponseError::HeadTooLarge);
        }
        // httparse would skip empty lines before the status line.
        if !bytes.starts_with(b"HTTP/1.") {
            return Err(ResponseError::StatusLine);
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let slots = slots.get_mut(..limits.fields.min(MAX_FIELDS)).unwrap_or_default();
        let mut response = httparse::Response::new(&mut []);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, slots) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Ok(_) => return Err(ResponseError::LineEnd),
            Err(error) => return Err(broken_rule(error, bytes)),
        }
        self.status = response.code.filter(|code| (100..=599).contains(code)).ok_or(ResponseError::StatusLine)?;
        self.version = Version::from_minor(response.version).ok_or(ResponseError::StatusLine)?;
        self.reason = Span::within(response.reason.unwrap_or_default().as_bytes(), bytes);
        if !lines_are_well_formed(bytes) {
            return Err(ResponseError::LineEnd);
        }
        for header in response.headers.iter() {
            let (kind, spelling) = Known::heard(header.name.as_bytes());
            self.kinds.note(kind, spelling);
            let (name, value) = (Span::within(header.name.as_bytes(), bytes), Span::within(header.value, bytes));
            if kind == Known::Connection {
                self.options.read(value, bytes).map_err(|TooManyOptions| ResponseError::TooManyOptions)?;
            }
            self.fields.push(Field { name, value, kind });
        }
        Ok(())
    }

    /// The fields over the bytes that were parsed.
    #[must_use]
    pub fn headers<'a>(&'a self, bytes: &'a [u8]) -> Headers<'a> {
        Headers::new(bytes, &self.fields, self.kinds, &self.options)
    }
}

/// What httparse's error says of a head. Only for heads that are refused.
fn broken_rule(error: httparse::Error, bytes: &[u8]) -> ResponseError {
    match error {
        httparse::Error::TooManyHeaders => ResponseError::TooManyFields,
        httparse::Error::Status | httparse::Error::Version | httparse::Error::Token => ResponseError::StatusLine,
        httparse::Error::NewLine => ResponseError::LineEnd,
        _ if !lines_are_well_formed(bytes) => ResponseError::LineEnd,
        _ => ResponseError::FieldMalformed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::wire::scan::ResponseScan;

    const LIMITS: HeadLimits = HeadLimits { size: 1024, fields: 4, target: 0 };

    fn parse(bytes: &[u8]) -> Result<ResponseHead, ResponseError> {
        let mut head = ResponseHead::new();
        head.parse(bytes, LIMITS).map(|()| head)
    }

    #[test]
    fn a_head_is_read_as_it_is() {
        let bytes = b"HTTP/1.0 404 Not Here\r\nserver: x\r\nContent_Length: 5\r\n\r\n";
        let head = parse(bytes).unwrap();
        assert_eq!((head.status, head.version, head.reason.of(bytes)), (404, Version::Http10, &b"Not Here"[..]));
        let kinds: Vec<Known> = head.headers(bytes).with_kinds().map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, [Known::Server, Known::Other]);
    }

    #[test]
    fn status_lines() {
        for (good, status) in
            [("HTTP/1.1 100 ", 100), ("HTTP/1.1 599 x", 599), ("HTTP/1.1 204", 204), ("HTTP/1.1 200 caf\u{e9}", 200)]
        {
            assert_eq!(parse(format!("{good}\r\n\r\n").as_bytes()).unwrap().status, status, "{good}");
        }
        #[rustfmt::skip]
        let table = [
            "HTTP/1.1 000 x", "HTTP/1.1 20 x", "HTTP/1.1 2000 x", "HTTP/1.1 099 x", "HTTP/1.1 600 x",
            "HTTP/1.1 999 x", "HTTP/1.1 2x0 x", "HTTP/2.0 200 x", "HTTP/1.2 200 x", "http/1.1 200 x",
            "HTTP/1.1  200 x", "HTTP/1.1\t200 x", " HTTP/1.1 200 x", "200 x", "HTTP/1.1", "HTTP/1.1 ",
            "HTTP/1.1 200 a\0b", "HTTP/1.1 200 a\rb", "HTTP/1.1 200\tx", "HTTP/1.1 +20 x", "HTTP/1.1 200x",
            "\r\nHTTP/1.1 200 x", "HTTP/1.1 200 a\x7fb",
        ];
        for bad in table {
            let found = parse(format!("{bad}\r\n\r\n").as_bytes()).err();
            assert_eq!(found, Some(ResponseError::StatusLine), "{bad:?}");
        }
    }

    #[test]
    fn field_lines() {
        use ResponseError::{FieldMalformed, LineEnd};
        for (bad, rule) in [
            ("A: b\n", LineEnd),
            ("A: b\r\n c\r\n", FieldMalformed),
            ("A : b\r\n", FieldMalformed),
            (": b\r\n", FieldMalformed),
            ("A: \0\r\n", FieldMalformed),
            ("A: b\rc\r\n", LineEnd),
            ("A\r\n", FieldMalformed),
            (" A: b\r\n", FieldMalformed),
            ("A: \x7f\r\n", FieldMalformed),
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{bad}\r\n");
            assert_eq!(parse(bytes.as_bytes()).err(), Some(rule), "{bad:?}");
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\n\n").err(), Some(LineEnd));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nx").err(), Some(LineEnd));
        let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count)).into_bytes();
        assert!(parse(&fields(4)).is_ok());
        assert_eq!(parse(&fields(5)).err(), Some(ResponseError::TooManyFields));
        assert_eq!(parse(&[b'a'; 1025]).err(), Some(ResponseError::HeadTooLarge));
    }

    #[test]
    fn the_status_is_known_as_soon_as_its_line_has_ended() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\n", 200),
            ("HTTP/1.1 200\n", 200),
            ("HTTP/1.0 413 Too Large\nnonsense", 413),
            ("HTTP/1.1 204 \r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 204),
        ] {
            assert_eq!(status_of(answer.as_bytes()), Some(status), "{answer:?}");
        }
        #[rustfmt::skip]
        let table = [
            "", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r", "HTTP/2.0 200 OK\r\n", "http/1.1 200 OK\r\n", "HTTP/1.1 2000\r\n",
            "HTTP/1.1 20 OK\r\n", "HTTP/1.1  200 OK\r\n", "HTTP/1.1 +20\r\n", "HTTP/1.1 999 x\r\n", "HTTP/1.1 099 x\r\n",
            "\r\nHTTP/1.1 200 OK\r\n", "HTTP/1.1 200x\r\n", "nonsense HTTP/1.1 200 OK\r\n", "HTTP/1.11 200 OK\r\n",
        ];
        for answer in table {
            assert_eq!(status_of(answer.as_bytes()), None, "{answer:?}");
        }
    }

    #[test]
    fn every_rule_has_a_code_of_its_own() {
        let codes: std::collections::BTreeSet<&str> = ResponseError::ALL.iter().map(|rule| rule.code()).collect();
        assert_eq!(codes.len(), ResponseError::ALL.len());
        for (position, rule) in ResponseError::ALL.iter().enumerate() {
            assert_eq!((*rule as usize, rule.meaning().ends_with('.')), (position, true), "{rule}");
        }
    }

    proptest! {
        /// Whatever is a good head has the status that its first line gives.
        #[test]
        fn a_parsed_status_is_that_of_its_line(line in "HTTP/[12]\\.[0-2] {1,2}[0-9+]{2,4}[ x\t]{0,2}") {
            let bytes = format!("{line}\r\n\r\n");
            if let Ok(head) = parse(bytes.as_bytes()) {
                prop_assert_eq!(status_of(bytes.as_bytes()), Some(head.status));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(tail in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &tail, b"\r\n\r\n"].concat();
            if let Ok(head) = parse(&bytes) {
                for span in head.fields.iter().flat_map(|field| [field.name, field.value]).chain([head.reason]) {
                    prop_assert!(!span.of(&bytes).iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                }
                prop_assert_eq!(ResponseScan::new().scan(&bytes, LIMITS), Ok(Some(bytes.len())));
            }
        }
    }
}
