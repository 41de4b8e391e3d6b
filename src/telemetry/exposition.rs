//! The page that Prometheus reads (text format 0.0.4).
//!
//! Each page is written by a recorder of the exporter that lives as long as the page: it holds what is true now and
//! nothing else, so that a route that is gone leaves no value behind, and a process that is never asked keeps nothing.
//! The recorder takes care of names, labels and their escaping. Histograms, whose samples it would have to be told one
//! by one ([`super::histogram`] says why not), are written beside it in the same form.

use core::fmt::Write;
use core::time::Duration;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::formatting::{sanitize_description, sanitize_label_value};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::cells::RouteTotals;
use super::deliveries::AttemptResult;
use super::engine::{EngineAsk, EngineEnd};
use super::handshake::Handshake;
use super::histogram::{BOUNDS_TEXT, Distribution};
use super::metrics::{Metrics, Registered};
use super::names::{self, MetricName};
use super::readings::{Readings, RecordsReading};
use super::suspicion::Suspicion;
use crate::outcome::{ConnectionEnd, Fault, Rejection, Side};
use crate::wire::head::ResponseError;

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page in the making.
struct Page {
    recorder: PrometheusRecorder,
    histograms: String,
}

const METADATA: Metadata<'static> = Metadata::new("countersign", Level::INFO, None);

impl Page {
    fn new() -> Self {
        Self { recorder: PrometheusBuilder::new().build_recorder(), histograms: String::new() }
    }

    fn key(name: &MetricName, values: &[&str]) -> Key {
        let labels: Vec<Label> =
            name.labels.iter().zip(values).map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
        Key::from_parts(name.name, labels)
    }

    fn counter(&self, name: &MetricName, values: &[&str], value: u64) {
        self.recorder.describe_counter(name.name.into(), Some(name.unit), name.help.into());
        self.recorder.register_counter(&Self::key(name, values), &METADATA).absolute(value);
    }

    fn gauge(&self, name: &MetricName, values: &[&str], value: f64) {
        self.recorder.describe_gauge(name.name.into(), Some(name.unit), name.help.into());
        self.recorder.register_gauge(&Self::key(name, values), &METADATA).set(value);
    }

    /// A counter of seconds is no whole number, which is all that the recorder's counters hold.
    fn seconds(&mut self, name: &MetricName, rows: &[(&str, Duration)]) {
        self.describe(name);
        for (value, seconds) in rows {
            let labels = match name.labels.first() {
                Some(label) => format!("{{{label}=\"{}\"}}", sanitize_label_value(value)),
                None => String::new(),
            };
            // Writing into a String cannot fail, here and below.
            let _ = writeln!(self.histograms, "{}{labels} {}", name.name, seconds.as_secs_f64());
        }
        self.histograms.push('\n');
    }

    fn distributions<'a>(&mut self, name: &MetricName, rows: impl Iterator<Item = (&'a str, &'a Distribution)>) {
        self.describe(name);
        let (base, label) = (name.name, name.labels.first().copied().unwrap_or_default());
        for (value, distribution) in rows {
            let value = sanitize_label_value(value);
            let mut cumulated = 0;
            for (count, bound) in distribution.buckets.iter().zip(BOUNDS_TEXT) {
                cumulated += count;
                let _ = writeln!(self.histograms, "{base}_bucket{{{label}=\"{value}\",le=\"{bound}\"}} {cumulated}");
            }
            let _ = writeln!(self.histograms, "{base}_sum{{{label}=\"{value}\"}} {}", distribution.sum_seconds());
            let _ = writeln!(self.histograms, "{base}_count{{{label}=\"{value}\"}} {cumulated}");
        }
        self.histograms.push('\n');
    }

    fn describe(&mut self, name: &MetricName) {
        let _ = writeln!(self.histograms, "# HELP {} {}", name.name, sanitize_description(name.help));
        let _ = writeln!(self.histograms, "# TYPE {} {}", name.name, name.kind.name());
    }

    /// The families in the order of their names, whatever order the recorder has them in.
    fn finish(self) -> String {
        let rendered = self.recorder.handle().render();
        let mut families: Vec<&str> = rendered.split("\n\n").chain(self.histograms.split("\n\n")).collect();
        families.retain(|family| !family.trim().is_empty());
        families.sort_unstable();
        families.iter().fold(String::with_capacity(rendered.len() + self.histograms.len()), |mut page, family| {
            page.push_str(family.trim_matches('\n'));
            page.push('\n');
            page
        })
    }
}

