//! Handshakes: whatever a client sends, an answer is text or JSON without markup, no longer than the value that it brings
//! allows, and never the answer to a call that wants a signature.

use std::sync::LazyLock;
use std::time::Duration;

use countersign::config::handshake::handshakes;
use countersign::config::presets::preset;
use countersign::gate::verify::challenge::CHALLENGE_LIMIT;
use countersign::gate::verify::{
    CallProof, Challenges, Delivery, Key, Keyring, Question, Validity, Verifier, VerifyToken,
};
use countersign::now::Now;
use countersign::wire::headers::{HeaderBuf, Headers};

const SECRET: &[u8] = b"user:5d8a3c1be2f94706a1c8d05be72f9346";

/// More than every answer has beside its value.
const ROOM: usize = 256;

struct Asked<'a> {
    method: &'static str,
    target: &'a [u8],
    headers: HeaderBuf,
    body: &'a [u8],
}

impl Delivery for Asked<'_> {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn target(&self) -> &[u8] {
        self.target
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        self.body
    }
}

static ROUTES: LazyLock<Vec<(Challenges, Verifier)>> = LazyLock::new(|| {
    let scheme = preset("hmac-sha256-hex").expect("a preset");
    let key = Key::from_secret("1", &scheme, SECRET, Validity::default()).expect("a key");
    let verifier = Verifier::new(scheme, Keyring::new(vec![key]), None, None).expect("a verifier");
    let challenges = |handshake: &std::sync::Arc<_>| Challenges {
        handshake: std::sync::Arc::clone(handshake),
        tokens: vec![VerifyToken::new(b"t", Validity::default())],
        url: Some("https://hooks.example.com/".to_owned()),
        first_calls: true,
        confirmations: Default::default(),
    };
    handshakes().map(|handshake| (challenges(handshake), verifier.clone())).collect()
});

/// The input is the number of a handshake, that of a method, a target, lines `name: value`, an empty line and a body.
pub fn run(bytes: &[u8]) {
    let [number, method, rest @ ..] = bytes else { return };
    let (challenges, verifier) = &ROUTES[usize::from(*number) % ROUTES.len()];
    let method = ["GET", "POST", "HEAD", "OPTIONS"][usize::from(*method) % 4];
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
    let asked = Asked { method, target, headers, body: rest };
    let now = Now::at_unix(Duration::from_secs(1_760_000_000));
    for is_verified in [false, true] {
        let Ok(Some(reply)) = challenges.judge(Question { delivery: &asked, is_verified, now }, verifier) else {
            continue;
        };
        assert!(is_verified || reply.proof != CallProof::Signature);
        assert!(is_verified || challenges.may_be_asked(&asked));
        assert!(reply.body.len() <= CHALLENGE_LIMIT + ROOM);
        let values = reply.fields.iter().map(|(_, value)| value).chain([&reply.body]);
        for value in values {
            assert!(value.iter().all(|byte| matches!(byte, b' '..=b'~') && !b"<>&'`\\".contains(byte)), "{value:?}");
        }
        if reply.media == Some("application/json") {
            // Quotes come in pairs: none is the client's.
            assert_eq!(reply.body.iter().filter(|byte| **byte == b'"').count() % 2, 0);
        }
    }
}
