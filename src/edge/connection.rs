//! One connection: waiting for requests, the keep-alive loop, and a clean end.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::gate::admission::ConnectionPermit;
use crate::gate::identity::Caller;
use crate::outcome::{ConnectionEnd, Fault, Outcome, Rejection};
use crate::wire::head::ResponseHead;

use super::call::exchange;
use super::call::forward::Way;
use super::call::inbound::Inbound;
use super::door::preface;
use super::door::tls::downstream::Downstream;
use super::door::tls::handshake::{self, Ended};
use super::door::tls::standing::Standing;
use super::policy::{Limits, ListenerId};
use super::runtime::net::Net;
use super::runtime::stream::ByteStream;
use super::wait::parked::{self, Parked};
use super::wait::turns::Place;
use super::wait::waiting::{GaveWay, Patience};
use super::worker::Worker;

/// How long a connection that has just been accepted may take to begin its first request when we close: its client has
/// connected to somebody who accepts.
const NEWCOMER: Duration = Duration::from_secs(1);

/// What is discarded of a refused request before the connection goes, so that the client can read the refusal.
const LINGER_BYTES: usize = 256 << 10;
/// And for how long.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// An accepted connection.
pub struct Connection<S> {
    /// The bytes.
    pub stream: Downstream<S>,
    /// Who is at the other end; `None` for Unix-domain peers.
    pub peer: Option<Peer>,
    /// Who that is by a certificate, if one was shown.
    pub caller: Option<Caller>,
    /// By what it was let in.
    pub standing: Standing,
    /// The request that is being received.
    pub inbound: Inbound,
    /// The head of the application's answer; kept for its memory.
    pub reply_head: ResponseHead,
    /// Requests so far.
    pub served: u64,
    /// Which listener accepted it.
    pub listener: ListenerId,
    /// Among the other connections of the worker.
    pub place: Place,
    /// What it holds, and whether it makes us wait.
    pub patience: Rc<Patience>,
    /// When it was accepted.
    pub(super) opened: Duration,
    /// When it is closed if it asks for nothing.
    pub(super) expires: Duration,
}

/// The address of a peer, and its text: written once a connection, sent with every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    text: String,
}

impl Peer {
    /// A peer; an IPv4 address in IPv6 clothes is an IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, text: address.to_string() }
    }

    /// The address as `X-Forwarded-For` has it.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Whom a request came from, beside its head.
#[derive(Clone, Copy)]
pub struct Sender<'c> {
    /// The other end of the connection.
    pub peer: Option<&'c Peer>,
    /// Who that is by a certificate.
    pub caller: Option<&'c Caller>,
    /// Whether it came encrypted.
    pub encrypted: bool,
}

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another request may come.
    Again,
    /// The connection closes; everything that was sent has been read.
    Close,
    /// The connection closes after the client had a chance to read the answer.
    Linger,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The address at the other end; `None` for Unix-domain peers.
    pub peer: Option<IpAddr>,
    /// The listener that accepted it.
    pub listener: ListenerId,
}

/// Serves a connection until its end. It counts as long as `permit` is held.
pub async fn serve<N: Net>(worker: Rc<Worker<N>>, stream: N::Stream, origin: Origin, permit: ConnectionPermit) {
    let newcomer = Parked::newcomer(&worker, stream, origin);
    stay(&worker, newcomer, permit).await;
}

/// The same for one that is on its way. Everything large lives in boxes, which are gone while the connection is parked.
pub async fn stay<N: Net>(worker: &Worker<N>, newcomer: Box<Parked<N::Stream>>, permit: ConnectionPermit) {
    let Some(mut received) = Box::pin(receive(worker, newcomer, permit)).await else { return };
    while Box::pin(converse(worker, &mut received.0)).await.is_continue() {
        let (connection, permit) = received;
        let Some(woken) = parked::park(worker, connection, permit).await else { return };
        received = woken;
    }
    received.0.inbound.release_buffer(&worker.buffers);
}

/// Lets a newcomer begin, or tells it why not.
async fn receive<N: Net>(
    worker: &Worker<N>,
    newcomer: Box<Parked<N::Stream>>,
    permit: ConnectionPermit,
) -> Option<(Box<Connection<N::Stream>>, ConnectionPermit)> {
    let mut connection = newcomer.wake(worker, &permit);
    let peer = connection.peer.as_ref().map(|peer| peer.address);
    match Box::pin(begin(worker, &mut connection, permit)).await {
        Ok(permit) => return Some((connection, permit)),
        Err(Some(Ended { end, certificate })) => {
            worker.certificate_refused(end, peer, certificate.as_deref());
            Box::pin(handshake::take_leave(worker, &mut connection, end)).await;
        }
        Err(None) => {}
    }
    connection.inbound.forget(&worker.buffers);
    None
}

