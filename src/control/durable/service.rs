//! The life of the inbox: its store is opened, and opened again until that works; deliveries are stored and delivered;
//! at the end what is under way is settled.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::section::inbox::InboxSettings;
use crate::control::background;
use crate::control::engine_inbox::store::{EngineInboxTerms, EngineStore, LeaseTime};
use crate::control::event_log::{EventLog, Level};
use crate::control::inbox::directory::Directory;
use crate::control::inbox::keys::{InboxKey, KeyRing, random_salt};
use crate::control::inbox::shelf::{Shelf, ShelfTerms};
use crate::control::inbox::spooler::Spooler;
use crate::edge::clock::Clock;
use crate::edge::deliver::{self, DeliveryNews, DeliveryPlan, Mailbox, StoreSide};
use crate::edge::driver::DriverChoice;
use crate::edge::observer::Observer;
use crate::edge::policy::Policy;
use crate::edge::shared::EngineTerms;
use crate::edge::snapshot::Published;
use crate::edge::spool::SpoolSide;
use crate::inbox::engine::promise::Durability;
use crate::inbox::store::{DeliveryStore, StoreStanding};
use crate::ledger::Seed;
use crate::now::Now;
use crate::telemetry::deliveries::DeliveryMeters;
use crate::telemetry::readings::{InboxReading, Usage};

use super::gate::{GateState, SpoolGate};
use super::place;
use super::recall;
use super::reported::{NotedStore, ReportedStore};
use super::seed::LedgerSeed;

/// A store that cannot be opened is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of deliveries that go to the engine at once.
const ENGINE_BATCH: usize = 4 << 20;

/// A lease is longer than the longest attempt by this time: an engine that is away for less stops no attempt.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// A store that is open.
struct OpenInbox {
    store: Box<dyn DeliveryStore>,
    message: String,
    /// Bytes of a commit.
    batch_bytes: usize,
}

/// The inbox of a process.
#[derive(Debug)]
pub struct InboxService {
    settings: InboxSettings,
    keys: KeyRing,
    gate: Arc<SpoolGate>,
    mailbox: Arc<Mailbox>,
    ear: Mutex<Option<UnixStream>>,
    meters: Arc<DeliveryMeters>,
    seed: LedgerSeed,
    /// What a 202 means, where that is found out while it runs.
    means: Arc<Mutex<String>>,
    /// For how long what this process attempts is leased in the engine.
    lease: LeaseTime,
    log: Arc<EventLog>,
    stopping: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What an inbox begins with.
pub struct InboxBeginning {
    /// How many workers hand deliveries in.
    pub workers: usize,
    /// Where the operator is told of it.
    pub log: Arc<EventLog>,
    /// The seed of the ledgers that all processes with the engine have; for an inbox in the engine.
    pub shared_seed: Option<Seed>,
}

/// What the threads of the inbox live with.
pub struct Household {
    /// The engine of `[shared]`, if there is one.
    pub engine: Option<EngineTerms>,
    /// What requests are judged by.
    pub policy: Arc<Published>,
    /// The clock of the process.
    pub clock: Clock,
    /// What workers run on.
    pub driver: DriverChoice,
    /// Who is told of attempts.
    pub observer: Arc<dyn Observer>,
}

impl InboxService {
    /// An inbox for so many workers. Its store is not opened yet.
    ///
    /// # Errors
    /// No file descriptor is left, or the system has no randomness.
    pub fn new(settings: InboxSettings, beginning: InboxBeginning) -> io::Result<Arc<Self>> {
        let InboxBeginning { workers, log, shared_seed } = beginning;
        let (mailbox, ear) = Mailbox::new()?;
        let seed = match (&settings.directory, shared_seed) {
            (Some(directory), _) => LedgerSeed::of(directory, &log)?,
            (None, Some(seed)) => LedgerSeed::Shared(seed),
            (None, None) => return Err(io::Error::other("there is no engine")),
        };
        Ok(Arc::new(Self {
            keys: InboxKey::of(&settings).into(),
            settings,
            gate: SpoolGate::new(workers)?,
            mailbox,
            ear: Mutex::new(Some(ear)),
            meters: Arc::default(),
            seed,
            means: Arc::default(),
            lease: LeaseTime::new(Duration::ZERO),
            log,
            stopping: Arc::default(),
            threads: Mutex::default(),
        }))
    }

