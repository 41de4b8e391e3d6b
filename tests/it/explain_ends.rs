//! `explain --request` on captures whose bodies end elsewhere than they say, whose heads no server takes, and whose bytes a
//! terminal would act on.

use std::process::Command;

use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
const BODY: &str = r#"{"id":1,"name":"Zoë","tags":["a","b"]}"#;

/// The exit status, and what is printed on both streams.
fn explained(folder: &Folder, scheme: &str, more: &[&str]) -> (Option<i32>, String) {
    folder.write("secret", SECRET);
    let given = ["explain", "--request", "request", "--scheme", scheme, "--secret-file", "secret"];
    let output = Command::new(BINARY).args(given).args(more).current_dir(folder.path("")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    (output.status.code(), text)
}

/// A request of GitHub that signs `signed`, with these lines in its head and these bytes behind it.
fn github(lines: &str, signed: &[u8], after: &[u8]) -> (Option<i32>, String) {
    let folder = Folder::new();
    let signature = github_signature(SECRET, signed);
    let head = format!("POST /hook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\n{lines}\r\n");
    std::fs::write(folder.path("request"), [head.as_bytes(), after].concat()).unwrap();
    explained(&folder, "github", &[])
}

fn length(length: usize) -> String {
    format!("Content-Length: {length}\r\n")
}

#[track_caller]
fn assert_begins(answer: &(Option<i32>, String), status: i32, start: &str) {
    let (code, text) = answer;
    assert!(*code == Some(status) && text.starts_with(start), "{start:?}, {status}: {code:?}\n{text}");
}

/// What is behind the end that Content-Length says is tried, and named where it is not the cause.
#[test]
fn bytes_behind_content_length_are_tried() {
    let body = BODY.as_bytes();
    let whole = "explained: Content-Length says 12 bytes, and the signature is over all";
    for (after, but) in [
        (BODY.to_owned(), " (proven"),
        (format!("{BODY}\n"), " but the newline at the end (proven"),
        (format!("{BODY}\r\n"), " but the line break (CRLF) at the end (proven"),
        (format!("{BODY} \n\n"), " but the white space at the end (proven"),
        // Two things at once.
        (BODY.replace(':', ": "), ", and the body was written again"),
        (format!("\u{feff}{BODY}"), ", and the body begins with a byte order mark"),
    ] {
        let answer = github(&length(12), body, after.as_bytes());
        assert_begins(&answer, 1, whole);
        assert!(answer.1.lines().next().unwrap().contains(but), "{but}: {}", answer.1);
    }
    let lines = "{\n\"a\":1\n}";
    let answer = github(&length(lines.len()), lines.as_bytes(), lines.replace('\n', "\r\n").as_bytes());
    assert!(answer.1.lines().next().unwrap().contains("with LF line breaks for CRLF (proven"), "{}", answer.1);
    // With another secret nothing matches: the fact is told, and in the headline where it may be the cause.
    let answer = github(&length(12), b"other", body);
    assert_begins(
        &answer,
        1,
        "likely: the body ends in the middle of its JSON: Content-Length says 12 bytes, and 27 bytes more follow",
    );
    let answer = github(&length(0), b"other", body);
    assert_begins(&answer, 1, "likely: Content-Length says 0 bytes, and 39 bytes more follow in the capture");
    let answer = github(&length(4), b"other", b"a=b&text=hello");
    assert_begins(&answer, 1, "likely: Content-Length says 4 bytes, and 10 bytes more follow in the capture");
    // What an editor adds is no cause, and neither is the next request.
    let answer = github(&length(body.len()), b"other", format!("{BODY}\n").as_bytes());
    assert_begins(&answer, 1, "not explained");
    assert!(answer.1.contains("the file has 1 byte more than Content-Length says: left out"), "{}", answer.1);
    let next = format!("{BODY}POST / HTTP/1.1\r\n\r\n");
    assert_begins(&github(&length(body.len()), b"other", next.as_bytes()), 1, "not explained");
}

/// A character that has begun is cut; a byte that no character has was changed.
#[test]
fn a_changed_byte_is_not_called_a_cut() {
    let with_last = |last: u8| [&BODY.as_bytes()[..BODY.len() - 1], &[last]].concat();
    for last in [0xfd, 0xff, 0x80, 0xc0, 0xc3, 0xf0] {
        let body = with_last(last);
        let start =
            format!("likely: the body is no UTF-8: `\\x{last:02x}` at byte 39 of 39 cannot stand there (by its looks");
        assert_begins(&github(&length(body.len()), BODY.as_bytes(), &body), 1, &start);
    }
    for last in [b'=', b'm', b'u', b'y', 0x7f, b'|'] {
        let body = with_last(last);
        let (_, text) = github(&length(body.len()), BODY.as_bytes(), &body);
        assert!(
            text.starts_with("likely: the body is no JSON: ") && text.contains("` at byte 39 of 39 cannot"),
            "{text}"
        );
    }
    let number = br#"{"total":12.50}"#;
    assert_begins(&github(&length(12), number, &number[..12]), 1, "likely: the body ends in the middle of its JSON");
    for (kept, what) in [(19, "a character"), (10, "its JSON"), (30, "its JSON"), (38, "its JSON")] {
        let cut = &BODY.as_bytes()[..kept];
        let start = format!("likely: the body ends in the middle of {what} (by its looks");
        assert_begins(&github(&length(kept), BODY.as_bytes(), cut), 1, &start);
    }
}

#[test]
fn chunks_that_break_off_are_named_as_such() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let (first, second) = BODY.split_at(16);
    let one = format!("10\r\n{first}\r\n");
    let answer = github(chunked, BODY.as_bytes(), format!("{one}17\r\n{}", &second[..9]).as_bytes());
    assert_begins(
        &answer,
        1,
        "likely: the chunked body breaks off in chunk 2, after 9 of its 23 bytes (payload: 25 bytes)",
    );
    let answer = github(chunked, BODY.as_bytes(), one.as_bytes());
    assert_begins(&answer, 1, "likely: the chunked body breaks off behind chunk 1: the last chunk (`0`) is missing");
    let answer = github(chunked, BODY.as_bytes(), format!("{one}17\r\n{second}!\r\n0\r\n\r\n").as_bytes());
    assert_begins(&answer, 0, "genuine");
    assert!(answer.1.contains("is broken: chunk 2 goes on behind the 23 bytes"), "{}", answer.1);
    // All of it is there, but for the last chunk.
    let answer = github(chunked, BODY.as_bytes(), format!("{one}17\r\n{second}\r\n").as_bytes());
    assert_begins(&answer, 0, "genuine");
    assert!(answer.1.contains("the chunked body breaks off behind chunk 2"), "{}", answer.1);
    // An editor has changed the line ends of the chunks.
    let answer = github(chunked, BODY.as_bytes(), format!("10\n{first}\n17\n{second}\n0\n\n").as_bytes());
    assert_begins(&answer, 0, "genuine");
    let answer = github(chunked, BODY.as_bytes(), BODY.as_bytes());
    assert_begins(&answer, 0, "genuine");
    assert!(answer.1.contains("not chunked although the head says so"), "{}", answer.1);
}

