//! What a request asks for: the target, and the host it is asked of.
//!
//! Both are judged on the raw bytes and never rewritten. Whatever two readers could take for two different things is
//! refused (RFC 9112 section 3.2, RFC 3986 sections 3.2 and 3.3).

use core::net::Ipv6Addr;

use crate::outcome::Rejection;
use crate::wire::characters::{NAME, QUERY, all_of};
use crate::wire::path;

/// A target in parts. Parts that are not there are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ParsedTarget<'a> {
    /// The authority of an absolute-form.
    pub(super) authority: Option<Host<'a>>,
    /// The port that its scheme stands for.
    pub(super) default_port: u16,
    /// The path as written; empty when an absolute-form has none.
    pub(super) path: &'a [u8],
    /// The path and, with its question mark, the query.
    pub(super) path_and_query: &'a [u8],
}

impl<'a> ParsedTarget<'a> {
    /// Takes a target apart: origin-form, absolute-form of http and https, asterisk-form of `OPTIONS`.
    pub(super) fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, Rejection> {
        match target {
            b"*" if method == b"OPTIONS" => Ok(Self { path: target, path_and_query: target, ..Self::default() }),
            [b'/', ..] => Self::parse_path(target),
            _ => {
                let (default_port, rest) = strip_scheme(target).ok_or(Rejection::TargetInvalid)?;
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let (authority, path_and_query) = rest.split_at_checked(end).ok_or(Rejection::TargetInvalid)?;
                let authority = Some(Host::parse(authority).ok_or(Rejection::TargetInvalid)?);
                Ok(Self { authority, default_port, ..Self::parse_path(path_and_query)? })
            }
        }
    }

    fn parse_path(path_and_query: &'a [u8]) -> Result<Self, Rejection> {
        let end = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
        let (path, query) = path_and_query.split_at_checked(end).ok_or(Rejection::TargetInvalid)?;
        // A query without a path has an origin-form only in other words, and we do not reword.
        if path.is_empty() && !query.is_empty() || path::flaw(path).is_some() || !all_of(QUERY, query) {
            return Err(Rejection::TargetInvalid);
        }
        Ok(Self { path, path_and_query, ..Self::default() })
    }
}

/// The port that the scheme of an absolute-form stands for, and what follows it.
fn strip_scheme(target: &[u8]) -> Option<(u16, &[u8])> {
    let colon = memchr::memchr(b':', target)?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    let port = match scheme {
        _ if scheme.eq_ignore_ascii_case(b"http") => 80,
        _ if scheme.eq_ignore_ascii_case(b"https") => 443,
        _ => return None,
    };
    Some((port, rest.strip_prefix(b"://")?))
}

/// A host and its port, as they are written: nothing is decoded, and letters keep their case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host<'a> {
    /// A registered name or an IPv4 address, or an IPv6 address in its brackets. Without the dot with which a name may end:
    /// that is the same name (RFC 3986 section 3.2.2), but not to all who compare it.
    pub name: &'a [u8],
    /// The port with its colon; empty where there is none.
    pub port: &'a [u8],
}

impl<'a> Host<'a> {
    /// Reads `uri-host [ ":" port ]` (RFC 9110 section 7.2): a registered name, an IPv4 address or a bracketed IPv6
    /// address, and a port of at least one digit up to 65535.
    ///
    /// Stricter than the RFC where readers differ: no percent escapes, no comma, no empty name or label, no zone, and no
    /// colon without a port. The grammar has the last one, but no client sends it: the URL standard, curl and Go leave out
    /// the colon, and some applications take an empty port for a number.
    pub(super) fn parse(host: &'a [u8]) -> Option<Self> {
        let end = match host {
            [b'[', literal @ ..] => {
                let end = memchr::memchr(b']', literal)?;
                let address = core::str::from_utf8(literal.get(..end)?).ok()?;
                address.parse::<Ipv6Addr>().ok()?;
                end + 2
            }
            _ => memchr::memchr(b':', host).unwrap_or(host.len()),
        };
        let (name, port) = host.split_at_checked(end)?;
        if !port.is_empty() && !port.strip_prefix(b":").is_some_and(port_is_valid) {
            return None;
        }
        if name.starts_with(b"[") {
            return Some(Self { name, port });
        }
        let name = name.strip_suffix(b".").unwrap_or(name);
        name_is_valid(name).then_some(Self { name, port })
    }

    /// Whether both stand for the same place under a scheme with this port (RFC 9110 section 4.2.3).
    pub(super) fn is_same(self, other: Self, default_port: u16) -> bool {
        self.name.eq_ignore_ascii_case(other.name) && self.number(default_port) == other.number(default_port)
    }

    fn number(self, default_port: u16) -> u32 {
        match self.port {
            [] => u32::from(default_port),
            port => port_number(port.get(1..).unwrap_or_default()),
        }
    }
}

