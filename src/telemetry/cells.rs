//! Where workers count: cells of their own for each route, key and upstream, so that no core waits for another one's
//! cache line. They are added up when they are read.

use core::time::Duration;
use std::sync::Arc;

use super::engine::EngineCells;
use super::exchange::Exchange;
use super::handshake::Handshake;
use super::histogram::{Distribution, Histogram};
use super::refusals::Refusals;
use super::suspicion::Suspicion;
use super::tally::Tally;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::wire::head::ResponseError;

/// Classes of status codes, from 1xx to 5xx.
pub(super) const CLASSES: usize = 5;

/// What one worker has counted on one route.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct RouteCells {
    forwarded: [Tally; CLASSES],
    accepted: Tally,
    received: Tally,
    sent: Tally,
    /// Unix seconds of the last delivery that was forwarded.
    last: Tally,
    total: Histogram,
    upstream: Histogram,
    answered: Tally,
    rejected: [Tally; Rejection::ALL.len()],
    failed: [Tally; Fault::ALL.len()],
    broken_rules: [Tally; ResponseError::ALL.len()],
    observed: [Tally; Rejection::ALL.len()],
}

fn zeros<const N: usize>() -> [Tally; N] {
    core::array::from_fn(|_| Tally::default())
}

impl Default for RouteCells {
    fn default() -> Self {
        Self {
            forwarded: zeros(),
            accepted: Tally::default(),
            received: Tally::default(),
            sent: Tally::default(),
            last: Tally::default(),
            total: Histogram::default(),
            upstream: Histogram::default(),
            answered: Tally::default(),
            rejected: zeros(),
            failed: zeros(),
            broken_rules: zeros(),
            observed: zeros(),
        }
    }
}

fn add_one(cells: &[Tally], position: usize) {
    if let Some(cell) = cells.get(position) {
        cell.add(1);
    }
}

impl RouteCells {
    fn count(&self, exchange: &Exchange<'_>) {
        match exchange.outcome {
            Outcome::Forwarded { status } => {
                add_one(&self.forwarded, usize::from(status / 100).clamp(1, CLASSES) - 1);
                self.total.record(exchange.stages.total());
                self.last.set(exchange.ended.unix.as_secs());
            }
            Outcome::Answered { .. } => self.answered.add(1),
            Outcome::Accepted { .. } => {
                self.accepted.add(1);
                self.total.record(exchange.stages.total());
                self.last.set(exchange.ended.unix.as_secs());
            }
            Outcome::Rejected(rejection) => add_one(&self.rejected, rejection as usize),
            Outcome::Failed(fault) => {
                add_one(&self.failed, fault as usize);
                exchange.broken_rule.into_iter().for_each(|rule| add_one(&self.broken_rules, rule as usize));
            }
        }
        if let Some(upstream) = exchange.stages.upstream() {
            self.upstream.record(upstream);
        }
        if !exchange.observed.is_empty() {
            exchange.observed.iter().for_each(|rejection| add_one(&self.observed, rejection as usize));
        }
        self.received.add(exchange.received);
        self.sent.add(exchange.sent);
    }
}

/// One route, in all workers. Requests that fell under no route have one without a name.
#[derive(Debug)]
pub struct RouteSeries {
    /// The name of the route.
    pub name: Arc<str>,
    /// The name of its scheme.
    pub scheme: String,
    cells: Box<[RouteCells]>,
}

/// What all workers have counted on one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTotals {
    /// Answers of the application by class, from 1xx to 5xx.
    pub forwarded: [u64; CLASSES],
    /// Handshakes that were answered here.
    pub answered: u64,
    /// Deliveries that were stored, and acknowledged at once.
    pub accepted: u64,
    /// Refusals, in the order of the table of outcomes.
    pub rejected: Vec<u64>,
    /// Faults, in the order of the table of outcomes.
    pub failed: Vec<u64>,
    /// Rules that answers of the application broke, in the order of their table.
    pub broken_rules: Vec<u64>,
    /// What was only observed, in the order of the table of outcomes.
    pub observed: Vec<u64>,
    /// Bytes of request bodies.
    pub received: u64,
    /// Bytes of answer bodies.
    pub sent: u64,
    /// Unix seconds of the last delivery that was forwarded; 0 before the first.
    pub last: u64,
    /// Whole time of forwarded exchanges.
    pub total: Distribution,
    /// Time that the application took.
    pub upstream: Distribution,
}