/// What suffices as a cause stands in the first line.
#[test]
fn missing_bytes_are_the_headline() {
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let answer = github(&format!("{form}{}", length(40)), b"other", b"a=b&text=hello");
    assert_begins(
        &answer,
        1,
        "likely: the body lacks 26 bytes at its end: it has 14 of the 40 that Content-Length says",
    );
    for end in ["%", "%4"] {
        let body = format!("a=b&text=hello{end}");
        let answer = github(&format!("{form}{}", length(body.len())), b"other", body.as_bytes());
        assert_begins(&answer, 1, "likely: the body ends in the middle of a percent-escape");
    }
    let answer = github(&length(500), b"other", &BODY.as_bytes()[..30]);
    assert_begins(&answer, 1, "likely: the body lacks 470 bytes at its end");
    let answer = github(&length(500), b"other", b"");
    assert_begins(&answer, 1, "likely: the body is missing: Content-Length says 500 bytes, and none are there");
    let answer = github(&length(500), b"other", BODY.as_bytes());
    assert_begins(&answer, 1, "likely: the body is 461 bytes shorter than the 500 that Content-Length says");
    let multipart = "Content-Type: multipart/form-data; boundary=q\r\n";
    let body = "--q\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello";
    let answer = github(&format!("{multipart}{}", length(body.len())), b"other", body.as_bytes());
    assert_begins(&answer, 1, "likely: the body ends in the middle of its multipart form");
    // A form whose fields are signed, cut in an escape.
    let folder = Folder::new();
    let head = "POST /in HTTP/1.1\r\nHost: x\r\nX-Twilio-Signature: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n";
    folder.write("request", &format!("{head}{form}{}\r\nTo=%2B1800&From=%2", length(90)));
    let answer = explained(&folder, "twilio", &["--url", "https://a.example/in"]);
    assert_begins(
        &answer,
        1,
        "likely: the body lacks 72 bytes at its end: it has 18 of the 90 that Content-Length says",
    );
}

