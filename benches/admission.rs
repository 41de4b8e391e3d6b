//! What admission costs per request. `cargo bench --bench admission`.
//! `admitted`: granted, its body charged, released. `refused`: 429. `newcomers`: every request of another client, until
//! the table is full of clients that cannot be forgotten. `route`: a token of a route, which is one bucket for all cores.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::hash::RandomState;
use std::hint::black_box;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::gate::admission::{Admission, AdmissionRequest};
use countersign::gate::allowlist::AllowList;
use countersign::gate::believed::KeptFields;
use countersign::gate::holding::Holding;
use countersign::gate::identity::CallerList;
use countersign::gate::keyed_buckets::ClientKey;
use countersign::gate::limits::AdmissionLimits;
use countersign::gate::observe::Observe;
use countersign::gate::pattern::PathPattern;
use countersign::gate::route::{Route, RouteKey, RouteTable};
use countersign::gate::route_admission::RouteAdmission;
use countersign::gate::token_bucket::{Rate, SharedBucket};
use countersign::gate::verify::Verifier;
use countersign::wire::headers::HeaderBuf;
use criterion::{Criterion, criterion_group, criterion_main};

const PLENTY: Rate = Rate::per_second(Rate::TOKEN_LIMIT, Rate::TOKEN_LIMIT);

fn table() -> RouteTable {
    let key = RouteKey { host: None, path: PathPattern::parse("/hook").unwrap(), methods: vec!["POST".to_owned()] };
    let content_types = vec!["application/json".to_owned()];
    let admission = RouteAdmission { rate: Some(PLENTY), content_types, ..RouteAdmission::default() };
    let name = "hook".to_owned();
    let route = Route {
        name,
        key,
        verifier: Verifier::none(),
        body_limit: 1,
        upstream: 0,
        admission,
        clients: AllowList::default(),
        callers: CallerList::default(),
        kept: KeptFields::default(),
        observe: Observe::default(),
        replay: None,
        challenges: None,
    };
    RouteTable::new(vec![route]).unwrap()
}

fn client(number: u32) -> ClientKey {
    ClientKey::of(Some(IpAddr::V4((0x0a00_0000 | number).into())))
}

fn headers() -> HeaderBuf {
    let mut headers = HeaderBuf::default();
    for name in ["Host", "User-Agent", "Accept", "X-GitHub-Event", "X-Hub-Signature-256"] {
        headers.push(name, b"value");
    }
    headers.push("Content-Type", b"application/json; charset=utf-8");
    headers
}

/// One request after the other, of one client or of many.
fn exchanges(c: &mut Criterion) {
    let (table, headers) = (table(), headers());
    let request =
        AdmissionRequest { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
    let limits = AdmissionLimits { unverified_per_client: PLENTY, ..AdmissionLimits::default() };
    let ready = |limits| {
        let admission = Arc::new(Admission::new(limits, RandomState::new()));
        let holding = Rc::new(Holding::uncounted(Arc::clone(&admission)));
        (admission, holding)
    };
    // Time passes quickly enough that no bucket runs empty.
    let start = Instant::now();
    let mut group = c.benchmark_group("admission");
    let (admission, holding) = ready(limits);
    let mut number = 0;
    group.bench_function("admitted", |b| {
        b.iter(|| {
            number = (number + 1) % 1000;
            let mut admitted = admission.admit(request, client(number), 1000 * start.elapsed(), &holding).unwrap();
            admitted.hold_body(1000).unwrap();
            black_box(&admitted);
        });
    });
    let (admission, holding) = ready(AdmissionLimits { unverified_per_client: Rate::per_second(1, 1), ..limits });
    group.bench_function("refused", |b| {
        let _ = admission.admit(request, client(0), Duration::ZERO, &holding);
        b.iter(|| drop(black_box(admission.admit(request, client(0), Duration::ZERO, &holding))));
    });
    group.bench_function("newcomers", |b| {
        b.iter(|| {
            number = number.wrapping_add(1) & 0xff_ffff;
            drop(black_box(admission.admit(request, client(number), Duration::ZERO, &holding)));
        });
    });
    let bucket = SharedBucket::new(PLENTY);
    group.bench_function("route", |b| b.iter(|| black_box(bucket.take(start.elapsed()))));
    group.finish();
}

/// The same from two threads, each with clients of its own: the time of one request of one thread.
fn two_threads(c: &mut Criterion) {
    let (table, headers) = (table(), headers());
    let limits = AdmissionLimits { unverified_per_client: PLENTY, ..AdmissionLimits::default() };
    let admission = Arc::new(Admission::new(limits, RandomState::new()));
    c.bench_function("admission/admitted, two threads", |b| {
        b.iter_custom(|rounds| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    let (admission, table, headers) = (&admission, &table, &headers);
                    scope.spawn(move || {
                        let holding = Rc::new(Holding::uncounted(Arc::clone(admission)));
                        let request = AdmissionRequest {
                            route: &table.routes()[0],
                            headers: headers.view(),
                            has_body: true,
                            is_proven: false,
                        };
                        for round in 0..rounds {
                            let client = client(thread << 16 | (round % 1000) as u32);
                            let mut admitted =
                                admission.admit(request, client, 1000 * start.elapsed(), &holding).unwrap();
                            admitted.hold_body(1000).unwrap();
                            black_box(&admitted);
                        }
                    });
                }
            });
            start.elapsed()
        });
    });
}

criterion_group!(benches, exchanges, two_threads);
criterion_main!(benches);
