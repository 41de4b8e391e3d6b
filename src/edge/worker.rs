//! One core: its runtime, its listening sockets, its pools and buffers. Nothing here is shared between cores.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::UnixStream;

use crate::gate::admission::Admission;
use crate::gate::crowd::{Bound, GRACE, Newcomer, Party};
use crate::gate::route::Route;
use crate::now::Now;
use crate::outcome::ConnectionEnd;
use crate::telemetry::WorkerCells;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::handshake::RefusedCertificate;
use crate::telemetry::metrics::Metrics;

use super::acceptor::Acceptors;
use super::alarms::Alarms;
use super::baton::Baton;
use super::buffer::BufferPool;
use super::clock::{Clock, DateLine, WorkerClock};
use super::drain::{Drain, Stage};
use super::driver::{Driver, WorkerRuntime};
use super::ids::RequestIds;
use super::keep::{self, Kept, Ticket};
use super::listener::Entrance;
use super::net::{Net, Sockets};
use super::orders::{Inbox, Order};
use super::parked::Warm;
use super::parking::Parking;
use super::peers::Peers;
use super::policy::{ListenerId, Policy};
use super::snapshot::{Latest, Published, Snapshot};
use super::turns::Turns;
use super::usher;
use super::waiting::Waiting;

/// How often a worker closes upstream connections that have waited too long, and idle ones that others need the room of.
const SWEEP: Duration = Duration::from_secs(1);

/// Who is told how exchanges end, from every worker. Must return at once: it is called on the worker's thread.
pub trait Observer: Send + Sync {
    /// An exchange has ended.
    fn exchange(&self, exchange: &Exchange<'_>);
    /// A request was refused: its bytes, which are gone afterwards. Nobody need look at them.
    fn refused(&self, _exchange: &Exchange<'_>, _request: &RefusedRequest<'_>) {}
    /// Accepting pauses because the process is out of descriptors or memory.
    fn accept_failed(&self, error: &io::Error);
    /// A connection was refused or closed at a bound, without an exchange. Nobody need listen.
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
}

/// The state of one worker.
pub struct Worker<N: Net> {
    /// Time and connections.
    pub net: N,
    /// Pooled buffers.
    pub buffers: BufferPool,
    /// Where heads are written before they are placed. All exchanges share it: nobody keeps it while it awaits something.
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
    pub parking: Parking,
    /// Those that are about to.
    pub warm: Warm,
    /// Connections that wait for one another.
    pub turns: Rc<Turns>,
    /// Held by the connection that computes what is left of a large body when it is whole.
    pub baton: Baton,
    /// Answers that wait for their records.
    pub unrecorded: keep::Waiting,
    /// Connections that make us wait in a request or an answer.
    pub waiting: Rc<Waiting>,
    /// The other workers.
    pub peers: Peers,
    position: usize,
    records_answers: bool,
    policy: Latest<N::Stream>,
    observer: Arc<dyn Observer>,
    metrics: Arc<Metrics>,
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
            parking: Parking::default(),
            warm: Warm::default(),
            turns: Rc::default(),
            baton: Baton::default(),
            unrecorded: keep::Waiting::default(),
            waiting: Rc::default(),
            peers: Peers::default(),
            position,
            records_answers: shared.observer.records_answers(),
            policy: Latest::new(Arc::clone(&shared.policy), position),
            observer: Arc::clone(&shared.observer),
            metrics: Arc::clone(&shared.metrics),
        }
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
        if self.admission.note_shortage(bound) {
            self.peers.call();
        }
    }

    /// Ends a connection that makes us wait and holds something of this bound, if there is one that costs others more than
    /// the newcomer would with this amount.
    pub fn make_way(&self, bound: Bound, (party, amount): (Party, u64), now: Duration) -> bool {
        // One that has sent everything does not wait for suspects who have not.
        let grace = if amount == 0 && bound.is_of_suspects() { Duration::ZERO } else { GRACE };
        let newcomer = Newcomer { party, amount, limit: self.admission.limit(bound), grace };
        self.waiting.make_way(bound, newcomer, now)
    }

    /// Whether the connections of a listener are closed as soon as no exchange is in flight on them.
    pub fn closes(&self, listener: ListenerId) -> bool {
        self.drain.is_closing() || !self.policy().listens(listener)
    }

    /// Whether an answer on a connection of a listener is the last one.
    pub fn parts_from(&self, listener: ListenerId) -> bool {
        self.drain.has_begun() || !self.policy().listens(listener)
    }

    /// Makes room of which others had none.
    fn make_room(&self) {
        let now = self.net.monotonic();
        let candidates = self.parking.len() + self.waiting.len();
        for _ in 0..self.admission.claim_shortage(Bound::Connections, candidates as u64) {
            self.make_room_for(None, now);
        }
        for bound in Bound::ALL.into_iter().filter(|bound| *bound != Bound::Connections) {
            for _ in 0..self.admission.claim_shortage(bound, self.waiting.len() as u64) {
                self.make_way(bound, (Party::Alone(u64::MAX), 0), now);
            }
        }
    }

    /// Closes up to `count` connections that are idle, those first that have been so longest.
    pub fn close_idle(&self, count: u64) {
        for _ in 0..count {
            if self.parking.close_oldest() {
                self.connection_ended(ConnectionEnd::IdleClosed, None);
            }
        }
    }

    /// Tells the observer that accepting pauses.
    pub fn accept_failed(&self, error: &io::Error) {
        self.metrics.accept_failed();
        self.observer.accept_failed(error);
    }

    fn sweep(&self, now: Now) {
        // Whoever waits looks at its deadline.
        self.unrecorded.wake();
        self.cells(|cells| cells.beat(now.monotonic, self.parking.len(), self.turns.waiting()));
        self.make_room();
        self.close_useless();
        let policy = self.policy();
        policy.live.ledgers.iter().flatten().for_each(|ledger| ledger.forget_keys(now.monotonic));
        for (pool, upstream) in policy.pools().iter().zip(&policy.upstreams) {
            pool.close_expired(now, upstream.idle_timeout);
        }
    }
}

