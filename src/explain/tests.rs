#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::Arc;

use super::*;
use crate::gate::verify::for_tests::*;
use crate::gate::verify::{
    ByteSet, ClaimRule, Encoding, Guards, JwsAlgorithm, Key, Keyring, Kind, MacAlgorithm, Part, PublicUrl, Scheme,
    Template, TokenRules, Validity, Verifier, Without,
};
use crate::outcome::Rejection;

fn explanation(verifier: &Verifier, request: &Request) -> Explanation {
    let budget = TrialBudget::of(request.body.len());
    let secrets = [("k0".to_owned(), SECRET.as_bytes().to_vec().into())];
    explain(&Given::alone(verifier, &secrets, now(), &budget), request)
}

fn explained(verifier: &Verifier, request: &Request) -> String {
    let explanation = explanation(verifier, request);
    assert_eq!(explanation.verdict, verdict(verifier, request.clone()));
    let text = explanation.to_string();
    assert!(!text.contains("correct-horse") && !text.contains(&hex(&hmac(SECRET.as_bytes(), &request.body))), "{text}");
    text
}

#[test]
fn a_verdict_begins_with_its_cause_in_plain_words() {
    let github = verifier(github(), &[SECRET]);
    let with = |value: &str| Request::post(BODY).with("X-Hub-Signature-256", value);
    let tag = hmac(SECRET.as_bytes(), BODY);
    let newline = Request { body: [BODY, b"\n"].concat(), ..signed_github(BODY) };
    let cases = [
        (signed_github(BODY), "genuine: it matches the key `k0`"),
        (Request::post(BODY).with("X-Gitea-Signature", "00"), "is not there (but `X-Gitea-Signature`)"),
        (with(""), "the header `X-Hub-Signature-256` is empty"),
        (with(&hex(&[0; 32])), "does not begin with `sha256=`"),
        (with(&format!("sha256={}", Encoding::Base64.encode(&tag))), "written in base64, and not in hex"),
        (with(&format!("sha256={}", hex(&[0; 20]))), "20 bytes, as SHA-1 has"),
        (with("sha256=zz"), "is not valid hex"),
        (
            newline,
            "the body ends with a newline that was not signed (proven: with that corrected the signature matches)",
        ),
        (with(&format!("sha256={}", hex(&[0; 32]))), "not explained: no known mistake fits"),
    ];
    for (request, expected) in cases {
        let text = explained(&github, &request);
        assert!(text.lines().next().unwrap().contains(expected), "{expected}: {text}");
        assert!(text.contains("what to do: ") || text.starts_with("genuine") || text.contains("valid"), "{text}");
    }
}

#[test]
fn base64_of_hexadecimal_is_not_taken_for_another_algorithm() {
    let scheme = Scheme { encoding: Encoding::Base64, ..github() };
    let digits = hex(&hmac(SECRET.as_bytes(), BODY));
    let value = format!("sha256={}", Encoding::Base64.encode(digits.as_bytes()));
    let text = explained(&verifier(scheme, &[SECRET]), &Request::post(BODY).with("X-Hub-Signature-256", &value));
    assert!(text.contains("base64 of its hexadecimal digits") && !text.contains("512"), "{text}");
}

#[test]
fn one_defect_of_a_header_is_named_once() {
    let github = verifier(github(), &[SECRET]);
    let twice = signed_github(BODY).with("X-Hub-Signature-256", "sha256=00");
    for request in [twice, Request::post(BODY).with("X-Hub-Signature-256", "")] {
        let text = explained(&github, &request);
        assert!(!text.contains("is not there"), "{text}");
    }
}

#[test]
fn a_stale_delivery_is_explained_by_its_time_only_where_it_matches() {
    let stripe = verifier(stripe(), &[SECRET]);
    for (timestamp, code) in [("1759990000", "time_stale"), ("1760010000", "time_future")] {
        let explanation = explanation(&stripe, &signed_stripe(timestamp));
        assert_eq!(explanation.finding.unwrap().codes().collect::<Vec<_>>(), [code]);
    }
    let changed = Request { body: b"{\"a\":1}".to_vec(), ..signed_stripe("1759990000") };
    let text = explained(&stripe, &changed);
    assert!(text.starts_with("not explained") && !text.contains("clock"), "{text}");
    assert!(text.contains("body: 7 bytes, SHA-256 015abd7f5cc57a2d…"), "{text}");
}

#[test]
fn a_mismatch_over_a_url_says_what_differs() {
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
        explanation(&verifier, &Request { target: "/hook?a=1".to_owned(), ..request }).to_string()
    };
    assert!(explained("POSThttps://a.example/hook").contains("the query of the URL was not signed"));
    assert!(explained("PUThttps://a.example/hook?a=1").contains("the sender signs the method `PUT`"));
    for (other, what) in [
        ("http://a.example", "the scheme differs"),
        ("https://a.example:443", "the port differs"),
        ("https://b.example:8443", "the host differs"),
        ("http://b.example:8443", "the host differs"),
    ] {
        let text = explained(&format!("POST{other}/hook?a=1"));
        assert!(text.contains(&format!("the sender signs `{other}/hook`: {what}")), "{text}");
    }
}

