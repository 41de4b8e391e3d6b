//! What senders sign other than the bytes of the body: fields of it, in JSON and in forms, digests, and what they compress
//! after they have signed it. Each kind with what it must not let through.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::config::presets;
use countersign::gate::verify::{
    Encoding, Key, KeyForm, Keyring, Kind, MacAlgorithm, Scheme, Template, Validity, Verified, Verifier,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use ring::{digest, hmac};
use support::Received;

const NOW: Now = Now::at_unix(Duration::from_secs(1_760_000_000));
const KEY: &str = "correct-horse-battery-staple";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], content: &[u8]) -> String {
    hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), content).as_ref())
}

fn received(headers: &[(&str, &str)], body: &[u8]) -> Received {
    let mut buffer = HeaderBuf::default();
    headers.iter().for_each(|(name, value)| buffer.push(name, value.as_bytes()));
    let list = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Received { target: "/in".to_owned(), list, headers: buffer, body: body.to_vec() }
}

fn verifier_of(scheme: Arc<Scheme>, secrets: &[&str]) -> Verifier {
    let key = |secret: &&str| Key::from_secret(secret, &scheme, secret.as_bytes(), Validity::default()).unwrap();
    let keys = Keyring::new(secrets.iter().map(key).collect());
    Verifier::new(scheme, keys, None, None).unwrap().with_body_limit(1 << 20)
}

fn verifier(name: &str, secret: &str) -> Verifier {
    verifier_of(presets::preset(name).unwrap_or_else(|| panic!("no preset {name}")), &[secret])
}

fn judge<'v>(verifier: &'v Verifier, delivery: &Received) -> Result<Verified<'v, Received>, Rejection> {
    let mut check = verifier.begin(delivery, NOW)?;
    check.update(&delivery.body);
    verifier.finish(check, delivery.clone(), NOW).map_err(|(rejection, _)| rejection)
}

fn verdict(verifier: &Verifier, delivery: &Received) -> Result<(), Rejection> {
    judge(verifier, delivery).map(|_| ())
}

