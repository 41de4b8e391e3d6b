//! What senders do in ways of their own: lists with a bad item, keys with unused bits, URLs with a port or without.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use core::time::Duration;
use std::sync::Arc;

use countersign::config::presets;
use countersign::explain::{Given, TrialBudget, explain};
use countersign::gate::verify::{
    CANDIDATE_LIMIT, Key, Keyring, PublicUrl, Scheme, SignInput, Validity, Verified, Verifier, sign,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use support::Received;

const NOW: Now = Now::at_unix(Duration::from_secs(1_760_000_000));
const SECRET: &str = "correct-horse-battery-staple";
const FORM: &str = "application/x-www-form-urlencoded";

impl Received {
    /// What the sender makes of a body for this URL.
    fn signed(scheme: &Scheme, secret: &[u8], url: &str, body: &[u8]) -> Self {
        let headers = [("content-type", FORM)];
        let input = SignInput { method: "POST", url, headers: &headers, body, now: NOW, id: Some("id-1") };
        let mut list = vec![("content-type".to_owned(), FORM.to_owned())];
        list.extend(sign(scheme, secret, &input).unwrap());
        let target = url.split_once("://").and_then(|(_, rest)| Some(rest.split_at(rest.find('/')?).1)).unwrap();
        Self { target: target.to_owned(), list, headers: HeaderBuf::default(), body: body.to_vec() }.with(&[])
    }

    /// The same with other values of these headers.
    fn with(&self, values: &[(&str, &str)]) -> Self {
        let (mut list, mut headers) = (self.list.clone(), HeaderBuf::default());
        for (name, value) in &mut list {
            for (_, other) in values.iter().filter(|(changed, _)| *changed == name) {
                (*other).clone_into(value);
            }
            headers.push(name, value.as_bytes());
        }
        Self { list, headers, ..self.clone() }
    }

    fn value(&self, name: &str) -> &str {
        &self.list.iter().find(|(known, _)| known == name).unwrap().1
    }
}

fn preset(name: &str) -> Arc<Scheme> {
    presets::preset(name).unwrap()
}

fn secret_key(scheme: &Scheme, id: &str, secret: &str) -> Key {
    let key = Key::from_secret(id, scheme, secret.as_bytes(), Validity::default());
    key.unwrap_or_else(|error| panic!("{secret}: {error}"))
}

fn verifier(scheme: &Arc<Scheme>, keys: Vec<Key>, public_url: Option<&str>) -> Verifier {
    let url = public_url.map(|url| PublicUrl::parse(url).unwrap());
    Verifier::new(Arc::clone(scheme), Keyring::new(keys), None, url).unwrap()
}

fn judge<'v>(verifier: &'v Verifier, delivery: &Received) -> Result<Verified<'v, Received>, Rejection> {
    let mut check = verifier.begin(delivery, NOW)?;
    check.update(&delivery.body);
    verifier.finish(check, delivery.clone(), NOW).map_err(|(rejection, _)| rejection)
}

fn verdict(verifier: &Verifier, delivery: &Received) -> Result<(), Rejection> {
    judge(verifier, delivery).map(|_| ())
}

#[test]
fn one_malformed_item_does_not_spoil_a_good_pair() {
    let stripe = preset("stripe");
    let verifier = verifier(&stripe, vec![secret_key(&stripe, "1", SECRET)], None);
    let delivery = Received::signed(&stripe, SECRET.as_bytes(), "https://h/", b"{}");
    let (time, good) = delivery.value("Stripe-Signature").split_once(",v1=").unwrap();
    let other = "0".repeat(64);
    let many = format!("TIME,v1=GOOD{}", ",v1=bad".repeat(CANDIDATE_LIMIT));
    for (items, expected) in [
        ("TIME,v1=GOOD,v1=bad_signature", Ok(())),
        ("TIME,v1=bad_signature,v1=GOOD", Ok(())),
        ("TIME,v1=GOOD,v1=", Ok(())),
        ("TIME,v1=GOOD,v1=abcd", Ok(())),
        ("TIME,v1=GOOD,what is this", Ok(())),
        ("TIME,,v1=GOOD,", Ok(())),
        ("TIME,v1=bad_signature", Err(Rejection::SignatureMalformed)),
        ("TIME,v1=bad,what is this", Err(Rejection::SignatureMalformed)),
        ("TIME", Err(Rejection::SignatureMalformed)),
        ("TIME,v1=OTHER,v1=bad", Err(Rejection::SignatureMismatch)),
        ("v1=GOOD", Err(Rejection::TimestampMissing)),
        ("TIME,TIME,v1=GOOD", Err(Rejection::TimestampDuplicate)),
        // What is no signature counts like one: their number is bounded all the same.
        (many.as_str(), Err(Rejection::SignatureMalformed)),
    ] {
        let value = items.replace("TIME", time).replace("GOOD", good).replace("OTHER", &other);
        assert_eq!(verdict(&verifier, &delivery.with(&[("Stripe-Signature", &value)])), expected, "{items}");
    }
}

