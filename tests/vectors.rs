//! Deliveries with known verdicts, against the presets.
//!
//! `vectors/vectors.json` holds deliveries that were signed by each provider's documented rule (some of them published
//! by the providers), with one defect each in those that must be refused. `vectors/own.json` does the same for presets
//! that are not in it: published examples, and signatures made with other libraries than ours. `vectors/more.json` has the
//! same for the presets that came later.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::config::presets;
use countersign::gate::verify::{Delivery, Key, Keyring, PublicUrl, RouteValue, Validity, Verifier};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::{HeaderBuf, Headers};
use serde_json::Value;

struct Received {
    method: String,
    target: String,
    headers: HeaderBuf,
    body: Vec<u8>,
}

impl Delivery for Received {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

fn text<'v>(vector: &'v Value, key: &str) -> &'v str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} in {vector}"))
}

fn received(vector: &Value) -> Received {
    let mut headers = HeaderBuf::default();
    for (name, value) in vector["headers"].as_object().unwrap() {
        headers.push(name, value.as_str().unwrap().as_bytes());
    }
    let (_, rest) = text(vector, "url").split_once("://").unwrap();
    let target = rest.find('/').map_or("/", |at| &rest[at..]).to_owned();
    let body = STANDARD.decode(text(vector, "body_b64")).unwrap();
    Received { method: text(vector, "method").to_owned(), target, headers, body }
}

fn verifier(vector: &Value) -> Verifier {
    let name = text(vector, "scheme");
    let scheme = presets::preset(name).unwrap_or_else(|| panic!("no preset {name}"));
    let given = vector["values"].as_object().into_iter().flatten();
    let given =
        given.map(|(name, value)| RouteValue { name: name.clone(), values: vec![value.as_str().unwrap().into()] });
    let scheme = Arc::new((*scheme).clone().with_values(&given.collect::<Vec<_>>()));
    let secrets = vector["secrets"].as_array().unwrap().iter().map(|secret| secret.as_str().unwrap());
    let keys = secrets
        .enumerate()
        .map(|(n, secret)| match scheme.wants_public_key() {
            true => Key::from_public(&n.to_string(), &scheme, secret, Validity::default()).unwrap(),
            false => Key::from_secret(&n.to_string(), &scheme, secret.as_bytes(), Validity::default()).unwrap(),
        })
        .collect();
    let url = text(vector, "url").split('?').next().unwrap();
    let public_url = scheme.signs_url().then(|| PublicUrl::parse(url).unwrap());
    Verifier::new(scheme, Keyring::new(keys), None, public_url).unwrap()
}

fn verdict(vector: &Value) -> Result<(), Rejection> {
    let verifier = verifier(vector);
    let delivery = received(vector);
    let now = Now::at_unix(Duration::from_secs(vector["now"].as_u64().unwrap()));
    let mut check = verifier.begin(&delivery, now)?;
    for chunk in delivery.body.chunks(7) {
        check.update(chunk);
    }
    verifier.finish(check, delivery, now).map(|_| ()).map_err(|(rejection, _)| rejection)
}

/// The reason that belongs to the defect; `None` where the vector's name does not settle it.
fn reason(name: &str) -> Option<Rejection> {
    Some(match name {
        "wrong secret" | "body changed" | "body with trailing newline" | "id changed" => Rejection::SignatureMismatch,
        "signature header missing" | "signature header empty" => Rejection::SignatureMissing,
        "signature not in the encoding" | "prefix missing" => Rejection::SignatureMalformed,
        "no timestamp in the header" => Rejection::TimestampMissing,
        "timestamp stale" => Rejection::TimestampStale,
        "timestamp from the future" => Rejection::TimestampFuture,
        "timestamp not a number" => Rejection::TimestampMalformed,
        _ => return None,
    })
}

fn judge_all(vectors: &str, expected: usize) {
    let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let (scheme, name) = (text(vector, "scheme"), text(vector, "name"));
        let verdict = verdict(vector);
        let accepts = match text(vector, "expect") {
            "accept" => true,
            "reject" => false,
            other => panic!("unknown verdict {other}"),
        };
        let right = match verdict {
            Ok(()) => accepts,
            Err(found) => !accepts && reason(name).is_none_or(|expected| found == expected),
        };
        if !right {
            wrong.push(format!("{scheme}, {name}: {verdict:?}"));
        }
        counts.entry(scheme).or_default()[usize::from(!accepts)] += 1;
    }
    println!("{:<20} {:>7} {:>7}", "scheme", "accept", "reject");
    for (scheme, [accepted, rejected]) in &counts {
        println!("{scheme:<20} {accepted:>7} {rejected:>7}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
    assert_eq!(vectors.len(), expected);
}

#[test]
fn every_vector_has_its_verdict() {
    judge_all(include_str!("vectors/vectors.json"), 208);
}

#[test]
fn every_vector_of_our_own_has_its_verdict() {
    judge_all(include_str!("vectors/own.json"), 73);
}

#[test]
fn every_vector_of_later_presets_has_its_verdict() {
    judge_all(include_str!("vectors/more.json"), 269);
}