/// What the page says beside what is counted.
#[derive(Clone, Copy, Debug)]
pub struct Scrape<'a> {
    /// The live state.
    pub readings: &'a Readings,
    /// The monotonic clock.
    pub monotonic: Duration,
    /// Whether `/ready` says yes.
    pub ready: bool,
}

/// Writes the page.
#[must_use]
pub fn render(metrics: &Metrics, scrape: Scrape<'_>) -> String {
    let mut page = Page::new();
    let registered = metrics.registered();
    routes(&mut page, metrics, &registered);
    keys(&page, &registered, scrape.readings);
    connections(&page, metrics, scrape.readings);
    upstreams(&page, &registered, scrape.readings);
    bounds(&page, scrape.readings);
    inbox(&page, scrape.readings);
    shared(&mut page, metrics, scrape.readings);
    workers(&mut page, metrics, scrape);
    vitals(&mut page, scrape);
    page.finish()
}

fn routes(page: &mut Page, metrics: &Metrics, registered: &Registered) {
    let mut all: Vec<(&str, &str, RouteTotals)> =
        registered.routes.iter().map(|route| (&*route.name, route.scheme.as_str(), route.totals())).collect();
    for (route, _, totals) in &all {
        route_only(page, route, totals);
    }
    all.push(("", "", metrics.unrouted().totals()));
    for (route, scheme, totals) in &all {
        let outcomes = [
            ("forwarded", totals.forwarded()),
            ("answered", totals.answered),
            ("accepted", totals.accepted),
            ("duplicate", totals.acknowledged()),
            ("rejected", totals.refused()),
            ("failed", totals.broken()),
        ];
        for (outcome, count) in outcomes {
            page.counter(&names::EXCHANGES, &[route, scheme, outcome], count);
        }
        for rejection in Rejection::ALL.iter().filter(|rejection| !rejection.is_only_noted()) {
            let count = totals.rejected(*rejection);
            if count > 0 || rejection.is_before_route() == route.is_empty() {
                page.counter(&names::REJECTIONS, &[route, rejection.code()], count);
            }
            let count = totals.observed(*rejection);
            if count > 0 {
                page.counter(&names::OBSERVED, &[route, rejection.code()], count);
            }
        }
        for (fault, count) in Fault::ALL.iter().zip(&totals.failed) {
            if *count > 0 || (*fault == Fault::HeadTimeout) == route.is_empty() {
                page.counter(&names::FAULTS, &[route, side(*fault), fault.code()], *count);
            }
        }
        page.counter(&names::REQUEST_BYTES, &[route], totals.received);
        page.counter(&names::RESPONSE_BYTES, &[route], totals.sent);
    }
    all.pop();
    page.distributions(&names::DURATION, all.iter().map(|(route, _, totals)| (*route, &totals.total)));
    page.distributions(&names::UPSTREAM_DURATION, all.iter().map(|(route, _, totals)| (*route, &totals.upstream)));
}

/// What only a request with a route can meet.
fn route_only(page: &Page, route: &str, totals: &RouteTotals) {
    page.counter(&names::INBOX_ACCEPTED, &[route], totals.accepted);
    // What is let through without the engine is noted as what would have been refused for it.
    page.counter(&names::SHARED_FALLBACKS, &[route], totals.observed(Rejection::SharedUnavailable));
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(totals.forwarded) {
        page.counter(&names::RESPONSES, &[route, class], count);
    }
    let twice = |rejection| totals.rejected(rejection) + totals.observed(rejection);
    let committed = twice(Rejection::Duplicate) + twice(Rejection::DuplicateConflict);
    page.counter(&names::DUPLICATES, &[route, "committed"], committed);
    for (rule, count) in ResponseError::ALL.iter().zip(&totals.broken_rules) {
        page.counter(&names::BROKEN_ANSWERS, &[route, rule.code()], *count);
    }
    page.counter(&names::DUPLICATES, &[route, "in_flight"], twice(Rejection::DuplicateInFlight));
    page.counter(&names::REUSED_IDS, &[route], totals.observed(Rejection::IdReused));
    page.counter(&names::RATE_REFUSALS, &[route, "client"], totals.rejected(Rejection::ClientRateLimited));
    page.counter(&names::RATE_REFUSALS, &[route, "route"], totals.rejected(Rejection::RouteRateLimited));
    if totals.last > 0 {
        page.gauge(&names::LAST_DELIVERY, &[route], totals.last as f64);
    }
}