/// What comes before the first request: the header of the PROXY protocol, and the TLS handshake. While nothing has come
/// the connection waits like one that is idle, without a buffer, and can be closed to make room.
///
/// # Errors
/// The connection has to be closed, and why, if anybody need hear of it.
async fn begin<N: Net>(
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
    mut permit: ConnectionPermit,
) -> Result<ConnectionPermit, Option<Ended>> {
    preface::read(worker, connection, &mut permit).await.map_err(|end| end.map(Ended::from))?;
    let policy = worker.policy();
    let Some(door) = policy.tls(connection.listener) else {
        connection.standing = Standing::PLAIN;
        return Ok(permit);
    };
    connection.expires = worker.net.monotonic() + policy.limits.handshake_timeout;
    while !connection.inbound.has_received() {
        if connection.is_over(worker) {
            return Err(None);
        }
        let deadline = connection.patience(worker);
        let waited = {
            let readable = pin!(connection.stream.readable(deadline));
            worker.parking.wait(permit, readable).await
        };
        let Some((readable, back)) = waited else { return Err(None) };
        permit = back;
        match readable {
            // Called, it looks again whether it is over.
            None => {}
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut && deadline >= connection.expires => {
                return Err(Some(ConnectionEnd::TlsHandshakeTimeout.into()));
            }
            Some(Ok(())) if !connection.stream.has_ended() => break,
            Some(_) => return Err(None),
        }
    }
    handshake::secure(worker, connection, (&policy, door)).await.map(|()| permit)
}

/// Serves requests until the connection is to be closed, or parked because it has gone quiet.
async fn converse<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>) -> ControlFlow<()> {
    loop {
        let limits = worker.policy().limits;
        match connection.await_request(worker, &limits).await {
            Arrival::Bytes => {}
            Arrival::Quiet => return ControlFlow::Continue(()),
            Arrival::Gone => {
                connection.stream.say_goodbye();
                return ControlFlow::Break(());
            }
        }
        let busy = worker.drain.enter();
        connection.served += 1;
        connection.place.take_turn(false).await;
        let next = {
            let policy = worker.policy();
            if connection.is_welcome(worker, &policy) {
                exchange::run(worker, &policy, connection).await
            } else {
                // The client learns why in its next handshake; nobody has looked at the request.
                Next::Linger
            }
        };
        // Whoever has been answered is not cut off, however long it takes to go.
        drop(busy);
        if next == Next::Linger {
            connection.linger(worker).await;
        }
        if next != Next::Again {
            return ControlFlow::Break(());
        }
        connection.inbound.advance();
        connection.inbound.settle(&worker.buffers);
    }
}

/// What came of waiting for a request.
enum Arrival {
    Bytes,
    /// Nothing for a while: the buffer has been let go.
    Quiet,
    Gone,
}

