//! `explain` on senders whose deliveries are not one header and one body: forms that are signed field by field, tokens, pairs
//! in a header.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
const URL: &str = "https://shop.example/hook";

#[track_caller]
fn assert_explained(folder: &Folder, scheme: &str, request: &[u8], expected: &str) {
    std::fs::write(folder.path("request"), request).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["explain", "--request", "request", "--secret-file", "secret", "--scheme", scheme, "--url", URL]);
    let output = command.args(["--at", "1760000000"]).current_dir(folder.path("")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().next().unwrap_or_default().contains(expected), "{expected:?} in:\n{text}");
    assert!(!text.contains(SECRET), "{text}");
}

/// What Twilio signs: the URL, and name and value of each field in the order of the names.
fn twilio(fields: &[(&str, &str)], body: &str, content_type: &str) -> Vec<u8> {
    let mut sorted = fields.to_vec();
    sorted.sort_unstable();
    let content = sorted.iter().fold(URL.to_owned(), |all, (name, value)| all + name + value);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let tag = STANDARD.encode(ring::hmac::sign(&key, content.as_bytes()));
    let length = body.len();
    format!(
        "POST /hook HTTP/1.1\r\nHost: shop.example\r\nContent-Type: {content_type}\r\nX-Twilio-Signature: {tag}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn forms_that_were_written_again_are_named() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let fields = [("From", "+1415"), ("To", "+1800"), ("Text", "caf\u{e9} one")];
    for (body, content_type, what) in [
        ("From=+1415&To=+1800&Text=caf%C3%A9%20one", FORM, "has `+` where `%2B` was signed"),
        ("From=+1415&To=+1800&Text=caf%C3%A9+one", FORM, "has `+` where `%2B` was signed"),
        ("From=%2B1415&To=%2B1800&Text=caf%E9+one", FORM, "is a form in Latin-1 where UTF-8 was signed"),
        (r#"{"From":"+1415","To":"+1800","Text":"café one"}"#, "application/json", "the body is JSON of the form"),
    ] {
        assert_explained(&folder, "twilio", &twilio(&fields, body, content_type), what);
    }
    let empty = [("From", "+1415"), ("ForwardedFrom", "")];
    let place = [("From", "+1415"), ("CallerCity", ""), ("FromCity", "")];
    assert_explained(&folder, "twilio", &twilio(&empty, "From=%2B1415", FORM), "the empty form field `ForwardedFrom`");
    assert_explained(&folder, "twilio", &twilio(&place, "From=%2B1415", FORM), "field `CallerCity`, `FromCity`");
}

#[test]
fn pairs_in_another_form_are_named() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let tag = github_signature(SECRET, b"1759999999.{}").replacen("sha256=", "", 1);
    let bytes: Vec<u8> =
        (0..tag.len()).step_by(2).map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap()).collect();
    let right = format!("t=1759999999,v1={tag}");
    for (fields, what) in [
        (vec![right.replace(',', ";")], "the pairs in the header are separated by `;`, and not by `,`"),
        (vec![right.replace(',', "&")], "separated by `&`"),
        (vec![right.replace("t=", "T=").replace("v1", "V1")], "the keys in the header are in capitals"),
        (vec![STANDARD.encode(&right)], "the value of the header is the base64 of what it should be"),
        (
            vec![format!("t=1759999999,v1={}", STANDARD.encode(bytes))],
            "the signature is written in base64, and not in hex",
        ),
        (right.split(',').map(str::to_owned).collect(), "the header `Stripe-Signature` was split into several"),
        (vec![right.clone(), right.clone()], "stands more than once"),
    ] {
        let fields: String = fields.iter().map(|value| format!("Stripe-Signature: {value}\r\n")).collect();
        let request = format!("POST /hook HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: 2\r\n\r\n{{}}");
        assert_explained(&folder, "stripe", request.as_bytes(), what);
    }
}

#[test]
fn a_token_in_another_place_is_named_and_a_wrong_one_is_not() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    for (scheme, fields, what) in [
        (
            "gitlab",
            format!("Authorization: Bearer {SECRET}"),
            "stands in the header `Authorization` behind `Bearer`, and not in `X-Gitlab-Token`",
        ),
        ("telegram", format!("Authorization: Bearer {SECRET}"), "and not in `X-Telegram-Bot-Api-Secret-Token`"),
        ("gitlab", format!("X-Token: {SECRET}"), "stands in the header `X-Token`, and not in"),
        ("gitlab", format!("X-Gitlab-Token: Bearer {SECRET}"), "the token is right, but has `Bearer` in front of it"),
        ("gitlab", "Authorization: Bearer of-another-sender".to_owned(), "`X-Gitlab-Token` is not there"),
        ("gitlab", "X-Gitlab-Token: of-another-sender".to_owned(), "the credential is none of the keys"),
    ] {
        let request = format!("POST /hook HTTP/1.1\r\nHost: x\r\n{fields}\r\nContent-Length: 2\r\n\r\n{{}}");
        assert_explained(&folder, scheme, request.as_bytes(), what);
    }
    folder.write("secret", &format!("\"{SECRET}\""));
    let request =
        format!("POST /hook HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {SECRET}\r\nContent-Length: 2\r\n\r\n{{}}");
    assert_explained(&folder, "gitlab", request.as_bytes(), "the secret `secret` stands in quotes");
}
