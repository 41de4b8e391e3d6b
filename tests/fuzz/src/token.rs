//! Tokens: without the key none is genuine, whatever its header and its claims say, and nothing panics on the way.

use std::sync::LazyLock;
use std::time::Duration;

use countersign::config::presets::preset;
use countersign::explain::{Given, TrialBudget, explain};
use countersign::gate::verify::published::PublishedKeys;
use countersign::gate::verify::{Key, Keyring, Validity, Verifier};
use countersign::now::Now;
use countersign::wire::headers::HeaderBuf;

use crate::request::Request;
use crate::signature::with_claims;

/// In no corpus, and too long to be found by chance.
const SECRET: &[u8] = b"5d8a3c1be2f94706a1c8d05be72f9346";

static VERIFIERS: LazyLock<Vec<Verifier>> = LazyLock::new(|| {
    let verifier = |name: &&str| {
        let scheme = with_claims(&preset(name).expect("a preset"));
        let key = Key::from_secret("1", &scheme, SECRET, Validity::default()).expect("a key");
        Verifier::new(scheme, Keyring::new(vec![key]), None, None).expect("a verifier")
    };
    ["jwt-hs256", "vonage", "monday", "livekit", "dialpad"].iter().map(verifier).collect()
});

static PUBLISHED: LazyLock<Key> = LazyLock::new(|| {
    let scheme = preset("jwt-rs256").expect("a preset");
    Key::from_url("1", &scheme, "https://keys.example/jwks", Validity::default()).expect("a key")
});

/// The input is the number of a verifier, and a line of header and claims in plain text, joined by a NUL; what is behind the
/// line is the body. All of it is also read as a set of keys.
pub fn run(bytes: &[u8]) {
    let keys: &PublishedKeys = PUBLISHED.published().expect("published keys");
    let _ = keys.read(bytes).map(|set| set.count());
    let Some((number, rest)) = bytes.split_first() else { return };
    let verifier = &VERIFIERS[usize::from(*number) % VERIFIERS.len()];
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let (line, body) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut parts = line.splitn(2, |byte| *byte == 0).map(|part| encode(part));
    let (header, claims) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let token = format!("{header}.{claims}.{}", encode(&[7; 32]));
    let raw = String::from_utf8_lossy(line).into_owned();
    for token in [token, raw] {
        let mut headers = HeaderBuf::default();
        headers.push("authorization", format!("Bearer {token}").as_bytes());
        let whole = number % 2 == 0;
        let request = Request { target: b"/", headers, body: if whole { token.as_bytes() } else { body } };
        let now = Now::at_unix(Duration::from_secs(1_760_000_000));
        let verdict = verifier.begin(&request, now).and_then(|mut check| {
            check.update(request.body);
            verifier.finish(check, &request, now).map(|_| ()).map_err(|(rejection, _)| rejection)
        });
        assert!(verdict.is_err());
        if bytes.len() % 8 == 0 {
            let budget = &TrialBudget::of(request.body.len());
            let given = Given::alone(verifier, &[], now, budget);
            assert_eq!(explain(&given, &request).verdict, verdict);
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(char::from(DIGITS[(word >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}
