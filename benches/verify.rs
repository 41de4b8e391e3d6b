//! What verification costs beside the bare HMAC of the same bytes.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use core::hint::black_box;
use core::time::Duration;

use countersign::config::presets;
use countersign::gate::verify::{Key, Keyring, SignInput, Validity, Verifier, sign};
use countersign::now::Now;
use countersign::wire::headers::HeaderBuf;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::hmac;

use support::Received;

const SECRET: &[u8] = b"correct-horse-battery-staple-0123456789";
const SIZES: [usize; 3] = [256, 8 * 1024, 64 * 1024];

fn verify(criterion: &mut Criterion) {
    let scheme = presets::preset("github").unwrap();
    let key = Key::from_secret("1", &scheme, SECRET, Validity::default()).unwrap();
    let verifier = Verifier::new(scheme.clone(), Keyring::new(vec![key]), None, None).unwrap();
    let bare = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let now = Now::at_unix(Duration::from_secs(1_760_000_000));
    let mut group = criterion.benchmark_group("verify");
    for size in SIZES {
        let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let url = "https://hooks.example.com/webhooks/github";
        let input = SignInput { method: "POST", url, headers: &[], body: &body, now, id: None };
        let mut headers = HeaderBuf::default();
        for (name, value) in [("host", "hooks.example.com"), ("content-type", "application/json"), ("user-agent", "x")]
        {
            headers.push(name, value.as_bytes());
        }
        for (name, value) in sign(&scheme, SECRET, &input).unwrap() {
            headers.push(&name, value.as_bytes());
        }
        let delivery = Received::of(headers, body);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("engine", size), |bencher| {
            bencher.iter(|| {
                let delivery = black_box(&delivery);
                let mut check = verifier.begin(delivery, now).unwrap();
                check.update(&delivery.body);
                assert!(verifier.finish(check, delivery, now).is_ok());
            });
        });
        group.bench_function(BenchmarkId::new("ring", size), |bencher| {
            bencher.iter(|| hmac::sign(black_box(&bare), black_box(&delivery.body)));
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
