//! The life of the inbox: its store is opened, and opened again until that works; deliveries are stored and delivered;
//! at the end what is under way is settled.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::section::inbox::InboxSettings;
use crate::control::background;
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
use crate::edge::snapshot::Published;
use crate::edge::spool::SpoolSide;
use crate::inbox::store::{DeliveryStore, StoreStanding};
use crate::ledger::Seed;
use crate::now::Now;
use crate::telemetry::deliveries::DeliveryMeters;
use crate::telemetry::readings::{InboxReading, Usage};

use super::gate::{GateState, SpoolGate};
use super::place;
use super::recall;
use super::reported::ReportedShelf;

/// A store that cannot be opened is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// The file with the seed of the ledgers.
const SEED_FILE: &str = "seed";

/// The inbox of a process.
#[derive(Debug)]
pub struct InboxService {
    settings: InboxSettings,
    keys: KeyRing,
    gate: Arc<SpoolGate>,
    mailbox: Arc<Mailbox>,
    ear: Mutex<Option<UnixStream>>,
    meters: Arc<DeliveryMeters>,
    /// That of the ledgers, and whether it is that of earlier processes.
    seed: ([u8; Seed::LENGTH], bool),
    log: Arc<EventLog>,
    stopping: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads of the inbox live with.
pub struct Household {
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
    pub fn new(settings: InboxSettings, workers: usize, log: Arc<EventLog>) -> io::Result<Arc<Self>> {
        let (mailbox, ear) = Mailbox::new()?;
        let seed = seed(&settings.directory, &log)?;
        Ok(Arc::new(Self {
            keys: InboxKey::of(&settings).into(),
            settings,
            gate: SpoolGate::new(workers)?,
            mailbox,
            ear: Mutex::new(Some(ear)),
            meters: Arc::default(),
            seed,
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
            routes: self.meters.read(now.unix),
        }
    }

    /// The seed of the ledgers: that of earlier processes, so that copies of what they accepted are recognised.
    #[must_use]
    pub fn seed(&self) -> Seed {
        Seed::new(&self.seed.0)
    }

    /// Starts both threads. Direct routes do not wait for them; durable ones answer 503 until the store is open.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(self: &Arc<Self>, household: Household) -> io::Result<()> {
        if let Some(warning) = place::directory_warning(&self.settings.directory) {
            self.log.event(Level::Warn, &warning);
        }
        let ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ear) = ear else { return Ok(()) };
        let policy = household.policy.current();
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
        let Some(shelf) = self.open(&household.clock) else { return };
        if !self.seed.1
            && let Err(error) = keep_seed(&self.settings.directory, &self.seed.0)
        {
            let message =
                format!("inbox: after a restart some copies are not recognised: its seed is not kept: {error}");
            self.log.event(Level::Warn, &message);
        }
        let policy = household.policy.current();
        let (known, lost) = recall::recall(&shelf, &policy, household.clock.now());
        if lost > 0 {
            let message = format!("inbox: {lost} deliveries that were accepted before have no room in replay tables");
            self.log.event(Level::Warn, &message);
        }
        let message = opened(&shelf.standing(), known);
        let (log, observer) = (Arc::clone(&self.log), Arc::clone(&household.observer));
        let store = Box::new(ReportedShelf { shelf, log, observer, failing: false });
        let spooler = Spooler {
            store,
            door: Arc::clone(self.gate.door()),
            mailbox: Arc::clone(&self.mailbox),
            clock: household.clock.clone(),
            batch_bytes: self.terms().batch_bytes(),
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

    fn open(&self, clock: &Clock) -> Option<Shelf> {
        let mut told = String::new();
        while !self.stopping.load(Ordering::SeqCst) {
            let directory = &self.settings.directory;
            let opened = Directory::open(directory).and_then(|it| Shelf::open(Box::new(it), self.terms(), clock.now()));
            let why = match opened {
                Ok(shelf) => return Some(shelf),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => "another process has it".to_owned(),
                Err(error) => error.to_string(),
            };
            self.gate.set(GateState::Unavailable);
            if why != told {
                let shown = directory.display();
                let message = format!("the inbox {shown} cannot be opened: {why}; its routes answer 503 until it can");
                self.log.event(Level::Error, &message);
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
            durable: settings.durable,
            keys: self.keys.clone(),
            salt: Box::new(random_salt),
        }
    }

    /// Another configuration is in force. The store follows the keys within a moment.
    pub fn follow(&self, policy: &Policy, keys: Vec<InboxKey>) {
        self.keys.set(keys);
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

fn opened(standing: &StoreStanding, known: u64) -> String {
    let StoreStanding { waiting, dead, damaged, .. } = standing;
    format!(
        "the inbox is open: {waiting} deliveries wait, {dead} are dead letters, {damaged} are damaged; copies of {known} \
         accepted ones are recognised"
    )
}

/// The seed of earlier processes; a new one where there is none. Gives whether it is kept.
fn seed(directory: &Path, log: &EventLog) -> io::Result<([u8; Seed::LENGTH], bool)> {
    let path = directory.join(SEED_FILE);
    let found = fs::read(&path).and_then(|seed| seed.try_into().map_err(|_| io::ErrorKind::InvalidData.into()));
    match found {
        Ok(seed) => return Ok((seed, true)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => log.event(Level::Warn, &format!("inbox: {} cannot be read: {error}", path.display())),
    }
    let mut seed = [0; Seed::LENGTH];
    SystemRandom::new().fill(&mut seed).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok((seed, false))
}

/// Makes a seed durable. One that is there stays.
fn keep_seed(directory: &Path, seed: &[u8]) -> io::Result<()> {
    let path = directory.join(SEED_FILE);
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(seed)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    fs::File::open(directory)?.sync_all()
}
