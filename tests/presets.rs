//! Every preset signs and verifies its own deliveries, and refuses them for the right reason after any change.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::config::presets;
use countersign::gate::verify::{
    Encoding, Key, KeyEncoding, Keyring, Kind, Part, PublicAlgorithm, PublicUrl, ReplayKey, Scheme, SignError,
    SignInput, SignatureSource, Source, Syntax, Unit, Validity, Verified, Verifier, sign,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use support::{Received, with_values};

const NOW: Duration = Duration::from_secs(1_760_000_000);
const ID: &str = "delivery_1";
const PLACEHOLDER: &str = "SIGNATURE";
const JSON: &str = r#"{"note":"order","id":"evt_1","notificationId":"evt_1","event":{"id":"evt_1","event_type":"sent","event_time":"1760000000","event_hash":"SIGNATURE"},"event_id":"evt_1","meta":{"webhook_id":"evt_1"},
    "value":[{"clientState":"SIGNATURE"},{"clientState":"SIGNATURE"}],
    "notificationItems":[{"NotificationRequestItem":{"pspReference":"evt_1","merchantReference":"a:b","success":true,
    "amount":{"value":1.50,"currency":"EUR"},"additionalData":{"hmacSignature":"SIGNATURE"}}}],
    "webhook_metadata":{"delivery":{"id":"evt_1"}},"webhookTimestamp":1760000000000,"time_ms":1760000000000,
    "signature":{"timestamp":"1760000000","token":"evt_1","signature":"SIGNATURE"},"passcode":"SIGNATURE",
    "apikey":"SIGNATURE","sharedSecret":"SIGNATURE","Message":"two\nlines","MessageId":"evt_1","Timestamp":
    "2025-10-09T08:53:20Z","TopicArn":"arn:aws:sns:eu-west-1:123456789012:invoices","Type":"Notification","Signature":"SIGNATURE",
    "webhookMetadata":{"webhookDeliveryAttemptTimestamp":"2025-10-09T08:53:20Z"}}"#;
const FORM: &str = "note=order&payload=%7B%22a%22%3A1%7D&empty=&name=a+b&bt_payload=PHg%2B&bt_signature=SIGNATURE\
    &timestamp=1760000000&token=evt_1&signature=SIGNATURE";
const NICEPAY: &str = r#"{"tid":"UT0000113m01012111051714341073","amount":10000,"ediDate":"2021-11-05T17:14:35.150+0900",
    "note":"order","signature":"SIGNATURE"}"#;

/// The JSON body without the fields that are signatures.
fn without_signatures(body: &str) -> String {
    let names =
        ["\"signature\":\"", "\"Signature\":\"", "hmacSignature", "clientState", "passcode", "apikey", "sharedSecret"];
    names.iter().fold(body.to_owned(), |body, name| body.replace(name, &name.replace(['s', 'c', 'S', 'p'], "x")))
}

/// A body in which a scheme finds what it reads, and the content type that says so.
fn body(scheme: &Scheme) -> (String, &'static str) {
    const TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
    match scheme.name.as_str() {
        // Empty fields are refused: what they are signed as differs.
        "alipay" => ("note=order&b=%3D&a=1&sign=SIGNATURE&sign_type=RSA2".to_owned(), TYPE),
        "nicepay" => (NICEPAY.to_owned(), "application/json"),
        _ if scheme.json_form.is_some() => {
            let name = scheme.json_form.as_deref().unwrap();
            let part = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{JSON}\r\n--b--\r\n");
            (part, "multipart/form-data; boundary=b")
        }
        _ if scheme.reads_form() => (FORM.to_owned(), TYPE),
        _ => (JSON.to_owned(), "application/json"),
    }
}

/// Made with `openssl genpkey -algorithm RSA`; keys of tests and of nothing else.
const RSA: [(&str, &str); 3] = [
    (include_str!("keys/rsa-1.pem"), include_str!("keys/rsa-1.pub.pem")),
    (include_str!("keys/rsa-2.pem"), include_str!("keys/rsa-2.pub.pem")),
    (include_str!("keys/rsa-3.pem"), include_str!("keys/rsa-3.pub.pem")),
];

