//! The inbox in the engine from end to end: processes, real sockets, a real Redis. Without `redis-server` on this machine the
//! tests say that they were left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod crash;
mod places;
mod promises;
mod replicas;
mod support;
