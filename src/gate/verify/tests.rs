#![allow(clippy::unwrap_used, clippy::expect_used)]
use core::time::Duration;
use std::sync::Arc;

use proptest::prelude::*;

use super::for_tests::*;
use super::*;
use crate::now::Now;
use crate::outcome::Rejection;

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
