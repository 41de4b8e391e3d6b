//! Decisions. `now` is a parameter; no io, no clock, no log, no metric.

pub mod admission;
pub mod allowlist;
pub mod believed;
pub mod chain;
pub mod client;
pub mod client_key;
pub mod conduct;
pub mod crowd;
pub(crate) mod gauge;
pub mod handshakes;
pub mod holding;
pub mod identity;
pub mod keyed_buckets;
pub mod limits;
pub mod map_room;
pub mod networks;
pub mod observe;
pub mod pattern;
pub mod replay;
pub mod route;
pub mod route_admission;
pub mod route_buckets;
mod route_index;
pub mod suspects;
mod tampering;
pub mod token_bucket;
pub mod upstream;
pub mod verify;

/// The immutable snapshot that a request is judged by, from its first stage to its last.
#[derive(Debug)]
pub struct Gate {
    /// Which route a request belongs to.
    pub routes: route::RouteTable,
    /// The applications that routes forward to; a route names one by its position.
    pub upstreams: Vec<upstream::UpstreamAddress>,
    /// What each listener thinks of proxies, in the order of the listeners.
    pub doors: Vec<client::Door>,
}
