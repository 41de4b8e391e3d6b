//! `explain`: each of the usual mistakes is found, and named.

use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::child::BINARY;
use crate::support::delivery::{github_signature, standard_signature};
use crate::support::folder::Folder;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
const BODY: &str = r#"{"b":1,"a":"\u00e9"}"#;

fn explain(folder: &Folder, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(BINARY).arg("explain").args(arguments).current_dir(folder.path("")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

/// A capture of a delivery of GitHub with this signature and this body.
fn capture(folder: &Folder, signature: &str, body: &[u8]) {
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    std::fs::write(folder.path("request"), [head.as_bytes(), body].concat()).unwrap();
}

#[track_caller]
fn assert_explained(folder: &Folder, arguments: &[&str], expected: &str) {
    let (output, text) = explain(folder, &[&["--request", "request"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(expected), "{expected:?} in:\n{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn what_happens_to_secrets_is_found() {
    let folder = Folder::new();
    let encoded = STANDARD.encode(SECRET);
    for (file, key, what) in [
        (
            format!(" {SECRET} \n"),
            SECRET.as_bytes().to_vec(),
            "the secret `secret` has white space around it (proven: with that corrected",
        ),
        (
            format!("{SECRET}\n"),
            format!("{SECRET}\n").into_bytes(),
            "signs with the secret `secret` and a newline at its end",
        ),
        (format!("\"{SECRET}\""), SECRET.as_bytes().to_vec(), "the secret `secret` stands in quotes"),
        (SECRET.to_owned(), format!("{SECRET} ").into_bytes(), "signs with the secret `secret` and a space at its end"),
        (encoded.clone(), SECRET.as_bytes().to_vec(), "the secret `secret` is the base64 of the secret"),
        (
            format!("whsec_{encoded}"),
            SECRET.as_bytes().to_vec(),
            "another key of the secret `secret`: decoded from base64",
        ),
    ] {
        folder.write("secret", &file);
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key), BODY.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        capture(&folder, &format!("sha256={hex}"), BODY.as_bytes());
        assert_explained(&folder, &["--scheme", "github", "--secret-file", "secret"], what);
    }
}

#[test]
fn what_happens_to_bodies_is_found() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let arguments = ["--scheme", "github", "--secret-file", "secret"];
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[1, 2, 0, 0xfd, 0xff], b"{}", &[0; 8]].concat();
    for (signed, received, what) in [
        (BODY, b"{\"b\":1,\"a\":\"\\u00e9\"}\n".to_vec(), "explained: the body ends with a newline"),
        (BODY, b"{\"b\": 1, \"a\": \"\\u00e9\"}".to_vec(), "white space between its JSON tokens"),
        (BODY, "{\"b\":1,\"a\":\"é\"}".as_bytes().to_vec(), "characters where \\uXXXX escapes were signed"),
        (
            "{\"a\":2,\"b\":1}",
            b"{\"b\":1,\"a\":2}".to_vec(),
            "explained: the body was written again: its JSON keys were in the order of the alphabet",
        ),
        (
            r#"{"a":"b\/c"}"#,
            b"{\"a\": \"b/c\"}".to_vec(),
            "tokens that was not signed, and has `/` where `\\/` was signed",
        ),
        ("[\n  1,\n  2\n]", b"[1,2]".to_vec(), "lacks the line breaks of its JSON, with two spaces for each level"),
        ("{\"a\":1}", br#""{\"a\":1}""#.to_vec(), "the body is escaped like a string"),
        ("payload=%7B%7D", b"payload={}".to_vec(), "has characters where percent-escapes were signed"),
        ("line\nline\n", b"line\r\nline\r\n".to_vec(), "has CRLF or CR line breaks"),
        ("a=b c", b"a=b+c".to_vec(), "percent-escapes and `+` where the characters were signed"),
        ("{}", gzip, "explained: the body is compressed with gzip"),
    ] {
        capture(&folder, &github_signature(SECRET, signed.as_bytes()), &received);
        assert_explained(&folder, &arguments, what);
    }
}

#[test]
fn one_cause_is_named_once_and_what_to_do_fits_to_it() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let arguments = ["--request", "request", "--scheme", "github", "--secret-file", "secret"];
    capture(&folder, &github_signature(SECRET, b"{}"), b"{}\n");
    let (_, text) = explain(&folder, &arguments);
    assert_eq!(text.matches("explained:").count(), 1, "{text}");
    assert!(text.contains("what to do: pass the body on byte for byte") && !text.contains("--request"), "{text}");
    // The advice does not lead back to this command.
    capture(&folder, &github_signature("of-another-sender", b"{\"a\":1}"), b"{\"a\":1}");
    let (_, text) = explain(&folder, &arguments);
    assert!(text.starts_with("not explained:") && !text.contains("`explain"), "{text}");
    assert!(text.contains("what to do: compare the secret with the sender"), "{text}");
    // Late, and nothing else: what is not signed explains nothing.
    let tag = github_signature(SECRET, b"1760000000.{}").replacen("sha256=", "", 1);
    let head = format!("POST /?a=b+c%20d HTTP/1.1\r\nStripe-Signature: t=1760000000,v1={tag}\r\n\r\n");
    folder.write("request", &(head + "{}"));
    let (_, text) = explain(
        &folder,
        &["--request", "request", "--scheme", "stripe", "--secret-file", "secret", "--at", "2025-10-09T10:00:00Z"],
    );
    assert!(text.contains("refused: timestamp_stale") && text.starts_with("explained: the delivery is "), "{text}");
    assert!(text.contains("what to do: it is an old delivery that was sent again"), "{text}");
    let encoded = STANDARD.encode([0; 32]);
    capture(&folder, &format!("sha256={encoded}"), b"{}");
    assert_explained(&folder, &arguments[2..], "the signature is written in base64, but hex is expected");
}

#[test]
fn another_scheme_encoding_or_unit_is_found() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes()), BODY.as_bytes());
    capture(&folder, &format!("sha256={}", STANDARD.encode(tag)), BODY.as_bytes());
    let arguments = ["--scheme", "github", "--secret-file", "secret"];
    assert_explained(
        &folder,
        &arguments,
        "the signature is written in base64, and not in hex (proven: with that corrected",
    );
    let bare = github_signature(SECRET, BODY.as_bytes()).replacen("sha256=", "", 1);
    capture(&folder, &bare, BODY.as_bytes());
    assert_explained(&folder, &arguments, "explained: the signature lacks the prefix `sha256=`");
    let head =
        format!("POST / HTTP/1.1\r\nX-Slack-Signature: v0={bare}\r\nX-Slack-Request-Timestamp: 1760000000\r\n\r\n");
    folder.write("request", &(head + BODY));
    let slack = ["--scheme", "slack", "--secret-file", "secret", "--now", "1760000000"];
    assert_explained(&folder, &slack, "explained: the body alone was signed, and not `v0:{timestamp}:{body}`");
    // A delivery of GitHub where Shopify was configured.
    capture(&folder, &github_signature(SECRET, BODY.as_bytes()), BODY.as_bytes());
    assert_explained(
        &folder,
        &["--scheme", "shopify", "--secret-file", "secret"],
        "explained: it matches the scheme `github` or",
    );
    // Standard Webhooks, with the time in milliseconds.
    folder.write("secret", &format!("whsec_{}", STANDARD.encode(SECRET)));
    let millis = 1_760_000_000_000;
    let signature = standard_signature(SECRET.as_bytes(), "msg_1", millis, BODY.as_bytes());
    let head = format!(
        "POST / HTTP/1.1\r\nwebhook-id: msg_1\r\nwebhook-timestamp: {millis}\r\nwebhook-signature: {signature}\r\n\r\n"
    );
    folder.write("request", &(head + BODY));
    let arguments = ["--scheme", "standard-webhooks", "--secret-file", "secret", "--at", "2025-10-09T08:53:20Z"];
    assert_explained(
        &folder,
        &arguments,
        "explained: the timestamp is in milliseconds, and not in seconds: `1760000000000` is 2025-10-09T08:53:20Z as milliseconds (0 s old), and as seconds 55716 years in the future (proven: with that",
    );
}

