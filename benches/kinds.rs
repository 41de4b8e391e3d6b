//! What verification costs for each kind of signature, beside ring's own primitive over the same bytes. At the end a table
//! has both and their ratio, from what criterion has measured. Where a signature could be another one for the same bytes, or
//! does not cover the whole body, the engine names the delivery by a digest: the last columns have ring with SHA-256 of the body.
//!
//! `cargo bench --bench kinds` measures all of them, `cargo bench --bench kinds -- rsa` those whose name has the word.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use core::hint::black_box;
use core::time::Duration;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::config::parse_str;
use countersign::gate::verify::{Key, Keyring, Scheme, Validity, Verifier, sha256};
use countersign::now::Now;
use countersign::wire::headers::HeaderBuf;
use criterion::{BenchmarkId, Criterion, criterion_group};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};

use support::Received;

const NOW: u64 = 1_760_000_000;
const SECRET: &[u8] = b"correct-horse-battery-staple-0123456789";
const PRIVATE: &str = include_str!("../tests/keys/rsa-1.pem");
const PUBLIC: &str = include_str!("../tests/keys/rsa-1.pub.pem");
const LENGTH: usize = 8192;

/// How a kind is signed, and what verifies it here and in ring.
enum Signer {
    Secret,
    Rsa(&'static dyn RsaEncoding, &'static dyn VerificationAlgorithm),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static dyn VerificationAlgorithm),
    Ed25519,
}

/// What is around the signed bytes.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    Body,
    Form,
    Multipart,
    Gzip,
    Token,
}

/// A kind: its name in the table, its lines of a scheme, how it is signed, and what is around the signed bytes.
struct SignatureKind {
    name: &'static str,
    lines: &'static str,
    signer: Signer,
    around: Around,
}

const BASE64: &str = "signature = { header = 'X-Signature', encoding = 'base64' }\ncontent = '{body}'\n";
const TOKEN: &str = "signature = { header = 'X-Signature' }\ntoken = { expires = true }\n";

fn kinds() -> [SignatureKind; 14] {
    use Around::{Body, Form, Gzip, Multipart, Token};
    use Signer::{Ecdsa, Ed25519, Rsa, Secret};
    let kind = |name, lines, signer, around| SignatureKind { name, lines, signer, around };
    let form = "algorithm = 'hmac-sha256'\nsignature = { header = 'X-Signature', encoding = 'base64' }\ncontent = '{form:payload}'\n";
    let pkcs1 = || Rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256);
    let pss = || Rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256);
    let p256 = Ecdsa(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &signature::ECDSA_P256_SHA256_ASN1);
    let p384 = Ecdsa(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, &signature::ECDSA_P384_SHA384_ASN1);
    let es256 = Ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P256_SHA256_FIXED);
    [
        kind("hmac-sha256", "algorithm = 'hmac-sha256'\n", Secret, Body),
        kind("hmac-sha256-form", form, Secret, Form),
        kind("hmac-sha256-multipart", form, Secret, Multipart),
        kind("hmac-sha256-decoded-gzip", "algorithm = 'hmac-sha256'\ncontent_encoding = 'decoded'\n", Secret, Gzip),
        kind("rsa-pkcs1-2048", "algorithm = 'rsa-pkcs1-sha256'\n", pkcs1(), Body),
        kind("rsa-pss-2048", "algorithm = 'rsa-pss-sha256'\n", pss(), Body),
        kind("ecdsa-p256", "algorithm = 'ecdsa-p256-sha256'\n", p256, Body),
        kind("ecdsa-p384", "algorithm = 'ecdsa-p384-sha384'\n", p384, Body),
        kind("ed25519", "algorithm = 'ed25519'\n", Ed25519, Body),
        kind("jwt-hs256", "algorithm = 'jwt-hs256'\n", Secret, Token),
        kind("jwt-rs256", "algorithm = 'jwt-rs256'\n", pkcs1(), Token),
        kind("jwt-ps256", "algorithm = 'jwt-ps256'\n", pss(), Token),
        kind("jwt-es256", "algorithm = 'jwt-es256'\n", es256, Token),
        kind("jwt-eddsa", "algorithm = 'jwt-eddsa'\n", Ed25519, Token),
    ]
}

