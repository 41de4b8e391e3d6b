//! Who may spend our work: the bounds on connections, on requests, on buffered bodies and on rates, in the order in
//! which they are asked, the cheapest first.
//!
//! [`Admission`] is live state: there is one in the process, all workers share it, and it outlives every
//! configuration. Its bounds are those of the whole process, however many workers there are. Nothing in it is a lock
//! that all cores share, and asking it allocates nothing.
//!
//! An exchange is admitted between route and verification. [`Admitted`] is the proof of it, which the next stages
//! demand, and holds what the exchange has been granted until it is dropped.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;

use crate::gate::client_key::ClientKey;
use crate::gate::crowd::{Bound, Party};
use crate::gate::gauge::Gauge;
use crate::gate::handshakes::HandshakePace;
use crate::gate::holding::Holding;
use crate::gate::keyed_buckets::{Allowance, KeyedBuckets, Lender};
use crate::gate::limits::AdmissionLimits;
use crate::gate::route::Route;
use crate::gate::suspects::{Share, Suspects};
use crate::gate::token_bucket::{Empty, SharedBucket};
use crate::gate::verify::Verified;
use crate::outcome::{ConnectionEnd, Rejection};
use crate::wire::headers::Headers;

/// A bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one.
    pub rejection: Rejection,
    /// Seconds after which it makes sense to try again, where that is known.
    pub retry_after: Option<u64>,
    /// What has to be made room of, where others could give way.
    pub bound: Option<Bound>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, retry_after: None, bound: None }
    }
}

impl Refused {
    fn empty(rejection: Rejection, empty: Empty) -> Self {
        Self { rejection, retry_after: Some(empty.seconds()), bound: None }
    }

    const fn full(bound: Bound) -> Self {
        let rejection = match bound {
            Bound::Connections | Bound::Requests => Rejection::RequestsFull,
            Bound::BodyMemory => Rejection::BodyMemoryFull,
            Bound::SuspectRequests | Bound::SuspectMemory => Rejection::ClientRateLimited,
        };
        Self { rejection, retry_after: None, bound: Some(bound) }
    }
}

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

