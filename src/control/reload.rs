//! New configurations for a process that runs: read, check, compile, apply; one way for SIGHUP, for files that change
//! and for requests. Everything that can fail does so before the one swap, and what fails changes nothing.
//!
//! Owns the thread on which all of this happens, never a worker. What the kernel says about files (`watch.rs`) is
//! a hint; what counts is whether their contents differ from those that were read last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::files::Sources;
use crate::config::load::{Loaded, load_source};
use crate::config::outline::Outline;
use crate::config::problem::Problems;
use crate::config::section::reload::ReloadSettings;
use crate::config::source::ConfigSource;
use crate::config::summary::moment_warnings;
use crate::edge::clock::Clock;

use super::event_log::{EventLog, Level};
use super::hardening;
use super::lookout::Lookout;
use super::plan::plan_beside;
use super::publishers::{KeySources, Publishers};
use super::records::Records;
use super::reload_words;
use super::reloader::{LastError, ReloadError, ReloadOrder, ReloadStatus, Reloaded, Reloader};
use super::resolver::Resolver;
use super::supervisor::{Applied, Plan, StartError};
use super::watch::{Touch, Watch};

/// For so long nothing must happen to the files before they are read: what belongs together is often written one after
/// the other. What is in them must be the same from the middle of this time to its end.
const SETTLE: Duration = Duration::from_millis(50);

/// Events that do not end are looked into after this time all the same.
const BURST: Duration = Duration::from_secs(1);

/// A file that someone has open for writing is not read until it is closed, or nothing was written for so long; nor is
/// that waited for longer than three times this.
const WRITING: Duration = Duration::from_secs(10);

/// The same for a client that asks for a reload meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where no event says when a file is complete, it must not change for so long.
const QUIET: Duration = Duration::from_millis(250);

/// Files that change while they are read are read so often before that is an error.
const TRIES: usize = 5;

/// What [`start`] needs.
#[derive(Debug)]
pub struct Start {
    /// The configuration.
    pub source: ConfigSource,
    /// The files that it depended on when it was loaded, and what was in them.
    pub sources: Sources,
    /// How changes are noticed.
    pub settings: ReloadSettings,
    /// What is in force.
    pub outline: Outline,
    /// What has been warned about already.
    pub warnings: Vec<String>,
    /// Keeps the names of the applications fresh.
    pub resolver: Arc<Resolver>,
    /// Fetches the keys that senders publish.
    pub publishers: Option<Arc<Publishers>>,
    /// Looks after the applications that `/ready` asks for.
    pub lookout: Option<Arc<Lookout>>,
    /// What is written down, changes too.
    pub records: Option<Arc<Records>>,
    /// Who is told.
    pub log: Arc<EventLog>,
}

/// Puts a plan in force, or changes nothing.
pub type Apply = Box<dyn FnMut(Plan) -> Result<Applied, StartError> + Send>;

/// From now on changes of the files lead to `apply`; they are watched when this returns.
#[must_use]
pub fn start(start: Start, apply: Apply) -> Reloader {
    let (orders, arriving) = channel();
    let clock = Clock::start();
    let outline = start.outline.dated(None, unix_seconds(&clock));
    let begun = ReloadStatus { keys: dated_keys(&outline), ..ReloadStatus::default() };
    let status = Arc::new(ArcSwap::from_pointee(begun));
    let reloader = Reloader { orders: orders.clone(), status: Arc::clone(&status) };
    let mut thread = Thread {
        source: start.source,
        in_force: start.sources.clone(),
        seen: start.sources,
        settings: start.settings,
        outline,
        resolver: start.resolver,
        publishers: start.publishers,
        lookout: start.lookout,
        records: start.records,
        log: start.log,
        warned: start.warnings,
        watch: None,
        unwatched: Vec::new(),
        clock,
        inbox: ReloadQueue { orders: arriving, waiting: VecDeque::new() },
        orders,
        status,
        apply,
    };
    thread.begin_to_watch();
    thread::spawn(move || thread.run());
    reloader
}

