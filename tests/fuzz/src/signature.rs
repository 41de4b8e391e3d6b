//! Signatures: without the key nothing is genuine, whatever the headers and the body, and nothing panics on the way.

use std::sync::LazyLock;
use std::time::Duration;

use countersign::config::presets::{preset, preset_names};
use countersign::explain::{Given, TrialBudget, explain};
use countersign::gate::verify::{
    ClaimRule, Encoding, Key, KeyEncoding, Keyring, PublicUrl, RouteValue, Scheme, Validity, Verifier,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;

use crate::request::Request;

/// In no corpus, and too long to be found by chance.
const SECRET: &str = "user:5d8a3c1be2f94706a1c8d05be72f9346";
/// A public key for each kind of key. Nothing in the corpus is signed for one of them.
const PUBLIC_KEYS: [&str; 4] = [
    // RFC 8032, section 7.1, test 1.
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    // The base points of P-256 and P-384: SEC 2, sections 2.4.2 and 2.5.1.
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab73617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
    include_str!("../../keys/rsa-1.pub.pem"),
];

static VERIFIERS: LazyLock<Vec<Verifier>> =
    LazyLock::new(|| preset_names().filter_map(preset).map(|scheme| verifier(&scheme)).collect());

fn verifier(scheme: &std::sync::Arc<Scheme>) -> Verifier {
    let key = if scheme.wants_public_key() {
        let read = |text: &&str| Key::from_public("1", scheme, text, Validity::default()).ok();
        PUBLIC_KEYS.iter().find_map(read)
    } else {
        let encoded = match scheme.secret.encoding {
            KeyEncoding::Raw => SECRET,
            KeyEncoding::Encoded(Encoding::Hex) => &SECRET[5..],
            KeyEncoding::Encoded(_) => "NWQ4YTNjMWJlMmY5NDcwNmExYzhkMDViZTcyZjkzNDY=",
        };
        Key::from_secret("1", scheme, encoded.as_bytes(), Validity::default()).ok()
    };
    let scheme = &with_claims(scheme);
    let url = scheme.signs_url().then(|| PublicUrl::parse("https://hooks.example.com").expect("a URL"));
    let key = key.unwrap_or_else(|| panic!("no key for {}", scheme.name));
    Verifier::new(scheme.clone(), Keyring::new(vec![key]), None, url).expect("a verifier")
}

/// The scheme with values for the claims that a route would give.
pub(crate) fn with_claims(scheme: &Scheme) -> std::sync::Arc<Scheme> {
    let claim = |name: &String| ClaimRule { name: name.clone(), values: vec!["a".to_owned()] };
    let claims: Vec<ClaimRule> = scheme.token.route_claims.iter().map(claim).collect();
    let value = |value: &RouteValue| RouteValue { name: value.name.clone(), values: vec!["a".to_owned()] };
    let values: Vec<RouteValue> = scheme.values.iter().map(value).collect();
    let token = scheme.token.clone().with_claims(&claims);
    std::sync::Arc::new(Scheme { token, ..scheme.clone().with_values(&values) })
}

/// The input is the number of a preset, a target, lines `name: value`, an empty line and a body.
pub fn run(bytes: &[u8]) {
    let Some((number, rest)) = bytes.split_first() else { return };
    let verifier = &VERIFIERS[usize::from(*number) % VERIFIERS.len()];
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut rest = lines.next().unwrap_or_default();
    let mut headers = HeaderBuf::default();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        headers.push(&String::from_utf8_lossy(&line[..colon]), line[colon + 1..].trim_ascii());
    }
    let request = Request { target, headers, body: rest };
    let now = Now::at_unix(Duration::from_secs(1_760_000_000));
    let verdict = verdict(verifier, &request, now);
    assert!(verdict.is_err());
    // Explaining costs many times as much as verifying.
    if bytes.len() % 8 == 0 {
        let budget = &TrialBudget::of(request.body.len());
        let given = Given::alone(verifier, &[], now, budget);
        assert_eq!(explain(&given, &request).verdict, verdict);
    }
}

fn verdict(verifier: &Verifier, request: &Request<'_>, now: Now) -> Result<(), Rejection> {
    let mut check = verifier.begin(request, now)?;
    request.body.chunks(5).for_each(|chunk| check.update(chunk));
    verifier.finish(check, request, now).map(|_| ()).map_err(|(rejection, _)| rejection)
}
