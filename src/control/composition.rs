//! The process, put together: in which order its parts start, who knows whom, and in which order they stop.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::admin::desk::Desk;
use crate::admin::server::{self, Admin, AdminAddress};
use crate::config::files::Sources;
use crate::config::load::Loaded;
use crate::config::section::server::DriverSetting;
use crate::config::settings::Settings;
use crate::config::source::ConfigSource;
use crate::config::summary::moment_warnings;
use crate::edge::door::inherited;
use crate::edge::driver::{self, Driver};
use crate::edge::shared::EngineTerms;
use crate::edge::worker::Observer;
use crate::ledger::shared::EngineKey;
use crate::telemetry::readings::ProcessIdentity;

use super::bind_advice::bind_advice;
use super::causes::Causes;
use super::desk::{FrontDesk, Interior, Looking};
use super::durable::service::{Household, InboxBeginning, InboxService};
use super::event_log::{EventLog, Level};
use super::hardening;
use super::lookout::Lookout;
use super::plan::{plan, worker_count};
use super::publishers::{KeySources, Publishers};
use super::records::Records;
use super::reload;
use super::reload_words;
use super::resolver::Resolver;
use super::service_manager::{self, ServiceState};
use super::signals::{HangUps, Signal, Termination};
use super::supervisor::{self, AdminPlan, DrainTimes, Running, StartError, Witnesses};
use super::vitals;

/// Exit code of a process that a second signal ends before its exchanges are finished.
const CUT_OFF: i32 = 2;

/// Runs with this configuration until a signal. `source` is where it stands, `sources` are the files that it depends on.
///
/// # Errors
/// Why the process cannot start. It has been written to the log of the process.
pub fn run(source: ConfigSource, loaded: Loaded, sources: Sources) -> Result<(), String> {
    let log = Arc::new(EventLog::start());
    log.configure(loaded.settings.log);
    log.event(Level::Info, &greeting(&source, loaded.settings.server.driver));
    loaded.warnings.iter().for_each(|warning| log.event(Level::Warn, &reload_words::problem(warning)));
    for note in hardening::apply() {
        log.event(Level::Warn, &note);
    }
    if let Some(note) = hardening::too_few_files(&loaded.settings.limits.admission) {
        log.event(Level::Warn, &note);
    }
    let outcome = serve(source, loaded, sources, &log);
    if let Err(why) = &outcome {
        log.event(Level::Error, why);
    }
    log.flush();
    outcome
}

/// The first line: what runs, by which configuration, and on what. The workers decide the last for themselves: the line
/// about them says what they run on, and a warning why.
fn greeting(source: &ConfigSource, wanted: DriverSetting) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let driver = match wanted {
        DriverSetting::Epoll => Driver::Epoll,
        DriverSetting::IoUring => Driver::IoUring,
        DriverSetting::Auto if driver::probe().is_ok() => Driver::IoUring,
        DriverSetting::Auto => Driver::Epoll,
    };
    let process = std::process::id();
    format!(
        "countersign {version} starts: configuration={} driver={} pid={process}",
        whereabouts(source),
        driver.name()
    )
}

fn identity(source: &ConfigSource, settings: &Settings) -> ProcessIdentity {
    let (host, pod) = vitals::names();
    let captures = settings.admin.as_ref().map(|admin| admin.capture_refused).unwrap_or_default();
    ProcessIdentity { host, pod, configuration: whereabouts(source), captures }
}

