//! The life of a connection: it is let in, carries requests, rests, and ends.

use std::io;
use std::pin::pin;
use std::rc::Rc;

use crate::gate::admission::ConnectionPermit;
use crate::outcome::ConnectionEnd;

use super::connection::Connection;
use super::door::preface;
use super::door::tls::admitted_by::AdmittedBy;
use super::door::tls::handshake::{self, HandshakeEnd};
use super::h1::keep_alive;
use super::peer::PeerOrigin;
use super::runtime::net::Net;
use super::runtime::stream::ByteStream;
use super::wait::idle::{self, IdleConnection};
use super::worker::Worker;

/// Serves a connection until its end. It counts as long as `permit` is held.
pub async fn serve<N: Net>(worker: Rc<Worker<N>>, stream: N::Stream, origin: PeerOrigin, permit: ConnectionPermit) {
    let accepted = IdleConnection::accepted(&worker, stream, origin);
    stay(&worker, accepted, permit).await;
}

/// Serves a connection that has a permit until its end. Everything large lives in boxes, which are gone while the connection
/// is idle.
pub async fn stay<N: Net>(worker: &Worker<N>, accepted: Box<IdleConnection<N::Stream>>, permit: ConnectionPermit) {
    let Some(mut received) = Box::pin(receive(worker, accepted, permit)).await else { return };
    while Box::pin(keep_alive::converse(worker, &mut received.0)).await.is_continue() {
        let (connection, permit) = received;
        let Some(woken) = idle::wait_for_request(worker, connection, permit).await else { return };
        received = woken;
    }
    received.0.inbound.release_buffer(&worker.buffers);
}

/// Lets a new connection begin, or tells it why not.
async fn receive<N: Net>(
    worker: &Worker<N>,
    accepted: Box<IdleConnection<N::Stream>>,
    permit: ConnectionPermit,
) -> Option<(Box<Connection<N::Stream>>, ConnectionPermit)> {
    let mut connection = accepted.wake(worker, &permit);
    let peer = connection.access.peer.as_ref().map(|peer| peer.address);
    match Box::pin(begin(worker, &mut connection, permit)).await {
        Ok(permit) => return Some((connection, permit)),
        Err(Some(HandshakeEnd { end, certificate })) => {
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
/// The connection has to be closed, and why, if that is reported.
async fn begin<N: Net>(
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
    mut permit: ConnectionPermit,
) -> Result<ConnectionPermit, Option<HandshakeEnd>> {
    preface::read(worker, connection, &mut permit).await.map_err(|end| end.map(HandshakeEnd::from))?;
    let policy = worker.policy();
    let Some(door) = policy.tls(connection.access.listener) else {
        connection.access.admitted_by = AdmittedBy::Plain;
        return Ok(permit);
    };
    connection.expires = worker.net.monotonic() + policy.limits.handshake_timeout;
    while !connection.inbound.has_received() {
        if connection.is_over(worker) {
            return Err(None);
        }
        let deadline = connection.first_request_deadline(worker);
        let waited = {
            let readable = pin!(connection.stream.readable(deadline));
            worker.idle.wait(permit, readable).await
        };
        let Some((readable, back)) = waited else { return Err(None) };
        permit = back;
        match readable {
            // Woken, it looks again whether it is over.
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
