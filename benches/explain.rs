//! What an explanation costs: of a small body, of a megabyte that is genuine, of one that nothing explains, and of two that
//! an attacker has made.
#![allow(clippy::unwrap_used, missing_docs)]

use core::hint::black_box;
use core::time::Duration;
use std::sync::Arc;

use countersign::config::presets::{preset, preset_names};
use countersign::explain::{BodyEnd, Given, TrialBudget, explain};
use countersign::gate::verify::{Delivery, Key, Keyring, Scheme, SignInput, Validity, Verifier, sign};
use countersign::now::Now;
use countersign::wire::headers::{HeaderBuf, Headers};
use criterion::{Criterion, criterion_group, criterion_main};

const SECRET: &[u8] = b"correct-horse-battery-staple-0123456789";
const MIB: usize = 1 << 20;

struct Captured {
    headers: HeaderBuf,
    body: Vec<u8>,
}

impl Delivery for Captured {
    fn method(&self) -> &[u8] {
        b"POST"
    }

    fn target(&self) -> &[u8] {
        b"/webhooks/github"
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

/// A delivery whose signature is that of another body, or of its own.
fn captured(scheme: &Scheme, signed: &[u8], body: Vec<u8>, now: Now) -> Captured {
    let input = SignInput { method: "POST", url: "http://a.example/", headers: &[], body: signed, now, id: None };
    let mut headers = HeaderBuf::default();
    sign(scheme, SECRET, &input).unwrap().iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
    Captured { headers, body }
}

fn json(length: usize) -> Vec<u8> {
    let item = r#"{"id":12345,"name":"Zoë","url":"https://a.example/<b>","total":12.5},"#;
    format!("[{}1]", item.repeat(length / item.len())).into_bytes()
}

fn explanations(criterion: &mut Criterion) {
    let now = Now::at_unix(Duration::from_secs(1_760_000_000));
    let schemes: Vec<Arc<Scheme>> = preset_names().filter_map(preset).collect();
    let scheme = preset("github").unwrap();
    let key = Key::from_secret("k", &scheme, SECRET, Validity::default()).unwrap();
    let verifier = Verifier::new(Arc::clone(&scheme), Keyring::new(vec![key]), None, None).unwrap();
    let secrets = [("k".to_owned(), SECRET.to_vec().into())];
    let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'['; 512 * MIB], 9);
    let other: &[u8] = b"what was signed is something else";
    let cases = [
        ("small, unexplained", captured(&scheme, other, json(2000), now)),
        ("1 MiB, genuine", captured(&scheme, &json(MIB), json(MIB), now)),
        ("1 MiB, unexplained", captured(&scheme, other, json(MIB), now)),
        ("1 MiB of [", captured(&scheme, other, vec![b'['; MIB], now)),
        ("decompression bomb", captured(&scheme, other, bomb, now)),
    ];
    let mut group = criterion.benchmark_group("explain");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(2));
    for (name, request) in &cases {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let budget = TrialBudget::of(request.body.len());
                let (secrets, schemes) = (&secrets, &schemes);
                let given = Given {
                    verifier: &verifier,
                    secrets,
                    of_others: &[],
                    schemes,
                    now,
                    is_present: false,
                    query: None,
                    end: BodyEnd::AsSaid,
                    budget: &budget,
                };
                black_box(explain(&given, request)).verdict.is_ok()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, explanations);
criterion_main!(benches);
