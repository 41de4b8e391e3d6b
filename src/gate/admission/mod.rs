//! Who may spend our work: the bounds on connections, on requests, on buffered bodies and on rates, in the order in
//! which they are asked, the cheapest first.
//!
//! [`Admission`] is live state: there is one in the process, all workers share it, and it outlives every
//! configuration. Its bounds are those of the whole process, however many workers there are. Nothing in it is a lock
//! that all cores share, and asking it allocates nothing.
//!
//! An exchange is admitted between route and verification. [`Admitted`] is the proof of it, which the next stages
//! demand, and holds what the exchange has been granted until it is dropped.

pub mod eviction;
mod gauge;
pub mod handshakes;
pub mod holding;
pub mod keyed_buckets;
pub mod limits;
mod live;
mod permits;
mod refused;
pub mod route_admission;
pub mod route_buckets;
pub mod suspects;
pub mod token_bucket;

pub use live::{Admission, Held};
pub use permits::{AdmissionRequest, Admitted, ConnectionPermit, HandshakePermit};
pub use refused::Refused;

#[cfg(test)]
mod tests;
