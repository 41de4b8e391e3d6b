//! One connection: its socket, how it was let in, and how it ends.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::wire::head::ResponseHead;

use super::call::inbound::Inbound;
use super::door::access::ClientAccess;
use super::door::tls::downstream::Downstream;
use super::runtime::buffer::HEADROOM;
use super::runtime::net::Net;
use super::runtime::stream::ByteStream;
use super::wait::slow_set::Occupancy;
use super::wait::turns::TurnSlot;
use super::worker::Worker;

/// How long a connection that has just been accepted may take to begin its first request while we close: its client has
/// met a listener that was open.
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
    pub turn_slot: TurnSlot,
    /// What it holds, and whether it makes us wait.
    pub occupancy: Rc<Occupancy>,
    /// When it was accepted.
    pub(super) opened: Duration,
    /// When it is closed if it asks for nothing.
    pub(super) expires: Duration,
}

impl<S: ByteStream> Connection<S> {
    /// Whether the connection is not needed any more: the worker stops, or the listener has been closed, and no request
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

    /// When waiting for a first request ends.
    pub(super) fn first_request_deadline<N: Net<Stream = S>>(&self, worker: &Worker<N>) -> Duration {
        if worker.closes(self.access.listener) { self.expires.min(self.opened + NEWCOMER) } else { self.expires }
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
            let Ok((result, back)) = self.occupancy.during(|| worker.net.monotonic(), reading).await else { return };
            buf = back;
            match result {
                Ok(count) if count > 0 => discarded += count,
                _ => break,
            }
        }
        worker.buffers.give_back(buf);
    }
}
