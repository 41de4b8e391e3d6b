//! Bytes to values and back. Knows HTTP/1.1 (RFC 9110, RFC 9112) and the protocol of Redis, and nothing of routes, policy or io.

mod believed;
pub mod characters;
pub mod chunked;
pub mod encode;
pub mod framing;
pub mod head;
pub mod headers;
pub mod known;
pub mod message;
pub mod options;
pub mod path;
pub mod proxy_protocol;
pub mod resp;
pub mod response;
pub mod scan;
mod span;
pub mod spelling;
pub mod target;