/// The signature is judged all the same, and the first line says that the guard never looks at it.
#[test]
fn a_head_that_no_server_takes_is_not_called_genuine_alone() {
    let body = BODY.as_bytes();
    for (lines, code, shown) in [
        ("Content-Length: -1\r\n", "framing_invalid", "`Content-Length: -1`"),
        ("Content-Length: 99999999999999999999\r\n", "framing_invalid", "99999`"),
        ("Content-Length: 39\r\nContent-Length: 40\r\n", "framing_invalid", "`content-length` stands more than once"),
        ("Transfer-Encoding: \x1b[2J\r\n", "head_malformed", r"`Transfer-Encoding: \u{1b}[2J`"),
        ("A: b\r\n c\r\nContent-Length: 39\r\n", "head_malformed", "` c`"),
        ("X-\x1b[2J: 1\r\nContent-Length: 39\r\n", "head_malformed", r"`X-\u{1b}[2J: 1`"),
    ] {
        let answer = github(lines, body, body);
        assert_begins(
            &answer,
            1,
            &format!("not taken: the guard refuses this head before it looks at the signature: {code} ("),
        );
        assert!(answer.1.lines().next().unwrap().contains(shown), "{shown}: {}", answer.1);
        assert!(answer.1.contains("\ngenuine: it matches the key `secret`\n"), "{}", answer.1);
    }
    let folder = Folder::new();
    let signature = github_signature(SECRET, body);
    for first in ["P\x1bST /hook HTTP/1.1", "POST /h\x1bk HTTP/1.1", "POST /hook HTT./1.1", "POST /hook HTTP/1.1 x"] {
        let fields = format!("Host: x\r\nX-Hub-Signature-256: {signature}\r\n{}", length(body.len()));
        folder.write("request", &format!("{first}\r\n{fields}\r\n{BODY}"));
        let answer = explained(&folder, "github", &[]);
        assert_begins(&answer, 1, "not taken: ");
        assert!(answer.1.contains("head_malformed") && answer.1.contains("the first line: `"), "{}", answer.1);
        let (_, json) = explained(&folder, "github", &["--output", "json"]);
        assert!(json.contains("\"refused_before\":\"head_malformed\"") && json.contains("\"ok\":false"), "{json}");
    }
    // What captures that are written by hand lack is a fact and no verdict.
    folder.write("request", &format!("POST /hook HTTP/2\nX-Hub-Signature-256: {signature}\n\n{BODY}"));
    let answer = explained(&folder, "github", &[]);
    assert_begins(&answer, 0, "genuine");
    assert!(answer.1.contains("has no Host") && answer.1.contains("says no length"), "{}", answer.1);
    // The same of `verify`, whose last line is the verdict of the proxy.
    folder.write("body", BODY);
    let header = format!("X-Hub-Signature-256: {signature}");
    let given = ["verify", "--scheme", "github", "--secret-file", "secret", "--body-file", "body", "-H", &header];
    let output = Command::new(BINARY)
        .args(given)
        .args(["-H", "Content-Length: -1"])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("not taken: ") && text.ends_with("\nreject: framing_invalid\n"), "{text}");
}

