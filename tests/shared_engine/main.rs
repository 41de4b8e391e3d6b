//! Claims and rates that replicas share, against a real engine: several proxies, one Redis or a cluster of it. Without
//! `redis-server` on this machine the tests say that they were left out. The variable `COUNTERSIGN_ENGINE_SERVER` names another
//! program, such as a `valkey-server`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod claims;
mod cluster;
mod partitions;
mod rates;
mod sentinels;
mod support;
mod tls;
