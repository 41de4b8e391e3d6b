//! The URL that the sender knows, which only configuration can tell: behind a proxy, `Host` and the scheme of the
//! connection are not what was configured at the provider, and anybody can send any `Host`.

use crate::wire::characters::hex_digit;
use core::fmt;

use super::form;

/// The external URL of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    path: String,
}

/// Whether a sender signs its URL with the port or without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlPort {
    /// As it is configured.
    #[default]
    AsConfigured,
    /// Either: with the port of the configuration, or the default one of the scheme, and without any.
    Either,
}

/// Why a text is not a public URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Neither `https://` nor `http://`.
    Scheme,
    /// No host, or user information before it.
    Host,
    /// A query or a fragment.
    Query,
    /// A byte that no URL has: white space, control and non-ASCII bytes, and `"<>\^{|}` with the backtick (RFC 3986,
    /// appendix A).
    Character,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it must begin with https:// or http://",
            Self::Host => "it needs a host, without user information",
            Self::Query => "it must not have a query or a fragment: the query is taken from each request",
            Self::Character => {
                "it must be ASCII without spaces and without any of {}|\\^<>\"`: percent-encode them; parameters such as \
                 {tenant} are not filled in"
            }
        })
    }
}

impl core::error::Error for UrlError {}

impl PublicUrl {
    /// Reads `https://host[:port][/path]`. Without a path (or with `/` alone) the path of each request is used.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
            return Err(UrlError::Character);
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(UrlError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if host.is_empty() || host.starts_with(':') || host.contains('@') {
            return Err(UrlError::Host);
        }
        let origin = text.strip_suffix(path).unwrap_or(text).to_owned();
        let path = if path == "/" { String::new() } else { path.to_owned() };
        Ok(Self { origin, path })
    }

    /// The same URL without its port, or with the default port of its scheme if it has none.
    #[must_use]
    pub fn with_other_port(&self) -> Self {
        let origin = match self.origin.rsplit_once(':') {
            // Of an IPv6 address and of `https://`, the last colon is followed by something else.
            Some((bare, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => bare.to_owned(),
            _ if self.origin.starts_with("https:") => format!("{}:443", self.origin),
            _ => format!("{}:80", self.origin),
        };
        Self { origin, path: self.path.clone() }
    }

    /// Scheme, host and port, without a slash at the end.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The path of the configuration; empty where that of each request is used.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What differs from one delivery to the next of the URL that the sender signed for a request to `target`.
    pub(super) fn varying<'d>(&self, target: &'d [u8]) -> &'d [u8] {
        if self.path.is_empty() { target } else { target.get(path_of(target).len()..).unwrap_or_default() }
    }

