//! Waiting for requests, and serving one after the other.

use std::ops::ControlFlow;

use crate::edge::call::carrier::Next;
use crate::edge::call::story;
use crate::edge::connection::Connection;
use crate::edge::policy::Limits;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::worker::Worker;

use super::carrier::H1Carrier;

/// Serves requests until the connection is to be closed, or until it has gone quiet.
pub async fn converse<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>) -> ControlFlow<()> {
    loop {
        let limits = worker.policy().limits;
        match await_request(worker, connection, &limits).await {
            Arrival::Bytes => {}
            Arrival::Quiet => return ControlFlow::Continue(()),
            Arrival::Gone => {
                connection.stream.say_goodbye();
                return ControlFlow::Break(());
            }
        }
        let busy = worker.drain.enter();
        connection.served += 1;
        connection.turn_slot.take_turn(false).await;
        let next = {
            let policy = worker.policy();
            if connection.access.is_welcome(&connection.stream, worker, &policy) {
                let (mut call, mut carrier) = H1Carrier::split(worker, &policy, connection);
                story::run(worker, &policy, &mut call, &mut carrier).await
            } else {
                // The client learns why in its next handshake; the request has not been looked at.
                Next::Linger
            }
        };
        // A client that has been answered is not cut off, however long it takes to go.
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

async fn await_request<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>, limits: &Limits) -> Arrival {
    if connection.inbound.has_begun() {
        return Arrival::Bytes;
    }
    if connection.is_over(worker) {
        return Arrival::Gone;
    }
    let now = worker.net.monotonic();
    if connection.served > 0 {
        connection.expires = now + limits.idle_timeout;
    }
    // When connections are wanted, one without a request waits where it can be closed for another.
    let wanted = worker.admission.is_crowded() || connection.occupancy.holding().is_replaceable();
    if wanted && connection.stream.is_quiet() && !connection.inbound.is_torn() {
        connection.inbound.release_buffer(&worker.buffers);
        return Arrival::Quiet;
    }
    connection.inbound.hold_buffer(&worker.buffers);
    let warm = worker.warm.enter();
    let end = if connection.served == 0 { connection.first_request_deadline(worker) } else { connection.expires };
    let deadline = end.min(now + warm.time());
    loop {
        let (result, buf) = connection.stream.read_patiently(connection.inbound.lend(), deadline).await;
        connection.inbound.returned(buf);
        match result {
            Ok(Some(count)) if count > 0 && connection.inbound.has_begun() => return Arrival::Bytes,
            Ok(Some(count)) if count > 0 => {}
            // As with the first byte of a request in plain text: it has so long to come, and no longer.
            Ok(None) if connection.stream.has_begun() || connection.inbound.is_torn() => return Arrival::Bytes,
            Ok(None) if connection.served > 0 || deadline < connection.expires => {
                connection.inbound.release_buffer(&worker.buffers);
                return Arrival::Quiet;
            }
            _ => return Arrival::Gone,
        }
    }
}
