//! What remains of a connection while nothing happens on it. Most connections are idle most of the time, and what each of
//! them holds then is held ten thousand times: no buffer, nothing of a request, no timer of its own.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::gate::admission::ConnectionPermit;
use crate::gate::identity::Caller;
use crate::wire::head::ResponseHead;

use super::connection::{Connection, Origin, Peer, WARM};
use super::inbound::Inbound;
use super::net::Net;
use super::policy::ListenerId;
use super::stream::ByteStream;
use super::tls::downstream::Downstream;
use super::tls::standing::Standing;
use super::turns::Place;
use super::waiting::Patience;
use super::worker::Worker;

/// A connection that waits for a request. What is not here is made anew when one comes.
pub struct Parked<S> {
    stream: Downstream<S>,
    peer: Option<IpAddr>,
    /// Seldom there, and large.
    caller: Option<Box<Caller>>,
    standing: Standing,
    served: u64,
    listener: ListenerId,
    /// How its last request ended.
    was_refused: bool,
    opened: Duration,
    expires: Duration,
}

impl<S: ByteStream> Parked<S> {
    /// A connection that has just come.
    pub(super) fn newcomer<N: Net<Stream = S>>(worker: &Worker<N>, stream: S, origin: Origin) -> Box<Self> {
        let opened = worker.net.monotonic();
        Box::new(Self {
            stream: Downstream::plain(stream),
            peer: origin.peer,
            caller: None,
            standing: Standing::default(),
            served: 0,
            listener: origin.listener,
            was_refused: false,
            opened,
            expires: opened + worker.policy().limits.head_timeout,
        })
    }

    /// The connection, ready to receive.
    pub(super) fn wake<N: Net<Stream = S>>(
        self: Box<Self>,
        worker: &Worker<N>,
        permit: &ConnectionPermit,
    ) -> Box<Connection<S>> {
        let parked = *self;
        let (waiting, holding) = (Rc::clone(&worker.waiting), Rc::clone(permit.holding()));
        Box::new(Connection {
            stream: parked.stream,
            peer: parked.peer.map(Peer::new),
            caller: parked.caller.map(|caller| *caller),
            standing: parked.standing,
            inbound: Inbound::default(),
            reply_head: ResponseHead::default(),
            served: parked.served,
            listener: parked.listener,
            place: Place::of(&worker.turns, parked.was_refused),
            patience: Rc::new(Patience::new(waiting, holding)),
            opened: parked.opened,
            expires: parked.expires,
        })
    }
}

impl<S: ByteStream> Connection<S> {
    /// What remains of it. Nothing that has been received may be in need of it any more.
    fn rest(self: Box<Self>) -> Box<Parked<S>> {
        let connection = *self;
        Box::new(Parked {
            stream: connection.stream,
            peer: connection.peer.map(|peer| peer.address),
            caller: connection.caller.map(Box::new),
            standing: connection.standing,
            served: connection.served,
            listener: connection.listener,
            was_refused: connection.place.is_refused(),
            opened: connection.opened,
            expires: connection.expires,
        })
    }
}

/// Waits, parked, for a request: the connection and its permit, or nothing when the connection has been closed, by the
/// client, by us, or because another was let in for it.
pub(super) async fn park<N: Net>(
    worker: &Worker<N>,
    mut connection: Box<Connection<N::Stream>>,
    mut permit: ConnectionPermit,
) -> Option<(Box<Connection<N::Stream>>, ConnectionPermit)> {
    let idle = worker.net.monotonic() + worker.policy().limits.idle_timeout.saturating_sub(WARM);
    loop {
        if connection.patience.is_over().is_err() || connection.is_over(worker) {
            connection.stream.say_goodbye();
            return None;
        }
        let deadline = if connection.served == 0 { connection.patience(worker) } else { idle };
        let mut parked = connection.rest();
        let (readable, back) = {
            let readable = pin!(parked.stream.readable(deadline));
            // A connection that must make room for another has no permit any more.
            worker.parking.wait(permit, readable).await?
        };
        permit = back;
        // When thousands close at once, none of them may become large again to find that out.
        if readable.as_ref().is_some_and(|readable| readable.is_err() || parked.stream.has_ended()) {
            parked.stream.say_goodbye();
            return None;
        }
        connection = parked.wake(worker, &permit);
        if readable.is_some() {
            return Some((connection, permit));
        }
        // Called, it looks again whether it is over.
    }
}