/// Whether `host` is a [`Host`].
#[must_use]
pub fn host_is_valid(host: &[u8]) -> bool {
    Host::parse(host).is_some()
}

fn name_is_valid(name: &[u8]) -> bool {
    let doubled = name.windows(2).any(|pair| pair == b"..");
    !name.is_empty() && all_of(NAME, name) && !name.starts_with(b".") && !name.ends_with(b".") && !doubled
}

fn port_number(port: &[u8]) -> u32 {
    port.iter().take(5).fold(0_u32, |value, digit| value * 10 + u32::from(digit & 0xf))
}

fn port_is_valid(port: &[u8]) -> bool {
    let digits = port.iter().all(u8::is_ascii_digit);
    digits && matches!(port.len(), 1..=5) && port_number(port) <= u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, target: &str) -> bool {
        ParsedTarget::parse(method.as_bytes(), target.as_bytes()) == Err(Rejection::TargetInvalid)
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
            ("/a?name=M\u{fc}ller&q=\"<x>\"^\\", "/a"),
        ] {
            let parsed = ParsedTarget::parse(b"POST", target.as_bytes());
            let (path, path_and_query) = (path.as_bytes(), target.as_bytes());
            let expected = ParsedTarget { path, path_and_query, ..ParsedTarget::default() };
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
            let parsed = ParsedTarget::parse(b"POST", target.as_bytes());
            assert_eq!(parsed.map(|t| t.authority), Ok(Host::parse(authority.as_bytes())), "{target}");
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
        assert_eq!(ParsedTarget::parse(b"OPTIONS", b"*").map(|t| t.path), Ok(&b"*"[..]));
        assert!(refused("POST", "*"));
        assert!(refused("options", "*"));
        assert!(refused("OPTIONS", "**"));
        assert!(refused("OPTIONS", "*/a"));
    }

    #[test]
    fn every_byte_has_its_place() {
        for byte in 0..=u8::MAX {
            let in_path = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/?".contains(&byte);
            let in_query = byte > b' ' && !b"#\x7f".contains(&byte);
            let path = [b"/a".as_slice(), &[byte], b"b"].concat();
            let query = [b"/a?b".as_slice(), &[byte], b"b"].concat();
            assert_eq!(ParsedTarget::parse(b"GET", &path).is_ok(), in_path, "{byte:#x} in a path");
            assert_eq!(ParsedTarget::parse(b"GET", &query).is_ok(), in_query, "{byte:#x} in a query");
        }
    }

    #[test]
    fn hosts() {
        #[rustfmt::skip]
        let table = [
            "a", "example.com", "EXAMPLE.com:443", "a_b", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:65535", "a:0",
            "a:00080", "[::ffff:1.2.3.4]", "xn--bcher-kva.example.", "a~!$&'()*+;=b", "a.:80",
        ];
        for host in table {
            assert!(host_is_valid(host.as_bytes()), "{host}");
        }
        #[rustfmt::skip]
        let table = [
            "", ":80", "a:", "a:65536", "a:123456", "a:000080", "a:-1", "a:+1", "a:8o", "a:80:80", "u@a", "a,b",
            "a b", "a/b", "a?b", "a#b", "a\\b", "a%41", "a\tb", "a\0", "[::1", "::1", "[::1]a", "[::1]:", "[]",
            "[1.2.3.4]", "[fe80::1%25a]", "[fe80::1%a]", "[v1.a]", "[:::1]", "[::1]:65536", "a[::1]", "caf\u{e9}",
            "<a>", "a\"", "[::1]]", " a", "a ", "[ ::1]", ".", "..", "a..", "a..b", ".a", ".:80", "[::1].", "[::1].:80",
        ];
        for host in table {
            assert!(!host_is_valid(host.as_bytes()), "{host:?}");
        }
    }
    #[test]
    fn a_name_ends_without_its_dot_and_a_port_keeps_its_colon() {
        for (host, name, port) in [
            ("a.example", "a.example", ""),
            ("A.example.", "A.example", ""),
            ("a.example.:8443", "a.example", ":8443"),
            ("127.0.0.1.", "127.0.0.1", ""),
            ("[::1]:80", "[::1]", ":80"),
        ] {
            let expected = Host { name: name.as_bytes(), port: port.as_bytes() };
            assert_eq!(Host::parse(host.as_bytes()), Some(expected), "{host}");
        }
    }

    #[test]
    fn a_default_port_is_no_difference() {
        let same = |a: &str, b: &str, port| {
            Host::parse(a.as_bytes()).unwrap_or_default().is_same(Host::parse(b.as_bytes()).unwrap_or_default(), port)
        };
        assert!(
            same("A.", "a", 80) && same("a:80", "a", 80) && same("a:443", "a.", 443) && same("a:0080", "a:80", 443)
        );
        assert!(!same("a:80", "a", 443) && !same("a:81", "a", 80) && !same("a", "b", 80));
    }
}
