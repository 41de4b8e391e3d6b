//! What the admin port is told of the process, and what it may ask for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::admin::desk::{Desk, Errand, Phase};
use crate::edge::clock::Clock;
use crate::edge::driver::Driver;
use crate::edge::policy::Policy;
use crate::gate::admission::Admission;
use crate::now::Now;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readings::{KeyReading, Level, Readings, ReplayReading};

use super::event_log::{self, EventLog};
use super::supervisor::Running;
use super::vitals;

/// The desk of a process. It is there before the workers are, so that probes can be answered while it starts.
pub struct FrontDesk {
    clock: Clock,
    metrics: Arc<Metrics>,
    log: Arc<EventLog>,
    started: Option<Duration>,
    phase: AtomicU8,
    live: OnceLock<Live>,
}

/// What there is to read once the workers run.
struct Live {
    admission: Arc<Admission>,
    policy: Arc<Policy>,
    drivers: Vec<&'static str>,
    fallback: Option<String>,
}

const PHASES: [Phase; 4] = [Phase::Starting, Phase::Ready, Phase::Draining, Phase::Stopping];

impl FrontDesk {
    /// The desk of a process that is starting.
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>, log: Arc<EventLog>) -> Self {
        let started = vitals::started();
        Self { clock, metrics, log, started, phase: AtomicU8::new(0), live: OnceLock::new() }
    }

    /// Every worker accepts.
    pub fn open(&self, running: &Running) {
        let live = Live {
            admission: Arc::clone(&running.admission),
            policy: Arc::clone(&running.policy),
            drivers: running.drivers.iter().copied().map(Driver::name).collect(),
            fallback: running.fallback.clone(),
        };
        let _ = self.live.set(live);
        self.go_to(Phase::Ready);
    }

    /// The process has been told to stop.
    pub fn close(&self) {
        self.go_to(Phase::Stopping);
    }

    /// There is no way back.
    fn go_to(&self, phase: Phase) -> bool {
        let position = PHASES.iter().position(|known| *known == phase).unwrap_or_default();
        let position = u8::try_from(position).unwrap_or_default();
        self.phase.fetch_max(position, Ordering::Relaxed) < position
    }

    fn read_live(&self, live: &Live, readings: &mut Readings) {
        let (held, limits) = (live.admission.held(), live.admission.limits());
        readings.connections = Level { held: held.connections, limit: limits.connections };
        readings.requests = Level { held: held.requests, limit: limits.requests_in_flight };
        readings.body_memory = Level { held: held.body_memory, limit: limits.body_memory };
        readings.drivers.clone_from(&live.drivers);
        readings.fallback.clone_from(&live.fallback);
        readings.generation = 1;
        let routes = live.policy.gate.routes.routes();
        for route in routes {
            readings.keys.extend(route.verifier.keys().iter().map(|key| KeyReading {
                route: route.name.clone(),
                key: key.id().to_owned(),
                not_before: key.validity().not_before,
                not_after: key.validity().not_after,
            }));
        }
        for (route, table) in routes.iter().zip(&live.policy.replay_tables) {
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
        PHASES.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or_default()
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
        match self.phase() {
            Phase::Starting => Errand::Failed("not yet: the process is starting".to_owned()),
            _ if self.go_to(Phase::Draining) => {
                let message = "draining: /ready says no from now on, deliveries that still come are served";
                self.log.event(event_log::Level::Info, message);
                Errand::Done(message.to_owned())
            }
            phase => Errand::Done(format!("{} already", phase.name())),
        }
    }
}
