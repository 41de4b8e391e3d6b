//! Claims and rates that replicas share, against a real engine: several proxies, one Redis. Without `redis-server` on this
//! machine the tests say that they were left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod claims;
mod cluster;
mod partitions;
mod rates;
mod sentinels;
mod support;
mod tls;