#[test]
fn a_route_explains_with_its_own_keys() {
    let folder = Folder::new();
    folder.write("secret", &format!("{SECRET} "));
    let text = "[[listener]]\naddress = \"127.0.0.1:1\"\n[[route]]\nname = \"hook\"\npath = \"/hook\"\n\
                scheme = \"github\"\nupstream = \"127.0.0.1:2\"\nsecrets = [{ id = \"k\", file = \"secret\" }]\n";
    folder.write("countersign.toml", text);
    let arguments = ["--config", "countersign.toml", "--route", "hook"];
    capture(&folder, &github_signature(SECRET, BODY.as_bytes()), BODY.as_bytes());
    assert_explained(&folder, &arguments, "explained: the secret `k` has white space around it");
    // A secret of another route, where the route's own are taken as they are; once, however many have it.
    folder.write("other", "of-another-sender-0123456789");
    let other = |name: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nscheme = \"github\"\nupstream = \"127.0.0.1:2\"\n\
                 secrets = [{{ id = \"theirs\", file = \"other\" }}]\n"
        )
    };
    folder.write("countersign.toml", &(text.to_owned() + &other("billing") + &other("orders")));
    capture(&folder, &github_signature("of-another-sender-0123456789", BODY.as_bytes()), BODY.as_bytes());
    let theirs = "explained: it is signed with the secret `theirs` of the route `billing`";
    assert_explained(&folder, &arguments, theirs);
    let (_, told) = explain(&folder, &[&["--request", "request"], &arguments[..]].concat());
    assert!(!told.contains("orders") && told.contains("exchange the secrets of the two routes"), "{told}");
    capture(&folder, "sha256=00", BODY.as_bytes());
    assert_explained(
        &folder,
        &arguments,
        "what to do: is it cut off? Does the algorithm of the scheme fit the sender?",
    );
    capture(&folder, &github_signature(&format!("{SECRET} "), BODY.as_bytes()), BODY.as_bytes());
    let (output, text) = explain(&folder, &[&["--request", "request"], &arguments[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{text}");
}

/// It has to be there, as for `run`, and is tried as it is.
#[test]
fn a_key_in_the_environment_is_not_varied() {
    let folder = Folder::new();
    let text = "[[listener]]\naddress = \"127.0.0.1:1\"\n[[route]]\nname = \"hook\"\npath = \"/hook\"\n\
                scheme = \"github\"\nupstream = \"127.0.0.1:2\"\nsecrets = [{ id = \"k\", env = \"OF_THE_TEST\" }]\n";
    folder.write("countersign.toml", text);
    capture(&folder, &github_signature(SECRET, BODY.as_bytes()), BODY.as_bytes());
    let explained = |value: Option<&str>| {
        let mut command = Command::new(BINARY);
        command.args(["explain", "--request", "request", "--config", "countersign.toml", "--route", "hook"]);
        value.map(|value| command.env("OF_THE_TEST", value));
        let output = command.current_dir(folder.path("")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    assert_eq!(explained(Some(SECRET)).0, Some(0));
    let (code, text) = explained(Some(&format!("{SECRET} ")));
    assert!(code == Some(1) && text.contains("the key `k` is in the variable OF_THE_TEST: not varied"), "{text}");
    assert!(text.contains("not explained:") && !text.contains(SECRET), "{text}");
    let (code, text) = explained(None);
    assert!(code == Some(2) && text.contains("there is no environment variable OF_THE_TEST"), "{text}");
}

#[test]
fn a_line_of_the_log_is_told_in_plain_words() {
    let folder = Folder::new();
    let line = |id: &str, reason: &str| {
        format!(
            "{{\"time\":\"2026-11-25T20:15:01.123Z\",\"request_id\":\"{id}\",\"route\":\"hook\",\"client\":\"192.0.2.1\",\
             \"outcome\":\"refused\",\"reason\":\"{reason}\",\"status\":401,\"total_us\":12}}\n"
        )
    };
    folder.write("log", &(line("aa", "signature_missing") + &line("bb", "timestamp_stale") + "{\"torn"));
    let (output, text) = explain(&folder, &["bb", "--log", "log"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["192.0.2.1", "timestamp_stale", "The timestamp is older than the tolerance.", "compare the clocks"] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
    let (output, text) = explain(&folder, &["cc", "--log", "log"]);
    assert!(output.status.code() == Some(2) && text.contains("no line about cc"), "{text}");
    assert_eq!(explain(&folder, &["bb"]).0.status.code(), Some(2));
}

#[test]
fn a_broken_answer_is_told_with_its_rule_and_what_was_accepted() {
    let folder = Folder::new();
    let line = "{\"time\":\"2026-11-25T20:15:01.123Z\",\"request_id\":\"aa\",\"route\":\"hook\",\"outcome\":\"failed\",\
                \"reason\":\"upstream_malformed\",\"status\":502,\"rule\":\"both_framings\",\"accepted\":200}\n";
    folder.write("log", line);
    let (_, text) = explain(&folder, &["aa", "--log", "log"]);
    for part in ["both_framings: `Content-Length` stands beside", "accepted the delivery all the same (200)"] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
}

/// An empty file is the cause, whatever else is wrong, and it is named with its path.
#[test]
fn an_empty_secret_is_the_headline() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("secrets")).unwrap();
    capture(&folder, &github_signature(SECRET, BODY.as_bytes()), BODY.as_bytes());
    let arguments = ["--request", "request", "--scheme", "github", "--secret-file", "secrets/github"];
    for (file, what) in [
        ("", "has 0 bytes"),
        ("\n", "has a newline and nothing else"),
        ("\r\n", "has a newline and nothing else"),
        ("   ", "has white space and nothing else"),
        ("\u{feff}", "has a byte order mark and nothing else"),
    ] {
        folder.write("secrets/github", file);
        let (output, text) = explain(&folder, &arguments);
        let first = text.lines().next().unwrap();
        assert!(first.starts_with(&format!("explained: the secret is empty: `secrets/github` {what}")), "{text}");
        assert_eq!(output.status.code(), Some(1), "{text}");
        // Blanks and the mark are what the program takes for the secret.
        assert_eq!(text.contains("a secret of"), matches!(file, "   " | "\u{feff}"), "{text}");
        assert!(
            text.lines().nth(1).unwrap().contains("write the secret that the sender shows into that file"),
            "{text}"
        );
    }
    // What cannot be a key of the scheme is said as well, and no length of what stands in for it.
    folder.write("secrets/github", "whsec_MfKQ9r8G~YqrTwjUPD8I~PZIo2LaLaSw");
    let head = "POST / HTTP/1.1\r\nwebhook-id: m\r\nwebhook-timestamp: 1760000000\r\nwebhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n{}";
    folder.write("request", head);
    let arguments = [
        "--request",
        "request",
        "--scheme",
        "standard-webhooks",
        "--secret-file",
        "secrets/github",
        "--at",
        "1760000000",
    ];
    let (_, text) = explain(&folder, &arguments);
    assert!(
        text.starts_with("explained: the secret `github` is no secret of this scheme: it is not valid base64"),
        "{text}"
    );
    assert!(!text.contains("a secret of"), "{text}");
}

/// Of a form, of JSON and of a query it is said which part is wrong, and where.
#[test]
fn a_part_that_cannot_be_read_is_named_with_its_place() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let twilio = |kind: &str, body: &str| {
        let head = format!(
            "POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nX-Twilio-Signature: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
        );
        folder.write("request", &(head + body));
        let arguments =
            ["--request", "request", "--scheme", "twilio", "--secret-file", "secret", "--url", "https://a.example/in"];
        explain(&folder, &arguments).1
    };
    let form = "application/x-www-form-urlencoded";
    let text = twilio(form, "To=%2B1800&Body=50%z5+off&From=%2B1900");
    let wanted = "explained: the form in the body cannot be read: `%z5` at byte 19 of the body (in the field `Body`) is no percent-escape";
    assert!(text.starts_with(wanted), "{text}");
    let text = twilio("application/json", "To=1");
    assert!(
        text.starts_with("explained: the form in the body cannot be read: Content-Type is `application/json`"),
        "{text}"
    );
    assert!(!text.contains("Something else"), "{text}");
    // The same of JSON.
    let head = "POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Square: 1\r\n\r\n";
    folder.write("request", &format!("{head}{{\"tid\": \"1\",\n \"amount\": ]}}"));
    let toml = "[[listener]]\naddress = \"127.0.0.1:1\"\n[[route]]\nname = \"hook\"\npath = \"/in\"\nupstream = \"127.0.0.1:2\"\n\
                scheme = \"own\"\nsecrets = [{ id = \"k\", file = \"secret\" }]\n[scheme.own]\nalgorithm = \"hmac-sha256\"\n\
                content = \"{json:amount}.{body}\"\nsignature = { header = \"X-S\", encoding = \"hex\" }\nguard = { \"json:amount\" = { without = \".\" } }\n";
    folder.write("countersign.toml", toml);
    folder.write(
        "request",
        &format!("{}X-S: {}\r\n\r\n{{\"tid\": \"1\",\n \"amount\": ]}}", &head[..head.len() - 2], "00".repeat(32)),
    );
    let (_, text) = explain(&folder, &["--request", "request", "--config", "countersign.toml", "--route", "hook"]);
    assert!(
        text.contains(
            "the member `amount` of the JSON body cannot be read: the JSON breaks off or is broken at line 2, column"
        ),
        "{text}"
    );
}

/// `explain` never advises to run what is being run.
#[test]
fn no_answer_advises_to_explain() {
    let folder = Folder::new();
    let reasons = [
        "signature_mismatch",
        "content_unavailable",
        "digest_mismatch",
        "id_malformed",
        "token_claim_mismatch",
        "key_unknown",
    ];
    for reason in reasons {
        let line = format!(
            "{{\"request_id\":\"aa\",\"route\":\"hook\",\"outcome\":\"refused\",\"reason\":\"{reason}\",\"status\":401}}\n"
        );
        folder.write("log", &line);
        let (_, text) = explain(&folder, &["aa", "--log", "log"]);
        assert!(text.contains("what to do: ") && !text.contains("`explain`"), "{text}");
    }
}

/// The case that applies to an old time, and a list only where nothing tells.
#[test]
fn an_old_time_has_the_advice_of_its_case() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes()), b"1760000000.{}");
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    folder.write("request", &format!("POST / HTTP/1.1\r\nStripe-Signature: t=1760000000,v1={tag}\r\n\r\n{{}}"));
    let told = |at: &[&str]| {
        let arguments = ["--request", "request", "--scheme", "stripe", "--secret-file", "secret"];
        explain(&folder, &[&arguments[..], at].concat()).1
    };
    let advice = |text: &str| text.lines().nth(1).unwrap().to_owned();
    let now = told(&[]);
    assert!(advice(&now).contains("it is a capture of that time") && advice(&now).contains("--at 1760000000"), "{now}");
    assert!(!now.contains("clock") && !now.contains("judged as of now"), "{now}");
    let week = told(&["--at", "1760600000"]);
    assert!(
        advice(&week).contains("sent again as it was") && !week.contains("clock") && !week.contains("--at"),
        "{week}"
    );
    assert!(advice(&told(&["--at", "1760007210"])).contains("local time instead of UTC"));
    let minutes = told(&["--at", "1760000600"]);
    assert!(advice(&minutes).contains("one of these: ") && !minutes.contains("--at"), "{minutes}");
    assert!(advice(&told(&["--at", "1759999000"])).contains("compare the clocks of both machines"));
    // Where no time matters, none is spoken of.
    folder.write(
        "request",
        &format!("POST / HTTP/1.1\r\nStripe-Signature: t=1760000000,v1={}\r\n\r\nhello", "0".repeat(64)),
    );
    let text = told(&[]);
    assert!(text.starts_with("not explained") && !text.contains("judged as of now"), "{text}");
}
