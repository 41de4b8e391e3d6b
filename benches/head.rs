//! Heads: finding the end, parsing and judging, framing; and what goes out again. `cargo bench --bench head`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use countersign::wire::encode;
use countersign::wire::framing;
use countersign::wire::head::{HeadLimits, HeadScan, RequestHead};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LIMITS: HeadLimits = HeadLimits { size: 16 << 10, fields: 100, target: 8 << 10 };

const HEAD: &[u8] = b"POST /webhooks/github HTTP/1.1\r\n\
    Host: hooks.example.com\r\n\
    User-Agent: GitHub-Hookshot/044aadd\r\n\
    Accept: */*\r\n\
    Content-Type: application/json\r\n\
    X-GitHub-Event: push\r\n\
    X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n\
    X-GitHub-Hook-ID: 292430182\r\n\
    X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\r\n\
    Content-Length: 256\r\n\
    Connection: keep-alive\r\n\r\n";

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    group.throughput(Throughput::Bytes(HEAD.len() as u64));
    group.bench_function("scan", |b| b.iter(|| HeadScan::new().scan(black_box(HEAD), LIMITS).unwrap()));
    let mut head = RequestHead::new();
    group.bench_function("parse", |b| b.iter(|| head.parse(black_box(HEAD), LIMITS).unwrap()));
    group.bench_function("framing", |b| b.iter(|| framing::of_request(black_box(&head), HEAD).unwrap()));
    let mut out = Vec::with_capacity(2048);
    group.bench_function("copy_end_to_end", |b| {
        b.iter(|| {
            out.clear();
            encode::copy_end_to_end(&mut out, head.headers(black_box(HEAD)), |_, _, _| false);
        });
    });
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
