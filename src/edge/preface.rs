//! The start of a connection that comes through a load balancer: the header of the PROXY protocol, which says who the
//! client is. Everything after it is as if the client had connected itself.

use crate::outcome::Rejection;
use crate::wire::proxy_protocol::{self, ProxyHeader};

use super::connection::{Connection, Peer};
use super::net::Net;
use super::stream::ByteStream;
use super::worker::Worker;

/// Why a connection ends before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It breaks a rule.
    By(Rejection),
    /// It was closed without a word, as the health checks of load balancers do it.
    Silent,
}

/// Reads the header, if the listener wants one, and lets the connection stand for the client that it names.
///
/// # Errors
/// [`Refused`]: the connection has to be closed, without an answer.
pub async fn read<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>) -> Result<(), Refused> {
    let policy = worker.policy();
    let Some(door) = policy.gate.doors.get(connection.listener).filter(|door| door.proxy_protocol) else {
        return Ok(());
    };
    if !connection.peer.as_ref().is_some_and(|peer| door.proxies.contains(peer.address)) {
        return Err(Refused::By(Rejection::ProxyUnknown));
    }
    let deadline = worker.net.now().monotonic + policy.limits.head_timeout;
    connection.inbound.hold_buffer(&worker.buffers);
    loop {
        let (result, buf) = connection.stream.read(connection.inbound.lend(), deadline).await;
        connection.inbound.returned(buf);
        match result {
            Ok(count) if count > 0 => {}
            // A broken connection is as silent as a closed one; one that only waits until its time is up is not.
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Err(Refused::By(Rejection::ProxyHeaderInvalid));
            }
            _ if connection.inbound.has_received() => return Err(Refused::By(Rejection::ProxyHeaderInvalid)),
            _ => return Err(Refused::Silent),
        }
        match proxy_protocol::parse(connection.inbound.received()) {
            Ok(None) => {}
            Ok(Some((header, length))) => {
                if let ProxyHeader::Proxied { source, .. } = header {
                    connection.peer = Some(Peer::new(source.ip()));
                }
                connection.inbound.step_over(length);
                return Ok(());
            }
            Err(proxy_protocol::Malformed) => return Err(Refused::By(Rejection::ProxyHeaderInvalid)),
        }
    }
}
