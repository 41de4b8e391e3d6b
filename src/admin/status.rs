//! `/status`: the process in one JSON document, of which the status page is made. Counts are totals since the start;
//! two of them give rates.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::now::Now;
use crate::outcome::{Fault, Rejection};
use crate::telemetry::exchange::Excerpt;
use crate::telemetry::handshake::Handshake;
use crate::telemetry::histogram::{BOUNDS_TEXT, Distribution};
use crate::telemetry::metrics::{Metrics, Registered};
use crate::telemetry::readings::{InboxReading, Readings, SharedReading, Usage};
use crate::telemetry::refusals::Refusal;
use crate::telemetry::{RouteSeries, RouteTotals};

use super::desk::{Phase, is_ready};
use super::history::History;

/// Refusals that are shown.
const REFUSALS: usize = 50;

/// What is described.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What is counted.
    pub metrics: &'a Metrics,
    /// What is read.
    pub readings: &'a Readings,
    /// Where the process is in its life.
    pub phase: Phase,
    /// The last minutes.
    pub history: &'a History,
    /// Now.
    pub now: Now,
}

/// Writes the document.
#[must_use]
pub fn render(subject: &Subject<'_>) -> String {
    let Subject { metrics, readings, phase, now, .. } = subject;
    let registered = metrics.registered();
    let refusals: Vec<Value> = metrics.refusals(REFUSALS).iter().map(refusal).collect();
    let started = readings.vitals.started.map(|started| started.as_secs());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": millis(now.unix),
        "uptime": started.map(|started| now.unix.as_secs().saturating_sub(started)),
        "host": readings.identity.host,
        "pod": readings.identity.pod,
        "configuration": readings.identity.configuration,
        "captures": readings.identity.captures,
        "phase": phase.name(),
        "ready": is_ready(*phase, &readings.health),
        "generation": readings.generation,
        "reload": readings.reload.as_ref().map(|it| json!({
            "succeeded": it.succeeded, "failed": it.failed, "at": it.at, "error": it.error,
        })),
        "certificates": readings.certificates.iter().map(|it| json!({
            "listener": it.listener, "name": it.name, "hosts": it.hosts, "fingerprint": it.fingerprint,
            "not_before": it.not_before, "not_after": it.not_after,
        })).collect::<Vec<_>>(),
        "fallback": readings.fallback,
        "workers": workers(subject),
        "bounds": bounds(subject),
        "routes": registered.routes.iter().enumerate().map(|it| route(it, &registered, subject)).collect::<Vec<_>>(),
        "inbox": readings.inbox.as_ref().map(inbox),
        "shared": readings.shared.as_ref().map(shared),
        "unrouted": reasons(&metrics.unrouted().totals()),
        "upstreams": upstreams(&registered, readings),
        "refusals": refusals,
        "history": history(subject),
    })
    .to_string()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn shared(shared: &SharedReading) -> Value {
    json!({
        "server": shared.server,
        "connected": shared.connected,
        "workers": shared.workers,
        "trouble": shared.trouble.map(|(code, _)| code),
        "means": shared.trouble.map(|(_, meaning)| meaning),
    })
}

fn inbox(inbox: &InboxReading) -> Value {
    let routes = inbox.routes.iter().map(|route| {
        let [delivered, again, dead] = route.results;
        json!({
            "name": route.route,
            "waiting": route.waiting,
            "oldest": route.oldest.as_secs_f64(),
            "delivered": delivered,
            "again": again,
            "dead": dead,
        })
    });
    json!({
        "state": inbox.state,
        "waiting": inbox.waiting,
        "dead": inbox.dead,
        "damaged": inbox.damaged,
        "locked": inbox.locked,
        "bytes": level(inbox.bytes),
        "damaged_files": inbox.damaged_files,
        "failing": inbox.failing,
        "in_engine": inbox.in_engine,
        "means": inbox.means,
        "taken_over": inbox.taken_over,
        "fenced": inbox.fenced,
        "dead_letters_full": inbox.dead_letters_full,
        "routes": routes.collect::<Vec<_>>(),
    })
}

