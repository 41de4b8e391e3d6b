//! Keys that a sender shows only to those who bring a credential: it goes to the pinned URL alone, a wrong one is told, and no
//! text has it.

use core::time::Duration;
use std::fs;
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::config::presets;
use countersign::control::publishers::{KeyClient, KeySources, Publishers};
use countersign::gate::verify::{Key, KeyError, KeyLocator, Keyring, Scheme, UrlPin, Validity, Verifier};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::support::Received;
use super::{Mood, Publisher, publishers};

const TOKEN: &str = "TEST_API_KEY:0a1b2c3d:4e5f";
const OTHER: &str = "TEST_API_KEY:wrong:0000";

/// A sender with one key, and a route that fetches it with a credential.
struct Circle {
    pair: EcdsaKeyPair,
    scheme: Arc<Scheme>,
}

impl Circle {
    fn new(publisher: &Publisher) -> Self {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &SystemRandom::new()).unwrap();
        let preset = presets::preset("circle").unwrap();
        let pin = UrlPin::parse(&format!("https://localhost:{}/v2/notifications/publicKey/*", publisher.port)).unwrap();
        let locator = KeyLocator { pins: vec![pin], ..preset.named_key.clone().unwrap() };
        assert!(locator.credential);
        Self { pair, scheme: Arc::new(Scheme { named_key: Some(locator), ..(*preset).clone() }) }
    }

    fn shows(&self) -> String {
        // SubjectPublicKeyInfo of a key on P-256 (RFC 5480), as the sender's API shows it.
        let head = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
        let head = STANDARD.decode(head).unwrap();
        let point = self.pair.public_key().as_ref();
        let key = STANDARD.encode([head.as_slice(), point.get(1..).unwrap()].concat());
        format!(r#"{{"data":{{"id":"k-1","algorithm":"ECDSA_SHA_256","publicKey":"{key}"}}}}"#)
    }

    fn route(&self, credential: &str) -> Verifier {
        let credential = Some(credential.as_bytes());
        let key = Key::named_with_credential("published", &self.scheme, Validity::default(), credential).unwrap();
        Verifier::new(Arc::clone(&self.scheme), Keyring::new(vec![key]), None, None).unwrap()
    }

    fn verdict(&self, route: &Verifier) -> Result<(), Rejection> {
        let body = br#"{"notificationId":"n-1","notificationType":"x"}"#;
        let signature = self.pair.sign(&SystemRandom::new(), body).unwrap();
        let mut headers = HeaderBuf::default();
        headers.push("X-Circle-Key-Id", b"879dc113-5ca4-4ff7-a6b7-54652083fcf8");
        headers.push("X-Circle-Signature", STANDARD.encode(signature.as_ref()).as_bytes());
        let delivery = Received::of(headers, body.to_vec());
        let now = Now::at_unix(Duration::from_secs(1_760_000_000));
        let mut check = route.begin(&delivery, now)?;
        check.update(&delivery.body);
        route.finish(check, &delivery, now).map(|_| ()).map_err(|(rejection, _)| rejection)
    }

    fn settles(&self, what: &str, route: &Verifier, is_so: impl Fn(Result<(), Rejection>) -> bool) {
        for _ in 0..400 {
            if is_so(self.verdict(route)) {
                return println!("{what}");
            }
            thread::park_timeout(Duration::from_millis(25));
        }
        panic!("{what}: {:?}", self.verdict(route));
    }
}

fn told(publishers: &Publishers) -> String {
    publishers.readings().first().and_then(|reading| reading.error.clone()).unwrap_or_default()
}

#[test]
fn a_key_is_fetched_with_the_credential_and_a_wrong_one_is_told() {
    let publisher = Publisher::start("credential", "localhost");
    let circle = Circle::new(&publisher);
    publisher.becomes(Mood::Asks(TOKEN, circle.shows()));
    let publishers = publishers(&publisher, None);

    let wrong = circle.route(OTHER);
    publishers.follow(KeySources::among(wrong.keys()));
    circle.settles("a wrong credential is told", &wrong, |_| {
        told(&publishers).contains("does not accept the credential")
    });
    assert_eq!(circle.verdict(&wrong), Err(Rejection::KeysUnavailable), "the sender tries again");
    let reading = publishers.readings().remove(0);
    assert!(reading.failed > 0 && reading.succeeded == 0, "{reading:?}");
    for text in [format!("{reading:?}"), told(&publishers), format!("{wrong:?}"), format!("{:?}", wrong.keys())] {
        assert!(!text.contains(OTHER) && !text.contains("wrong"), "{text}");
    }

    // Another configuration has the right one.
    let right = circle.route(TOKEN);
    publishers.fill(&KeySources::among(right.keys()));
    publishers.follow(KeySources::among(right.keys()));
    circle.settles("the right one", &right, |verdict| verdict.is_ok());

    // One that is not accepted any more takes no key away.
    let later = circle.route(OTHER);
    publishers.fill(&KeySources::among(later.keys()));
    publishers.follow(KeySources::among(later.keys()));
    assert_eq!(circle.verdict(&later), Ok(()));
    drop(publishers);
    let _ = fs::remove_dir_all(&publisher.directory);
}

#[test]
fn the_credential_does_not_follow_a_redirect_and_no_error_has_it() {
    let (publisher, elsewhere) =
        (Publisher::start("redirects", "localhost"), Publisher::start("elsewhere", "localhost"));
    elsewhere.becomes(Mood::Answers(200, "x".into()));
    let client = KeyClient::with_patience(Some(&publisher.authority), Duration::from_millis(1500));
    for mood in [
        Mood::Redirects(elsewhere.url()),
        Mood::Answers(500, TOKEN.into()),
        Mood::Answers(401, TOKEN.into()),
        Mood::Gone,
        Mood::Stalls,
    ] {
        publisher.becomes(mood);
        let error = client.fetch_with(&publisher.url(), TOKEN).unwrap_err();
        assert!(!error.to_string().contains(TOKEN) && !format!("{error:?}").contains(TOKEN), "{error}");
    }
    assert_eq!(elsewhere.asked(), 0);
    for one in [publisher, elsewhere] {
        let _ = fs::remove_dir_all(&one.directory);
    }
}

#[test]
fn a_credential_that_cannot_stand_in_a_header_is_refused() {
    let scheme = presets::preset("circle").unwrap();
    for credential in ["", "two words", "line\nend", "caf\u{e9}", "tab\t"] {
        let key = Key::named_with_credential("1", &scheme, Validity::default(), Some(credential.as_bytes()));
        assert_eq!(key.map(|_| ()), Err(KeyError::Credential), "{credential:?}");
    }
}
