//! Handshakes: what senders ask a new endpoint, and what they are answered, byte for byte. The transcripts are data, in
//! `tests/vectors/handshakes.txt`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::support::application::OK;
use crate::support::delivery::SECRET;
use crate::support::{Application, Delivery, Driver, Proxy, on_both_drivers};

on_both_drivers! {
    every_transcript_is_answered_to_the_byte,
    what_is_no_handshake_is_forwarded,
    a_handshake_does_not_end_its_connection,
    a_signed_handshake_may_come_again,
    first_calls_are_few,
}

/// One exchange of the file.
#[derive(Default)]
struct Transcript {
    name: String,
    route: String,
    request: Vec<String>,
    answer: Vec<String>,
    end: String,
}

fn transcripts() -> Vec<Transcript> {
    let mut all: Vec<Transcript> = Vec::new();
    for line in include_str!("../vectors/handshakes.txt").lines().filter(|line| !line.starts_with('#')) {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        if mark == "==" {
            all.push(Transcript { name: rest.to_owned(), ..Transcript::default() });
        }
        let Some(last) = all.last_mut() else { continue };
        match mark {
            "route" => last.route += &format!("{rest}\n"),
            ">" => last.request.push(rest.to_owned()),
            "<" => last.answer.push(rest.to_owned()),
            "=" => rest.clone_into(&mut last.end),
            "==" | "" => {}
            other => panic!("{}: {other}", last.name),
        }
    }
    all
}

fn key_pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The present in seconds, and as RFC 3339 has it.
fn present() -> (String, String) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    (seconds.to_string(), format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// The bytes of a request: the present, the body and signatures are filled in.
fn request(lines: &[String]) -> Vec<u8> {
    let end = lines.iter().position(String::is_empty).unwrap_or(lines.len());
    let body = lines.get(end + 1).cloned().unwrap_or_default();
    let (now, rfc3339) = present();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut out = String::new();
    for line in &lines[..end] {
        let line =
            line.replace("{now}", &now).replace("{rfc3339}", &rfc3339).replace("{length}", &body.len().to_string());
        let line = line.replace("{body}", &body);
        let signed = ["{hex:", "{base64:", "{ed25519:"].into_iter().find_map(|mark| line.split_once(mark));
        out += &match signed {
            Some((before, content)) => {
                let content = content.strip_suffix('}').unwrap();
                let tag = hmac::sign(&key, content.as_bytes());
                let tag = match &line[before.len()..before.len() + 4] {
                    "{hex" => hex(tag.as_ref()),
                    "{bas" => STANDARD.encode(tag.as_ref()),
                    _ => hex(key_pair().sign(content.as_bytes()).as_ref()),
                };
                format!("{before}{tag}\r\n")
            }
            None => format!("{line}\r\n"),
        };
    }
    (out + "\r\n" + &body).into_bytes()
}

/// The lines of an answer; what differs each time is a star.
fn shown(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let id = head.lines().find_map(|line| line.strip_prefix("X-Request-Id: ")).unwrap_or("?");
    let with_id = body.contains(id);
    let mut lines: Vec<String> = head
        .split("\r\n")
        .map(|line| match line.split_once(": ") {
            Some((name @ ("Date" | "X-Request-Id"), _)) => format!("{name}: *"),
            Some((name @ "Content-Length", _)) if with_id => format!("{name}: *"),
            _ => line.to_owned(),
        })
        .collect();
    lines.push(String::new());
    let body = body.replace(id, "*");
    lines.extend((!body.is_empty()).then(|| body.trim_end_matches('\n').to_owned()));
    lines
}

fn every_transcript_is_answered_to_the_byte(driver: Driver) {
    let application = Application::answering(OK);
    let public = hex(key_pair().public_key().as_ref());
    let mut wrong = Vec::new();
    let all = transcripts();
    assert!(all.len() >= 80, "{}", all.len());
    for transcript in &all {
        let route = transcript.route.replace("{public}", &public);
        let proxy = Proxy::on(driver, &application).route(&route).start();
        let mut client = proxy.connect();
        let answer = client.send(&request(&transcript.request)).rest();
        let answer = shown(&answer);
        if answer != transcript.answer {
            wrong.push(format!("{}:\n  wanted {:?}\n  found  {answer:?}", transcript.name, transcript.answer));
        }
        proxy.assert_endings(&[transcript.end.as_str()]);
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), all.len(), wrong.join("\n"));
    application.assert_requests(0);
}

