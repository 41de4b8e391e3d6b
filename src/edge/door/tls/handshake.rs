//! The beginning of a connection that is encrypted, told from its first byte to the certificate of the client.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustls::server::UnbufferedServerConnection;
use rustls::{Error, HandshakeKind, ProtocolVersion};

use crate::gate::admission::HandshakePermit;
use crate::gate::eviction::Bound;
use crate::gate::handshakes::HandshakeStanding;
use crate::outcome::{AnswerRow, ConnectionEnd};
use crate::telemetry::WorkerCells;
use crate::telemetry::handshake::{Handshake, RefusedCertificate};
use crate::wire::encode;

use crate::edge::connection::Connection;
use crate::edge::policy::Policy;
use crate::edge::runtime::buffer::HEADROOM;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::wait::slow_set::Evicted;
use crate::edge::worker::Worker;

use super::door::{TlsDoor, end_of};
use super::session::{Failure, TlsSession};
use super::verifier;

/// What verifying a client's certificate costs, in units of [`crate::gate::chain::KeyKind::handshake_cost`]: two or three
/// signatures, mostly.
const VERIFICATION: u32 = 16;

/// What a handshake costs that resumes a session.
const RESUMPTION: u32 = 4;

/// Why a connection is closed before its first request.
#[derive(Debug)]
pub struct HandshakeEnd {
    /// How.
    pub end: ConnectionEnd,
    /// The client's certificate, if that is the reason.
    pub certificate: Option<Box<RefusedCertificate>>,
}

impl From<ConnectionEnd> for HandshakeEnd {
    fn from(end: ConnectionEnd) -> Self {
        Self { end, certificate: None }
    }
}

impl From<Evicted> for HandshakeEnd {
    fn from(_: Evicted) -> Self {
        ConnectionEnd::TlsHandshakesFull.into()
    }
}

/// Makes the handshake that the listener wants. What has been received already is a part of it.
///
/// # Errors
/// The connection has to be closed; `None` when that is not reported: the client has gone without a word, as health
/// checks do.
pub async fn secure<N: Net>(
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
    (policy, door): (&Policy, &TlsDoor),
) -> Result<(), Option<HandshakeEnd>> {
    let _permit = enter(worker, connection).await.map_err(|end| Some(end.into()))?;
    let opened = door.open().map_err(|_| Some(ConnectionEnd::TlsHandshakeFailed.into()))?;
    let buffers = Rc::clone(&worker.buffers.records);
    let mut session = Box::new(TlsSession::new(opened, buffers, connection.inbound.received()));
    connection.inbound.forget(&worker.buffers);
    converse(worker, connection, door, &mut session).await?;
    connection.occupancy.end().map_err(|gave_way| Some(gave_way.into()))?;
    let identified = door.identify(session.connection(), worker.net.now().unix);
    connection.access.caller = identified.map_err(|end| Some(end.into()))?;
    if connection.access.caller.is_some() {
        connection.occupancy.holding().prove_handshake();
    }
    connection.access.admitted_by = door.admitted_by();
    worker.cells(|cells| cells.secured(kind_of(session.connection())));
    connection.stream.encrypt_with(session);
    connection.expires = worker.net.monotonic() + policy.limits.head_timeout;
    Ok(())
}

/// Listens and answers until the handshake is done. What is expensive takes turns: our signature in answer to the first
/// message, and the client's certificate.
async fn converse<N: Net>(
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
    door: &TlsDoor,
    session: &mut TlsSession,
) -> Result<(), Option<HandshakeEnd>> {
    let deadline = connection.expires;
    let mut pace = None;
    loop {
        let begins = pace.is_none();
        if session.has_message() && (begins || door.asks_for_certificates()) {
            let begin = || begin(worker, connection);
            let pace = *pace.get_or_insert_with(begin);
            let cost = if begins { door.handshake_cost() } else { VERIFICATION };
            take_turn(worker, connection, cost, pace).await.map_err(Some)?;
            if worker.net.monotonic() >= deadline {
                return Err(Some(ConnectionEnd::TlsHandshakeTimeout.into()));
            }
            // For a client that has gone meanwhile nothing is signed.
            if begins && connection.stream.has_ended() {
                return Err(Some(ConnectionEnd::TlsHandshakeFailed.into()));
            }
        }
        let done = session.advance(connection.stream.socket_mut()).map_err(ended)?;
        if begins && pace.is_some() && is_resumed(session.connection()) {
            worker.turns.give_back_handshake(door.handshake_cost().saturating_sub(RESUMPTION));
        }
        if done {
            return Ok(());
        }
        let listened = {
            let listening = pin!(session.listen(connection.stream.socket_mut(), deadline));
            connection.occupancy.during(|| worker.net.monotonic(), listening).await
        };
        listened.map_err(|gave_way| Some(gave_way.into()))?.map_err(ended)?;
    }
}

