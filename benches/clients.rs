//! What it costs to know the client and to ask whether it may call.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use countersign::gate::allowlist::AllowList;
use countersign::gate::client::ClientAddress;
use countersign::gate::networks::{Network, Networks};
use countersign::wire::headers::HeaderBuf;
use countersign::wire::proxy_protocol;
use criterion::{Criterion, criterion_group, criterion_main};

/// Networks that neither touch nor overlap, half of them of IPv6.
fn networks(count: u32) -> Networks {
    let network = |at: u32| match at % 2 {
        0 => Network::parse(&format!("{}/28", Ipv4Addr::from(0x0100_0000 + at * 64))).unwrap(),
        _ => Network::parse(&format!("{}/64", Ipv6Addr::from((0x2001_0db8_u128 << 96) + (u128::from(at) << 66))))
            .unwrap(),
    };
    (0..count).map(network).collect()
}

fn lists(c: &mut Criterion) {
    let mut group = c.benchmark_group("allow list");
    for count in [10, 1000, 10_000, 50_000] {
        let list = AllowList::new(Some(networks(count)), networks(3));
        let mut bits = 7_u32;
        group.bench_function(format!("{count} networks"), |b| {
            b.iter(|| {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                list.admit(black_box(Some(IpAddr::V4((0x0100_0000 + (bits >> 10)).into()))))
            });
        });
    }
    group.finish();
}

fn clients(c: &mut Criterion) {
    let mut group = c.benchmark_group("client");
    let proxies: Networks = ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| Network::parse(text).unwrap()).collect();
    let (stranger, proxy) = ("198.51.100.1".parse().ok(), "10.0.0.1".parse().ok());
    let mut headers = HeaderBuf::default();
    for (name, value) in [("Host", "a"), ("Content-Length", "2"), ("X-Hub-Signature-256", "sha256=00")] {
        headers.push(name, value.as_bytes());
    }
    group.bench_function("a stranger", |b| {
        b.iter(|| ClientAddress::of(black_box(stranger), headers.view(), &proxies));
    });
    headers.push("X-Forwarded-For", b"6.6.6.6, 203.0.113.1, 10.1.1.1");
    group.bench_function("through two proxies", |b| {
        b.iter(|| ClientAddress::of(black_box(proxy), headers.view(), &proxies));
    });
    let line = b"PROXY TCP4 203.0.113.1 198.51.100.2 56324 443\r\n";
    group.bench_function("a line of the PROXY protocol", |b| b.iter(|| proxy_protocol::parse(black_box(line))));
    group.finish();
}

criterion_group!(benches, lists, clients);
criterion_main!(benches);