const fn side(fault: Fault) -> &'static str {
    match fault.side() {
        Side::Downstream => "downstream",
        Side::Upstream => "upstream",
        Side::Internal => "internal",
    }
}

fn keys(page: &Page, registered: &Registered, readings: &Readings) {
    for series in &registered.keys {
        let labels = [&*series.route, &*series.key];
        page.counter(&names::VERIFICATIONS, &labels, series.matched());
        if series.last() > 0 {
            page.gauge(&names::KEY_LAST_MATCH, &labels, series.last() as f64);
        }
    }
    for key in &readings.keys {
        let labels = [key.route.as_str(), key.key.as_str()];
        let times = [
            (&names::KEY_NOT_BEFORE, key.not_before),
            (&names::KEY_NOT_AFTER, key.not_after),
            (&names::KEY_CHANGED, key.since),
        ];
        for (name, seconds) in times {
            if let Some(seconds) = seconds {
                page.gauge(name, &labels, seconds as f64);
            }
        }
    }
}

fn connections(page: &Page, metrics: &Metrics, readings: &Readings) {
    let accepted = metrics.workers().iter().map(super::cells::WorkerCells::connections).sum();
    page.counter(&names::CONNECTIONS_ACCEPTED, &[], accepted);
    let idle = metrics.workers().iter().map(super::cells::WorkerCells::idle).sum::<u64>();
    let idle = idle.min(readings.connections.held);
    page.gauge(&names::CONNECTIONS, &["idle"], idle as f64);
    page.gauge(&names::CONNECTIONS, &["active"], (readings.connections.held - idle) as f64);
    page.gauge(&names::CONNECTION_LIMIT, &[], readings.connections.limit as f64);
    for end in ConnectionEnd::ALL {
        page.counter(&names::CONNECTION_ENDS, &[end.code()], metrics.connections_ended(*end));
    }
    for suspicion in Suspicion::ALL {
        let count = metrics.workers().iter().map(|cells| cells.suspicions(suspicion)).sum();
        page.counter(&names::SUSPECT_ENDS, &[suspicion.name()], count);
    }
    let waiting = metrics.workers().iter().map(super::cells::WorkerCells::waiting).sum::<u64>();
    page.gauge(&names::TURNS_WAITING, &[], waiting as f64);
    for handshake in Handshake::ALL {
        let count = metrics.workers().iter().map(|cells| cells.handshakes(handshake)).sum();
        page.counter(&names::HANDSHAKES, &[handshake.version(), handshake.kind()], count);
    }
    page.gauge(&names::HANDSHAKES_NOW, &[], readings.handshakes.held as f64);
    page.gauge(&names::HANDSHAKE_LIMIT, &[], readings.handshakes.limit as f64);
    let over_rate = metrics.workers().iter().map(super::cells::WorkerCells::handshakes_over_rate).sum();
    page.counter(&names::HANDSHAKES_OVER_RATE, &[], over_rate);
    let unheard = metrics.workers().iter().map(super::cells::WorkerCells::unheard).sum();
    page.counter(&names::UNTRUSTED_FORWARDED_FOR, &[], unheard);
    page.gauge(&names::HANDSHAKES_WAITING, &[], readings.handshakes_over_rate.held as f64);
    page.gauge(&names::HANDSHAKES_WAITING_LIMIT, &[], readings.handshakes_over_rate.limit as f64);
    page.counter(&names::ACCEPT_PAUSES, &[], metrics.accept_pauses());
}

fn upstreams(page: &Page, registered: &Registered, readings: &Readings) {
    for series in &registered.upstreams {
        let (labels, totals) = ([series.name.as_str()], series.totals());
        page.counter(&names::UPSTREAM_CONNECTS, &labels, totals.opened);
        page.counter(&names::UPSTREAM_REUSES, &labels, totals.reused);
        page.counter(&names::UPSTREAM_STRAYS, &labels, totals.strays);
        page.counter(&names::UPSTREAM_CONNECT_FAILURES, &labels, totals.failed);
        page.gauge(&names::UPSTREAM_IDLE, &labels, totals.idle as f64);
    }
    for health in &readings.health {
        page.gauge(&names::UPSTREAM_HEALTHY, &[&health.upstream], f64::from(u8::from(health.good)));
    }
}

