//! HTTP/1.1 towards clients: the loop of a connection, and how a call is answered on it.

pub mod carrier;
pub mod keep_alive;
mod respond;
