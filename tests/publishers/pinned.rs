//! Keys that deliveries name: nothing is fetched that is not pinned, and only so often.

use core::time::Duration;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use countersign::config::presets;
use countersign::control::event_log::EventLog;
use countersign::control::publishers::{FetchPace, Fetching, KeyClient, KeySources, Publishers};
use countersign::gate::verify::{
    CertificateRule, Key, KeyLocator, Keyring, RouteValue, Scheme, SignError, SignInput, UrlPin, Validity, Verifier,
    sign,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::support::{Received, TOPIC, with_values};
use super::{Mood, Publisher};

const RSA: &str = include_str!("../keys/rsa-1.pem");
const OTHER: &str = include_str!("../keys/rsa-2.pem");
/// The clock of the thread that fetches is the real one.
const DAY: u64 = 1_760_000_000;

/// A certificate for the key of the sender, by an authority that the publisher's client trusts, or by itself.
fn certificate(publisher: &Publisher, name: &str, key: &str) -> String {
    let key = KeyPair::from_pem(key).unwrap();
    let authority = fs::read_to_string(publisher.directory.join("ca.key")).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params, KeyPair::from_pem(&authority).unwrap());
    CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap().pem()
}

fn self_signed(name: &str, until: i32) -> String {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(until, 1, 1);
    params.self_signed(&KeyPair::from_pem(RSA).unwrap()).unwrap().pem()
}

/// A route with a preset whose host is the publisher's.
struct Pinned {
    verifier: Verifier,
    port: u16,
}

impl Pinned {
    fn new(publisher: &Publisher, chain: bool) -> Self {
        let preset = with_values(&presets::preset("aws-sns").unwrap());
        let pin = format!("https://localhost:{}/SimpleNotificationService-*.pem", publisher.port);
        let certificate = Some(CertificateRule { names: vec!["sns.amazonaws.com".into()], chain });
        let locator =
            KeyLocator { pins: vec![UrlPin::parse(&pin).unwrap()], certificate, ..preset.named_key.clone().unwrap() };
        let scheme = Arc::new(Scheme { named_key: Some(locator), ..(*preset).clone() });
        let key = Key::named_by_deliveries("published", &scheme, Validity::default()).unwrap();
        let verifier = Verifier::new(scheme, Keyring::new(vec![key]), None, None).unwrap();
        Self { verifier, port: publisher.port }
    }

    fn url(&self, name: &str) -> String {
        format!("https://localhost:{}/SimpleNotificationService-{name}.pem", self.port)
    }

    fn delivery(&self, url: &str, topic: &str) -> Received {
        let body = format!(
            r#"{{"Type":"Notification","MessageId":"m-1","TopicArn":"{topic}","Message":"a\nb",
            "Timestamp":"2025-10-09T08:53:20.000Z","SignatureVersion":"2","Signature":"SIGNATURE","SigningCertURL":"{url}"}}"#
        );
        let input = SignInput {
            method: "POST",
            url: "https://hooks.example.com/",
            headers: &[],
            body: body.as_bytes(),
            now: Now::at_unix(Duration::from_secs(DAY)),
            id: None,
        };
        // Of any topic: each account of Amazon can have one, and Amazon signs for it.
        let scheme = presets::preset("aws-sns").unwrap();
        let Err(SignError::Elsewhere { value, .. }) = sign(&scheme, RSA.as_bytes(), &input) else { panic!("unsigned") };
        Received::of(HeaderBuf::default(), body.replace("SIGNATURE", &value).into_bytes())
    }

    fn verdict(&self, delivery: &Received) -> Result<(), Rejection> {
        let now = Now::at_unix(Duration::from_secs(DAY));
        let mut check = self.verifier.begin(delivery, now)?;
        check.update(&delivery.body);
        self.verifier.finish(check, delivery, now).map(|_| ()).map_err(|(rejection, _)| rejection)
    }

    /// What deliveries with this URL see first, and when the thread has had time.
    fn settles(&self, what: &str, url: &str, first: Rejection, wanted: Result<(), Rejection>) {
        let delivery = self.delivery(url, TOPIC);
        let before = self.verdict(&delivery);
        assert_eq!(before, Err(first), "{what}");
        let mut last = before;
        for _ in 0..400 {
            if last == wanted {
                break;
            }
            thread::park_timeout(Duration::from_millis(25));
            last = self.verdict(&delivery);
        }
        println!("{what:<44} first {:<18} then {}", first.code(), last.map_or_else(Rejection::code, |()| "accepted"));
        assert_eq!(last, wanted, "{what}");
    }
}