impl<S: ByteStream> Connection<S> {
    /// Whom its requests come from.
    pub fn sender(&self) -> Sender<'_> {
        let encrypted = self.stream.is_encrypted();
        Sender { peer: self.peer.as_ref(), caller: self.caller.as_ref(), encrypted }
    }

    /// The request, and what else is needed to forward it.
    pub(super) fn split(&mut self) -> (&mut Inbound, Way<'_, S>) {
        let encrypted = self.stream.is_encrypted();
        let sender = Sender { peer: self.peer.as_ref(), caller: self.caller.as_ref(), encrypted };
        (&mut self.inbound, Way { sender, socket: self.stream.socket(), reply_head: &mut self.reply_head })
    }

    /// Whether nobody needs the connection any more: the worker stops, or the listener has been closed, and no request
    /// is on its way. Where bytes wait to be read, one is, and closing would reset it. Or it would not be let in any more.
    pub(super) fn is_over<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) -> bool {
        let closes =
            worker.closes(self.listener) && (self.served > 0 || worker.net.monotonic() >= self.opened + NEWCOMER);
        (closes || !self.is_welcome(worker, &worker.policy())) && self.stream.is_quiet()
    }

    /// Whether the answer that is about to begin is the last one.
    pub(super) fn parts<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) -> bool {
        worker.parts_from(self.listener) || !self.is_welcome(worker, &worker.policy())
    }

    /// When waiting for a first request ends.
    pub(super) fn patience<N: Net<Stream = S>>(&self, worker: &Worker<N>) -> Duration {
        if worker.closes(self.listener) { self.expires.min(self.opened + NEWCOMER) } else { self.expires }
    }

    async fn await_request<N: Net<Stream = S>>(&mut self, worker: &Worker<N>, limits: &Limits) -> Arrival {
        if self.inbound.has_begun() {
            return Arrival::Bytes;
        }
        if self.is_over(worker) {
            return Arrival::Gone;
        }
        let now = worker.net.monotonic();
        if self.served > 0 {
            self.expires = now + limits.idle_timeout;
        }
        // When connections are wanted, one without a request waits where it can be closed for another.
        if worker.admission.is_crowded() && self.stream.is_quiet() && !self.inbound.is_torn() {
            self.inbound.release_buffer(&worker.buffers);
            return Arrival::Quiet;
        }
        self.inbound.hold_buffer(&worker.buffers);
        let warm = worker.warm.enter();
        let end = if self.served == 0 { self.patience(worker) } else { self.expires };
        let deadline = end.min(now + warm.time());
        loop {
            let (result, buf) = self.stream.read_patiently(self.inbound.lend(), deadline).await;
            self.inbound.returned(buf);
            match result {
                Ok(Some(count)) if count > 0 && self.inbound.has_begun() => return Arrival::Bytes,
                Ok(Some(count)) if count > 0 => {}
                // As with the first byte of a request in plain text: it has so long to come, and no longer.
                Ok(None) if self.stream.has_begun() || self.inbound.is_torn() => return Arrival::Bytes,
                Ok(None) if self.served > 0 || deadline < self.expires => {
                    self.inbound.release_buffer(&worker.buffers);
                    return Arrival::Quiet;
                }
                _ => return Arrival::Gone,
            }
        }
    }

    /// Reads more of the request. `Ok(())` means that something came.
    ///
    /// # Errors
    /// `late` at the deadline, [`Fault::DownstreamClosed`] when the client has gone, [`Rejection::GaveWay`].
    pub async fn receive<N: Net<Stream = S>>(
        &mut self,
        worker: &Worker<N>,
        (deadline, late): (Duration, Fault),
    ) -> Result<(), Outcome> {
        let (result, buf) = {
            let reading = pin!(self.stream.read(self.inbound.lend(), deadline));
            let read = self.patience.during(|| worker.net.monotonic(), reading).await;
            read.map_err(|GaveWay| Rejection::GaveWay)?
        };
        self.inbound.returned(buf);
        self.take_turn(worker, self.inbound.has_charged_buffer()).await?;
        match result {
            Ok(0) => Err(Fault::DownstreamClosed.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(late.into()),
            Err(_) => Err(Fault::DownstreamClosed.into()),
        }
    }

    /// Waits for a turn in a request, where it has to. Where it gives way meanwhile, its buffer is released at
    /// once.
    ///
    /// # Errors
    /// [`Rejection::GaveWay`]
    pub async fn take_turn<N: Net<Stream = S>>(&self, worker: &Worker<N>, large: bool) -> Result<(), Rejection> {
        self.wait_for(worker, self.place.take_turn(large)).await
    }

    /// Waits for something of this worker in a request. Where it gives way meanwhile, its buffer is released at
    /// once.
    ///
    /// # Errors
    /// [`Rejection::GaveWay`]
    pub(super) async fn wait_for<N: Net<Stream = S>, T>(
        &self,
        worker: &Worker<N>,
        wait: impl Future<Output = T>,
    ) -> Result<T, Rejection> {
        let wait = pin!(wait);
        // Waiting for us is not making us wait.
        if !self.patience.is_seated() {
            return Ok(wait.await);
        }
        self.patience.during(|| worker.net.monotonic(), wait).await.map_err(|GaveWay| Rejection::GaveWay)
    }

    /// Whether nothing has come behind the request.
    pub(super) fn has_said_all(&self) -> bool {
        self.inbound.is_all_read() && self.stream.is_quiet()
    }

    /// Discards a bounded amount of what still comes, after the answer has been written: closing a socket with unread
    /// input resets it, and the client might never see the answer.
    pub(super) async fn linger<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) {
        self.stream.shut_down_write();
        // Nothing of the request is needed any more, and what it held is no longer charged to it.
        worker.buffers.give_back(self.inbound.lend());
        let deadline = worker.net.monotonic() + LINGER_TIME;
        let mut discarded = 0;
        let mut buf = worker.buffers.lease(16 << 10);
        while discarded < LINGER_BYTES {
            buf.truncate(super::runtime::buffer::HEADROOM);
            let reading = pin!(self.stream.read(buf, deadline));
            let Ok((result, back)) = self.patience.during(|| worker.net.monotonic(), reading).await else { return };
            buf = back;
            match result {
                Ok(count) if count > 0 => discarded += count,
                _ => break,
            }
        }
        worker.buffers.give_back(buf);
    }
}
