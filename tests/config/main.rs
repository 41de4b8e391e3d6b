//! Configuration as an operator meets it: real files, every kind of mistake, and the files that we ship.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admission;
mod aliases;
mod captured;
mod clients;
mod files;
mod handshakes;
mod mistakes;
mod named_keys;
mod newcomers;
mod random;
mod ranges;
mod secrets;
mod shipped;
mod support;
mod tls;
