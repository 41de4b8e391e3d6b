//! What the admin port is told of the process, and what it may ask for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::admin::desk::{Desk, Errand, Phase};
use crate::edge::clock::Clock;
use crate::edge::driver::Driver;
use crate::edge::snapshot::Published;
use crate::gate::admission::Admission;
use crate::now::Now;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readings::{KeyReading, Level, Readings, ReplayReading};

use super::event_log::EventLog;
use super::phase::{self, Phases};
use super::supervisor::Running;
use super::vitals;

/// The desk of a process. It is there before the workers are, so that probes can be answered while it starts.
pub struct FrontDesk {
    clock: Clock,
    metrics: Arc<Metrics>,
    log: Arc<EventLog>,
    started: Option<Duration>,
    live: OnceLock<Live>,
}

/// What there is to read once the workers run.
struct Live {
    admission: Arc<Admission>,
    policy: Arc<Published>,
    phases: Arc<Phases>,
    drivers: Vec<&'static str>,
    fallback: Option<String>,
}

impl FrontDesk {
    /// The desk of a process that is starting.
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>, log: Arc<EventLog>) -> Self {
        let started = vitals::started();
        Self { clock, metrics, log, started, live: OnceLock::new() }
    }

    /// Every worker accepts.
    pub fn open(&self, running: &Running) {
        let live = Live {
            admission: Arc::clone(&running.admission),
            policy: Arc::clone(&running.policy),
            phases: Arc::clone(&running.phases),
            drivers: running.drivers.iter().copied().map(Driver::name).collect(),
            fallback: running.fallback.clone(),
        };
        let _ = self.live.set(live);
    }

    fn read_live(&self, live: &Live, readings: &mut Readings) {
        let (held, bounds) = (live.admission.held(), live.admission.bounds());
        readings.connections = Level { held: held.connections, limit: bounds.connections };
        readings.requests = Level { held: held.requests, limit: bounds.requests };
        readings.body_memory = Level { held: held.body_memory, limit: bounds.body_memory };
        readings.drivers.clone_from(&live.drivers);
        readings.fallback.clone_from(&live.fallback);
        readings.generation = live.policy.generation();
        let policy = live.policy.current();
        let routes = policy.gate.routes.routes();
        for route in routes {
            readings.keys.extend(route.verifier.keys().iter().map(|key| KeyReading {
                route: route.name.clone(),
                key: key.id().to_owned(),
                not_before: key.validity().not_before,
                not_after: key.validity().not_after,
            }));
        }
        for (route, table) in routes.iter().zip(&policy.live.replay_tables) {
            let Some(table) = table else { continue };
            readings.replay.push(ReplayReading {
                route: route.name.clone(),
                entries: Level { held: table.held() as u64, limit: table.capacity() as u64 },
                claims: table.claimed() as u64,
            });
        }
    }
}

impl Desk for FrontDesk {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn phase(&self) -> Phase {
        self.live.get().map_or(Phase::Starting, |live| match live.phases.current() {
            phase::Phase::Starting => Phase::Starting,
            phase::Phase::Ready => Phase::Ready,
            phase::Phase::Draining => Phase::Draining,
            phase::Phase::Stopping => Phase::Stopping,
        })
    }

    fn readings(&self) -> Readings {
        let cpu = |cells: &crate::telemetry::WorkerCells| vitals::thread_cpu(cells.thread()).unwrap_or_default();
        let mut readings = Readings {
            worker_cpu: self.metrics.workers().iter().map(cpu).collect(),
            log_dropped: self.log.left_out(),
            vitals: vitals::read(self.started),
            ..Readings::default()
        };
        if let Some(live) = self.live.get() {
            self.read_live(live, &mut readings);
        }
        readings
    }

    fn reload(&self) -> Errand {
        Errand::Unavailable("this process reads its configuration once: restart it".to_owned())
    }

    fn drain(&self) -> Errand {
        Errand::Unavailable("this process stops when it is sent SIGTERM".to_owned())
    }
}
