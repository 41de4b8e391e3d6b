//! Looks after the applications that `/ready` asks for, on a thread of its own: at what has become of their deliveries,
//! which the workers count anyhow, and where there were none, at whether they accept a connection.
//!
//! What is thought of them is decided in [`crate::telemetry::health`]; here is where it is kept, through reloads too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::config::section::ready::Readiness;
use crate::edge::clock::Clock;
use crate::edge::policy::Target;
use crate::edge::snapshot::Published;
use crate::telemetry::health::{Health, HealthReading, Look, Standing, Thresholds, Traffic};
use crate::telemetry::metrics::Metrics;

use super::event_log::{EventLog, Level};
use super::phase::Phases;
use super::probe::probe;
use super::supervisor::Running;

/// Applications that are connected to at the same time, on threads beside the one that looks: one that is slow to refuse
/// holds up neither the others nor the next look at them.
const AT_ONCE: usize = 16;

/// Looks after applications until it is dropped.
#[derive(Debug)]
pub struct Lookout {
    view: View,
    kept: Arc<Mutex<LookoutState>>,
    wake: Sender<()>,
}

/// What there is to look at.
#[derive(Clone, Debug)]
struct View {
    policy: Arc<Published>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// What is asked for, and what is thought of it.
#[derive(Debug, Default)]
struct LookoutState {
    asked: Option<Readiness>,
    watched: Vec<Watched>,
    /// Those that are to be connected to, and have not been so far.
    questions: VecDeque<Question>,
    /// They, and those that are being connected to.
    asking: BTreeSet<String>,
    /// Threads that connect.
    connectors: usize,
}

/// One application.
#[derive(Debug)]
struct Watched {
    /// As it is configured.
    name: String,
    target: Target,
    connect_timeout: Duration,
    /// The routes that forward to it, and what has come over each until the last look.
    routes: BTreeMap<String, Traffic>,
    health: Health,
    since: u64,
}

/// What is to be asked of an application itself.
type Question = (String, Target, Duration);

impl Lookout {
    /// Looks after the applications of these workers.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(running: &Running, asked: Option<Readiness>, log: Arc<EventLog>) -> io::Result<Self> {
        let (policy, metrics) = (Arc::clone(&running.policy), Arc::clone(&running.metrics));
        let view = View { policy, metrics, clock: running.clock.clone() };
        let kept = Arc::new(Mutex::new(LookoutState { asked, ..LookoutState::default() }));
        lock(&kept).follow(&view, false);
        let (wake, woken) = channel();
        let rounds =
            ProbeRounds { view: view.clone(), kept: Arc::clone(&kept), phases: Arc::clone(&running.phases), log };
        thread::Builder::new().name("lookout".to_owned()).spawn(move || rounds.run(&woken))?;
        Ok(Self { view, kept, wake })
    }

    /// From now on this is asked for, of the policy that is in force now. An application that stays keeps what is thought
    /// of it. One that comes into a process that is ready counts as reached until it has been missed often enough: a
    /// reload by itself takes no traffic away.
    pub fn follow(&self, asked: Option<Readiness>) {
        let mut kept = lock(&self.kept);
        let ready = kept.watched.iter().all(|watched| watched.health.is_good());
        kept.asked = asked;
        kept.follow(&self.view, ready);
        drop(kept);
        // The thread ends only after this end of the channel does.
        let _ = self.wake.send(());
    }

    /// What is thought of each application that is asked for.
    #[must_use]
    pub fn readings(&self) -> Vec<HealthReading> {
        let read = |watched: &Watched| HealthReading {
            upstream: watched.name.clone(),
            standing: watched.health.standing(),
            good: watched.health.is_good(),
            trouble: watched.health.trouble().map(ToOwned::to_owned),
            since: watched.since,
        };
        lock(&self.kept).watched.iter().map(read).collect()
    }
}

fn lock(kept: &Mutex<LookoutState>) -> MutexGuard<'_, LookoutState> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// What has come over each route so far.
    fn traffic(&self) -> BTreeMap<String, Traffic> {
        let routes = self.metrics.registered().routes;
        routes.iter().map(|series| (series.name.to_string(), Traffic::of(&series.totals()))).collect()
    }
}

impl LookoutState {
    /// Watches the applications of the policy in force that are asked for, and no others.
    fn follow(&mut self, view: &View, presumed: bool) {
        let mut known: BTreeMap<String, Watched> =
            self.watched.drain(..).map(|watched| (watched.name.clone(), watched)).collect();
        let Some(asked) = &self.asked else { return };
        let (policy, traffic, now) = (view.policy.current(), view.traffic(), view.clock.now().unix.as_secs());
        for (position, (address, upstream)) in policy.gate.upstreams.iter().zip(&policy.upstreams).enumerate() {
            if !asked.asks_for(address) {
                continue;
            }
            let name = address.to_string();
            let before = known.remove(&name);
            let (health, since, mut before) = match before {
                Some(Watched { health, since, routes, .. }) => (health, since, routes),
                None => (Health::unknown(presumed), now, BTreeMap::new()),
            };
            // What a route has counted while it led elsewhere is not this application's.
            let routes = policy.gate.routes.routes().iter().filter(|route| route.upstream == position);
            let routes = routes.map(|route| {
                let so_far = || traffic.get(&route.name).cloned().unwrap_or_default();
                (route.name.clone(), before.remove(&route.name).unwrap_or_else(so_far))
            });
            let (target, connect_timeout) = (upstream.target.clone(), upstream.connect_timeout);
            let routes = routes.collect();
            self.watched.push(Watched { name, target, connect_timeout, routes, health, since });
        }
    }

