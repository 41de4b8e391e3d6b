//! The header names that this program has rules about, told apart once, while the head is parsed.
//!
//! Everything later (framing, hop-by-hop removal, forwarding) asks for a [`Known`] and never compares names again.
//! Names are compared without case. Many application servers change names before they look at them: CGI and its
//! successors turn every byte that is neither letter nor digit into `_`, others join separators that are doubled or cut
//! off those at an end. A name that becomes one of ours in that way has an answer of its own here.

use crate::outcome::Rejection;
use crate::wire::believed::{self, Belief};
use crate::wire::spelling::{self, Spelling};

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
    /// `X-Countersign-*` in any mix of case, `-` and `_`: what we alone tell the application.
    XCountersign,
    /// `Date`
    Date,
    /// `Server`
    Server,
    /// `Content-Type`
    ContentType,
    /// `User-Agent`: there is no rule about it, and every record has it.
    UserAgent,
    /// `traceparent` (W3C Trace Context): the same.
    Traceparent,
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
    /// The name as a client has written it in a request.
    ///
    /// # Errors
    /// [`Rejection::HeaderReserved`] if the name is another spelling of one of the names above (`Content_Length`,
    /// `Host_`, `Transfer--Encoding`): an application that changes names would take it for the header that we judged.
    pub fn of_request(name: &[u8]) -> Result<Self, Rejection> {
        Self::judged(name).map(|(known, _)| known)
    }

    /// As [`Known::of_request`], with the spelling.
    pub(super) fn judged(name: &[u8]) -> Result<(Self, Spelling), Rejection> {
        match Self::told_apart(name) {
            // Another spelling of these is dropped like the name itself.
            (known @ (Self::Other | Self::XCountersign | Self::ClientIp | Self::Believed), spelling) => {
                Ok((known, spelling))
            }
            (known, Spelling::Plain) => Ok((known, Spelling::Plain)),
            (_, Spelling::Folded) => Err(Rejection::HeaderReserved),
        }
    }

    /// The name as HTTP reads it: another separator makes it another name, except under `X-Countersign` and for
    /// what applications believe.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        Self::heard(name).0
    }

    /// As [`Known::of`], with the spelling.
    pub(super) fn heard(name: &[u8]) -> (Self, Spelling) {
        match Self::told_apart(name) {
            (known @ (Self::XCountersign | Self::ClientIp | Self::Believed), spelling) => (known, spelling),
            (known, Spelling::Plain) => (known, Spelling::Plain),
            (_, Spelling::Folded) => (Self::Other, Spelling::Folded),
        }
    }

    /// The name as an application server may read it: without case, every run of separators as one `-`, none at an end.
    #[must_use]
    pub fn folded(name: &[u8]) -> Self {
        Self::told_apart(name).0
    }

    /// The name as an application server may read it, and whether that takes folding.
    fn told_apart(name: &[u8]) -> (Self, Spelling) {
        match Self::exact(name) {
            Some(known) => (known, Spelling::Plain),
            None if spelling::is_plain(name) => (Self::by_beginning_or_belief(name), Spelling::Plain),
            None => (Self::after_folding(name), Spelling::Folded),
        }
    }

    /// What a name is that has to be folded.
    #[cold]
    fn after_folding(name: &[u8]) -> Self {
        let mut room = [0; spelling::LONGEST];
        let folded = spelling::fold_into(name, &mut room);
        match Self::exact(folded) {
            // No other spelling of these is recorded.
            Some(Self::UserAgent | Self::Traceparent) => Self::Other,
            known => known.unwrap_or_else(|| Self::by_beginning_or_belief(folded)),
        }
    }

    fn by_beginning_or_belief(name: &[u8]) -> Self {
        let family =
            if matches!(name, [b'x' | b'X', _, b'f' | b'F' | b'c' | b'C', ..]) { Self::family(name) } else { None };
        family.unwrap_or_else(|| match believed::belief(name) {
            Some(Belief::Address) => Self::ClientIp,
            Some(Belief::Other) => Self::Believed,
            None => Self::Other,
        })
    }

    /// The names that stand for themselves, told apart by length and first letter.
    fn exact(name: &[u8]) -> Option<Self> {
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        let (is_it, known) = match (name.len(), first) {
            (2, b't') => (is(name, b"te"), Self::Te),
            (3, b'v') => (is(name, b"via"), Self::Via),
            (4, b'h') => (is(name, b"host"), Self::Host),
            (4, b'd') => (is(name, b"date"), Self::Date),
            // In nearly every request, and without a rule: known here, they need not be looked at any further.
            (6, b'a') => (is(name, b"accept"), Self::Other),
            (10, b'u') => (is(name, b"user-agent"), Self::UserAgent),
            (11, b't') => (is(name, b"traceparent"), Self::Traceparent),
            (15, b'a') => (is(name, b"accept-encoding"), Self::Other),
            (6, b's') => (is(name, b"server"), Self::Server),
            (6, b'e') => (is(name, b"expect"), Self::Expect),
            (7, b't') => (is(name, b"trailer"), Self::Trailer),
            (7, b'u') => (is(name, b"upgrade"), Self::Upgrade),
            (9, b'f') => (is(name, b"forwarded"), Self::Forwarded),
            (10, b'c') => (is(name, b"connection"), Self::Connection),
            (10, b'k') => (is(name, b"keep-alive"), Self::KeepAlive),
            (12, b'c') => (is(name, b"content-type"), Self::ContentType),
            (12, b'x') => (is(name, b"x-request-id"), Self::XRequestId),
            (14, b'c') => (is(name, b"content-length"), Self::ContentLength),
            (16, b'p') => (is(name, b"proxy-connection"), Self::ProxyConnection),
            (17, b't') => (is(name, b"transfer-encoding"), Self::TransferEncoding),
            (18, b'p') => (is(name, b"proxy-authenticate"), Self::ProxyAuthenticate),
            (19, b'p') => (is(name, b"proxy-authorization"), Self::ProxyAuthorization),
            _ => (false, Self::Other),
        };
        is_it.then_some(known)
    }

    /// The families of names that begin alike.
    fn family(name: &[u8]) -> Option<Self> {
        const FORWARDED: &[u8] = b"x-forwarded-";
        const COUNTERSIGN: &[u8] = b"x-countersign";
        if let Some((family, rest)) = name.split_at_checked(FORWARDED.len())
            && family.eq_ignore_ascii_case(FORWARDED)
        {
            return Some(match rest {
                _ if rest.eq_ignore_ascii_case(b"for") => Self::XForwardedFor,
                _ if rest.eq_ignore_ascii_case(b"proto") => Self::XForwardedProto,
                _ if rest.eq_ignore_ascii_case(b"host") => Self::XForwardedHost,
                _ => Self::XForwardedOther,
            });
        }
        let (family, rest) = name.split_at_checked(COUNTERSIGN.len())?;
        let ours = family.eq_ignore_ascii_case(COUNTERSIGN) && rest.first().is_none_or(|byte| *byte == b'-');
        ours.then_some(Self::XCountersign)
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

/// Whether `name`, which is as long, is `canonical` (lower case, `-`) without case. As the length is a constant, all bytes
/// are compared at once.
fn is<const N: usize>(name: &[u8], canonical: &[u8; N]) -> bool {
    let Some(name) = name.first_chunk::<N>() else { return false };
    let differs = |(byte, letter): (&u8, &u8)| {
        let case = if letter.is_ascii_lowercase() { 0x20 } else { 0 };
        (byte | case) != *letter
    };
    !name.iter().zip(canonical).fold(false, |seen, pair| seen | differs(pair))
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
        for name in near.into_iter().chain(["", "X", "Authorization", "X-Hub-Signature-256", "user_agent", "_", "--"]) {
            assert_eq!(Known::of_request(name.as_bytes()), Ok(Known::Other), "{name}");
        }
    }

    /// Names of which only the plain spelling is recorded.
    #[test]
    fn another_spelling_of_a_recorded_name_is_another_name() {
        for (name, known) in [("User-Agent", Known::UserAgent), ("traceparent", Known::Traceparent)] {
            assert_eq!(Known::of_request(name.to_uppercase().as_bytes()), Ok(known));
            for other in [format!("{name}_"), name.replace('-', "_") + "-"] {
                assert_eq!(Known::of_request(other.as_bytes()), Ok(Known::Other), "{other}");
            }
        }
    }

    /// Other separators, doubled ones, and ones at an end.
    #[test]
    fn another_spelling_of_a_known_name_is_reserved() {
        for (name, known) in NAMES {
            let doubled = name.replace('-', "--");
            let ends = [format!("{name}_"), format!("-{name}"), format!("{name}-"), format!("_{name}.")];
            let spellings = [name.replace('-', "_"), name.replace('-', "._"), doubled].into_iter().chain(ends);
            for spelling in spellings.filter(|spelling| spelling != name) {
                let expected = if *known == Known::XCountersign { Ok(*known) } else { Err(Rejection::HeaderReserved) };
                assert_eq!(Known::of_request(spelling.as_bytes()), expected, "{spelling}");
                let heard = if *known == Known::XCountersign { *known } else { Known::Other };
                assert_eq!(Known::of(spelling.as_bytes()), heard, "{spelling}");
                assert_eq!(Known::folded(spelling.as_bytes()), *known, "{spelling}");
            }
        }
        assert_eq!(Known::of_request(b"X-Forwarded_For"), Err(Rejection::HeaderReserved));
        assert_eq!(Known::of_request(b"x_CounterSign-Verified"), Ok(Known::XCountersign));
    }
}
