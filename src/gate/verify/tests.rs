#![allow(clippy::unwrap_used, clippy::expect_used)]
use core::time::Duration;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::now::Now;
use crate::outcome::Rejection;
use crate::wire::headers::HeaderBuf;

const NOW: u64 = 1_760_000_000;
const SECRET: &str = "correct-horse-battery-staple-0123456789";
const BODY: &[u8] = b"{\"event\":\"order.created\"}";

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: HeaderBuf,
    pub(super) body: Vec<u8>,
}

impl Request {
    fn post(body: &[u8]) -> Self {
        Self { method: "POST".into(), target: "/hook".into(), headers: HeaderBuf::default(), body: body.to_vec() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value.as_bytes());
        self
    }
}

impl Delivery for Request {
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

fn now() -> Now {
    Now::at_unix(Duration::from_secs(NOW))
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn header(name: &str) -> Source {
    Source::Headers(vec![name.to_owned()])
}

fn seconds(source: Source) -> Option<TimestampSource> {
    Some(TimestampSource { source, unit: Unit::Seconds, tolerance: Tolerance::new(Duration::from_secs(300)) })
}

fn github() -> Scheme {
    Scheme {
        syntax: Syntax::Single { prefix: "sha256=".into() },
        id: Some(header("X-GitHub-Delivery")),
        ..Scheme::new("github", Kind::Hmac(MacAlgorithm::HmacSha256), "X-Hub-Signature-256", template("{body}"))
    }
}

fn stripe() -> Scheme {
    Scheme {
        syntax: Syntax::Pairs { separator: b',', key: "v1".into() },
        timestamp: seconds(Source::Field("t".into())),
        ..Scheme::new(
            "stripe",
            Kind::Hmac(MacAlgorithm::HmacSha256),
            "Stripe-Signature",
            template("{timestamp}.{body}"),
        )
    }
}

fn slack() -> Scheme {
    Scheme {
        syntax: Syntax::Single { prefix: "v0=".into() },
        timestamp: seconds(header("X-Slack-Request-Timestamp")),
        ..Scheme::new(
            "slack",
            Kind::Hmac(MacAlgorithm::HmacSha256),
            "X-Slack-Signature",
            template("v0:{timestamp}:{body}"),
        )
    }
}

fn standard() -> Scheme {
    Scheme {
        syntax: Syntax::List { separator: b' ', prefix: "v1,".into() },
        encoding: Encoding::Base64,
        timestamp: seconds(header("webhook-timestamp")),
        id: Some(header("webhook-id")),
        secret: KeyForm { encoding: KeyEncoding::Encoded(Encoding::Base64), strip_prefix: vec!["whsec_".into()] },
        ..Scheme::new(
            "standard-webhooks",
            Kind::Hmac(MacAlgorithm::HmacSha256),
            "webhook-signature",
            template("{id}.{timestamp}.{body}"),
        )
    }
}

fn verifier(scheme: Scheme, secrets: &[&str]) -> Verifier {
    let keys = secrets
        .iter()
        .enumerate()
        .map(|(index, secret)| {
            Key::from_secret(&format!("k{index}"), &scheme, secret.as_bytes(), Validity::default()).unwrap()
        })
        .collect();
    Verifier::new(Arc::new(scheme), Keyring::new(keys), None, None).unwrap()
}

fn judge(verifier: &Verifier, request: Request) -> Result<Verified<'_, Request>, Rejection> {
    let mut check = verifier.begin(&request, now())?;
    check.update(&request.body.clone());
    verifier.finish(check, request, now()).map_err(|(rejection, _)| rejection)
}

fn verdict(verifier: &Verifier, request: Request) -> Result<(), Rejection> {
    judge(verifier, request).map(|_| ())
}

fn hmac(secret: &[u8], content: &[u8]) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), content).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    Encoding::Hex.encode(bytes)
}

fn signed_github(body: &[u8]) -> Request {
    Request::post(body).with("x-hub-signature-256", &format!("sha256={}", hex(&hmac(SECRET.as_bytes(), body))))
}

fn signed_stripe(timestamp: &str) -> Request {
    let content = [timestamp.as_bytes(), b".", BODY].concat();
    let tag = hex(&hmac(SECRET.as_bytes(), &content));
    Request::post(BODY).with("stripe-signature", &format!("t={timestamp},v1={tag},v0=ab"))
}

