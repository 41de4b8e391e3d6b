//! One core: its runtime, its listening sockets, its pools and buffers. Nothing here is shared between cores.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::gate::admission::Admission;
use crate::gate::eviction::{Bound, GRACE, Newcomer, Owner};
use crate::outcome::ConnectionEnd;
use crate::telemetry::WorkerCells;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::handshake::RefusedCertificate;
use crate::telemetry::metrics::Metrics;

use super::call::ids::RequestIds;
use super::drain::Drain;
use super::policy::{ListenerId, Policy};

use super::observer::{Kept, Ticket};
pub use super::observer::{Observer, RefusedRequest};
use super::runtime::buffer::BufferPool;
use super::runtime::clock::{Clock, DateLine};
use super::runtime::net::Net;
use super::shared::link::EngineLink;
use super::shared::standing::EngineStanding;
use super::snapshot::{Latest, Published, Snapshot};
use super::spool::SpoolSide;
use super::wait::fifo_lock::FifoLock;
use super::wait::idle_set::IdleSet;
use super::wait::peers::Peers;
use super::wait::slow_set::SlowSet;
use super::wait::turns::TurnQueue;
use super::wait::wake_list::WakeList;
use super::wait::warm::Warm;

/// What every worker of a process is given.
#[derive(Clone)]
pub struct Shared {
    /// The configuration in force.
    pub policy: Arc<Published>,
    /// The clock.
    pub clock: Clock,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// Where is counted.
    pub metrics: Arc<Metrics>,
    /// The name of this process in `Via`, by which loops are seen.
    pub pseudonym: Arc<[u8]>,
    /// What is held of the bounds of the process.
    pub admission: Arc<Admission>,
    /// What stores deliveries; nothing where no inbox is configured.
    pub spool: Option<Arc<dyn SpoolSide>>,
}

/// The state of one worker.
pub struct Worker<N: Net> {
    /// Time and connections.
    pub net: N,
    /// Pooled buffers.
    pub buffers: BufferPool,
    /// Where heads are written before they are placed. All exchanges share it: none keeps it across an await.
    pub scratch: RefCell<Vec<u8>>,
    /// Request ids.
    pub ids: RequestIds,
    /// The `Date` of our own answers.
    pub date: DateLine,
    /// Whether we are stopping.
    pub drain: Rc<Drain>,
    /// The name of this process in `Via`.
    pub pseudonym: Arc<[u8]>,
    /// What is held of the bounds of the process.
    pub admission: Arc<Admission>,
    /// Connections that wait for a request.
    pub idle: IdleSet,
    /// Those that are about to.
    pub warm: Warm,
    /// Connections that wait for one another.
    pub turns: Rc<TurnQueue>,
    /// Held by the connection that computes what is left of a large body when it is whole.
    pub compute_lock: FifoLock,
    /// Answers that wait for their records.
    pub unrecorded: WakeList,
    /// Answers that wait until their deliveries are stored.
    pub unspooled: WakeList,
    /// Requests that wait for what another thread does for them.
    pub untold: WakeList,
    /// Connections that make us wait in a request or an answer.
    pub slow: Rc<SlowSet>,
    /// The other workers.
    pub peers: Peers,
    position: usize,
    records_answers: bool,
    policy: Latest<N::Stream>,
    observer: Arc<dyn Observer>,
    metrics: Arc<Metrics>,
    spool: Option<Arc<dyn SpoolSide>>,
    engine: OnceCell<Rc<EngineLink>>,
}

impl<N: Net> Worker<N> {
    /// A worker without connections, the one at `position`.
    pub fn new(net: N, shared: &Shared, position: usize) -> Self {
        Self {
            net,
            buffers: BufferPool::default(),
            scratch: RefCell::new(Vec::with_capacity(2048)),
            ids: RequestIds::new(),
            date: DateLine::default(),
            drain: Rc::default(),
            pseudonym: Arc::clone(&shared.pseudonym),
            admission: Arc::clone(&shared.admission),
            idle: IdleSet::default(),
            warm: Warm::default(),
            turns: Rc::default(),
            compute_lock: FifoLock::default(),
            unrecorded: WakeList::default(),
            unspooled: WakeList::default(),
            untold: WakeList::default(),
            slow: Rc::default(),
            peers: Peers::default(),
            position,
            records_answers: shared.observer.records_answers(),
            policy: Latest::new(Arc::clone(&shared.policy), position),
            observer: Arc::clone(&shared.observer),
            metrics: Arc::clone(&shared.metrics),
            spool: shared.spool.clone(),
            engine: OnceCell::new(),
        }
    }

