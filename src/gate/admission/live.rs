//! What is held at the moment, in the whole process, and what may be.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::hash::RandomState;
use std::sync::Arc;

use super::eviction::Bound;
use super::gauge::Gauge;
use super::handshakes::HandshakePace;
use super::keyed_buckets::{Allowance, KeyedBuckets, Lender};
use super::limits::AdmissionLimits;
use super::refused::Refused;
use super::suspects::{Share, Suspects};
use super::token_bucket::{Rate, SharedBucket};
use crate::gate::client_key::ClientKey;
use crate::gate::errand::WorkerBells;
use crate::gate::pairing::PairingWindows;
use crate::outcome::{ConnectionEnd, Rejection};

/// What is held at the moment, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Connections.
    pub connections: u64,
    /// Exchanges.
    pub requests: u64,
    /// Bytes of bodies.
    pub body_memory: u64,
    /// TLS handshakes.
    pub handshakes: u64,
    /// TLS handshakes of clients over their rate that wait for their turn.
    pub handshakes_over_rate: u64,
    /// Exchanges of clients that are over their budgets, and not proven genuine.
    pub suspects: u64,
    /// Bytes of their bodies.
    pub suspect_memory: u64,
}

/// Unsigned first calls that the process answers. An operator causes one when a webhook is registered.
const FIRST_CALLS: Rate = Rate { tokens: 30, per: Duration::from_secs(60), burst: 30 };

/// The live state of the bounds.
#[derive(Debug)]
pub struct Admission {
    pub(super) clients: KeyedBuckets,
    clients_tracked: usize,
    connections_per_client: AtomicU32,
    pub(super) connections: Gauge,
    pub(super) requests: Gauge,
    pub(super) body_memory: Gauge,
    pub(super) handshakes: Gauge,
    pace: HandshakePace,
    pub(super) suspects: Suspects,
    first_calls: SharedBucket,
    pairings: PairingWindows,
    bells: Arc<WorkerBells>,
    /// Connections that clients have beyond what each may have.
    excess: AtomicU64,
    /// For each limit, how many were refused because it was reached, for which no room has been made yet.
    shortages: [AtomicU64; Bound::ALL.len()],
}

/// A connection that has been counted for a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// The client, and where it is counted.
    pub(super) owner: (ClientKey, Lender),
    /// Whether the client has more than half of the connections that it may have.
    pub(super) among_many: bool,
}

impl Admission {
    /// Nothing is held. `random` must be random for the process.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a hash for one process")]
    pub fn new(limits: AdmissionLimits, random: RandomState) -> Self {
        Self {
            pace: HandshakePace::new(&limits, &random),
            clients: KeyedBuckets::new(limits.unverified_per_client, limits.clients_tracked, &random),
            clients_tracked: limits.clients_tracked,
            connections_per_client: AtomicU32::new(limits.connections_per_client),
            connections: Gauge::new(limits.connections),
            requests: Gauge::new(limits.requests_in_flight),
            body_memory: Gauge::new(limits.body_memory),
            handshakes: Gauge::new(limits.handshakes),
            suspects: Suspects::new(limits),
            first_calls: SharedBucket::new(FIRST_CALLS),
            pairings: PairingWindows::default(),
            bells: Arc::default(),
            excess: AtomicU64::new(0),
            shortages: Default::default(),
        }
    }

    /// Takes the right to answer an unsigned first call.
    ///
    /// # Errors
    /// [`Rejection::FirstCallRateLimited`]
    pub fn take_first_call(&self, now: Duration) -> Result<(), Refused> {
        self.first_calls.take(now).map_err(|empty| Refused::empty(Rejection::FirstCallRateLimited, empty))
    }

    /// The windows in which a secret is taken from an unsigned call.
    #[must_use]
    pub const fn pairings(&self) -> &PairingWindows {
        &self.pairings
    }

    /// The bells of workers, for threads that do something for a request.
    #[must_use]
    pub const fn bells(&self) -> &Arc<WorkerBells> {
        &self.bells
    }

    /// Changes the bounds. They count at once and for everything, also for what has been granted before: nothing is taken back,
    /// but nothing more is given until there is room. [`AdmissionLimits::clients_tracked`] cannot change.
    pub fn set_limits(&self, limits: AdmissionLimits, now: Duration) {
        self.clients.set_rate(limits.unverified_per_client, now);
        self.connections_per_client.store(limits.connections_per_client, Ordering::Relaxed);
        self.connections.set_limit(limits.connections);
        self.requests.set_limit(limits.requests_in_flight);
        self.body_memory.set_limit(limits.body_memory);
        self.handshakes.set_limit(limits.handshakes);
        self.pace.set_limits(&limits, now);
        self.suspects.set_limits(limits);
        self.excess.store(0, Ordering::Relaxed);
    }

    /// What suspects hold and may hold.
    #[must_use]
    pub const fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// For how many clients there is room, for as long as the process lives.
    #[must_use]
    pub const fn clients_tracked(&self) -> usize {
        self.clients_tracked
    }

