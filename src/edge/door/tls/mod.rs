//! TLS: rustls, driven over buffers of ours. The only place that knows which interface of rustls is in use.
//!
//! [`door`] is what a listener speaks, made from the configuration and immutable like it; [`tickets`] are the keys under
//! which clients resume, and outlive every configuration; [`session`] is one connection's protocol, which owns a buffer
//! only while bytes are on their way; [`handshake`] is the story of its beginning; [`admitted_by`] is what it was let in by;
//! [`downstream`] is a connection to a client, encrypted or not; [`outbound`] is one that we make: [`side`] is what the two
//! have in common for a session, and `onward` is how a request leaves while its answer may come.
//!
//! rustls is used through its unbuffered interface: records are decrypted where they arrived, and a connection that
//! waits holds no buffer at all.

pub mod admitted_by;
pub mod certificates;
pub mod door;
pub mod downstream;
pub mod handshake;
mod onward;
pub mod outbound;
pub mod records;
pub mod session;
pub mod side;
pub mod tickets;
pub mod verifier;

#[cfg(test)]
mod tests;