impl RouteSeries {
    pub(super) fn new(name: Arc<str>, scheme: &str, workers: usize) -> Self {
        Self { name, scheme: scheme.to_owned(), cells: each(workers) }
    }

    /// Counts an exchange on the worker that served it.
    pub(super) fn count(&self, exchange: &Exchange<'_>) {
        if let Some(cells) = self.cells.get(exchange.worker) {
            cells.count(exchange);
        }
    }

    /// Adds up what the workers have counted.
    #[must_use]
    pub fn totals(&self) -> RouteTotals {
        let list = |of: fn(&RouteCells) -> &[Tally], length: usize| -> Vec<u64> {
            let at = |position| self.sum(|cells| of(cells).get(position).map_or(0, Tally::get));
            (0..length).map(at).collect()
        };
        let mut totals = RouteTotals {
            forwarded: core::array::from_fn(|class| self.sum(|cells| cells.forwarded.get(class).map_or(0, Tally::get))),
            answered: self.sum(|cells| cells.answered.get()),
            accepted: self.sum(|cells| cells.accepted.get()),
            rejected: list(|cells| &cells.rejected, Rejection::ALL.len()),
            failed: list(|cells| &cells.failed, Fault::ALL.len()),
            broken_rules: list(|cells| &cells.broken_rules, ResponseError::ALL.len()),
            observed: list(|cells| &cells.observed, Rejection::ALL.len()),
            received: self.sum(|cells| cells.received.get()),
            sent: self.sum(|cells| cells.sent.get()),
            last: self.cells.iter().map(|cells| cells.last.get()).max().unwrap_or_default(),
            ..RouteTotals::default()
        };
        for cells in &self.cells {
            totals.total.add(&cells.total);
            totals.upstream.add(&cells.upstream);
        }
        totals
    }

    fn sum(&self, of: impl Fn(&RouteCells) -> u64) -> u64 {
        self.cells.iter().map(of).sum()
    }
}

impl RouteTotals {
    /// Deliveries that reached the application and were answered.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.forwarded.iter().sum()
    }

    /// Refusals by this rule.
    #[must_use]
    pub fn rejected(&self, rejection: Rejection) -> u64 {
        self.rejected.get(rejection as usize).copied().unwrap_or_default()
    }

    /// What was only observed of this rule.
    #[must_use]
    pub fn observed(&self, rejection: Rejection) -> u64 {
        self.observed.get(rejection as usize).copied().unwrap_or_default()
    }

    /// Duplicates that were acknowledged: refused, but not in the eyes of the sender.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.rejected(Rejection::Duplicate)
    }

    /// Refusals by rule, without acknowledged duplicates.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.rejected.iter().sum::<u64>() - self.acknowledged()
    }

    /// Exchanges in which something broke.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.failed.iter().sum()
    }
}

/// One key of one route, in all workers.
#[derive(Debug)]
pub struct KeySeries {
    /// The name of the route.
    pub route: Arc<str>,
    /// The id of the key.
    pub key: Arc<str>,
    cells: Box<[KeyCells]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct KeyCells {
    matched: Tally,
    last: Tally,
}

impl KeySeries {
    pub(super) fn new(route: Arc<str>, key: Arc<str>, workers: usize) -> Self {
        Self { route, key, cells: each(workers) }
    }

    pub(super) fn count(&self, exchange: &Exchange<'_>) {
        if let Some(cells) = self.cells.get(exchange.worker) {
            cells.matched.add(1);
            cells.last.set(exchange.ended.unix.as_secs());
        }
    }

    /// Deliveries that were found genuine by this key.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.cells.iter().map(|cells| cells.matched.get()).sum()
    }

    /// Unix seconds of the last one; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.cells.iter().map(|cells| cells.last.get()).max().unwrap_or_default()
    }
}

/// The connections to one application, in all workers.
#[derive(Debug)]
pub struct UpstreamSeries {
    /// As the configuration has it.
    pub name: String,
    cells: Box<[UpstreamCells]>,
}

/// The connections of one worker to one application.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct UpstreamCells {
    /// Connections that were made.
    pub opened: Tally,
    /// Deliveries that went over one that was there.
    pub reused: Tally,
    /// Attempts that failed.
    pub failed: Tally,
    /// Connections that were closed because the application had sent something beyond its answer.
    pub strays: Tally,
    /// Connections that wait.
    pub idle: Tally,
}

