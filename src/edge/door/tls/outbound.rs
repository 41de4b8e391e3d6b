//! TLS on a connection that we make: the same session over the same buffers, from its other side.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};

use crate::edge::runtime::stream::ByteStream;

use super::downstream::Downstream;
use super::records::RecordBuffers;
use super::session::{Failure, TlsSession};

/// A connection that we have made, encrypted or not.
pub type Outbound<S> = Downstream<S, UnbufferedClientConnection>;

/// How a server is spoken to.
#[derive(Clone)]
pub struct ClientTls {
    /// Whom we trust, and the certificate that we show.
    pub config: Arc<ClientConfig>,
    /// The name that must be in the certificate of the server.
    pub name: ServerName<'static>,
    /// SHA-256 of the files behind it: where it is another, the connections that were made before are not used again.
    pub digest: [u8; 32],
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why there is no encrypted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureError {
    /// The certificate of the server does not hold: its authority, its name or its time.
    Certificate,
    /// The server speaks no TLS, or none that we speak, or does not want us.
    Protocol,
    /// Not in time.
    Late,
    /// The server has closed the connection.
    Gone,
}

/// Makes the handshake on a connection that was just made, before `deadline`.
///
/// # Errors
/// [`SecureError`]
pub async fn secure<S: ByteStream>(
    mut socket: S,
    tls: &ClientTls,
    buffers: &Rc<RecordBuffers>,
    deadline: Duration,
) -> Result<Outbound<S>, SecureError> {
    let opened = UnbufferedClientConnection::new(Arc::clone(&tls.config), tls.name.clone());
    let opened = opened.map_err(|_| SecureError::Protocol)?;
    let mut session = Box::new(TlsSession::new(opened, Rc::clone(buffers), b""));
    session.handshake(&mut socket, deadline).await.map_err(|failure| match failure {
        Failure::Protocol(Error::InvalidCertificate(_)) => SecureError::Certificate,
        Failure::Protocol(_) | Failure::Plaintext => SecureError::Protocol,
        Failure::Late => SecureError::Late,
        Failure::Gone(_) => SecureError::Gone,
    })?;
    let mut stream = Outbound::plain(socket);
    stream.encrypt_with(session);
    Ok(stream)
}
