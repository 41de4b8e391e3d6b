//! What the admin port is told of the process, and what it may ask for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::admin::desk::{Desk, Errand, InboxWish, Phase};
use crate::admin::pairing::PairingWish;
use crate::config::source::ConfigSource;
use crate::edge::clock::Clock;
use crate::edge::driver::Driver;
use crate::edge::shared::standing::EngineStanding;
use crate::edge::snapshot::Published;
use crate::edge::tls::door::TlsDoor;
use crate::gate::admission::Admission;
use crate::inbox::operation::InboxReport;
use crate::now::Now;
use crate::telemetry::capture::Captured;
use crate::telemetry::health::HealthReading;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readings::{
    KeyReading, ProcessIdentity, Readings, ReloadReading, ReplayReading, SharedReading, Usage,
};

use super::durable::gate::GateState;
use super::durable::service::InboxService;
use super::event_log::{EventLog, Level};
use super::explained::{cause, explained};
use super::lookout::Lookout;
use super::operated;
use super::pairing::Pairing;
use super::phase::Phases;
use super::publishers::Publishers;
use super::records::Records;
use super::reloader::{ReloadStatus, Reloaded, Reloader};
use super::signals::Departure;
use super::supervisor::Running;
use super::vitals;

/// The desk of a process. It is there before the workers are, so that probes can be answered while it starts.
pub struct FrontDesk {
    clock: Clock,
    metrics: Arc<Metrics>,
    log: Arc<EventLog>,
    records: Arc<Records>,
    started: Option<Duration>,
    identity: ProcessIdentity,
    open: OnceLock<OpenDesk>,
    inbox: OnceLock<Arc<InboxService>>,
}

/// What there is to turn to once the workers run.
struct OpenDesk {
    interior: Interior,
    reloader: Reloader,
    departure: Departure,
    lookout: Arc<Lookout>,
    publishers: Arc<Publishers>,
    source: ConfigSource,
}

/// What is outside of the process, and what looks after it.
pub struct Looking {
    /// The applications.
    pub lookout: Arc<Lookout>,
    /// The publishers of keys.
    pub publishers: Arc<Publishers>,
    /// The configuration.
    pub source: ConfigSource,
}

/// What there is to read of running workers.
pub struct Interior {
    admission: Arc<Admission>,
    policy: Arc<Published>,
    phases: Arc<Phases>,
    engine: Option<Arc<EngineStanding>>,
    drivers: Vec<&'static str>,
    fallback: Option<String>,
}

impl FrontDesk {
    /// The desk of a process that is starting.
    #[must_use]
    pub fn new(
        clock: Clock,
        metrics: Arc<Metrics>,
        log: Arc<EventLog>,
        records: Arc<Records>,
        identity: ProcessIdentity,
    ) -> Self {
        let started = vitals::started();
        let (open, inbox) = (OnceLock::new(), OnceLock::new());
        Self { clock, metrics, log, records, started, identity, open, inbox }
    }

    /// There is an inbox.
    pub fn show_inbox(&self, inbox: Arc<InboxService>) {
        let _ = self.inbox.set(inbox);
    }

    /// Every worker accepts, and what may be asked for can be done.
    pub fn open(&self, interior: Interior, reloader: Reloader, departure: Departure, looking: Looking) {
        let Looking { lookout, publishers, source } = looking;
        let _ = self.open.set(OpenDesk { interior, reloader, departure, lookout, publishers, source });
    }
}

impl Interior {
    /// Of these workers.
    #[must_use]
    pub fn of(running: &Running) -> Self {
        Self {
            admission: Arc::clone(&running.admission),
            policy: Arc::clone(&running.policy),
            phases: Arc::clone(&running.phases),
            engine: running.engine.clone(),
            drivers: running.drivers.iter().copied().map(Driver::name).collect(),
            fallback: running.fallback.clone(),
        }
    }