    pub(super) fn count(
        &self,
        client: ClientKey,
        allowance: Allowance,
        now: Duration,
    ) -> Result<Counted, ConnectionEnd> {
        let usual = self.connections_per_client.load(Ordering::Relaxed);
        let counted = self.clients.connect(client, allowance.of(usual), now);
        let (lender, connections) = counted.map_err(|_| ConnectionEnd::ClientConnectionsFull)?;
        if connections > usual {
            self.excess.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Counted { owner: (client, lender), among_many: connections > usual / 2 })
    }

    pub(super) fn discount(&self, owner: Option<(ClientKey, Lender)>) {
        if let Some((client, lender)) = owner {
            let before = self.clients.disconnect(client, lender);
            if before > self.connections_per_client.load(Ordering::Relaxed) {
                let less = |excess: u64| Some(excess.saturating_sub(1));
                let _ = self.excess.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
    }

    /// How many connections one client may have.
    #[must_use]
    pub fn connections_per_client(&self) -> u32 {
        self.connections_per_client.load(Ordering::Relaxed)
    }

    /// Whether a client has more connections than it may have.
    #[must_use]
    pub fn has_excess(&self) -> bool {
        self.excess.load(Ordering::Relaxed) > 0
    }

    /// The rates of TLS handshakes.
    #[must_use]
    pub const fn handshake_pace(&self) -> &HandshakePace {
        &self.pace
    }

    /// A connection that was granted has ended.
    pub(super) fn close(&self, owner: Option<(ClientKey, Lender)>) {
        self.connections.release(1);
        self.discount(owner);
    }

    pub(super) fn release_requests(&self, count: u64) {
        if count > 0 {
            self.requests.release(count);
        }
    }

    pub(super) fn release_suspect(&self, requests: bool, bytes: u64) {
        if requests {
            self.suspects.leave();
        }
        if bytes > 0 {
            self.suspects.let_go(bytes);
        }
    }

    pub(super) fn release_body(&self, bytes: u64) {
        if bytes > 0 {
            self.body_memory.release(bytes);
        }
    }

    /// Notes that a bound was met although another worker might have made room. True when that is news.
    pub fn note_shortage(&self, bound: Bound) -> bool {
        self.shortage(bound).fetch_add(1, Ordering::Relaxed) == 0
    }

    /// How many evictions this worker should try (at most `candidates`) on behalf of those that found no room.
    #[must_use]
    pub fn claim_shortage(&self, bound: Bound, candidates: u64) -> u64 {
        let shortage = self.shortage(bound);
        if shortage.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let gauge = self.gauge(bound);
        // Bodies may have met their bound without having reached it.
        let bodies = matches!(bound, Bound::BodyMemory | Bound::SuspectMemory);
        if !bodies && gauge.held() < gauge.limit() {
            shortage.store(0, Ordering::Relaxed);
            return 0;
        }
        let claim = |held: u64| Some(held.saturating_sub(candidates));
        let held = shortage.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).unwrap_or(0);
        held.min(candidates)
    }

    const fn shortage(&self, bound: Bound) -> &AtomicU64 {
        let [connections, requests, body_memory, suspect_requests, suspect_memory] = &self.shortages;
        match bound {
            Bound::Connections => connections,
            Bound::Requests => requests,
            Bound::BodyMemory => body_memory,
            Bound::SuspectRequests => suspect_requests,
            Bound::SuspectMemory => suspect_memory,
        }
    }

    const fn gauge(&self, bound: Bound) -> &Gauge {
        match bound {
            Bound::Connections => &self.connections,
            Bound::Requests => &self.requests,
            Bound::BodyMemory => &self.body_memory,
            Bound::SuspectRequests => self.suspects.gauge(Share::Requests),
            Bound::SuspectMemory => self.suspects.gauge(Share::BodyMemory),
        }
    }

    /// Whether nearly as many connections are open as may be.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let limit = self.connections.limit();
        self.connections.held() > limit - limit / 8
    }

    /// How much of a bound there is.
    #[must_use]
    pub fn limit(&self, bound: Bound) -> u64 {
        self.gauge(bound).limit()
    }

    /// What may be held at the moment: the bounds in force.
    #[must_use]
    pub fn bounds(&self) -> Held {
        Held {
            connections: self.connections.limit(),
            requests: self.requests.limit(),
            body_memory: self.body_memory.limit(),
            handshakes: self.handshakes.limit(),
            handshakes_over_rate: self.pace.limit(),
            suspects: self.limit(Bound::SuspectRequests),
            suspect_memory: self.limit(Bound::SuspectMemory),
        }
    }

    /// What is held at the moment.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            connections: self.connections.held(),
            requests: self.requests.held(),
            body_memory: self.body_memory.held(),
            handshakes: self.handshakes.held(),
            handshakes_over_rate: self.pace.waiting(),
            suspects: self.gauge(Bound::SuspectRequests).held(),
            suspect_memory: self.gauge(Bound::SuspectMemory).held(),
        }
    }
}