impl Received {
    fn with_headers(&self, list: Vec<(String, String)>) -> Self {
        let mut headers = HeaderBuf::default();
        for (name, value) in &list {
            headers.push(name, value.as_bytes());
        }
        Self { list, headers, ..self.clone() }
    }

    fn map(&self, change: impl Fn(&str, &str) -> Option<String>) -> Self {
        let kept = self.list.iter().filter_map(|(name, value)| Some((name.clone(), change(name, value)?)));
        self.with_headers(kept.collect())
    }

    fn with_value(&self, name: &str, value: &str) -> Self {
        self.map(|n, v| Some(if n == name { value.to_owned() } else { v.to_owned() }))
    }

    fn without(&self, name: &str) -> Self {
        self.map(|n, v| (n != name).then(|| v.to_owned()))
    }

    fn value(&self, name: &str) -> &str {
        &self.list.iter().find(|(n, _)| n == name).unwrap().1
    }

    fn with_text_replaced(&self, from: &str, to: &str) -> Self {
        let body = String::from_utf8(self.body.clone()).unwrap().replace(from, to);
        Self { body: body.into_bytes(), ..self.clone() }
    }
}

/// A secret as the provider would show it, or a private key, with the text of the verifying key.
struct Secrets {
    signing: Vec<u8>,
    verifying: String,
}

fn secrets(scheme: &Scheme, seed: u8) -> Secrets {
    let key = [seed; 32];
    let prefix = scheme.secret.strip_prefix.last().map_or("", String::as_str);
    let text = match (scheme.kind, scheme.secret.encoding) {
        (Kind::Public(algorithm), _) => return key_pair(algorithm, prefix, seed),
        (Kind::Basic, _) => format!("user:password-{seed}"),
        (_, KeyEncoding::Raw) => format!("correct-horse-battery-staple-{seed}"),
        (_, KeyEncoding::Encoded(Encoding::Hex)) => format!("{prefix}{}", hex(&key)),
        (_, KeyEncoding::Encoded(_)) => format!("{prefix}{}", STANDARD.encode(key)),
    };
    Secrets { signing: text.clone().into_bytes(), verifying: text }
}

