//! Starts the workers, and stops them.

use std::fmt;
use std::hash::RandomState;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::admin::request::Access;
use crate::admin::server::AdminAddress;
use crate::edge::clock::Clock;
use crate::edge::driver::{self, Driver, DriverChoice};
use crate::edge::listener::{self, Bound};
use crate::edge::policy::Policy;
use crate::edge::worker::{self, Assignment, Observer, Shared};
use crate::gate::admission::{Admission, AdmissionLimits};
use crate::gate::replay::{ReplaySeed, ReplayTables};
use crate::telemetry::metrics::Metrics;

/// Everything that has been decided before a thread is started.
#[derive(Debug)]
pub struct Plan {
    /// What requests are judged by.
    pub policy: Policy,
    /// The bounds of the process.
    pub admission: AdmissionLimits,
    /// Where to listen.
    pub listeners: Vec<SocketAddr>,
    /// Where is counted; for as many workers as follow.
    pub metrics: Arc<Metrics>,
    /// The admin port, if there is to be one.
    pub admin: Option<AdminPlan>,
    /// The clock by which workers live.
    pub clock: Clock,
    /// How many workers; at least one.
    pub workers: usize,
    /// What they run on.
    pub driver: DriverChoice,
    /// How long exchanges in flight may take to finish when the process stops.
    pub grace: Duration,
}

/// The admin port. The supervisor leaves it to whoever keeps the [`super::desk`].
#[derive(Clone, Debug)]
pub struct AdminPlan {
    /// Where it is.
    pub address: AdminAddress,
    /// Who may ask for what.
    pub access: Access,
}

/// Why the workers do not run.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A worker cannot be set up.
    Worker(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Worker(why) => write!(f, "cannot start a worker: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Running workers.
#[derive(Debug)]
pub struct Running {
    /// Where they listen.
    pub addresses: Vec<SocketAddr>,
    /// Those of them on which another process listens, too: the kernel spreads connections over both.
    pub shared: Vec<SocketAddr>,
    /// What they run on, one entry a worker.
    pub drivers: Vec<Driver>,
    /// Why not all of them run on io_uring although it was wanted.
    pub fallback: Option<String>,
    /// What is held of the bounds of the process.
    pub admission: Arc<Admission>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What requests are judged by.
    pub policy: Arc<Policy>,
    /// The clock of the workers.
    pub clock: Clock,
    workers: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    stop: UnixStream,
    thread: JoinHandle<usize>,
}

type Report = Result<(Driver, Option<String>), String>;

/// Binds, starts every worker, and returns when all of them accept.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub fn start(mut plan: Plan, observer: Arc<dyn Observer>) -> Result<Running, StartError> {
    let bound: Result<Vec<Bound>, StartError> = plan
        .listeners
        .iter()
        .map(|address| listener::bind(*address, plan.workers).map_err(|error| StartError::Listen(*address, error)))
        .collect();
    let mut bound = bound?;
    let addresses = bound.iter().map(|bound| bound.address).collect();
    let shared_addresses = bound.iter().filter(|bound| bound.shared).map(|bound| bound.address).collect();
    let random = |_: ()| random_u64().map_err(|()| StartError::Worker(NO_RANDOMNESS.to_owned()));
    let pseudonym = format!("countersign-{:08x}", random(())? & 0xffff_ffff);
    let replay = ReplayTables::new(random_seed().map_err(|()| StartError::Worker(NO_RANDOMNESS.to_owned()))?);
    let routes = plan.policy.gate.routes.routes();
    plan.policy.replay_tables = replay.of(routes);
    let admission = Arc::new(Admission::new(plan.admission, routes, RandomState::new()));
    let (policy, clock, metrics) = (Arc::new(plan.policy), plan.clock, plan.metrics);
    let shared = Shared {
        admission: Arc::clone(&admission),
        policy: Arc::clone(&policy),
        clock: clock.clone(),
        observer,
        pseudonym: Arc::from(pseudonym.as_bytes()),
    };
    let (reports, arrived) = channel();
    let mut workers = Vec::new();
    for position in 0..plan.workers {
        let (stop, stopped) = UnixStream::pair().map_err(|error| StartError::Worker(error.to_string()))?;
        let assignment = Assignment {
            shared: shared.clone(),
            sockets: bound.iter_mut().filter_map(|bound| bound.sockets.pop()).collect(),
            position,
            seed: random(())?,
            stop: stopped,
            grace: plan.grace,
        };
        let (choice, reports) = (plan.driver, reports.clone());
        let thread = thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || run_worker(choice, assignment, &reports))
            .map_err(|error| StartError::Worker(error.to_string()))?;
        workers.push(Handle { stop, thread });
    }
    drop(reports);
    let running = Running {
        addresses,
        shared: shared_addresses,
        drivers: Vec::new(),
        fallback: None,
        admission,
        metrics,
        policy,
        clock,
        workers,
    };
    await_ready(running, &arrived)
}

fn await_ready(mut running: Running, arrived: &Receiver<Report>) -> Result<Running, StartError> {
    for _ in 0..running.workers.len() {
        match arrived.recv() {
            Ok(Ok((driver, fallback))) => {
                running.drivers.push(driver);
                running.fallback = running.fallback.take().or(fallback);
            }
            Ok(Err(why)) => {
                running.stop();
                return Err(StartError::Worker(why));
            }
            Err(_) => {
                running.stop();
                return Err(StartError::Worker("it ended before it was ready".to_owned()));
            }
        }
    }
    Ok(running)
}

fn run_worker(choice: DriverChoice, assignment: Assignment, reports: &Sender<Report>) -> usize {
    let (runtime, fallback) = match driver::build(choice) {
        Ok(built) => built,
        Err(unavailable) => {
            let _ = reports.send(Err(format!("io_uring is not available: {unavailable}")));
            return 0;
        }
    };
    let driver = runtime.driver();
    let ready = || drop(reports.send(Ok((driver, fallback.map(|why| why.to_string())))));
    worker::run(runtime, assignment, ready).unwrap_or_else(|error| {
        let _ = reports.send(Err(error.to_string()));
        0
    })
}

impl Running {
    /// Tells every worker to stop, and waits for them. Gives the number of exchanges that were cut off.
    pub fn stop(self) -> usize {
        let Self { workers, .. } = self;
        // Closing its end is the message; a worker that is gone already does not mind.
        let hang_up = |Handle { stop, thread }| {
            drop(stop);
            thread
        };
        let threads: Vec<_> = workers.into_iter().map(hang_up).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    }
}

const NO_RANDOMNESS: &str = "the system has no randomness";

fn random_seed() -> Result<ReplaySeed, ()> {
    let mut bytes = [0; ReplaySeed::LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ())?;
    Ok(ReplaySeed::new(&bytes))
}

fn random_u64() -> Result<u64, ()> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ())?;
    Ok(u64::from_ne_bytes(bytes))
}