#[test]
fn times_are_explained_in_units_for_people() {
    let text = explained(&verifier(stripe(), &[SECRET]), &signed_stripe("1759999588"));
    assert!(text.contains("the delivery is 6 min 52 s old, and 5 min are allowed"), "{text}");
    let text = explained(&verifier(stripe(), &[SECRET]), &signed_stripe("1760000000000"));
    assert!(text.contains("the timestamp is in milliseconds, and not in seconds: `1760000000000` is 2025-10-09T08:53:20Z as milliseconds"), "{text}");

    let scheme = github();
    let validity = Validity { not_before: None, not_after: Some(1_759_999_990) };
    let old = Key::from_secret("old", &scheme, SECRET.as_bytes(), validity).unwrap();
    let new = Key::from_secret("new", &scheme, b"another-secret", Validity::default()).unwrap();
    let verifier = Verifier::new(Arc::new(scheme), Keyring::new(vec![new, old]), None, None).unwrap();
    let text = explained(&verifier, &signed_github(BODY));
    assert!(text.contains("key `old`: expired 10 s ago"), "{text}");
    assert!(text.contains("it is signed with the key `old`, which does not count now"), "{text}");
}

/// An id is spoken of only where it is what is wrong.
#[test]
fn an_id_is_named_only_where_it_matters() {
    let github = verifier(github(), &[SECRET]);
    let request = Request { body: b"{}\n".to_vec(), ..signed_github(b"{}").with("X-GitHub-Delivery", "a b") };
    let text = explained(&github, &request);
    assert!(!text.contains("id_") && !text.contains("delivery id"), "{text}");
}

#[test]
fn hostile_bodies_are_explained_within_the_budget() {
    let github = verifier(github(), &[SECRET]);
    let length = 256 << 10;
    let shapes = ["[", "{\"a\":", "[1,", "{\"a\":1,\"b\":[", "a=b&", "\\\"", "b'\\x", "%", "9"];
    let encoded = ["{\"0\":1,", "[\"Buffer\",1,", "&amp;", "1\r\na\r\n", "3a", "a\0", "H4sI"];
    for text in shapes.into_iter().chain(encoded) {
        let body = text.repeat(length / text.len()).into_bytes();
        let request = Request { body, ..signed_github(b"{}") };
        let budget = TrialBudget::of(request.body.len());
        let secrets = [("k0".to_owned(), SECRET.as_bytes().to_vec().into())];
        let given = Given::alone(&github, &secrets, now(), &budget);
        let explanation = explain(&given, &request);
        assert_eq!(explanation.verdict, Err(Rejection::SignatureMismatch));
        assert!(budget.spent() <= (64 << 20) + 512 * length as u64);
    }
}

fn spent(verifier: &Verifier, request: &Request) -> (u64, Explanation) {
    let budget = TrialBudget::of(request.body.len());
    let secrets = [("k0".to_owned(), SECRET.as_bytes().to_vec().into())];
    let given = Given::alone(verifier, &secrets, now(), &budget);
    let explanation = explain(&given, request);
    (budget.spent(), explanation)
}

/// The end of a body, as it has come and as it was signed, with the words for it.
#[test]
fn what_is_lacking_at_the_end_of_a_body_is_said_exactly() {
    let github = verifier(github(), &[SECRET]);
    for (came, signed, words) in [
        ("\r", "\r\n", r"the body has lost the `\n` of the `\r\n` at its end"),
        ("\r", "", r"the body ends with a `\r` that was not signed"),
        ("\n", "\r\n", r"the body ends with `\n` where `\r\n` was signed"),
        ("\r\n", "\n", r"the body ends with `\r\n` where `\n` was signed"),
        ("", "\n", "the body lacks the newline at its end"),
        ("", "\r\n", "the body lacks the line break (CRLF) at its end"),
        ("\n", "", "the body ends with a newline that was not signed"),
        ("\r\n", "\r", "the body ends with a newline that was not signed"),
        ("\r1\r2", "\r\n1\r\n2", "the body has CR line breaks where CRLF was signed"),
        ("\r1\r2", "\n1\n2", "line breaks where LF was signed"),
        ("\n1\n2", "\r1\r2", "line breaks where CR was signed"),
    ] {
        let body = |end: &str| format!("{{\"a\":1}}{end}").into_bytes();
        let text = explained(&github, &Request { body: body(came), ..signed_github(&body(signed)) });
        assert!(text.lines().next().unwrap().contains(words), "{words}: {text}");
    }
}

