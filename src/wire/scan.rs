//! Finding the end of a head while it arrives, without looking at a byte twice.
//!
//! The scanners promise that the number of calls does not change the answer: every refusal belongs to a byte, and the
//! first such byte decides, however the input was split. They refuse early what can never become a good head, so that
//! nothing is buffered for it; whether a complete head is good is for the parsers to say.

use crate::outcome::Rejection;
use crate::wire::characters::is_token_byte;
use crate::wire::message::HeadLimits;
use crate::wire::response::ResponseError;

/// Empty lines that a request may be preceded by (RFC 9112 section 2.2: "at least one" should be ignored).
const LEADING_EMPTY_LINES: usize = 2;

/// The version that every response begins with.
const RESPONSE_PREFIX: &[u8] = b"HTTP/1.";

/// The first byte of a TLS handshake (RFC 8446 section 5.1), with which no request begins.
const TLS_HANDSHAKE: u8 = 0x16;

/// A line feed without its carriage return.
struct BareLf;

/// Where the lines of a head end.
#[derive(Clone, Debug, Default)]
struct Lines {
    seen: usize,
    line_start: usize,
}

impl Lines {
    /// Looks at what is new in `window` and gives the end of the head, after its empty line, once it is there.
    fn advance(&mut self, window: &[u8]) -> Result<Option<usize>, BareLf> {
        let from = self.seen;
        for offset in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
            let at = from + offset;
            end_line(window, at)?;
            if at == self.line_start + 1 {
                self.seen = at + 1;
                return Ok(Some(at + 1));
            }
            self.line_start = at + 1;
        }
        self.seen = window.len();
        Ok(None)
    }
}

/// The line that ends with the line feed at `at` must end with CRLF.
fn end_line(window: &[u8], at: usize) -> Result<(), BareLf> {
    match at.checked_sub(1).and_then(|before| window.get(before)) {
        Some(b'\r') => Ok(()),
        _ => Err(BareLf),
    }
}

/// What has been seen of a request line.
#[derive(Clone, Copy, Debug)]
enum RequestLine {
    Method,
    Target { start: usize },
    Version,
    Ended,
}

/// Finds the end of a request head.
#[derive(Clone, Debug)]
pub struct HeadScan {
    lines: Lines,
    skipped: usize,
    request_line: RequestLine,
}

impl Default for HeadScan {
    fn default() -> Self {
        Self { lines: Lines::default(), skipped: 0, request_line: RequestLine::Method }
    }
}

