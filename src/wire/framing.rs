//! How a body ends: the one judge of it, in both directions.
//!
//! A message whose end two readers could find in two places is refused (RFC 9112 section 6.3). A request is never
//! delimited by the close of its connection.

use crate::outcome::Rejection;
use crate::wire::characters::{is_token_byte, trim};
use crate::wire::head::RequestHead;
use crate::wire::headers::{Headers, Known};
use crate::wire::message::Version;
use crate::wire::response::{ResponseError, ResponseHead};

/// How the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    None,
    /// After this many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is none, whatever the head says.
    None,
    /// After this many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The rule that a framing breaks. Requests and answers call it by names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FramingRefusal {
    LengthTwice,
    LengthMalformed,
    Both,
    CodingTwice,
    CodingMalformed,
    CodingVersion,
    /// Well-formed, but not a coding that we speak.
    CodingUnknown,
}

impl From<FramingRefusal> for Rejection {
    fn from(refusal: FramingRefusal) -> Self {
        match refusal {
            FramingRefusal::CodingUnknown => Self::TransferCodingUnsupported,
            _ => Self::FramingInvalid,
        }
    }
}

impl From<FramingRefusal> for ResponseError {
    fn from(refusal: FramingRefusal) -> Self {
        match refusal {
            FramingRefusal::LengthTwice => Self::ContentLengthTwice,
            FramingRefusal::LengthMalformed => Self::ContentLengthMalformed,
            FramingRefusal::Both => Self::BothFramings,
            FramingRefusal::CodingTwice => Self::TransferEncodingTwice,
            FramingRefusal::CodingMalformed => Self::TransferEncodingMalformed,
            FramingRefusal::CodingVersion => Self::TransferEncodingVersion,
            FramingRefusal::CodingUnknown => Self::UnknownCoding,
        }
    }
}

/// How the body of this request ends.
///
/// # Errors
/// [`Rejection::FramingInvalid`] for anything malformed, repeated or contradictory,
/// [`Rejection::TransferCodingUnsupported`] for a well-formed coding other than `chunked` alone.
pub fn of_request(head: &RequestHead, bytes: &[u8]) -> Result<BodyFraming, Rejection> {
    judge(head.version, head.headers(bytes)).map_err(Rejection::from)
}

/// How the body of this response ends.
///
/// # Errors
/// The rule that is broken, for anything that does not say the same to every reader.
pub fn of_response(
    head: &ResponseHead,
    bytes: &[u8],
    request_was_head: bool,
) -> Result<ResponseFraming, ResponseError> {
    // RFC 9112 section 6.3, rule 1: these have no body, and their fields speak of another message.
    if request_was_head || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(ResponseFraming::None);
    }
    Ok(match judge(head.version, head.headers(bytes))? {
        BodyFraming::None => ResponseFraming::UntilClose,
        BodyFraming::Length(length) => ResponseFraming::Length(length),
        BodyFraming::Chunked => ResponseFraming::Chunked,
    })
}

/// The length that a head without a body declares for the body that it speaks of: an answer to `HEAD`, or a 304.
/// None for 1xx and 204, which may not declare one (RFC 9110 section 8.6): passed on, it would make some clients wait
/// for a body.
///
/// # Errors
/// The rule that is broken: it is malformed, stands more than once, or beside a transfer coding.
pub fn declared_length(head: &ResponseHead, bytes: &[u8]) -> Result<Option<u64>, ResponseError> {
    if matches!(head.status, 100..=199 | 204) {
        return Ok(None);
    }
    Ok(match judge(head.version, head.headers(bytes))? {
        BodyFraming::Length(length) => Some(length),
        BodyFraming::None | BodyFraming::Chunked => None,
    })
}

fn judge(version: Version, headers: Headers<'_>) -> Result<BodyFraming, FramingRefusal> {
    let length = content_length(headers)?;
    let mut codings = headers.of_kind(Known::TransferEncoding);
    match (codings.next(), length) {
        (None, None) => Ok(BodyFraming::None),
        (None, Some(length)) => Ok(BodyFraming::Length(length)),
        (Some(_), Some(_)) => Err(FramingRefusal::Both),
        (Some(_), None) if version == Version::Http10 => Err(FramingRefusal::CodingVersion),
        (Some(_), None) if codings.next().is_some() => Err(FramingRefusal::CodingTwice),
        (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::Chunked),
        (Some(value), None) => Err(refuse_coding(value)),
    }
}

