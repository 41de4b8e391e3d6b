//! Keys by URL against a local publisher over real TLS that is slow, wrong, gone, back, empty, huge, suddenly different,
//! redirects, or shows a certificate for another host. What deliveries saw is printed, a row for each.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod confirming;
mod credentials;
mod pinned;
mod ranges;
#[path = "../support/mod.rs"]
mod support;

use core::time::Duration;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::config::presets;
use countersign::control::event_log::EventLog;
use countersign::control::publishers::{FetchPace, Fetching, KeyClient, KeySources, Publishers};
use countersign::gate::verify::{ClaimRule, Key, Keyring, Scheme, Validity, Verifier};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use support::Received;

const NOW: u64 = 1_760_000_000;

/// What the publisher answers.
#[derive(Clone)]
enum Mood {
    Answers(u16, String),
    Redirects(String),
    /// The head, and then nothing.
    Stalls,
    /// Closes without a word.
    Gone,
    /// Shows the body to those who bring this bearer token.
    Asks(&'static str, String),
}

struct Publisher {
    port: u16,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<usize>>,
    authority: PathBuf,
    directory: PathBuf,
}

impl Publisher {
    /// With a certificate for `host`, of an authority of its own.
    fn start(name: &str, host: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("countersign-publisher-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let root = params.self_signed(&root_key).unwrap();
        let authority = directory.join("ca.pem");
        fs::write(&authority, root.pem()).unwrap();
        fs::write(directory.join("ca.key"), root_key.serialize_pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(params, root_key);
        let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], private).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, asked) = (Arc::new(Mutex::new(Mood::Gone)), Arc::new(Mutex::new(0)));
        let (config, moods, count) = (Arc::new(config), Arc::clone(&mood), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *count.lock().unwrap() += 1;
                let (config, mood) = (Arc::clone(&config), moods.lock().unwrap().clone());
                thread::spawn(move || serve(stream, config, &mood));
            }
        });
        Self { port, mood, asked, authority, directory }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/jwks.json", self.port)
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, mood: &Mood) {
    if matches!(mood, Mood::Gone) {
        return;
    }
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = [0; 2048];
    if stream.read(&mut head).is_err() {
        return;
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let brought =
        |token: &str| head.lines().any(|line| line.eq_ignore_ascii_case(&format!("authorization: bearer {token}")));
    let with_body = |status: u16, body: &str| {
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    };
    let answer = match mood {
        Mood::Asks(token, body) if brought(token) => with_body(200, body),
        Mood::Asks(..) => with_body(401, "no"),
        Mood::Answers(status, body) => with_body(*status, body),
        Mood::Redirects(to) => format!("HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
        Mood::Stalls => "HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        Mood::Gone => return,
    };
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
    if matches!(mood, Mood::Stalls) {
        // Until the client gives up.
        let _ = stream.sock.read(&mut [0; 16]);
    } else {
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

/// A sender with one private key.
struct Sender {
    name: &'static str,
    pair: Ed25519KeyPair,
}

impl Sender {
    fn new(name: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { name, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    fn jwk(&self) -> serde_json::Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.name, "x": x})
    }

    fn delivery(&self) -> Received {
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "EdDSA", "kid": self.name});
        let signed = format!("{}.{}", encode(header), encode(json!({"iss": "i", "aud": "a", "exp": NOW + 60})));
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes())));
        let mut headers = HeaderBuf::default();
        headers.push("authorization", format!("Bearer {token}").as_bytes());
        Received { target: "/in".into(), list: Vec::new(), headers, body: b"{}".to_vec() }
    }
}

fn set(senders: &[&Sender]) -> Mood {
    let keys: Vec<_> = senders.iter().map(|sender| sender.jwk()).collect();
    Mood::Answers(200, json!({ "keys": keys }).to_string())
}

/// A route that verifies with the keys at the URL.
struct Route {
    verifier: Verifier,
}

impl Route {
    fn new(url: &str) -> Self {
        let preset = presets::preset("jwt-eddsa").unwrap();
        let claim = |name: &str, value: &str| ClaimRule { name: name.into(), values: vec![value.into()] };
        let token = preset.token.clone().with_claims(&[claim("iss", "i"), claim("aud", "a")]);
        let scheme = Arc::new(Scheme { token, ..(*preset).clone() });
        let key = Key::from_url("published", &scheme, url, Validity::default()).unwrap();
        Self { verifier: Verifier::new(scheme, Keyring::new(vec![key]), None, None).unwrap() }
    }