/// Wherever bytes of the request are quoted, a terminal gets nothing to act on, and no letters that turn the line around.
#[test]
fn what_is_quoted_is_printable() {
    let evil = "\u{202e}\u{5d0}\u{627}\u{200b}\u{85}\u{9b}\u{feff}\u{e0041}";
    let folder = Folder::new();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let requests = [
        format!("POST /{evil} HTTP/1.1\r\nHost: x\r\n\r\n{{}}"),
        format!("P{evil} / HTTP/1.1\r\nHost: x\r\n\r\n{{}}"),
        format!("POST / HTTP/1.1\r\n{evil}\r\n\r\n{{}}"),
        format!("POST / HTTP/1.1\r\nX-Signature-{evil}: 1\r\n\r\n{{}}"),
        format!("POST / HTTP/1.1\r\nX-Hub-Signature-256: {evil}\r\n\r\n{{}}"),
        format!("POST / HTTP/1.1\r\nContent-Encoding: {evil}\r\nX-Hub-Signature-256: sha256=00\r\n\r\n{{}}"),
        format!("POST / HTTP/1.1\r\nContent-Type: {evil}\r\nX-Twilio-Signature: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\nx"),
        format!("POST / HTTP/1.1\r\n{form}X-Twilio-Signature: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n{evil}=%{evil}"),
        format!("POST / HTTP/1.1\r\nStripe-Signature: t={evil},v1={}\r\n\r\n{{}}", "0".repeat(64)),
        format!(
            "POST / HTTP/1.1\r\nwebhook-id: {evil}\r\nwebhook-timestamp: {evil}\r\nwebhook-signature: v1,AA==\r\n\r\n{{}}"
        ),
        format!(
            "POST / HTTP/1.1\r\nwebhook-id: {evil}\r\nwebhook-timestamp: 1760000000\r\nwebhook-signature: v1,AA==\r\n\r\n{{}}"
        ),
        format!(
            "POST / HTTP/1.1\r\nX-Forwarded-Host: {evil}\r\nx-square-hmacsha256-signature: AA==\r\n\r\n{{\"{evil}\":1,{evil}"
        ),
    ];
    for request in &requests {
        folder.write("request", request);
        for scheme in ["github", "twilio", "stripe", "standard-webhooks", "square"] {
            let more = ["--url", "https://a.example/", "--at", "1760000000"];
            let (_, text) = explained(&folder, scheme, &more);
            let odd = text.chars().find(|it| !matches!(it, '\n' | ' '..='~' | '…'));
            assert!(odd.is_none(), "{odd:?} in {text} of {request:?}");
            if scheme == "github" {
                let (code, json) = explained(&folder, scheme, &[&more[..], &["--output", "json"]].concat());
                assert!(code == Some(2) || serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
            }
        }
    }
}

/// Both readings, whether the signature matches or not.
#[test]
fn a_time_in_another_unit_is_told_in_both() {
    let folder = Folder::new();
    let signed = |time: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = ring::hmac::sign(&key, format!("{time}.{BODY}").as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for (time, unit, other) in [
        ("1760000000000", "milliseconds", "as seconds 55716 years in the future"),
        ("1760000000000000", "microseconds", "as seconds 55772"),
        ("1760000000000000000", "nanoseconds", "as seconds 5577"),
        ("1760000000.25", "seconds with a fraction", "as seconds it cannot be read"),
        ("2025-10-09T08:53:20Z", "RFC 3339", "as seconds it cannot be read"),
    ] {
        for (tag, start) in [
            (signed(time), format!("explained: the timestamp is in {unit}, and not in seconds: ")),
            ("0".repeat(64), format!("likely: the timestamp looks like {unit}, and the scheme wants seconds: ")),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\nStripe-Signature: t={time},v1={tag}\r\n");
            folder.write("request", &format!("{head}{}\r\n{BODY}", length(BODY.len())));
            let answer = explained(&folder, "stripe", &["--at", "1760000012"]);
            assert_begins(&answer, 1, &start);
            let first = answer.1.lines().next().unwrap();
            let reading = format!("`{time}` is 2025-10-09T08:53:20Z as {unit} (12 s old), and {other}");
            assert!(first.contains(&reading), "{reading}: {first}");
        }
    }
    // The other way round.
    folder.write(
        "countersign.toml",
        "[[listener]]\naddress = \"127.0.0.1:1\"\n[[route]]\nname = \"hook\"\npath = \"/in\"\nupstream = \"127.0.0.1:2\"\n\
         scheme = \"own\"\nsecrets = [{ id = \"k\", file = \"secret\" }]\n[scheme.own]\nalgorithm = \"hmac-sha256\"\n\
         content = \"{timestamp}.{body}\"\nsignature = { header = \"X-S\", encoding = \"hex\" }\n\
         timestamp = { header = \"X-T\", unit = \"ms\" }\n",
    );
    folder.write("secret", SECRET);
    for (tag, start) in [
        (signed("1760000000"), "explained: the timestamp is in seconds, and not in milliseconds: "),
        ("0".repeat(64), "likely: the timestamp looks like seconds, and the scheme wants milliseconds: "),
    ] {
        let head = format!("POST /in HTTP/1.1\r\nHost: x\r\nX-T: 1760000000\r\nX-S: {tag}\r\n");
        folder.write("request", &format!("{head}{}\r\n{BODY}", length(BODY.len())));
        let given = ["explain", "--request", "request", "--config", "countersign.toml", "--route", "hook"];
        let output = Command::new(BINARY)
            .args(given)
            .args(["--at", "1760000012"])
            .current_dir(folder.path(""))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(start) && text.contains("(12 s old), and as milliseconds 55 years old"), "{text}");
    }
}