/// The live state of the bounds.
#[derive(Debug)]
pub struct Admission {
    clients: KeyedBuckets,
    clients_tracked: usize,
    connections_per_client: AtomicU32,
    connections: Gauge,
    requests: Gauge,
    body_memory: Gauge,
    handshakes: Gauge,
    pace: HandshakePace,
    suspects: Suspects,
    /// Connections that clients have beyond what each may have.
    excess: AtomicU64,
    /// For each bound, what was refused because it was met and that nobody has made room for yet.
    shortages: [AtomicU64; Bound::ALL.len()],
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
            excess: AtomicU64::new(0),
            shortages: Default::default(),
        }
    }

    /// Changes the bounds. They count at once and for everything, also for what has been granted before: nothing is taken
    /// from anybody, but nothing more is given until there is room. [`AdmissionLimits::clients_tracked`] cannot change.
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

    /// Grants a connection: the client's own bound first, so that whoever has reached it takes nothing from others.
    /// Without a client, which may become known later, only the bound of the process is asked.
    ///
    /// # Errors
    /// Which bound was met.
    pub fn open(
        self: &Arc<Self>,
        client: Option<ClientKey>,
        allowance: Allowance,
        now: Duration,
    ) -> Result<ConnectionPermit, ConnectionEnd> {
        let counted = client.map(|client| self.count(client, allowance, now)).transpose()?;
        let owner = counted.map(|counted| counted.owner);
        if self.connections.take(1) {
            let holding = Holding::new(Arc::clone(self), owner);
            holding.note_company(counted.is_some_and(|counted| counted.among_many));
            return Ok(ConnectionPermit { holding: Rc::new(holding) });
        }
        self.discount(owner);
        Err(ConnectionEnd::ConnectionsFull)
    }

    fn count(&self, client: ClientKey, allowance: Allowance, now: Duration) -> Result<Counted, ConnectionEnd> {
        let usual = self.connections_per_client.load(Ordering::Relaxed);
        let counted = self.clients.connect(client, allowance.of(usual), now);
        let (lender, connections) = counted.map_err(|_| ConnectionEnd::ClientConnectionsFull)?;
        if connections > usual {
            self.excess.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Counted { owner: (client, lender), among_many: connections > usual / 2 })
    }

    fn discount(&self, owner: Option<(ClientKey, Lender)>) {
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

    /// Whether this connection has to end for another one of its client, which has more than it may have. It no longer
    /// counts for the client then. To be asked of connections that are of little use.
    #[must_use]
    pub fn sheds(&self, holding: &Holding) -> bool {
        if !self.has_excess() {
            return false;
        }
        let Some(owner @ (client, Lender::Own)) = holding.owned_by() else { return false };
        if self.clients.connections(client) <= self.connections_per_client.load(Ordering::Relaxed) {
            return false;
        }
        let _ = holding.reassign((client, Lender::Shared));
        self.discount(Some(owner));
        true
    }

    /// Grants a TLS handshake.
    ///
    /// # Errors
    /// [`ConnectionEnd::TlsHandshakesFull`]
    pub fn begin_handshake(&self) -> Result<HandshakePermit<'_>, ConnectionEnd> {
        if self.handshakes.take(1) { Ok(HandshakePermit(self)) } else { Err(ConnectionEnd::TlsHandshakesFull) }
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

    /// Of how many of those who could make room (`candidates`) a worker should ask it, because others were refused.
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

    /// Grants an exchange, which `holding` holds.
    ///
    /// # Errors
    /// The first bound that was met, of: media type, exchanges of the process, and, where the client has no token left,
    /// the share of suspects.
    pub fn admit(
        &self,
        request: Request<'_>,
        client: ClientKey,
        now: Duration,
        holding: &Rc<Holding>,
    ) -> Result<Admitted<'_>, Refused> {
        request.route.admission.check_content_type(request.headers, request.has_body)?;
        if !self.requests.take(1) {
            return Err(Refused::full(Bound::Requests));
        }
        holding.begin_request(client);
        let mut admitted =
            Admitted { admission: self, client, lender: None, began_as_suspect: false, holding: Rc::clone(holding) };
        // Where nothing is verified the budget is all that there is.
        let queues = request.route.verifier.verifies() && self.suspects.exist();
        match self.clients.take(client, now) {
            Ok(lender) => admitted.lender = Some(lender),
            Err(_) if queues && request.is_proven => {}
            Err(_) if queues && self.suspects.enter() => {
                holding.begin_suspicion();
                admitted.began_as_suspect = true;
            }
            Err(empty) => {
                let bound = queues.then_some(Bound::SuspectRequests);
                return Err(Refused { bound, ..Refused::empty(Rejection::ClientRateLimited, empty) });
            }
        }
        Ok(admitted)
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

/// What admission looks at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The route.
    pub route: &'a Route,
    /// The header fields.
    pub headers: Headers<'a>,
    /// Whether a body follows.
    pub has_body: bool,
    /// Whether the last request on the connection was a delivery of the same client, genuine and accepted.
    pub is_proven: bool,
}

/// A connection that has been counted for a client.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// The client, and where it is counted.
    owner: (ClientKey, Lender),
    /// Whether the client has more than half of the connections that it may have.
    among_many: bool,
}

/// A connection that was granted; it counts until this is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    holding: Rc<Holding>,
}

impl ConnectionPermit {
    /// Counts the connection for this client from now on: where a proxy in front of us says whose it is.
    ///
    /// # Errors
    /// [`ConnectionEnd::ClientConnectionsFull`]
    pub fn assign(&mut self, client: ClientKey, allowance: Allowance, now: Duration) -> Result<(), ConnectionEnd> {
        let admission = self.holding.admission();
        let Counted { owner, among_many } = admission.count(client, allowance, now)?;
        admission.discount(self.holding.reassign(owner));
        self.holding.note_company(among_many);
        Ok(())
    }

    /// What the connection holds.
    #[must_use]
    pub const fn holding(&self) -> &Rc<Holding> {
        &self.holding
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.holding.surrender();
    }
}

/// A TLS handshake that was granted; it counts until this is dropped.
#[derive(Debug)]
pub struct HandshakePermit<'a>(&'a Admission);

impl Drop for HandshakePermit<'_> {
    fn drop(&mut self) {
        self.0.handshakes.release(1);
    }
}