    /// Claims are shared over this link from now on; it is set once.
    pub(super) fn share(&self, link: Rc<EngineLink>) {
        let _ = self.engine.set(link);
    }

    /// The link to the engine in which claims are shared; nothing where this process judges alone.
    pub fn engine(&self) -> Option<&Rc<EngineLink>> {
        self.engine.get()
    }

    /// Tells the observer that the process stands otherwise with the engine than before.
    pub fn engine_changed(&self, standing: &EngineStanding) {
        self.observer.engine_changed(standing);
    }

    /// The configuration that an exchange starting now is judged by.
    pub fn policy(&self) -> Rc<Snapshot<N::Stream>> {
        self.policy.get()
    }

    /// Counts an exchange that was judged by `policy`, and tells the observer how it ended.
    pub fn record(&self, policy: &Policy, exchange: &Exchange<'_>) {
        policy.live.meters.record(exchange);
        self.observer.exchange(exchange);
    }

    /// Shows the observer a request that was refused.
    pub fn refused(&self, exchange: &Exchange<'_>, request: &RefusedRequest<'_>) {
        self.observer.refused(exchange, request);
    }

    /// What this worker says of itself.
    pub fn cells(&self, say: impl FnMut(&WorkerCells)) {
        self.metrics.workers().get(self.position).into_iter().for_each(say);
    }

    /// What stores deliveries.
    pub const fn spool(&self) -> Option<&Arc<dyn SpoolSide>> {
        self.spool.as_ref()
    }

    /// Whether the observer can record what is forwarded now.
    pub fn can_record(&self) -> bool {
        self.observer.can_record(self.position)
    }

    /// Its position among the workers of the process.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Whether the observer wants to know what is about to be answered.
    pub const fn records_answers(&self) -> bool {
        self.records_answers
    }

    /// Tells the observer what is about to be answered; gives what that has to wait for.
    pub fn answering(&self, exchange: &Exchange<'_>) -> Option<Ticket> {
        self.observer.answering(exchange)
    }

    /// What has become of a record.
    pub fn kept(&self, ticket: Ticket) -> Kept {
        self.observer.kept(self.position, ticket)
    }

    /// Tells the observer how a connection ended without an exchange. `peer` is at its other end.
    pub fn connection_ended(&self, end: ConnectionEnd, peer: Option<IpAddr>) {
        self.metrics.connection_ended(end);
        self.observer.connection_ended(end, peer);
    }

    /// The same for one that ended because of the certificate of its client, if it was shown.
    pub fn certificate_refused(
        &self,
        end: ConnectionEnd,
        peer: Option<IpAddr>,
        certificate: Option<&RefusedCertificate>,
    ) {
        let Some(certificate) = certificate else { return self.connection_ended(end, peer) };
        self.metrics.connection_ended(end);
        self.observer.certificate_refused(end, peer, certificate);
    }

    /// Has the other workers make room of which this one has none.
    pub fn call_peers(&self, bound: Bound) {
        if self.peers.can_be_waited_for() && self.admission.note_shortage(bound) {
            self.peers.call();
        }
    }

    /// Evicts a slow connection that holds something of this limit, if there is one with a higher cost than the new one would
    /// have with this amount.
    pub fn evict_for(&self, bound: Bound, (owner, amount): (Owner, u64), now: Duration) -> bool {
        // A request that has arrived whole does not wait for suspects that have not.
        let grace = if amount == 0 && bound.is_of_suspects() { Duration::ZERO } else { GRACE };
        let newcomer = Newcomer { owner, amount, limit: self.admission.limit(bound), grace };
        self.slow.evict_for(bound, newcomer, now)
    }

    /// Whether the connections of a listener are closed as soon as no exchange is in flight on them.
    pub fn closes(&self, listener: ListenerId) -> bool {
        self.drain.is_closing() || !self.policy().listens(listener)
    }

    /// Whether an answer on a connection of a listener is the last one.
    pub fn parts_from(&self, listener: ListenerId) -> bool {
        self.drain.has_begun() || !self.policy().listens(listener)
    }

    /// Closes up to `count` connections that are idle, those first that have been so longest.
    pub fn close_idle(&self, count: u64) {
        for _ in 0..count {
            if self.idle.close_oldest() {
                self.connection_ended(ConnectionEnd::IdleClosed, None);
            }
        }
    }

    /// Tells the observer that accepting pauses.
    pub fn accept_failed(&self, error: &io::Error) {
        self.metrics.accept_failed();
        self.observer.accept_failed(error);
    }
}