    /// What the deliveries since the last look say. Who is to be connected to because they say nothing, is noted.
    fn read(&mut self, view: &View) -> Vec<(String, Look)> {
        let mut looks = Vec::new();
        let traffic = view.traffic();
        for watched in &mut self.watched {
            let mut sum = Traffic::default();
            for (route, until) in &mut watched.routes {
                let Some(so_far) = traffic.get(route) else { continue };
                sum.add(&so_far.since(until));
                until.clone_from(so_far);
            }
            match sum.look() {
                Some(look) => looks.push((watched.name.clone(), look)),
                // Unless the last answer is still awaited.
                None if self.asking.insert(watched.name.clone()) => self.questions.push_back(watched.question()),
                None => {}
            }
        }
        looks
    }

    /// How many more threads are to connect, from now on.
    fn hire(&mut self) -> usize {
        let more = self.questions.len().min(AT_ONCE.saturating_sub(self.connectors));
        self.connectors += more;
        more
    }

    /// What a thread that connects is to ask next; where there is nothing, it ends.
    fn next(&mut self) -> Option<Question> {
        let question = self.questions.pop_front();
        self.connectors -= usize::from(question.is_none());
        question
    }

    /// Takes looks into account; gives what is to be told of it.
    fn take(&mut self, looks: Vec<(String, Look)>, now: u64) -> Vec<(Level, String)> {
        let Some(asked) = &self.asked else { return Vec::new() };
        let thresholds = Thresholds { failures: asked.failures, successes: asked.successes };
        let mut lines = Vec::new();
        for (name, look) in looks {
            // It may have gone meanwhile.
            let Some(watched) = self.watched.iter_mut().find(|watched| watched.name == name) else { continue };
            if watched.health.look(look, thresholds) {
                watched.since = now;
                lines.push(watched.described());
            }
        }
        lines
    }
}

impl Watched {
    fn question(&self) -> Question {
        (self.name.clone(), self.target.clone(), self.connect_timeout)
    }

    fn described(&self) -> (Level, String) {
        let (name, why) = (&self.name, self.health.trouble().unwrap_or("nothing is known of it"));
        match self.health.standing() {
            Standing::Healthy => (Level::Info, format!("upstream {name} is healthy")),
            _ => (Level::Warn, format!("upstream {name} is unhealthy, so that /ready says no: {why}")),
        }
    }
}

/// The thread, and those that it starts to connect.
#[derive(Clone)]
struct ProbeRounds {
    view: View,
    kept: Arc<Mutex<LookoutState>>,
    phases: Arc<Phases>,
    log: Arc<EventLog>,
}

impl ProbeRounds {
    fn run(self, woken: &Receiver<()>) {
        let mut looked: Option<Duration> = None;
        loop {
            let wait = self.wait(looked);
            if wait.is_some_and(|wait| wait.is_zero()) {
                self.look();
                looked = Some(self.view.clock.monotonic());
                continue;
            }
            let woken = match wait {
                None => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => woken.recv_timeout(wait),
            };
            match woken {
                // An application that has just come is not left unknown for longer than it takes to look.
                Ok(()) if self.is_any_unknown() => looked = None,
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long until the next look; nothing where none is wanted.
    fn wait(&self, looked: Option<Duration>) -> Option<Duration> {
        let interval = lock(&self.kept).asked.as_ref()?.interval;
        let due = looked.map_or(Duration::ZERO, |looked| looked + interval);
        Some(due.saturating_sub(self.view.clock.monotonic()))
    }

    fn is_any_unknown(&self) -> bool {
        lock(&self.kept).watched.iter().any(|watched| watched.health.standing() == Standing::Unknown)
    }

    fn look(&self) {
        if !self.phases.is_ready() {
            return;
        }
        let looks = lock(&self.kept).read(&self.view);
        self.take(looks);
        let more = lock(&self.kept).hire();
        for _ in 0..more {
            let this = self.clone();
            // Where there can be no thread that says nothing of an application, and the next look tries again.
            if thread::Builder::new().name("probe".to_owned()).spawn(move || this.connect()).is_err() {
                lock(&self.kept).connectors -= 1;
            }
        }
    }

    /// Takes looks into account, and tells of what changes.
    fn take(&self, looks: Vec<(String, Look)>) {
        if !self.phases.is_ready() {
            // On the way out the answer is no in any case, and the application is probably leaving as well.
            return;
        }
        let now = self.view.clock.now().unix.as_secs();
        let lines = lock(&self.kept).take(looks, now);
        lines.iter().for_each(|(level, line)| self.log.event(*level, line));
    }

    /// Connects to one after the other.
    fn connect(&self) {
        loop {
            let Some((name, target, timeout)) = lock(&self.kept).next() else { return };
            let look = match probe(&target, timeout) {
                Ok(()) => Look::Good,
                Err(error) => Look::Bad(format!("cannot connect: {error}")),
            };
            lock(&self.kept).asking.remove(&name);
            self.take(vec![(name, look)]);
        }
    }
}
