//! Keeps the last refused requests where the operator has asked for it (`[admin] capture_refused`). Workers come here with
//! refused requests alone; what is over a few a second costs them a look at a number, and is not kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{CAPTURED_BODY, CAPTURED_HEAD};
use crate::edge::worker::RefusedRequest;
use crate::gate::route::Route;
use crate::gate::verify::{Delivery, Kind};
use crate::outcome::{Outcome, Rejection};
use crate::telemetry::capture::{Captured, Captures, Extent, is_harmless};
use crate::telemetry::exchange::Exchange;
use crate::wire::headers::{HeaderBuf, Headers};

/// So many are copied in one second, whatever comes, and so many of one reason.
const A_SECOND: u64 = 8;
const OF_A_REASON: u64 = 2;

const EXTENT: Extent = Extent { head: CAPTURED_HEAD, body: CAPTURED_BODY };

/// Fields that are credentials to another system: a request that says it has signed them is not believed. Where the scheme
/// of the route relies on them they are kept.
const FOREIGN: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-forwarded-client-cert"];

/// The last refused requests.
#[derive(Debug)]
pub struct Capturing {
    kept: Mutex<Captures>,
    all: CaptureBudget,
    by_reason: [CaptureBudget; Rejection::ALL.len()],
}

/// What has been spent of one second: the second, and in the lowest bits how often.
#[derive(Debug, Default)]
struct CaptureBudget(AtomicU64);

impl CaptureBudget {
    const BITS: u32 = 16;

    fn spend(&self, second: u64, limit: u64) -> bool {
        let spent = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            let count = if last >> Self::BITS == second { last & ((1 << Self::BITS) - 1) } else { 0 };
            (count < limit).then_some(second << Self::BITS | (count + 1))
        });
        spent.is_ok()
    }
}

impl Capturing {
    /// Keeps at most `limit` requests.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let by_reason = [const { CaptureBudget(AtomicU64::new(0)) }; Rejection::ALL.len()];
        Self { kept: Mutex::new(Captures::new(limit)), all: CaptureBudget::default(), by_reason }
    }

    /// Keeps a request, if something in it can explain why it was refused.
    pub fn take(&self, exchange: &Exchange<'_>, request: &RefusedRequest<'_>) {
        let (Outcome::Rejected(rejection), Some(route)) = (exchange.outcome, request.route) else { return };
        if request.head.is_empty() || !is_about_the_request(rejection) || holds_a_secret(route) {
            return;
        }
        let second = exchange.ended.monotonic.as_secs();
        let of_reason = self.by_reason.get(rejection as usize);
        if !of_reason.is_some_and(|budget| budget.spend(second, OF_A_REASON)) || !self.all.spend(second, A_SECOND) {
            return;
        }
        let named = named_headers(route, request.head);
        let hidden = |name: &[u8]| is_hidden(route, &named, name);
        let captured = Captured::new(exchange, (request.head, request.body), EXTENT, hidden);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(captured);
    }

    /// All of them, the youngest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Captured>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).all()
    }
}

/// What was refused for want of room, or because of what came before, is not explained by its bytes. Those of a pairing hold a
/// secret.
fn is_about_the_request(rejection: Rejection) -> bool {
    if rejection == Rejection::PairingRefused {
        return false;
    }
    let status = rejection.answer().status;
    (400..500).contains(&status) && status != 429
}

/// Where a scheme compares a token or a password, a request holds the secret itself, or one of another system. A JSON Web
/// Token that does not cover the body lets any body pass until it expires.
fn holds_a_secret(route: &Route) -> bool {
    route.verifier.scheme().is_some_and(|scheme| match scheme.kind {
        Kind::Token | Kind::Basic => true,
        Kind::Jws(_) => !scheme.covers_body(),
        Kind::Hmac(_) | Kind::Digest(_) | Kind::Public(_) => false,
    })
}

/// What is neither signed nor known to be harmless may be a credential: of a gateway, of a mesh, of the sender elsewhere.
fn is_hidden(route: &Route, named: &[Vec<u8>], name: &[u8]) -> bool {
    let relied_on = core::str::from_utf8(name).is_ok_and(|name| route.relies_on(name));
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    let signed = named.iter().any(|named| is(named)) && !FOREIGN.iter().any(|foreign| is(foreign.as_bytes()));
    !(relied_on || signed || is_harmless(name))
}

/// The fields that the signature of this request says it covers.
fn named_headers(route: &Route, head: &[u8]) -> Vec<Vec<u8>> {
    let mut headers = HeaderBuf::default();
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if let Ok(name) = core::str::from_utf8(name)
            && route.relies_on(name)
        {
            headers.push(name, value.get(1..).unwrap_or_default().trim_ascii());
        }
    }
    route.verifier.headers_named_by(&Signed(headers)).map(<[u8]>::to_vec).collect()
}

/// A request of which there are the fields that its scheme relies on, and nothing else.
struct Signed(HeaderBuf);

impl Delivery for Signed {
    fn method(&self) -> &[u8] {
        b""
    }

    fn target(&self) -> &[u8] {
        b""
    }

    fn headers(&self) -> Headers<'_> {
        self.0.view()
    }

    fn body(&self) -> &[u8] {
        b""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_a_budget() {
        let budget = CaptureBudget::default();
        let spent = |second| (0..10).filter(|_| budget.spend(second, OF_A_REASON)).count();
        assert_eq!([spent(1), spent(1), spent(2), spent(7)], [2, 0, 2, 2]);
    }

    #[test]
    fn what_its_bytes_cannot_explain_is_not_kept() {
        for rejection in [Rejection::SignatureMismatch, Rejection::TimestampStale, Rejection::SignatureMissing] {
            assert!(is_about_the_request(rejection));
        }
        for rejection in [
            Rejection::PairingRefused,
            Rejection::PairingFailed,
            Rejection::Duplicate,
            Rejection::ClientRateLimited,
            Rejection::RequestsFull,
        ] {
            assert!(!is_about_the_request(rejection));
        }
    }
}
