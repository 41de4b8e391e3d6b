//! One core: its runtime, its listening sockets, its pools and buffers. Nothing here is shared between cores.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use crate::gate::admission::{Admission, ConnectionPermit};
use crate::gate::keyed_buckets::ClientKey;
use crate::now::Now;
use crate::outcome::ConnectionEnd;
use crate::telemetry::WorkerCells;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::metrics::Metrics;

use super::buffer::BufferPool;
use super::clock::{Clock, DateLine};
use super::connection::Origin;
use super::drain::Drain;
use super::driver::{Driver, WorkerRuntime};
use super::ids::RequestIds;
use super::listener;
use super::net::{Net, Sockets};
use super::parking::Parking;
use super::policy::Policy;
use super::upstream::Pool;

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
    /// The configuration.
    pub policy: Arc<Policy>,
    /// The clock.
    pub clock: Clock,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
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
    pub drain: Drain,
    /// The name of this process in `Via`.
    pub pseudonym: Arc<[u8]>,
    /// What is held of the bounds of the process.
    pub admission: Arc<Admission>,
    /// Connections that wait for a request.
    pub parking: Parking,
    position: usize,
    policy: Arc<Policy>,
    pools: RefCell<Vec<Rc<Pool<N::Stream>>>>,
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
            drain: Drain::default(),
            pseudonym: Arc::clone(&shared.pseudonym),
            admission: Arc::clone(&shared.admission),
            parking: Parking::default(),
            position,
            policy: Arc::clone(&shared.policy),
            pools: RefCell::default(),
            observer: Arc::clone(&shared.observer),
            metrics: Arc::clone(shared.policy.meters.metrics()),
        }
    }

    /// The configuration that an exchange starting now is judged by.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    /// The pool of an upstream.
    pub fn pool(&self, upstream: usize) -> Rc<Pool<N::Stream>> {
        let mut pools = self.pools.borrow_mut();
        while pools.len() <= upstream {
            let meter = self.policy.meters.pool(pools.len(), self.position);
            pools.push(Rc::new(Pool::new(meter)));
        }
        pools.get(upstream).map(Rc::clone).unwrap_or_default()
    }

    /// Counts an exchange that was judged by `policy`, and tells the observer how it ended.
    pub fn record(&self, policy: &Policy, exchange: &Exchange<'_>) {
        let exchange = Exchange { worker: self.position, ..*exchange };
        policy.meters.record(&exchange);
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
        let door = self.policy.gate.doors.get(listener);
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

    fn make_room(&self) {
        for _ in 0..self.admission.claim_shortage(self.parking.len() as u64) {
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
        for (pool, upstream) in self.pools.borrow().iter().zip(&self.policy.upstreams) {
            pool.close_expired(now, upstream.idle_timeout);
        }
    }
}

/// What one worker thread is given.
pub struct Assignment {
    /// What all workers share.
    pub shared: Shared,
    /// This worker's listening sockets, in the order of the listeners.
    pub sockets: Vec<StdListener>,
    /// Which of the workers this is.
    pub position: usize,
    /// Random; request ids begin with it.
    pub seed: u64,
    /// A byte, or the end, on this socket means: stop.
    pub stop: std::os::unix::net::UnixStream,
    /// How long exchanges in flight may take to finish then.
    pub grace: Duration,
}

/// Runs a worker on the calling thread until it is told to stop. `ready` is called when it accepts. Gives the number
/// of exchanges that were cut off at the end of the grace period.
///
/// # Errors
/// A socket cannot be registered; `ready` has not been called then.
pub fn run(mut runtime: WorkerRuntime, assignment: Assignment, ready: impl FnOnce()) -> io::Result<usize> {
    let driver = runtime.driver();
    runtime.block_on(async move {
        let Assignment { shared, sockets, position, seed, stop, grace } = assignment;
        let net = Sockets { clock: shared.clock.clone() };
        let worker = Rc::new(Worker::new(net, &shared, (position, seed)));
        stop.set_nonblocking(driver == Driver::Epoll)?;
        let mut stop = UnixStream::from_std(stop)?;
        for (position, socket) in sockets.into_iter().enumerate() {
            let listener = listener::adopt(socket, driver)?;
            monoio::spawn(listener::accept(Rc::clone(&worker), listener, position));
        }
        worker.cells(|cells| cells.runs_on(u64::from(nix::unistd::gettid().as_raw().unsigned_abs())));
        worker.sweep(worker.net.now());
        monoio::spawn(sweep(Rc::clone(&worker)));
        ready();
        let _ = stop.read(vec![0_u8; 1]).await;
        worker.drain.begin();
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
