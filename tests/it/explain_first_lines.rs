//! The first line of `explain` says all that matters: what stays wrong after a repair, who the sender is, and what the file of
//! a secret has around it.

use std::process::Command;

use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;

const SECRET: &str = "correct-horse&battery-staple-0123456789";
const BODY: &str = "{\"a\":1}";

fn explain(folder: &Folder, request: &str, arguments: &[&str]) -> String {
    folder.write("request", request);
    let mut command = Command::new(BINARY);
    command.args(["explain", "--request", "request", "--secret-file", "secret"]).args(arguments);
    let output = command.current_dir(folder.path("")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    text
}

fn stripe(signed: &str, time: &str, body: &str) -> String {
    let tag = github_signature(SECRET, format!("{time}.{signed}").as_bytes()).replacen("sha256=", "", 1);
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nHost: x\r\nStripe-Signature: t={time},v1={tag}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[track_caller]
fn assert_first_line(text: &str, parts: &[&str]) {
    let first = text.lines().next().unwrap_or_default();
    parts.iter().for_each(|part| assert!(first.contains(part), "{part:?} in: {text}"));
}

#[test]
fn a_repaired_delivery_that_is_too_old_is_said_to_stay_refused() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let late = ["--scheme", "stripe", "--at", "1760007200"];
    let newline = stripe(BODY, "1760000000", "{\"a\":1}\n");
    let text = explain(&folder, &newline, &late);
    assert_first_line(
        &text,
        &[
            "explained: the body ends with a newline",
            "it stays refused all the same: it is 2 h old, and 5 min are allowed",
        ],
    );
    assert!(text.contains("then let the sender send a new one"), "{text}");
    // In time it is not said; as of now the capture is what is old.
    let text = explain(&folder, &newline, &["--scheme", "stripe", "--at", "1760000100"]);
    assert!(!text.contains("stays refused"), "{text}");
    let text = explain(&folder, &newline, &["--scheme", "stripe"]);
    assert!(text.contains("stays refused") && text.contains("judge a capture by when it came (--at)"), "{text}");
    // Two mistakes, a guess, and a time in another unit.
    folder.write("secret", &format!("\"{SECRET}\""));
    let text = explain(&folder, &newline, &late);
    assert_first_line(&text, &["stands in quotes, and the body ends with a newline", "it is 2 h old"]);
    folder.write("secret", "$WEBHOOK_SECRET");
    let text = explain(&folder, &newline, &late);
    assert_first_line(&text, &["likely: the secret `secret` looks like a placeholder", "it is 2 h old"]);
    folder.write("secret", SECRET);
    let text = explain(&folder, &stripe(BODY, "1760000000000", BODY), &late);
    assert_first_line(&text, &["the timestamp is in milliseconds", "it is 2 h old"]);
    // Late and nothing else: no second sentence about it.
    let text = explain(&folder, &stripe(BODY, "1760000000", BODY), &late);
    assert!(text.starts_with("explained: the delivery is 2 h old") && !text.contains("stays refused"), "{text}");
}

#[test]
fn a_time_out_of_any_range_is_said_with_its_year() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    for (time, what) in [
        ("0", "is `0`, which as seconds is 1970-01-01T00:00:00Z (55 years old)"),
        ("-5", "is `-5`, which as seconds is 1969-12-31T23:59:55Z"),
        ("1000000000000000000000000000000", "which as seconds is outside of the years 0 to 9999"),
        ("1,760,000", "is `1"),
        ("now", "is `now`, which is no whole number of seconds since 1970"),
    ] {
        let text = explain(&folder, &stripe(BODY, time, BODY), &["--scheme", "stripe", "--at", "1760000000"]);
        assert_first_line(&text, &["the timestamp (the field `t` of the signature)", what]);
    }
}

