//! One core: its runtime, its listening sockets, its pools and buffers. Nothing here is shared between cores.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::UnixStream;

use crate::gate::admission::{Admission, ConnectionPermit};
use crate::gate::keyed_buckets::ClientKey;
use crate::now::Now;
use crate::outcome::ConnectionEnd;
use crate::telemetry::WorkerCells;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::metrics::Metrics;

use super::acceptor::Acceptors;
use super::buffer::BufferPool;
use super::clock::{Clock, DateLine};
use super::connection::Origin;
use super::drain::{Drain, Stage};
use super::driver::WorkerRuntime;
use super::ids::RequestIds;
use super::listener::Entrance;
use super::net::{Net, Sockets};
use super::orders::{Inbox, Order};
use super::parking::Parking;
use super::policy::{ListenerId, Policy};
use super::snapshot::{Latest, Published, Snapshot};
use super::turns::Turns;

/// How often a worker closes upstream connections that have waited too long, and idle ones that others need the room of.
const SWEEP: Duration = Duration::from_secs(1);

/// Who is told how exchanges end, from every worker. Must return at once: it is called on the worker's thread.
pub trait Observer: Send + Sync {
    /// An exchange has ended.
    fn exchange(&self, exchange: &Exchange<'_>);
    /// Accepting pauses because the process is out of descriptors or memory.
    fn accept_failed(&self, error: &io::Error);
    /// A connection was refused or closed at a bound, without an exchange. Nobody need listen.
    fn connection_ended(&self, _end: ConnectionEnd, _peer: Option<IpAddr>) {}
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
    /// Where heads are written before they are placed.
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
    /// Connections that wait for one another.
    pub turns: Rc<Turns>,
    position: usize,
    policy: Latest<N::Stream>,
    observer: Arc<dyn Observer>,
    metrics: Arc<Metrics>,
}

impl<N: Net> Worker<N> {
    /// A worker without connections, the one at `position`. `seed` must be random: request ids begin with it.
    pub fn new(net: N, shared: &Shared, (position, seed): (usize, u64)) -> Self {
        Self {
            net,
            buffers: BufferPool::default(),
            scratch: RefCell::new(Vec::with_capacity(2048)),
            ids: RequestIds::new(seed),
            date: DateLine::default(),
            drain: Rc::default(),
            pseudonym: Arc::clone(&shared.pseudonym),
            admission: Arc::clone(&shared.admission),
            parking: Parking::default(),
            turns: Rc::default(),
            position,
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
        let exchange = Exchange { worker: self.position, ..*exchange };
        policy.live.meters.record(&exchange);
        self.observer.exchange(&exchange);
    }

    /// What this worker says of itself.
    pub fn cells(&self, say: impl FnMut(&WorkerCells)) {
        self.metrics.workers().get(self.position).into_iter().for_each(say);
    }

    /// Tells the observer how a connection ended without an exchange. `peer` is at its other end.
    pub fn connection_ended(&self, end: ConnectionEnd, peer: Option<IpAddr>) {
        self.metrics.connection_ended(end);
        self.observer.connection_ended(end, peer);
    }

    /// Lets a connection in, in the place of the one that has been idle longest if need be. `None` when there is no room
    /// for it: it is to be closed at once.
    pub fn open(&self, origin: Origin) -> Option<ConnectionPermit> {
        let Origin { peer, listener } = origin;
        // A proxy in front of us brings the connections of many clients: they are not its own.
        let policy = self.policy();
        let door = policy.door(listener);
        let own = peer.filter(|peer| !door.is_some_and(|door| door.proxies.contains(peer.to_canonical())));
        let (client, now) = (own.map(|peer| ClientKey::of(Some(peer))), self.net.monotonic());
        let mut permit = self.admission.open(client, now);
        if permit.as_ref().is_err_and(|end| *end == ConnectionEnd::ConnectionsFull) {
            if self.parking.close_oldest() {
                self.connection_ended(ConnectionEnd::IdleClosed, None);
                permit = self.admission.open(client, now);
            } else {
                // The idle ones may be with other workers, who look after this when they sweep.
                self.admission.note_shortage();
            }
        }
        permit.map_err(|end| self.connection_ended(end, peer)).ok()
    }

    /// Whether the connections of a listener are closed as soon as no exchange is in flight on them.
    pub fn closes(&self, listener: ListenerId) -> bool {
        self.drain.is_closing() || !self.policy().listens(listener)
    }

    /// Whether an answer on a connection of a listener is the last one.
    pub fn parts_from(&self, listener: ListenerId) -> bool {
        self.drain.has_begun() || !self.policy().listens(listener)
    }

    fn make_room(&self) {
        self.close_idle(self.admission.claim_shortage(self.parking.len() as u64));
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
        self.cells(|cells| cells.beat(now.monotonic, self.parking.len()));
        self.make_room();
        let policy = self.policy();
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
    /// Random; request ids begin with it.
    pub seed: u64,
    /// What else is to be done, and when to stop.
    pub inbox: Inbox,
}

/// Runs a worker on the calling thread until it is told to stop. `ready` is called when it accepts. Gives the number
/// of exchanges that were cut off at the end of the grace period.
///
/// # Errors
/// A socket cannot be registered; `ready` has not been called then.
pub fn run(mut runtime: WorkerRuntime, assignment: Assignment, ready: impl FnOnce()) -> io::Result<usize> {
    let driver = runtime.driver();
    runtime.block_on(async move {
        let Assignment { shared, entrances, position, seed, inbox } = assignment;
        let net = Sockets { clock: shared.clock.clone() };
        let worker = Rc::new(Worker::new(net, &shared, (position, seed)));
        let mut inbox = inbox.adopt(driver)?;
        let mut acceptors = Acceptors::new(Rc::clone(&worker), driver);
        acceptors.prepare(entrances)?;
        acceptors.enforce(&worker.policy());
        worker.cells(|cells| cells.runs_on(u64::from(nix::unistd::gettid().as_raw().unsigned_abs())));
        worker.sweep(worker.net.now());
        monoio::spawn(sweep(Rc::clone(&worker)));
        monoio::spawn(usher(Rc::clone(&worker.turns), UnixStream::pair()?));
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

/// Hands out turns. A byte that goes through a pair of sockets comes back when the driver has been looked at: what had
/// become ready by then has been noticed, too.
async fn usher(turns: Rc<Turns>, (near, far): (UnixStream, UnixStream)) {
    let ends = RefCell::new((near, far));
    #[expect(clippy::await_holding_refcell_ref, reason = "one look at a time")]
    let look = || async {
        let (near, far) = &mut *ends.borrow_mut();
        // Reading begins first: what is there already would be read without a look.
        let mut read = pin!(far.read(vec![0_u8; 1]));
        if let Poll::Ready((result, _)) = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await {
            return result.and(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        near.write(vec![0_u8; 1]).await.0?;
        read.await.0.map(drop)
    };
    turns.usher(look).await;
}
