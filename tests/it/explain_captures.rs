//! `explain` reads captures that tools and editors have made, and blames the capture, not the client, for what they made of it.

use std::process::Command;

use serde_json::Value;

use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
const BODY: &str = "{\"a\":1}";

fn explain(folder: &Folder, capture: &[u8], more: &[&str]) -> (Option<i32>, String, String) {
    std::fs::write(folder.path("request"), capture).unwrap();
    folder.write("secret", SECRET);
    let mut command = Command::new(BINARY);
    command.args(["explain", "--request", "request", "--scheme", "github", "--secret-file", "secret"]).args(more);
    let output = command.current_dir(folder.path("")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn raw() -> String {
    let signature = github_signature(SECRET, BODY.as_bytes());
    format!("POST /hook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: 7\r\n\r\n{BODY}")
}

#[test]
fn captures_of_tools_and_editors_are_read() {
    let folder = Folder::new();
    let signature = github_signature(SECRET, BODY.as_bytes());
    let escaped = BODY.replace('"', "\\\"");
    let utf16: Vec<u8> = format!("\u{feff}{}", raw()).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let verbose = raw().replacen("\r\n\r\n", "\r\n>\r\n", 1);
    let (head, body) = verbose.split_once(">\r\n").unwrap();
    let verbose = format!("{}> \r\n{body}", head.lines().map(|line| format!("> {line}\r\n")).collect::<String>());
    for (capture, remark) in [
        (raw().into_bytes(), ""),
        (format!("\u{feff}{}", raw()).into_bytes(), "byte order mark"),
        (utf16, "UTF-16"),
        (raw().replace('\n', "\r\n").into_bytes(), "CR CR LF"),
        (
            format!(":method: POST\n:path: /hook\n:authority: x\nx-hub-signature-256: {signature}\ncontent-length: 7\n\n{BODY}")
                .into_bytes(),
            "pseudo-headers",
        ),
        (verbose.into_bytes(), "the output of curl -v"),
        (
            format!("curl 'https://x/hook' -H 'X-Hub-Signature-256: {signature}' \\\n  --data-raw '{BODY}'").into_bytes(),
            "a command of curl",
        ),
        (
            format!("{{\"log\":{{\"entries\":[{{\"request\":{{\"method\":\"POST\",\"url\":\"https://x/hook\",\"headers\":[{{\"name\":\"X-Hub-Signature-256\",\"value\":\"{signature}\"}}],\"postData\":{{\"text\":\"{escaped}\"}}}}}}]}}}}")
                .into_bytes(),
            "a HAR file",
        ),
        (
            format!("{{\"httpMethod\":\"POST\",\"path\":\"/hook\",\"headers\":{{\"x-hub-signature-256\":\"{signature}\"}},\"body\":\"eyJhIjoxfQ==\",\"isBase64Encoded\":true}}")
                .into_bytes(),
            "AWS API Gateway",
        ),
        (
            format!("{{\"level\":\"info\",\"method\":\"POST\",\"url\":\"/hook\",\"headers\":{{\"x-hub-signature-256\":\"{signature}\"}},\"body\":\"{escaped}\"}}\n")
                .into_bytes(),
            "JSON with the header fields and the body",
        ),
    ] {
        let (code, out, wrong) = explain(&folder, &capture, &[]);
        assert_eq!(code, Some(0), "{remark}: {out}{wrong}");
        assert!(out.starts_with("genuine:") && out.contains(remark), "{remark}: {out}");
        assert_eq!(out.contains("the capture"), !remark.is_empty(), "{out}");
    }
}

#[test]
fn a_mistake_is_named_through_such_a_capture_as_well() {
    let folder = Folder::new();
    let other = github_signature(SECRET, b"{\"a\":1}\n");
    let event = format!(
        "{{\"httpMethod\":\"POST\",\"path\":\"/\",\"headers\":{{\"x-hub-signature-256\":\"{other}\"}},\"body\":\"{{\\\"a\\\":1}}\"}}"
    );
    let (code, out, _) = explain(&folder, event.as_bytes(), &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.starts_with("explained: the body lacks the newline at its end"), "{out}");
}

/// The first words are about the file, and not about the client.
#[test]
fn what_is_no_request_is_named_and_nothing_is_judged() {
    let folder = Folder::new();
    let (_, fields) = raw().split_once("\r\n").map(|(first, rest)| (first.to_owned(), rest.to_owned())).unwrap();
    let prefixed: String = raw().lines().map(|line| format!("2026-11-25 20:00:00 INFO {line}\n")).collect();
    for (capture, what) in [
        (fields.as_str(), "the capture has no request line: it begins with a header field (`Host: x`)"),
        ("", "the capture is empty"),
        (BODY, "the capture is JSON, and no HTTP request: is it the body alone?"),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "the capture is a response"),
        (&prefixed, "the lines of the capture have something in front of the request"),
        ("{\"headers\":{\"a\":\"b\"},\"body\":{\"c\":1}}", "the body as a parsed value (`body`)"),
    ] {
        let (code, out, wrong) = explain(&folder, capture.as_bytes(), &[]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{wrong}");
        assert!(wrong.contains(what), "{what:?} in: {wrong}");
    }
}

/// A program that reads standard output gets JSON, whatever happens.
#[test]
fn an_error_is_json_as_well() {
    let folder = Folder::new();
    let (code, out, wrong) = explain(&folder, b"HTTP/1.1 200 OK\r\n\r\n", &["--output", "json"]);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, value["ok"].as_bool()), (Some(2), Some(false)), "{out}");
    assert!(value["error"].as_str().unwrap().starts_with("the capture is a response"), "{out}");
    assert!(wrong.contains("the capture is a response"), "{wrong}");
    let output = Command::new(BINARY)
        .args(["verify", "--scheme", "github", "--secret-file", "none", "-o", "json"])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.code() == Some(2) && value["error"].as_str().unwrap().contains("none: "), "{value}");
}
