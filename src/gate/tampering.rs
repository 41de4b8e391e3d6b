//! Requests that play with the headers which the verdict, or the application, rests on.
//!
//! The work is bounded whatever comes: a head has at most [`OPTION_LIMIT`](crate::wire::options::OPTION_LIMIT)
//! Connection options, and names are compared only where they are of one length after folding.

use crate::outcome::Rejection;
use crate::wire::headers::{Headers, Known};
use crate::wire::spelling::{folded_length, is_another_spelling, is_plain};

/// Lengths of names, longer ones as one: which comparisons can be left out.
#[derive(Clone, Copy, Default)]
struct Lengths(u64);

impl Lengths {
    const fn bit(length: usize) -> u64 {
        1 << if length < 63 { length } else { 63 }
    }

    fn of(lengths: impl Iterator<Item = usize>) -> Self {
        Self(lengths.fold(0, |seen, length| seen | Self::bit(length)))
    }

    const fn have(self, length: usize) -> bool {
        self.0 & Self::bit(length) != 0
    }
}

/// Refuses a request that nominates in `Connection` a header that must reach the application, so that it would be dropped
/// on the way: one that we judge or set, or one of those that `relied_on` gives. Refuses a request with a twin of one of
/// these, too: a header that differs in its separators only (`_` or `--` for `-`), which an application may fold into it.
///
/// # Errors
/// [`Rejection::HeaderReserved`]
pub(super) fn refuse<'r>(headers: Headers<'_>, mut relied_on: impl Iterator<Item = &'r [u8]>) -> Result<(), Rejection> {
    if headers.nominated().any(is_reserved) {
        return Err(Rejection::HeaderReserved);
    }
    let nominated = Lengths::of(headers.nominated().map(<[u8]>::len));
    let twin_lengths =
        if headers.has_folded_name() { Lengths::of(twins(headers).map(folded_length)) } else { Lengths(0) };
    if nominated.0 | twin_lengths.0 == 0 {
        return Ok(());
    }
    let is_played_with = |header: &[u8]| {
        nominated.have(header.len()) && headers.nominated().any(|name| name.eq_ignore_ascii_case(header))
            || twin_lengths.0 != 0
                && twin_lengths.have(folded_length(header))
                && twins(headers).any(|name| is_another_spelling(name, header))
    };
    if relied_on.any(is_played_with) { Err(Rejection::HeaderReserved) } else { Ok(()) }
}

/// The names that may be twins of others. Other spellings of the names that we alone set or judge are no requests at all.
fn twins(headers: Headers<'_>) -> impl Iterator<Item = &[u8]> {
    let fields = headers.with_kinds();
    let names = fields.filter(|(kind, ..)| matches!(kind, Known::Other | Known::ClientIp | Known::Believed));
    names.map(|(_, name, _)| name).filter(|name| !is_plain(name))
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
        for twin in ["X_Hub-Signature_256", "X-Hub--Signature-256", "X-Hub-Signature-256_", "-x-hub-signature-256"] {
            assert_eq!(judge(&[(twin, "x")]), Err(Rejection::HeaderReserved), "{twin}");
        }
        assert_eq!(judge(&[("X_Hub_Signature", "x"), ("X_Real_IP", "x"), ("x-hub-signature-256", "x")]), Ok(()));
    }

    #[test]
    fn the_last_option_is_looked_at_too() {
        let options = |name: &str| format!("{}{name}", "z,".repeat(OPTION_LIMIT - 1));
        assert_eq!(judge(&[("Connection", &options("Host"))]), Err(Rejection::HeaderReserved));
        assert_eq!(judge(&[("Connection", &options("z"))]), Ok(()));
    }
}