/// RFC 9110 section 8.6. Stricter: a list of equal values is refused as well.
fn content_length(headers: Headers<'_>) -> Result<Option<u64>, FramingRefusal> {
    let mut values = headers.of_kind(Known::ContentLength);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(FramingRefusal::LengthTwice);
    }
    parse_decimal(value).map(Some).ok_or(FramingRefusal::LengthMalformed)
}

/// 1*DIGIT, at most as many as the largest `u64` has.
fn parse_decimal(value: &[u8]) -> Option<u64> {
    if !matches!(value.len(), 1..=20) {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A `Transfer-Encoding` that is not `chunked`. One that ends with a single `chunked`, or names none, is a coding that
/// we do not speak; a list that is malformed, or has `chunked` before its end, hides where the body ends.
fn refuse_coding(value: &[u8]) -> FramingRefusal {
    let mut chunked = false;
    for coding in elements(value) {
        let token = !coding.is_empty() && coding.iter().all(|byte| is_token_byte(*byte));
        if chunked || !token {
            return FramingRefusal::CodingMalformed;
        }
        chunked = coding.eq_ignore_ascii_case(b"chunked");
    }
    FramingRefusal::CodingUnknown
}

/// The elements of a list, without the white space around them (RFC 9110 section 5.6.1).
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(trim)
}

/// Whether the client waits for a 100 before it sends the body. HTTP/1.0 knows no expectations: there they are ignored.
///
/// # Errors
/// [`Rejection::ExpectationFailed`] for an expectation other than `100-continue`.
pub fn expects_continue(head: &RequestHead, bytes: &[u8]) -> Result<bool, Rejection> {
    let mut expected = false;
    for value in head.headers(bytes).of_kind(Known::Expect).filter(|_| head.version == Version::Http11) {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Rejection::ExpectationFailed);
        }
        expected = true;
    }
    Ok(expected)
}