    /// The URL that the sender signed for a request to `target`: our origin, our path or else the request's, and the
    /// query of the request as received.
    pub(crate) fn write(&self, target: &[u8], sink: &mut dyn FnMut(&[u8])) {
        sink(self.origin.as_bytes());
        sink(if self.path.is_empty() { path_of(target) } else { self.path.as_bytes() });
        if let Some(query) = form::query(target) {
            sink(b"?");
            sink(query);
        }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// The path of a request target, without the query.
pub(super) fn path_of(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// What HubSpot's v3 signature decodes.
pub(super) const UNESCAPED: &[u8] = b":/?@!$'()*,;";

/// Whether `varying`, a path or a query or both, has one spelling only among those that [`write_unescaped`] makes equal
/// and a reader takes for another one: escapes in a path, which may be another path, and a `;` in a query, which some
/// readers take for `&`.
pub(super) fn has_one_meaning(varying: &[u8]) -> bool {
    let path = path_of(varying);
    let query = varying.get(path.len()..).unwrap_or_default();
    let mut unescaped = 0;
    write_unescaped(path, &mut |piece| unescaped += piece.len());
    unescaped == path.len() && memchr::memchr(b';', query).is_none()
}

/// Writes `text` with the twelve escapes decoded that HubSpot's v3 signature decodes, in either case, and every other
/// escape as it stands.
pub(super) fn write_unescaped(text: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let (before, escape) = rest.split_at_checked(at).unwrap_or_default();
        sink(before);
        let (byte, after) = match escape {
            [_, high, low, after @ ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) if UNESCAPED.contains(&(high << 4 | low)) => (high << 4 | low, after),
                _ => (b'%', escape.get(1..).unwrap_or_default()),
            },
            _ => (b'%', escape.get(1..).unwrap_or_default()),
        };
        sink(&[byte]);
        rest = after;
    }
    sink(rest);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn url(public: &str, target: &str) -> String {
        let mut out = Vec::new();
        PublicUrl::parse(public).unwrap().write(target.as_bytes(), &mut |bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn path_of_the_configuration_or_of_the_request() {
        assert_eq!(url("https://a.example", "/hook?x=1"), "https://a.example/hook?x=1");
        assert_eq!(url("https://a.example/", "/hook"), "https://a.example/hook");
        assert_eq!(url("https://a.example:8443/in/hook", "/hook?x=1&y"), "https://a.example:8443/in/hook?x=1&y");
        assert_eq!(url("http://a.example", "/hook?"), "http://a.example/hook?");
    }

    #[test]
    fn the_port_is_taken_off_or_added() {
        for (written, other) in [
            ("https://a.example/sms", "https://a.example:443/sms"),
            ("https://a.example:443/sms", "https://a.example/sms"),
            ("https://a.example:8443/sms", "https://a.example/sms"),
            ("http://a.example", "http://a.example:80"),
            ("http://[2001:db8::1]/x", "http://[2001:db8::1]:80/x"),
            ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]/x"),
            ("https://a.example/x:80", "https://a.example:443/x:80"),
        ] {
            assert_eq!(PublicUrl::parse(written).unwrap().with_other_port().to_string(), other);
        }
    }

    #[test]
    fn what_is_not_a_public_url() {
        assert_eq!(PublicUrl::parse("ftp://a"), Err(UrlError::Scheme));
        assert_eq!(PublicUrl::parse("https:///x"), Err(UrlError::Host));
        assert_eq!(PublicUrl::parse("https://u@a/x"), Err(UrlError::Host));
        assert_eq!(PublicUrl::parse("https://a/x?y"), Err(UrlError::Query));
        assert_eq!(PublicUrl::parse("https://a/ x"), Err(UrlError::Character));
        for byte in "{}|\\^<>\"`".chars() {
            assert_eq!(PublicUrl::parse(&format!("https://a/{byte}")), Err(UrlError::Character), "{byte}");
            assert_eq!(PublicUrl::parse(&format!("https://a{byte}/")), Err(UrlError::Character), "{byte}");
        }
    }

    #[test]
    fn what_is_signed_unescaped_is_one_path_and_one_query() {
        for one in ["/hook", "/in%20a?x=%3A:", "?a=%3B%3b", "", "/a?"] {
            assert!(has_one_meaning(one.as_bytes()), "{one}");
        }
        for several in ["/hook%3Fx=1", "/a%3Ab?x", "/a%2fb", "?a=1;b=2", "/a?;"] {
            assert!(!has_one_meaning(several.as_bytes()), "{several}");
        }
        let url = PublicUrl::parse("https://a.example/hook").unwrap();
        assert_eq!(url.varying(b"/elsewhere%3F?x=1"), b"?x=1");
        assert_eq!(url.varying(b"/elsewhere"), b"");
        assert_eq!(PublicUrl::parse("https://a.example").unwrap().varying(b"/p?x"), b"/p?x");
    }

    #[test]
    fn twelve_escapes_are_decoded_and_no_other() {
        let unescaped = |text: &str| {
            let mut out = Vec::new();
            write_unescaped(text.as_bytes(), &mut |bytes| out.extend_from_slice(bytes));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(unescaped("%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B"), ":/?@!$'()*,;");
        assert_eq!(unescaped("%3a%2f"), ":/");
        assert_eq!(unescaped("a%20b%26c%25%3a%"), "a%20b%26c%25:%");
        assert_eq!(unescaped("%%3A%3"), "%:%3");
    }
}
