//! The head of the application's answer, under the same strictness as a request's.

use core::mem::MaybeUninit;

use crate::wire::head::{HeadLimits, MAX_FIELDS, Version, lines_are_well_formed};
use crate::wire::headers::{Field, Headers, Kinds, Known, Span};
use crate::wire::options::{ConnectionOptions, TooManyOptions};

/// What is wrong with an answer of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// The head is not HTTP/1.x as RFC 9112 writes it, or can be read in two ways.
    HeadMalformed,
    /// The head, the number of its fields or of its `Connection` options, is over the limit.
    HeadTooLarge,
    /// `Content-Length` and `Transfer-Encoding` are malformed, repeated, or contradict each other.
    FramingInvalid,
}

impl ResponseError {
    /// One word for logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::HeadMalformed => "head_malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::FramingInvalid => "framing_invalid",
        }
    }
}

impl core::fmt::Display for ResponseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.code())
    }
}

impl core::error::Error for ResponseError {}

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
    /// [`ResponseError::HeadMalformed`], [`ResponseError::HeadTooLarge`].
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
            return Err(ResponseError::HeadMalformed);
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let slots = slots.get_mut(..limits.fields.min(MAX_FIELDS)).unwrap_or_default();
        let mut response = httparse::Response::new(&mut []);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, slots) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::HeadTooLarge),
            Ok(_) | Err(_) => return Err(ResponseError::HeadMalformed),
        }
        self.status = response.code.filter(|code| (100..=599).contains(code)).ok_or(ResponseError::HeadMalformed)?;
        self.version = Version::from_minor(response.version).ok_or(ResponseError::HeadMalformed)?;
        self.reason = Span::within(response.reason.unwrap_or_default().as_bytes(), bytes);
        if !lines_are_well_formed(bytes) {
            return Err(ResponseError::HeadMalformed);
        }
        for header in response.headers.iter() {
            let kind = Known::of(header.name.as_bytes());
            self.kinds.note(kind);
            let (name, value) = (Span::within(header.name.as_bytes(), bytes), Span::within(header.value, bytes));
            if kind == Known::Connection {
                self.options.read(value, bytes).map_err(|TooManyOptions| ResponseError::HeadTooLarge)?;
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
            assert_eq!(parse(format!("{bad}\r\n\r\n").as_bytes()).err(), Some(ResponseError::HeadMalformed), "{bad:?}");
        }
    }

    #[test]
    fn field_lines() {
        for bad in [
            "A: b\n",
            "A: b\r\n c\r\n",
            "A : b\r\n",
            ": b\r\n",
            "A: \0\r\n",
            "A: b\rc\r\n",
            "A\r\n",
            " A: b\r\n",
            "A: \x7f\r\n",
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{bad}\r\n");
            assert_eq!(parse(bytes.as_bytes()).err(), Some(ResponseError::HeadMalformed), "{bad:?}");
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\n\n").err(), Some(ResponseError::HeadMalformed));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nx").err(), Some(ResponseError::HeadMalformed));
        let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count)).into_bytes();
        assert!(parse(&fields(4)).is_ok());
        assert_eq!(parse(&fields(5)).err(), Some(ResponseError::HeadTooLarge));
        assert_eq!(parse(&[b'a'; 1025]).err(), Some(ResponseError::HeadTooLarge));
    }

    proptest! {
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