/// Whatever a body holds, what is done for it grows no more beyond some megabytes.
#[test]
fn a_large_body_costs_no_more_than_a_budget_and_what_is_left_out_is_said() {
    let github = verifier(github(), &[SECRET]);
    // Beyond that the budget is the same.
    let length = 4 << 20;
    for text in ["[", "\\u00e9</a>\n"] {
        let body = format!("{{\"a\":\"{}", text.repeat(length / text.len())).into_bytes();
        let (work, explanation) = spent(&github, &Request { body, ..signed_github(b"{}") });
        assert!(work <= 1 << 30, "{text}: {work}");
        let text = explanation.to_string();
        assert!(text.contains("because of the size of the body: "), "{text}");
    }
    // Cheap trials come first: a newline is found at any size.
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(96 << 20)).into_bytes();
    let request = Request { body: [body.as_slice(), b"\n"].concat(), ..signed_github(&body) };
    let (work, explanation) = spent(&github, &request);
    assert!(work <= 1 << 30 && explanation.headline().contains("ends with a newline"), "{work}: {explanation}");
    let (_, small) = spent(&github, &Request { body: BODY.to_vec(), ..signed_github(b"{}") });
    assert!(!small.to_string().contains("size of the body"), "{small}");
}

/// What JavaScript or Python makes of JSON is found in some megabytes as well.
#[test]
fn large_json_that_was_written_again_is_named() {
    let item = r#"{"id":1234567,"name":"café of a town","items":[1,2,3],"text":"some words that take their place"}"#;
    let compact = format!("[{}{item}]", format!("{item},").repeat(5 << 13));
    let came = compact.replace("\":", "\": ").replace(",\"", ", \"").replace("},{", "}, {").replace('é', "\\u00e9");
    let came = came.replace("1,2,3", "1, 2, 3");
    let request = Request { body: came.into_bytes(), ..signed_github(compact.as_bytes()) };
    assert!(request.body.len() > 4 << 20, "{}", request.body.len());
    let (work, explanation) = spent(&verifier(github(), &[SECRET]), &request);
    assert!(explanation.headline().contains("white space between its JSON tokens"), "{explanation}");
    assert!(work <= 1 << 30, "{work}");
}

/// A form is decoded and sorted for each of its trials: that counts.
#[test]
fn what_is_read_inside_of_a_body_counts_as_work() {
    let scheme = Scheme { content: template("{sorted_form_params}"), ..github() };
    let form = verifier(scheme, &[SECRET]);
    let body = format!("a=%20{}", "x".repeat(1 << 20)).into_bytes();
    let request = signed_github(&body).with("Content-Type", "application/x-www-form-urlencoded");
    let raw = verifier(github(), &[SECRET]).whole_work(&request);
    assert!(raw < 2 << 20 && form.whole_work(&request) >= 4 << 20, "{raw}");
    let (work, _) = spent(&form, &Request { body: vec![b'a'; 100 << 20], ..request });
    assert!(work <= 1 << 30, "{work}");
}

#[test]
fn a_token_is_explained_by_what_it_says_and_its_signature_is_not_shown() {
    let scheme =
        Scheme::new("own", Kind::Jws(JwsAlgorithm::Mac(MacAlgorithm::HmacSha256)), "X-Token", Template::default());
    let claims = vec![ClaimRule { name: "iss".to_owned(), values: vec!["sender".to_owned()] }];
    let scheme = Scheme { token: TokenRules { claims, ..TokenRules::default() }, ..scheme };
    let verifier = verifier(scheme, &[SECRET]);
    let part = |text: &str| Encoding::Base64Url.encode(text.as_bytes()).trim_end_matches('=').to_owned();
    let told = |header: &str, claims: &str| {
        let signature = part(&"s".repeat(32));
        let token = format!("{}.{}.{signature}", part(header), part(claims));
        let text = explained(&verifier, &Request::post(BODY).with("X-Token", &token));
        assert!(!text.contains(&signature), "{text}");
        text
    };
    let good = r#"{"iss":"sender","exp":9999999999}"#;
    let cases = [
        (r#"{"alg":"none"}"#, good, "made by `none`, but the scheme wants HS256"),
        (r#"{"alg":"HS256","jku":"https://a.example"}"#, good, "its header has `jku`"),
        (r#"{"alg":"HS256"}"#, r#"{"iss":"other","exp":9999999999}"#, "claim iss: `other`, not `sender`"),
        (r#"{"alg":"HS256"}"#, r#"{"iss":"sender","exp":1}"#, "refused: token_expired"),
        (r#"{"alg":"HS256"}"#, good, "refused: signature_mismatch"),
        ("[]", good, "token: none that can be read"),
    ];
    for (header, claims, line) in cases {
        let text = told(header, claims);
        assert!(text.contains(line), "{line}: {text}");
    }
}
