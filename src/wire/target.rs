//! What a request asks for: the target, and the host it is asked of.
//!
//! Both are judged on the raw bytes and never rewritten. Whatever two readers could take for two different things is
//! refused (RFC 9112 section 3.2, RFC 3986 sections 3.2 and 3.3).

use core::net::Ipv6Addr;

use crate::outcome::Rejection;

/// May stand in a path.
const PATH: u8 = 1;
/// May stand in a query.
const QUERY: u8 = 2;
/// May stand in a registered name.
const NAME: u8 = 4;

/// Where each byte may stand. The query takes more than RFC 3986 gives it, because senders do.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let class = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => PATH | QUERY | NAME,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => PATH | QUERY | NAME,
            b'/' | b':' | b'@' | b'%' | b',' => PATH | QUERY,
            b'?' | b'[' | b']' | b'{' | b'}' | b'|' | b'`' => QUERY,
            _ => 0,
        };
        table[byte] = class;
        byte += 1;
    }
    table
}

/// Whether the parser lets `byte` stand in the path of a request.
#[must_use]
pub fn may_stand_in_path(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & PATH != 0
}

/// Whether the parser lets `byte` stand in the query of a request, the question mark before it included.
#[must_use]
pub fn may_stand_in_query(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & QUERY != 0
}

fn all_of(class: u8, bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| CLASSES[usize::from(*byte)] & class != 0)
}

/// A target in parts. Parts that are not there are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The authority of an absolute-form.
    pub(super) authority: Option<&'a [u8]>,
    /// The path as written; empty when an absolute-form has none.
    pub(super) path: &'a [u8],
    /// The path and, with its question mark, the query.
    pub(super) path_and_query: &'a [u8],
}

impl<'a> Target<'a> {
    /// Takes a target apart: origin-form, absolute-form of http and https, asterisk-form of `OPTIONS`.
    pub(super) fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, Rejection> {
        match target {
            b"*" if method == b"OPTIONS" => Ok(Self { authority: None, path: target, path_and_query: target }),
            [b'/', ..] => Self::parse_path(None, target),
            _ => {
                let rest = strip_scheme(target).ok_or(Rejection::TargetInvalid)?;
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let (authority, path_and_query) = rest.split_at_checked(end).ok_or(Rejection::TargetInvalid)?;
                if !host_is_valid(authority) {
                    return Err(Rejection::TargetInvalid);
                }
                Self::parse_path(Some(authority), path_and_query)
            }
        }
    }

    fn parse_path(authority: Option<&'a [u8]>, path_and_query: &'a [u8]) -> Result<Self, Rejection> {
        let end = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
        let (path, query) = path_and_query.split_at_checked(end).ok_or(Rejection::TargetInvalid)?;
        // A query without a path has an origin-form only in other words, and we do not reword.
        if path.is_empty() && !query.is_empty() || !all_of(PATH, path) || !all_of(QUERY, query) {
            return Err(Rejection::TargetInvalid);
        }
        if bytes_are_ambiguous(path) {
            return Err(Rejection::TargetInvalid);
        }
        Ok(Self { authority, path, path_and_query })
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', target)?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    let known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    rest.strip_prefix(b"://").filter(|_| known)
}

/// Whether two readers may take `path` for two different paths: doubled slashes; segments that end in a dot or an
/// escaped space (`.` and `..` among them), which some systems drop; a `;`, where some servers stop reading the
/// segment; backslashes; escapes of letters, digits and `-._~`, which mean the same unescaped; escapes of slashes,
/// backslashes and control bytes; percent signs that begin no escape.
#[must_use]
pub fn path_is_ambiguous(path: &str) -> bool {
    bytes_are_ambiguous(path.as_bytes())
}

fn bytes_are_ambiguous(path: &[u8]) -> bool {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let doubled = segment.is_empty() && segments.peek().is_some();
        if doubled || segment_is_ambiguous(segment) {
            return true;
        }
    }
    // "/" and "" are one empty segment; "//" is two, of which the first was doubled.
    false
}

