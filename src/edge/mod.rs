//! Input and output: the only room that imports monoio. It moves bytes between the socket and the pure rooms, keeps
//! deadlines, and decides nothing that [`crate::gate`] or [`crate::outcome`] can decide.
//!
//! Its floors, from the ground: [`runtime`] is what everything runs on; [`wait`] is how connections wait for one another;
//! [`door`] lets connections in; [`shared`] asks the engine that processes share; [`call`] is the story of one request.

pub mod attempt;
pub mod call;
pub mod connection;
pub mod deliver;
pub mod door;
pub mod drain;
pub mod durable_route;
mod ended_attempt;
pub mod h1;
pub mod observer;
pub mod orders;
pub mod peer;
pub mod policy;
pub mod run;
pub mod runtime;
pub mod serve;
pub mod shared;
pub mod snapshot;
pub mod spool;
pub mod upstream;
pub mod wait;
pub mod worker;

pub use door::{listener, tls};
pub use runtime::{clock, driver, net, pipe};
