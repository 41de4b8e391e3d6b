//! Decisions. `now` is a parameter; no io, no clock, no log, no metric.

pub mod admission;
pub mod allowlist;
pub mod believed;
pub mod chain;
pub mod client;
pub mod client_key;
pub mod conduct;
pub mod confirming;
pub mod durable;
pub mod errand;
pub mod identity;
pub mod map_room;
pub mod networks;
pub mod observe;
pub mod pairing;
pub mod pattern;
pub mod range_feed;
pub mod ranges;
pub mod replay;
pub mod route;
mod route_index;
mod tampering;
pub mod upstream;
pub mod verify;

pub use admission::{
    eviction, handshakes, holding, keyed_buckets, limits, route_admission, route_buckets, suspects, token_bucket,
};

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