fn unix_seconds(clock: &Clock) -> i64 {
    i64::try_from(clock.now().unix.as_secs()).unwrap_or(i64::MAX)
}

fn dated_keys(outline: &Outline) -> Arc<[(String, String, i64)]> {
    outline.keys().filter_map(|(route, id, since)| Some((route.to_owned(), id.to_owned(), since?))).collect()
}

struct Thread {
    source: ConfigSource,
    /// The files as they were when what is in force was read, and when they were read last.
    in_force: Sources,
    seen: Sources,
    settings: ReloadSettings,
    outline: Outline,
    resolver: Arc<Resolver>,
    publishers: Option<Arc<Publishers>>,
    lookout: Option<Arc<Lookout>>,
    records: Option<Arc<Records>>,
    log: Arc<EventLog>,
    warned: Vec<String>,
    watch: Option<Watch>,
    /// What cannot be watched, and why.
    unwatched: Vec<String>,
    clock: Clock,
    inbox: ReloadQueue,
    orders: Sender<ReloadOrder>,
    status: Arc<ArcSwap<ReloadStatus>>,
    apply: Apply,
}

/// Why files are read, and since when that is so.
#[derive(Clone, Copy)]
enum ReloadCause {
    Changed(Duration),
    Wanted(Duration),
}

struct ReloadQueue {
    orders: Receiver<ReloadOrder>,
    /// What has arrived while something else was awaited.
    waiting: VecDeque<ReloadOrder>,
}

impl ReloadQueue {
    /// The next order, or nothing within this time; without a limit of time it is waited for.
    fn next(&mut self, within: Option<Duration>) -> Option<ReloadOrder> {
        if let Some(order) = self.waiting.pop_front() {
            return Some(order);
        }
        match within {
            None => Some(self.orders.recv().unwrap_or(ReloadOrder::Stop)),
            Some(within) => match self.orders.recv_timeout(within) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(ReloadOrder::Stop),
            },
        }
    }

    /// The next touch within this time, unless something else comes first, which then waits.
    fn touch(&mut self, within: Duration) -> Option<Touch> {
        match self.orders.recv_timeout(within) {
            Ok(ReloadOrder::Touched(touch)) => Some(touch),
            Ok(other) => {
                self.waiting.push_back(other);
                None
            }
            Err(_) => None,
        }
    }
}

impl Thread {
    fn run(mut self) {
        // What has changed before they were watched.
        self.poll();
        let mut polled = self.clock.monotonic();
        loop {
            let left = self.settings.poll.map(|poll| (polled + poll).saturating_sub(self.clock.monotonic()));
            let order = self.inbox.next(left);
            let noticed = self.clock.monotonic();
            match order {
                Some(ReloadOrder::Touched(touch)) => {
                    if let Some(found) = self.settle(touch) {
                        self.look(&found, noticed);
                    }
                }
                Some(ReloadOrder::HungUp) => {
                    self.await_writers();
                    drop(self.reload(ReloadCause::Wanted(noticed)));
                }
                Some(ReloadOrder::Requested(answer)) => {
                    self.await_writers();
                    drop(answer.send(self.reload(ReloadCause::Wanted(noticed))));
                }
                Some(ReloadOrder::Stop) => return,
                None => {
                    self.poll();
                    polled = self.clock.monotonic();
                }
            }
        }
    }

    fn begin_to_watch(&mut self) {
        if !self.settings.watch {
            self.watch = None;
        } else if self.watch.is_none() {
            let orders = self.orders.clone();
            match Watch::new(move |touch| drop(orders.send(ReloadOrder::Touched(touch)))) {
                Ok(watch) => self.watch = Some(watch),
                Err(why) => self.note_unwatched(vec![format!("files cannot be watched for changes: {why}")]),
            }
        }
        self.aim();
    }

    /// Watches the files that were read last.
    fn aim(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        let failed = watch.aim(self.seen.paths());
        self.note_unwatched(failed.into_iter().map(|it| format!("cannot be watched for changes: {it}")).collect());
    }

