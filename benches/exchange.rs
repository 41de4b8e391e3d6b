//! A whole exchange in memory: everything that user space does for a delivery, without the kernel's share.
//! `cargo bench --bench exchange`. Connections are made anew for each batch of pipelined deliveries.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;
use std::hash::RandomState;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use countersign::config::presets;
use countersign::edge::clock::Clock;
use countersign::edge::peer::PeerOrigin;
use countersign::edge::pipe::{Reaction, VirtualNet};
use countersign::edge::policy::{Addresses, Limits, ListenerId, Live, Policy, Target, Upstream};
use countersign::edge::serve;
use countersign::edge::snapshot::Published;
use countersign::edge::worker::{Observer, Shared, Worker};
use countersign::gate::Gate;
use countersign::gate::admission::Admission;
use countersign::gate::allowlist::AllowList;
use countersign::gate::believed::KeptFields;
use countersign::gate::identity::CallerList;
use countersign::gate::limits::AdmissionLimits;
use countersign::gate::observe::Observe;
use countersign::gate::pattern::PathPattern;
use countersign::gate::route::{Route, RouteKey, RouteTable};
use countersign::gate::route_admission::RouteAdmission;
use countersign::gate::token_bucket::Rate;
use countersign::gate::verify::{Key, Keyring, Validity, Verifier};
use countersign::telemetry::exchange::Exchange;
use countersign::telemetry::metrics::Metrics;
use countersign::wire::head::HeadLimits;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SECRET: &[u8] = b"correct-horse-battery-staple-0123456789";
const BATCH: usize = 100;

struct NoObserver;

impl Observer for NoObserver {
    fn exchange(&self, _: &Exchange<'_>) {}
    fn accept_failed(&self, _: &io::Error) {}
}

fn policy() -> Policy {
    let scheme = presets::preset("github").unwrap();
    let key = Key::from_secret("k", &scheme, SECRET, Validity::default()).unwrap();
    let verifier = Verifier::new(scheme, Keyring::new(vec![key]), None, None).unwrap();
    let key = RouteKey { host: None, path: PathPattern::parse("/hook").unwrap(), methods: vec!["POST".to_owned()] };
    let route = Route {
        name: "hook".to_owned(),
        key,
        verifier,
        body_limit: 1 << 20,
        upstream: 0,
        clients: AllowList::default(),
        callers: CallerList::default(),
        kept: KeptFields::default(),
        observe: Observe::default(),
        admission: RouteAdmission::default(),
        replay: None,
        challenges: None,
        durable: None,
    };
    let ten = Duration::from_secs(10);
    Policy {
        gate: Gate { routes: RouteTable::new(vec![route]).unwrap(), upstreams: Vec::new(), doors: Vec::new() },
        durable: Vec::new(),
        limits: Limits {
            head: HeadLimits { size: 16 << 10, fields: 100, target: 8 << 10 },
            head_timeout: ten,
            body_timeout: ten,
            handshake_timeout: ten,
            idle_timeout: ten,
            write_timeout: ten,
            requests_per_connection: u64::MAX,
            body_rate_min: 1 << 10,
        },
        upstreams: vec![Upstream {
            target: Target::Tcp(Arc::new(Addresses::new("app".to_owned(), Vec::new()))),
            tls: None,
            connect_timeout: ten,
            response_timeout: ten,
            idle_timeout: ten,
            idle_connections: 8,
            reuse_after: Duration::ZERO,
        }],
        live: Live { listeners: vec![ListenerId::default()], ..Live::default() },
    }
}

/// With a bucket that is never empty: refusals are to be those of the verification.
fn admission() -> Arc<Admission> {
    let unverified_per_client = Rate::per_second(Rate::TOKEN_LIMIT, Rate::TOKEN_LIMIT);
    let limits = AdmissionLimits { unverified_per_client, ..AdmissionLimits::default() };
    Arc::new(Admission::new(limits, RandomState::new()))
}

fn delivery(body: &[u8], genuine: bool) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, if genuine { SECRET } else { b"another" });
    let tag: String = ring::hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: hooks.example.com\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n\
         X-Hub-Signature-256: sha256={tag}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn exchanges(c: &mut Criterion) {
    let mut group = c.benchmark_group("exchange");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in [256, 8 << 10, 64 << 10] {
        for (name, genuine) in [("forwarded", true), ("refused", false)] {
            let input = delivery(&vec![b'x'; size], genuine).repeat(BATCH);
            let length = input.len() / BATCH;
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok".to_vec();
            let application = move |received: &[u8]| {
                let reply = if received.len() > length { reply.clone() } else { Vec::new() };
                Reaction { reply, close: false }
            };
            let net = VirtualNet::new(usize::MAX, Some(Rc::new(RefCell::new(application))));
            let shared = Shared {
                policy: Arc::new(Published::new(policy())),
                clock: Clock::start(),
                metrics: Metrics::new(1),
                observer: Arc::new(NoObserver),
                pseudonym: Arc::from(&b"countersign-0"[..]),
                spool: None,
                admission: admission(),
            };
            let worker = Rc::new(Worker::new(net.clone(), &shared, 0));
            group.bench_function(format!("{name}/{size}"), |b| {
                b.iter(|| {
                    net.run(serve::serve(
                        Rc::clone(&worker),
                        net.client(&input, true),
                        PeerOrigin::default(),
                        worker.open(PeerOrigin::default()).unwrap(),
                    ))
                    .unwrap()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