fn key_pair(algorithm: PublicAlgorithm, prefix: &str, seed: u8) -> Secrets {
    let random = SystemRandom::new();
    match algorithm {
        PublicAlgorithm::Ed25519 => {
            let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            let public = pair.public_key().as_ref();
            let verifying =
                if prefix.is_empty() { hex(public) } else { format!("{prefix}{}", STANDARD.encode(public)) };
            Secrets { signing: document.as_ref().to_vec(), verifying }
        }
        PublicAlgorithm::EcdsaP256Sha256 => {
            ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=")
        }
        PublicAlgorithm::EcdsaP384Sha384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgA="),
        // There is nothing in ring that makes such keys.
        _ => {
            let (private, public) = &RSA[usize::from(seed - 1)];
            Secrets { signing: private.as_bytes().to_vec(), verifying: (*public).to_owned() }
        }
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, spki: &str) -> Secrets {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let verifying = STANDARD.encode([&STANDARD.decode(spki).unwrap(), pair.public_key().as_ref()].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(document));
    Secrets { signing: pem.into_bytes(), verifying }
}

/// Presets that we can sign for: ring does not sign with RSA and SHA-1. Those are judged by their vectors. Tokens have
/// tests of their own (`tests/tokens.rs`).
fn signable() -> impl Iterator<Item = &'static str> {
    let sha1 = |name: &&str| presets::preset(name).unwrap().kind == Kind::Public(PublicAlgorithm::RsaPkcs1Sha1);
    let token = |name: &&str| matches!(presets::preset(name).unwrap().kind, Kind::Jws(_));
    presets::preset_names().filter(move |name| !sha1(name) && !token(name))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(scheme: &Scheme, id: &str, secrets: &Secrets) -> Key {
    if scheme.wants_public_key() {
        Key::from_public(id, scheme, &secrets.verifying, Validity::default()).unwrap()
    } else {
        Key::from_secret(id, scheme, secrets.verifying.as_bytes(), Validity::default()).unwrap()
    }
}

fn verifier(scheme: &Arc<Scheme>, keys: Vec<Key>) -> Verifier {
    let url = scheme.signs_url().then(|| PublicUrl::parse("https://hooks.example.com/in").unwrap());
    Verifier::new(Arc::clone(scheme), Keyring::new(keys), None, url).unwrap()
}

/// A delivery that the provider would send, signature and all, wherever the scheme puts it.
fn genuine(scheme: &Scheme, secret: &[u8]) -> Received {
    let (body, content_type) = body(scheme);
    let mut headers = vec![("content-type", content_type)];
    headers.extend(scheme.content.parts().iter().filter_map(|part| match part {
        Part::Header(name) => Some((name.as_str(), "n0nce")),
        _ => None,
    }));
    // Plivo's content is known for URLs without a query.
    let mut target = if scheme.name == "plivo" { "/in".to_owned() } else { "/in?a=1%3A2&data.id=evt_1".to_owned() };
    for _ in 0..3 {
        let url = format!("https://hooks.example.com{target}");
        let now = Now::at_unix(NOW);
        let input =
            SignInput { method: "POST", url: &url, headers: &headers, body: body.as_bytes(), now, id: Some(ID) };
        let base = Received { target, list: vec![], headers: HeaderBuf::default(), body: body.as_bytes().to_vec() };
        let mut list: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match sign(scheme, secret, &input) {
            Ok(added) => {
                list.extend(added);
                return base.with_headers(list);
            }
            Err(SignError::DigestWanted(parameter)) => target = format!("{}&{parameter}", base.target),
            Err(SignError::Elsewhere { value, .. }) => {
                let base = base.with_headers(list);
                return match &scheme.signature {
                    SignatureSource::Query(name) => Received { target: format!("/in?{name}={value}"), ..base },
                    SignatureSource::Form(_) => {
                        let value = value.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
                        base.with_text_replaced(PLACEHOLDER, &value)
                    }
                    _ => base.with_text_replaced(PLACEHOLDER, &value),
                };
            }
            Err(error) => panic!("{}: {error}", scheme.name),
        }
    }
    panic!("{}: not signed", scheme.name)
}

fn judge<'v>(verifier: &'v Verifier, delivery: &Received, now: Duration) -> Result<Verified<'v, Received>, Rejection> {
    let mut check = verifier.begin(delivery, Now::at_unix(now))?;
    for chunk in delivery.body.chunks(11) {
        check.update(chunk);
    }
    verifier.finish(check, delivery.clone(), Now::at_unix(now)).map_err(|(rejection, _)| rejection)
}

fn verdict(verifier: &Verifier, delivery: &Received) -> Result<(), Rejection> {
    judge(verifier, delivery, NOW).map(|_| ())
}

/// Runs `test` for every preset with a verifier and a delivery that it accepts.
fn for_each(test: impl Fn(&Scheme, &Verifier, &Received)) {
    for name in signable() {
        let scheme = with_values(&presets::preset(name).unwrap());
        let secrets = secrets(&scheme, 1);
        let verifier = verifier(&scheme, vec![key(&scheme, "first", &secrets)]);
        test(&scheme, &verifier, &genuine(&scheme, &secrets.signing));
    }
}

fn signature_header(scheme: &Scheme) -> Option<&str> {
    match &scheme.signature {
        SignatureSource::Headers(names) => names.first().map(String::as_str),
        _ => None,
    }
}

#[test]
fn what_a_preset_signs_it_accepts() {
    for_each(|scheme, verifier, delivery| {
        let verified = judge(verifier, delivery, NOW);
        let verified = verified.unwrap_or_else(|rejection| panic!("{}: {rejection} {delivery:?}", scheme.name));
        assert_eq!(verified.key_id(), Some("first"), "{}", scheme.name);
        let timestamp = scheme.signs_timestamp().then_some(1_760_000_000_000);
        assert_eq!(verified.timestamp(), timestamp, "{}", scheme.name);
        let id = match &scheme.id {
            Some(Source::Json(_) | Source::Form(_)) => Some("evt_1"),
            Some(_) => Some(ID),
            None => None,
        };
        assert_eq!(verified.delivery_id(), id.map(str::as_bytes), "{}", scheme.name);
        assert_eq!(verified.delivery_id_is_signed(), scheme.replay_key() == ReplayKey::Id, "{}", scheme.name);
        assert_eq!(verified.replay_key(), judge(verifier, delivery, NOW).unwrap().replay_key(), "{}", scheme.name);
    });
}