    fn note_unwatched(&mut self, failed: Vec<String>) {
        let new = failed.iter().filter(|failure| !self.unwatched.contains(failure));
        new.for_each(|failure| self.log.event(Level::Warn, failure));
        self.unwatched = failed;
    }

    /// Waits until nothing happens to the files any more, and gives what is in them; nothing if something else is to be
    /// done first, after which this does not matter any more.
    fn settle(&mut self, first: Touch) -> Option<Sources> {
        let began = self.clock.monotonic();
        let mut touch = Some(first);
        let mut found: Option<Sources> = None;
        loop {
            let watch = self.watch.as_mut()?;
            if let Some(happened) = touch.take() {
                watch.note(happened);
                found = None;
            }
            let (written_to, waited) = (watch.is_written_to(), self.clock.monotonic().saturating_sub(began));
            if waited > if written_to { WRITING * 3 } else { BURST } {
                watch.forget_writers();
                return Some(self.seen.again());
            }
            touch = self.inbox.touch(if written_to { WRITING } else { SETTLE / 2 });
            if !self.inbox.waiting.is_empty() {
                return None;
            }
            if touch.is_none() {
                let again = self.seen.again();
                if written_to || found.as_ref() == Some(&again) {
                    // Not every write ends with a word of it (truncate(2), memory that is mapped).
                    self.watch.iter_mut().for_each(Watch::forget_writers);
                    return Some(again);
                }
                found = Some(again);
            }
        }
    }

    /// Reads the files if what was found in them is not what was read last.
    fn look(&mut self, found: &Sources, noticed: Duration) {
        self.aim();
        // What has changed before all of the way was watched.
        if *found != self.seen || self.seen.again() != self.seen {
            let _ = self.reload(ReloadCause::Changed(noticed));
        }
    }

    /// The same without having been told, and again when what was read last could not be put in force.
    fn poll(&mut self) {
        self.aim();
        let noticed = self.clock.monotonic();
        let mut found = self.seen.again();
        if found == self.seen && self.status.load().last_error.is_none() {
            return;
        }
        for _ in 0..TRIES {
            if found == self.seen {
                break;
            }
            self.pause(QUIET);
            let again = self.seen.again();
            if again == found {
                break;
            }
            found = again;
        }
        let _ = self.reload(ReloadCause::Changed(noticed));
    }

    /// Also a reload that was asked for does not read half of a file. The wait is short.
    fn await_writers(&mut self) {
        let until = self.clock.monotonic() + PATIENCE;
        while self.watch.as_ref().is_some_and(Watch::is_written_to) {
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            if let Some(touch) = self.inbox.touch(left) {
                self.watch.iter_mut().for_each(|watch| watch.note(touch.clone()));
            }
        }
    }

