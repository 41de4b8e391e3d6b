//! `explain --request` on headers: the signature of a sender that signs twice, headers of other schemes, joined values.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, Key, sign};

use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
const BODY: &str = r#"{"id":1}"#;
const AT: &str = "1760000000";

/// The first line of what is printed.
fn explained(scheme: &str, lines: &[String]) -> String {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let head: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{head}\r\n", BODY.len());
    folder.write("request", &format!("{head}{BODY}"));
    let given = ["explain", "--request", "request", "--scheme", scheme, "--secret-file", "secret", "--at", AT];
    let output = Command::new(BINARY).args(given).current_dir(folder.path("")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().next().unwrap_or_default().to_owned()
}

fn sha1() -> String {
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    format!("X-Hub-Signature: sha1={}", const_hex::encode(sign(&key, BODY.as_bytes())))
}

/// GitHub sends two signatures. That one of them is damaged does not make it another sender.
#[test]
fn a_damaged_header_beside_another_signature_is_not_another_scheme() {
    let right = github_signature(SECRET, BODY.as_bytes());
    for damaged in [&right[..40], "[Filtered]", &right.replace('=', "#"), ""] {
        let line = explained("github", &[sha1(), format!("X-Hub-Signature-256: {damaged}")]);
        assert!(line.contains("the header `X-Hub-Signature-256` does not have the signature that was sent"), "{line}");
        assert!(!line.contains("it matches the scheme"), "{line}");
    }
    let line = explained("github", &[sha1(), format!("X-Hub-Signature-256: {}", right.replace('=', ": "))]);
    assert!(line.contains("the signature has its prefix in another form"), "{line}");
    let twice = format!("X-Hub-Signature-256: {right}");
    let line = explained("github", &[sha1(), twice.clone(), twice]);
    assert!(line.contains("`X-Hub-Signature-256` stands more than once"), "{line}");
    let line = explained("github", &[sha1(), format!("X-Hub-Signature256: {right}")]);
    assert!(line.contains("was renamed to `X-Hub-Signature256`"), "{line}");
    let line = explained("github", &[sha1(), "X-GitHub-Event: push".to_owned()]);
    assert!(line.contains("has the older header `X-Hub-Signature`"), "{line}");
}

/// A header of another scheme was not renamed on the way.
#[test]
fn a_header_of_another_scheme_names_that_scheme() {
    let tag = sign(&Key::new(HMAC_SHA256, SECRET.as_bytes()), BODY.as_bytes());
    let value = STANDARD.encode(tag);
    let line = explained("woocommerce", &[format!("X-Shopify-Hmac-Sha256: {value}")]);
    assert!(line.contains("it matches the scheme `shopify`"), "{line}");
}

/// Stripe's value has commas already.
#[test]
fn a_value_that_was_joined_to_itself_is_called_joined() {
    let tag = sign(&Key::new(HMAC_SHA256, SECRET.as_bytes()), format!("{AT}.{BODY}").as_bytes());
    let value = format!("t={AT},v1={}", const_hex::encode(tag));
    for between in [",", ", "] {
        let line = explained("stripe", &[format!("Stripe-Signature: {value}{between}{value}")]);
        assert!(line.contains("the header has several values joined by commas"), "{line}");
    }
}
