//! The header names that this program has rules about, told apart once, while the head is parsed.
//!
//! Everything later (framing, hop-by-hop removal, forwarding) asks for a [`Known`] and never compares names again.
//! Names are compared without case. Many application servers also fold `_` into `-`, so a name that becomes one of
//! ours that way is a collision and has an answer of its own here.

use crate::outcome::Rejection;

/// Which of the names that we have rules about a header field has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Known {
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Keep-Alive`
    KeepAlive,
    /// `Proxy-Connection`
    ProxyConnection,
    /// `Proxy-Authenticate`
    ProxyAuthenticate,
    /// `Proxy-Authorization`
    ProxyAuthorization,
    /// `TE`
    Te,
    /// `Trailer`
    Trailer,
    /// `Upgrade`
    Upgrade,
    /// `Expect`
    Expect,
    /// `Via`
    Via,
    /// `Forwarded`
    Forwarded,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// Any other `X-Forwarded-*`, such as `X-Forwarded-Port`.
    XForwardedOther,
    /// `X-Request-Id`
    XRequestId,
    /// `X-Countersign-*` in any mix of case, `-` and `_`: what we tell the application, and nobody else may.
    XCountersign,
    /// `Date`
    Date,
    /// `Server`
    Server,
    /// `Content-Type`
    ContentType,
    /// Any other name.
    #[default]
    Other,
}

impl Known {
    /// The name as it is written in the request of a stranger.
    ///
    /// # Errors
    /// [`Rejection::HeaderReserved`] when the name has a `_`, a `.` or the like and would be one of the names above if
    /// it were a `-`: an application that folds them would take it for the header that we judged.
    pub fn of_request(name: &[u8]) -> Result<Self, Rejection> {
        match Self::folded(name) {
            known @ (Self::Other | Self::XCountersign) => Ok(known),
            _ if has_other_separator(name) => Err(Rejection::HeaderReserved),
            known => Ok(known),
        }
    }

    /// The name as HTTP reads it: another separator makes it another name, except under `X-Countersign`.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match Self::folded(name) {
            Self::XCountersign => Self::XCountersign,
            known if known != Self::Other && has_other_separator(name) => Self::Other,
            known => known,
        }
    }

    /// The name as an application server may read it: without case, and with every separator read as `-` (CGI and its
    /// heirs make a `_` of whatever is neither letter nor digit).
    #[must_use]
    pub fn folded(name: &[u8]) -> Self {
        let candidate = match name.len() {
            2 => (&b"te"[..], Self::Te),
            3 => (&b"via"[..], Self::Via),
            4 if is_letter(name, b'h') => (&b"host"[..], Self::Host),
            4 => (&b"date"[..], Self::Date),
            6 if is_letter(name, b's') => (&b"server"[..], Self::Server),
            6 => (&b"expect"[..], Self::Expect),
            7 if is_letter(name, b't') => (&b"trailer"[..], Self::Trailer),
            7 => (&b"upgrade"[..], Self::Upgrade),
            9 => (&b"forwarded"[..], Self::Forwarded),
            10 if is_letter(name, b'c') => (&b"connection"[..], Self::Connection),
            10 => (&b"keep-alive"[..], Self::KeepAlive),
            12 if is_letter(name, b'c') => (&b"content-type"[..], Self::ContentType),
            12 => (&b"x-request-id"[..], Self::XRequestId),
            14 if is_letter(name, b'c') => (&b"content-length"[..], Self::ContentLength),
            16 if is_letter(name, b'p') => (&b"proxy-connection"[..], Self::ProxyConnection),
            17 if is_letter(name, b't') => (&b"transfer-encoding"[..], Self::TransferEncoding),
            18 => (&b"proxy-authenticate"[..], Self::ProxyAuthenticate),
            19 if is_letter(name, b'p') => (&b"proxy-authorization"[..], Self::ProxyAuthorization),
            _ => return Self::folded_family(name),
        };
        if folds_to(name, candidate.0) { candidate.1 } else { Self::folded_family(name) }
    }

    /// The families of names that begin alike.
    fn folded_family(name: &[u8]) -> Self {
        const FORWARDED: &[u8] = b"x-forwarded-";
        const COUNTERSIGN: &[u8] = b"x-countersign";
        if !is_letter(name, b'x') {
            return Self::Other;
        }
        if let Some((family, rest)) = name.split_at_checked(FORWARDED.len())
            && folds_to(family, FORWARDED)
        {
            return match rest {
                _ if folds_to(rest, b"for") => Self::XForwardedFor,
                _ if folds_to(rest, b"proto") => Self::XForwardedProto,
                _ if folds_to(rest, b"host") => Self::XForwardedHost,
                _ => Self::XForwardedOther,
            };
        }
        match name.split_at_checked(COUNTERSIGN.len()) {
            Some((family, rest))
                if folds_to(family, COUNTERSIGN) && rest.first().is_none_or(|byte| fold(*byte) == b'-') =>
            {
                Self::XCountersign
            }
            _ => Self::Other,
        }
    }

    /// `Forwarded` or any `X-Forwarded-*`: what proxies tell about whom they speak for.
    #[must_use]
    pub const fn is_forwarding(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedHost
                | Self::XForwardedOther
        )
    }
}

/// Whether a name has a separator other than `-`.
#[must_use]
pub fn has_other_separator(name: &[u8]) -> bool {
    name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-')
}

/// Whether `name` is another spelling of `other` that an application may take for it: the same name without case and
/// with every separator read as `-`, but not the same header to HTTP.
#[must_use]
pub fn is_another_spelling(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len()
        && !name.eq_ignore_ascii_case(other)
        && name.iter().zip(other).all(|(&a, &b)| fold(a) == fold(b))
}

fn is_letter(name: &[u8], first: u8) -> bool {
    name.first().is_some_and(|byte| byte.to_ascii_lowercase() == first)
}

/// Whether `name` is `canonical` (lower case, `-`) without case and with every separator read as `-`.
fn folds_to(name: &[u8], canonical: &[u8]) -> bool {
    name.len() == canonical.len() && name.iter().zip(canonical).all(|(&a, &b)| fold(a) == b)
}

const fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[(&str, Known)] = &[
        ("Host", Known::Host),
        ("Content-Length", Known::ContentLength),
        ("Transfer-Encoding", Known::TransferEncoding),
        ("Connection", Known::Connection),
        ("Keep-Alive", Known::KeepAlive),
        ("Proxy-Connection", Known::ProxyConnection),
        ("Proxy-Authenticate", Known::ProxyAuthenticate),
        ("Proxy-Authorization", Known::ProxyAuthorization),
        ("TE", Known::Te),
        ("Trailer", Known::Trailer),
        ("Upgrade", Known::Upgrade),
        ("Expect", Known::Expect),
        ("Via", Known::Via),
        ("Forwarded", Known::Forwarded),
        ("X-Forwarded-For", Known::XForwardedFor),
        ("X-Forwarded-Proto", Known::XForwardedProto),
        ("X-Forwarded-Host", Known::XForwardedHost),
        ("X-Forwarded-Port", Known::XForwardedOther),
        ("X-Forwarded-Client-Cert", Known::XForwardedOther),
        ("X-Forwarded-", Known::XForwardedOther),
        ("X-Request-Id", Known::XRequestId),
        ("X-Countersign-Route", Known::XCountersign),
        ("X-Countersign", Known::XCountersign),
        ("Date", Known::Date),
        ("Server", Known::Server),
        ("Content-Type", Known::ContentType),
    ];

    #[test]
    fn every_name_is_known_in_any_case() {
        for (name, known) in NAMES {
            for spelling in [name.to_string(), name.to_lowercase(), name.to_uppercase()] {
                assert_eq!(Known::of_request(spelling.as_bytes()), Ok(*known), "{spelling}");
                assert_eq!(Known::of(spelling.as_bytes()), *known, "{spelling}");
            }
        }
    }

    #[test]
    fn near_misses_are_other_names() {
        let near = ["Hosts", "Hos", "Data", "Xia", "Content-Lengthy", "X-Forwarded", "X-Countersigned", "X-Request-Ip"];
        for name in near.into_iter().chain(["", "X", "Authorization", "X-Hub-Signature-256", "user_agent", "te_"]) {
            assert_eq!(Known::of_request(name.as_bytes()), Ok(Known::Other), "{name}");
        }
    }

    #[test]
    fn an_underscore_that_folds_into_a_known_name_is_reserved() {
        for (name, known) in NAMES.iter().filter(|(name, _)| name.contains('-')) {
            let spelling = name.replace('-', "_");
            let expected = if *known == Known::XCountersign { Ok(*known) } else { Err(Rejection::HeaderReserved) };
            assert_eq!(Known::of_request(spelling.as_bytes()), expected, "{spelling}");
            let heard = if *known == Known::XCountersign { *known } else { Known::Other };
            assert_eq!(Known::of(spelling.as_bytes()), heard, "{spelling}");
        }
        assert_eq!(Known::of_request(b"X-Forwarded_For"), Err(Rejection::HeaderReserved));
        assert_eq!(Known::of_request(b"x_CounterSign-Verified"), Ok(Known::XCountersign));
    }

    #[test]
    fn a_scheme_can_ask_for_its_own_names() {
        assert!(is_another_spelling(b"x_hub-signature_256", b"X-Hub-Signature-256"));
        assert!(!is_another_spelling(b"x-hub-signature-256", b"X-Hub-Signature-256"));
        assert!(!is_another_spelling(b"x_hub_signature", b"X-Hub-Signature-256"));
        assert!(is_another_spelling(b"X-Secret", b"X_Secret"));
    }
}