fn workers(subject: &Subject<'_>) -> Vec<Value> {
    let readings = subject.readings;
    let describe = |(position, cells): (usize, &crate::telemetry::WorkerCells)| {
        json!({
            "driver": readings.drivers.get(position),
            "cpu": readings.worker_cpu.get(position).map(Duration::as_secs_f64),
            "beat": subject.now.monotonic.saturating_sub(cells.last_beat()).as_secs_f64(),
            "accepted": cells.connections(),
            "idle": cells.idle(),
            "handshakes": Handshake::ALL.iter().map(|it| cells.handshakes(*it)).sum::<u64>(),
        })
    };
    subject.metrics.workers().iter().enumerate().map(describe).collect()
}

fn level(Usage { held, limit }: Usage) -> Value {
    json!({ "held": held, "limit": limit })
}

fn bounds(subject: &Subject<'_>) -> Value {
    let readings = subject.readings;
    let vitals = &readings.vitals;
    let ends = crate::outcome::ConnectionEnd::ALL.iter();
    let ends: Map<String, Value> = ends
        .map(|end| (end.code().to_owned(), json!(subject.metrics.connections_ended(*end))))
        .filter(|(_, count)| *count != json!(0))
        .collect();
    json!({
        "connections": level(readings.connections),
        "requests": level(readings.requests),
        "body_memory": level(readings.body_memory),
        "handshakes": level(readings.handshakes),
        "handshakes_over_rate": level(readings.handshakes_over_rate),
        "over_budget": level(readings.suspects),
        "over_budget_memory": level(readings.suspect_memory),
        "waiting_for_turn": subject.metrics.workers().iter().map(crate::telemetry::WorkerCells::waiting).sum::<u64>(),
        "files": level(Usage { held: vitals.files.unwrap_or_default(), limit: vitals.files_limit.unwrap_or_default() }),
        "memory": vitals.memory,
        "connections_ended": ends,
        "accept_pauses": subject.metrics.accept_pauses(),
        "log_dropped": readings.log_dropped,
        "access_log_lost": readings.records.lost,
        "audit_blocked": readings.records.blocked,
        "audit_failing": readings.records.audit_failing,
        "audit_unproven": readings.records.audit_unproven,
    })
}

fn route((position, series): (usize, &Arc<RouteSeries>), registered: &Registered, subject: &Subject<'_>) -> Value {
    let readings = subject.readings;
    let (passed, refused) = subject.history.rates(&series.name, position);
    let totals = series.totals();
    let keys = registered.keys.iter().filter(|key| key.route == series.name).map(|key| {
        let reading = readings.keys.iter().find(|it| it.route == *series.name && it.key == *key.key);
        json!({
            "id": *key.key,
            "matched": key.matched(),
            "last": (key.last() > 0).then(|| key.last()),
            "not_before": reading.and_then(|reading| reading.not_before),
            "not_after": reading.and_then(|reading| reading.not_after),
            "since": reading.and_then(|reading| reading.since),
        })
    });
    let keys: Vec<Value> = keys.collect();
    let replay = readings.replay.iter().find(|it| it.route == *series.name);
    let mut value = reasons(&totals);
    if let Value::Object(fields) = &mut value {
        fields.extend([
            ("name".to_owned(), json!(*series.name)),
            ("scheme".to_owned(), json!(series.scheme)),
            ("forwarded".to_owned(), json!(totals.forwarded())),
            ("classes".to_owned(), json!(totals.forwarded)),
            ("answered".to_owned(), json!(totals.answered)),
            ("duplicates".to_owned(), json!(totals.acknowledged())),
            ("received".to_owned(), json!(totals.received)),
            ("last".to_owned(), json!((totals.last > 0).then_some(totals.last))),
            ("duration".to_owned(), distribution(&totals.total)),
            ("upstream".to_owned(), distribution(&totals.upstream)),
            ("history".to_owned(), json!({ "passed": passed, "refused": refused })),
            ("keys".to_owned(), json!(keys)),
            (
                "replay".to_owned(),
                json!(replay.map(|it| json!({
                    "held": it.entries.held, "limit": it.entries.limit, "claims": it.claims,
                }))),
            ),
        ]);
    }
    value
}

