//! Decisions. `now` is a parameter; no io, no clock, no log, no metric.

pub mod verify;
