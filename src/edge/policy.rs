//! What a worker needs to know of the configuration: the gate and the edge's own numbers, as one immutable value.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::Gate;
use crate::gate::client::Door;
use crate::gate::route::Route;
use crate::gate::token_bucket::SharedBucket;
use crate::ledger::Ledger;
use crate::telemetry::metrics::Meters;
use crate::wire::head::HeadLimits;

use super::door::tls::door::TlsDoor;

pub use super::door::listener::ListenerId;
pub use super::durable_route::DurableRoute;
pub use super::runtime::target::{Addresses, Target};
pub use super::upstream::Upstream;

/// The snapshot that an exchange starts with and finishes under.
#[derive(Debug)]
pub struct Policy {
    /// Routes and their verifiers.
    pub gate: Gate,
    /// Bounds on what a client may send and how long it may take.
    pub limits: Limits,
    /// Where deliveries go; routes name them by index.
    pub upstreams: Vec<Upstream>,
    /// Routes whose deliveries are stored and delivered later; their terms name applications by position.
    pub durable: Vec<DurableRoute>,
    /// What outlives it.
    pub live: Live,
}

/// Live state that the policies before and after this one have too, in the order of this one.
#[derive(Debug, Default)]
pub struct Live {
    /// What each route may still take ([`crate::gate::route_buckets::RouteBuckets::of`]).
    pub route_buckets: Vec<Option<Arc<SharedBucket>>>,
    /// Which listeners there are; [`Gate::doors`] has their doors, in the same order.
    pub listeners: Vec<ListenerId>,
    /// Listeners that have been closed, as long as connections that came through them may begin an exchange.
    pub retired: Vec<Retired>,
    /// What each route has seen ([`crate::ledger::Ledgers::of`]).
    pub ledgers: Vec<Option<Arc<Ledger>>>,
    /// What each listener speaks, in their order, with the ticket keys of the process
    /// ([`super::door::tls::tickets::Tickets::doors`]); nothing for those that speak plain text.
    pub tls: Vec<Option<TlsDoor>>,
    /// Whether a listener lets in other clients than under the policy before: idle connections are to look whether they
    /// are still welcome.
    pub judges_anew: bool,
    /// Where exchanges and connections to applications are counted.
    pub meters: Meters,
}

/// A listener that has been closed.
#[derive(Clone, Debug)]
pub struct Retired {
    /// Which one it was.
    pub id: ListenerId,
    /// What it thought of proxies: its last connections come from them still.
    pub door: Door,
    /// What it spoke: its clients are not answered in plain text because it has been closed.
    pub tls: Option<TlsDoor>,
}

impl Policy {
    /// The position of a listener in the configuration; nothing when it has been closed.
    #[must_use]
    pub fn position(&self, listener: ListenerId) -> Option<usize> {
        self.live.listeners.iter().position(|id| *id == listener)
    }

    /// Whether a listener is open: if it is not, its connections close after the exchange in flight.
    #[must_use]
    pub fn listens(&self, listener: ListenerId) -> bool {
        self.live.listeners.contains(&listener)
    }

    /// The bucket of a route; nothing for one without a rate.
    #[must_use]
    pub fn bucket(&self, route: &Route) -> Option<&SharedBucket> {
        self.live.route_buckets.get(route.admission.position)?.as_deref()
    }

    /// What a listener speaks, also one that has been closed lately; nothing for plain text.
    #[must_use]
    pub fn tls(&self, listener: ListenerId) -> Option<&TlsDoor> {
        match self.position(listener) {
            Some(position) => self.live.tls.get(position)?.as_ref(),
            None => self.live.retired.iter().find(|retired| retired.id == listener)?.tls.as_ref(),
        }
    }

    /// What a listener thinks of proxies, also of one that has been closed lately.
    #[must_use]
    pub fn door(&self, listener: ListenerId) -> Option<&Door> {
        match self.position(listener) {
            Some(position) => self.gate.doors.get(position),
            None => self.live.retired.iter().find(|retired| retired.id == listener).map(|retired| &retired.door),
        }
    }
}

/// Bounds of the edge. Deadlines are totals, not per read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes, fields and target length of a head.
    pub head: HeadLimits,
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From the beginning of a connection to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// Between two requests on a connection.
    pub idle_timeout: Duration,
    /// For the client to take one piece of the response.
    pub write_timeout: Duration,
    /// Requests after which a connection is closed.
    pub requests_per_connection: u64,
    /// Bytes of a body that must come in a second, after a grace period; 0 for any.
    pub body_rate_min: u64,
}
