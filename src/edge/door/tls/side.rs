//! The two sides of a connection, as a session uses them: rustls has a type for each.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;

/// What rustls knows of a connection, of which we are either side.
pub trait TlsSide {
    /// What rustls keeps for this side.
    type Data;

    /// Works on records that have arrived.
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether the handshake is not done yet.
    fn is_handshaking(&self) -> bool;

    /// Whether something is to be sent.
    fn wants_write(&self) -> bool;
}

macro_rules! side {
    ($connection:ty, $data:ty) => {
        impl TlsSide for $connection {
            type Data = $data;

            fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
                self.process_tls_records(records)
            }

            fn is_handshaking(&self) -> bool {
                (**self).is_handshaking()
            }

            fn wants_write(&self) -> bool {
                (**self).wants_write()
            }
        }
    };
}

side!(UnbufferedServerConnection, ServerConnectionData);
side!(UnbufferedClientConnection, ClientConnectionData);
