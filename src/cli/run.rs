//! `countersign run`: the proxy, from start to SIGTERM.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use crate::admin::desk::Desk;
use crate::admin::server::{self, Admin};
use crate::config::load::{Loaded, load};
use crate::config::summary::moment_warnings;
use crate::control::desk::FrontDesk;
use crate::control::event_log::{EventLog, Level};
use crate::control::hardening;
use crate::control::plan::plan;
use crate::control::resolver::Resolver;
use crate::control::signals::Termination;
use crate::control::supervisor::{self, AdminPlan, Running};
use crate::edge::clock::Clock;
use crate::edge::worker::Observer;
use crate::telemetry::metrics::Metrics;

use super::check::print_problems;
use super::{CANNOT, FOUND_WRONG};

/// Runs until a signal. 0 after a clean stop, 1 for a wrong configuration, 2 when it cannot start.
pub(super) fn run(path: &Path) -> ExitCode {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            print_problems(&problems);
            return ExitCode::from(FOUND_WRONG);
        }
    };
    print_problems(&loaded.warnings);
    let log = Arc::new(EventLog::start());
    for note in hardening::apply() {
        log.event(Level::Warn, &note);
    }
    if let Some(note) = hardening::too_few_files(&loaded.settings.limits.admission) {
        log.event(Level::Warn, &note);
    }
    let code = match serve(loaded, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log.event(Level::Error, &why);
            ExitCode::from(CANNOT)
        }
    };
    log.flush();
    code
}

fn serve(loaded: Loaded, log: &Arc<EventLog>) -> Result<(), String> {
    let mut termination = Termination::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let routes = loaded.settings.routes.len();
    for warning in moment_warnings(&loaded.settings, Clock::start().now()) {
        log.event(Level::Warn, &warning);
    }
    let (plan, names) = plan(loaded);
    let desk = Arc::new(FrontDesk::new(plan.clock.clone(), Arc::clone(&plan.metrics), Arc::clone(log)));
    // Before the workers: whoever asks whether the process lives has an answer while it starts.
    let _admin = plan.admin.clone().map(|admin| open_admin(admin, &desk, &plan.metrics, log)).transpose()?;
    let _resolver = Resolver::start(names, Arc::clone(log));
    let observer: Arc<dyn Observer> = Arc::<EventLog>::clone(log);
    let running = supervisor::start(plan, observer).map_err(|error| error.to_string())?;
    desk.open(&running);
    announce(&running, routes, log);
    let signal = termination.wait();
    desk.close();
    log.event(Level::Info, &format!("{signal}: stopping, exchanges in flight are finished"));
    thread::spawn(move || {
        termination.wait();
        // A second signal means: now.
        std::process::exit(i32::from(CANNOT));
    });
    match running.stop() {
        0 => log.event(Level::Info, "stopped"),
        cut => log.event(Level::Warn, &format!("stopped; {cut} exchanges were cut off at the end of the grace period")),
    }
    Ok(())
}

fn open_admin(plan: AdminPlan, desk: &Arc<FrontDesk>, metrics: &Arc<Metrics>, log: &EventLog) -> Result<Admin, String> {
    let cannot = |error: std::io::Error| format!("cannot open the admin port at {}: {error}", plan.address);
    let bound = server::bind(&plan.address).map_err(cannot)?;
    log.event(Level::Info, &format!("admin port at {}", bound.address));
    let desk: Arc<dyn Desk> = Arc::<FrontDesk>::clone(desk);
    Admin::start(bound, plan.access.clone(), desk, Arc::clone(metrics)).map_err(cannot)
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
