//! Starts the workers, and stops them.

use std::fmt;
use std::hash::RandomState;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::admin::desk::Phase;
use crate::admin::request::Access;
use crate::admin::server::AdminAddress;
use crate::edge::clock::Clock;
use crate::edge::driver::{self, Driver, DriverChoice};
use crate::edge::listener::{self, Entrance};
use crate::edge::orders::{self, Order, Orders};
use crate::edge::policy::Policy;
use crate::edge::run::{self, Assignment};
use crate::edge::shared::EngineTerms;
use crate::edge::shared::standing::EngineStanding;
use crate::edge::snapshot::Published;
use crate::edge::spool::SpoolSide;
use crate::edge::tls::door::TlsSetup;
use crate::edge::tls::tickets::{Tickets, UnusableKeys};
use crate::edge::worker::{Observer, Shared};
use crate::gate::admission::Admission;
use crate::gate::limits::AdmissionLimits;
use crate::gate::route_buckets::RouteBuckets;
use crate::ledger::{Ledgers, Seed};
use crate::telemetry::metrics::Metrics;

use super::bind_advice::bind_advice;
use super::inbox::keys::InboxKey;
use super::listeners::{Listener, Listeners};
use super::meters::meters;
use super::phase::Phases;

/// Everything that has been decided before a thread is started.
#[derive(Debug)]
pub struct Plan {
    /// What requests are judged by.
    pub policy: Policy,
    /// What each listener is to speak; nothing for plain text.
    pub tls: Vec<Option<TlsSetup>>,
    /// The bounds of the process.
    pub admission: AdmissionLimits,
    /// Where to listen.
    pub listeners: Vec<SocketAddr>,
    /// The admin port, if there is to be one.
    pub admin: Option<AdminPlan>,
    /// How many workers; at least one.
    pub workers: usize,
    /// What they run on.
    pub driver: DriverChoice,
    /// How it stops.
    pub drain: DrainTimes,
    /// The keys that stored deliveries are encrypted with, the one for new ones first.
    pub inbox_keys: Vec<InboxKey>,
    /// The engine in which claims are shared, if they are.
    pub engine: Option<EngineTerms>,
}

/// The admin port. The supervisor does not open it: the owner of the [`super::desk`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlan {
    /// Where it is.
    pub address: AdminAddress,
    /// Who may ask for what.
    pub access: Access,
}

/// What there is before the workers and is told of what they do.
#[derive(Clone)]
pub struct Witnesses {
    /// Told of every exchange.
    pub observer: Arc<dyn Observer>,
    /// Where is counted; made for as many workers as the plan has.
    pub metrics: Arc<Metrics>,
    /// The clock by which workers live.
    pub clock: Clock,
    /// What stores deliveries, if there is an inbox.
    pub spool: Option<Arc<dyn SpoolSide>>,
    /// By what ledgers spread their entries: that of earlier processes, where deliveries are remembered across them.
    pub seed: Option<Seed>,
}

impl Witnesses {
    /// An observer, and numbers of which no reader is needed.
    #[must_use]
    pub fn new(observer: Arc<dyn Observer>, workers: usize) -> Self {
        Self { observer, metrics: Metrics::new(workers), clock: Clock::start(), spool: None, seed: None }
    }
}

/// How the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTimes {
    /// How long it goes on accepting, so that others learn that it stops before it does.
    pub delay: Duration,
    /// How long exchanges in flight may take to finish then.
    pub grace: Duration,
}

/// Why the workers do not run.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A worker cannot be set up.
    Worker(String),
    /// TLS cannot be set up.
    Tls(UnusableKeys),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}{}", bind_advice(*address, error))
            }
            Self::Worker(why) => write!(f, "cannot start a worker: {why}"),
            Self::Tls(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// What came of a new plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where it is listened now and was not before.
    pub added: Vec<SocketAddr>,
    /// Where it was listened before and is not now.
    pub removed: Vec<SocketAddr>,
    /// What stays as it was until the process is started anew, one line each; everything else is in force.
    pub needs_restart: Vec<String>,
    /// How many policies have been in force, with this one; the one of the start is the first.
    pub generation: u64,
}