    /// Touches are noted meanwhile, and other orders wait.
    fn pause(&mut self, time: Duration) {
        let until = self.clock.monotonic() + time;
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            if let Some(touch) = self.inbox.touch(left) {
                self.watch.iter_mut().for_each(|watch| watch.note(touch.clone()));
            }
        }
    }

    fn reload(&mut self, cause: ReloadCause) -> Result<Reloaded, ReloadError> {
        let before = self.in_force.clone();
        let outcome = self.attempt();
        let now = self.clock.now().unix;
        let earlier = self.status.load_full();
        let mut status = ReloadStatus { attempts: earlier.attempts + 1, ..ReloadStatus::clone(&earlier) };
        match &outcome {
            Ok(reloaded) => {
                status.last_error = None;
                status.last_success = Some(now);
                if let Reloaded::Changed { generation, .. } = reloaded {
                    status.generation = *generation;
                    status.keys = dated_keys(&self.outline);
                }
            }
            Err(error) => {
                status.failures += 1;
                status.last_error = Some(LastError { at: now, text: error.to_string().into() });
            }
        }
        self.tell(&outcome, &before, &earlier, cause);
        self.status.store(Arc::new(status));
        outcome
    }

    fn attempt(&mut self) -> Result<Reloaded, ReloadError> {
        let loaded = self.read()?.map_err(ReloadError::Refused)?;
        if self.seen == self.in_force {
            return Ok(Reloaded::Unchanged);
        }
        let mut warnings: Vec<String> = loaded.warnings.iter().map(reload_words::problem).collect();
        warnings.extend(moment_warnings(&loaded.settings, self.clock.now()));
        warnings.extend(hardening::too_few_files(&loaded.settings.limits.admission));
        warnings.extend(self.records.iter().flat_map(|records| records.needs_restart(&loaded.settings)));
        let (settings, outline, fingerprint) = (loaded.settings.reload, loaded.outline.clone(), loaded.fingerprint);
        let log = loaded.settings.log;
        let asked = loaded.settings.admin.as_ref().and_then(|admin| admin.ready.clone());
        let inventory = self.records.as_ref().and_then(|records| records.inventory(&loaded));
        let keys = KeySources::of(&loaded.gate);
        self.publishers.iter().for_each(|publishers| publishers.fill(&keys));
        let (plan, names) = plan_beside(loaded, &self.resolver.names());
        let Applied { added, removed, needs_restart, generation } =
            (self.apply)(plan).map_err(ReloadError::NotApplied)?;
        self.resolver.follow(names);
        self.publishers.iter().for_each(|publishers| publishers.follow(keys.clone()));
        self.lookout.iter().for_each(|lookout| lookout.follow(asked.clone()));
        self.in_force = self.seen.clone();
        let changes = self.outline.changes(&outline);
        if let Some(records) = &self.records {
            records.configuration(fingerprint, generation, inventory);
        }
        self.outline = outline.dated(Some(&self.outline), unix_seconds(&self.clock));
        self.settings = settings;
        self.log.configure(log);
        self.begin_to_watch();
        warnings.extend(needs_restart);
        let new = warnings.iter().filter(|warning| !self.warned.contains(warning));
        new.for_each(|warning| self.log.event(Level::Warn, warning));
        self.warned = warnings;
        for (addresses, word) in [(added, "listening on"), (removed, "no longer listening on")] {
            addresses.iter().for_each(|address| self.log.event(Level::Info, &format!("{word} {address}")));
        }
        Ok(Reloaded::Changed { generation, changes })
    }

    /// Reads the files until they stay as they were while they were read: what was made of two states fits neither.
    fn read(&mut self) -> Result<Result<Loaded, Problems>, ReloadError> {
        for _ in 0..TRIES {
            let (outcome, sources) = load_source(&self.source);
            self.seen = sources;
            self.aim();
            if self.seen.again() == self.seen {
                return Ok(outcome);
            }
            self.pause(SETTLE);
        }
        Err(ReloadError::Unsettled)
    }

    fn tell(
        &self,
        outcome: &Result<Reloaded, ReloadError>,
        before: &Sources,
        earlier: &ReloadStatus,
        cause: ReloadCause,
    ) {
        let (noticed, wanted) = match cause {
            ReloadCause::Changed(noticed) => (noticed, false),
            ReloadCause::Wanted(noticed) => (noticed, true),
        };
        match outcome {
            Ok(Reloaded::Changed { generation, changes }) => {
                let took = self.clock.monotonic().saturating_sub(noticed);
                let files = self.seen.changed_since(before);
                self.log.event(Level::Info, &reload_words::changed(*generation, took, files, changes));
            }
            Ok(Reloaded::Unchanged) if wanted || earlier.last_error.is_some() => {
                self.log.event(Level::Info, &reload_words::unchanged(earlier.generation));
            }
            Ok(Reloaded::Unchanged) => {}
            Err(error) => {
                // What the log has already is not repeated unless a client asks.
                let known = earlier.last_error.as_ref().is_some_and(|last| *last.text == error.to_string());
                if wanted || !known {
                    for line in reload_words::refused(error, earlier.generation) {
                        self.log.event(Level::Error, &line);
                    }
                }
            }
        }
    }
}