fn bounds(page: &Page, readings: &Readings) {
    page.gauge(&names::REQUESTS, &[], readings.requests.held as f64);
    page.gauge(&names::REQUEST_LIMIT, &[], readings.requests.limit as f64);
    page.gauge(&names::BODY_MEMORY, &[], readings.body_memory.held as f64);
    page.gauge(&names::BODY_MEMORY_LIMIT, &[], readings.body_memory.limit as f64);
    page.gauge(&names::SUSPECTS, &[], readings.suspects.held as f64);
    page.gauge(&names::SUSPECT_LIMIT, &[], readings.suspects.limit as f64);
    page.gauge(&names::SUSPECT_MEMORY, &[], readings.suspect_memory.held as f64);
    page.gauge(&names::SUSPECT_MEMORY_LIMIT, &[], readings.suspect_memory.limit as f64);
    for replay in &readings.replay {
        let labels = [replay.route.as_str()];
        page.gauge(&names::REPLAY_ENTRIES, &labels, replay.entries.held as f64);
        page.gauge(&names::REPLAY_CAPACITY, &labels, replay.entries.limit as f64);
        page.gauge(&names::REPLAY_CLAIMS, &labels, replay.claims as f64);
    }
}

fn inbox(page: &Page, readings: &Readings) {
    let Some(inbox) = &readings.inbox else { return };
    for (state, count) in [("waiting", inbox.waiting), ("dead", inbox.dead), ("damaged", inbox.damaged)] {
        page.gauge(&names::INBOX_DELIVERIES, &[state], count as f64);
    }
    page.gauge(&names::INBOX_LOCKED, &[], inbox.locked as f64);
    page.gauge(&names::INBOX_BYTES, &[], inbox.bytes.held as f64);
    page.gauge(&names::INBOX_LIMIT, &[], inbox.bytes.limit as f64);
    page.gauge(&names::INBOX_FAILING, &[], f64::from(u8::from(inbox.failing)));
    page.gauge(&names::INBOX_DAMAGED_FILES, &[], inbox.damaged_files as f64);
    page.counter(&names::INBOX_TAKEN_OVER, &[], inbox.taken_over);
    page.counter(&names::INBOX_FENCED, &[], inbox.fenced);
    for route in &inbox.routes {
        let name = route.route.as_str();
        for (result, count) in AttemptResult::ALL.iter().zip(route.results) {
            page.counter(&names::INBOX_ATTEMPTS, &[name, result.word()], count);
        }
        page.gauge(&names::INBOX_WAITING, &[name], route.waiting as f64);
        page.gauge(&names::INBOX_OLDEST, &[name], route.oldest.as_secs_f64());
    }
}

fn shared(page: &mut Page, metrics: &Metrics, readings: &Readings) {
    let Some(shared) = &readings.shared else { return };
    page.gauge(&names::SHARED_UP, &[], f64::from(u8::from(shared.trouble.is_none())));
    let mut times = Vec::with_capacity(EngineAsk::ALL.len());
    for ask in EngineAsk::ALL {
        for end in EngineEnd::ALL {
            let count = metrics.workers().iter().map(|cells| cells.engine.count(ask, end)).sum();
            page.counter(&names::SHARED_OPERATIONS, &[ask.name(), end.name()], count);
        }
        let mut all = Distribution::default();
        metrics.workers().iter().filter_map(|cells| cells.engine.times(ask)).for_each(|it| all.add(it));
        times.push((ask.name(), all));
    }
    page.distributions(&names::SHARED_SECONDS, times.iter().map(|(ask, all)| (*ask, all)));
}

fn workers(page: &mut Page, metrics: &Metrics, scrape: Scrape<'_>) {
    let drivers = &scrape.readings.drivers;
    for driver in drivers {
        let count = drivers.iter().filter(|other| *other == driver).count();
        page.gauge(&names::WORKERS, &[driver], count as f64);
    }
    let numbers: Vec<String> = (0..metrics.workers().len()).map(|position| position.to_string()).collect();
    for (number, cells) in numbers.iter().zip(metrics.workers()) {
        let age = scrape.monotonic.saturating_sub(cells.last_beat());
        page.gauge(&names::WORKER_BEAT, &[number], age.as_secs_f64());
    }
    let cpu = numbers.iter().map(String::as_str).zip(scrape.readings.worker_cpu.iter().copied());
    page.seconds(&names::WORKER_CPU, &cpu.collect::<Vec<_>>());
}