/// The configuration as an operator finds it: the whole path of a file.
fn whereabouts(source: &ConfigSource) -> String {
    match source {
        ConfigSource::File(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string(),
        ConfigSource::Text(_) => source.name(),
    }
}

fn serve(source: ConfigSource, loaded: Loaded, sources: Sources, log: &Arc<EventLog>) -> Result<(), String> {
    let no_signals = |error| format!("cannot listen for signals: {error}");
    let termination = Termination::listen().map_err(no_signals)?;
    let hang_ups = HangUps::listen().map_err(no_signals)?;
    let departure = termination.departure();
    let told = await_signals(termination).map_err(no_signals)?;
    let given = inherited::take_over().map_err(|error| format!("the sockets of LISTEN_FDS cannot be used: {error}"))?;
    given.iter().for_each(|address| log.event(Level::Info, &format!("started with a socket at {address}")));
    let routes = loaded.settings.routes.len();
    let records = Arc::new(Records::start(&loaded, log)?);
    let observer: Arc<dyn Observer> = Arc::<Records>::clone(&records);
    let workers = worker_count(loaded.settings.server.workers);
    let inbox = open_inbox(&loaded, workers, log)?;
    let mut witnesses = Witnesses::new(observer, workers);
    (witnesses.spool, witnesses.seed) = inbox.as_ref().map(|inbox| (inbox.side(), inbox.seed())).unzip();
    let moment = moment_warnings(&loaded.settings, witnesses.clock.now());
    moment.iter().for_each(|warning| log.event(Level::Warn, warning));
    let warnings = loaded.warnings.iter().map(reload_words::problem).chain(moment).collect();
    let (settings, outline) = (loaded.settings.reload, loaded.outline.clone());
    let asked = loaded.settings.admin.as_ref().and_then(|admin| admin.ready.clone());
    let publishers = publishers(&loaded, log);
    let identity = identity(&source, &loaded.settings);
    let (plan, names) = plan(loaded);
    let engine = plan.engine.clone();
    let (clock, metrics) = (witnesses.clock.clone(), Arc::clone(&witnesses.metrics));
    let desk = Arc::new(FrontDesk::new(clock, metrics, Arc::clone(log), Arc::clone(&records), identity));
    inbox.iter().for_each(|inbox| desk.show_inbox(Arc::clone(inbox)));
    // Before the workers: a probe has an answer while the process starts.
    let _admin = plan.admin.as_ref().map(|admin| open_admin(admin, &desk, &witnesses, log)).transpose()?;
    let resolver = Arc::new(Resolver::start(names, Arc::clone(log)));
    let running = supervisor::start(plan, witnesses).map_err(|error| error.to_string())?;
    let lookout = Lookout::start(&running, asked, Arc::clone(log));
    let lookout = Arc::new(lookout.map_err(|error| format!("cannot look after applications: {error}"))?);
    let household = household(&running, &records, engine);
    inbox.as_ref().map_or(Ok(()), |inbox| inbox.start(household)).map_err(|error| format!("cannot start: {error}"))?;
    let causes = Causes::start(Interior::of(&running), Arc::clone(&records), Arc::clone(log));
    let _causes = causes.map_err(|error| format!("cannot explain refusals: {error}"))?;
    let (interior, place) = (Interior::of(&running), source.clone());
    let running = Arc::new(Mutex::new(Some(running)));
    let start = reload::Start {
        source,
        sources,
        settings,
        outline,
        warnings,
        resolver: Arc::clone(&resolver),
        publishers: Some(Arc::clone(&publishers)),
        lookout: Some(Arc::clone(&lookout)),
        records: Some(Arc::clone(&records)),
        log: Arc::clone(log),
    };
    let reloader = reload::start(start, apply_to(&running, inbox.as_ref()));
    desk.open(interior, reloader.clone(), departure, Looking { lookout, publishers, source: place });
    lock(&running).iter().for_each(|running| announce(running, routes, log));
    let (hung_up, moved) = (reloader.clone(), Arc::clone(&records));
    hang_ups.each(move || {
        moved.reopen();
        hung_up.hang_up();
    });
    tell_manager(ServiceState::Ready(&format!("guards {routes} routes")), log);
    let signal = told.recv().unwrap_or(Signal::Terminate);
    reloader.stop();
    let Some(running) = lock(&running).take() else { return Ok(()) };
    log.event(Level::Info, &farewell(signal, running.drain_times()));
    tell_manager(ServiceState::Stopping("finishes what is in flight"), log);
    let cut = end(running, inbox.as_deref(), signal);
    records.finish();
    tell_end(cut, log);
    Ok(())
}

/// What the inbox lives with.
fn household(running: &Running, records: &Arc<Records>, engine: Option<EngineTerms>) -> Household {
    Household {
        engine,
        policy: Arc::clone(&running.policy),
        clock: running.clock.clone(),
        driver: running.driver,
        observer: Arc::<Records>::clone(records),
    }
}

/// What fetches the keys that senders publish. Those that it has on disk are in force at once.
fn publishers(loaded: &Loaded, log: &Arc<EventLog>) -> Arc<Publishers> {
    let publishers = Arc::new(Publishers::of(&loaded.settings.published_keys, Arc::clone(log)));
    let keys = KeySources::of(&loaded.gate);
    publishers.fill(&keys);
    publishers.follow(keys);
    publishers
}

fn tell_end(cut: usize, log: &EventLog) {
    match cut {
        0 => log.event(Level::Info, "stopped"),
        cut => log.event(Level::Warn, &format!("stopped; {cut} exchanges were cut off at the end of the grace period")),
    }
}

/// Where the first signal is told of; the second ends the process. The thread is there from the start on, because at the
/// end there may be none to be had, and whatever is in flight is to be finished all the same.
fn await_signals(mut termination: Termination) -> io::Result<Receiver<Signal>> {
    let (tell, told) = channel();
    let wait = move || {
        let _ = tell.send(termination.wait());
        termination.wait_again();
        std::process::exit(CUT_OFF);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(told)
}

/// Ends the workers, and then the inbox. Gives how many exchanges were cut off.
fn end(running: Running, inbox: Option<&InboxService>, signal: Signal) -> usize {
    if signal == Signal::Terminate {
        running.part();
    }
    // Attempts end while workers finish what is in flight; what they store is kept for the next process.
    inbox.into_iter().for_each(|inbox| inbox.stop_attempts(running.drain_times().grace));
    let cut = running.stop();
    inbox.into_iter().for_each(InboxService::finish);
    cut
}

/// The inbox, if there is to be one.
fn open_inbox(loaded: &Loaded, workers: usize, log: &Arc<EventLog>) -> Result<Option<Arc<InboxService>>, String> {
    let Some(settings) = &loaded.settings.inbox else { return Ok(None) };
    let shared = loaded.settings.shared.as_ref();
    let key = shared.and_then(|shared| Some(EngineKey::new(shared.key.content.as_ref()?.bytes(), &shared.prefix)));
    let beginning = InboxBeginning { workers, log: Arc::clone(log), shared_seed: key.map(|key| key.seed()) };
    let inbox = InboxService::new(settings.clone(), beginning);
    inbox.map(Some).map_err(|error| format!("cannot make the inbox: {error}"))
}

fn tell_manager(state: ServiceState<'_>, log: &EventLog) {
    if let Err(error) = service_manager::tell(state) {
        log.event(Level::Warn, &format!("the service manager is not told: {error}"));
    }
}

fn open_admin(plan: &AdminPlan, desk: &Arc<FrontDesk>, witnesses: &Witnesses, log: &EventLog) -> Result<Admin, String> {
    let cannot = |error: io::Error| {
        let advice = match &plan.address {
            AdminAddress::Tcp(address) => bind_advice(*address, &error),
            AdminAddress::Unix(_) => String::new(),
        };
        format!("cannot open the admin port at {}: {error}{advice}", plan.address)
    };
    let given = match &plan.address {
        AdminAddress::Tcp(address) => inherited::find(*address).map_err(cannot)?,
        AdminAddress::Unix(_) => None,
    };
    let bound = given.map_or_else(|| server::bind(&plan.address), server::adopt).map_err(cannot)?;
    log.event(Level::Info, &format!("admin port at {}", bound.address));
    let desk: Arc<dyn Desk> = Arc::<FrontDesk>::clone(desk);
    Admin::start(bound, plan.access.clone(), desk, Arc::clone(&witnesses.metrics)).map_err(cannot)
}

/// Puts plans in force for as long as the process is not stopping.
fn apply_to(running: &Arc<Mutex<Option<Running>>>, inbox: Option<&Arc<InboxService>>) -> reload::Apply {
    let (running, inbox) = (Arc::clone(running), inbox.cloned());
    Box::new(move |plan| match lock(&running).as_mut() {
        Some(running) => {
            let keys = plan.inbox_keys.clone();
            let applied = running.apply(plan)?;
            inbox.iter().for_each(|inbox| inbox.follow(&running.policy.current(), keys.clone()));
            Ok(applied)
        }
        None => Err(StartError::Worker("the process is stopping".to_owned())),
    })
}

fn lock(running: &Mutex<Option<Running>>) -> MutexGuard<'_, Option<Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn farewell(signal: Signal, times: DrainTimes) -> String {
    let DrainTimes { delay, grace } = times;
    match signal {
        Signal::Terminate => format!(
            "SIGTERM: stopping, not ready any more; connections are accepted for another {delay:?}, and exchanges in \
             flight then finished within {grace:?}"
        ),
        Signal::Interrupt => format!("SIGINT: stopping, exchanges in flight are finished within {grace:?}"),
    }
}

fn announce(running: &Running, routes: usize, log: &EventLog) {
    if let Some(why) = &running.fallback {
        log.event(Level::Warn, &format!("io_uring is not available, running on epoll: {why}"));
    }
    let driver = running.drivers.first().map_or("", |driver| driver.name());
    for address in &running.addresses {
        log.event(Level::Info, &format!("listening on {address}"));
    }
    for address in &running.shared {
        let message = format!("another process listens on {address}, too: it gets a part of the connections");
        log.event(Level::Warn, &message);
    }
    let workers = running.drivers.len();
    log.event(Level::Info, &format!("ready: driver={driver} workers={workers} routes={routes}"));
}
