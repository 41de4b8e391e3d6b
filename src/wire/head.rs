//! A request head: tokens from httparse, judgements from us.
//!
//! The head is held as spans into the bytes it was read from; a [`RequestHead`] is reused from request to request and
//! allocates nothing once it has seen its largest. A head that two readers could take for two different requests is
//! refused here and nowhere later.

use core::mem::MaybeUninit;

use crate::outcome::Rejection;
use crate::wire::headers::{Field, Headers, Kinds, Span};
use crate::wire::message::lines_are_well_formed;
use crate::wire::options::{ConnectionOptions, TooManyOptions};
use crate::wire::target::ParsedTarget;

pub use crate::wire::known::Known;
pub use crate::wire::message::{HeadLimits, MAX_FIELDS, Version};
pub use crate::wire::path::path_is_ambiguous;
pub use crate::wire::response::{ResponseError, ResponseHead, status_of};
pub use crate::wire::scan::{HeadScan, ResponseScan};
pub use crate::wire::target::{Host, host_is_valid};

/// A request head. Spans are relative to the first byte that [`RequestHead::parse`] was given.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method as sent: any token but `CONNECT`. Methods are case-sensitive.
    pub method: Span,
    /// The target as sent.
    pub target: Span,
    /// The version.
    pub version: Version,
    /// The fields in order of arrival.
    pub fields: Vec<Field>,
    kinds: Kinds,
    options: ConnectionOptions,
    host: Span,
    port: Span,
    path: Span,
    path_and_query: Span,
}

