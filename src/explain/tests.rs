#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::Arc;

use super::*;
use crate::gate::verify::for_tests::*;
use crate::gate::verify::{
    ByteSet, Encoding, Guards, Key, Keyring, Part, PublicUrl, Scheme, Validity, Verifier, Without,
};

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
