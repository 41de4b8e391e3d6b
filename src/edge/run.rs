//! The life of a worker: it starts, obeys orders, and ends.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::UnixStream;

use super::call::await_record;
use super::door::acceptor::Acceptors;
use super::door::listener::Entrance;
use super::drain::DrainStage;
use super::orders::{Inbox, Order};
use super::runtime::alarms::Alarms;
use super::runtime::clock::WorkerClock;
use super::runtime::driver::{Driver, WorkerRuntime};
use super::runtime::net::{Net, Sockets};
use super::shared::cluster;
use super::shared::line::LanePlace;
use super::shared::link::EngineLink;
use super::shared::{EngineTerms, line};
use super::wait::turn_loop;
use super::worker::{Shared, Worker};

/// How often a worker closes upstream connections that have waited too long, and idle ones that others need the room of.
const SWEEP: Duration = Duration::from_secs(1);

/// What one worker thread is given.
pub struct Assignment {
    /// What all workers share.
    pub shared: Shared,
    /// This worker's listening sockets.
    pub entrances: Vec<Entrance>,
    /// Which of the workers this is.
    pub position: usize,
    /// The engine in which claims are shared, if they are.
    pub engine: Option<Arc<EngineTerms>>,
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
        let Assignment { shared, entrances, position, engine, inbox, peers } = assignment;
        let alarms = Rc::new(Alarms::new(shared.clock.clone()));
        let net = Sockets { clock: WorkerClock::new(shared.clock.clone()), alarms: Rc::clone(&alarms) };
        let worker = Rc::new(Worker::new(net, &shared, position));
        worker.peers.introduce(peers);
        let mut inbox = inbox.adopt(driver)?;
        let mut acceptors = Acceptors::new(Rc::clone(&worker), driver);
        acceptors.prepare(entrances)?;
        acceptors.enforce(&worker.policy());
        worker.cells(|cells| cells.runs_on(u64::from(nix::unistd::gettid().as_raw().unsigned_abs())));
        sweep(&worker);
        monoio::spawn(sweep_regularly(Rc::clone(&worker)));
        monoio::spawn(async move { alarms.keep().await });
        monoio::spawn(turn_loop::run(Rc::clone(&worker), UnixStream::pair()?));
        if let Some(changes) = shared.observer.changes(position) {
            changes.set_nonblocking(driver == Driver::Epoll)?;
            let changes = UnixStream::from_std(changes)?;
            let waiting = Rc::clone(&worker);
            monoio::spawn(async move { await_record::listen(&waiting.unrecorded, changes).await });
        }
        if let Some(changes) = shared.spool.as_ref().and_then(|spool| spool.changes(position)) {
            changes.set_nonblocking(driver == Driver::Epoll)?;
            let changes = UnixStream::from_std(changes)?;
            let waiting = Rc::clone(&worker);
            monoio::spawn(async move { await_record::listen(&waiting.unspooled, changes).await });
        }
        let bell = hang_bell(&worker, driver)?;
        if let Some(terms) = engine {
            let link = Rc::new(EngineLink::new(terms, position));
            worker.share(Rc::clone(&link));
            // Before connections are accepted, so that the first deliveries are not refused for it.
            if link.is_cluster() {
                cluster::begin(&worker, &link).await;
            } else {
                let opened = line::open(&worker, &link, None).await;
                monoio::spawn(line::keep(Rc::clone(&worker), link, LanePlace::default(), Some(opened)));
            }
        }
        ready();
        let grace = loop {
            match inbox.next().await {
                // A caller that does not wait for the answer does not need it.
                Some(Order::Prepare(entrances, done)) => drop(done.send(acceptors.prepare(entrances))),
                Some(Order::Abandon) => acceptors.abandon(),
                Some(Order::Enforce(done)) => {
                    acceptors.enforce(&worker.policy());
                    let _ = done.send(());
                }
                Some(Order::MakeRoom) => worker.make_room(),
                Some(Order::Part) => worker.drain.advance(DrainStage::Parting),
                Some(Order::Close(grace)) => break grace,
                None => break Duration::ZERO,
            }
        };
        worker.drain.advance(DrainStage::Closing);
        acceptors.close();
        // The task that listens to it ends, and lets go of the worker. Whatever still waits is woken by the sweep.
        drop(bell);
        let _ = monoio::time::timeout(grace, worker.drain.finished()).await;
        Ok(worker.drain.in_flight())
    })
}

/// Wakes the requests that wait for another thread whenever that thread rings. The task ends when the bell is dropped.
fn hang_bell(worker: &Rc<Worker<Sockets>>, driver: Driver) -> io::Result<Arc<StdUnixStream>> {
    let (bell, changes) = StdUnixStream::pair()?;
    bell.set_nonblocking(true)?;
    changes.set_nonblocking(driver == Driver::Epoll)?;
    let (bell, changes) = (Arc::new(bell), UnixStream::from_std(changes)?);
    let waiting = Rc::clone(worker);
    monoio::spawn(async move { await_record::listen(&waiting.untold, changes).await });
    let rung = Arc::downgrade(&bell);
    worker.admission.bells().add(move || {
        // When there is no room for another byte, it has been rung and has not looked yet.
        let _ = rung.upgrade().map(|bell| bell.as_ref().write(&[1]));
    });
    Ok(bell)
}

async fn sweep_regularly(worker: Rc<Worker<Sockets>>) {
    loop {
        monoio::time::sleep(SWEEP).await;
        sweep(&worker);
    }
}

fn sweep(worker: &Worker<Sockets>) {
    let now = worker.net.now();
    // Answers that wait for their records look at their deadlines.
    worker.unrecorded.wake();
    // So do those that wait for another thread, and those that wait for the store.
    worker.untold.wake();
    worker.unspooled.wake();
    worker.cells(|cells| cells.beat(now.monotonic, worker.idle.len(), worker.turns.waiting()));
    worker.make_room();
    worker.close_useless();
    let policy = worker.policy();
    policy.live.ledgers.iter().flatten().for_each(|ledger| ledger.forget_keys(now.monotonic));
    for (pool, upstream) in policy.pools().iter().zip(&policy.upstreams) {
        pool.close_expired(now, upstream.idle_timeout);
    }
}
