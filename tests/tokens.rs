//! JSON Web Tokens: vectors signed by PyJWT (`vectors/sign_tokens.py`), what `sign` makes for every preset, and tokens
//! that an attacker would write.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::config::presets;
use countersign::gate::verify::{
    ClaimRule, JwsAlgorithm, Key, Keyring, Kind, MacAlgorithm, PublicAlgorithm, PublicUrl, Scheme, SignError,
    SignInput, SignatureSource, Source, Validity, Verified, Verifier, sign,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use support::Received;

const NOW: u64 = 1_760_000_000;
const SECRET: &str = "correct-horse-battery-staple-0123456789";
const BODY: &[u8] = br#"{"event":"order.created"}"#;
const PRIVATE: &str = include_str!("keys/rsa-1.pem");
const PUBLIC: &str = include_str!("keys/rsa-1.pub.pem");

fn now() -> Now {
    Now::at_unix(Duration::from_secs(NOW))
}

fn request(target: &str, headers: &[(String, String)], body: &[u8]) -> Received {
    let mut fields = HeaderBuf::default();
    for (name, value) in headers {
        fields.push(name, value.as_bytes());
    }
    Received { target: target.to_owned(), list: headers.to_vec(), headers: fields, body: body.to_vec() }
}

fn judge<'v>(verifier: &'v Verifier, delivery: &Received, now: Now) -> Result<Verified<'v, Received>, Rejection> {
    let mut check = verifier.begin(delivery, now)?;
    for chunk in delivery.body.chunks(7) {
        check.update(chunk);
    }
    while verifier.advance(&mut check, delivery, now) {}
    verifier.finish(check, delivery.clone(), now).map_err(|(rejection, _)| rejection)
}

fn verdict(verifier: &Verifier, delivery: &Received) -> Result<(), Rejection> {
    judge(verifier, delivery, now()).map(|_| ())
}

fn with_claims(scheme: &Scheme, claims: &[(&str, &str)]) -> Arc<Scheme> {
    let rule = |(name, value): &(&str, &str)| ClaimRule { name: (*name).into(), values: vec![(*value).into()] };
    let claims: Vec<ClaimRule> = claims.iter().map(rule).collect();
    Arc::new(Scheme { token: scheme.token.clone().with_claims(&claims), ..scheme.clone() })
}

fn algorithm(name: &str) -> Kind {
    Kind::Jws(match name {
        "HS256" => JwsAlgorithm::Mac(MacAlgorithm::HmacSha256),
        "HS384" => JwsAlgorithm::Mac(MacAlgorithm::HmacSha384),
        "HS512" => JwsAlgorithm::Mac(MacAlgorithm::HmacSha512),
        "RS256" => JwsAlgorithm::Public(PublicAlgorithm::RsaPkcs1Sha256),
        "RS384" => JwsAlgorithm::Public(PublicAlgorithm::RsaPkcs1Sha384),
        "RS512" => JwsAlgorithm::Public(PublicAlgorithm::RsaPkcs1Sha512),
        "PS256" => JwsAlgorithm::Public(PublicAlgorithm::RsaPssSha256),
        "PS384" => JwsAlgorithm::Public(PublicAlgorithm::RsaPssSha384),
        "PS512" => JwsAlgorithm::Public(PublicAlgorithm::RsaPssSha512),
        "ES256" => JwsAlgorithm::Public(PublicAlgorithm::EcdsaP256Sha256Fixed),
        "ES384" => JwsAlgorithm::Public(PublicAlgorithm::EcdsaP384Sha384Fixed),
        "EdDSA" => JwsAlgorithm::Public(PublicAlgorithm::Ed25519),
        other => panic!("{other}"),
    })
}

fn key(scheme: &Scheme, id: usize, text: &str) -> Key {
    let id = id.to_string();
    match scheme.wants_public_key() {
        true => Key::from_public(&id, scheme, text, Validity::default()).unwrap(),
        false => Key::from_secret(&id, scheme, text.as_bytes(), Validity::default()).unwrap(),
    }
}

/// What a vector is judged by.
fn verifier_of(vector: &Value) -> Verifier {
    let text = |key: &str| vector[key].as_str();
    let preset = presets::preset(text("scheme").unwrap()).unwrap();
    let kind = text("algorithm").map_or(preset.kind, algorithm);
    let claims = vector["claims"].as_object().unwrap();
    let claims: Vec<(&str, &str)> = claims.iter().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
    let scheme = with_claims(&Scheme { kind, ..(*preset).clone() }, &claims);
    let keys = vector["keys"].as_array().unwrap().iter().enumerate().map(|(at, it)| {
        let key = key(&scheme, at, it["text"].as_str().unwrap());
        it["kid"].as_str().map_or_else(|| key.clone(), |name| key.clone().named(name))
    });
    let url = text("public_url").map(|url| PublicUrl::parse(url).unwrap());
    Verifier::new(Arc::clone(&scheme), Keyring::new(keys.collect()), None, url).unwrap()
}

