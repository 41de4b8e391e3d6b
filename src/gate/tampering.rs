//! Requests that play with the headers which the verdict, or the application, rests on.
//!
//! The work is bounded whatever comes: a head has at most [`OPTION_LIMIT`](crate::wire::options::OPTION_LIMIT)
//! Connection options, and names are compared only where they are of one length.

use crate::outcome::Rejection;
use crate::wire::head::{Known, has_other_separator, is_another_spelling};
use crate::wire::headers::Headers;

/// Lengths of names, longer ones as one: which comparisons can be left out.
#[derive(Clone, Copy, Default)]
struct Lengths(u64);

impl Lengths {
    const fn bit(name: &[u8]) -> u64 {
        let length = name.len();
        1 << if length < 63 { length } else { 63 }
    }

    fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(names.fold(0, |seen, name| seen | Self::bit(name)))
    }

    const fn have(self, name: &[u8]) -> bool {
        self.0 & Self::bit(name) != 0
    }
}

/// Refuses a request that nominates in `Connection` a header that must reach the application, so that it would be dropped
/// on the way: one that we judge or set, or one of those that `relied_on` gives. Refuses a request with a twin of one of
/// these, too: a header that differs in its separators only (`_` for `-`), which an application may fold into it.
///
/// # Errors
/// [`Rejection::HeaderReserved`]
pub(super) fn refuse<'r>(headers: Headers<'_>, mut relied_on: impl Iterator<Item = &'r [u8]>) -> Result<(), Rejection> {
    if headers.nominated().any(is_reserved) {
        return Err(Rejection::HeaderReserved);
    }
    let (nominated, twins) = (Lengths::of(headers.nominated()), Lengths::of(twins(headers)));
    if nominated.0 | twins.0 == 0 {
        return Ok(());
    }
    let is_played_with = |header: &[u8]| {
        nominated.have(header) && headers.nominated().any(|name| name.eq_ignore_ascii_case(header))
            || twins.have(header) && has_twin(headers, header)
    };
    if relied_on.any(is_played_with) { Err(Rejection::HeaderReserved) } else { Ok(()) }
}

/// The names that may be twins of others.
fn twins(headers: Headers<'_>) -> impl Iterator<Item = &[u8]> {
    headers.with_kinds().filter(|(kind, name, _)| can_be_twin(*kind, name)).map(|(_, name, _)| name)
}

/// Whether a header has a twin among `headers`. It is asked for each name that is relied on: names of other lengths are
/// not looked into, so that long names do not cost once more for each of them.
fn has_twin(headers: Headers<'_>, header: &[u8]) -> bool {
    let is_twin = |kind, name| is_another_spelling(name, header) && can_be_twin(kind, name);
    headers.with_kinds().any(|(kind, name, _)| is_twin(kind, name))
}

/// Other spellings of the names that we alone set or judge are no requests at all.
fn can_be_twin(kind: Known, name: &[u8]) -> bool {
    matches!(kind, Known::Other | Known::ClientIp | Known::Believed) && has_other_separator(name)
}

/// Whether no sender may nominate `name`, in any spelling that an application may fold into it.
fn is_reserved(name: &[u8]) -> bool {
    match Known::folded(name) {
        Known::Host
        | Known::ContentLength
        | Known::ContentType
        | Known::Via
        | Known::XRequestId
        | Known::XCountersign
        | Known::Date => true,
        Known::Other => name.eq_ignore_ascii_case(b"authorization"),
        known => known.is_forwarding(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::headers::HeaderBuf;
    use crate::wire::options::OPTION_LIMIT;

    const SIGNED: &[u8] = b"X-Hub-Signature-256";

    fn judge(fields: &[(&str, &str)]) -> Result<(), Rejection> {
        let mut headers = HeaderBuf::default();
        fields.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        refuse(headers.view(), [b"date".as_slice(), SIGNED].into_iter())
    }

    #[test]
    fn what_matters_cannot_be_nominated() {
        #[rustfmt::skip]
        let reserved = [
            "Host", "content-length", "Content-Type", "X-Forwarded-For", "x-forwarded-port", "Forwarded", "VIA", "X-Request-Id",
            "X-Countersign-Route", "x_countersign_route", "Date", "Authorization", "close, Host", "keep-alive,x-forwarded-host",
            "X_Forwarded_For", "x-hub-signature-256",
        ];
        for value in reserved {
            assert_eq!(judge(&[("Connection", value)]), Err(Rejection::HeaderReserved), "{value}");
        }
        for value in [
            "close",
            "Keep-Alive, Upgrade",
            "TE, X-Hop",
            "",
            ",",
            "Transfer-Encoding",
            "Hostess",
            "X-Real-IP",
            "X-Hub-Signature",
        ] {
            assert_eq!(judge(&[("Connection", value)]), Ok(()), "{value}");
        }
        let second = [("Connection", "close"), ("Connection", "Host")];
        assert_eq!(judge(&second), Err(Rejection::HeaderReserved));
        assert_eq!(judge(&[]), Ok(()));
    }

    #[test]
    fn what_the_verdict_rests_on_has_no_twin() {
        assert_eq!(judge(&[("X_Hub-Signature_256", "x")]), Err(Rejection::HeaderReserved));
        assert_eq!(judge(&[("X_Hub_Signature", "x"), ("X_Real_IP", "x"), ("x-hub-signature-256", "x")]), Ok(()));
    }

    #[test]
    fn the_last_option_is_looked_at_too() {
        let options = |name: &str| format!("{}{name}", "z,".repeat(OPTION_LIMIT - 1));
        assert_eq!(judge(&[("Connection", &options("Host"))]), Err(Rejection::HeaderReserved));
        assert_eq!(judge(&[("Connection", &options("z"))]), Ok(()));
    }
}