#[test]
fn one_malformed_item_does_not_spoil_a_good_one_of_a_list() {
    let scheme = preset("standard-webhooks");
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let verifier = verifier(&scheme, vec![secret_key(&scheme, "1", secret)], None);
    let delivery = Received::signed(&scheme, secret.as_bytes(), "https://h/", b"{}");
    let good = delivery.value("webhook-signature");
    for (items, expected) in [
        ("GOOD v1,bad", Ok(())),
        ("v1,bad GOOD", Ok(())),
        ("v1, GOOD v1", Ok(())),
        ("GOOD v1,%%", Ok(())),
        ("v1,bad v1,worse", Err(Rejection::SignatureMalformed)),
    ] {
        let value = items.replace("GOOD", good);
        assert_eq!(verdict(&verifier, &delivery.with(&[("webhook-signature", &value)])), expected, "{items}");
    }
    // Several headers are a list, too.
    let scheme = preset("box");
    let verifier = self::verifier(&scheme, vec![secret_key(&scheme, "1", SECRET)], None);
    let delivery = Received::signed(&scheme, SECRET.as_bytes(), "https://h/", b"{}");
    let primary = delivery.value("BOX-SIGNATURE-PRIMARY").to_owned();
    let mut both = delivery.with(&[("BOX-SIGNATURE-PRIMARY", "bad")]);
    assert_eq!(verdict(&verifier, &both), Err(Rejection::SignatureMalformed));
    both.list.push(("BOX-SIGNATURE-SECONDARY".to_owned(), primary));
    assert_eq!(verdict(&verifier, &both.with(&[])), Ok(()));
}

#[test]
fn secrets_are_taken_as_senders_and_their_libraries_take_them() {
    let scheme = preset("standard-webhooks");
    // What is written, and the same key without unused bits in its last symbol.
    for (written, exact) in [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaQ="),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaQ="),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBg=="),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr==", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBg=="),
        // As Supabase shows it.
        ("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ] {
        let verifier = verifier(&scheme, vec![secret_key(&scheme, "1", written)], None);
        let delivery = Received::signed(&scheme, exact.as_bytes(), "https://h/", b"{}");
        assert_eq!(verdict(&verifier, &delivery), Ok(()), "{written}");
    }
    for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwB", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa%=", "v1,v1,whsec_MfKQ9r8G"] {
        assert!(Key::from_secret("1", &scheme, wrong.as_bytes(), Validity::default()).is_err(), "{wrong}");
    }
}

#[test]
fn public_keys_are_taken_with_unused_bits_and_with_every_prefix() {
    let scheme = preset("standard-webhooks-asymmetric");
    let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
    let delivery = Received::signed(&scheme, private.as_ref(), "https://h/", b"{}");
    // 32 bytes are 43 symbols, of which the last has two unused bits.
    let exact = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, pair.public_key());
    let (stem, last) = exact.split_at(42);
    let symbols = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = symbols.iter().position(|symbol| *symbol == last.as_bytes()[0]).unwrap();
    let odd = format!("{stem}{}", char::from(symbols[at + 3]));
    for written in
        [format!("whpk_{exact}="), format!("v1a,whpk_{exact}"), format!("{odd}="), format!("whpk_{odd}"), odd]
    {
        let key = Key::from_public("1", &scheme, &written, Validity::default());
        let verifier = verifier(&scheme, vec![key.unwrap_or_else(|error| panic!("{written}: {error}"))], None);
        assert_eq!(verdict(&verifier, &delivery), Ok(()), "{written}");
    }
}

/// The key pair and the signature of svix-server's `test_asymmetric_key_signing`.
#[test]
fn a_private_key_is_taken_as_standard_webhooks_writes_it() {
    let scheme = preset("standard-webhooks-asymmetric");
    let pair = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let now = Now::at_unix(Duration::from_secs(1_614_265_330));
    let body = br#"{"test": 2432232314}"#;
    let id = Some("msg_p5jXN8AQM9LWM0D4loKWxJek");
    let input = SignInput { method: "POST", url: "https://h/", headers: &[], body, now, id };
    let expected = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    let seed = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
    for key in [format!("whsk_{pair}"), format!("v1a,whsk_{pair}\n"), pair.to_owned(), format!("whsk_{seed}")] {
        let headers = sign(&scheme, key.as_bytes(), &input).unwrap();
        assert_eq!(headers.last().unwrap(), &("webhook-signature".to_owned(), expected.to_owned()), "{key}");
    }
    // The public key behind the seed is not that of the seed.
    let mixed = format!("whsk_{}", pair.replace("VKIDij2HK", "VKIDij2HL"));
    for refused in [mixed.as_str(), "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4", "secret"] {
        assert!(sign(&scheme, refused.as_bytes(), &input).is_err(), "{refused}");
    }
}

#[test]
fn an_alias_means_its_preset() {
    for (alias, name) in presets::aliases() {
        assert_eq!(preset(alias), preset(name), "{alias}");
    }
    assert_eq!(preset("whatsapp").name, "meta");
    assert!(presets::preset("fax").is_none());
}