/// What all workers have of one application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTotals {
    /// Connections that were made.
    pub opened: u64,
    /// Deliveries that went over one that was there.
    pub reused: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Connections that were closed because the application had sent something beyond its answer.
    pub strays: u64,
    /// Connections that wait.
    pub idle: u64,
}

impl UpstreamSeries {
    pub(super) fn new(name: String, workers: usize) -> Self {
        Self { name, cells: each(workers) }
    }

    /// Adds up what the workers have counted.
    #[must_use]
    pub fn totals(&self) -> UpstreamTotals {
        let sum = |of: fn(&UpstreamCells) -> &Tally| self.cells.iter().map(|cells| of(cells).get()).sum();
        UpstreamTotals {
            opened: sum(|cells| &cells.opened),
            reused: sum(|cells| &cells.reused),
            failed: sum(|cells| &cells.failed),
            strays: sum(|cells| &cells.strays),
            idle: sum(|cells| &cells.idle),
        }
    }
}

/// The cells of one worker, which keeps them with its pool of connections.
#[derive(Clone, Debug)]
pub struct PoolMeter {
    series: Arc<UpstreamSeries>,
    worker: usize,
}

impl PoolMeter {
    pub(super) const fn new(series: Arc<UpstreamSeries>, worker: usize) -> Self {
        Self { series, worker }
    }

    /// The cells, if the process has so many workers.
    #[must_use]
    pub fn cells(&self) -> Option<&UpstreamCells> {
        self.series.cells.get(self.worker)
    }
}

/// What one worker says of itself.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCells {
    beat: Tally,
    thread: Tally,
    accepted: Tally,
    idle: Tally,
    handshakes: [Tally; Handshake::ALL.len()],
    over_rate: Tally,
    waiting: Tally,
    suspicions: [Tally; Suspicion::ALL.len()],
    unheard: Tally,
    pub(super) refusals: Refusals,
    /// What it asks the shared engine.
    pub engine: EngineCells,
}

impl WorkerCells {
    /// The worker is alive at `monotonic`, and has so many idle connections and so many that wait for their turns.
    pub fn beat(&self, monotonic: Duration, idle: usize, waiting: usize) {
        self.waiting.set(waiting as u64);
        self.beat.set(u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX));
        self.idle.set(idle as u64);
    }

    /// The worker runs on this thread of the system.
    pub fn runs_on(&self, thread: u64) {
        self.thread.set(thread);
    }

    /// A connection was accepted and let in.
    pub fn accepted(&self) {
        self.accepted.add(1);
    }

    /// A TLS handshake has let a client in.
    pub fn secured(&self, handshake: Handshake) {
        add_one(&self.handshakes, handshake as usize);
    }

    /// A TLS handshake was begun by a client over its rate.
    pub fn handshake_over_rate(&self) {
        self.over_rate.add(1);
    }

    /// Such handshakes so far, whether they have let a client in or not.
    #[must_use]
    pub fn handshakes_over_rate(&self) -> u64 {
        self.over_rate.get()
    }

    /// A request of a client that is over its budget has ended.
    pub fn suspected(&self, suspicion: Suspicion) {
        add_one(&self.suspicions, suspicion as usize);
    }

    /// Requests that have ended like this so far.
    #[must_use]
    pub fn suspicions(&self, suspicion: Suspicion) -> u64 {
        self.suspicions.get(suspicion as usize).map_or(0, Tally::get)
    }

    /// A genuine delivery had an `X-Forwarded-For` from a peer that is not trusted.
    pub fn forwarded_for_unheard(&self) {
        self.unheard.add(1);
    }

    /// Such deliveries so far.
    #[must_use]
    pub fn unheard(&self) -> u64 {
        self.unheard.get()
    }

    /// Connections that wait for their turns, as of the last beat.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.get()
    }

    /// Such handshakes so far.
    #[must_use]
    pub fn handshakes(&self, handshake: Handshake) -> u64 {
        self.handshakes.get(handshake as usize).map_or(0, Tally::get)
    }

    /// When it was last alive.
    #[must_use]
    pub fn last_beat(&self) -> Duration {
        Duration::from_millis(self.beat.get())
    }

    /// The thread of the system that it runs on; 0 before it does.
    #[must_use]
    pub fn thread(&self) -> u64 {
        self.thread.get()
    }

    /// Connections that it has let in.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.accepted.get()
    }

    /// Connections that wait, as of the last beat.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.idle.get()
    }
}

pub(super) fn each<T: Default>(workers: usize) -> Box<[T]> {
    (0..workers).map(|_| T::default()).collect()
}
