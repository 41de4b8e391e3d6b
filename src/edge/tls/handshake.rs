//! The beginning of a connection that is encrypted, told from its first byte to the certificate of the client.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustls::server::UnbufferedServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};

use crate::gate::admission::HandshakePermit;
use crate::gate::crowd::Bound;
use crate::outcome::{Answer, ConnectionEnd};
use crate::telemetry::handshake::Handshake;
use crate::wire::encode;

use crate::edge::buffer::HEADROOM;
use crate::edge::connection::Connection;
use crate::edge::net::Net;
use crate::edge::policy::Policy;
use crate::edge::stream::ByteStream;
use crate::edge::waiting::GaveWay;
use crate::edge::worker::Worker;

use super::door::{TlsDoor, end_of};
use super::session::{Failure, TlsSession};

/// Makes the handshake that the listener wants. What has been received already is a part of it.
///
/// # Errors
/// The connection has to be closed; `None` when nobody need hear of it: the client has gone without a word, as health
/// checks do.
pub async fn secure<N: Net>(
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
    (policy, door): (&Policy, &TlsDoor),
) -> Result<(), Option<ConnectionEnd>> {
    let deadline = connection.expires;
    let _permit = enter(worker, connection).await.map_err(Some)?;
    let opened = door.open().map_err(|_| Some(ConnectionEnd::TlsHandshakeFailed))?;
    let buffers = Rc::clone(&worker.buffers.records);
    let mut session = Box::new(TlsSession::new(opened, buffers, connection.inbound.received()));
    connection.inbound.forget(&worker.buffers);
    let patience = Rc::clone(&connection.patience);
    let made = {
        let handshake = pin!(session.handshake(connection.stream.socket_mut(), deadline));
        patience.during(|| worker.net.monotonic(), handshake).await
    };
    let made = made.map_err(|GaveWay| Some(ConnectionEnd::TlsHandshakesFull))?;
    patience.is_over().map_err(|GaveWay| Some(ConnectionEnd::TlsHandshakesFull))?;
    if let Err(failure) = made {
        return Err(match failure {
            Failure::Plaintext => Some(ConnectionEnd::TlsPlaintext),
            Failure::Late => Some(ConnectionEnd::TlsHandshakeTimeout),
            Failure::Gone(true) => Some(ConnectionEnd::TlsHandshakeFailed),
            Failure::Gone(false) => None,
            Failure::Protocol(error) => Some(end_of(&error)),
        });
    }
    connection.caller = door.identify(session.connection(), worker.net.now().unix).map_err(Some)?;
    connection.standing = door.standing();
    worker.cells(|cells| cells.secured(kind_of(session.connection())));
    connection.stream.encrypt_with(session);
    connection.expires = worker.net.monotonic() + policy.limits.head_timeout;
    Ok(())
}

/// How often it is looked whether somebody has made room, and how long between two looks.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// A place among the handshakes. Where there is none, the one that costs others most is ended for it: strangers who begin
/// handshakes and leave it at that keep nobody out.
async fn enter<'w, N: Net>(
    worker: &'w Worker<N>,
    connection: &Connection<N::Stream>,
) -> Result<HandshakePermit<'w>, ConnectionEnd> {
    let mut entered = worker.admission.begin_handshake();
    if entered.is_ok() {
        return entered;
    }
    let party = connection.patience.holding().owner(u64::MAX);
    if worker.make_way(Bound::Connections, (party, 1), worker.net.monotonic()) {
        // It gives its place back when its task has heard of it.
        for _ in 0..LOOKS {
            Box::pin(monoio::time::sleep(PAUSE)).await;
            entered = worker.admission.begin_handshake();
            if entered.is_ok() {
                break;
            }
        }
    }
    entered
}

fn kind_of(connection: &UnbufferedServerConnection) -> Handshake {
    let is_new = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    match (is_new, connection.handshake_kind() == Some(HandshakeKind::Resumed)) {
        (true, true) => Handshake::Resumed13,
        (true, false) => Handshake::Full13,
        (false, true) => Handshake::Resumed12,
        (false, false) => Handshake::Full12,
    }
}

/// Lets the client learn why its connection ends: by an alert that has been sent, or in plain text if it speaks that.
/// Whoever was late, or came when there was no room, is not waited for.
pub async fn take_leave<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>, end: ConnectionEnd) {
    if let Some(answer) = end.answer() {
        write_plainly(worker, connection, answer);
    }
    let told = matches!(
        end,
        ConnectionEnd::TlsPlaintext
            | ConnectionEnd::TlsNothingInCommon
            | ConnectionEnd::TlsCertificateMissing
            | ConnectionEnd::TlsCertificateRefused
            | ConnectionEnd::TlsNameRefused
            | ConnectionEnd::TlsHandshakeFailed
    );
    if told {
        connection.linger(worker).await;
    }
}

fn write_plainly<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>, answer: Answer) {
    const BODY: [&[u8]; 3] = [b"{\"error\":\"", b"\",\"request_id\":\"", b"\"}\n"];
    let id = worker.ids.next();
    let [open, middle, close] = BODY;
    let body = [open, answer.error.as_bytes(), middle, id.text(), close].concat();
    let mut buf = worker.buffers.lease(0);
    encode::status_line(&mut buf, answer.status);
    encode::field(&mut buf, b"Date", &worker.date.at(worker.net.now()));
    encode::field(&mut buf, b"Content-Type", b"application/json");
    encode::field(&mut buf, b"Connection", b"close");
    encode::field_u64(&mut buf, b"Content-Length", body.len() as u64);
    encode::end(&mut buf);
    buf.extend_from_slice(&body);
    connection.stream.offer(buf.get(HEADROOM..).unwrap_or_default());
    worker.buffers.give_back(buf);
}
