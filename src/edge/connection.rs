//! One connection: waiting for requests, the keep-alive loop, and a clean end.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use crate::gate::admission::ConnectionPermit;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::wire::head::ResponseHead;

use super::exchange;
use super::inbound::Inbound;
use super::net::Net;
use super::policy::{Limits, ListenerId};
use super::preface;
use super::stream::ByteStream;
use super::waiters::{GaveWay, Waiter};
use super::worker::Worker;

/// How long a connection that has just answered keeps its buffer before it waits without one.
const WARM: Duration = Duration::from_millis(250);

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
    pub stream: S,
    /// Who is at the other end; `None` for Unix-domain peers.
    pub peer: Option<Peer>,
    /// The request that is being received.
    pub inbound: Inbound,
    /// The head of the application's answer; kept for its memory.
    pub reply_head: ResponseHead,
    /// Requests so far.
    pub served: u64,
    /// Which listener accepted it.
    pub listener: ListenerId,
    /// What it holds, and whether it makes us wait.
    pub waiter: Rc<Waiter>,
    /// When it was accepted.
    opened: Duration,
    /// When a connection that has never asked for anything is closed.
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
pub async fn serve<N: Net>(worker: Rc<Worker<N>>, stream: N::Stream, origin: Origin, mut permit: ConnectionPermit) {
    let Origin { peer, listener } = origin;
    let opened = worker.net.monotonic();
    let mut connection = Connection {
        stream,
        peer: peer.map(Peer::new),
        inbound: Inbound::default(),
        reply_head: ResponseHead::default(),
        served: 0,
        listener,
        waiter: Rc::new(Waiter::new(Rc::clone(&worker.waiters), Rc::clone(permit.holding()))),
        opened,
        expires: opened + worker.policy().limits.head_timeout,
    };
    if let Err(end) = Box::pin(preface::read(&worker, &mut connection, &mut permit)).await {
        end.into_iter().for_each(|end| worker.connection_ended(end, peer));
        connection.inbound.forget(&worker.buffers);
        return;
    }
    // The busy part lives in a box of its own, so that a parked connection is no larger than its socket.
    while Box::pin(converse(&worker, &mut connection)).await.is_continue() {
        connection.inbound = Inbound::default();
        connection.reply_head = ResponseHead::default();
        // A connection that must make room for another has no permit any more.
        let Some((goes_on, back)) = connection.park(&worker, permit).await else { return };
        permit = back;
        if !goes_on {
            break;
        }
    }
    connection.inbound.release_buffer(&worker.buffers);
}

/// Serves requests until the connection is to be closed, or parked because it has gone quiet.
async fn converse<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>) -> ControlFlow<()> {
    loop {
        let limits = worker.policy().limits;
        match connection.await_request(worker, &limits).await {
            Arrival::Bytes => {}
            Arrival::Quiet => return ControlFlow::Continue(()),
            Arrival::Gone => return ControlFlow::Break(()),
        }
        let busy = worker.drain.enter();
        connection.served += 1;
        let next = exchange::run(worker, connection).await;
        if next == Next::Linger {
            connection.linger(worker).await;
        }
        drop(busy);
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
    /// Whether nobody needs the connection any more: the worker stops, or the listener has been closed, and no request
    /// is on its way. Where bytes wait to be read, one is, and closing would reset it.
    fn is_over<N: Net<Stream = S>>(&self, worker: &Worker<N>) -> bool {
        worker.closes(self.listener)
            && self.stream.is_quiet()
            && (self.served > 0 || worker.net.monotonic() >= self.opened + NEWCOMER)
    }

    /// When waiting for a first request ends.
    fn patience<N: Net<Stream = S>>(&self, worker: &Worker<N>) -> Duration {
        if worker.closes(self.listener) { self.expires.min(self.opened + NEWCOMER) } else { self.expires }
    }

    /// Waits, without a buffer, for a request: whether the connection goes on, and its permit, or nothing when another
    /// has been let in for it.
    async fn park<N: Net<Stream = S>>(
        &mut self,
        worker: &Worker<N>,
        permit: ConnectionPermit,
    ) -> Option<(bool, ConnectionPermit)> {
        let mut permit = permit;
        let idle = worker.net.monotonic() + worker.policy().limits.idle_timeout.saturating_sub(WARM);
        loop {
            if self.is_over(worker) {
                return Some((false, permit));
            }
            let deadline = if self.served == 0 { self.patience(worker) } else { idle };
            let (readable, back) = worker.parking.wait(permit, self.stream.readable(deadline)).await?;
            permit = back;
            // Called, it looks again whether it is over.
            if let Some(readable) = readable {
                // When thousands close at once, none of them may ask for a buffer to find that out.
                return Some((readable.is_ok() && !self.stream.has_ended(), permit));
            }
        }
    }

    async fn await_request<N: Net<Stream = S>>(&mut self, worker: &Worker<N>, limits: &Limits) -> Arrival {
        if self.inbound.has_begun() {
            return Arrival::Bytes;
        }
        if self.is_over(worker) {
            return Arrival::Gone;
        }
        // When connections are wanted, one without a request waits where it can be closed for another.
        if worker.admission.is_crowded() && self.stream.is_quiet() {
            self.inbound.release_buffer(&worker.buffers);
            return Arrival::Quiet;
        }
        self.inbound.hold_buffer(&worker.buffers);
        let now = worker.net.monotonic();
        let deadline = match self.served {
            0 => self.patience(worker).min(now + WARM),
            _ => now + WARM.min(limits.idle_timeout),
        };
        loop {
            let (result, buf) = self.stream.read_patiently(self.inbound.lend(), deadline).await;
            self.inbound.returned(buf);
            match result {
                Ok(Some(count)) if count > 0 && self.inbound.has_begun() => return Arrival::Bytes,
                Ok(Some(count)) if count > 0 => {}
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
        let reading = self.stream.read(self.inbound.lend(), deadline);
        let read = self.waiter.during(|| worker.net.monotonic(), reading).await;
        let (result, buf) = read.map_err(|GaveWay| Rejection::GaveWay)?;
        self.inbound.returned(buf);
        match result {
            Ok(0) => Err(Fault::DownstreamClosed.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(late.into()),
            Err(_) => Err(Fault::DownstreamClosed.into()),
        }
    }

    /// Discards a bounded amount of what still comes, after the answer has been written: closing a socket with unread
    /// input resets it, and the client might never see the answer.
    async fn linger<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) {
        self.stream.shut_down_write();
        // Nothing of the request is needed any more, and what it held is no longer charged to it.
        worker.buffers.give_back(self.inbound.lend());
        let deadline = worker.net.monotonic() + LINGER_TIME;
        let mut discarded = 0;
        let mut buf = worker.buffers.lease(16 << 10);
        while discarded < LINGER_BYTES {
            buf.truncate(super::buffer::HEADROOM);
            let reading = self.stream.read(buf, deadline);
            let Ok((result, back)) = self.waiter.during(|| worker.net.monotonic(), reading).await else { return };
            buf = back;
            match result {
                Ok(count) if count > 0 => discarded += count,
                _ => break,
            }
        }
        worker.buffers.give_back(buf);
    }
}