/// The right to spend work on an exchange. Only [`Admission::admit`] makes one; what it holds is released when it is
/// dropped, however the exchange ends.
#[derive(Debug)]
pub struct Admitted<'a> {
    admission: &'a Admission,
    client: ClientKey,
    /// Where the token came from that is given back when the delivery is genuine.
    lender: Option<Lender>,
    /// Whether the client was over its budget.
    began_as_suspect: bool,
    /// What has been granted.
    holding: Rc<Holding>,
}

impl Admitted<'_> {
    /// Who answers for it.
    #[must_use]
    pub const fn party(&self) -> Party {
        Party::Client(self.client)
    }

    /// Charges the body: as far as it has arrived, or as its buffer reaches.
    ///
    /// # Errors
    /// [`Rejection::BodyMemoryFull`]; [`Rejection::ClientRateLimited`]: the share of suspects is full.
    pub fn hold_body(&mut self, length: usize) -> Result<(), Refused> {
        let own = self.holding.body();
        let more = (length as u64).saturating_sub(own);
        if more > 0 {
            let suspect = self.is_suspect();
            if suspect && !self.admission.suspects.hold(more, own) {
                return Err(Refused::full(Bound::SuspectMemory));
            }
            if !self.admission.body_memory.take(more) {
                self.admission.release_suspect(false, if suspect { more } else { 0 });
                return Err(Refused::full(Bound::BodyMemory));
            }
            self.holding.add_body(more);
        }
        Ok(())
    }

    /// Whether so many bytes more would leave half of what this request may take from free: enough to grant what is only
    /// announced.
    #[must_use]
    pub fn has_plenty(&self, bytes: u64) -> bool {
        let share = !self.is_suspect() || self.admission.suspects.have_plenty(bytes);
        share && self.admission.body_memory.has_plenty(bytes)
    }

    /// Whether its client is over its budget, and it has not been proven genuine.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.holding.is_suspect()
    }

    /// Whether its client was over its budget when it came.
    #[must_use]
    pub const fn began_as_suspect(&self) -> bool {
        self.began_as_suspect
    }

    /// Whose request it is.
    #[must_use]
    pub const fn client(&self) -> ClientKey {
        self.client
    }

    /// The exchange no longer counts as one in flight; its body does, as long as this is held.
    pub fn end_request(&mut self) {
        self.holding.end_request();
    }

    /// The delivery is genuine and no copy: it does not count as one that is not, and is no suspect any more. Copies
    /// count: a stranger who has captured one delivery can send any number of them. Where nothing is verified nothing is
    /// known to be genuine, and everything counts.
    pub fn vouch<D>(&mut self, verified: &Verified<'_, D>) {
        if verified.key_id().is_none() {
            return;
        }
        self.holding.end_suspicion();
        if let Some(lender) = self.lender.take() {
            self.admission.clients.give_back(self.client, lender);
            self.holding.prove_handshake();
        }
    }

    /// Takes a token of the route, which only a verified delivery can, from its bucket, if it has one.
    ///
    /// # Errors
    /// [`Rejection::RouteRateLimited`]; whoever observes it goes on.
    pub fn spend<D>(&self, bucket: Option<&SharedBucket>, _: &Verified<'_, D>, now: Duration) -> Result<(), Refused> {
        let Some(bucket) = bucket else { return Ok(()) };
        bucket.take(now).map_err(|empty| Refused::empty(Rejection::RouteRateLimited, empty))
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.holding.end_request();
        self.holding.release_body();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::gate::allowlist::AllowList;
    use crate::gate::believed::KeptFields;
    use crate::gate::identity::CallerList;
    use crate::gate::observe::Observe;
    use crate::gate::pattern::PathPattern;
    use crate::gate::route::{RouteKey, RouteTable};
    use crate::gate::route_admission::RouteAdmission;
    use crate::gate::token_bucket::Rate;
    use crate::gate::verify::Verifier;
    use crate::wire::headers::HeaderBuf;

    const NOW: Duration = Duration::from_secs(1);

    fn table(admission: RouteAdmission) -> RouteTable {
        let key = RouteKey { host: None, path: PathPattern::parse("/").unwrap(), methods: vec!["POST".to_owned()] };
        let verifier = Verifier::none();
        let route = Route {
            name: "r".to_owned(),
            key,
            verifier,
            body_limit: 1,
            upstream: 0,
            admission,
            clients: AllowList::default(),
            callers: CallerList::default(),
            kept: KeptFields::default(),
            observe: Observe::default(),
            replay: None,
        };
        RouteTable::new(vec![route]).unwrap()
    }

    fn limits() -> AdmissionLimits {
        AdmissionLimits {
            connections: 3,
            connections_per_client: 2,
            body_memory: 100,
            requests_in_flight: 2,
            unverified_per_client: Rate::per_second(1, 2),
            clients_tracked: 10,
            handshakes: 2,
            handshakes_per_client: Rate::per_second(50, 100),
            ..AdmissionLimits::default()
        }
    }

    fn ready() -> Arc<Admission> {
        Arc::new(Admission::new(limits(), RandomState::new()))
    }

    /// What a connection holds that does not count itself.
    fn holding(admission: &Arc<Admission>) -> Rc<Holding> {
        Rc::new(Holding::uncounted(Arc::clone(admission)))
    }

    fn client(number: u8) -> ClientKey {
        ClientKey::of(Some([192, 0, 2, number].into()))
    }

    #[test]
    fn a_body_counts_for_longer_than_its_exchange() {
        let table = table(RouteAdmission::default());
        let (admission, headers) = (ready(), HeaderBuf::default());
        let request = Request { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
        let mut admitted = admission.admit(request, client(1), NOW, &holding(&admission)).unwrap();
        admitted.hold_body(70).unwrap();
        admitted.end_request();
        assert_eq!(admission.held(), Held { body_memory: 70, ..Held::default() });
        admitted.end_request();
        drop(admitted);
        assert_eq!(admission.held(), Held::default());
    }

    #[test]
    fn the_first_bound_that_is_met_is_named() {
        let table = table(RouteAdmission { content_types: vec!["a/b".to_owned()], ..RouteAdmission::default() });
        let admission = ready();
        let ask = |media_type: &[u8], number: u8| {
            let mut headers = HeaderBuf::default();
            headers.push("Content-Type", media_type);
            let request =
                Request { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
            admission.admit(request, client(number), NOW, &holding(&admission))
        };
        let first = ask(b"a/b", 1).unwrap();
        assert_eq!(ask(b"c/d", 1).unwrap_err(), Rejection::ContentTypeRefused.into());
        let second = ask(b"A/B; c=d", 1).unwrap();
        assert_eq!(ask(b"c/d", 1).unwrap_err(), Rejection::ContentTypeRefused.into());
        assert_eq!(ask(b"a/b", 1).unwrap_err(), Refused::full(Bound::Requests));
        drop(first);
        let limited = Refused { rejection: Rejection::ClientRateLimited, retry_after: Some(1), bound: None };
        assert_eq!(ask(b"a/b", 1).unwrap_err(), limited);
        assert_eq!(admission.held().requests, 1, "what was refused holds nothing");
        assert!(ask(b"a/b", 2).is_ok());
        drop(second);
        assert_eq!(admission.held(), Held::default());
    }

    #[test]
    fn bodies_are_charged_as_they_arrive() {
        let table = table(RouteAdmission::default());
        let admission = ready();
        let headers = HeaderBuf::default();
        let request = Request { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
        let mut first = admission.admit(request, client(1), NOW, &holding(&admission)).unwrap();
        let mut second = admission.admit(request, client(2), NOW, &holding(&admission)).unwrap();
        for (length, held) in [(10, 10), (60, 60), (60, 60)] {
            first.hold_body(length).unwrap();
            assert_eq!(admission.held().body_memory, held);
        }
        second.hold_body(40).unwrap();
        assert_eq!(second.hold_body(41), Err(Refused::full(Bound::BodyMemory)));
        assert_eq!(admission.held().body_memory, 100);
        drop(first);
        second.hold_body(100).unwrap();
        drop(second);
        assert_eq!(admission.held(), Held::default());
    }

    #[test]
    fn connections_are_refused_for_the_client_first() {
        let admission = ready();
        let open = |number: u8| admission.open(Some(client(number)), Allowance::Usual, NOW);
        let first = open(1).unwrap();
        let _second = open(1).unwrap();
        let third = open(2).unwrap();
        assert_eq!(open(1).unwrap_err(), ConnectionEnd::ClientConnectionsFull);
        assert_eq!(open(2).unwrap_err(), ConnectionEnd::ConnectionsFull);
        let claim = || admission.claim_shortage(Bound::Connections, 5);
        assert!(admission.note_shortage(Bound::Connections) && !admission.note_shortage(Bound::Connections));
        assert_eq!((claim(), claim()), (2, 0));
        assert!(admission.note_shortage(Bound::Connections));
        drop(first);
        assert_eq!(claim(), 0, "there is room again");
        drop(third);
        // The refusal above has not been counted for the client.
        for number in [1, 2] {
            assert!(open(number).is_ok());
        }
        assert_eq!(admission.held().connections, 1);
    }

    #[test]
    fn a_connection_is_counted_for_whom_a_proxy_names() {
        let admission = ready();
        let mut permits: Vec<_> = (0..3).map(|_| admission.open(None, Allowance::Usual, NOW).unwrap()).collect();
        assert_eq!(permits[0].assign(client(1), Allowance::Usual, NOW), Ok(()));
        assert_eq!(permits[1].assign(client(1), Allowance::Usual, NOW), Ok(()));
        assert_eq!(permits[2].assign(client(1), Allowance::Usual, NOW), Err(ConnectionEnd::ClientConnectionsFull));
        assert_eq!(permits[2].assign(client(2), Allowance::Usual, NOW), Ok(()));
        assert_eq!(permits[1].assign(client(2), Allowance::Usual, NOW), Ok(()));
        assert_eq!(permits[2].assign(client(1), Allowance::Usual, NOW), Ok(()), "the place was given back");
        drop(permits);
        assert_eq!(admission.held(), Held::default());
        assert!(admission.open(Some(client(1)), Allowance::Usual, NOW).is_ok());
    }

    #[test]
    fn handshakes_are_bounded() {
        let admission = ready();
        let first = admission.begin_handshake().unwrap();
        let _second = admission.begin_handshake().unwrap();
        assert_eq!(admission.begin_handshake().unwrap_err(), ConnectionEnd::TlsHandshakesFull);
        assert_eq!(admission.held().handshakes, 2);
        drop(first);
        assert!(admission.begin_handshake().is_ok());
    }

    #[test]
    fn limits_below_what_is_held_take_nothing_away() {
        let table = table(RouteAdmission::default());
        let admission = ready();
        let headers = HeaderBuf::default();
        let request = Request { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
        let (first, second) = (
            admission.open(Some(client(1)), Allowance::Usual, NOW),
            admission.open(Some(client(1)), Allowance::Usual, NOW),
        );
        let mut admitted = admission.admit(request, client(1), NOW, &holding(&admission)).unwrap();
        admitted.hold_body(50).unwrap();
        let low = AdmissionLimits {
            connections: 1,
            connections_per_client: 1,
            body_memory: 10,
            requests_in_flight: 1,
            unverified_per_client: Rate::per_second(1, 1),
            ..limits()
        };
        admission.set_limits(low, NOW);
        assert_eq!(admission.held(), Held { connections: 2, requests: 1, body_memory: 50, ..Held::default() });
        assert_eq!(admission.open(Some(client(2)), Allowance::Usual, NOW).unwrap_err(), ConnectionEnd::ConnectionsFull);
        assert_eq!(
            admission.admit(request, client(2), NOW, &holding(&admission)).unwrap_err(),
            Refused::full(Bound::Requests)
        );
        assert_eq!(admitted.hold_body(51), Err(Refused::full(Bound::BodyMemory)));
        drop(first);
        assert_eq!(
            admission.open(Some(client(1)), Allowance::Usual, NOW).unwrap_err(),
            ConnectionEnd::ClientConnectionsFull
        );
        drop(second);
        assert!(admission.open(Some(client(1)), Allowance::Usual, NOW).is_ok());
        drop(admitted);
        assert_eq!(
            admission.admit(request, client(1), NOW, &holding(&admission)).unwrap_err().rejection,
            Rejection::ClientRateLimited
        );
        admission.set_limits(limits(), NOW);
        // One of two tokens had been taken.
        assert!(admission.admit(request, client(1), NOW, &holding(&admission)).is_ok());
        assert!(admission.admit(request, client(1), NOW, &holding(&admission)).is_err());
    }
}