#[test]
fn another_sender_with_the_same_header_is_not_called_an_old_one_of_this() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let tag: String = ring::hmac::sign(&key, BODY.as_bytes()).as_ref().iter().map(|it| format!("{it:02x}")).collect();
    let request = |more: &str| {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{more}X-Hub-Signature: sha1={tag}\r\nContent-Length: 7\r\n\r\n{BODY}")
    };
    let text = explain(&folder, &request(""), &["--scheme", "github"]);
    assert_first_line(
        &text,
        &["it matches the scheme `intercom`", "no header that only the sender of `github` writes"],
    );
    assert!(!text.contains("older header"), "{text}");
    for own in ["X-GitHub-Event: push\r\n", "User-Agent: GitHub-Hookshot/044aadd\r\n"] {
        let text = explain(&folder, &request(own), &["--scheme", "github"]);
        assert_first_line(&text, &["the request has the older header `X-Hub-Signature` (SHA-1)"]);
    }
    // The newer signature under the older name, by a sender that shows itself.
    let signature = github_signature(SECRET, BODY.as_bytes());
    let text = explain(
        &folder,
        &format!(
            "POST / HTTP/1.1\r\nHost: x\r\nX-GitHub-Event: push\r\nX-Hub-Signature: {signature}\r\nContent-Length: 7\r\n\r\n{BODY}"
        ),
        &["--scheme", "github"],
    );
    assert_first_line(&text, &["the header `X-Hub-Signature-256` was renamed to `X-Hub-Signature`"]);
}

#[test]
fn a_get_without_a_body_looks_like_a_redirect() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let signature = github_signature(SECRET, BODY.as_bytes());
    for head in [format!("X-Hub-Signature-256: {signature}\r\n"), "Accept: */*\r\n".to_owned()] {
        let text = explain(&folder, &format!("GET /hook HTTP/1.1\r\nHost: x\r\n{head}\r\n"), &["--scheme", "github"]);
        assert_first_line(&text, &["likely: the request is a GET without a body: a redirect (301, 302, 303)"]);
        assert!(text.contains("307 or 308"), "{text}");
    }
    // One with a body was sent on purpose.
    let text = explain(
        &folder,
        &format!("GET / HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: 3\r\n\r\n[1]"),
        &["--scheme", "github"],
    );
    assert!(!text.contains("redirect"), "{text}");
}

#[test]
fn no_query_is_dropped_in_silence() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let url = "https://shop.example/hooks?a=1&b=2";
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, [url.as_bytes(), BODY.as_bytes()].concat().as_slice());
    let tag = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, tag);
    let request = |target: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nx-square-hmacsha256-signature: {tag}\r\nContent-Length: 7\r\n\r\n{BODY}"
        )
    };
    let arguments = ["--scheme", "square", "--url", url];
    let text = explain(&folder, &request("/hooks"), &arguments);
    assert_first_line(&text, &["the query `a=1&b=2` was signed and has been lost (proven"]);
    assert!(
        text.contains("the request line has no query") && text.contains("judged is https://shop.example/hooks\n"),
        "{text}"
    );
    let text = explain(&folder, &request("/hooks?c=3"), &arguments);
    assert_first_line(&text, &["the query `a=1&b=2` was signed, and not `c=3` (proven"]);
    assert!(text.contains("the request line has the query `c=3`"), "{text}");
}

#[test]
fn what_stands_around_a_secret_is_named_and_proven() {
    let folder = Folder::new();
    let signature = github_signature(SECRET, BODY.as_bytes());
    let request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: 7\r\n\r\n{BODY}");
    for (file, form) in [
        (format!("<secret>{}</secret>\n", SECRET.replace('&', "&amp;")), "XML"),
        (SECRET.replace('&', "&amp;"), "text of HTML"),
        (SECRET.replace('&', "\\u0026"), "the inside of a JSON string"),
        (format!("kind: Secret\nstringData:\n  hook: {SECRET}\n"), "a manifest of Kubernetes (`stringData:`)"),
        (format!("b'{SECRET}'"), "Python's notation of bytes"),
        (format!("$env:HOOK = '{SECRET}'\r\n"), "a line of PowerShell"),
        (format!("-e HOOK={SECRET}"), "an option of docker (`-e NAME=value`)"),
        (format!("--env HOOK='{SECRET}'"), "an option of docker (`--env NAME=value`)"),
        (format!("Environment=\"HOOK={SECRET}\""), "a line of systemd"),
        (format!("define('HOOK', '{SECRET}');"), "a line of PHP"),
        (format!("'hook' => '{SECRET}',"), "a line of a program"),
        (format!("| hook | `{SECRET}` |"), "a row of a table"),
    ] {
        folder.write("secret", &file);
        let text = explain(&folder, &request, &["--scheme", "github"]);
        assert_first_line(&text, &["explained: the file of the secret `secret` wraps the value as", form, "(proven"]);
    }
    folder.write("secret", "<secret>of-another-sender-0123456789</secret>");
    let text = explain(&folder, &request, &["--scheme", "github"]);
    assert_first_line(&text, &["likely: the file of the secret `secret` looks like XML", "does not match either"]);
}