fn vitals(page: &mut Page, scrape: Scrape<'_>) {
    let readings = scrape.readings;
    page.gauge(&names::GENERATION, &[], readings.generation as f64);
    if let Some(reload) = &readings.reload {
        page.counter(&names::RELOADS, &["success"], reload.succeeded);
        page.counter(&names::RELOADS, &["failure"], reload.failed);
        page.gauge(&names::RELOAD_GOOD, &[], f64::from(u8::from(reload.error.is_none())));
    }
    for publisher in &readings.publishers {
        let url = publisher.url.as_str();
        page.gauge(&names::PUBLISHED_KEYS, &[url], publisher.keys as f64);
        page.counter(&names::KEY_FETCHES, &[url, "success"], publisher.succeeded);
        page.counter(&names::KEY_FETCHES, &[url, "failure"], publisher.failed);
        page.gauge(&names::KEYS_FETCHED, &[url], publisher.fetched.unwrap_or(0) as f64);
    }
    for ranges in &readings.ranges {
        let sender = ranges.sender.as_str();
        page.gauge(&names::PUBLISHED_RANGES, &[sender], ranges.networks as f64);
        page.gauge(&names::RANGES_AS_OF, &[sender], ranges.as_of as f64);
        page.counter(&names::RANGE_FETCHES, &[sender, "success"], ranges.succeeded);
        page.counter(&names::RANGE_FETCHES, &[sender, "failure"], ranges.failed);
        page.counter(&names::RANGE_FETCHES, &[sender, "refused"], ranges.refused);
    }
    for certificate in &readings.certificates {
        let labels = [certificate.listener.as_str(), certificate.name.as_str()];
        page.gauge(&names::CERTIFICATE_NOT_BEFORE, &labels, certificate.not_before as f64);
        page.gauge(&names::CERTIFICATE_NOT_AFTER, &labels, certificate.not_after as f64);
    }
    for authority in &readings.authorities {
        let number = authority.number.to_string();
        let labels = [authority.listener.as_str(), authority.name.as_str(), number.as_str()];
        page.gauge(&names::CLIENT_CA_NOT_AFTER, &labels, authority.not_after as f64);
    }
    page.gauge(&names::READY, &[], f64::from(u8::from(scrape.ready)));
    records(page, readings);
    page.gauge(&names::BUILD, &[env!("CARGO_PKG_VERSION"), std::env::consts::ARCH], 1.0);
    let vitals = &readings.vitals;
    let gauges = [
        (&names::PROCESS_MEMORY, vitals.memory),
        (&names::PROCESS_FILES, vitals.files),
        (&names::PROCESS_FILES_LIMIT, vitals.files_limit),
        (&names::PROCESS_THREADS, vitals.threads),
    ];
    for (name, value) in gauges {
        if let Some(value) = value {
            page.gauge(name, &[], value as f64);
        }
    }
    if let Some(started) = vitals.started {
        page.gauge(&names::PROCESS_START, &[], started.as_secs_f64());
    }
    if let Some(cpu) = vitals.cpu {
        page.seconds(&names::PROCESS_CPU, &[("", cpu)]);
    }
}

fn records(page: &Page, readings: &Readings) {
    page.counter(&names::LOG_DROPPED, &[], readings.log_dropped);
    let RecordsReading { left_out, lost, over_rate, blocked, audit_failing, audit_unproven } = readings.records;
    page.counter(&names::ACCESS_LOG_MISSING, &["sampled"], left_out);
    page.counter(&names::ACCESS_LOG_MISSING, &["lost"], lost);
    page.counter(&names::AUDIT_UNRECORDED, &["sampled"], over_rate);
    page.counter(&names::AUDIT_UNRECORDED, &["blocked"], blocked);
    if let Some(failing) = audit_failing {
        page.gauge(&names::AUDIT_FAILING, &[], f64::from(u8::from(failing)));
    }
    if let Some(unproven) = audit_unproven {
        page.gauge(&names::AUDIT_UNPROVEN, &[], unproven as f64);
    }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
