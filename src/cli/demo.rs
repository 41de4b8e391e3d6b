//! `countersign demo`: genuine and forged deliveries of five providers through a real proxy on loopback.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::load::load;
use crate::config::scheme;
use crate::control::plan::plan;
use crate::control::signals::Termination;
use crate::control::supervisor::{self, Running, Witnesses};
use crate::edge::clock::Clock;
use crate::edge::worker::Observer;
use crate::gate::verify::{SignInput, sign};
use crate::now::Now;
use crate::telemetry::exchange::Exchange;

use super::output::{complain, line, print_problems};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Exit after the table: 0 if everything was as it should be
    #[arg(long)]
    once: bool,
}

/// The built-in configuration; secrets, address and upstream are filled in.
const CONFIGURATION: &str = include_str!("demo.toml");

/// The routes of the demo: preset, and how its secrets look.
const PROVIDERS: [(&str, DemoSecret); 5] = [
    ("github", DemoSecret::Text),
    ("stripe", DemoSecret::Prefixed),
    ("slack", DemoSecret::Text),
    ("shopify", DemoSecret::Text),
    ("standard-webhooks", DemoSecret::Prefixed),
];

#[derive(Clone, Copy)]
enum DemoSecret {
    /// Hex digits.
    Text,
    /// Base64 behind `whsec_`.
    Prefixed,
}

/// How long the demo waits for what takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

const BODY: &str = r#"{"event":"order.created","amount":1250,"note":"grüße"}"#;

/// What is done to a genuine delivery, and how the exchange must end.
const CASES: [(&str, Tamper, &[&str]); 6] = [
    ("genuine", Tamper::Nothing, &["forwarded"]),
    ("the same delivery again", Tamper::Repetition, &["duplicate"]),
    ("one byte of the body changed", Tamper::Body, &["signature_mismatch"]),
    ("signed with another secret", Tamper::Secret, &["signature_mismatch"]),
    ("no signature", Tamper::Headers, &["signature_missing"]),
    // Schemes without a timestamp cannot tell: there it is the same delivery once more.
    ("an hour old (if it is signed)", Tamper::Age, &["timestamp_stale", "duplicate"]),
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

/// Runs the demo.
pub(super) fn run(arguments: &DemoArguments) -> ExitCode {
    match demonstrate(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND_WRONG),
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
    }
}

fn demonstrate(arguments: &DemoArguments) -> Result<bool, String> {
    let mut termination = Termination::listen().map_err(|error| error.to_string())?;
    let folder = Folder::new().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let upstream = DemoApplication::start().map_err(|error| format!("cannot start the demo's upstream: {error}"))?;
    let secrets = write_files(&folder.0, upstream.address)?;
    let (sender, endings) = sync_channel(1);
    let running = start(&folder.0.join("countersign.toml"), Endings(sender))?;
    let address = *running.addresses.first().ok_or("the proxy does not listen")?;
    let driver = running.drivers.first().map_or("", |driver| driver.name());
    line(format!("proxy on {address} ({driver}), upstream on {}\n", upstream.address));
    let table = Table { address, secrets: &secrets, endings: &endings, upstream: &upstream };
    let good = table.print()?;
    line(if good { "Everything was as it should be." } else { "SOMETHING IS NOT AS IT SHOULD BE." });
    if !arguments.once {
        print_commands(&folder.0, address);
        termination.wait();
    }
    running.halt();
    Ok(good)
}

fn start(config: &Path, endings: Endings) -> Result<Running, String> {
    let loaded = load(config).map_err(|problems| {
        print_problems(&problems);
        "the demo's configuration is wrong".to_owned()
    })?;
    let (plan, _) = plan(loaded);
    let witnesses = Witnesses::new(Arc::new(endings), plan.workers);
    supervisor::start(plan, witnesses).map_err(|error| error.to_string())
}

/// A temporary folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("countersign-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own clean-up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes the configuration and a fresh secret for each route; the secrets, in the order of [`PROVIDERS`].
fn write_files(folder: &Path, upstream: SocketAddr) -> Result<Vec<String>, String> {
    let mut secrets = Vec::new();
    for (name, kind) in PROVIDERS {
        let secret = random_secret(kind)?;
        write_private(&folder.join(format!("{name}.secret")), &secret)?;
        secrets.push(secret);
    }
    let configuration = CONFIGURATION.replace("127.0.0.1:9000", &upstream.to_string());
    write_private(&folder.join("countersign.toml"), &configuration)?;
    Ok(secrets)
}

fn write_private(path: &Path, text: &str) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| format!("{}: {error}", path.display()))
}

fn random_secret(kind: DemoSecret) -> Result<String, String> {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system has no randomness".to_owned())?;
    Ok(match kind {
        DemoSecret::Prefixed => format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes)),
        DemoSecret::Text => bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    })
}

/// How the exchanges ended, as the operator would see it; the client sees less.
struct Endings(SyncSender<&'static str>);

impl Observer for Endings {
    fn exchange(&self, exchange: &Exchange<'_>) {
        // What the user sends after the table is not counted.
        let _ = self.0.try_send(exchange.outcome.code());
    }

    fn accept_failed(&self, error: &io::Error) {
        complain(format!("accepting connections pauses: {error}"));
    }
}

struct Table<'a> {
    address: SocketAddr,
    secrets: &'a [String],
    endings: &'a Receiver<&'static str>,
    upstream: &'a DemoApplication,
}

impl Table<'_> {
    /// Sends everything and prints a line for each delivery. True when all of it ended as it should.
    fn print(&self) -> Result<bool, String> {
        line(format!(
            "{:<18} {:<30} {:>6}  {:<20} {:<16}",
            "route", "delivery", "status", "reason", "reached upstream"
        ));
        let mut all_good = true;
        for ((name, _), secret) in PROVIDERS.iter().zip(self.secrets) {
            let dated = scheme::preset(name).is_some_and(|scheme| scheme.signs_timestamp());
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
                let mark = if good { "" } else { "  <- wrong" };
                line(format!("{name:<18} {what:<30} {status:>6}  {code:<20} {arrived:<16}{mark}"));
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
        let scheme = scheme::preset(name).ok_or("a preset of the demo is missing")?;
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

/// A tiny application: remembers the bodies that reach it and answers `200`.
struct DemoApplication {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl DemoApplication {
    fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let seen = Arc::clone(&bodies);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || answer(stream, &seen));
            }
        });
        Ok(Self { address, bodies })
    }

    fn take(&self) -> Option<Vec<u8>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Serves one connection of the proxy, which always frames bodies with `Content-Length`.
fn answer(stream: TcpStream, bodies: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
    }
}

fn print_commands(folder: &Path, address: SocketAddr) {
    let program = std::env::current_exe().map_or_else(|_| "countersign".to_owned(), |path| path.display().to_string());
    line("\nTry it yourself (Ctrl-C ends the demo). Write a body:");
    line("  echo -n '{\"hello\":\"world\"}' > body.json");
    line("Send it as one of the five would:");
    for (name, _) in PROVIDERS {
        let id = if name == "standard-webhooks" { " --id msg_1" } else { "" };
        line(format!(
            "  eval \"$({program} sign --scheme {name} --secret-file {}{id} --url http://{address}/webhooks/{name} --body-file body.json --format curl)\"",
            folder.join(format!("{name}.secret")).display()
        ));
    }
    line(
        "Without `eval` the curl command is printed: change body.json before you run it, and see it refused with 401.",
    );
    line(
        "Send the same twice: the second one is acknowledged and not forwarded (where no time is signed, or within a second).",
    );
}
