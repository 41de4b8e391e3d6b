//! What must hold for any bytes. Each target is a module with one function, `run`, that panics when it does not hold:
//! called by libFuzzer from `fuzz_targets/` and by `src/bin/smoke.rs` on a stable toolchain.

#![forbid(unsafe_code)]

pub mod chain;
pub mod chunked;
pub mod config;
pub mod explain;
pub mod framing;
pub mod handshake;
pub mod head;
pub mod pinned;
pub mod proxy;
pub mod record;
mod request;
pub mod resp;
pub mod signature;
pub mod token;

/// The body of a target.
pub type Run = fn(&[u8]);

/// Every target: its name, which is that of its folder under `corpus/`, and its body.
pub const TARGETS: &[(&str, Run)] = &[
    ("head", head::run),
    ("framing", framing::run),
    ("chunked", chunked::run),
    ("config", config::run),
    ("proxy", proxy::run),
    ("resp", resp::run),
    ("signature", signature::run),
    ("token", token::run),
    ("record", record::run),
    ("chain", chain::run),
    ("handshake", handshake::run),
    ("pinned", pinned::run),
    ("explain", explain::run),
];