    /// Where the process is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phases.current()
    }

    /// Why a request that is kept was refused, by the keys that count at present.
    #[must_use]
    pub fn explain(&self, kept: &[Arc<Captured>], request_id: &[u8; 32]) -> Errand {
        let Some(captured) = kept.iter().find(|captured| captured.request_id == *request_id) else {
            return Errand::Failed("no request with this id is kept any more".to_owned());
        };
        let policy = self.policy.current();
        match policy.gate.routes.routes().iter().find(|route| *route.name == captured.route) {
            Some(route) => Errand::Done(explained(captured, &route.verifier)),
            None => Errand::Failed(format!("there is no route {} any more", captured.route)),
        }
    }

    /// The codes of what explains why a request that is kept was refused, where that is found.
    pub(super) fn cause(&self, captured: &Captured) -> Option<String> {
        let policy = self.policy.current();
        let route = policy.gate.routes.routes().iter().find(|route| *route.name == captured.route)?;
        cause(captured, &route.verifier)
    }

    /// Reads what there is to be read of workers and policy.
    pub fn read(&self, readings: &mut Readings) {
        let (held, bounds) = (self.admission.held(), self.admission.bounds());
        readings.connections = Usage { held: held.connections, limit: bounds.connections };
        readings.requests = Usage { held: held.requests, limit: bounds.requests };
        readings.body_memory = Usage { held: held.body_memory, limit: bounds.body_memory };
        readings.handshakes = Usage { held: held.handshakes, limit: bounds.handshakes };
        readings.handshakes_over_rate = Usage { held: held.handshakes_over_rate, limit: bounds.handshakes_over_rate };
        readings.suspects = Usage { held: held.suspects, limit: bounds.suspects };
        readings.suspect_memory = Usage { held: held.suspect_memory, limit: bounds.suspect_memory };
        readings.drivers.clone_from(&self.drivers);
        readings.fallback.clone_from(&self.fallback);
        readings.generation = self.policy.generation();
        let policy = self.policy.current();
        let doors = policy.live.tls.iter().flatten();
        readings.certificates = doors.clone().flat_map(TlsDoor::certificates).cloned().collect();
        readings.authorities = doors.flat_map(TlsDoor::authorities).cloned().collect();
        let routes = policy.gate.routes.routes();
        for route in routes {
            readings.keys.extend(route.verifier.keys().iter().map(|key| KeyReading {
                route: route.name.clone(),
                key: key.id().to_owned(),
                not_before: key.validity().not_before,
                not_after: key.validity().not_after,
                since: None,
            }));
        }
        for (route, ledger) in routes.iter().zip(&policy.live.ledgers) {
            let Some(ledger) = ledger else { continue };
            readings.replay.push(ReplayReading {
                route: route.name.clone(),
                entries: Usage { held: ledger.held() as u64, limit: ledger.capacity() as u64 },
                claims: ledger.claimed() as u64,
            });
        }
    }
}

impl Desk for FrontDesk {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn phase(&self) -> Phase {
        self.open.get().map_or(Phase::Starting, |open| open.interior.phases.current())
    }

    fn readings(&self) -> Readings {
        let mut readings = Readings {
            log_dropped: self.log.left_out(),
            records: self.records.reading(),
            identity: self.identity.clone(),
            inbox: self.inbox.get().map(|inbox| inbox.reading(self.clock.now())),
            ..readings_of(&self.metrics, self.started)
        };
        if let Some(open) = self.open.get() {
            open.interior.read(&mut readings);
            readings.shared = open.interior.engine.as_deref().map(engine);
            let status = open.reloader.status();
            readings.reload = Some(told(&status));
            date(&mut readings.keys, &status.keys);
            readings.health = open.lookout.readings();
            readings.publishers = open.publishers.readings();
            readings.ranges = open.publishers.range_readings();
        }
        readings
    }

    fn health(&self) -> Vec<HealthReading> {
        self.open.get().map(|open| open.lookout.readings()).unwrap_or_default()
    }

    fn captured(&self) -> Option<Vec<Arc<Captured>>> {
        self.records.captured()
    }