/// Refusals, faults and what was observed, by reason; what never happened is left out.
fn reasons(totals: &RouteTotals) -> Value {
    let by = |codes: &mut dyn Iterator<Item = &'static str>, counts: &[u64]| -> Map<String, Value> {
        let happened = codes.zip(counts).filter(|(_, count)| **count > 0);
        happened.map(|(code, count)| (code.to_owned(), json!(count))).collect()
    };
    let rejections = || Rejection::ALL.iter().map(|rejection| rejection.code());
    json!({
        "refused": totals.refused(),
        "failed": totals.broken(),
        "reasons": by(&mut rejections(), &totals.rejected),
        "faults": by(&mut Fault::ALL.iter().map(|fault| fault.code()), &totals.failed),
        "observed": by(&mut rejections(), &totals.observed),
    })
}

fn distribution(distribution: &Distribution) -> Value {
    json!({ "bounds": BOUNDS_TEXT, "buckets": distribution.buckets, "sum": distribution.sum_seconds() })
}

fn upstreams(registered: &Registered, readings: &Readings) -> Vec<Value> {
    let describe = |series: &Arc<crate::telemetry::UpstreamSeries>| {
        let totals = series.totals();
        let health = readings.health.iter().find(|it| it.upstream == series.name);
        json!({
            "name": series.name,
            "opened": totals.opened,
            "reused": totals.reused,
            "failed": totals.failed,
            "idle": totals.idle,
            "health": health.map(|it| json!({
                "standing": it.standing.name(), "good": it.good, "trouble": it.trouble, "since": it.since,
            })),
        })
    };
    registered.upstreams.iter().map(describe).collect()
}

/// Paths and ids are bytes of strangers: what is not printable is escaped here, and the page shows it as text.
fn refusal(refusal: &Refusal) -> Value {
    json!({
        "at": millis(refusal.at),
        "route": refusal.route.as_deref(),
        "reason": refusal.reason,
        "request_id": String::from_utf8_lossy(&refusal.request_id),
        "client": refusal.client.map(|client| client.to_string()),
        "path": printable(refusal.path.bytes()),
        "delivery_id": refusal.delivery_id.as_ref().map(|id| printable(id.bytes())),
        "unsigned_delivery_id": stated(&refusal.stated_id).filter(|_| refusal.delivery_id.is_none()),
        "user_agent": stated(&refusal.user_agent),
        "traceparent": stated(&refusal.traceparent),
    })
}

fn stated<const N: usize>(excerpt: &Excerpt<N>) -> Option<String> {
    (!excerpt.is_empty()).then(|| printable(excerpt.bytes()))
}

/// Visible ASCII as it is, everything else (and the backslash itself) as `\xNN`.
fn printable(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut text, byte| {
        match byte {
            b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            // Writing into a String cannot fail.
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
        text
    })
}

/// Columns, because there are many rows.
fn history(subject: &Subject<'_>) -> Value {
    let column = |of: fn(&super::history::Sample) -> u64| subject.history.samples().map(of).collect::<Vec<u64>>();
    let age = |sample: &super::history::Sample| millis(subject.now.monotonic.saturating_sub(sample.at));
    json!({
        "age": subject.history.samples().map(age).collect::<Vec<u64>>(),
        "forwarded": column(|sample| sample.forwarded),
        "refused": column(|sample| sample.refused),
        "failed": column(|sample| sample.failed),
        "micros": column(|sample| sample.nanos / 1000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_sent_is_visible_and_nothing_else() {
        assert_eq!(printable(b"/a'\"<b>"), "/a'\"<b>");
        assert_eq!(printable(b"\\x1b\x1b[2J\n\xc3\xbc\x7f"), "\\x5cx1b\\x1b[2J\\x0a\\xc3\\xbc\\x7f");
    }
}
