//! HTTP/1.1 towards clients.

pub mod keep_alive;
