//! Input and output: the only room that imports monoio. It moves bytes between the socket and the pure rooms, keeps
//! deadlines, and decides nothing that [`crate::gate`] or [`crate::outcome`] can decide.
//!
//! Its floors, from the ground: [`runtime`] is what everything runs on; [`wait`] is how connections wait for one another;
//! [`door`] lets connections in; [`call`] is the story of one request.

pub mod call;
pub mod connection;
pub mod door;
pub mod drain;
pub mod orders;
pub mod policy;
pub mod runtime;
pub mod snapshot;
pub mod upstream;
pub mod wait;
pub mod worker;

pub use call::keep;
pub use door::{listener, tls};
pub use runtime::{clock, driver, net, pipe};