/// Running workers.
pub struct Running {
    /// Where they listen, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// Those of them on which another process listens, too: the kernel spreads connections over both.
    pub shared: Vec<SocketAddr>,
    /// What they run on, one entry a worker.
    pub drivers: Vec<Driver>,
    /// Why not all of them run on io_uring although it was wanted.
    pub fallback: Option<String>,
    /// What is held of the bounds of the process.
    pub admission: Arc<Admission>,
    /// How far the process is in its life.
    pub phases: Arc<Phases>,
    /// What requests are judged by.
    pub policy: Arc<Published>,
    /// How the workers stand with the shared engine, if there is one.
    pub engine: Option<Arc<EngineStanding>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) ledgers: Ledgers,
    pub(super) buckets: RouteBuckets,
    pub(super) tickets: Tickets,
    pub(super) listeners: Listeners,
    pub(super) admin: Option<AdminPlan>,
    pub(super) drain: DrainTimes,
    pub(super) driver: DriverChoice,
    pub(super) workers: Vec<Handle>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).field("drivers", &self.drivers).finish()
    }
}

/// A worker, from outside.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) orders: Orders,
    thread: JoinHandle<usize>,
}

type Report = Result<(Driver, Option<String>), String>;

/// Binds, starts every worker, and returns when all of them accept.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub fn start(plan: Plan, witnesses: Witnesses) -> Result<Running, StartError> {
    let Plan { mut policy, tls, admission, listeners: wanted, admin, workers, driver, drain, engine, .. } = plan;
    let Witnesses { observer, metrics, clock, spool, seed } = witnesses;
    let tickets = Tickets::new().map_err(StartError::Tls)?;
    policy.live.tls = tickets.doors(&tls).map_err(StartError::Tls)?;
    let mut listeners = Listeners::default();
    let (opened, shared_addresses, entrances) = bind(&mut listeners, &wanted, workers)?;
    let random = random_u64().map_err(|()| StartError::Worker(NO_RANDOMNESS.to_owned()))?;
    let pseudonym = format!("countersign-{:08x}", random & 0xffff_ffff);
    let seed = seed.map_or_else(random_seed, Ok).map_err(|()| StartError::Worker(NO_RANDOMNESS.to_owned()))?;
    let engine = engine.map(of_this_process).transpose()?;
    let ledgers = Ledgers::new(seed);
    let buckets = RouteBuckets::default();
    policy.live.ledgers = ledgers.of(policy.gate.routes.routes(), clock.now());
    policy.live.route_buckets = buckets.of(policy.gate.routes.routes(), Duration::ZERO);
    let admission = Arc::new(Admission::new(admission, RandomState::new()));
    listeners.replace(opened, &policy, Duration::ZERO);
    policy.live.listeners = listeners.ids();
    policy.live.meters = meters(&metrics, &policy.gate);
    let shared = Shared {
        admission: Arc::clone(&admission),
        policy: Arc::new(Published::new(policy)),
        clock,
        observer,
        metrics: Arc::clone(&metrics),
        pseudonym: Arc::from(pseudonym.as_bytes()),
        spool,
    };
    let (reports, arrived) = channel();
    let mut handles = Vec::new();
    let failed = |error: io::Error| StartError::Worker(error.to_string());
    let ends = entrances.iter().map(|_| orders::orders()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let bells =
        |but: usize| ends.iter().enumerate().filter(move |(at, _)| *at != but).map(|(_, (orders, _))| orders.bell());
    let peers = (0..ends.len()).map(|at| bells(at).collect()).collect::<io::Result<Vec<Vec<_>>>>().map_err(failed)?;
    for (position, ((entrances, (orders, inbox)), peers)) in entrances.into_iter().zip(ends).zip(peers).enumerate() {
        let engine = engine.clone();
        let assignment = Assignment { shared: shared.clone(), entrances, position, engine, inbox, peers };
        let reports = reports.clone();
        let thread = thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || run_worker(driver, assignment, &reports))
            .map_err(|error| StartError::Worker(error.to_string()))?;
        handles.push(Handle { orders, thread });
    }
    drop(reports);
    let running = Running {
        addresses: listeners.addresses(),
        shared: shared_addresses,
        drivers: Vec::new(),
        fallback: None,
        admission,
        phases: Arc::default(),
        policy: shared.policy,
        engine: engine.map(|terms| Arc::clone(&terms.standing)),
        metrics,
        clock: shared.clock,
        ledgers,
        buckets,
        tickets,
        listeners,
        admin,
        drain,
        driver,
        workers: handles,
    };
    await_ready(running, &arrived)
}