/// What one worker thread is given.
pub struct Assignment {
    /// What all workers share.
    pub shared: Shared,
    /// This worker's listening sockets.
    pub entrances: Vec<Entrance>,
    /// Which of the workers this is.
    pub position: usize,
    /// What else is to be done, and when to stop.
    pub inbox: Inbox,
    /// The bells of the other workers.
    pub peers: Vec<StdUnixStream>,
}

/// Runs a worker on the calling thread until it is told to stop. `ready` is called when it accepts. Gives the number
/// of exchanges that were cut off at the end of the grace period.
///
/// # Errors
/// A socket cannot be registered; `ready` has not been called then.
pub fn run(mut runtime: WorkerRuntime, assignment: Assignment, ready: impl FnOnce()) -> io::Result<usize> {
    let driver = runtime.driver();
    runtime.block_on(async move {
        let Assignment { shared, entrances, position, inbox, peers } = assignment;
        let alarms = Rc::new(Alarms::new(shared.clock.clone()));
        let net = Sockets { clock: WorkerClock::new(shared.clock.clone()), alarms: Rc::clone(&alarms) };
        let worker = Rc::new(Worker::new(net, &shared, position));
        worker.peers.introduce(peers);
        let mut inbox = inbox.adopt(driver)?;
        let mut acceptors = Acceptors::new(Rc::clone(&worker), driver);
        acceptors.prepare(entrances)?;
        acceptors.enforce(&worker.policy());
        worker.cells(|cells| cells.runs_on(u64::from(nix::unistd::gettid().as_raw().unsigned_abs())));
        worker.sweep(worker.net.now());
        monoio::spawn(sweep(Rc::clone(&worker)));
        monoio::spawn(async move { alarms.keep().await });
        monoio::spawn(usher::run(Rc::clone(&worker), UnixStream::pair()?));
        if let Some(changes) = shared.observer.changes(position) {
            changes.set_nonblocking(driver == Driver::Epoll)?;
            monoio::spawn(keep::listen(Rc::clone(&worker), UnixStream::from_std(changes)?));
        }
        ready();
        let grace = loop {
            match inbox.next().await {
                // Whoever does not wait for the answer does not need it.
                Some(Order::Prepare(entrances, done)) => drop(done.send(acceptors.prepare(entrances))),
                Some(Order::Abandon) => acceptors.abandon(),
                Some(Order::Enforce(done)) => {
                    acceptors.enforce(&worker.policy());
                    let _ = done.send(());
                }
                Some(Order::MakeRoom) => worker.make_room(),
                Some(Order::Part) => worker.drain.advance(Stage::Parting),
                Some(Order::Close(grace)) => break grace,
                None => break Duration::ZERO,
            }
        };
        worker.drain.advance(Stage::Closing);
        acceptors.close();
        let _ = monoio::time::timeout(grace, worker.drain.finished()).await;
        Ok(worker.drain.in_flight())
    })
}

async fn sweep(worker: Rc<Worker<Sockets>>) {
    loop {
        monoio::time::sleep(SWEEP).await;
        worker.sweep(worker.net.now());
    }
}