#[test]
fn a_published_delivery_of_github_is_genuine() {
    let request = Request::post(b"Hello, World!")
        .with("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    let judging = verifier(github(), &["It's a Secret to Everybody"]);
    let verified = judge(&judging, request).unwrap();
    assert_eq!(verified.key_id(), Some("k0"));
    assert_eq!(verified.delivery_id(), None);
    assert!(!verified.delivery_id_is_signed());
}

#[test]
fn slack_and_standard_webhooks_sign_their_timestamps() {
    let content = [b"v0:1760000000:".as_slice(), BODY].concat();
    let request = Request::post(BODY)
        .with("X-Slack-Signature", &format!("v0={}", hex(&hmac(SECRET.as_bytes(), &content))))
        .with("X-Slack-Request-Timestamp", "1760000000");
    let judging = verifier(slack(), &[SECRET]);
    let verified = judge(&judging, request).unwrap();
    assert_eq!(verified.timestamp(), Some(1_760_000_000_000));
    assert_eq!(verified.timestamp_text(), Some(b"1760000000".as_slice()));

    let content = [b"msg_1.1760000000.".as_slice(), BODY].concat();
    let tag = Encoding::Base64.encode(&hmac(b"0123456789abcdef0123456789abcdef", &content));
    let request = Request::post(BODY)
        .with("webhook-signature", &format!("v1a,AAAA v1,{tag}"))
        .with("webhook-timestamp", "1760000000")
        .with("webhook-id", "msg_1");
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let judging = verifier(standard(), &[secret]);
    let verified = judge(&judging, request).unwrap();
    assert_eq!(verified.delivery_id(), Some(b"msg_1".as_slice()));
    assert!(verified.delivery_id_is_signed());
}

#[test]
fn each_defect_has_its_reason() {
    let github = verifier(github(), &[SECRET]);
    let tag = hex(&hmac(SECRET.as_bytes(), BODY));
    let with = |value: &str| Request::post(BODY).with("X-Hub-Signature-256", value);
    let cases = [
        (Request::post(BODY), Rejection::SignatureMissing),
        (with(""), Rejection::SignatureMissing),
        (with(&tag), Rejection::SignatureMalformed),
        (with(&format!("sha1={tag}")), Rejection::SignatureMalformed),
        (with("sha256="), Rejection::SignatureMalformed),
        (with(&format!("sha256={}", &tag[..62])), Rejection::SignatureMalformed),
        (with(&format!("sha256={tag}00")), Rejection::SignatureMalformed),
        (with(&format!("sha256={}zz", &tag[..62])), Rejection::SignatureMalformed),
        (with(&format!("sha256={}", "00".repeat(32))), Rejection::SignatureMismatch),
        (with(&format!("sha256={tag}")).with("x-hub-signature-256", "x"), Rejection::SignatureDuplicate),
    ];
    for (request, rejection) in cases {
        assert_eq!(verdict(&github, request.clone()), Err(rejection), "{request:?}");
    }
    assert_eq!(verdict(&github, with(&format!("sha256={}", tag.to_uppercase()))), Ok(()));
}

#[test]
fn timestamps_in_the_signature_header_have_their_reasons() {
    let stripe = verifier(stripe(), &[SECRET]);
    assert_eq!(verdict(&stripe, signed_stripe("1760000000")), Ok(()));
    assert_eq!(verdict(&stripe, signed_stripe("1759999700")), Ok(()));
    assert_eq!(verdict(&stripe, signed_stripe("1760000300")), Ok(()));
    assert_eq!(verdict(&stripe, signed_stripe("1759999699")), Err(Rejection::TimestampStale));
    assert_eq!(verdict(&stripe, signed_stripe("1760000301")), Err(Rejection::TimestampFuture));
    assert_eq!(verdict(&stripe, signed_stripe("01760000000")), Err(Rejection::TimestampMalformed));
    assert_eq!(verdict(&stripe, signed_stripe("+1760000000")), Err(Rejection::TimestampMalformed));
    assert_eq!(verdict(&stripe, signed_stripe("")), Err(Rejection::TimestampMissing));
    let tag = "00".repeat(32);
    let with = |value: String| Request::post(BODY).with("Stripe-Signature", &value);
    assert_eq!(verdict(&stripe, with(format!("v1={tag}"))), Err(Rejection::TimestampMissing));
    assert_eq!(verdict(&stripe, with(format!("t=1,t=1,v1={tag}"))), Err(Rejection::TimestampDuplicate));
    assert_eq!(verdict(&stripe, with("t=1760000000,v0=00".into())), Err(Rejection::SignatureMalformed));
    // A signature that can be compared decides; what is none beside it does not.
    assert_eq!(verdict(&stripe, with(format!("t=1760000000,v1={tag},junk"))), Err(Rejection::SignatureMismatch));
}

#[test]
fn a_slow_body_does_not_outlive_the_tolerance() {
    let stripe = verifier(stripe(), &[SECRET]);
    let request = signed_stripe("1759999700");
    let mut check = stripe.begin(&request, now()).unwrap();
    check.update(BODY);
    let later = Now::at_unix(Duration::from_secs(NOW + 1));
    assert_eq!(stripe.finish(check, request, later).unwrap_err().0, Rejection::TimestampStale);
}

#[test]
fn an_observed_tolerance_notes_and_nothing_else_is_let_through() {
    let observing = verifier(stripe(), &[SECRET]).observing_tolerance();
    let untimely = |at: &str| judge(&observing, signed_stripe(at)).unwrap().untimely();
    assert_eq!(untimely("1760000000"), None);
    assert_eq!(untimely("1759990000"), Some(Rejection::TimestampStale));
    assert_eq!(untimely("1760009999"), Some(Rejection::TimestampFuture));
    let forged = Request::post(BODY).with("Stripe-Signature", &format!("t=1759990000,v1={}", "00".repeat(32)));
    assert_eq!(verdict(&observing, forged), Err(Rejection::SignatureMismatch));
    let undated = Request::post(BODY).with("Stripe-Signature", &format!("v1={}", "00".repeat(32)));
    assert_eq!(verdict(&observing, undated), Err(Rejection::TimestampMissing));
}

#[test]
fn rotation_tries_every_active_key_and_no_other() {
    let scheme = github();
    let key = |id: &str, secret: &str, not_before, not_after| {
        Key::from_secret(id, &scheme, secret.as_bytes(), Validity { not_before, not_after }).unwrap()
    };
    let at = i64::try_from(NOW).unwrap();
    let build = |keys| Verifier::new(Arc::new(github()), Keyring::new(keys), None, None).unwrap();
    let both = build(vec![key("new", "another-secret", None, None), key("old", SECRET, None, Some(at + 1))]);
    assert_eq!(judge(&both, signed_github(BODY)).unwrap().key_id(), Some("old"));
    let expired = build(vec![key("new", "another-secret", None, None), key("old", SECRET, None, Some(at))]);
    assert_eq!(verdict(&expired, signed_github(BODY)), Err(Rejection::SignatureMismatch));
    let early = build(vec![key("next", SECRET, Some(at + 1), None)]);
    assert_eq!(verdict(&early, signed_github(BODY)), Err(Rejection::KeyInactive));
}

#[test]
fn a_delivery_is_the_same_one_whichever_signature_is_taken_off() {
    let stripe = verifier(stripe(), &["another-secret", SECRET, "a-third-secret"]);
    let content = [b"1760000000.".as_slice(), BODY].concat();
    let sign = |secret: &str| Encoding::Hex.encode(&hmac(secret.as_bytes(), &content));
    let (first, second) = (sign("another-secret"), sign(SECRET));
    let with = |signatures: String| {
        let request = Request::post(BODY).with("Stripe-Signature", &format!("t=1760000000,{signatures}"));
        judge(&stripe, request).unwrap().replay_key()
    };
    let both = with(format!("v1={first},v1={second}"));
    assert!(both.is_some());
    assert_eq!([with(format!("v1={first}")), with(format!("v1={second}"))], [both, both]);
}

#[test]
fn an_id_with_the_separator_is_refused() {
    let content = [b"msg.1.1760000000.".as_slice(), BODY].concat();
    let tag = Encoding::Base64.encode(&hmac(b"0123456789abcdef0123456789abcdef", &content));
    let request = Request::post(BODY)
        .with("webhook-signature", &format!("v1,{tag}"))
        .with("webhook-timestamp", "1760000000")
        .with("webhook-id", "msg.1");
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    assert_eq!(verdict(&verifier(standard(), &[secret]), request), Err(Rejection::IdMalformed));
}

#[test]
fn bytes_that_were_not_hashed_are_not_vouched_for() {
    let github = verifier(github(), &[SECRET]);
    let request = signed_github(BODY);
    let check = github.begin(&request, now()).unwrap();
    assert_eq!(github.finish(check, request, now()).unwrap_err().0, Rejection::SignatureMismatch);
}

fn explained(verifier: &Verifier, request: &Request) -> String {
    let explanation = explain(verifier, request, now());
    assert_eq!(explanation.verdict, verdict(verifier, request.clone()));
    let text = explanation.to_string();
    assert!(!text.contains("correct-horse") && !text.contains(&hex(&hmac(SECRET.as_bytes(), &request.body))), "{text}");
    text
}

#[test]
fn a_verdict_is_explained_in_plain_words() {
    let github = verifier(github(), &[SECRET]);
    let with = |value: &str| Request::post(BODY).with("X-Hub-Signature-256", value);
    let tag = hmac(SECRET.as_bytes(), BODY);
    let newline = Request { body: [BODY, b"\n"].concat(), ..signed_github(BODY) };
    let cases = [
        (signed_github(BODY), "genuine: it matches the key `k0`"),
        (Request::post(BODY).with("X-Gitea-Signature", "00"), "X-Gitea-Signature instead"),
        (
            Request::post(BODY).with("X-GitHub-Delivery", "1").with("X-Hub-Signature", "00"),
            "has X-Hub-Signature instead",
        ),
        (with(""), "found, but empty"),
        (with(&hex(&[0; 32])), "does not begin with `sha256=`"),
        (with(&format!("sha256={}", Encoding::Base64.encode(&tag))), "written in base64, but hex is expected"),
        (with(&format!("sha256={}", hex(&[0; 20]))), "that of SHA-1"),
        (with("sha256=zz"), "not valid hex"),
        (newline, "ends with a newline: with that undone the signature would match"),
        (with(&format!("sha256={}", hex(&[0; 32]))), "another key or over other bytes"),
    ];
    for (request, expected) in cases {
        let text = explained(&github, &request);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn one_defect_of_a_header_is_named_once() {
    let github = verifier(github(), &[SECRET]);
    let twice = signed_github(BODY).with("X-Hub-Signature-256", "sha256=00");
    for request in [twice, Request::post(BODY).with("X-Hub-Signature-256", "")] {
        let text = explained(&github, &request);
        assert!(!text.contains("256: not found") && !text.contains("right scheme"), "{text}");
    }
}

#[test]
fn a_stale_delivery_is_judged_as_of_its_timestamp() {
    let stripe = verifier(stripe(), &[SECRET]);
    for timestamp in ["1759990000", "1760010000"] {
        let text = explained(&stripe, &signed_stripe(timestamp));
        assert!(text.contains("at that time the delivery would be accepted with the key `k0`"), "{text}");
        assert!(text.contains(&format!("judge it as of then: --now {timestamp}")), "{text}");
    }
    let changed = Request { body: b"{}".to_vec(), ..signed_stripe("1759990000") };
    let text = explained(&stripe, &changed);
    assert!(text.contains("would be refused all the same: signature_mismatch"), "{text}");
    assert!(text.contains("the body that was judged: 2 bytes, SHA-256 44136fa355b3678a…"), "{text}");
}

#[test]
fn a_mismatch_tells_what_was_used_and_what_would_match() {
    let github = verifier(github(), &[SECRET]);
    let signed = |signed: &str, arrived: &str| {
        explained(&github, &Request { body: arrived.as_bytes().to_vec(), ..signed_github(signed.as_bytes()) })
    };
    let text = signed("{\"a\": [1, 2]}", "{\"a\":[1,2]}");
    assert!(text.contains("lacks the spaces after `,` and `:` in its JSON: with that undone"), "{text}");
    assert!(text.contains(&format!("key `k0`: made of a secret of {} bytes", SECRET.len())), "{text}");
    let text = signed("{\"a\":[1,2]}", "{\n  \"a\": [\n    1, 2]\n}");
    assert!(text.contains("has white space between its JSON tokens"), "{text}");
    let text = signed("{\"a\":\"\\u00e4\"}", "{\"a\": \"ä\"}");
    assert!(text.contains("and has characters where \\uXXXX escapes were signed"), "{text}");
}

#[test]
fn a_mismatch_over_a_url_names_it_with_the_method() {
    let guards = Guards {
        without: vec![Without { part: Part::Url, bytes: ByteSet::of(b"{") }],
        begins: Some(ByteSet::of(b"{")),
        ..Guards::default()
    };
    let scheme = Scheme { content: template("{method}{url}{body}"), guards, ..github() };
    let key = Key::from_secret("k0", &scheme, SECRET.as_bytes(), Validity::default()).unwrap();
    let url = PublicUrl::parse("https://a.example").unwrap();
    let verifier = Verifier::new(Arc::new(scheme), Keyring::new(vec![key]), None, Some(url)).unwrap();
    let explained = |content: &str| {
        let tag = hmac(SECRET.as_bytes(), content.as_bytes());
        let request = Request::post(b"").with("X-Hub-Signature-256", &format!("sha256={}", hex(&tag)));
        let request = request.with("Host", "b.example:8443");
        explain(&verifier, &Request { target: "/hook?a=1".to_owned(), ..request }, now()).to_string()
    };
    let text = explained("POSThttps://a.example/hook");
    assert!(text.contains("signed for POST https://a.example/hook?a=1 : is that what is configured"), "{text}");
    assert!(text.contains("without the query of the URL the signature would match"), "{text}");
    let text = explained("PUThttps://a.example/hook?a=1");
    assert!(text.contains("with the method PUT the signature would match"), "{text}");
    for other in ["http://a.example", "https://a.example:443", "https://b.example:8443", "http://b.example:8443"] {
        let text = explained(&format!("POST{other}/hook?a=1"));
        assert!(text.contains(&format!("explained: with `{other}` in public_url the signature would match")), "{text}");
    }
}

#[test]
fn times_are_explained_in_units_for_people() {
    let text = explained(&verifier(stripe(), &[SECRET]), &signed_stripe("1759999588"));
    assert!(text.contains("6 min 52 s (412 s) old, outside of the tolerance of 5 min (300 s)"), "{text}");
    let text = explained(&verifier(stripe(), &[SECRET]), &signed_stripe("1760000000000"));
    assert!(text.contains("not in the unit s; it looks like ms") && !text.contains("--now"), "{text}");

    let scheme = github();
    let validity = Validity { not_before: None, not_after: Some(1_759_999_990) };
    let old = Key::from_secret("old", &scheme, SECRET.as_bytes(), validity).unwrap();
    let new = Key::from_secret("new", &scheme, b"another-secret", Validity::default()).unwrap();
    let verifier = Verifier::new(Arc::new(scheme), Keyring::new(vec![new, old]), None, None).unwrap();
    let text = explained(&verifier, &signed_github(BODY));
    assert!(text.contains("key `old`: expired 10 s ago"), "{text}");
    assert!(text.contains("the key `old`, which is not active now, would match"), "{text}");
}

#[test]
fn a_check_of_another_kind_vouches_for_nothing() {
    let token = Scheme::new("token", Kind::Token, "X-Token", Template::default());
    let token = verifier(token, &["the-token"]);
    let request = signed_github(b"another body").with("X-Token", "the-token");
    let request = Request { body: BODY.to_vec(), ..request };
    let github = verifier(github(), &[SECRET]);
    let none = Verifier::none();
    for check in [token.begin(&request, now()).unwrap(), none.begin(&request, now()).unwrap()] {
        assert_eq!(github.finish(check, request.clone(), now()).unwrap_err().0, Rejection::SignatureMismatch);
    }
}

#[test]
fn nothing_secret_is_printed() {
    let verifier = verifier(github(), &[SECRET]);
    assert!(!format!("{verifier:?}").contains("correct-horse"));
}

proptest! {
    #[test]
    fn the_way_the_body_arrives_does_not_matter(body in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(0_usize..600, 0..8)) {
        let github = verifier(github(), &["first", SECRET]);
        for (request, expected) in [(signed_github(&body), true), (signed_github(b"another"), body == b"another")] {
            let request = Request { body: body.clone(), ..request };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&body.len())).collect();
            cuts.push(body.len());
            cuts.sort_unstable();
            let mut check = github.begin(&request, now()).unwrap();
            let mut start = 0;
            for cut in cuts {
                check.update(&body[start..cut]);
                start = cut;
            }
            prop_assert_eq!(github.finish(check, request, now()).is_ok(), expected);
        }
    }

    #[test]
    fn no_signature_text_is_accepted_by_chance(value in ".{0,300}") {
        for (scheme, header) in [(github(), "X-Hub-Signature-256"), (stripe(), "Stripe-Signature")] {
            let verifier = verifier(scheme, &[SECRET]);
            prop_assert!(verdict(&verifier, Request::post(BODY).with(header, &value)).is_err());
        }
    }

    #[test]
    fn near_signatures_are_refused(position in 0_usize..71, byte in 0x21_u8..0x7f) {
        let genuine = format!("sha256={}", hex(&hmac(SECRET.as_bytes(), BODY)));
        let mut value = genuine.clone().into_bytes();
        value[position] = byte;
        let value = String::from_utf8(value).unwrap();
        let accepted = verdict(&verifier(github(), &[SECRET]), Request::post(BODY).with("X-Hub-Signature-256", &value)).is_ok();
        let same_bytes = value.starts_with("sha256=") && value.eq_ignore_ascii_case(&genuine);
        prop_assert_eq!(accepted, same_bytes);
    }
}