/// The first message is there: what is known of its client.
fn begin<N: Net>(worker: &Worker<N>, connection: &Connection<N::Stream>) -> HandshakeStanding {
    let pace = connection.occupancy.holding().begin_handshake(worker.net.monotonic());
    if pace == HandshakeStanding::OverRate {
        worker.cells(WorkerCells::handshake_over_rate);
    }
    pace
}

/// Waits for a turn. A client over its rate takes room of the queue, and can be evicted while it waits; others
/// wait because of us and cannot.
async fn take_turn<N: Net>(
    worker: &Worker<N>,
    connection: &Connection<N::Stream>,
    cost: u32,
    pace: HandshakeStanding,
) -> Result<(), HandshakeEnd> {
    let turn = pin!(worker.turns.handshake(cost, pace));
    match pace {
        HandshakeStanding::Within => {
            connection.occupancy.end()?;
            turn.await;
        }
        HandshakeStanding::OverRate => {
            let _room = worker.admission.handshake_pace().wait()?;
            connection.occupancy.during(|| worker.net.monotonic(), turn).await?;
        }
    }
    Ok(())
}

fn ended(failure: Failure) -> Option<HandshakeEnd> {
    match failure {
        Failure::Plaintext => Some(ConnectionEnd::TlsPlaintext.into()),
        Failure::Late => Some(ConnectionEnd::TlsHandshakeTimeout.into()),
        Failure::Gone(true) => Some(ConnectionEnd::TlsHandshakeFailed.into()),
        Failure::Gone(false) => None,
        Failure::Protocol(error) => {
            // Whatever was noted of a certificate is of this handshake: it must not be taken for that of the next.
            let refused = verifier::take_refused();
            let certificate = refused.filter(|_| matches!(error, Error::InvalidCertificate(_)));
            Some(HandshakeEnd { end: end_of(&error), certificate })
        }
    }
}

/// How often it is tried again after an eviction, and how long between two attempts.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// Takes a permit for a handshake. Where there is none, the connection of the highest cost is evicted: attackers that begin
/// handshakes and do not go on block no one else.
async fn enter<'w, N: Net>(
    worker: &'w Worker<N>,
    connection: &Connection<N::Stream>,
) -> Result<HandshakePermit<'w>, ConnectionEnd> {
    let mut entered = worker.admission.begin_handshake();
    if entered.is_ok() {
        return entered;
    }
    let party = connection.occupancy.holding().owner(u64::MAX);
    if worker.evict_for(Bound::Connections, (party, 1), worker.net.monotonic()) {
        // Its permit comes back when its task has noticed.
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

fn is_resumed(connection: &UnbufferedServerConnection) -> bool {
    connection.handshake_kind() == Some(HandshakeKind::Resumed)
}

fn kind_of(connection: &UnbufferedServerConnection) -> Handshake {
    let is_new = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    match (is_new, is_resumed(connection)) {
        (true, true) => Handshake::Resumed13,
        (true, false) => Handshake::Full13,
        (false, true) => Handshake::Resumed12,
        (false, false) => Handshake::Full12,
    }
}

/// Lets the client learn why its connection ends: by an alert that has been sent, or in plain text if it speaks that.
/// A client that was late, or came when there was no room, is not waited for.
pub async fn take_leave<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>, end: ConnectionEnd) {
    if let Some(answer) = end.answer() {
        write_plainly(worker, connection, answer);
    }
    let told = end.is_of_certificate()
        || matches!(
            end,
            ConnectionEnd::TlsPlaintext | ConnectionEnd::TlsNothingInCommon | ConnectionEnd::TlsHandshakeFailed
        );
    if told {
        connection.linger(worker).await;
    }
}

fn write_plainly<N: Net>(worker: &Worker<N>, connection: &mut Connection<N::Stream>, answer: AnswerRow) {
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