    fn keys(&self) -> KeySources {
        KeySources::among(self.verifier.keys())
    }

    fn verdict(&self, delivery: &Received) -> Result<(), Rejection> {
        let now = Now::at_unix(Duration::from_secs(NOW));
        let mut check = self.verifier.begin(delivery, now)?;
        check.update(&delivery.body);
        self.verifier.finish(check, delivery, now).map(|_| ()).map_err(|(rejection, _)| rejection)
    }

    /// The verdict when the thread has had time to change it to the one that is wanted.
    fn settles(&self, what: &str, delivery: &Received, wanted: Result<(), Rejection>) {
        let first = self.verdict(delivery);
        let mut last = first;
        for _ in 0..400 {
            if last == wanted {
                break;
            }
            thread::park_timeout(Duration::from_millis(25));
            last = self.verdict(delivery);
        }
        let word = |verdict: Result<(), Rejection>| verdict.map_or_else(Rejection::code, |()| "accepted");
        println!("{what:<44} first {:<18} then {}", word(first), word(last));
        assert_eq!(last, wanted, "{what}");
    }
}

fn publishers(publisher: &Publisher, cache: Option<&Path>) -> Publishers {
    let pace = FetchPace {
        refresh: Duration::from_millis(200),
        asked: Duration::from_millis(100),
        retry: Duration::from_millis(50),
        bell: Duration::from_millis(20),
    };
    Publishers::start(Fetching {
        client: KeyClient::with_patience(Some(&publisher.authority), Duration::from_millis(1500)),
        cache: cache.map(Path::to_owned),
        pace,
        log: Arc::new(EventLog::start()),
    })
}

/// Waits until the publisher has been asked twice more: what it says has been judged then.
fn asked_again(publisher: &Publisher) {
    let before = publisher.asked();
    for _ in 0..400 {
        if publisher.asked() >= before + 3 {
            return;
        }
        thread::park_timeout(Duration::from_millis(25));
    }
    panic!("the publisher is not asked any more");
}

fn error(publishers: &Publishers) -> String {
    publishers.readings().first().and_then(|reading| reading.error.clone()).unwrap_or_default()
}