fn follow(publisher: &Publisher, route: &Pinned, asked: Duration, cache: Option<&Path>) -> Publishers {
    let pace = FetchPace {
        refresh: Duration::from_secs(3600),
        asked,
        retry: Duration::from_millis(50),
        bell: Duration::from_millis(10),
    };
    let publishers = Publishers::start(Fetching {
        client: KeyClient::with_patience(Some(&publisher.authority), Duration::from_millis(1500)),
        cache: cache.map(Path::to_owned),
        pace,
        log: Arc::new(EventLog::start()),
    });
    let keys = KeySources::among(route.verifier.keys());
    publishers.fill(&keys);
    publishers.follow(keys);
    publishers
}

#[test]
fn a_certificate_that_a_delivery_names_is_fetched_and_judged() {
    let publisher = Publisher::start("pinned", "localhost");
    let route = Pinned::new(&publisher, true);
    let cache = publisher.directory.join("cache");
    let publishers = follow(&publisher, &route, Duration::from_millis(60), Some(&cache));
    let good = certificate(&publisher, "sns.amazonaws.com", RSA);
    let unavailable = Rejection::KeysUnavailable;
    for (name, what, mood, wanted) in [
        ("gone", "gone", Mood::Gone, Err(unavailable)),
        ("500", "an error of the publisher", Mood::Answers(500, good.clone()), Err(unavailable)),
        ("404", "no certificate", Mood::Answers(404, good.clone()), Err(Rejection::KeyUnknown)),
        ("moved", "a redirect", Mood::Redirects(route.url("good")), Err(Rejection::KeyUnknown)),
        ("empty", "nothing", Mood::Answers(200, String::new()), Err(Rejection::KeyUnknown)),
        ("html", "a page", Mood::Answers(200, "<html>".into()), Err(Rejection::KeyUnknown)),
        (
            "key",
            "a key without a certificate",
            Mood::Answers(200, include_str!("../keys/rsa-1.pub.pem").into()),
            Err(Rejection::KeyUnknown),
        ),
        ("huge", "a huge text", Mood::Answers(200, good.clone() + &"x".repeat(300_000)), Err(Rejection::KeyUnknown)),
        (
            "name",
            "another name",
            Mood::Answers(200, certificate(&publisher, "evil.example", RSA)),
            Err(Rejection::KeyUnknown),
        ),
        (
            "own",
            "signed by itself",
            Mood::Answers(200, self_signed("sns.amazonaws.com", 2090)),
            Err(Rejection::KeyUnknown),
        ),
        ("old", "expired", Mood::Answers(200, self_signed("sns.amazonaws.com", 2020)), Err(Rejection::KeyUnknown)),
        (
            "other",
            "a certificate for another key",
            Mood::Answers(200, certificate(&publisher, "sns.amazonaws.com", OTHER)),
            Err(Rejection::SignatureMismatch),
        ),
        ("good", "the certificate", Mood::Answers(200, good.clone()), Ok(())),
    ] {
        publisher.becomes(mood);
        route.settles(what, &route.url(name), unavailable, wanted);
    }
    publisher.becomes(Mood::Gone);
    let known = route.delivery(&route.url("good"), TOPIC);
    assert_eq!(route.verdict(&known), Ok(()), "a key that is known stays in use");
    let foreign = route.delivery(&route.url("good"), "arn:aws:sns:eu-west-1:999999999999:evil");
    assert_eq!(route.verdict(&foreign), Err(Rejection::ValueMismatch), "a topic of another account");
    for _ in 0..200 {
        if publishers.readings()[0].keys == 2 {
            break;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    let reading = publishers.readings().remove(0);
    assert!(reading.url.ends_with("SimpleNotificationService-*.pem"), "no label comes from a request: {reading:?}");
    assert_eq!(reading.keys, 2);
    drop(publishers);
    let next = Pinned::new(&publisher, true);
    let publishers = follow(&publisher, &next, Duration::from_secs(60), Some(&cache));
    assert_eq!(next.verdict(&known), Ok(()), "from disk");
    drop(publishers);
    let _ = fs::remove_dir_all(&publisher.directory);
}

#[test]
fn without_a_chain_the_name_and_the_dates_decide() {
    let publisher = Publisher::start("chainless", "localhost");
    let route = Pinned::new(&publisher, false);
    let publishers = follow(&publisher, &route, Duration::from_millis(60), None);
    let unavailable = Rejection::KeysUnavailable;
    publisher.becomes(Mood::Answers(200, self_signed("sns.amazonaws.com", 2020)));
    route.settles("expired", &route.url("old"), unavailable, Err(Rejection::KeyUnknown));
    publisher.becomes(Mood::Answers(200, self_signed("sns.amazonaws.com.evil.example", 2090)));
    route.settles("another name", &route.url("name"), unavailable, Err(Rejection::KeyUnknown));
    publisher.becomes(Mood::Answers(200, self_signed("sns.amazonaws.com", 2090)));
    route.settles("the certificate", &route.url("good"), unavailable, Ok(()));
    drop(publishers);
    let _ = fs::remove_dir_all(&publisher.directory);
}

#[test]
fn what_is_not_pinned_is_never_asked_for() {
    let publisher = Publisher::start("unpinned", "localhost");
    let route = Pinned::new(&publisher, false);
    publisher.becomes(Mood::Answers(200, self_signed("sns.amazonaws.com", 2090)));
    let publishers = follow(&publisher, &route, Duration::from_millis(3), None);
    let good = route.url("x");
    let port = publisher.port;
    for url in [
        good.replace("https", "http"),
        good.replace("localhost", "127.0.0.1"),
        good.replace(".pem", ".pem?x"),
        good.replace(".pem", ".pem#x"),
        good.replace(".pem", "/../x.pem"),
        good.replace(".pem", ".key"),
        good.replace("localhost", "a@localhost"),
        good.replace(&port.to_string(), "443"),
        good.replace("https://localhost", "https://localhost.evil.example"),
        good.replace("-x", &format!("-{}", "x".repeat(8192))),
        good.replace("-x", "-<script>"),
        "file:///etc/passwd".into(),
        "http://169.254.169.254/latest/meta-data/".into(),
        String::new(),
    ] {
        assert_eq!(route.verdict(&route.delivery(&url, TOPIC)), Err(Rejection::KeyUrlRefused), "{url:.80}");
    }
    thread::park_timeout(Duration::from_millis(200));
    assert_eq!(publisher.asked(), 0);
    drop(publishers);
    let _ = fs::remove_dir_all(&publisher.directory);
}

#[test]
fn a_flood_of_urls_is_fetched_at_a_bounded_rate() {
    let publisher = Publisher::start("urls", "localhost");
    let route = Pinned::new(&publisher, false);
    publisher.becomes(Mood::Answers(404, String::new()));
    let publishers = follow(&publisher, &route, Duration::from_secs(3600), None);
    let mut refused = 0;
    // The URL is not signed.
    let mut delivery = route.delivery(&route.url("N"), TOPIC);
    let text = String::from_utf8(delivery.body.clone()).unwrap();
    for number in 0..3000 {
        delivery.body = text.replace(&route.url("N"), &route.url(&number.to_string())).into_bytes();
        match route.verdict(&delivery) {
            Err(Rejection::KeysUnavailable) => refused += 1,
            Err(Rejection::KeyUnknown) => {}
            other => panic!("{other:?}"),
        }
    }
    thread::park_timeout(Duration::from_millis(300));
    println!("3000 URLs, {refused} for now refused, the publisher asked {} times", publisher.asked());
    assert_eq!(publisher.asked(), 4, "a burst, and no more within the hour");
    drop(publishers);
    let _ = fs::remove_dir_all(&publisher.directory);
}

#[test]
fn a_route_must_say_what_only_it_knows() {
    let scheme = presets::preset("aws-sns").unwrap();
    let key = Key::named_by_deliveries("published", &scheme, Validity::default()).unwrap();
    let problems = Verifier::new(Arc::clone(&scheme), Keyring::new(vec![key]), None, None).unwrap_err();
    assert!(problems.iter().any(|problem| problem.field == "values" && problem.message.contains("TopicArn")));
    let other = RouteValue { name: "Other".into(), values: vec!["x".into()] };
    assert!((*scheme).clone().with_values(&[other]).values[0].values.is_empty());
}
