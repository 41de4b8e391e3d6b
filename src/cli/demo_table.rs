//! The table of the demo: genuine and forged deliveries of five senders, and what became of each.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::config::presets;
use crate::edge::clock::Clock;
use crate::gate::verify::{SignInput, sign};
use crate::now::Now;

use super::demo_application::DemoApplication;
use super::demo_secrets::{DemoSecret, PROVIDERS, random_secret};
use super::output::{line, line_with_code};

/// How long the demo waits for what takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

const BODY: &str = r#"{"event":"order.created","amount":1250,"note":"grüße"}"#;

/// What is done to a genuine delivery, and how the exchange must end. Where no time is signed, nothing tells a delivery of an
/// hour ago from a copy.
const CASES: [(&str, Tamper, &[&str]); 6] = [
    ("genuine", Tamper::Nothing, &["forwarded"]),
    ("the same delivery again", Tamper::Repetition, &["duplicate"]),
    ("one byte of the body changed", Tamper::Body, &["signature_mismatch"]),
    ("signed with another secret", Tamper::Secret, &["signature_mismatch"]),
    ("no signature", Tamper::Headers, &["signature_missing"]),
    ("an hour old", Tamper::Age, &["timestamp_stale", "duplicate"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tamper {
    Nothing,
    /// What was sent as genuine, byte for byte.
    Repetition,
    Body,
    Secret,
    Headers,
    Age,
}

/// What the rows show.
const LEGEND: &str = "\
What the rows show, for each of five senders:
  genuine                        verified, and forwarded byte for byte
  the same delivery again        a copy is acknowledged, so that the sender stops, and not forwarded
  one byte of the body changed   the signature covers the exact bytes
  signed with another secret     a signature cannot be made without the secret
  no signature                   nothing is forwarded without one
  an hour old                    refused where the sender signs a time; where it signs none, the same bytes are a copy
";

/// What the rows are made of.
pub(super) struct Table<'a> {
    pub(super) address: SocketAddr,
    /// In the order of [`PROVIDERS`].
    pub(super) secrets: &'a [String],
    /// How the exchanges end.
    pub(super) endings: &'a Receiver<&'static str>,
    pub(super) upstream: &'a DemoApplication,
}

impl Table<'_> {
    /// Sends everything and prints a line for each delivery. True when all of it ended as it should.
    pub(super) fn print(&self) -> Result<bool, String> {
        line(LEGEND);
        line(format!(
            "{:<18} {:<34} {:>6}  {:<20} {:<16}",
            "route", "delivery", "status", "reason", "reached upstream"
        ));
        let mut all_good = true;
        for ((name, _), secret) in PROVIDERS.iter().zip(self.secrets) {
            let dated = presets::preset(name).is_some_and(|scheme| scheme.signs_timestamp());
            let mut genuine = Vec::new();
            for (what, tamper, expected) in CASES {
                let expected = expected.get(usize::from(tamper == Tamper::Age && !dated)).copied().unwrap_or_default();
                let status = self.send(name, secret, tamper, &mut genuine)?;
                let code = self.endings.recv_timeout(PATIENCE).unwrap_or("no record");
                let reached = self.upstream.take();
                let intact = reached.as_deref() == Some(BODY.as_bytes());
                // A duplicate is acknowledged, so that its sender stops trying; the application does not see it.
                let success = ["forwarded", "duplicate"].contains(&code);
                let good = code == expected && (code == "forwarded") == intact && success == (status == 200);
                all_good &= good;
                let arrived = match (&reached, intact) {
                    (None, _) => "no",
                    (Some(_), true) => "yes, unchanged",
                    (Some(_), false) => "YES, CHANGED",
                };
                let what = if tamper == Tamper::Age && !dated { "an hour old, but no time is signed" } else { what };
                let mark = if good { "" } else { "  <- wrong" };
                let row = format!("{name:<18} {what:<34} {status:>6}  {code:<20} {arrived:<16}{mark}");
                line_with_code(row.trim_end(), code);
            }
        }
        Ok(all_good)
    }

    /// Sends one delivery over a connection of its own; the status of the answer. `genuine` keeps the headers of the
    /// genuine one.
    fn send(
        &self,
        name: &str,
        secret: &str,
        tamper: Tamper,
        genuine: &mut Vec<(String, String)>,
    ) -> Result<u16, String> {
        let present = Clock::start().now();
        let age = if tamper == Tamper::Age { Duration::from_secs(3600) } else { Duration::ZERO };
        let signed_with = match tamper {
            Tamper::Secret => {
                random_secret(if secret.starts_with("whsec_") { DemoSecret::Prefixed } else { DemoSecret::Text })?
            }
            _ => secret.to_owned(),
        };
        let scheme = presets::preset(name).ok_or("a preset of the demo is missing")?;
        let input = SignInput {
            method: "POST",
            url: &format!("http://{}/webhooks/{name}", self.address),
            headers: &[],
            body: BODY.as_bytes(),
            now: Now::at_unix(present.unix.saturating_sub(age)),
            id: Some("msg_demo"),
        };
        let mut headers = sign(&scheme, signed_with.as_bytes(), &input).map_err(|error| error.to_string())?;
        match tamper {
            Tamper::Nothing => genuine.clone_from(&headers),
            Tamper::Repetition => headers.clone_from(genuine),
            Tamper::Headers => headers.clear(),
            Tamper::Body | Tamper::Secret | Tamper::Age => {}
        }
        let body = if tamper == Tamper::Body { BODY.replace("1250", "9999") } else { BODY.to_owned() };
        post(self.address, &format!("/webhooks/{name}"), &headers, &body).map_err(|error| error.to_string())
    }
}

fn post(address: SocketAddr, path: &str, headers: &[(String, String)], body: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    let _ = write!(request, "Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