impl SignatureKind {
    fn scheme(&self) -> Arc<Scheme> {
        let rest = match self.around {
            Around::Token => TOKEN,
            Around::Form | Around::Multipart => "",
            _ => BASE64,
        };
        let keys = match self.signer {
            Signer::Secret => "secrets = [{ id = '1', file = 'x' }]",
            _ => "public_keys = [{ id = '1', file = 'x' }]",
        };
        let text = format!(
            "[[listener]]\naddress = '127.0.0.1:1'\n[upstream]\naddress = '127.0.0.1:2'\n[[route]]\npath = '/in'\nscheme = 'own'\n\
             {keys}\n[scheme.own]\n{}{rest}equal_bytes = 'one-event'\n",
            self.lines
        );
        let (settings, _) =
            parse_str("bench.toml", &text).unwrap_or_else(|problems| panic!("{}: {problems}", self.name));
        Arc::clone(&settings.routes[0].verification.as_ref().unwrap().scheme)
    }
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key that signs, the text with which a route verifies, and ring's primitive.
struct Pair {
    sign: Sign,
    public: String,
    bare: Bare,
}

enum Bare {
    Mac(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
}

impl Bare {
    fn verify(&self, content: &[u8], tag: &[u8]) {
        match self {
            Self::Mac(key) => hmac::verify(key, content, tag).unwrap(),
            Self::Public(key) => key.verify(content, tag).unwrap(),
        }
    }
}

fn pair(signer: &Signer) -> Pair {
    let random = SystemRandom::new();
    match signer {
        Signer::Secret => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            let signing = key.clone();
            let sign = move |content: &[u8]| hmac::sign(&signing, content).as_ref().to_vec();
            Pair { sign: Box::new(sign), public: String::new(), bare: Bare::Mac(key) }
        }
        Signer::Rsa(encoding, algorithm) => {
            let der = PRIVATE.lines().filter(|line| !line.starts_with('-')).collect::<String>();
            let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
            let bare = Bare::Public(UnparsedPublicKey::new(*algorithm, pair.public_key().as_ref().to_vec()));
            let encoding = *encoding;
            let sign = move |content: &[u8]| {
                let mut tag = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), content, &mut tag).unwrap();
                tag
            };
            Pair { sign: Box::new(sign), public: PUBLIC.into(), bare }
        }
        Signer::Ecdsa(signing, algorithm) => {
            let document = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &random).unwrap();
            let point = pair.public_key().as_ref().to_vec();
            let (public, bare) = (STANDARD.encode(&point), Bare::Public(UnparsedPublicKey::new(*algorithm, point)));
            let sign = move |content: &[u8]| pair.sign(&SystemRandom::new(), content).unwrap().as_ref().to_vec();
            Pair { sign: Box::new(sign), public, bare }
        }
        Signer::Ed25519 => {
            let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            let key = pair.public_key().as_ref().to_vec();
            let (public, bare) =
                (STANDARD.encode(&key), Bare::Public(UnparsedPublicKey::new(&signature::ED25519, key)));
            Pair { sign: Box::new(move |content| pair.sign(content).as_ref().to_vec()), public, bare }
        }
    }
}

/// A delivery, the bytes that are signed in it, and their signature.
struct Signed {
    delivery: Received,
    content: Vec<u8>,
    tag: Vec<u8>,
}