impl RequestHead {
    /// An empty head, to parse into.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses one head: `bytes` is what [`HeadScan::scan`] found, from the first byte (empty lines before the request
    /// line included) to the end of the final empty line and not a byte more. After an error the head is empty.
    ///
    /// # Errors
    /// [`Rejection::HeadMalformed`], [`Rejection::VersionUnsupported`], [`Rejection::TargetTooLong`],
    /// [`Rejection::HeadTooLarge`], [`Rejection::TargetInvalid`], [`Rejection::HostInvalid`],
    /// [`Rejection::MethodUnsupported`], [`Rejection::HeaderReserved`].
    pub fn parse(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<(), Rejection> {
        self.clear();
        let parsed = self.tokenize(bytes, limits).and_then(|()| self.judge(bytes, limits));
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

    fn tokenize(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<(), Rejection> {
        if bytes.len() > limits.size {
            return Err(Rejection::HeadTooLarge);
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let slots = slots.get_mut(..limits.fields.min(MAX_FIELDS)).unwrap_or_default();
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, slots) {
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Ok(_) => return Err(Rejection::HeadMalformed),
            Err(httparse::Error::Version) => return Err(judge_version(bytes)),
            Err(httparse::Error::TooManyHeaders) => return Err(Rejection::HeadTooLarge),
            Err(_) => return Err(Rejection::HeadMalformed),
        }
        self.method = Span::within(request.method.unwrap_or_default().as_bytes(), bytes);
        self.target = Span::within(request.path.unwrap_or_default().as_bytes(), bytes);
        self.version = Version::from_minor(request.version).ok_or(Rejection::VersionUnsupported)?;
        if !lines_are_well_formed(bytes) {
            return Err(Rejection::HeadMalformed);
        }
        for header in request.headers.iter() {
            let (kind, spelling) = Known::judged(header.name.as_bytes())?;
            self.kinds.note(kind, spelling);
            let (name, value) = (Span::within(header.name.as_bytes(), bytes), Span::within(header.value, bytes));
            if kind == Known::Connection {
                self.options.read(value, bytes).map_err(|TooManyOptions| Rejection::HeadTooLarge)?;
            }
            self.fields.push(Field { name, value, kind });
        }
        if self.options.is_malformed() { Err(Rejection::HeadMalformed) } else { Ok(()) }
    }

    /// What the tokens mean, and whether that is one thing only.
    fn judge(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<(), Rejection> {
        let method = self.method.of(bytes);
        if self.target.of(bytes).len() > limits.target {
            return Err(Rejection::TargetTooLong);
        }
        if method == b"CONNECT" {
            return Err(Rejection::MethodUnsupported);
        }
        let target = ParsedTarget::parse(method, self.target.of(bytes))?;
        let host = self.judge_host(bytes)?;
        let host = match (target.authority, host) {
            (Some(authority), Some(host)) if !authority.is_same(host, target.default_port) => {
                return Err(Rejection::HostInvalid);
            }
            (Some(authority), _) => authority,
            (None, host) => host.unwrap_or_default(),
        };
        self.host = Span::within(host.name, bytes);
        self.port = Span::within(host.port, bytes);
        self.path = Span::within(target.path, bytes);
        self.path_and_query = Span::within(target.path_and_query, bytes);
        Ok(())
    }

    /// RFC 9112 section 3.2: exactly one valid `Host`, except that HTTP/1.0 may do without.
    fn judge_host<'a>(&self, bytes: &'a [u8]) -> Result<Option<Host<'a>>, Rejection> {
        let mut hosts = self.fields.iter().filter(|field| field.kind == Known::Host).map(|field| field.value.of(bytes));
        match (hosts.next(), hosts.next()) {
            (Some(host), None) => Host::parse(host).map(Some).ok_or(Rejection::HostInvalid),
            (None, _) if self.version == Version::Http10 => Ok(None),
            _ => Err(Rejection::HostInvalid),
        }
    }

    /// The fields over the bytes that were parsed.
    #[must_use]
    pub fn headers<'a>(&'a self, bytes: &'a [u8]) -> Headers<'a> {
        Headers::new(bytes, &self.fields, self.kinds, &self.options)
    }

    /// The raw path: begins with `/`, unless it is the `*` of `OPTIONS`.
    #[must_use]
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a str {
        core::str::from_utf8(self.or_root(self.path, bytes)).unwrap_or_default()
    }

    /// The target in origin-form (or the `*` of `OPTIONS`), also when absolute-form came.
    #[must_use]
    pub fn path_and_query<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.or_root(self.path_and_query, bytes)
    }

    /// The query, without the question mark; empty where there is none.
    #[must_use]
    pub fn query<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let mark = self.path.of(bytes).len();
        self.path_and_query.of(bytes).get(mark + 1..).unwrap_or_default()
    }

    /// The host that is asked: the authority of an absolute-form or the `Host` field. Empty only in HTTP/1.0.
    #[must_use]
    pub fn host<'a>(&self, bytes: &'a [u8]) -> Host<'a> {
        Host { name: self.host.of(bytes), port: self.port.of(bytes) }
    }

    /// RFC 9112 section 3.2.4: the empty path of an absolute-form is `/` in origin-form, and `*` for `OPTIONS`.
    fn or_root<'a>(&self, span: Span, bytes: &'a [u8]) -> &'a [u8] {
        match span.of(bytes) {
            [] if self.method.of(bytes) == b"OPTIONS" => b"*",
            [] => b"/",
            written => written,
        }
    }
}