#[test]
fn every_token_of_an_independent_signer_has_its_verdict() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors/tokens.json")).unwrap();
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let headers = vector["headers"].as_object().unwrap().iter();
        let headers: Vec<_> = headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect();
        let target = vector["url"].as_str().unwrap().strip_prefix("https://hooks.example.com").unwrap();
        let delivery = request(target, &headers, vector["body"].as_str().unwrap().as_bytes());
        let verifier = verifier_of(vector);
        let judged = judge(&verifier, &delivery, Now::at_unix(Duration::from_secs(vector["now"].as_u64().unwrap())));
        let found = judged.as_ref().map_or_else(|rejection| rejection.code(), |_| "accept");
        let expected = vector["expect"].as_str().unwrap();
        let id = judged.as_ref().ok().and_then(|verified| verified.signed_delivery_id().map(<[u8]>::to_vec));
        if found != expected || vector["id"].as_str().is_some_and(|wanted| Some(wanted.as_bytes()) != id.as_deref()) {
            wrong.push(format!("{}, {}: {found}, not {expected}", vector["scheme"], vector["name"]));
        }
        let scheme = vector["algorithm"].as_str().or(vector["scheme"].as_str()).unwrap();
        counts.entry(scheme).or_default()[usize::from(expected != "accept")] += 1;
    }
    println!("{:<28} {:>7} {:>7}", "scheme", "accept", "reject");
    for (scheme, [accepted, rejected]) in &counts {
        println!("{scheme:<28} {accepted:>7} {rejected:>7}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
    assert_eq!(vectors.len(), 164);
}

/// The presets with tokens, each with claims that a route would give.
fn presets() -> Vec<Arc<Scheme>> {
    let tokens = presets::preset_names().filter_map(presets::preset);
    let tokens = tokens.filter(|scheme| matches!(scheme.kind, Kind::Jws(_)));
    let ready = |scheme: Arc<Scheme>| {
        let names = scheme.token.route_claims.clone();
        let claims: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "of-the-route")).collect();
        with_claims(&scheme, &claims)
    };
    tokens.map(ready).collect()
}

/// A private key and what verifies it.
fn pair(scheme: &Scheme) -> (Vec<u8>, String) {
    let random = SystemRandom::new();
    match scheme.kind {
        Kind::Jws(JwsAlgorithm::Mac(_)) => (SECRET.into(), SECRET.into()),
        Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::Ed25519)) => {
            let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            (document.as_ref().to_vec(), STANDARD.encode(pair.public_key()))
        }
        Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::EcdsaP256Sha256Fixed)) => {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
            (document.as_ref().to_vec(), STANDARD.encode(pair.public_key()))
        }
        _ => (PRIVATE.into(), PUBLIC.into()),
    }
}

fn signed(scheme: &Scheme, private: &[u8], body: &[u8]) -> Received {
    let url = "https://hooks.example.com/in?b=1&a=2";
    let input = SignInput { method: "POST", url, headers: &[], body, now: now(), id: Some("delivery_1") };
    match (sign(scheme, private, &input), &scheme.signature) {
        (Ok(added), _) => request("/in?b=1&a=2", &added, body),
        (Err(SignError::Elsewhere { value, .. }), SignatureSource::Body) => request("/in", &[], value.as_bytes()),
        (Err(error), _) => panic!("{}: {error}", scheme.name),
    }
}

fn verifier(scheme: &Arc<Scheme>, public: &str) -> Verifier {
    let url = scheme.signs_url().then(|| PublicUrl::parse("https://hooks.example.com/in").unwrap());
    let key = key(scheme, 1, public);
    let key = if scheme.token.key_claim.is_some() { key.named("client-1") } else { key };
    Verifier::new(Arc::clone(scheme), Keyring::new(vec![key]), None, url).unwrap()
}