#[test]
fn a_changed_body_is_refused_wherever_it_is_covered() {
    for_each(|scheme, verifier, delivery| {
        let expected = match scheme.body_digest {
            Some(_) => Err(Rejection::DigestMismatch),
            None if scheme.covers_body() || scheme.content.contains(&Part::Checksum) => {
                Err(Rejection::SignatureMismatch)
            }
            None => Ok(()),
        };
        let changed = delivery.with_text_replaced("order", "ordes");
        assert_ne!(changed.body, delivery.body);
        assert_eq!(verdict(verifier, &changed), expected, "{}", scheme.name);
        let warned = scheme.warnings().iter().any(|it| it.message.contains("body"));
        assert_eq!(warned, !scheme.covers_body(), "{}: {:?}", scheme.name, scheme.warnings());
    });
}

#[test]
fn a_changed_signature_is_refused() {
    for_each(|scheme, verifier, delivery| {
        let (missing, mismatch) = match scheme.kind {
            Kind::Token | Kind::Basic => (Rejection::CredentialMissing, Rejection::CredentialMismatch),
            _ => (Rejection::SignatureMissing, Rejection::SignatureMismatch),
        };
        let Some(name) = signature_header(scheme) else { return };
        let value = delivery.value(name);
        let at = value.len() - 6;
        let other = if &value[at..=at] == "1" { "2" } else { "1" };
        let changed = delivery.with_value(name, &format!("{}{other}{}", &value[..at], &value[at + 1..]));
        assert_eq!(verdict(verifier, &changed), Err(mismatch), "{}", scheme.name);
        assert_eq!(verdict(verifier, &delivery.without(name)), Err(missing), "{}", scheme.name);
        assert_eq!(verdict(verifier, &delivery.with_value(name, "")), Err(missing), "{}", scheme.name);
        let mut list = delivery.list.clone();
        list.push((name.to_ascii_uppercase(), value.to_owned()));
        let doubled = delivery.with_headers(list);
        let refused = verdict(verifier, &doubled);
        assert_eq!(refused, Err(Rejection::SignatureDuplicate), "{}", scheme.name);
    });
}

#[test]
fn signatures_outside_of_headers_are_needed_too() {
    for_each(|scheme, verifier, delivery| {
        let (changed, absent) = match &scheme.signature {
            SignatureSource::Headers(_) => return,
            SignatureSource::Query(name) => {
                let other = if scheme.signs() { "00".repeat(32) } else { "x".to_owned() };
                let changed = Received { target: format!("/in?{name}={other}"), ..delivery.clone() };
                (changed, Received { target: "/in".into(), ..delivery.clone() })
            }
            SignatureSource::Form(_) => {
                let (body, _) = body(scheme);
                let changed = match &scheme.syntax {
                    Syntax::Items { behind: Some(_), .. } => format!("key%7C{}", "00".repeat(20)),
                    _ if scheme.wants_public_key() => "A".repeat(342),
                    _ => "00".repeat(32),
                };
                let changed = Received { body: body.replace(PLACEHOLDER, &changed).into_bytes(), ..delivery.clone() };
                (changed, Received { body: body.replace("sign", "xxxx").into_bytes(), ..delivery.clone() })
            }
            _ if scheme.json_form.is_some() => {
                let (body, _) = body(scheme);
                let changed =
                    Received { body: body.replace(PLACEHOLDER, &"00".repeat(32)).into_bytes(), ..delivery.clone() };
                (changed, Received { body: body.replace("event_hash", "x").into_bytes(), ..delivery.clone() })
            }
            _ => {
                let absent = Received { body: without_signatures(&body(scheme).0).into_bytes(), ..delivery.clone() };
                let other = match scheme.encoding {
                    _ if !scheme.signs() => "x".to_owned(),
                    _ if scheme.wants_public_key() => STANDARD.encode([0; 256]),
                    Encoding::Hex => "00".repeat(32),
                    _ => STANDARD.encode([0; 32]),
                };
                let body = body(scheme).0.replace(PLACEHOLDER, &other).into_bytes();
                (Received { body, ..delivery.clone() }, absent)
            }
        };
        let (missing, mismatch) = if scheme.signs() {
            (Rejection::SignatureMissing, Rejection::SignatureMismatch)
        } else {
            (Rejection::CredentialMissing, Rejection::CredentialMismatch)
        };
        assert_eq!(verdict(verifier, &changed), Err(mismatch), "{}", scheme.name);
        assert_eq!(verdict(verifier, &absent), Err(missing), "{}", scheme.name);
    });
}