impl HeadScan {
    /// A scanner that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the bytes that have arrived since the last call. `bytes` is everything received of this head: what
    /// the last call was given, and more. Gives the length of the head once it is complete, counted from the start
    /// of `bytes` and including the empty lines that were skipped.
    ///
    /// # Errors
    /// As soon as no further byte could make the head a good one: [`Rejection::HeadMalformed`], [`Rejection::TlsUnexpected`],
    /// [`Rejection::TargetTooLong`], [`Rejection::HeadTooLarge`].
    pub fn scan(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, Rejection> {
        let window = bytes.get(..limits.size).unwrap_or(bytes);
        if !self.skip_empty_lines(window)? {
            return self.incomplete(window, limits);
        }
        if !self.end_request_line(window, limits)? {
            return self.incomplete(window, limits);
        }
        match self.lines.advance(window) {
            Ok(Some(end)) => Ok(Some(end)),
            Ok(None) => self.incomplete(window, limits),
            Err(BareLf) => Err(Rejection::HeadMalformed),
        }
    }

    /// How many bytes of empty lines stand before the request line.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether anything of the request line itself has arrived: before that, a connection is idle.
    #[must_use]
    pub const fn begun(&self) -> bool {
        self.lines.seen > self.skipped
    }

    /// Whether the request line begins in `window`.
    fn skip_empty_lines(&mut self, window: &[u8]) -> Result<bool, Rejection> {
        if self.begun() {
            return Ok(true);
        }
        loop {
            match window.get(self.skipped..).unwrap_or_default() {
                [] => return Ok(false),
                [b'\r', ..] if self.skipped >= 2 * LEADING_EMPTY_LINES => return Err(Rejection::HeadMalformed),
                [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] => self.skipped += 2,
                [first, ..] if is_token_byte(*first) => break,
                [TLS_HANDSHAKE, ..] => return Err(Rejection::TlsUnexpected),
                _ => return Err(Rejection::HeadMalformed),
            }
        }
        self.lines = Lines { seen: self.skipped, line_start: self.skipped };
        Ok(true)
    }

    /// Whether the request line ends in `window`.
    fn end_request_line(&mut self, window: &[u8], limits: HeadLimits) -> Result<bool, Rejection> {
        if matches!(self.request_line, RequestLine::Ended) {
            return Ok(true);
        }
        let new = window.get(self.lines.seen..).unwrap_or_default();
        let line_end = memchr::memchr(b'\n', new).map(|offset| self.lines.seen + offset);
        self.judge_target(window, line_end.unwrap_or(window.len()), limits)?;
        let Some(at) = line_end else {
            self.lines.seen = window.len();
            return Ok(false);
        };
        end_line(window, at).map_err(|BareLf| Rejection::HeadMalformed)?;
        self.lines = Lines { seen: at + 1, line_start: at + 1 };
        self.request_line = RequestLine::Ended;
        Ok(true)
    }

    /// Follows the request line through its two spaces, up to `end`.
    fn judge_target(&mut self, window: &[u8], end: usize, limits: HeadLimits) -> Result<(), Rejection> {
        let mut from = self.lines.seen;
        if matches!(self.request_line, RequestLine::Method)
            && let Some(offset) = memchr::memchr(b' ', window.get(from..end).unwrap_or_default())
        {
            from += offset + 1;
            self.request_line = RequestLine::Target { start: from };
        }
        if let RequestLine::Target { start } = self.request_line {
            let space = memchr::memchr(b' ', window.get(from..end).unwrap_or_default()).map(|offset| from + offset);
            if space.unwrap_or(end).saturating_sub(start) > limits.target {
                return Err(Rejection::TargetTooLong);
            }
            if space.is_some() {
                self.request_line = RequestLine::Version;
            }
        }
        Ok(())
    }

    /// Nothing wrong in `window`, but the head does not end in it.
    fn incomplete(&self, window: &[u8], limits: HeadLimits) -> Result<Option<usize>, Rejection> {
        match self.request_line {
            _ if window.len() < limits.size => Ok(None),
            RequestLine::Target { .. } => Err(Rejection::TargetTooLong),
            _ => Err(Rejection::HeadTooLarge),
        }
    }
}

/// Finds the end of a response head. Nothing is skipped before it.
#[derive(Clone, Debug, Default)]
pub struct ResponseScan {
    lines: Lines,
}

impl ResponseScan {
    /// A scanner that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the bytes that have arrived since the last call; `bytes` as in [`HeadScan::scan`]. Gives the length
    /// of the head once it is complete.
    ///
    /// # Errors
    /// As soon as no further byte could make the head a good one.
    pub fn scan(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, ResponseError> {
        let window = bytes.get(..limits.size).unwrap_or(bytes);
        if window.iter().zip(RESPONSE_PREFIX).any(|(a, b)| a != b) {
            return Err(ResponseError::StatusLine);
        }
        match self.lines.advance(window) {
            Ok(Some(end)) => Ok(Some(end)),
            Ok(None) if window.len() < limits.size => Ok(None),
            Ok(None) => Err(ResponseError::HeadTooLarge),
            Err(BareLf) => Err(ResponseError::LineEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 64, fields: 8, target: 16 };

    /// The answer, and after how many bytes it came, when the input arrives in pieces of `piece` bytes.
    fn scan(input: &[u8], piece: usize) -> (Result<Option<usize>, Rejection>, usize) {
        let mut scan = HeadScan::new();
        let mut end = 0;
        loop {
            end = (end + piece).min(input.len());
            let found = scan.scan(&input[..end], LIMITS);
            if found != Ok(None) || end == input.len() {
                return (found, scan.skipped());
            }
        }
    }

    fn whole(input: &[u8]) -> Result<Option<usize>, Rejection> {
        scan(input, input.len().max(1)).0
    }

    fn response(input: &[u8], piece: usize) -> Result<Option<usize>, ResponseError> {
        let mut scan = ResponseScan::new();
        let mut end = 0;
        loop {
            end = (end + piece).min(input.len());
            let found = scan.scan(&input[..end], LIMITS);
            if found != Ok(None) || end == input.len() {
                return found;
            }
        }
    }

    #[test]
    fn a_head_ends_with_its_empty_line() {
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r\n"), Ok(Some(18)));
        assert_eq!(whole(b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\n"), Ok(Some(24)));
        assert_eq!(whole(b"GET / HTTP/1.1\r\nA: b\r\n"), Ok(None));
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r"), Ok(None));
        assert_eq!(whole(b""), Ok(None));
    }

    #[test]
    fn two_empty_lines_are_skipped_and_a_third_is_not() {
        assert_eq!(scan(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1), (Ok(Some(22)), 4));
        assert_eq!(scan(b"\r\nGET / HTTP/1.1\r\n\r\n", 99), (Ok(Some(20)), 2));
        assert_eq!(scan(b"\r\n\r\n", 1), (Ok(None), 4));
        assert_eq!(whole(b"\r\n\r\n\r"), Err(Rejection::HeadMalformed));
        assert_eq!(whole(b"\rG"), Err(Rejection::HeadMalformed));
        assert_eq!(whole(b"\nGET"), Err(Rejection::HeadMalformed));
    }

    #[test]
    fn a_connection_is_idle_until_a_request_line_begins() {
        let mut scan = HeadScan::new();
        assert_eq!(scan.scan(b"\r\n", LIMITS), Ok(None));
        assert!(!scan.begun());
        assert_eq!(scan.scan(b"\r\nG", LIMITS), Ok(None));
        assert!(scan.begun());
    }

    #[test]
    fn what_can_never_be_a_head_is_refused_at_once() {
        assert_eq!(whole(b"\x16\x03\x01"), Err(Rejection::TlsUnexpected));
        for bad in [&b" GET"[..], b"\0", b"\x80", b":", b"GET /\n", b"GET / HTTP/1.1\r\nA: b\n", b"(a"] {
            assert_eq!(whole(bad), Err(Rejection::HeadMalformed), "{bad:?}");
        }
        for bad in [&b"GET / HTTP/1.1\r\n\n"[..], b"GET / HTTP/1.1\r\nA\r\r\n\n", b"G\n"] {
            assert_eq!(whole(bad), Err(Rejection::HeadMalformed), "{bad:?}");
        }
    }

    #[test]
    fn limits_are_on_the_byte() {
        let of_size = |len: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(len - 23)).into_bytes();
        assert_eq!(whole(&of_size(64)), Ok(Some(64)));
        assert_eq!(whole(&of_size(65)), Err(Rejection::HeadTooLarge));
        assert_eq!(whole(&of_size(65)[..63]), Ok(None));
        assert_eq!(whole(&of_size(65)[..64]), Err(Rejection::HeadTooLarge));
        assert_eq!(whole(format!("GET /{}", "a".repeat(15)).as_bytes()), Ok(None));
        assert_eq!(whole(format!("GET /{}", "a".repeat(16)).as_bytes()), Err(Rejection::TargetTooLong));
        assert_eq!(whole(format!("GET /{} HTTP/1.1", "a".repeat(16)).as_bytes()), Err(Rejection::TargetTooLong));
        assert_eq!(whole("G".repeat(64).as_bytes()), Err(Rejection::HeadTooLarge));
        let wide = HeadLimits { target: 100, ..LIMITS };
        assert_eq!(
            HeadScan::new().scan(format!("GET /{}", "a".repeat(64)).as_bytes(), wide),
            Err(Rejection::TargetTooLong)
        );
    }

    #[test]
    fn responses_begin_at_once() {
        assert_eq!(response(b"HTTP/1.1 200 OK\r\n\r\nx", 1), Ok(Some(19)));
        assert_eq!(response(b"HTTP/1", 1), Ok(None));
        for bad in [&b"\r\nHTTP/1.1 200 OK\r\n\r\n"[..], b"HTTP/2", b"http/1.1", b"garbage"] {
            assert_eq!(response(bad, 1), Err(ResponseError::StatusLine), "{bad:?}");
        }
        assert_eq!(response(b"HTTP/1.1 200 OK\n", 1), Err(ResponseError::LineEnd));
        assert_eq!(response(&[b"HTTP/1.1 ".as_slice(), &[b'a'; 60]].concat(), 7), Err(ResponseError::HeadTooLarge));
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "GET",
            "POST",
            " ",
            "/",
            "/aaaaaaaaaa",
            "HTTP/1.1",
            "HTTP/1.1 200",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            "A: b",
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "\0",
            "GET / HTTP/1.1\r\n",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn splitting_changes_nothing(input in pieces(), piece in 1_usize..9) {
            prop_assert_eq!(scan(&input, piece), scan(&input, 4096));
            prop_assert_eq!(response(&input, piece), response(&input, 4096));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(input in prop::collection::vec(any::<u8>(), 0..100), piece in 1_usize..9) {
            prop_assert_eq!(scan(&input, piece), scan(&input, 4096));
        }
    }
}
