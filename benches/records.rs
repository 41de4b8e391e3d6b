//! What it costs a worker to have an exchange written down, and what it costs the writers: `cargo bench --bench records`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use countersign::config::parse_str;
use countersign::config::records::{AccessLog as Settings, Output};
use countersign::control::Writers;
use countersign::control::access_log::AccessLog;
use countersign::control::audit::Audit;
use countersign::control::event_log::EventLog;
use countersign::now::Now;
use countersign::outcome::{Observed, Outcome};
use countersign::telemetry::access_log::json;
use countersign::telemetry::audit::record::delivery;
use countersign::telemetry::audit::{Chain, Digest, Link};
use countersign::telemetry::exchange::{Exchange, RouteTag, Stage, Stages, Stated};
use countersign::telemetry::line::TimeText;
use criterion::{Criterion, criterion_group, criterion_main};

fn exchange(body: &[u8]) -> Exchange<'_> {
    let mut stages = Stages::default();
    stages.mark(Stage::Head, Duration::from_micros(12));
    stages.mark(Stage::Body, Duration::from_micros(13));
    stages.mark(Stage::Verified, Duration::from_micros(19));
    stages.mark(Stage::Answered, Duration::from_micros(412));
    stages.mark(Stage::Total, Duration::from_micros(440));
    Exchange {
        worker: 0,
        request_id: *b"0123456789abcdef0123456789abcdef",
        ended: Now::at_unix(Duration::from_millis(1_760_000_000_123)),
        route: Some(RouteTag { position: 0, name: "webhooks-github", scheme: "github" }),
        peer: Some([192, 0, 2, 17].into()),
        client: Some([192, 0, 2, 17].into()),
        caller: None,
        method: b"POST",
        path: b"/webhooks/github",
        query: b"",
        outcome: Outcome::Forwarded { status: 200 },
        accepted: Some(200),
        broken_rule: None,
        observed: Observed::NONE,
        key_id: Some("2026-11"),
        delivery_id: None,
        stated: Stated::default(),
        body: Some(body),
        received: body.len() as u64,
        sent: 2,
        stages,
    }
}

const WRITERS: Writers = Writers { workers: 1, delivers: false };

const AUDIT: &str = "
[[listener]]
address = '127.0.0.1:1'
[[route]]
path = '/a'
scheme = 'none'
upstream = '127.0.0.1:2'
[audit]
file = 'audit.jsonl'
key = { id = 'k', file = 'key' }
rotate_size = '1024GiB'
";

fn records(c: &mut Criterion) {
    let body = vec![b'x'; 256];
    let exchange = exchange(&body);
    let mut group = c.benchmark_group("records");
    let (mut out, mut stamp) = (Vec::with_capacity(4096), TimeText::default());
    group.bench_function("format an access log line", |b| {
        b.iter(|| {
            out.clear();
            json(&mut out, &exchange, &mut stamp, false);
            out.len()
        });
    });
    group.bench_function("format an audit entry", |b| {
        b.iter(|| {
            out.clear();
            delivery(&mut out, &exchange, &mut stamp, false);
            out.len()
        });
    });
    group.bench_function("digest of a body of 256 B", |b| b.iter(|| Digest::of(&body)));
    let (entry, mut chain) = (out.clone(), Chain::behind(Link::NONE));
    group.bench_function("chain an audit entry", |b| {
        b.iter(|| {
            out.clear();
            chain.append(&mut out, &entry);
            out.len()
        });
    });
    let folder = std::env::temp_dir().join(format!("countersign-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let log = Arc::new(EventLog::start());
    let settings = Settings { output: Output::File("/dev/null".into()), ..Settings::default() };
    let access_log = AccessLog::start(&settings, WRITERS, Arc::clone(&log)).unwrap().unwrap();
    group.bench_function("on the worker: access log", |b| b.iter(|| access_log.exchange(&exchange)));
    let (settings, _) = parse_str("bench.toml", AUDIT).unwrap();
    let mut settings = settings.audit.unwrap();
    settings.resolve(&folder);
    settings.body_digest = false;
    let audit = Audit::start(&settings, b"key", WRITERS, "", Arc::clone(&log)).unwrap();
    group.bench_function("on the worker: audit trail, no digest", |b| b.iter(|| audit.answering(&exchange)));
    drop(audit);
    settings.body_digest = true;
    let audit = Audit::start(&settings, b"key", WRITERS, "", log).unwrap();
    group.bench_function("on the worker: audit trail", |b| b.iter(|| audit.answering(&exchange)));
    drop(audit);
    let _ = std::fs::remove_dir_all(folder);
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