    /// The way of workers to it.
    #[must_use]
    pub fn side(&self) -> Arc<dyn SpoolSide> {
        Arc::<SpoolGate>::clone(&self.gate)
    }

    /// The way of operators to it.
    #[must_use]
    pub const fn gate(&self) -> &Arc<SpoolGate> {
        &self.gate
    }

    /// How it stood a moment ago.
    #[must_use]
    pub fn reading(&self, now: Now) -> InboxReading {
        let standing = self.gate.door().standing();
        let state = self.gate.state();
        InboxReading {
            state: state.word(),
            waiting: standing.waiting,
            dead: standing.dead,
            damaged: standing.damaged,
            locked: standing.locked,
            bytes: Usage { held: standing.bytes, limit: self.settings.size },
            damaged_files: standing.damaged_files,
            failing: standing.failing_since.is_some() || state == GateState::Unavailable,
            dead_letters_full: standing.dead_letters_full,
            in_engine: self.settings.directory.is_none(),
            means: self.means.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            taken_over: standing.taken_over,
            fenced: standing.fenced,
            routes: self.meters.read(now.unix),
        }
    }

    /// The seed of the ledgers: that of earlier processes, so that copies of what they accepted are recognised.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed.seed()
    }

    /// Starts both threads. Direct routes do not wait for them; durable ones answer 503 until the store is open.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(self: &Arc<Self>, household: Household) -> io::Result<()> {
        let warning = self.settings.directory.as_deref().and_then(place::directory_warning);
        if let Some(warning) = warning {
            self.log.event(Level::Warn, &warning);
        }
        let ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ear) = ear else { return Ok(()) };
        let policy = household.policy.current();
        self.lease.set(lease(&policy));
        let mut seed = [0; 8];
        let _ = SystemRandom::new().fill(&mut seed);
        let plan = DeliveryPlan {
            routes: policy.durable.clone(),
            upstreams: policy.upstreams.clone(),
            seed: u64::from_ne_bytes(seed),
            meters: Arc::clone(&self.meters),
            observer: Arc::clone(&household.observer),
            driver: household.driver,
            clock: household.clock.clone(),
        };
        let (mailbox, log) = (Arc::clone(&self.mailbox), Arc::clone(&self.log));
        let side: Arc<dyn StoreSide> = Arc::<crate::control::inbox::spooler::SpoolDoor>::clone(self.gate.door());
        let deliver = move || {
            background::give_way();
            if let Err(error) = deliver::run(plan, &mailbox, ear, &side) {
                log.event(Level::Error, &format!("inbox: nothing is delivered: {error}"));
            }
        };
        let delivering = thread::Builder::new().name("deliver".to_owned()).spawn(deliver)?;
        let this = Arc::clone(self);
        let storing = thread::Builder::new().name("inbox-open".to_owned()).spawn(move || this.store(&household))?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.extend([delivering, storing]);
        Ok(())
    }

    /// Opens the store, however long that takes, and lets workers in.
    fn store(&self, household: &Household) {
        let opened = match &self.settings.directory {
            Some(directory) => self.open_shelf(directory, household),
            None => self.open_engine(household),
        };
        let Some(OpenInbox { store, message, batch_bytes }) = opened else { return };
        let spooler = Spooler {
            store,
            door: Arc::clone(self.gate.door()),
            mailbox: Arc::clone(&self.mailbox),
            clock: household.clock.clone(),
            batch_bytes,
        };
        match spooler.start() {
            Ok(thread) => {
                self.gate.set(GateState::Open);
                self.log.event(Level::Info, &message);
                let _ = thread.join();
            }
            Err(error) => {
                self.gate.set(GateState::Unavailable);
                self.log.event(Level::Error, &format!("inbox: nothing can be stored: {error}"));
            }
        }
    }

    /// On the disk of this machine.
    fn open_shelf(&self, directory: &Path, household: &Household) -> Option<OpenInbox> {
        let shown = directory.display();
        let shelf = self.open_patiently(&format!("the inbox {shown} cannot be opened"), || {
            let opened = Directory::open(directory);
            let opened = opened.and_then(|it| Shelf::open(Box::new(it), self.terms(), household.clock.now()));
            opened.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => "another process has it".to_owned(),
                _ => error.to_string(),
            })
        })?;
        self.seed.keep(directory, &self.log);
        let policy = household.policy.current();
        let (known, lost) = recall::recall(&shelf, &policy, household.clock.now());
        if lost > 0 {
            let message = format!("inbox: {lost} deliveries that were accepted before have no room in replay tables");
            self.log.event(Level::Warn, &message);
        }
        let recalled = format!("; copies of {known} accepted ones are recognised");
        let message = format!("{}{recalled}", opened(&shelf.standing()));
        Some(OpenInbox { store: self.reported(shelf, household), message, batch_bytes: self.terms().batch_bytes() })
    }

    /// In the engine of `[shared]`.
    fn open_engine(&self, household: &Household) -> Option<OpenInbox> {
        let settings = &self.settings;
        let terms = EngineInboxTerms {
            engine: household.engine.clone()?,
            size: settings.size,
            dead_size: settings.dead_size,
            deliveries: settings.deliveries,
            retention: u64::try_from(settings.retention.as_millis()).unwrap_or(u64::MAX),
            durability: settings.durability,
            trusted: settings.trust_engine,
            keys: self.keys.clone(),
            lease: self.lease.clone(),
            clock: household.clock.clone(),
        };
        let Some(mut store) = EngineStore::new(terms) else {
            self.gate.set(GateState::Unavailable);
            self.log.event(Level::Error, "inbox: nothing can be stored: the system has no randomness");
            return None;
        };
        self.open_patiently("the inbox in the engine cannot be opened", || store.open(household.clock.now()))?;
        let message = opened(&store.standing());
        Some(OpenInbox { store: self.reported(store, household), message, batch_bytes: ENGINE_BATCH })
    }

    fn reported<S: NotedStore + 'static>(&self, store: S, household: &Household) -> Box<dyn DeliveryStore> {
        let (log, observer) = (Arc::clone(&self.log), Arc::clone(&household.observer));
        let store = ReportedStore { store, means: Arc::clone(&self.means), log, observer, failing: false };
        store.report_means();
        Box::new(store)
    }

    /// Opens until it works, and tells each new reason why it does not.
    fn open_patiently<S>(&self, cannot: &str, mut open: impl FnMut() -> Result<S, String>) -> Option<S> {
        let mut told = String::new();
        while !self.stopping.load(Ordering::SeqCst) {
            let why = match open() {
                Ok(store) => return Some(store),
                Err(why) => why,
            };
            self.gate.set(GateState::Unavailable);
            if why != told {
                self.log.event(Level::Error, &format!("{cannot}: {why}; its routes answer 503 until it can"));
                told = why;
            }
            thread::park_timeout(AGAIN);
        }
        None
    }

    fn terms(&self) -> ShelfTerms {
        let settings = &self.settings;
        ShelfTerms {
            size: settings.size,
            dead_size: settings.dead_size,
            deliveries: usize::try_from(settings.deliveries).unwrap_or(usize::MAX),
            retention: u64::try_from(settings.retention.as_millis()).unwrap_or(u64::MAX),
            drops_oldest: settings.drops_oldest,
            durable: settings.durability == Durability::Fsync,
            keys: self.keys.clone(),
            salt: Box::new(random_salt),
        }
    }

    /// Another configuration is in force. The store follows the keys within a moment.
    pub fn follow(&self, policy: &Policy, keys: Vec<InboxKey>) {
        self.keys.set(keys);
        self.lease.set(lease(policy));
        self.mailbox.post([DeliveryNews::Follow(policy.durable.clone(), policy.upstreams.clone())]);
    }

    /// No more attempts; those under way have so much time to end.
    pub fn stop_attempts(&self, grace: Duration) {
        self.mailbox.post([DeliveryNews::Stop(grace)]);
    }

    /// Settles what has ended, and closes the store. To be called when the workers have stopped.
    pub fn finish(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)).into_iter();
        // The one that delivers first: its last settlements are to be stored.
        threads.next().map(JoinHandle::join);
        self.gate.door().stop();
        for thread in threads {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// For how long what a process attempts is leased to it.
fn lease(policy: &Policy) -> Duration {
    deliver::longest_attempt(policy.durable.iter(), policy.upstreams.iter()) + LEASE_MARGIN
}

fn opened(standing: &StoreStanding) -> String {
    let StoreStanding { waiting, dead, damaged, .. } = standing;
    format!("the inbox is open: {waiting} deliveries wait, {dead} are dead letters, {damaged} are damaged")
}