#[test]
fn what_is_signed_for_a_preset_is_accepted_and_bound_to_what_it_covers() {
    let presets = presets();
    for scheme in &presets {
        let name = &scheme.name;
        let (private, public) = pair(scheme);
        let verifier = verifier(scheme, &public);
        let delivery = signed(scheme, &private, BODY);
        let verified = judge(&verifier, &delivery, now()).unwrap_or_else(|rejection| panic!("{name}: {rejection}"));
        assert_eq!(verified.key_id(), Some("1"), "{name}");
        assert_eq!(verified.timestamp(), scheme.timestamp.is_some().then_some(1_760_000_000_000), "{name}");
        let id = matches!(scheme.id, Some(Source::Claim(_))).then_some(&b"delivery_1"[..]);
        assert_eq!(verified.signed_delivery_id(), id, "{name}");
        assert_eq!(verified.replay_key(), judge(&verifier, &delivery, now()).unwrap().replay_key(), "{name}");

        let mut other = delivery.clone();
        other.body.push(b'.');
        match judge(&verifier, &other, now()) {
            Ok(other) => {
                assert!(!scheme.covers_body(), "{name}");
                // The token is the same, and the body another: two deliveries.
                assert_ne!(other.replay_key(), verified.replay_key(), "{name}");
            }
            Err(rejection) => {
                let whole = scheme.signature == SignatureSource::Body;
                let expected = if whole { Rejection::TokenMalformed } else { Rejection::DigestMismatch };
                assert!(scheme.covers_body(), "{name}");
                assert_eq!(rejection, expected, "{name}");
            }
        }
        let warned = scheme.warnings().iter().any(|weakness| weakness.message.contains("body"));
        assert_eq!(warned, !scheme.covers_body(), "{name}");
        if scheme.token.expires {
            let late = Now::at_unix(Duration::from_secs(NOW + 3600));
            assert_eq!(judge(&verifier, &delivery, late).map(|_| ()), Err(Rejection::TokenExpired), "{name}");
        }
        let missing = request("/in", &[], if scheme.signature == SignatureSource::Body { b"" } else { BODY });
        assert_eq!(verdict(&verifier, &missing), Err(Rejection::SignatureMissing), "{name}");
    }
    assert!(presets.len() >= 19, "{}", presets.len());
}

#[test]
fn a_preset_that_needs_claims_of_its_route_is_refused_without_them() {
    let scheme = presets::preset("google-pubsub").unwrap();
    let key = key(&scheme, 1, PUBLIC);
    let problems = Verifier::new(scheme, Keyring::new(vec![key]), None, None).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["claims", "claims"]);
}

