//! How connections come in: listening sockets, the limits on connections, the PROXY header, TLS.

pub(super) mod acceptor;
pub mod access;
pub mod inherited;
pub mod listener;
pub mod newcomers;
pub mod preface;
pub mod tls;
