//! What the process is told of exchanges and connections, by every worker.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream as StdUnixStream;

use super::shared::standing::EngineStanding;
use crate::gate::route::Route;
use crate::outcome::ConnectionEnd;
use crate::telemetry::attempt::Attempted;
use crate::telemetry::audit::inbox_change::InboxChange;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::handshake::RefusedCertificate;

/// Who is told how exchanges end, from every worker. Must return at once: it is called on the worker's thread.
pub trait Observer: Send + Sync {
    /// An exchange has ended.
    fn exchange(&self, exchange: &Exchange<'_>);
    /// An attempt to deliver what is stored has ended. Called on the thread that delivers.
    fn attempted(&self, _attempt: &Attempted<'_>) {}
    /// Something was done to stored deliveries beside delivering them. Not called on a worker.
    fn inbox_changed(&self, _change: &InboxChange<'_>) {}
    /// A request was refused: its bytes, which are gone afterwards. They may be ignored.
    fn refused(&self, _exchange: &Exchange<'_>, _request: &RefusedRequest<'_>) {}
    /// Accepting pauses because the process is out of descriptors or memory.
    fn accept_failed(&self, error: &io::Error);
    /// The process stands otherwise with the shared engine than before.
    fn engine_changed(&self, _standing: &EngineStanding) {}
    /// A connection was refused or closed at a bound, without an exchange. It may be ignored.
    fn connection_ended(&self, _end: ConnectionEnd, _peer: Option<IpAddr>) {}
    /// A connection has ended because of the certificate that its client has shown.
    fn certificate_refused(&self, end: ConnectionEnd, peer: Option<IpAddr>, _certificate: &RefusedCertificate) {
        self.connection_ended(end, peer);
    }
    /// Whether what this worker forwards now can be recorded. When not, deliveries are refused instead.
    fn can_record(&self, _worker: usize) -> bool {
        true
    }
    /// Whether [`Observer::answering`] wants to know of answers; always the same. Where it does not, an exchange is put
    /// together once, at its end.
    fn records_answers(&self) -> bool {
        false
    }
    /// The application has answered, or a duplicate is about to be acknowledged; nothing of the answer has been sent
    /// yet. Gives what it has to wait for.
    fn answering(&self, _exchange: &Exchange<'_>) -> Option<Ticket> {
        None
    }
    /// What has become of a record of this worker.
    fn kept(&self, _worker: usize, _ticket: Ticket) -> Kept {
        Kept::Durable
    }
    /// A socket of this worker on which a byte comes when what [`Observer::kept`] says has changed. Asked once.
    fn changes(&self, _worker: usize) -> Option<StdUnixStream> {
        None
    }
}

/// The bytes of a request that was refused.
#[derive(Clone, Copy, Debug)]
pub struct RefusedRequest<'a> {
    /// The route that it fell under.
    pub route: Option<&'a Route>,
    /// Its head as it came; empty where that is gone.
    pub head: &'a [u8],
    /// What has come of its body, without chunks.
    pub body: &'a [u8],
}

/// What an answer has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Its record: how many there are of this worker, this one included.
    Record(u64),
    /// Every record that was made before, of all workers: so many times everything has to have been made durable. It has
    /// none of its own.
    Everything(u64),
}

/// A record that an answer has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What it waits for.
    pub awaited: Awaited,
    /// Whether the sender is told to try again when the record cannot be kept; otherwise the answer is given all the
    /// same.
    pub mandatory: bool,
}

/// What has become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is durable.
    Durable,
    /// Not yet.
    Pending,
    /// It cannot be written at present.
    Failed,
}
