//! The header names that this program has rules about, told apart once, while the head is parsed.
//!
//! Everything later (framing, hop-by-hop removal, forwarding) asks for a [`Known`] and never compares names again.
//! Names are compared without case. Many application servers also fold `_` into `-`, so a name that becomes one of
//! ours that way is a collision and has an answer of its own here.

use crate::outcome::Rejection;
use crate::wire::believed;

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
    /// A name under which applications look for the address of their client, such as `X-Real-IP`, in any spelling.
    ClientIp,
    /// Another name by which applications believe who called or what was asked, such as `X-Original-URL` or
    /// `X-SSL-Client-Verify`, in any spelling.
    Believed,
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
        match Self::told_apart(name) {
            (Self::Other, _) => Ok(Self::Other),
            // The whole family is ours, and a spelling of the others is dropped like the name itself.
            (known @ (Self::XCountersign | Self::ClientIp | Self::Believed), _) => Ok(known),
            (known, Spelling::Own) => Ok(known),
            (_, Spelling::Folded) => Err(Rejection::HeaderReserved),
        }
    }

    /// The name as HTTP reads it: another separator makes it another name, except under `X-Countersign` and for
    /// what applications believe.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match Self::told_apart(name) {
            (known @ (Self::XCountersign | Self::ClientIp | Self::Believed), _) => known,
            (known, Spelling::Own) => known,
            (_, Spelling::Folded) => Self::Other,
        }
    }

    /// The name as an application server may read it: without case, and with every separator read as `-` (CGI and its
    /// heirs make a `_` of whatever is neither letter nor digit).
    #[must_use]
    pub fn folded(name: &[u8]) -> Self {
        Self::told_apart(name).0
    }

    /// The name as an application server may read it, and whether that takes folding. Nearly every name is told apart by
    /// its length and its first letter.
    fn told_apart(name: &[u8]) -> (Self, Spelling) {
        let Some(first) = name.first().map(u8::to_ascii_lowercase) else { return (Self::Other, Spelling::Own) };
        let (spelling, known) = match (name.len(), first) {
            (2, b't') => (spelled(name, b"te"), Self::Te),
            (3, b'v') => (spelled(name, b"via"), Self::Via),
            (4, b'h') => (spelled(name, b"host"), Self::Host),
            (4, b'd') => (spelled(name, b"date"), Self::Date),
            (6, b's') => (spelled(name, b"server"), Self::Server),
            (6, b'e') => (spelled(name, b"expect"), Self::Expect),
            (7, b't') => (spelled(name, b"trailer"), Self::Trailer),
            (7, b'u') => (spelled(name, b"upgrade"), Self::Upgrade),
            (9, b'f') => (spelled(name, b"forwarded"), Self::Forwarded),
            (10, b'c') => (spelled(name, b"connection"), Self::Connection),
            (10, b'k') => (spelled(name, b"keep-alive"), Self::KeepAlive),
            (12, b'c') => (spelled(name, b"content-type"), Self::ContentType),
            (12, b'x') => (spelled(name, b"x-request-id"), Self::XRequestId),
            (14, b'c') => (spelled(name, b"content-length"), Self::ContentLength),
            (16, b'p') => (spelled(name, b"proxy-connection"), Self::ProxyConnection),
            (17, b't') => (spelled(name, b"transfer-encoding"), Self::TransferEncoding),
            (18, b'p') => (spelled(name, b"proxy-authenticate"), Self::ProxyAuthenticate),
            (19, b'p') => (spelled(name, b"proxy-authorization"), Self::ProxyAuthorization),
            _ => (None, Self::Other),
        };
        match spelling {
            Some(spelling) => (known, spelling),
            None if first == b'x' => Self::told_by_family(name),
            None => (believed::kind(name), Spelling::Own),
        }
    }

    fn told_by_family(name: &[u8]) -> (Self, Spelling) {
        match Self::folded_family(name) {
            Self::Other => (believed::kind(name), Spelling::Own),
            known => (known, Spelling::of(name)),
        }
    }

    /// The families of names that begin alike.
    fn folded_family(name: &[u8]) -> Self {
        const FORWARDED: &[u8] = b"x-forwarded-";
        const COUNTERSIGN: &[u8] = b"x-countersign";
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

/// How a name is written that an application may take for one of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// As HTTP has it, in whatever case.
    Own,
    /// With another separator than `-`.
    Folded,
}

impl Spelling {
    fn of(name: &[u8]) -> Self {
        if has_other_separator(name) { Self::Folded } else { Self::Own }
    }
}

/// How `name`, which is as long, is a spelling of `canonical` (lower case, `-`), if it is one. As the length is a constant,
/// all bytes are compared at once.
fn spelled<const N: usize>(name: &[u8], canonical: &[u8; N]) -> Option<Spelling> {
    let name = name.first_chunk::<N>()?;
    let differs = |(byte, letter): (&u8, &u8)| {
        let case = if letter.is_ascii_lowercase() { 0x20 } else { 0 };
        (byte | case) != *letter
    };
    if !name.iter().zip(canonical).fold(false, |seen, pair| seen | differs(pair)) {
        return Some(Spelling::Own);
    }
    folds_to(name, canonical).then_some(Spelling::Folded)
}

/// Which bytes are neither letter, digit nor `-`.
const OTHER_SEPARATORS: [bool; 256] = {
    let mut others = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        others[byte] = !(byte as u8).is_ascii_alphanumeric() && byte as u8 != b'-';
        byte += 1;
    }
    others
};

/// Whether a name has a separator other than `-`. Without a branch for each byte: nearly no name has one.
#[must_use]
pub fn has_other_separator(name: &[u8]) -> bool {
    name.iter().fold(false, |seen, byte| seen | OTHER_SEPARATORS.get(usize::from(*byte)).is_some_and(|other| *other))
}

/// Whether `name` is another spelling of `other` that an application may take for it: the same name without case and
/// with every separator read as `-`, but not the same header to HTTP.
#[must_use]
pub fn is_another_spelling(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len()
        && !name.eq_ignore_ascii_case(other)
        && name.iter().zip(other).all(|(&a, &b)| fold(a) == fold(b))
}

/// Whether `name` is `canonical` (lower case, `-`) without case and with every separator read as `-`.
pub(super) fn folds_to(name: &[u8], canonical: &[u8]) -> bool {
    name.len() == canonical.len() && name.iter().zip(canonical).all(|(&a, &b)| fold(a) == b)
}

/// Each byte as an application server may read it in a name: letters in lower case, every separator as `-`.
pub(super) static FOLD: [u8; 256] = {
    let mut table = [b'-'; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

const fn fold(byte: u8) -> u8 {
    FOLD[byte as usize]
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
        let near = ["Hosts", "Hos", "Data", "Xia", "Content-Lengthy", "X-Countersigned", "X-Request-Ip"];
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