/// The example of Adyen's documentation and of its SDKs.
#[test]
fn adyen_signs_eight_fields_of_one_item() {
    let secret = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
    let verifier = verifier("adyen", secret);
    let item = |reference: &str, more: &str| {
        format!(
            r#"{{"NotificationRequestItem":{{"pspReference":"7914073381342284","merchantAccountCode":"TestMerchant",
            "merchantReference":"{reference}","amount":{{"value":1130,"currency":"EUR"}},"eventCode":"AUTHORISATION",
            "success":"true"{more},"additionalData":{{"hmacSignature":"coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="}}}}}}"#
        )
    };
    let judged = |items: &[String]| {
        let body = format!(r#"{{"live":"false","notificationItems":[{}]}}"#, items.join(","));
        verdict(&verifier, &received(&[JSON], body.as_bytes()))
    };
    let good = item("TestPayment-1407325143704", "");
    assert_eq!(judged(std::slice::from_ref(&good)), Ok(()));
    assert_eq!(judged(&[item("TestPayment-1407325143705", "")]), Err(Rejection::SignatureMismatch));
    // A second item would not be signed; a colon could move between two fields; a key that stands twice is read in two ways.
    assert_eq!(judged(&[good.clone(), good.clone()]), Err(Rejection::ContentAmbiguous));
    assert_eq!(judged(&[]), Err(Rejection::SignatureMissing));
    let moved = good.replace("TestMerchant\"", "TestMerchant:TestPayment\"").replace("TestPayment-14", "14");
    assert_eq!(judged(&[moved]), Err(Rejection::ContentAmbiguous));
    assert_eq!(judged(&[item("x", r#","eventCode":"AUTHORISATION""#)]), Err(Rejection::ContentUnavailable));
}

#[test]
fn a_signature_after_bare_items_in_groups_and_under_several_names() {
    let body = br#"{"a":1}"#;
    let seconds = mac(KEY.as_bytes(), b"1760000000.{\"a\":1}");
    let millis = mac(KEY.as_bytes(), b"1760000000123.{\"a\":1}");
    let other = "00".repeat(32);
    for (name, header, value, expected) in [
        ("recurly-json", "recurly-signature", format!("1760000000123,{millis}"), Ok(())),
        ("recurly-json", "recurly-signature", format!("1760000000123,{other},{millis}"), Ok(())),
        ("recurly-json", "recurly-signature", format!("1760000000124,{millis}"), Err(Rejection::SignatureMismatch)),
        ("recurly-json", "recurly-signature", millis.clone(), Err(Rejection::SignatureMalformed)),
        ("recurly-json", "recurly-signature", format!("soon,{millis}"), Err(Rejection::TimestampMalformed)),
        ("persona", "Persona-Signature", format!("t=1760000000,v1={seconds}"), Ok(())),
        ("persona", "Persona-Signature", format!("t=1760000000,v1={other} t=1760000000,v1={seconds}"), Ok(())),
        ("persona", "Persona-Signature", format!("t=1760000000,v1={seconds} t=1760000000,v1={other}"), Ok(())),
        (
            "persona",
            "Persona-Signature",
            format!("t=1760000000,v1={seconds} t=1760000001,v1={other}"),
            Err(Rejection::TimestampDuplicate),
        ),
        ("tabapay", "X-HMAC-Signature", format!("t=1760000000,v1={other},v2={seconds}"), Ok(())),
        ("tabapay", "X-HMAC-Signature", format!("t=1760000000,v1={seconds},v2={other}"), Ok(())),
        ("tabapay", "X-HMAC-Signature", format!("t=1760000000,v3={seconds}"), Err(Rejection::SignatureMalformed)),
    ] {
        let delivery = received(&[JSON, (header, &value)], body);
        assert_eq!(verdict(&verifier(name, KEY), &delivery), expected, "{name} {value}");
    }
}

#[test]
fn form_fields_are_found_in_both_kinds_of_forms() {
    let verifier = verifier("mailgun-routes", KEY);
    let signature = mac(KEY.as_bytes(), b"1760000000token-1");
    let form = format!("timestamp=1760000000&token=token-1&signature={signature}&body-plain=hello");
    let verified = judge(&verifier, &received(&[FORM], form.as_bytes())).map(|it| it.delivery_id().map(<[u8]>::to_vec));
    assert_eq!(verified, Ok(Some(b"token-1".to_vec())));
    let part = |name: &str, value: &[u8]| {
        [format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(), value, b"\r\n"].concat()
    };
    let file =
        b"--B\r\nContent-Disposition: form-data; name=\"attachment-1\"; filename=\"a.bin\"\r\n\r\n\0\xff\r\n--\r\n";
    let good = [
        &part("timestamp", b"1760000000")[..],
        &part("token", b"token-1"),
        file,
        &part("signature", signature.as_bytes()),
        b"--B--\r\n",
    ]
    .concat();
    let multipart = ("Content-Type", "multipart/form-data; boundary=B");
    assert_eq!(verdict(&verifier, &received(&[multipart], &good)), Ok(()));
    let twice = [&part("token", b"token-2")[..], &good].concat();
    assert_eq!(verdict(&verifier, &received(&[multipart], &twice)), Err(Rejection::IdDuplicate));
    let many = [&part("x", b"1").repeat(10_000)[..], &good].concat();
    assert_eq!(verdict(&verifier, &received(&[multipart], &many)), Err(Rejection::ContentTooComplex));
    let many = format!("{}{form}", "x=1&".repeat(10_000));
    assert_eq!(verdict(&verifier, &received(&[FORM], many.as_bytes())), Err(Rejection::ContentTooComplex));
}

#[test]
fn each_item_has_to_bring_its_token() {
    let verifier = verifier("microsoft-graph", KEY);
    let judged = |body: String| verdict(&verifier, &received(&[JSON], body.as_bytes()));
    let item = |token: &str| format!(r#"{{"clientState":"{token}","resource":"me"}}"#);
    let value = |items: &[String]| format!(r#"{{"value":[{}]}}"#, items.join(","));
    assert_eq!(judged(value(&[item(KEY), item(KEY)])), Ok(()));
    assert_eq!(judged(value(&[item(KEY), item("other")])), Err(Rejection::CredentialMismatch));
    let bare = r#"{"resource":"me"}"#.to_owned();
    assert_eq!(judged(value(&[item(KEY), bare])), Err(Rejection::CredentialMismatch));
    assert_eq!(judged(value(&[])), Err(Rejection::CredentialMissing));
    let many: Vec<String> = (0..2000).map(|_| item(KEY)).collect();
    assert_eq!(judged(value(&many)), Err(Rejection::ContentTooComplex));
}

#[test]
fn bodies_that_cannot_be_read_within_bounds_are_refused_for_that() {
    let verifier = verifier("nicepay", KEY);
    let tid = "UT0000113m01012111051714341073";
    let date = "2021-11-05T17:14:35.150+0900";
    let signed = |tid: &str, amount: &str, date: &str| {
        hex(digest::digest(&digest::SHA256, format!("{tid}{amount}{date}{KEY}").as_bytes()).as_ref())
    };
    let body = |tid: &str, amount: &str, more: &str| {
        let signature = signed(tid, amount, date);
        format!(r#"{{"tid":"{tid}","amount":{amount},"ediDate":"{date}",{more}"signature":"{signature}"}}"#)
    };
    let judged = |body: String| verdict(&verifier, &received(&[JSON], body.as_bytes()));
    assert_eq!(judged(body(tid, "10000", "")), Ok(()));
    assert_eq!(judged(body(tid, "10000.50", "")), Ok(()));
    // The same bytes, cut at another place.
    assert_eq!(judged(body(&format!("{tid}1"), "0000", "")), Err(Rejection::ContentUnavailable));
    assert_eq!(judged(body(&format!("{tid}1"), "0", "")), Err(Rejection::ContentAmbiguous));
    let deep = format!(r#""deep":{}{},"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(judged(body(tid, "1", &deep)), Err(Rejection::ContentTooComplex));
    let huge = format!(r#""huge":[{}0],"#, "0,".repeat(200_000));
    assert_eq!(judged(body(tid, "1", &huge)), Err(Rejection::ContentTooComplex));
}

/// A member as RFC 1952 has it, with the checksum of section 8.
fn gzip(body: &[u8]) -> Vec<u8> {
    let deflated = miniz_oxide::deflate::compress_to_vec(body, 9);
    let bit = |rest: u32, _| if rest & 1 == 1 { rest >> 1 ^ 0xedb8_8320 } else { rest >> 1 };
    let checksum = !body.iter().fold(u32::MAX, |rest, byte| (0..8).fold(rest ^ u32::from(*byte), bit));
    let (checksum, length) = (checksum.to_le_bytes(), u32::try_from(body.len()).unwrap().to_le_bytes());
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &deflated, &checksum, &length].concat()
}

#[test]
fn what_was_signed_before_it_was_compressed_is_verified_and_left_as_it_came() {
    let body = br#"{"type":"message.new","text":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;
    let signature = mac(KEY.as_bytes(), body);
    let coded = ("Content-Encoding", "gzip");
    let stream = verifier("getstream", KEY);
    let good = received(&[JSON, coded, ("X-Signature", &signature)], &gzip(body));
    let verified = judge(&stream, &good).unwrap();
    assert_eq!(verified.delivery().body, gzip(body));
    let name = stream.name_under(&verified, &stream.keys()[0]);
    assert!(name.is_some() && name == verified.replay_key());
    assert_eq!(verdict(&stream, &received(&[JSON, ("X-Signature", &signature)], body)), Ok(()));
    // As it came it is another body, and so it is for a scheme that signs what is sent.
    let as_sent = Scheme { signed_body: Default::default(), ..(*presets::preset("getstream").unwrap()).clone() };
    assert_eq!(verdict(&verifier_of(Arc::new(as_sent), &[KEY]), &good), Err(Rejection::SignatureMismatch));
    let quick = verifier("quicknode", KEY);
    let signature = mac(KEY.as_bytes(), &[b"n0nce1760000000", &body[..]].concat());
    let headers = [coded, ("X-QN-Nonce", "n0nce"), ("X-QN-Timestamp", "1760000000"), ("X-QN-Signature", &signature)];
    assert_eq!(verdict(&quick, &received(&headers, &gzip(body))), Ok(()));
    assert_eq!(verdict(&quick, &received(&headers, &gzip(&body[1..]))), Err(Rejection::SignatureMismatch));
    for (body, expected) in [
        (gzip(&vec![b' '; 64 << 20]), Rejection::CompressionBomb),
        (body.to_vec(), Rejection::CompressionUnreadable),
        ([gzip(body), gzip(body)].concat(), Rejection::CompressionUnreadable),
    ] {
        assert_eq!(verdict(&quick, &received(&headers, &body)), Err(expected));
    }
}

#[test]
fn keys_with_something_behind_them_or_hashed_first() {
    let body = br#"[{"collectionType":"activities"}]"#;
    let signature = STANDARD.encode(
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, format!("{KEY}&").as_bytes()), body).as_ref(),
    );
    let fitbit = verifier("fitbit", KEY);
    assert_eq!(verdict(&fitbit, &received(&[JSON, ("X-Fitbit-Signature", &signature)], body)), Ok(()));
    let key = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, KEY.as_bytes());
    let payload = "PD94bWwgdmVyc2lvbj0iMS4wIj8+\n";
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_ref()), payload.as_bytes());
    let signature = format!("other%7C{}%26public%7C{}", "00".repeat(20), hex(tag.as_ref()));
    let body = format!("bt_signature={signature}&bt_payload={}", payload.replace('+', "%2B").replace('\n', "%0A"));
    let braintree = verifier("braintree", KEY);
    assert_eq!(verdict(&braintree, &received(&[FORM], body.as_bytes())), Ok(()));
    let changed = body.replace("PD94", "QD94");
    assert_eq!(verdict(&braintree, &received(&[FORM], changed.as_bytes())), Err(Rejection::SignatureMismatch));
}

#[test]
fn a_signature_of_hexadecimal_digits_in_base64() {
    let scheme = Scheme {
        encoding: Encoding::Base64OfHex,
        secret: KeyForm::default(),
        ..Scheme::new(
            "solidgate",
            Kind::Hmac(MacAlgorithm::HmacSha512),
            "signature",
            Template::parse("api_pk_1{body}api_pk_1").unwrap(),
        )
    };
    assert_eq!(scheme.validate(), []);
    let verifier = verifier_of(Arc::new(scheme), &[KEY]);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, KEY.as_bytes()), b"api_pk_1{}api_pk_1");
    let signature = STANDARD.encode(hex(tag.as_ref()));
    assert_eq!(verdict(&verifier, &received(&[("signature", &signature)], b"{}")), Ok(()));
    assert_eq!(verdict(&verifier, &received(&[("signature", &signature)], b"[]")), Err(Rejection::SignatureMismatch));
}

#[test]
fn lark_puts_the_key_between_what_it_signs() {
    let lark = verifier("lark", KEY);
    let signed = |nonce: &str, body: &str| {
        let signature =
            hex(digest::digest(&digest::SHA256, format!("1760000000{nonce}{KEY}{body}").as_bytes()).as_ref());
        [("X-Lark-Request-Nonce", nonce.to_owned()), ("X-Lark-Signature", signature)]
    };
    let judged = |headers: &[(&str, String)], body: &str| {
        let mut all = vec![("X-Lark-Request-Timestamp", "1760000000")];
        all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
        verdict(&lark, &received(&all, body.as_bytes()))
    };
    let headers = signed("693486", r#"{"encrypt":"x"}"#);
    assert_eq!(judged(&headers, r#"{"encrypt":"x"}"#), Ok(()));
    let moved = [("X-Lark-Request-Nonce", "69348".to_owned()), headers[1].clone()];
    assert_eq!(judged(&moved, r#"6{"encrypt":"x"}"#), Err(Rejection::SignatureMismatch));
}
