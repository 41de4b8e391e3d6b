//! A connection to a client, or to a server that we are the client of: the socket, and what encrypts it. Without TLS
//! every call goes straight to the socket.

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::edge::runtime::stream::{ByteStream, Duplex, Heard, Lent};

use rustls::server::UnbufferedServerConnection;

use super::session::TlsSession;
use super::side::TlsSide;

/// The connection.
pub struct Downstream<S, C = UnbufferedServerConnection> {
    socket: S,
    tls: Option<Box<TlsSession<C>>>,
}

impl<S: ByteStream, C: TlsSide> Downstream<S, C> {
    /// A connection in plain text.
    pub const fn plain(socket: S) -> Self {
        Self { socket, tls: None }
    }

    /// The socket.
    pub const fn socket(&self) -> &S {
        &self.socket
    }

    pub(super) const fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    pub(in crate::edge::door) fn session(&self) -> Option<&TlsSession<C>> {
        self.tls.as_deref()
    }

    /// From now on everything is encrypted by this session, whose handshake is done.
    pub(super) fn encrypt_with(&mut self, session: Box<TlsSession<C>>) {
        self.tls = Some(session);
    }

    /// From now on the connection is used by the task that uses `socket`: [`ByteStream::join_task_of`].
    pub fn join_socket(&mut self, socket: &S) {
        self.socket.join_task_of(socket);
    }

    /// Whether the peer speaks TLS.
    pub const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket, if it alone says when there is something to read: such a wait holds no
    /// session.
    pub fn at_rest(&mut self) -> Option<&mut S> {
        let busy = self.tls.as_ref().is_some_and(|tls| tls.is_readable() || tls.has_outgoing());
        (!busy).then_some(&mut self.socket)
    }

    /// Sends what the protocol has to say itself, if it has.
    ///
    /// # Errors
    /// Of the socket.
    pub async fn flush(&mut self, deadline: Duration) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.flush(&mut self.socket, deadline).await,
            None => Ok(()),
        }
    }

    /// Whether something has begun to arrive that cannot be read yet: the first bytes of a record.
    pub fn has_begun(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_partial())
    }

    /// Says politely that the connection ends here, where the protocol has a word for that. Not to be called where an
    /// answer broke off: its client must be able to see that.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&mut self.socket);
        }
    }
}

impl<S: Duplex, C: TlsSide> Downstream<S, C> {
    /// Whether an encrypted connection at rest is quiet when what the protocol has said itself has been taken in: tickets, for
    /// instance, which a server may send behind its answer.
    pub async fn is_quiet_beneath(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        !tls.overhears(&mut self.socket).await && self.is_quiet()
    }
}

impl<S: ByteStream, C: TlsSide> ByteStream for Downstream<S, C> {
    async fn read(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<usize> {
        match &mut self.tls {
            None => self.socket.read(buf, deadline).await,
            Some(tls) => tls.read(&mut self.socket, buf, deadline).await,
        }
    }

    async fn read_patiently(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<Option<usize>> {
        match &mut self.tls {
            None => self.socket.read_patiently(buf, deadline).await,
            Some(tls) => tls.read_patiently(&mut self.socket, buf, deadline).await,
        }
    }

    async fn readable(&mut self, deadline: Duration) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            if tls.is_readable() {
                return Ok(());
            }
            if tls.has_outgoing() {
                tls.flush(&mut self.socket, deadline).await?;
            }
        }
        self.socket.readable(deadline).await
    }

    async fn write(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<usize> {
        match &mut self.tls {
            None => self.socket.write(buf, range, deadline).await,
            Some(tls) => tls.write(&mut self.socket, buf, range, deadline).await,
        }
    }

    fn offer(&mut self, bytes: &[u8]) {
        // Behind the back of a session nothing may be sent.
        if self.tls.is_none() {
            self.socket.offer(bytes);
        }
    }

    fn is_quiet(&self) -> bool {
        self.socket.is_quiet() && !self.tls.as_ref().is_some_and(|tls| tls.is_readable() || tls.has_partial())
    }

    fn has_ended(&self) -> bool {
        match &self.tls {
            None => self.socket.has_ended(),
            Some(tls) if tls.has_closed() => true,
            Some(tls) => self.socket.has_ended() && !tls.has_plain() && !tls.has_partial(),
        }
    }

    fn shut_down_write(&mut self) {
        self.say_goodbye();
        self.socket.shut_down_write();
    }

    fn join_task_of(&mut self, other: &Self) {
        self.socket.join_task_of(&other.socket);
    }

    fn leave_task(&mut self) {
        self.socket.leave_task();
    }
}

impl<S: Duplex, C: TlsSide> Duplex for Downstream<S, C> {
    async fn write_and_listen(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard) {
        match &mut self.tls {
            None => self.socket.write_and_listen(bytes, deadline).await,
            // In a box: plain connections would have to carry the room for it.
            Some(tls) => Box::pin(tls.push(&mut self.socket, bytes, deadline, true)).await,
        }
    }

    async fn write_on(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard) {
        match &mut self.tls {
            None => self.socket.write_on(bytes, deadline).await,
            Some(tls) => Box::pin(tls.push(&mut self.socket, bytes, deadline, false)).await,
        }
    }
}
