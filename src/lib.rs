//! countersign: a sidecar that lets through only the webhooks it can prove are genuine.

pub mod config;
#[cfg(feature = "io")]
pub mod control;
#[cfg(feature = "io")]
pub mod edge;
pub mod gate;
pub mod now;
pub mod outcome;
pub mod wire;
