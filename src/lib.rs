//! countersign lets through only the webhooks it can prove are genuine.
//!
//! # The rooms
//! | room | knows | never |
//! |---|---|---|
//! | [`now`], [`outcome`] | time as a value; every way an exchange can end, and THE table of answers | anything else |
//! | [`wire`] | HTTP/1.1: bytes to values and back | routes, policy, io |
//! | [`gate`] | decisions: which route, is it genuine | sockets, files, clocks, logs |
//! | [`explain`] | why a delivery is genuine or not, in plain words, and which mistake would explain it | the path of a request |
//! | [`ledger`] | what has been delivered, and which exchange has what is being delivered | sockets, files, clocks, logs |
//! | [`inbox`] | what is stored of a delivery, when it is attempted again, what an answer means for it | sockets, files, clocks, logs |
//! | [`telemetry`] | what can be told of an exchange, to people and machines | the gate, sockets |
//! | [`inject`] | the sidecar in manifests of Kubernetes: text to text | everything else |
//! | [`config`] | a TOML file to the gate, or every problem at once | sockets, live state |
#![cfg_attr(
    feature = "io",
    doc = "| [`edge`] | io: sockets, deadlines, buffers; the only room with monoio | parsing, policy, status codes |"
)]
#![cfg_attr(feature = "io", doc = "| [`admin`] | the admin port: probes, metrics, status | the path of a request |")]
#![cfg_attr(
    feature = "io",
    doc = "| [`control`] | the life of the process: start, signals, stop | the path of a request |"
)]
#![cfg_attr(feature = "io", doc = "| [`cli`] | the commands | – |")]
//!
//! Each room uses only rooms above it; `tests/tidy.rs` reads the sources against these arrows, and the pure rooms
//! build without the feature `io`, with no runtime in the graph.
//!
//! # The path of a request
//! It is told in `edge/call/story.rs`, one line a room: read the head ([`wire::head`], [`wire::framing`]), say who the
//! client is ([`gate::client`]), find the route ([`gate::route`]), ask whether the client may spend our work on it
//! ([`gate::allowlist`], [`gate::admission`]), begin the verification with whatever can be refused before a body byte is
//! read, read the body and hash it as it lands, finish ([`gate::verify`]), claim ([`ledger`]), take a token of the
//! route ([`gate::token_bucket`]), forward, commit, relay the answer. Each stage hands the next a
//! value that it alone can make: only [`gate::verify::Verifier::finish`] makes a [`gate::verify::Verified`], and
//! nothing else can be forwarded. Slow clients are evicted when a limit of the process is reached
//! ([`gate::eviction`], [`gate::holding`]).
//!
//! # What is deliberately absent
//! - No unsafe code. No allocation per header and no copy of the body on the path of a request. No lock that every
//!   request takes: only that of one part of its route's ledger ([`ledger`]), for a claim and for its commit, and that of
//!   one shard of the clients' budgets ([`gate::keyed_buckets`]).
//! - No way to switch verification off but `scheme = "none"`, in so many words.
//! - No clock outside of `edge/runtime/clock.rs` (and the stamps of the process's own log), no comparison of secrets outside
//!   of `gate/verify/mac.rs`.

#[cfg(feature = "io")]
pub mod admin;
#[cfg(feature = "io")]
pub mod cli;
pub mod config;
#[cfg(feature = "io")]
pub mod control;
#[cfg(feature = "io")]
pub mod edge;
pub mod explain;
pub mod gate;
pub mod inbox;
pub mod inject;
pub mod ledger;
pub mod now;
pub mod outcome;
pub mod telemetry;
pub mod wire;