/// No two processes have the same claims.
fn of_this_process(terms: EngineTerms) -> Result<Arc<EngineTerms>, StartError> {
    let process = random_u64().map_err(|()| StartError::Worker(NO_RANDOMNESS.to_owned()))?;
    Ok(Arc::new(EngineTerms { process, ..terms }))
}

/// The listeners of `wanted`, those of them that another process has, too, and what each worker is given of them.
type Bindings = (Vec<Listener>, Vec<SocketAddr>, Vec<Vec<Entrance>>);

/// Binds every address once per worker.
pub(super) fn bind(listeners: &mut Listeners, wanted: &[SocketAddr], workers: usize) -> Result<Bindings, StartError> {
    let (mut opened, mut shared) = (Vec::new(), Vec::new());
    let mut entrances: Vec<Vec<Entrance>> = (0..workers).map(|_| Vec::new()).collect();
    for address in wanted {
        let bound = listener::bind(*address, workers).map_err(|error| StartError::Listen(*address, error))?;
        // A socket of ours for every address is in the way of one for IPv4, and is not another process.
        let any = |address: SocketAddr| address.ip().is_unspecified();
        let overlaps =
            |other: &Listener| other.bound.port() == bound.address.port() && (any(other.bound) || any(bound.address));
        let mine = listeners.open().iter().chain(&opened).any(overlaps);
        shared.extend((bound.shared && !mine).then_some(bound.address));
        let listener = listeners.introduce(*address, bound.address);
        for (worker, socket) in entrances.iter_mut().zip(bound.sockets) {
            worker.push(Entrance { id: listener.id, inherited: bound.inherited, socket });
        }
        opened.push(listener);
    }
    Ok((opened, shared, entrances))
}

fn await_ready(mut running: Running, arrived: &Receiver<Report>) -> Result<Running, StartError> {
    for _ in 0..running.workers.len() {
        match arrived.recv() {
            Ok(Ok((driver, fallback))) => {
                running.drivers.push(driver);
                running.fallback = running.fallback.take().or(fallback);
            }
            Ok(Err(why)) => {
                running.halt();
                return Err(StartError::Worker(why));
            }
            Err(_) => {
                running.halt();
                return Err(StartError::Worker("it ended before it was ready".to_owned()));
            }
        }
    }
    running.phases.advance(Phase::Ready);
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
    run::run(runtime, assignment, ready).unwrap_or_else(|error| {
        let _ = reports.send(Err(error.to_string()));
        0
    })
}

impl Running {
    /// How it would stop.
    #[must_use]
    pub const fn drain_times(&self) -> DrainTimes {
        self.drain
    }

    /// Stops in the order that senders and load balancers need: not ready; for the configured delay everything is still
    /// accepted, and every answer says `Connection: close`; then [`Self::stop`].
    pub fn drain(self) -> usize {
        self.part();
        self.stop()
    }

    /// The first half of [`Self::drain`]: everything up to the end of the delay.
    pub fn part(&self) {
        self.phases.advance(Phase::Draining);
        self.workers.iter().for_each(|worker| worker.orders.send(Order::Part));
        // No message comes: this waits for the time to pass.
        let (_silent, nothing) = channel::<()>();
        let _ = nothing.recv_timeout(self.drain.delay);
    }

    /// Accepts nothing more, finishes what is in flight within the configured grace period, and ends. Gives the number
    /// of exchanges that were cut off.
    pub fn stop(self) -> usize {
        let grace = self.drain.grace;
        self.end(grace)
    }

    /// Ends at once. Gives the number of exchanges that were cut off.
    pub fn halt(self) -> usize {
        self.end(Duration::ZERO)
    }

    fn end(self, grace: Duration) -> usize {
        self.phases.advance(Phase::Stopping);
        self.workers.iter().for_each(|worker| worker.orders.send(Order::Close(grace)));
        self.workers.into_iter().map(|worker| worker.thread.join().unwrap_or_default()).sum()
    }
}

const NO_RANDOMNESS: &str = "the system has no randomness";

fn random_seed() -> Result<Seed, ()> {
    let mut bytes = [0; Seed::LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ())?;
    Ok(Seed::new(&bytes))
}

fn random_u64() -> Result<u64, ()> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ())?;
    Ok(u64::from_ne_bytes(bytes))
}