/// Persona writes two groups while a secret is replaced: either may be ours.
#[test]
fn either_of_two_groups_is_verified() {
    let persona = preset("persona");
    let delivery = Received::signed(&persona, SECRET.as_bytes(), "https://h/", b"{}");
    let good = delivery.value("Persona-Signature").to_owned();
    let other = good.replace("v1=", "v1=00").chars().take(good.len()).collect::<String>();
    let verifier = verifier(&persona, vec![secret_key(&persona, "1", SECRET)], None);
    for (value, expected) in [
        (format!("{other} {good}"), Ok(())),
        (format!("{good} {other}"), Ok(())),
        (format!("{other} {other}"), Err(Rejection::SignatureMismatch)),
        (good.clone(), Ok(())),
    ] {
        assert_eq!(verdict(&verifier, &delivery.with(&[("Persona-Signature", &value)])), expected, "{value}");
    }
}

/// What Twilio sends, signed for a URL up to the path.
fn by_twilio(scheme: &Scheme, signed: &str) -> Received {
    if scheme.body_digest.is_none() {
        return Received::signed(scheme, SECRET.as_bytes(), &format!("{signed}?a=1"), b"From=%2B15550001111&Digits=1");
    }
    let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    Received::signed(scheme, SECRET.as_bytes(), &format!("{signed}?bodySHA256={digest}"), b"{}")
}

#[test]
fn twilio_signs_with_the_port_or_without() {
    for name in ["twilio", "twilio-json"] {
        let scheme = preset(name);
        for (configured, signed, expected) in [
            ("https://h:8443/sms", "https://h:8443/sms", true),
            ("https://h:8443/sms", "https://h/sms", true),
            ("https://h/sms", "https://h/sms", true),
            ("https://h/sms", "https://h:443/sms", true),
            ("https://h:443/sms", "https://h/sms", true),
            ("http://h/sms", "http://h:80/sms", true),
            ("https://h", "https://h:443/sms", true),
            ("https://h/sms", "https://h:8443/sms", false),
            ("https://h:8443/sms", "https://h:443/sms", false),
            ("https://h/sms", "http://h/sms", false),
            ("https://h/sms", "https://h:80/sms", false),
        ] {
            // The key that matches is not the first: every key is tried with both.
            let keys = vec![secret_key(&scheme, "0", "another-secret"), secret_key(&scheme, "1", SECRET)];
            let verifier = verifier(&scheme, keys, Some(configured));
            let delivery = by_twilio(&scheme, signed);
            let key = judge(&verifier, &delivery).map(|verified| verified.key_id().map(str::to_owned));
            let expected = if expected { Ok(Some("1".to_owned())) } else { Err(Rejection::SignatureMismatch) };
            assert_eq!(key, expected, "{name}: {configured}, {signed}");
        }
    }
    // Other schemes take only the URL that is configured.
    let scheme = preset("square");
    let verifier = verifier(&scheme, vec![secret_key(&scheme, "1", SECRET)], Some("https://h/sms"));
    let delivery = Received::signed(&scheme, SECRET.as_bytes(), "https://h:443/sms", b"{}");
    assert_eq!(verdict(&verifier, &delivery), Err(Rejection::SignatureMismatch));
}

#[test]
fn a_delivery_is_the_same_one_whichever_url_was_signed() {
    let scheme = preset("twilio");
    let keys = || vec![secret_key(&scheme, "0", "another-secret"), secret_key(&scheme, "1", SECRET)];
    let verifier = verifier(&scheme, keys(), Some("https://h/sms"));
    let replay_key = |signed: &str| judge(&verifier, &by_twilio(&scheme, signed)).unwrap().replay_key().unwrap();
    assert_eq!(replay_key("https://h/sms"), replay_key("https://h:443/sms"));
}

#[test]
fn a_mismatch_over_a_port_names_the_url_that_was_signed() {
    let explained = |name: &str, configured: &str, signed: &str| {
        let scheme = preset(name);
        let verifier = verifier(&scheme, vec![secret_key(&scheme, "1", SECRET)], Some(configured));
        let budget = &TrialBudget::of(0);
        let given = Given::alone(&verifier, &[], NOW, budget);
        explain(&given, &Received::signed(&scheme, SECRET.as_bytes(), signed, b"")).to_string()
    };
    for (configured, signed) in [
        ("https://a.example:8443/in", "https://a.example/in"),
        ("https://a.example:8443/in", "https://a.example:443/in"),
        ("https://a.example/in", "https://a.example:443/in"),
        ("http://a.example:80/in", "http://a.example/in"),
    ] {
        let text = explained("square", configured, signed);
        assert!(text.contains(&format!("the sender signs `{signed}`: the port differs from public_url")), "{text}");
    }
    assert!(explained("twilio", "https://a.example:8443/in", "https://a.example/in").contains("genuine"));
    let text = explained("twilio", "https://a.example:8443/in", "http://a.example:8443/in");
    assert!(text.contains("URL that was judged: POST https://a.example:8443/in, or https://a.example/in"), "{text}");
    assert!(text.contains("the sender signs `http://a.example:8443/in`: the scheme differs from public_url"), "{text}");
}
