//! What a worker needs to know of the configuration: the gate and the edge's own numbers, as one immutable value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::gate::Gate;
use crate::gate::replay::ReplayTable;
use crate::telemetry::metrics::Meters;
use crate::wire::head::HeadLimits;

/// The snapshot that an exchange starts with and finishes under.
#[derive(Debug)]
pub struct Policy {
    /// Routes and their verifiers.
    pub gate: Gate,
    /// Bounds on what a client may send and how long it may take.
    pub limits: Limits,
    /// Where deliveries go; routes name them by index.
    pub upstreams: Vec<Upstream>,
    /// What each route has seen, in the order of the routes ([`crate::gate::replay::ReplayTables::of`]): live state,
    /// which other policies before and after this one have too.
    pub replay_tables: Vec<Option<Arc<ReplayTable>>>,
    /// Where exchanges are counted, by the positions of routes and upstreams in this policy.
    pub meters: Meters,
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
    /// Between two requests on a connection.
    pub idle_timeout: Duration,
    /// For the client to take one piece of the response.
    pub write_timeout: Duration,
    /// Requests after which a connection is closed.
    pub requests_per_connection: u64,
    /// Bytes of a body that must come in a second, after a grace period; 0 for any.
    pub body_rate_min: u64,
}

/// One application.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it listens.
    pub target: Target,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer, and for each further piece of it.
    pub response_timeout: Duration,
    /// How long a connection may wait for its next use.
    pub idle_timeout: Duration,
    /// How many connections each worker keeps.
    pub idle_connections: usize,
}

/// Where an application listens.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Unix-domain socket.
    Unix(PathBuf),
    /// TCP addresses, in order of preference. For a host name they are kept fresh by the resolver; the workers only
    /// ever read them.
    Tcp(Arc<Addresses>),
}

/// The addresses behind a name, replaced as a whole when they change.
#[derive(Debug)]
pub struct Addresses {
    /// As it was written in the configuration, for messages.
    pub name: String,
    list: arc_swap::ArcSwap<Vec<SocketAddr>>,
}

impl Addresses {
    /// Addresses of `name`, as known so far.
    #[must_use]
    pub fn new(name: String, list: Vec<SocketAddr>) -> Self {
        Self { name, list: arc_swap::ArcSwap::from_pointee(list) }
    }

    /// The current addresses.
    #[must_use]
    pub fn current(&self) -> Arc<Vec<SocketAddr>> {
        self.list.load_full()
    }

    /// Replaces them.
    pub fn replace(&self, list: Vec<SocketAddr>) {
        self.list.store(Arc::new(list));
    }
}