fn signed(kind: &SignatureKind, pair: &Pair) -> Signed {
    let text: String = (0..LENGTH).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let (body, media) = match kind.around {
        Around::Form => (format!("payload={text}").into_bytes(), "application/x-www-form-urlencoded"),
        Around::Multipart => {
            let head = "--limit\r\nContent-Disposition: form-data; name=\"payload\"\r\n\r\n";
            (format!("{head}{text}\r\n--limit--\r\n").into_bytes(), "multipart/form-data; boundary=limit")
        }
        Around::Gzip => (gzip(text.as_bytes()), "application/json"),
        Around::Body | Around::Token => (text.clone().into_bytes(), "application/json"),
    };
    let mut headers = HeaderBuf::default();
    headers.push("content-type", media.as_bytes());
    if kind.around == Around::Gzip {
        headers.push("content-encoding", b"gzip");
    }
    if kind.around != Around::Token {
        let tag = (pair.sign)(text.as_bytes());
        headers.push("X-Signature", STANDARD.encode(&tag).as_bytes());
        return Signed { delivery: Received::of(headers, body), content: text.into_bytes(), tag };
    }
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let algorithm = match kind.name {
        "jwt-eddsa" => "EdDSA".to_owned(),
        name => name.trim_start_matches("jwt-").to_uppercase(),
    };
    let claims = format!(r#"{{"iss":"https://sender.example","iat":{NOW},"exp":{}}}"#, NOW + 60);
    let content = format!("{}.{}", part(&format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#)), part(&claims));
    let tag = (pair.sign)(content.as_bytes());
    headers.push("X-Signature", format!("{content}.{}", URL_SAFE_NO_PAD.encode(&tag)).as_bytes());
    Signed { delivery: Received::of(headers, body), content: content.into_bytes(), tag }
}

/// RFC 1952, with a head without a name.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(miniz_oxide::deflate::compress_to_vec(text, 6));
    out.extend(crc32(text).to_le_bytes());
    out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    out
}

fn crc32(text: &[u8]) -> u32 {
    !text.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn verify(criterion: &mut Criterion) {
    let now = Now::at_unix(Duration::from_secs(NOW));
    let mut group = criterion.benchmark_group("kinds");
    for kind in kinds() {
        let (scheme, pair) = (kind.scheme(), pair(&kind.signer));
        let key = match kind.signer {
            Signer::Secret => Key::from_secret("1", &scheme, SECRET, Validity::default()).unwrap(),
            _ => Key::from_public("1", &scheme, &pair.public, Validity::default()).unwrap(),
        };
        let verifier = Verifier::new(scheme, Keyring::new(vec![key]), None, None).unwrap();
        let Signed { delivery, content, tag } = signed(&kind, &pair);
        group.bench_function(BenchmarkId::new("engine", kind.name), |bencher| {
            bencher.iter(|| {
                let delivery = black_box(&delivery);
                let mut check = verifier.begin(delivery, now).unwrap();
                check.update(&delivery.body);
                assert!(verifier.finish(check, delivery, now).is_ok());
            });
        });
        let by_ring = || {
            // Every receiver has to decompress what was compressed.
            if kind.around == Around::Gzip {
                let raw = delivery.body.get(10..delivery.body.len() - 8).unwrap();
                assert_eq!(miniz_oxide::inflate::decompress_to_vec(black_box(raw)).unwrap().len(), LENGTH);
            }
            pair.bare.verify(black_box(&content), black_box(&tag));
        };
        group.bench_function(BenchmarkId::new("ring", kind.name), |bencher| bencher.iter(by_ring));
        group.bench_function(BenchmarkId::new("named", kind.name), |bencher| {
            bencher.iter(|| {
                by_ring();
                black_box(sha256(black_box(&delivery.body)))
            });
        });
    }
    group.finish();
}

/// What criterion has measured last, in nanoseconds: the estimate of the median.
fn measured(side: &str, kind: &str) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let home = std::env::var_os("CRITERION_HOME").map_or_else(|| target.join("criterion"), PathBuf::from);
    let text = fs::read_to_string(home.join("kinds").join(side).join(kind).join("new/estimates.json")).ok()?;
    let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

fn table() {
    println!("\n| kind, {LENGTH} bytes | engine | ring | ratio | ring, and SHA-256 of the body | ratio |");
    println!("|---|---|---|---|---|---|");
    for SignatureKind { name, .. } in kinds() {
        if let [Some(engine), Some(ring), Some(named)] = ["engine", "ring", "named"].map(|side| measured(side, name)) {
            let shown = |nanoseconds: f64| format!("{:.2} µs", nanoseconds / 1e3);
            let (ratio, fair) = (engine / ring, engine / named);
            println!("| {name} | {} | {} | {ratio:.2} | {} | {fair:.2} |", shown(engine), shown(ring), shown(named));
        }
    }
}

criterion_group!(benches, verify);

fn main() {
    benches();
    if std::env::args().any(|argument| argument == "--bench") && !std::env::args().any(|argument| argument == "--test")
    {
        Criterion::default().configure_from_args().final_summary();
        table();
    }
}