#[test]
fn the_tolerance_holds_on_both_sides_to_the_millisecond() {
    for_each(|scheme, verifier, delivery| {
        let at = |now: Duration| judge(verifier, delivery, now).map(|_| ());
        let Some(timestamp) = &scheme.timestamp else {
            assert_eq!(at(NOW * 2), Ok(()), "{}", scheme.name);
            return;
        };
        let (distance, step) = (timestamp.tolerance.distance(), Duration::from_millis(1));
        assert_eq!(at(NOW + distance), Ok(()), "{}", scheme.name);
        assert_eq!(at(NOW - distance), Ok(()), "{}", scheme.name);
        assert_eq!(at(NOW + distance + step), Err(Rejection::TimestampStale), "{}", scheme.name);
        assert_eq!(at(NOW - distance - step), Err(Rejection::TimestampFuture), "{}", scheme.name);
    });
}

#[test]
fn a_changed_timestamp_is_refused() {
    for_each(|scheme, verifier, delivery| {
        let Some(timestamp) = &scheme.timestamp else { return };
        let [old, new] = match timestamp.unit {
            Unit::Seconds => ["1760000000", "1760000001"],
            Unit::Milliseconds => ["1760000000000", "1760000000001"],
            Unit::Rfc3339 => ["2025-10-09T08:53:20Z", "2025-10-09T08:53:21Z"],
            Unit::Iso8601 => ["2025-10-09T08:53:20", "2025-10-09T08:53:21"],
            Unit::HttpDate => ["Thu, 09 Oct 2025 08:53:20 GMT", "Thu, 09 Oct 2025 08:53:21 GMT"],
        };
        let with = |new: &str| match &timestamp.source {
            Source::Json(_) | Source::Form(_) => delivery.with_text_replaced(old, new),
            _ => delivery.map(|_, value| Some(value.replace(old, new))),
        };
        assert_eq!(verdict(verifier, &with(old)), Ok(()), "{}", scheme.name);
        assert_eq!(verdict(verifier, &with(new)), Err(Rejection::SignatureMismatch), "{}", scheme.name);
        if matches!(timestamp.source, Source::Json(_) | Source::Form(_)) {
            return;
        }
        for bad in ["soon", "-1", "+1760000000", "01760000000", "1760000000.5"] {
            assert_eq!(verdict(verifier, &with(bad)), Err(Rejection::TimestampMalformed), "{} {bad}", scheme.name);
        }
        if let Source::Headers(names) = &timestamp.source {
            assert_eq!(
                verdict(verifier, &delivery.without(&names[0])),
                Err(Rejection::TimestampMissing),
                "{}",
                scheme.name
            );
            let mut list = delivery.list.clone();
            list.push((names[0].clone(), old.to_owned()));
            let doubled = delivery.with_headers(list);
            assert_eq!(verdict(verifier, &doubled), Err(Rejection::TimestampDuplicate), "{}", scheme.name);
            if let Some(fallback) = names.get(1) {
                let mut list = delivery.list.clone();
                list.push((fallback.clone(), new.to_owned()));
                let two = delivery.with_headers(list);
                assert_eq!(verdict(verifier, &two), Err(Rejection::TimestampDuplicate), "{}", scheme.name);
            }
        }
    });
}

#[test]
fn an_id_counts_exactly_where_it_is_signed() {
    for_each(|scheme, verifier, delivery| {
        let Some(Source::Headers(names)) = &scheme.id else { return };
        let changed = delivery.with_value(&names[0], "delivery_2");
        let removed = delivery.without(&names[0]);
        if scheme.signs_id() {
            assert_eq!(verdict(verifier, &changed), Err(Rejection::SignatureMismatch), "{}", scheme.name);
            assert_eq!(verdict(verifier, &removed), Err(Rejection::IdMissing), "{}", scheme.name);
        } else {
            let genuine = judge(verifier, delivery, NOW).unwrap().replay_key();
            assert_eq!(judge(verifier, &changed, NOW).unwrap().replay_key(), genuine, "{}", scheme.name);
            assert_eq!(judge(verifier, &removed, NOW).unwrap().delivery_id(), None, "{}", scheme.name);
        }
    });
}