fn segment_is_ambiguous(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut last = 0;
    while let [first, tail @ ..] = rest {
        let byte = if *first == b'%' {
            let Some(decoded) = escape(tail) else { return true };
            rest = tail.get(2..).unwrap_or_default();
            // RFC 3986 section 6.2.2.2: an escaped unreserved byte is the byte itself, to those who know.
            let unreserved = decoded.is_ascii_alphanumeric() || b"-._~".contains(&decoded);
            if unreserved || decoded.is_ascii_control() || matches!(decoded, b'/' | b'\\') {
                return true;
            }
            decoded
        } else {
            rest = tail;
            *first
        };
        if matches!(byte, b'\\' | b';' | 0) {
            return true;
        }
        last = byte;
    }
    matches!(last, b'.' | b' ')
}

/// The byte that the two digits after a percent sign stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    Some(hex_digit(*high)? << 4 | hex_digit(*low)?)
}

/// The value of a hexadecimal digit.
pub(super) const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Whether `host` is `uri-host [ ":" port ]` (RFC 9110 section 7.2): a registered name, an IPv4 address or a bracketed
/// IPv6 address, and a port of at least one digit up to 65535. Stricter than the RFC where readers differ: no
/// percent escapes, no comma, no empty name, no empty port, no zone.
#[must_use]
pub fn host_is_valid(host: &[u8]) -> bool {
    if let Some(literal) = host.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', literal) else { return false };
        let (address, rest) = (literal.get(..end).unwrap_or_default(), literal.get(end + 1..).unwrap_or_default());
        let valid = core::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
        return valid && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(port_is_valid));
    }
    match memchr::memchr(b':', host).and_then(|colon| host.split_at_checked(colon)) {
        Some((name, port)) => name_is_valid(name) && port.strip_prefix(b":").is_some_and(port_is_valid),
        None => name_is_valid(host),
    }
}

fn name_is_valid(name: &[u8]) -> bool {
    !name.is_empty() && all_of(NAME, name)
}