/// Whether the sender of this message wants the connection kept (RFC 9112 section 9.3). `close` wins.
#[must_use]
pub fn keep_alive(version: Version, headers: Headers<'_>) -> bool {
    let options = headers.options();
    !options.closes() && (options.keeps_alive() || version == Version::Http11)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::wire::head::HeadLimits;

    const LIMITS: HeadLimits = HeadLimits { size: 1024, fields: 16, target: 64 };

    fn request(version: &str, fields: &str) -> (RequestHead, Vec<u8>) {
        let bytes = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let mut head = RequestHead::new();
        head.parse(&bytes, LIMITS).unwrap();
        (head, bytes)
    }

    fn framing(fields: &str) -> Result<BodyFraming, Rejection> {
        let (head, bytes) = request("1.1", fields);
        of_request(&head, &bytes)
    }

    fn response(status: &str, fields: &str, request_was_head: bool) -> Result<ResponseFraming, ResponseError> {
        let bytes = format!("{status}\r\n{fields}\r\n").into_bytes();
        let mut head = ResponseHead::new();
        head.parse(&bytes, LIMITS).unwrap();
        of_response(&head, &bytes, request_was_head)
    }

    #[test]
    fn a_request_without_framing_has_no_body() {
        assert_eq!(framing(""), Ok(BodyFraming::None));
        assert_eq!(framing("Content-Length2: 5\r\n"), Ok(BodyFraming::None));
    }

    #[test]
    fn content_lengths() {
        for (value, length) in [("0", 0), ("5", 5), ("007", 7), (" 5 \t", 5), ("18446744073709551615", u64::MAX)] {
            assert_eq!(framing(&format!("content-length:{value}\r\n")), Ok(BodyFraming::Length(length)), "{value:?}");
        }
        #[rustfmt::skip]
        let broken = [
            "", "+5", "-5", "-0", "5 5", "5,5", "5, 5", "5,", ",5", "0x5", "5.0", "5e1", "\"5\"", "5;", "a", "1_0", "\u{ff15}",
            "18446744073709551616", "99999999999999999999", "100000000000000000000", "000000000000000000005",
        ];
        for value in broken {
            assert_eq!(framing(&format!("Content-Length: {value}\r\n")), Err(Rejection::FramingInvalid), "{value:?}");
        }
        for second in ["5", "6", ""] {
            let fields = format!("Content-Length: 5\r\nX: y\r\ncontent-length: {second}\r\n");
            assert_eq!(framing(&fields), Err(Rejection::FramingInvalid), "{fields:?}");
        }
    }

    #[test]
    fn transfer_codings() {
        for value in ["chunked", "CHUNKED", " \tChunked \t"] {
            assert_eq!(framing(&format!("Transfer-Encoding:{value}\r\n")), Ok(BodyFraming::Chunked), "{value:?}");
        }
        for value in ["gzip", "identity", "'chunked", "gzip, chunked", "xchunked", "chunkedx", "gzip,deflate"] {
            let expected = Err(Rejection::TransferCodingUnsupported);
            assert_eq!(framing(&format!("Transfer-Encoding: {value}\r\n")), expected, "{value:?}");
        }
        #[rustfmt::skip]
        let broken = [
            "", ",", "chunked,", ",chunked", "chunked, chunked", "chunked, gzip", "\"chunked\"", "chunked;a=b", "chunked;",
            "chun ked", "chunked\u{a0}", "gzip;q=1, chunked", "chunked chunked", "(chunked)",
        ];
        for value in broken {
            assert_eq!(
                framing(&format!("Transfer-Encoding: {value}\r\n")),
                Err(Rejection::FramingInvalid),
                "{value:?}"
            );
        }
        for second in ["chunked", "gzip", "identity", ""] {
            let fields = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {second}\r\n");
            assert_eq!(framing(&fields), Err(Rejection::FramingInvalid), "{fields:?}");
        }
        let (head, bytes) = request("1.0", "Transfer-Encoding: chunked\r\n");
        assert_eq!(of_request(&head, &bytes), Err(Rejection::FramingInvalid));
    }

    #[test]
    fn a_length_and_a_coding_contradict_each_other() {
        for coding in ["chunked", "gzip", "identity", "x"] {
            for length in ["5", "0", "x"] {
                let fields = format!("Content-Length: {length}\r\nTransfer-Encoding: {coding}\r\n");
                assert_eq!(framing(&fields), Err(Rejection::FramingInvalid), "{fields:?}");
                let fields = format!("Transfer-Encoding: {coding}\r\nContent-Length: {length}\r\n");
                assert_eq!(framing(&fields), Err(Rejection::FramingInvalid), "{fields:?}");
            }
        }
    }

    #[test]
    fn expectations() {
        let expects = |version: &str, fields: &str| {
            let (head, bytes) = request(version, fields);
            expects_continue(&head, &bytes)
        };
        assert_eq!(expects("1.1", ""), Ok(false));
        assert_eq!(expects("1.1", "Expect: 100-Continue\r\n"), Ok(true));
        assert_eq!(expects("1.0", "Expect: 100-continue\r\n"), Ok(false));
        assert_eq!(expects("1.0", "Expect: tea\r\n"), Ok(false));
        for value in ["tea", "", "100-continue, tea", "200-ok", "100-continue;a=b", "100"] {
            assert_eq!(expects("1.1", &format!("Expect: {value}\r\n")), Err(Rejection::ExpectationFailed), "{value:?}");
        }
        let both = "Expect: 100-continue\r\nExpect: tea\r\n";
        assert_eq!(expects("1.1", both), Err(Rejection::ExpectationFailed));
    }

    #[test]
    fn who_keeps_the_connection() {
        for (version, fields, kept) in [
            ("1.1", "", true),
            ("1.0", "", false),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: ,close ,\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: x\r\n", false),
            ("1.0", "Connection: close, keep-alive\r\n", false),
            ("1.1", "Proxy-Connection: close\r\n", true),
        ] {
            let (head, bytes) = request(version, fields);
            assert_eq!(keep_alive(head.version, head.headers(&bytes)), kept, "{version} {fields:?}");
        }
    }

    #[test]
    fn responses() {
        use ResponseFraming as F;
        let ok = "HTTP/1.1 200 OK";
        assert_eq!(response(ok, "", false), Ok(F::UntilClose));
        assert_eq!(response(ok, "Content-Length: 0\r\n", false), Ok(F::Length(0)));
        assert_eq!(response(ok, "Transfer-Encoding: Chunked\r\n", false), Ok(F::Chunked));
        assert_eq!(response("HTTP/1.0 200 OK", "", false), Ok(F::UntilClose));
        assert_eq!(response("HTTP/1.0 200 OK", "Content-Length: 9\r\n", false), Ok(F::Length(9)));
        for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: x\r\n", ""] {
            for status in ["100", "101", "103", "204", "304"] {
                assert_eq!(
                    response(&format!("HTTP/1.1 {status} x"), fields, false),
                    Ok(F::None),
                    "{status} {fields:?}"
                );
            }
            assert_eq!(response(ok, fields, true), Ok(F::None), "{fields:?}");
        }
        use ResponseError as E;
        for (fields, rule) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", E::BothFramings),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", E::ContentLengthTwice),
            ("Content-Length: 5, 5\r\n", E::ContentLengthMalformed),
            ("Content-Length: -1\r\n", E::ContentLengthMalformed),
            ("Content-Length:\r\n", E::ContentLengthMalformed),
            ("Transfer-Encoding: gzip\r\n", E::UnknownCoding),
            ("Transfer-Encoding: identity\r\n", E::UnknownCoding),
            ("Transfer-Encoding: gzip, chunked\r\n", E::UnknownCoding),
            ("Transfer-Encoding: chunked, chunked\r\n", E::TransferEncodingMalformed),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", E::TransferEncodingTwice),
        ] {
            assert_eq!(response(ok, fields, false), Err(rule), "{fields:?}");
        }
        let old = response("HTTP/1.0 200 OK", "Transfer-Encoding: chunked\r\n", false);
        assert_eq!(old, Err(E::TransferEncodingVersion));
    }

    #[test]
    fn an_answer_to_head_may_declare_a_length() {
        let declared = |status: u16, fields: &str| {
            let bytes = format!("HTTP/1.1 {status} x\r\n{fields}\r\n").into_bytes();
            let mut head = ResponseHead::new();
            head.parse(&bytes, LIMITS).unwrap();
            declared_length(&head, &bytes)
        };
        assert_eq!(declared(200, "Content-Length: 12\r\n"), Ok(Some(12)));
        assert_eq!(declared(304, "Content-Length: 12\r\n"), Ok(Some(12)));
        assert_eq!(declared(204, "Content-Length: 12\r\n"), Ok(None));
        assert_eq!(declared(103, "Content-Length: 12\r\n"), Ok(None));
        assert_eq!(declared(200, "Transfer-Encoding: chunked\r\n"), Ok(None));
        assert_eq!(declared(200, ""), Ok(None));
        assert_eq!(declared(200, "Content-Length: 1 2\r\n"), Err(ResponseError::ContentLengthMalformed));
        let both = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(declared(200, both), Err(ResponseError::BothFramings));
    }

    proptest! {
        #[test]
        fn a_length_is_exactly_its_digits(value in "[0-9+, x]{0,22}") {
            let value = value.trim();
            let digits = !value.is_empty() && value.len() <= 20 && value.bytes().all(|b| b.is_ascii_digit());
            let expected = value.parse::<u64>().ok().filter(|_| digits);
            let judged = framing(&format!("Content-Length: {value}\r\n"));
            prop_assert_eq!(judged, expected.map(BodyFraming::Length).ok_or(Rejection::FramingInvalid));
        }

        #[test]
        fn only_one_word_is_chunked(value in "[chunkedCHUNKED,; \t]{0,10}") {
            let chunked = framing(&format!("Transfer-Encoding: {value}\r\n")) == Ok(BodyFraming::Chunked);
            prop_assert_eq!(chunked, value.trim_matches([' ', '\t']).eq_ignore_ascii_case("chunked"));
        }
    }
}