#[test]
fn required_headers_are_required() {
    let mut seen = 0;
    for name in signable() {
        let scheme = with_values(&presets::preset(name).unwrap());
        let secrets = secrets(&scheme, 1);
        let verifier = verifier(&scheme, vec![key(&scheme, "first", &secrets)]);
        let delivery = genuine(&scheme, &secrets.signing);
        for (name, _) in &scheme.require {
            seen += 1;
            assert_eq!(verdict(&verifier, &delivery.without(name)), Err(Rejection::HeaderRequired));
            assert_eq!(verdict(&verifier, &delivery.with_value(name, "x")), Err(Rejection::HeaderRequired));
        }
    }
    assert!(seen >= 4);
}

#[test]
fn every_key_of_a_rotation_matches_and_no_other() {
    for name in signable() {
        let scheme = with_values(&presets::preset(name).unwrap());
        let [old, new, foreign] = [1, 2, 3].map(|seed| secrets(&scheme, seed));
        let verifier = verifier(&scheme, vec![key(&scheme, "new", &new), key(&scheme, "old", &old)]);
        for (secret, id) in [(&new, "new"), (&old, "old")] {
            let verified = judge(&verifier, &genuine(&scheme, &secret.signing), NOW).unwrap();
            assert_eq!(verified.key_id(), Some(id), "{name}");
        }
        let mismatch = if scheme.signs() { Rejection::SignatureMismatch } else { Rejection::CredentialMismatch };
        assert_eq!(verdict(&verifier, &genuine(&scheme, &foreign.signing)), Err(mismatch), "{name}");
    }
}

#[test]
fn several_signatures_are_compared_and_their_number_is_bounded() {
    for_each(|scheme, verifier, delivery| {
        let Some(name) = signature_header(scheme) else { return };
        let value = delivery.value(name);
        let (separator, mark) = match &scheme.syntax {
            Syntax::Single { .. } => return,
            Syntax::List { separator, prefix } => (char::from(*separator), prefix.clone()),
            Syntax::Pairs { separator, keys, .. } => (char::from(*separator), format!("{}=", keys[0])),
            Syntax::Items { separator, .. } => {
                let separator = char::from(*separator);
                let with = |count: usize| {
                    let others: String = (0..count).map(|_| format!("{separator}{}", "00".repeat(32))).collect();
                    delivery.with_value(name, &format!("{value}{others}"))
                };
                assert_eq!(verdict(verifier, &with(15)), Ok(()), "{}", scheme.name);
                assert_eq!(verdict(verifier, &with(16)), Err(Rejection::SignatureMalformed), "{}", scheme.name);
                return;
            }
        };
        let at = value.find(&mark).unwrap();
        let other = match scheme.encoding {
            Encoding::Hex => format!("{mark}{}", "00".repeat(32)),
            _ => format!(
                "{mark}{}",
                STANDARD.encode([0; 64].split_at(if scheme.wants_public_key() { 64 } else { 32 }).0)
            ),
        };
        let with = |count: usize| {
            let others: String = (0..count).map(|_| format!("{other}{separator}")).collect();
            delivery.with_value(
                name,
                // An item of another version counts where the prefix says that it is one.
                &match mark.as_str() {
                    "" => format!("{}{others}{}", &value[..at], &value[at..]),
                    mark if mark.contains('=') => format!("{}{others}v9=x{separator}{}", &value[..at], &value[at..]),
                    _ => format!("{}{others}v9,x{separator}{}", &value[..at], &value[at..]),
                },
            )
        };
        let most = if scheme.wants_public_key() { 4 } else { 16 };
        assert_eq!(verdict(verifier, &with(most - 1)), Ok(()), "{}", scheme.name);
        assert_eq!(verdict(verifier, &with(most)), Err(Rejection::SignatureMalformed), "{}", scheme.name);
    });
}
