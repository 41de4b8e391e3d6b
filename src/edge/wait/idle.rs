//! What remains of a connection while nothing happens on it. Most connections are idle most of the time, and there may be
//! ten thousand of them: each holds no buffer, nothing of a request, and no timer of its own.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::gate::admission::ConnectionPermit;
use crate::gate::conduct::Conduct;
use crate::gate::identity::Caller;
use crate::outcome::ConnectionEnd;
use crate::wire::head::ResponseHead;

use super::slow_set::Occupancy;
use super::turns::TurnSlot;
use super::warm::WARM;
use crate::edge::call::inbound::Inbound;
use crate::edge::connection::Connection;
use crate::edge::door::access::ClientAccess;
use crate::edge::door::tls::admitted_by::AdmittedBy;
use crate::edge::door::tls::downstream::Downstream;
use crate::edge::peer::{Peer, PeerOrigin};
use crate::edge::policy::ListenerId;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::worker::Worker;

/// A connection that waits for a request. What is not here is made anew when one comes.
pub struct IdleConnection<S> {
    stream: Downstream<S>,
    peer: Option<IpAddr>,
    /// Seldom there, and large.
    caller: Option<Box<Caller>>,
    admitted_by: AdmittedBy,
    served: u64,
    listener: ListenerId,
    conduct: Conduct,
    opened: Duration,
    expires: Duration,
}

impl<S: ByteStream> IdleConnection<S> {
    /// A connection that has just been accepted.
    pub(in crate::edge) fn accepted<N: Net<Stream = S>>(
        worker: &Worker<N>,
        stream: S,
        origin: PeerOrigin,
    ) -> Box<Self> {
        let opened = worker.net.monotonic();
        Box::new(Self {
            stream: Downstream::plain(stream),
            peer: origin.peer,
            caller: None,
            admitted_by: AdmittedBy::default(),
            served: 0,
            listener: origin.listener,
            conduct: Conduct::default(),
            opened,
            expires: opened + worker.policy().limits.head_timeout,
        })
    }

    /// The connection, ready to receive.
    #[expect(clippy::boxed_local, reason = "what is moved out of a box in a task keeps the box as long as the task")]
    pub(in crate::edge) fn wake<N: Net<Stream = S>>(
        self: Box<Self>,
        worker: &Worker<N>,
        permit: &ConnectionPermit,
    ) -> Box<Connection<S>> {
        let (slow, holding) = (Rc::clone(&worker.slow), Rc::clone(permit.holding()));
        Box::new(Connection {
            stream: self.stream,
            access: ClientAccess {
                listener: self.listener,
                peer: self.peer.map(Peer::new),
                caller: self.caller.map(|caller| *caller),
                admitted_by: self.admitted_by,
            },
            inbound: Inbound::default(),
            reply_head: ResponseHead::default(),
            served: self.served,
            turn_slot: TurnSlot::of(&worker.turns, self.conduct),
            occupancy: Rc::new(Occupancy::new(slow, holding)),
            opened: self.opened,
            expires: self.expires,
        })
    }
}

impl<S: ByteStream> Connection<S> {
    /// What remains of it. Nothing that has been received may be in need of it any more.
    #[expect(clippy::boxed_local, reason = "what is moved out of a box in a task keeps the box as long as the task")]
    fn rest(self: Box<Self>) -> Box<IdleConnection<S>> {
        Box::new(IdleConnection {
            stream: self.stream,
            peer: self.access.peer.map(|peer| peer.address),
            caller: self.access.caller.map(Box::new),
            admitted_by: self.access.admitted_by,
            served: self.served,
            listener: self.access.listener,
            conduct: self.turn_slot.conduct(),
            opened: self.opened,
            expires: self.expires,
        })
    }
}

fn is_timeout(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Waits, idle, for a request: the connection and its permit, or nothing when the connection has been closed, by the
/// client, by us, or because another was let in for it.
pub(in crate::edge) async fn wait_for_request<N: Net>(
    worker: &Worker<N>,
    mut connection: Box<Connection<N::Stream>>,
    mut permit: ConnectionPermit,
) -> Option<(Box<Connection<N::Stream>>, ConnectionPermit)> {
    loop {
        if connection.occupancy.end().is_err() || connection.is_over(worker) {
            connection.stream.say_goodbye();
            return None;
        }
        // Its client has too many, and nothing was proven genuine on this one. One that has just come may be about to send.
        let soon = connection.opened + WARM;
        let has_just_come = connection.served == 0 && worker.net.monotonic() < soon;
        if !has_just_come && !permit.holding().is_proven() && worker.admission.sheds(permit.holding()) {
            worker.connection_ended(ConnectionEnd::IdleClosed, None);
            connection.stream.say_goodbye();
            return None;
        }
        let end = if connection.served == 0 { connection.first_request_deadline(worker) } else { connection.expires };
        let deadline = if has_just_come && worker.admission.has_excess() { end.min(soon) } else { end };
        let mut idle = connection.rest();
        let waited = match idle.stream.at_rest() {
            Some(socket) => {
                let readable = pin!(socket.readable(deadline));
                worker.idle.wait(permit, readable).await
            }
            // Seldom, and large.
            None => worker.idle.wait(permit, Box::pin(idle.stream.readable(deadline)).as_mut()).await,
        };
        // A connection that must make room for another has no permit any more.
        let (readable, back) = waited?;
        permit = back;
        let looks_again = deadline < end && readable.as_ref().is_some_and(is_timeout);
        if looks_again {
            connection = idle.wake(worker, &permit);
            continue;
        }
        // When thousands close at once, none of them may become large again to find that out.
        if readable.as_ref().is_some_and(|readable| readable.is_err() || idle.stream.has_ended()) {
            idle.stream.say_goodbye();
            return None;
        }
        connection = idle.wake(worker, &permit);
        if readable.is_some() {
            return Some((connection, permit));
        }
        // Woken, it looks again whether it is over.
    }
}
