//! One connection: its socket, how it was let in, and how it ends.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::outcome::{Fault, Outcome, Rejection};
use crate::wire::head::ResponseHead;

use super::call::inbound::Inbound;
use super::door::access::ClientAccess;
use super::door::tls::downstream::Downstream;
use super::peer::Sender;
use super::runtime::buffer::HEADROOM;
use super::runtime::net::Net;
use super::runtime::stream::ByteStream;
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
    /// How it was let in.
    pub access: ClientAccess,
    /// The request that is being received.
    pub inbound: Inbound,
    /// The head of the application's answer; kept for its memory.
    pub reply_head: ResponseHead,
    /// Requests so far.
    pub served: u64,
    /// Among the other connections of the worker.
    pub place: Place,
    /// What it holds, and whether it makes us wait.
    pub patience: Rc<Patience>,
    /// When it was accepted.
    pub(super) opened: Duration,
    /// When it is closed if it asks for nothing.
    pub(super) expires: Duration,
}

impl<S: ByteStream> Connection<S> {
    /// Whom its requests come from.
    pub fn sender(&self) -> Sender<'_> {
        self.access.sender(self.stream.is_encrypted())
    }

    /// Whether nobody needs the connection any more: the worker stops, or the listener has been closed, and no request
    /// is on its way. Where bytes wait to be read, one is, and closing would reset it. Or it would not be let in any more.
    pub(super) fn is_over<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) -> bool {
        let closes = worker.closes(self.access.listener)
            && (self.served > 0 || worker.net.monotonic() >= self.opened + NEWCOMER);
        (closes || !self.is_welcome(worker)) && self.stream.is_quiet()
    }

    /// Whether its listener would let it in under the policy in force ([`ClientAccess::is_welcome`]).
    pub(super) fn is_welcome<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) -> bool {
        self.access.is_welcome(&self.stream, worker, &worker.policy())
    }

    /// Whether the answer that is about to begin is the last one.
    pub(super) fn parts<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) -> bool {
        worker.parts_from(self.access.listener) || !self.is_welcome(worker)
    }

    /// When waiting for a first request ends.
    pub(super) fn patience<N: Net<Stream = S>>(&self, worker: &Worker<N>) -> Duration {
        if worker.closes(self.access.listener) { self.expires.min(self.opened + NEWCOMER) } else { self.expires }
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
            buf.truncate(HEADROOM);
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