    fn explain(&self, request_id: &[u8; 32]) -> Errand {
        let Some(open) = self.open.get() else { return not_yet() };
        open.interior.explain(&self.records.captured().unwrap_or_default(), request_id)
    }

    fn reload(&self) -> Errand {
        let Some(open) = self.open.get() else { return not_yet() };
        match open.reloader.request() {
            Ok(Reloaded::Unchanged) => Errand::Done("nothing has changed".to_owned()),
            Ok(Reloaded::Changed { generation, changes }) => {
                let changes = if changes.is_empty() { "nothing that counts".to_owned() } else { changes.join("; ") };
                Errand::Done(format!("configuration {generation} is in force: {changes}"))
            }
            Err(error) => Errand::Failed(error.to_string()),
        }
    }

    fn pair(&self, wish: &PairingWish) -> Errand {
        let Some(open) = self.open.get() else { return not_yet() };
        let pairing = Pairing {
            source: open.source.clone(),
            admission: Arc::clone(&open.interior.admission),
            reloader: open.reloader.clone(),
            clock: self.clock.clone(),
            log: Arc::clone(&self.log),
        };
        match pairing.carry_out(wish) {
            Ok(words) => Errand::Done(words),
            Err(words) => Errand::Failed(words),
        }
    }

    fn inbox(&self, wish: &InboxWish<'_>) -> Option<Result<InboxReport, String>> {
        let inbox = self.inbox.get()?;
        let state = inbox.gate().state();
        if state != GateState::Open {
            return Some(Err(format!("the inbox is {}: try again when it is open", state.word())));
        }
        let done = inbox.gate().door().operate(wish.operation.clone()).map_err(|error| error.to_string());
        operated::tell(&self.log, &self.records, wish, &done);
        Some(done)
    }

    fn drain(&self) -> Errand {
        let Some(open) = self.open.get() else { return not_yet() };
        let phase = self.phase();
        if phase != Phase::Ready {
            return Errand::Done(format!("{} already", phase.name()));
        }
        self.log.event(Level::Info, "the admin port was asked to drain: the process ends as after SIGTERM");
        // Here already, so that `/ready` says no when this is answered.
        open.interior.phases.advance(Phase::Draining);
        match open.departure.request() {
            Ok(()) => Errand::Done("draining, as after SIGTERM: the process ends when it is done".to_owned()),
            Err(error) => Errand::Failed(format!("the process cannot be told to stop: {error}")),
        }
    }
}

/// What the system says of this process and its workers.
#[must_use]
pub fn readings_of(metrics: &Metrics, started: Option<Duration>) -> Readings {
    let cpu = |cells: &crate::telemetry::WorkerCells| vitals::thread_cpu(cells.thread()).unwrap_or_default();
    let worker_cpu = metrics.workers().iter().map(cpu).collect();
    Readings { worker_cpu, vitals: vitals::read(started), ..Readings::default() }
}

fn engine(standing: &EngineStanding) -> SharedReading {
    SharedReading {
        server: standing.server(),
        connected: standing.connected() as u64,
        workers: standing.workers() as u64,
        trouble: standing.trouble().map(|trouble| (trouble.code(), trouble.meaning())),
    }
}

fn not_yet() -> Errand {
    Errand::Failed("not yet: the process is starting".to_owned())
}

/// Says since when keys have been what they are. One that came with a reload that is just ending has no time yet.
fn date(keys: &mut [KeyReading], known: &[(String, String, i64)]) {
    for key in keys {
        let found = known.iter().find(|(route, id, _)| *route == key.route && *id == key.key);
        key.since = found.map(|(_, _, since)| *since);
    }
}

fn told(status: &ReloadStatus) -> ReloadReading {
    let failed = status.last_error.as_ref().map(|error| error.at);
    ReloadReading {
        succeeded: status.attempts.saturating_sub(status.failures),
        failed: status.failures,
        at: status.last_success.max(failed).unwrap_or_default().as_secs(),
        error: status.last_error.as_ref().map(|error| error.text.to_string()),
    }
}
