//! countersign: a sidecar that lets through only the webhooks it can prove are genuine.

pub mod config;
pub mod gate;
pub mod now;
pub mod outcome;
pub mod wire;