fn port_is_valid(port: &[u8]) -> bool {
    let digits = port.iter().all(u8::is_ascii_digit);
    let value = port.iter().take(5).fold(0_u32, |value, digit| value * 10 + u32::from(digit & 0xf));
    digits && matches!(port.len(), 1..=5) && value <= u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, target: &str) -> bool {
        Target::parse(method.as_bytes(), target.as_bytes()) == Err(Rejection::TargetInvalid)
    }

    #[test]
    fn origin_form_is_taken_as_it_is() {
        for (target, path) in [
            ("/", "/"),
            ("/hooks/github", "/hooks/github"),
            ("/a/?b=/../c//d", "/a/"),
            ("/a%20b?x[]={y|z}`", "/a%20b"),
            ("/~a!$&'()*+,=:@-._", "/~a!$&'()*+,=:@-._"),
            ("/a?", "/a"),
            ("/a?%zz", "/a"),
        ] {
            let parsed = Target::parse(b"POST", target.as_bytes());
            let expected = Target { authority: None, path: path.as_bytes(), path_and_query: target.as_bytes() };
            assert_eq!(parsed, Ok(expected), "{target}");
        }
    }

    #[test]
    fn absolute_form_is_http_or_https_only() {
        for (target, authority, rest) in [
            ("http://a.example/b?c", "a.example", "/b?c"),
            ("HTTPS://a.example:8443/", "a.example:8443", "/"),
            ("http://[::1]:80", "[::1]:80", ""),
        ] {
            let parsed = Target::parse(b"POST", target.as_bytes());
            assert_eq!(parsed.map(|t| t.authority), Ok(Some(authority.as_bytes())), "{target}");
            assert_eq!(parsed.map(|t| t.path_and_query), Ok(rest.as_bytes()), "{target}");
        }
        let bad =
            ["ftp://a/", "http:/a/", "http:a", "http:///a", "http://", "://a/", "http://u@a/", "http://a:x/", "a/b"];
        for target in bad.into_iter().chain(["a", "a:80", "http://a?b", "http://a/../b", "http://a,b/", "httpx://a/"]) {
            assert!(refused("POST", target), "{target}");
        }
    }

    #[test]
    fn the_asterisk_is_for_options() {
        assert_eq!(Target::parse(b"OPTIONS", b"*").map(|t| t.path), Ok(&b"*"[..]));
        assert!(refused("POST", "*"));
        assert!(refused("options", "*"));
        assert!(refused("OPTIONS", "**"));
        assert!(refused("OPTIONS", "*/a"));
    }

    #[test]
    fn every_byte_has_its_place() {
        for byte in 0..=u8::MAX {
            let in_path = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/?".contains(&byte);
            let in_query = in_path || b";[]{}|`%".contains(&byte);
            let path = [b"/a".as_slice(), &[byte], b"b"].concat();
            let query = [b"/a?b".as_slice(), &[byte], b"b"].concat();
            assert_eq!(Target::parse(b"GET", &path).is_ok(), in_path, "{byte:#x} in a path");
            assert_eq!(Target::parse(b"GET", &query).is_ok(), in_query, "{byte:#x} in a query");
        }
    }

    #[test]
    fn paths_that_can_be_read_twice_are_ambiguous() {
        #[rustfmt::skip]
        let table = [
            "//", "/a//b", "//a", "/a//", "/.", "/..", "/./a", "/a/..", "/a/../b", "/%2e", "/%2E%2e/a", "/.%2E",
            "/..;", "/..;a=b/c", "/.;/c", "/%2e%2e%3bx/", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", "/a%00", "/a%",
            "/a%2", "/a%zz", "/a%2g", "/%%32e", "/a\\b", "/a\0", "..", ".", "a//b",
            "/...", "/a.", "/a..", "/.../a", "/a;..", "/;", "/a;b/c", "/a%3Bb", "/%20", "/a%20/b", "/..%20",
            "/%2e.a", "/%2e%2e%2e", "/%67ithub", "/a%2Db", "/a%7e", "/a%09", "/a%7f",
        ];
        for path in table {
            assert!(path_is_ambiguous(path), "{path:?}");
        }
    }

    #[test]
    fn near_misses_are_plain_paths() {
        #[rustfmt::skip]
        let table = [
            "/", "/a", "/a/", "/a/b", "/.a", "/..a", "/a%20b", "/%2525", "/a.b", "/.well-known/a", "*", "",
            "/%252e%252e", "/%c3%bc", "/a%2Bb", "/a,b=c",
        ];
        for path in table {
            assert!(!path_is_ambiguous(path), "{path:?}");
        }
    }

    #[test]
    fn hosts() {
        #[rustfmt::skip]
        let table = [
            "a", "example.com", "EXAMPLE.com:443", "a_b", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:65535", "a:0",
            "a:00080", "[::ffff:1.2.3.4]", "xn--bcher-kva.example.", "a~!$&'()*+;=b",
        ];
        for host in table {
            assert!(host_is_valid(host.as_bytes()), "{host}");
        }
        #[rustfmt::skip]
        let table = [
            "", ":80", "a:", "a:65536", "a:123456", "a:000080", "a:-1", "a:+1", "a:8o", "a:80:80", "u@a", "a,b",
            "a b", "a/b", "a?b", "a#b", "a\\b", "a%41", "a\tb", "a\0", "[::1", "::1", "[::1]a", "[::1]:", "[]",
            "[1.2.3.4]", "[fe80::1%25a]", "[fe80::1%a]", "[v1.a]", "[:::1]", "[::1]:65536", "a[::1]", "caf\u{e9}",
            "<a>", "a\"", "[::1]]", " a", "a ", "[ ::1]",
        ];
        for host in table {
            assert!(!host_is_valid(host.as_bytes()), "{host:?}");
        }
    }
}