#[test]
fn a_publisher_in_every_mood() {
    let publisher = Publisher::start("moods", "localhost");
    let [first, second, third] = ["one", "two", "three"].map(Sender::new);
    let cache = publisher.directory.join("cache");
    let route = Route::new(&publisher.url());
    let publishers = publishers(&publisher, Some(&cache));
    publishers.fill(&route.keys());
    publishers.follow(route.keys());

    route.settles("gone from the start", &first.delivery(), Err(Rejection::KeysUnavailable));
    publisher.becomes(set(&[&first]));
    route.settles("there", &first.delivery(), Ok(()));
    route.settles("another key", &second.delivery(), Err(Rejection::KeyUnknown));
    publisher.becomes(set(&[&first, &second]));
    route.settles("another key, published meanwhile", &second.delivery(), Ok(()));

    let evil = Sender::new("one");
    let huge = format!(r#"{{"keys":[{}],"x":"{}"}}"#, evil.jwk(), "y".repeat(300_000));
    for (what, mood, why) in [
        ("gone", Mood::Gone, ""),
        ("wrong: no JSON", Mood::Answers(200, "<html>".into()), "no key"),
        ("wrong: 500", Mood::Answers(500, set_text(&[&evil])), "status 500"),
        ("wrong: keys of another kind", Mood::Answers(200, r#"{"keys":[{"kty":"oct","k":"AA"}]}"#.into()), "no key"),
        ("empty set", Mood::Answers(200, r#"{"keys":[]}"#.into()), "no key"),
        ("empty body", Mood::Answers(200, String::new()), "no key"),
        ("huge", Mood::Answers(200, huge), "large"),
        ("redirect", Mood::Redirects("https://localhost:1/evil".into()), "redirect"),
        ("redirect to http", Mood::Redirects("http://127.0.0.1:1/".into()), "redirect"),
        ("slow", Mood::Stalls, "timeout"),
    ] {
        publisher.becomes(mood);
        asked_again(&publisher);
        route.settles(&format!("{what}: a known key"), &first.delivery(), Ok(()));
        assert_eq!(route.verdict(&evil.delivery()), Err(Rejection::SignatureMismatch), "{what}");
        let said = error(&publishers).to_lowercase();
        println!("{:<44} {said}", "");
        assert!(!said.is_empty() && said.contains(why), "{what}: {said}");
    }

    publisher.becomes(set(&[&third]));
    route.settles("back, with a set that is all new", &third.delivery(), Ok(()));
    route.settles("a key that is not published any more", &first.delivery(), Err(Rejection::KeyUnknown));
    asked_again(&publisher);
    assert!(error(&publishers).is_empty());

    // Another policy has the keys before it is in force, and a start without network has them from disk.
    publisher.becomes(Mood::Gone);
    let next = Route::new(&publisher.url());
    assert_eq!(next.verdict(&third.delivery()), Err(Rejection::KeysUnavailable));
    publishers.fill(&next.keys());
    assert_eq!(next.verdict(&third.delivery()), Ok(()), "after a reload");
    drop(publishers);
    let fresh = Route::new(&publisher.url());
    self::publishers(&publisher, Some(&cache)).fill(&fresh.keys());
    assert_eq!(fresh.verdict(&third.delivery()), Ok(()), "from disk");
    let elsewhere = Route::new(&publisher.url().replace("jwks", "other"));
    self::publishers(&publisher, Some(&cache)).fill(&elsewhere.keys());
    assert_eq!(elsewhere.verdict(&third.delivery()), Err(Rejection::KeysUnavailable), "of another URL");
    let _ = fs::remove_dir_all(&publisher.directory);
}

fn set_text(senders: &[&Sender]) -> String {
    match set(senders) {
        Mood::Answers(_, text) => text,
        _ => String::new(),
    }
}

#[test]
fn a_certificate_for_another_host_or_of_another_authority_is_not_believed() {
    let sender = Sender::new("one");
    let (other_host, other_authority) =
        (Publisher::start("host", "other.example"), Publisher::start("authority", "localhost"));
    let stranger = Publisher::start("stranger", "localhost");
    for (what, publisher, trusted) in [
        ("a certificate for another host", &other_host, &other_host.authority),
        ("a certificate of another authority", &other_authority, &stranger.authority),
    ] {
        publisher.becomes(set(&[&sender]));
        let client = KeyClient::with_patience(Some(trusted), Duration::from_secs(5));
        let refused = client.get(&publisher.url()).unwrap_err();
        println!("{what:<44} {refused}");
        assert!(refused.contains("certificate"), "{refused}");
    }
    stranger.becomes(set(&[&sender]));
    let client = KeyClient::new(Some(&stranger.authority));
    assert!(client.get(&stranger.url()).is_ok());
    assert!(client.get(&stranger.url().replace("https", "http")).is_err(), "nothing is asked without TLS");
    for one in [other_host, other_authority, stranger] {
        let _ = fs::remove_dir_all(&one.directory);
    }
}

#[test]
fn a_flood_of_unknown_names_asks_the_publisher_at_most_so_often() {
    let publisher = Publisher::start("flood", "localhost");
    let [known, unknown] = ["one", "two"].map(Sender::new);
    publisher.becomes(set(&[&known]));
    let route = Route::new(&publisher.url());
    let pace = FetchPace {
        refresh: Duration::from_secs(3600),
        asked: Duration::from_secs(3600),
        retry: Duration::from_millis(50),
        bell: Duration::from_millis(5),
    };
    let publishers = Publishers::start(Fetching {
        client: KeyClient::new(Some(&publisher.authority)),
        cache: None,
        pace,
        log: Arc::new(EventLog::start()),
    });
    publishers.follow(route.keys());
    route.settles("known", &known.delivery(), Ok(()));
    for _ in 0..2000 {
        assert_eq!(route.verdict(&unknown.delivery()), Err(Rejection::KeyUnknown));
    }
    thread::park_timeout(Duration::from_millis(200));
    assert_eq!(publisher.asked(), 1);
    let _ = fs::remove_dir_all(&publisher.directory);
}
