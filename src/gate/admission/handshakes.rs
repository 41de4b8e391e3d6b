//! How fast a client may begin TLS handshakes. The first message of a handshake makes us sign, and costs the client
//! nothing: it can be sent again and again as it was recorded.
//!
//! One address is not one attacker: senders share addresses with strangers. So a client that is over its rate is not
//! refused. Its handshakes wait for their turn behind those of others; they are refused only when as many of such
//! handshakes wait as may. What a handshake has taken of the rate comes back when the client has shown a certificate that
//! holds, or has sent a genuine delivery: a client that sends those has no rate.

use core::time::Duration;
use std::hash::RandomState;

use crate::gate::admission::gauge::Gauge;
use crate::gate::admission::keyed_buckets::{KeyedBuckets, Lender};
use crate::gate::admission::limits::AdmissionLimits;
use crate::gate::client_key::ClientKey;
use crate::outcome::ConnectionEnd;

/// One in so many of the handshakes that there may be at a time may wait although its client is over its rate.
const SHARE: u64 = 4;

/// Whether a client is over its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeStanding {
    /// It is not, or it has none: a trusted proxy brings the connections of many clients.
    Within,
    /// It is.
    OverRate,
}

/// What clients have spent.
#[derive(Debug)]
pub struct HandshakePace {
    clients: KeyedBuckets,
    waiting: Gauge,
}

/// The right of a handshake to wait although its client is over its rate; it counts until this is dropped.
#[derive(Debug)]
pub struct WaitingPermit<'a>(&'a Gauge);

impl HandshakePace {
    pub(super) fn new(limits: &AdmissionLimits, random: &RandomState) -> Self {
        let clients = KeyedBuckets::new(limits.handshakes_per_client, limits.clients_tracked, random);
        Self { clients, waiting: Gauge::new(share(limits.handshakes)) }
    }

    pub(super) fn set_limits(&self, limits: &AdmissionLimits, now: Duration) {
        self.clients.set_rate(limits.handshakes_per_client, now);
        self.waiting.set_limit(share(limits.handshakes));
    }

    /// Takes a token of a client.
    pub(super) fn take(&self, client: ClientKey, now: Duration) -> Option<Lender> {
        self.clients.take(client, now).ok()
    }

    pub(super) fn give_back(&self, client: ClientKey, lender: Lender) {
        self.clients.give_back(client, lender);
    }

    /// Lets a handshake wait whose client is over its rate.
    ///
    /// # Errors
    /// [`ConnectionEnd::TlsHandshakeRateLimited`]
    pub fn wait(&self) -> Result<WaitingPermit<'_>, ConnectionEnd> {
        if self.waiting.take(1) {
            Ok(WaitingPermit(&self.waiting))
        } else {
            Err(ConnectionEnd::TlsHandshakeRateLimited)
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.held()
    }

    pub(super) fn limit(&self) -> u64 {
        self.waiting.limit()
    }
}

impl Drop for WaitingPermit<'_> {
    fn drop(&mut self) {
        self.0.release(1);
    }
}

fn share(handshakes: u64) -> u64 {
    (handshakes / SHARE).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use core::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::gate::admission::Admission;
    use crate::gate::admission::keyed_buckets::Allowance;
    use crate::gate::admission::token_bucket::Rate;

    const NOW: Duration = Duration::from_secs(1);

    fn admission() -> Arc<Admission> {
        let handshakes_per_client = Rate { tokens: 1, per: Duration::from_secs(60), burst: 2 };
        let limits = AdmissionLimits { handshakes_per_client, handshakes: 8, ..AdmissionLimits::default() };
        Arc::new(Admission::new(limits, RandomState::new()))
    }

    fn client(last: u8) -> ClientKey {
        ClientKey::of(Some(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn a_client_over_its_rate_is_known_and_others_are_not_concerned() {
        let admission = admission();
        let open = |last| admission.open(last, Allowance::Usual, NOW).unwrap();
        let begin = |last: u8| open(Some(client(last))).holding().begin_handshake(NOW);
        assert_eq!(
            [begin(1), begin(1), begin(1), begin(2)],
            [
                HandshakeStanding::Within,
                HandshakeStanding::Within,
                HandshakeStanding::OverRate,
                HandshakeStanding::Within
            ]
        );
        let unknown = open(None);
        assert!((0..9).all(|_| unknown.holding().begin_handshake(NOW) == HandshakeStanding::Within));
    }

    #[test]
    fn a_handshake_that_was_worth_it_does_not_count_and_comes_back_once() {
        let admission = admission();
        let permit = admission.open(Some(client(1)), Allowance::Usual, NOW).unwrap();
        for _ in 0..9 {
            assert_eq!(permit.holding().begin_handshake(NOW), HandshakeStanding::Within);
            permit.holding().prove_handshake();
        }
        assert_eq!(
            [(); 3].map(|()| permit.holding().begin_handshake(NOW)),
            [HandshakeStanding::Within, HandshakeStanding::Within, HandshakeStanding::OverRate]
        );
        // One of the two that were taken: the connection has made one handshake.
        (0..3).for_each(|_| permit.holding().prove_handshake());
        assert_eq!(
            [(); 2].map(|()| permit.holding().begin_handshake(NOW)),
            [HandshakeStanding::Within, HandshakeStanding::OverRate]
        );
    }

    #[test]
    fn only_a_share_of_the_handshakes_may_wait_over_their_rate() {
        let admission = admission();
        let pace = admission.handshake_pace();
        let waiting: Vec<_> = (0..2).map(|_| pace.wait().unwrap()).collect();
        assert_eq!(pace.wait().unwrap_err(), ConnectionEnd::TlsHandshakeRateLimited);
        assert_eq!(admission.held().handshakes_over_rate, 2);
        drop(waiting);
        assert!(pace.wait().is_ok());
        assert_eq!(admission.held().handshakes_over_rate, 0);
        admission.set_limits(AdmissionLimits { handshakes: 1, ..AdmissionLimits::default() }, NOW);
        assert_eq!(admission.bounds().handshakes_over_rate, 1);
    }
}
