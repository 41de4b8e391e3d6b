//! What counting an exchange costs the worker that served it. `cargo bench --bench metrics`.
//!
//! `exporter` is the way not taken: the same numbers through handles of the exporter. Its histograms keep each sample
//! until they are drained, which is done here after a thousand exchanges: draining belongs to the price.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use countersign::now::Now;
use countersign::outcome::{Observed, Outcome, Rejection};
use countersign::telemetry::exchange::{Exchange, RouteTag, Stage, Stages, Stated};
use countersign::telemetry::metrics::{Meters, Metrics, RouteLabels};
use criterion::{Criterion, criterion_group, criterion_main};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

const KEYS: [&str; 3] = ["2025-10", "2025-11", "2025-12"];

fn meters() -> Meters {
    let route = |number: usize| RouteLabels {
        name: format!("route-{number}"),
        scheme: "github".to_owned(),
        keys: KEYS.iter().copied().map(Arc::from).collect(),
    };
    Metrics::new(2).register(&(0..20).map(route).collect::<Vec<_>>(), &["127.0.0.1:9000".to_owned()])
}

fn stages(micros: u64) -> Stages {
    let mut stages = Stages::default();
    for (stage, part) in [(Stage::Head, 1), (Stage::Body, 2), (Stage::Verified, 3), (Stage::Answered, 9)] {
        stages.mark(stage, Duration::from_micros(micros * part / 10));
    }
    stages.mark(Stage::Total, Duration::from_micros(micros));
    stages
}

fn exchange(outcome: Outcome, key_id: Option<&str>, stages: Stages) -> Exchange<'_> {
    let time = Duration::from_secs(1_781_000_000);
    Exchange {
        worker: 1,
        request_id: [b'0'; 32],
        ended: Now { monotonic: time, unix: time },
        route: Some(RouteTag { position: 7, name: "route-7", scheme: "github" }),
        peer: None,
        client: Some([192, 0, 2, 1].into()),
        caller: None,
        method: b"POST",
        path: b"/webhooks/github",
        query: b"",
        outcome,
        accepted: Some(200),
        broken_rule: None,
        observed: Observed::NONE,
        key_id,
        delivery_id: None,
        stated: Stated::default(),
        body: None,
        received: 256,
        sent: 2,
        stages,
    }
}

fn counting(c: &mut Criterion) {
    let meters = meters();
    let mut group = c.benchmark_group("metrics");
    let spread: Vec<Stages> = (0..1024).map(|n: u64| stages(50 + n * n % 90_000)).collect();
    let forwarded = Outcome::Forwarded { status: 200 };
    for (name, key) in [("accepted, first key", KEYS[0]), ("accepted, third key", KEYS[2])] {
        let mut next = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                next = (next + 1) % spread.len();
                meters.record(black_box(&exchange(forwarded, Some(key), spread[next])));
            });
        });
    }
    let refused = exchange(Rejection::SignatureMismatch.into(), None, stages(50));
    group.bench_function("refused, in a flood", |b| b.iter(|| meters.record(black_box(&refused))));
    exporter(&mut group, &spread);
    group.finish();
}

fn exporter(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>, spread: &[Stages]) {
    const METADATA: Metadata<'static> = Metadata::new("bench", Level::INFO, None);
    let recorder = PrometheusBuilder::new().set_buckets(&[0.0001, 0.001, 0.01, 0.1, 1.0]).unwrap().build_recorder();
    let handle = recorder.handle();
    let key = |name: &'static str| Key::from_parts(name, vec![Label::new("route", "route-7")]);
    let counters = ["a", "b", "c", "d"].map(|name| recorder.register_counter(&key(name), &METADATA));
    let histograms = ["e", "f"].map(|name| recorder.register_histogram(&key(name), &METADATA));
    let mut next = 0;
    group.bench_function("accepted, exporter", |b| {
        b.iter(|| {
            next = (next + 1) % spread.len();
            let stages = black_box(spread[next]);
            for (counter, amount) in counters.iter().zip([1, 256, 2, 1]) {
                counter.increment(amount);
            }
            histograms[0].record(stages.total());
            histograms[1].record(stages.upstream().unwrap_or_default());
            if next == 0 {
                handle.run_upkeep();
            }
        });
    });
}

criterion_group!(benches, counting);
criterion_main!(benches);