/// A version that httparse does not know: one of another protocol, or nonsense (RFC 9112 section 2.3).
fn judge_version(bytes: &[u8]) -> Rejection {
    let line = bytes.split(|byte| *byte == b'\n').find(|line| !matches!(line, [] | [b'\r'])).unwrap_or_default();
    let version = line.strip_suffix(b"\r").and_then(|line| line.rsplit(|byte| *byte == b' ').next());
    match version.and_then(|version| version.strip_prefix(b"HTTP/")) {
        Some([b'2'..=b'9', b'.', b'0'..=b'9']) => Rejection::VersionUnsupported,
        _ => Rejection::HeadMalformed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 4096, fields: 16, target: 64 };

    fn parse(bytes: &[u8]) -> Result<RequestHead, Rejection> {
        let mut head = RequestHead::new();
        head.parse(bytes, LIMITS).map(|()| head)
    }

    fn refusal(bytes: &[u8]) -> Option<Rejection> {
        parse(bytes).err()
    }

    fn host(name: &'static [u8], port: &'static [u8]) -> Host<'static> {
        Host { name, port }
    }

    /// A request with this request line and this host.
    fn line(line: &str, host: &str) -> Result<RequestHead, Rejection> {
        parse(format!("{line}\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    fn with_field(field: &[u8]) -> Result<RequestHead, Rejection> {
        parse(&[b"POST / HTTP/1.1\r\nHost: a\r\n".as_slice(), field, b"\r\n\r\n"].concat())
    }

    #[test]
    fn a_head_is_read_as_it_is() {
        let bytes = b"\r\nPOST /a?b HTTP/1.1\r\nhost: A.example\r\nX:\t c d \r\nEmpty:\r\nX: \xff\r\n\r\n";
        let head = parse(bytes).unwrap();
        assert_eq!((head.method.of(bytes), head.target.of(bytes)), (&b"POST"[..], &b"/a?b"[..]));
        assert_eq!(
            (head.version, head.path(bytes), head.host(bytes)),
            (Version::Http11, "/a", host(b"A.example", b""))
        );
        assert_eq!(head.path_and_query(bytes), b"/a?b");
        assert_eq!(head.query(bytes), b"b");
        let fields: Vec<_> = head.headers(bytes).with_kinds().collect();
        assert_eq!(fields[0], (Known::Host, &b"host"[..], &b"A.example"[..]));
        assert_eq!(fields[1], (Known::Other, &b"X"[..], &b"c d"[..]));
        assert_eq!(fields[2], (Known::Other, &b"Empty"[..], &b""[..]));
        assert_eq!(fields[3], (Known::Other, &b"X"[..], &b"\xff"[..]));
    }

    #[test]
    fn a_head_is_reused_without_a_trace() {
        let mut head = RequestHead::new();
        head.parse(b"POST /long/path HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", LIMITS).unwrap();
        let bytes = b"GET / HTTP/1.0\r\n\r\n";
        head.parse(bytes, LIMITS).unwrap();
        assert!(head.fields.is_empty() && head.host(bytes) == Host::default() && head.path(bytes) == "/");
        assert_eq!(head.parse(b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", LIMITS), Err(Rejection::HostInvalid));
        assert!(head.fields.is_empty() && head.target == Span::default());
    }

    #[test]
    fn request_lines() {
        for good in ["GET / HTTP/1.1", "GET / HTTP/1.0", "post / HTTP/1.1", "M-SEARCH / HTTP/1.1", "connect / HTTP/1.1"]
        {
            assert!(line(good, "a").is_ok(), "{good}");
        }
        #[rustfmt::skip]
        let table = [
            "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET\t/ HTTP/1.1", "GET /",
            "GET", "GET / http/1.1", "GET / HTTP/1.2", "GET / HTTP/0.9", "GET / HTTP/1.10", "GET / HTTP/11",
            "GET / HTTP/1", "G(T / HTTP/1.1", "GET / HTTP/1,1", "GET / HTTP/ 1.1", "GET / FTP/1.1",
            "GET / / HTTP/1.1", "GET / HTTP/1.1\0", "G\u{e9}T / HTTP/1.1", "GET / HTTP/-1.1", "GET / HTTP/22.0",
        ];
        for bad in table {
            assert_eq!(line(bad, "a").err(), Some(Rejection::HeadMalformed), "{bad:?}");
        }
        for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/9.1"] {
            assert_eq!(line(&format!("GET / {version}"), "a").err(), Some(Rejection::VersionUnsupported));
        }
        assert_eq!(refusal(b"PRI * HTTP/2.0\r\n\r\n"), Some(Rejection::VersionUnsupported));
        assert_eq!(line("CONNECT a:443 HTTP/1.1", "a:443").err(), Some(Rejection::MethodUnsupported));
        assert_eq!(line("CONNECT / HTTP/1.1", "a").err(), Some(Rejection::MethodUnsupported));
    }

    #[test]
    fn line_ends_are_crlf() {
        #[rustfmt::skip]
        let table = [
            &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n", b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
            b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx", b"", b"\r\n\r\n",
        ];
        for bad in table {
            assert_eq!(refusal(bad), Some(Rejection::HeadMalformed), "{:?}", bad.escape_ascii().to_string());
        }
        assert!(parse(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    }

    #[test]
    fn field_lines() {
        #[rustfmt::skip]
        let table = [
            &b"A : b"[..], b": b", b"A", b" A: b", b"A: b\r\n c", b"A: b\r\n\tc", b"A b: c", b"A: b\0", b"A\0: b",
            b"A\xff: b",
        ];
        for bad in table {
            assert_eq!(with_field(bad).err(), Some(Rejection::HeadMalformed), "{:?}", bad.escape_ascii().to_string());
        }
        for good in [&b"A:"[..], b"A:b", b"A:  b\t ", b"!#$%&'*+-.^_`|~: b", b"A: b: c", b"A: \"b", b"a: \x80\xff"] {
            assert!(with_field(good).is_ok(), "{:?}", good.escape_ascii().to_string());
        }
    }

    #[test]
    fn every_byte_has_its_place() {
        for byte in 0..=u8::MAX {
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            // A colon ends the name, and begins the value.
            assert_eq!(
                with_field(&[b'A', byte, b'b', b':', b'c']).is_ok(),
                token || byte == b':',
                "{byte:#x} in a name"
            );
            let text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            assert_eq!(with_field(&[b'A', b':', b'b', byte, b'c']).is_ok(), text, "{byte:#x} in a value");
            let method = parse(&[b"G", [byte].as_slice(), b"T / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
            assert_eq!(method.is_ok(), token, "{byte:#x} in a method");
        }
    }

    #[test]
    fn limits_are_on_the_byte() {
        let fields = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(count)).into_bytes();
        assert!(parse(&fields(16)).is_ok());
        assert_eq!(refusal(&fields(17)), Some(Rejection::HeadTooLarge));
        let wide = HeadLimits { fields: usize::MAX, ..LIMITS };
        assert!(RequestHead::new().parse(&fields(MAX_FIELDS), wide).is_ok());
        assert_eq!(RequestHead::new().parse(&fields(MAX_FIELDS + 1), wide), Err(Rejection::HeadTooLarge));
        let target = |len: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(len - 1)).into_bytes();
        assert!(parse(&target(64)).is_ok());
        assert_eq!(refusal(&target(65)), Some(Rejection::TargetTooLong));
        let exact = fields(3);
        let narrow = |size: usize| RequestHead::new().parse(&exact, HeadLimits { size, ..LIMITS });
        assert_eq!((narrow(exact.len()), narrow(exact.len() - 1)), (Ok(()), Err(Rejection::HeadTooLarge)));
    }

    #[test]
    fn one_host_and_a_good_one() {
        let no_host = b"GET / HTTP/1.1\r\n\r\n";
        assert_eq!(refusal(no_host), Some(Rejection::HostInvalid));
        assert!(parse(b"GET / HTTP/1.0\r\n\r\n").is_ok());
        for version in ["1.0", "1.1"] {
            for hosts in [
                "Host: a\r\nHost: a",
                "Host: a\r\nhOST: b",
                "Host:",
                "Host: a,b",
                "Host: u@a",
                "Host: a:99999",
                "Host: a b",
            ] {
                let bytes = format!("GET / HTTP/{version}\r\n{hosts}\r\n\r\n");
                assert_eq!(refusal(bytes.as_bytes()), Some(Rejection::HostInvalid), "{bytes:?}");
            }
        }
        assert!(line("GET / HTTP/1.1", "[::1]:8080").is_ok());
    }

    #[test]
    fn an_absolute_target_agrees_with_its_host() {
        let bytes = b"POST http://A.example:80/b?c HTTP/1.1\r\nHost: a.example:80\r\n\r\n";
        let head = parse(bytes).unwrap();
        assert_eq!((head.host(bytes), head.path(bytes)), (host(b"A.example", b":80"), "/b"));
        assert_eq!(head.path_and_query(bytes), b"/b?c");
        let bytes = b"OPTIONS http://a HTTP/1.0\r\n\r\n";
        assert_eq!(parse(bytes).map(|head| (head.host(bytes), head.path(bytes))), Ok((host(b"a", b""), "*")));
        assert_eq!(line("POST http://a HTTP/1.1", "a").map(|head| head.path(b"").len()), Ok(1));
        for (target, host) in
            [("http://a:80/", "a"), ("http://a/", "a:80"), ("https://a:443/", "A."), ("http://a.:80/", "a")]
        {
            assert!(line(&format!("GET {target} HTTP/1.1"), host).is_ok(), "{target}");
        }
        for (target, host) in [("http://a/", "b"), ("http://a:443/", "a"), ("https://a/", "a:80"), ("http://a/", "a:8")]
        {
            assert_eq!(line(&format!("GET {target} HTTP/1.1"), host).err(), Some(Rejection::HostInvalid), "{target}");
        }
        assert_eq!(refusal(b"GET http://a/ HTTP/1.1\r\n\r\n"), Some(Rejection::HostInvalid));
    }

    #[test]
    fn targets_that_can_be_read_twice_are_refused() {
        #[rustfmt::skip]
        let table = [
            "/a#b", "/a//b", "/../a", "/%2e%2e/a", "/a%2fb", "/a\\b", "/a\"b", "/a<b", "/a^b", "/a{b}", "*", "a",
            "/caf\u{e9}",
        ];
        for target in table {
            assert_eq!(line(&format!("GET {target} HTTP/1.1"), "a").err(), Some(Rejection::TargetInvalid), "{target}");
        }
        assert!(line("OPTIONS * HTTP/1.1", "a").is_ok());
    }

    #[test]
    fn names_that_fold_into_ours_are_reserved() {
        for name in [
            "Content_Length",
            "TRANSFER_ENCODING",
            "x_forwarded_for",
            "X-Forwarded_Proto",
            "keep_alive",
            "X_Request_Id",
            "Content__Length",
            "Content-Length_",
            "Transfer-Encoding-",
            "_Host",
        ] {
            assert_eq!(with_field(format!("{name}: 1").as_bytes()).err(), Some(Rejection::HeaderReserved), "{name}");
        }
        for name in ["user_agent", "x_countersign_route", "x_hub_signature", "_", "Content__Lengths"] {
            assert!(with_field(format!("{name}: 1").as_bytes()).is_ok(), "{name}");
        }
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "GET",
            "POST",
            " ",
            "/",
            "/a?b",
            "HTTP/1.1",
            "HTTP/1.0",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            "Host: a",
            "Host: ",
            "A: b",
            ":",
            "\0",
            "\t",
            "http://a",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "Content-Length: 1\r\n",
            "é",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn no_span_of_a_parsed_head_can_break_a_line(input in pieces()) {
            if let Ok(head) = parse(&input) {
                let fields = head.fields.iter().flat_map(|field| [field.name, field.value]);
                for span in fields.chain([head.method, head.target, head.host, head.port, head.path, head.path_and_query]) {
                    prop_assert!(!span.of(&input).iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                }
                // The scanner and the parser see the same head.
                prop_assert_eq!(HeadScan::new().scan(&input, LIMITS), Ok(Some(input.len())));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&input);
            let _ = path_is_ambiguous(&String::from_utf8_lossy(&input));
        }
    }
}
