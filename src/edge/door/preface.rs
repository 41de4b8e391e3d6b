//! The start of a connection that comes through a load balancer: the header of the PROXY protocol, which says who the
//! client is. Everything after it is as if the client had connected itself.

use crate::gate::admission::ConnectionPermit;
use crate::gate::keyed_buckets::ClientKey;
use crate::outcome::ConnectionEnd;
use crate::wire::proxy_protocol::{self, ProxyHeader};

use crate::edge::connection::Connection;
use crate::edge::peer::Peer;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::wait::warm::WARM;
use crate::edge::worker::Worker;

/// Reads the header, if the listener wants one, and lets the connection stand for the client that it names.
///
/// # Errors
/// The connection has to be closed, without an answer. `None` when nothing is wrong: it was closed without a word, as the
/// health checks of load balancers do it.
pub async fn read<N: Net>(
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
    permit: &mut ConnectionPermit,
) -> Result<(), Option<ConnectionEnd>> {
    let policy = worker.policy();
    let Some(door) = policy.door(connection.access.listener).filter(|door| door.proxy_protocol) else {
        return Ok(());
    };
    if !connection.access.peer.as_ref().is_some_and(|peer| door.proxies.contains(peer.address)) {
        return Err(Some(ConnectionEnd::ProxyUnknown));
    }
    connection.inbound.hold_buffer(&worker.buffers);
    loop {
        // Occupancy may run out while it is being tried: it is looked at again and again.
        let glance = worker.net.monotonic() + WARM;
        let (result, buf) = connection
            .stream
            .read_patiently(connection.inbound.lend(), connection.first_request_deadline(worker).min(glance))
            .await;
        connection.inbound.returned(buf);
        match result {
            Ok(Some(count)) if count > 0 => {}
            Ok(None) if worker.net.monotonic() < connection.first_request_deadline(worker) => continue,
            // A broken connection is as silent as a closed one; one that only waits until its time is up is not, unless
            // it is we who go.
            Ok(None) if connection.inbound.has_received() || !worker.closes(connection.access.listener) => {
                return Err(Some(ConnectionEnd::ProxyHeaderInvalid));
            }
            _ if connection.inbound.has_received() => return Err(Some(ConnectionEnd::ProxyHeaderInvalid)),
            _ => return Err(None),
        }
        match proxy_protocol::parse(connection.inbound.received()) {
            Ok(None) => connection.inbound.make_room_for_head(&worker.buffers, proxy_protocol::V2_LIMIT),
            Ok(Some((header, length))) => {
                match header {
                    ProxyHeader::Proxied { source, .. } => {
                        worker.assign(permit, ClientKey::of(Some(source.ip()))).map_err(Some)?;
                        connection.access.peer = Some(Peer::new(source.ip()));
                    }
                    // A client without an address must neither pass for the proxy nor be believed as if it were one. The
                    // proxy's own connections (LOCAL) are health checks, which need neither.
                    ProxyHeader::Unknown | ProxyHeader::Local => connection.access.peer = None,
                }
                connection.inbound.step_over(length);
                return Ok(());
            }
            Err(proxy_protocol::MalformedHeader) => return Err(Some(ConnectionEnd::ProxyHeaderInvalid)),
        }
    }
}
