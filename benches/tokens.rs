//! What the verification of a token costs beside ring's primitive over the same signed bytes, for each kind of key; the
//! body of 8 KiB is hashed for the digest that the token or the name of the delivery needs.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use core::hint::black_box;
use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::config::presets;
use countersign::gate::verify::{ClaimRule, Key, Keyring, Scheme, SignInput, Validity, Verifier, sha256, sign};
use countersign::now::Now;
use countersign::wire::headers::HeaderBuf;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};

use support::Received;

const SECRET: &[u8] = b"correct-horse-battery-staple-0123456789";
const PRIVATE: &str = include_str!("../tests/keys/rsa-1.pem");
const PUBLIC: &str = include_str!("../tests/keys/rsa-1.pub.pem");

/// A key of each kind: for `sign`, for the route, and for ring.
struct Keys {
    private: Vec<u8>,
    public: String,
    bare: Option<(&'static dyn VerificationAlgorithm, Vec<u8>)>,
}

fn keys(name: &str) -> Keys {
    let random = SystemRandom::new();
    match name {
        "jwt-es256" => {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
            let public = pair.public_key().as_ref().to_vec();
            let bare = Some((&ECDSA_P256_SHA256_FIXED as &dyn VerificationAlgorithm, public.clone()));
            Keys { private: document.as_ref().to_vec(), public: STANDARD.encode(&public), bare }
        }
        "jwt-eddsa" => {
            let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let public = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap().public_key().as_ref().to_vec();
            let bare = Some((&ED25519 as &dyn VerificationAlgorithm, public.clone()));
            Keys { private: document.as_ref().to_vec(), public: STANDARD.encode(&public), bare }
        }
        "jwt-rs256" => {
            let der = PRIVATE.lines().filter(|line| !line.starts_with('-')).collect::<String>();
            let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
            let public = pair.public_key().as_ref().to_vec();
            let bare = Some((&RSA_PKCS1_2048_8192_SHA256 as &dyn VerificationAlgorithm, public));
            Keys { private: PRIVATE.into(), public: PUBLIC.into(), bare }
        }
        _ => Keys { private: SECRET.to_vec(), public: String::new(), bare: None },
    }
}

fn ready(name: &str) -> Arc<Scheme> {
    let preset = presets::preset(name).unwrap();
    let claim = |name: &String| ClaimRule { name: name.clone(), values: vec!["https://sender.example".into()] };
    let claims: Vec<ClaimRule> = preset.token.route_claims.iter().map(claim).collect();
    Arc::new(Scheme { token: preset.token.clone().with_claims(&claims), ..(*preset).clone() })
}

fn tokens(criterion: &mut Criterion) {
    let now = Now::at_unix(Duration::from_secs(1_760_000_000));
    let mut group = criterion.benchmark_group("tokens");
    for name in ["jwt-hs256", "jwt-rs256", "jwt-es256", "jwt-eddsa"] {
        let (scheme, keys) = (ready(name), keys(name));
        let body: Vec<u8> = (0..8192).map(|n| (n % 251) as u8).collect();
        let input = SignInput { method: "POST", url: "https://h/in", headers: &[], body: &body, now, id: None };
        let (header, value) = sign(&scheme, &keys.private, &input).unwrap().pop().unwrap();
        let mut headers = HeaderBuf::default();
        headers.push(&header, value.as_bytes());
        let token = value.trim_start_matches("Bearer ").to_owned();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = match scheme.wants_public_key() {
            true => Key::from_public("1", &scheme, &keys.public, Validity::default()).unwrap(),
            false => Key::from_secret("1", &scheme, SECRET, Validity::default()).unwrap(),
        };
        let verifier = Verifier::new(Arc::clone(&scheme), Keyring::new(vec![key]), None, None).unwrap();
        let delivery = Received::of(headers, body);
        group.bench_function(BenchmarkId::new("engine", name), |bencher| {
            bencher.iter(|| {
                let delivery = black_box(&delivery);
                let mut check = verifier.begin(delivery, now).unwrap();
                check.update(&delivery.body);
                assert!(verifier.finish(check, delivery, now).is_ok());
            });
        });
        let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        let bare = keys.bare.map(|(algorithm, key)| UnparsedPublicKey::new(algorithm, key));
        group.bench_function(BenchmarkId::new("ring", name), |bencher| {
            bencher.iter(|| {
                black_box(sha256(black_box(&delivery.body)));
                let signed = black_box(signed.as_bytes());
                match &bare {
                    Some(key) => key.verify(signed, &signature).unwrap(),
                    None => hmac::verify(&secret, signed, &signature).unwrap(),
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, tokens);
criterion_main!(benches);
