//! Bytes to values and back. Knows HTTP/1.1 (RFC 9110, RFC 9112), not us: no route, no policy, no io.

pub mod headers;