/// A token of these parts, signed with the secret whatever they are.
fn made(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn bearer() -> Verifier {
    let scheme = with_claims(&presets::preset("jwt-hs256").unwrap(), &[("iss", "i"), ("aud", "a")]);
    verifier(&scheme, SECRET)
}

fn sent(verifier: &Verifier, token: &str) -> Result<(), Rejection> {
    verdict(verifier, &request("/in", &[("authorization".into(), format!("Bearer {token}"))], BODY))
}

const HEADER: &[u8] = br#"{"alg":"HS256"}"#;

fn claims() -> Vec<u8> {
    json!({"iss": "i", "aud": "a", "exp": NOW + 60}).to_string().into_bytes()
}

#[test]
fn tokens_of_attackers_are_refused_each_for_its_reason() {
    let verifier = bearer();
    assert_eq!(sent(&verifier, &made(HEADER, &claims())), Ok(()));
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"iss":"i","aud":"a","exp":{},"x":{}1{}}}"#, NOW + 60, open.repeat(depth), close.repeat(depth))
    };
    let many: String = (0..300).map(|n| format!(r#","m{n}":1"#)).collect();
    let with = |more: &str| format!(r#"{{"iss":"i","aud":"a","exp":{}{more}}}"#, NOW + 60);
    let malformed: Vec<(&str, String)> = vec![
        ("two parts", "a.b".into()),
        ("four parts", format!("{}.x", made(HEADER, &claims()))),
        ("five parts: an encrypted token", "a.b.c.d.e".into()),
        ("empty", "..".into()),
        ("no header", made(b"", &claims())),
        ("header no JSON", made(b"HS256", &claims())),
        ("header a list", made(br#"["alg","HS256"]"#, &claims())),
        ("no algorithm", made(br#"{"typ":"JWT"}"#, &claims())),
        ("algorithm twice", made(br#"{"alg":"HS256","alg":"HS256"}"#, &claims())),
        ("name of a key twice", made(br#"{"alg":"HS256","kid":"a","kid":"b"}"#, &claims())),
        ("claims no JSON", made(HEADER, b"x")),
        ("claims behind claims", made(HEADER, &[claims(), claims()].concat())),
        ("a claim twice", made(HEADER, with(r#","iss":"other""#).as_bytes())),
        ("a claim twice, escaped", made(HEADER, with(r#","\u0069ss":"other""#).as_bytes())),
        ("exp twice", made(HEADER, with(r#","exp":1"#).as_bytes())),
        ("exp a text", made(HEADER, br#"{"iss":"i","aud":"a","exp":"1760000060"}"#)),
        ("exp beyond all years", made(HEADER, br#"{"iss":"i","aud":"a","exp":1e300}"#)),
        ("exp before 1970", made(HEADER, br#"{"iss":"i","aud":"a","exp":-1}"#)),
        ("too deep, lists", made(HEADER, nested("[", "]", 17).as_bytes())),
        ("too deep, objects", made(HEADER, nested(r#"{"a":"#, "}", 17).as_bytes())),
        ("very deep", made(HEADER, nested("[", "]", 2000).as_bytes())),
        ("too many members", made(HEADER, with(&many).as_bytes())),
        ("not UTF-8", made(HEADER, b"{\"iss\":\"\xff\"}")),
        ("padded", made(HEADER, &claims()).replacen('.', "=.", 1)),
        ("base64 of the other alphabet", made(br#"{"alg":"HS256","x":"???>>>"}"#, &claims()).replace(['-', '_'], "+")),
        ("padded signature", format!("{}=", made(HEADER, &claims()))),
        ("issuer a list", made(HEADER, format!(r#"{{"iss":["i"],"aud":"a","exp":{}}}"#, NOW + 60).as_bytes())),
        ("a line break", made(HEADER, &claims()).replacen('.', "\n.", 1)),
    ];
    for (what, token) in malformed {
        assert_eq!(sent(&verifier, &token), Err(Rejection::TokenMalformed), "{what}");
    }
    assert_eq!(sent(&verifier, &made(HEADER, nested("[", "]", 14).as_bytes())), Ok(()), "deep enough");
    let long = made(HEADER, format!(r#"{{"x":"{}"}}"#, "y".repeat(8000)).as_bytes());
    assert_eq!(sent(&verifier, &long), Err(Rejection::TokenTooLarge));
    let long = made(format!(r#"{{"alg":"HS256","x":"{}"}}"#, "y".repeat(2000)).as_bytes(), &claims());
    assert_eq!(sent(&verifier, &long), Err(Rejection::TokenTooLarge));
    let long = made(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "y".repeat(300)).as_bytes(), &claims());
    assert_eq!(sent(&verifier, &long), Err(Rejection::TokenTooLarge));
}

#[test]
fn a_signature_has_one_spelling() {
    let verifier = bearer();
    let token = made(HEADER, &claims());
    assert_eq!(sent(&verifier, &token), Ok(()));
    // 32 bytes end with four unused bits.
    let last = token.chars().last().unwrap();
    let other = char::from(u8::try_from(last).unwrap() + 1);
    let changed = format!("{}{other}", token.strip_suffix(last).unwrap());
    assert_eq!(sent(&verifier, &changed), Err(Rejection::SignatureMismatch));
    let names = |token: &str| {
        let delivery = request("/in", &[("authorization".into(), format!("Bearer {token}"))], BODY);
        judge(&verifier, &delivery, now()).unwrap().replay_key()
    };
    assert_eq!(names(&token), names(&format!(" {token} ")));
}

#[test]
fn the_word_before_the_token_is_written_in_either_case_and_is_needed() {
    let verifier = bearer();
    let token = made(HEADER, &claims());
    let with = |value: String| verdict(&verifier, &request("/in", &[("authorization".into(), value)], BODY));
    assert_eq!(with(format!("bearer {token}")), Ok(()));
    assert_eq!(with(format!("BEARER {token}")), Ok(()));
    assert_eq!(with(token.clone()), Err(Rejection::SignatureMalformed));
    assert_eq!(with(format!("Basic {token}")), Err(Rejection::SignatureMalformed));
    let twice = [("authorization".into(), format!("Bearer {token}")), ("Authorization".into(), "Bearer x".into())];
    assert_eq!(verdict(&verifier, &request("/in", &twice, BODY)), Err(Rejection::SignatureDuplicate));
}

#[test]
fn a_body_that_was_not_shown_to_the_check_is_refused() {
    let verifier = bearer();
    let delivery = request("/in", &[("authorization".into(), format!("Bearer {}", made(HEADER, &claims())))], BODY);
    let check = verifier.begin(&delivery, now()).unwrap();
    let refused = verifier.finish(check, delivery, now()).map(|_| ()).map_err(|(rejection, _)| rejection);
    assert_eq!(refused, Err(Rejection::SignatureMismatch));
}
