//! The last refusals and failures of one worker, for the status page: a ring of fixed size, and a budget, so that a
//! flood neither costs anything worth mentioning nor hides what is rare.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::exchange::{DELIVERY_ID, Excerpt, Exchange, PATH, TRACEPARENT, USER_AGENT};
use super::tally::Tally;
use crate::outcome::{Fault, Outcome, Rejection};

/// Refusals that a worker keeps.
const KEPT: usize = 64;

/// Refusals with the same reason that are kept in one second.
const PER_SECOND: u64 = 2;

const REASONS: usize = Rejection::ALL.len() + Fault::ALL.len();

/// A refusal, or something that broke.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When, as unix time.
    pub at: Duration,
    /// The route, if there was one.
    pub route: Option<Arc<str>>,
    /// The reason code.
    pub reason: &'static str,
    /// Ours: 32 hex digits.
    pub request_id: [u8; 32],
    /// Who asked.
    pub client: Option<IpAddr>,
    /// As it was asked for, without the query. From a stranger.
    pub path: Excerpt<PATH>,
    /// Where it is signed.
    pub delivery_id: Option<Excerpt<DELIVERY_ID>>,
    /// The delivery id that the head names. From a stranger, as the two below.
    pub stated_id: Excerpt<DELIVERY_ID>,
    /// `User-Agent`.
    pub user_agent: Excerpt<USER_AGENT>,
    /// `traceparent`.
    pub traceparent: Excerpt<TRACEPARENT>,
}

/// The last refusals of one worker, who alone adds to it.
#[derive(Debug)]
pub struct Refusals {
    /// For each reason the second, and how many have been kept in it.
    spent: [Tally; REASONS],
    ring: Mutex<VecDeque<Refusal>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { spent: core::array::from_fn(|_| Tally::default()), ring: Mutex::default() }
    }
}

impl Refusals {
    /// Keeps a refusal if the budget has room for it: otherwise this is a load and two comparisons.
    pub fn note(&self, exchange: &Exchange<'_>, route: Option<&Arc<str>>) {
        let position = match exchange.outcome {
            Outcome::Forwarded { .. } | Outcome::Answered { .. } => return,
            Outcome::Rejected(rejection) => rejection as usize,
            Outcome::Failed(fault) => Rejection::ALL.len() + fault as usize,
        };
        let Some(spent) = self.spent.get(position) else { return };
        let before = spent.get();
        // The lower bits count; a process does not live for 2^56 seconds.
        let second = exchange.ended.monotonic.as_secs() << 8;
        let now = if before >= second { before } else { second };
        if now - second >= PER_SECOND {
            return;
        }
        // A reader is done in microseconds; this one is then not shown.
        let Ok(mut ring) = self.ring.try_lock() else { return };
        spent.set(now + 1);
        make_room(&mut ring);
        ring.push_back(Refusal {
            at: exchange.ended.unix,
            route: route.map(Arc::clone),
            reason: exchange.outcome.code(),
            request_id: exchange.request_id,
            client: exchange.client,
            path: excerpt(exchange.path),
            delivery_id: exchange.delivery_id.map(excerpt),
            stated_id: excerpt(exchange.stated.delivery_id),
            user_agent: excerpt(exchange.stated.user_agent),
            traceparent: excerpt(exchange.stated.traceparent),
        });
    }

    /// What is kept, the oldest first.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Refusal> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The oldest of the most frequent reason goes, so that rare reasons stay.
fn make_room(ring: &mut VecDeque<Refusal>) {
    if ring.capacity() == 0 {
        ring.reserve_exact(KEPT);
    }
    if ring.len() < KEPT {
        return;
    }
    let times = |reason: &str| ring.iter().filter(|refusal| refusal.reason == reason).count();
    // Of equals, `max_by_key` takes the last: seen from the end, that is the oldest.
    let frequent = ring.iter().enumerate().rev().max_by_key(|(_, refusal)| times(refusal.reason));
    let position = frequent.map(|(position, _)| position);
    ring.remove(position.unwrap_or_default());
}

fn excerpt<const N: usize>(text: &[u8]) -> Excerpt<N> {
    let mut excerpt = Excerpt::EMPTY;
    excerpt.set(text);
    excerpt
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::exchange::{Stages, Stated};
    use super::*;
    use crate::now::Now;
    use crate::outcome::Observed;

    pub(in crate::telemetry) fn refuse(refusals: &Refusals, outcome: impl Into<Outcome>, millis: u64) {
        let at = Duration::from_millis(millis);
        refusals.note(
            &Exchange {
                worker: 0,
                request_id: [b'0'; 32],
                ended: Now { monotonic: at, unix: at },
                route: None,
                peer: None,
                client: None,
                caller: None,
                method: b"POST",
                path: b"/hook",
                query: b"",
                outcome: outcome.into(),
                accepted: None,
                broken_rule: None,
                observed: Observed::NONE,
                key_id: None,
                delivery_id: None,
                stated: Stated::default(),
                body: None,
                received: 0,
                sent: 0,
                stages: Stages::default(),
            },
            None,
        );
    }

    fn kept(refusals: &Refusals, reason: &str) -> usize {
        refusals.snapshot().iter().filter(|refusal| refusal.reason == reason).count()
    }

    #[test]
    fn a_flood_is_sampled_and_hides_nothing() {
        let refusals = Refusals::default();
        refuse(&refusals, Fault::UpstreamClosed, 0);
        for millis in 0..100_000 {
            refuse(&refusals, Rejection::SignatureMismatch, millis);
            refuse(&refusals, Rejection::RouteUnknown, millis);
            refuse(&refusals, Rejection::HostInvalid, millis);
            refuse(&refusals, Rejection::SignatureMissing, millis);
        }
        refuse(&refusals, Rejection::Duplicate, 100_000);
        refuse(&refusals, Outcome::Forwarded { status: 200 }, 100_000);
        assert_eq!(refusals.snapshot().len(), KEPT);
        assert_eq!(kept(&refusals, "duplicate"), 1);
        assert_eq!(kept(&refusals, "upstream_closed"), 1);
        assert_eq!(refusals.snapshot().last().map(|refusal| refusal.reason), Some("duplicate"));
    }

    #[test]
    fn two_a_second_of_each_reason() {
        let refusals = Refusals::default();
        for millis in [10, 11, 12, 900, 1000, 1001, 1999, 2000] {
            refuse(&refusals, Rejection::SignatureMismatch, millis);
        }
        let at: Vec<u128> = refusals.snapshot().iter().map(|refusal| refusal.at.as_millis()).collect();
        assert_eq!(at, [10, 11, 1000, 1001, 2000]);
    }
}