/// A genuine delivery of Slack.
fn slack(body: &str) -> Vec<u8> {
    let (now, _) = present();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{now}:{body}").as_bytes());
    Delivery::unsigned(body.as_bytes())
        .line("POST /slack HTTP/1.1")
        .field("X-Slack-Request-Timestamp", &now)
        .field("X-Slack-Signature", &format!("v0={}", hex(tag.as_ref())))
        .bytes()
}

fn route(lines: &str) -> String {
    format!("path = \"/slack\"\nscheme = \"slack\"\nsecrets = [{{ id = \"1\", value = \"{SECRET}\" }}]\n{lines}")
}

const CHALLENGE: &str = r#"{"challenge":"3eZbrw1aBm2r","type":"url_verification"}"#;

fn what_is_no_handshake_is_forwarded(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route("")).start();
    let mut client = proxy.connect();
    let long = format!(r#"{{"type":"url_verification","challenge":"a","more":"{}"}}"#, "a".repeat(16 << 10));
    for body in [
        r#"{"type":"event_callback","event":{"type":"message","text":"url_verification"}}"#,
        r#"{"event":{"type":"url_verification","challenge":"a"}}"#,
        r#"{"type":"url_verification"}"#,
        r#"["url_verification"]"#,
        "url_verification challenge type",
        &format!("{}{}", "[".repeat(4000), r#""url_verification""#),
        &long,
    ] {
        assert_eq!(client.ask(&slack(body)).status, 200, "{body}");
    }
    application.assert_requests(7);
    proxy.assert_endings(&["forwarded"; 7]);
    // The route can say that the application answers.
    let proxy = Proxy::on(driver, &application).route(&route("challenge = false")).start();
    assert_eq!(proxy.connect().ask(&slack(CHALLENGE)).status, 200);
    proxy.assert_endings(&["forwarded"]);
}

fn a_handshake_does_not_end_its_connection(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route("")).start();
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client.ask(&slack(CHALLENGE));
        assert_eq!((answer.status, answer.body.as_slice(), answer.closes()), (200, b"3eZbrw1aBm2r".as_slice(), false));
    }
    assert_eq!(client.ask(&slack("{}")).status, 200);
    proxy.assert_endings(&["challenge_answered", "challenge_answered", "challenge_answered", "forwarded"]);
    application.assert_requests(1);
}

/// An answer that is lost is asked for again: a handshake is never a duplicate.
fn a_signed_handshake_may_come_again(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route("replay.mode = \"enforce\"")).start();
    let (request, delivery) = (slack(CHALLENGE), slack("{}"));
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(&request).body, b"3eZbrw1aBm2r");
        assert_eq!(client.ask(&delivery).status, 200);
    }
    proxy.assert_endings(&["challenge_answered", "forwarded", "challenge_answered", "duplicate"]);
    application.assert_requests(1);
}

fn first_calls_are_few(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route("first_calls = true")).start();
    let call = Delivery::unsigned(b"ssl_check=1")
        .line("POST /slack HTTP/1.1")
        .field("Content-Type", "application/x-www-form-urlencoded")
        .bytes();
    let mut client = proxy.connect();
    let answers: Vec<u16> = (0..40).map(|_| client.ask(&call).status).collect();
    let refused = answers.iter().filter(|status| **status == 429).count();
    // A token comes every two seconds.
    assert!(answers[..30].iter().all(|status| *status == 200) && (1..=10).contains(&refused), "{answers:?}");
    let last = client.ask(&call);
    assert!(last.status == 200 || last.field("Retry-After").is_some());
    // Genuine deliveries do not need any of this.
    assert_eq!(client.ask(&slack("{}")).status, 200);
    application.assert_requests(1);
}
