//! An engine, an application and processes whose inbox is in the engine.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ring::hmac;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const DRIVERS: [&str; 2] = ["auto", "epoll"];
/// An engine that keeps what a 202 promises.
pub(crate) const KEEPS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come to pass");
        thread::sleep(Duration::from_millis(10));
    }
}

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn folder() -> PathBuf {
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("countersign-inbox-engine-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A Redis of this test alone, on a socket in a folder of its own.
pub(crate) struct Engine {
    child: Child,
    pub(crate) folder: PathBuf,
}

impl Engine {
    /// Starts one with these options; nothing where there is no Redis.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("left out: redis-server is not installed");
            return None;
        }
        let folder = folder();
        let engine = Self { child: Self::spawn(&folder, options), folder };
        engine.await_answer();
        Some(engine)
    }

    fn spawn(folder: &Path, options: &[&str]) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--daemonize", "no", "--unixsocket"]);
        command.arg(folder.join("engine.sock")).arg("--dir").arg(folder).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server starts")
    }

    fn await_answer(&self) {
        eventually("an engine that answers", || self.ask(&["PING"]).contains("PONG"));
    }

    /// What it answers to a command, as it is written.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let Ok(mut stream) = UnixStream::connect(self.folder.join("engine.sock")) else { return String::new() };
        let mut text = format!("*{}\r\n", command.len());
        command.iter().for_each(|part| _ = write!(text, "${}\r\n{part}\r\n", part.len()));
        if stream.write_all(text.as_bytes()).is_err() {
            return String::new();
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.folder.join("engine.sock"));
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }

    pub(crate) fn restart(&mut self, options: &[&str]) {
        self.stop();
        self.child = Self::spawn(&self.folder, options);
        self.await_answer();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An application that answers with these statuses, and then with 200.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    requests: Receiver<String>,
}

pub(crate) fn application(address: &str, statuses: &[u16]) -> Application {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let statuses = Arc::new(Mutex::new(statuses.to_vec()));
    let (sender, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (statuses, sender) = (Arc::clone(&statuses), sender.clone());
            thread::spawn(move || serve(stream, &statuses, &sender));
        }
    });
    Application { address, requests }
}

fn serve(mut stream: TcpStream, statuses: &Mutex<Vec<u16>>, sender: &Sender<String>) {
    while let Some(request) = message(&mut stream) {
        let mut statuses = statuses.lock().unwrap();
        let status = if statuses.is_empty() { 200 } else { statuses.remove(0) };
        drop(statuses);
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok");
        if sender.send(request).is_err() || stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A message with a `Content-Length`.
fn message(stream: &mut TcpStream) -> Option<String> {
    let (mut received, mut byte) = (Vec::new(), [0]);
    while !received.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        received.push(byte[0]);
    }
    let head = String::from_utf8(received).unwrap();
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}

impl Application {
    pub(crate) fn heard(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("the application is called")
    }

    /// Everything that it was given and is not read yet.
    pub(crate) fn drain(&self, mut each: impl FnMut(&str)) {
        self.requests.try_iter().for_each(|request| each(&request));
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.requests.recv_timeout(Duration::from_millis(300)).is_err()
    }
}

/// An address at which nothing listens.
pub(crate) fn away() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What a configuration says beyond the usual.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'t> {
    /// Where the engine is, where that is not its socket: lines of `[shared]`.
    pub(crate) place: &'t str,
    /// Lines of the route.
    pub(crate) route: &'t str,
    pub(crate) inbox: &'t str,
    pub(crate) shared: &'t str,
    pub(crate) delivery: &'t str,
    pub(crate) driver: &'t str,
}

pub(crate) const USUAL: Terms<'static> =
    Terms { place: "", route: "", inbox: "", shared: "", delivery: "", driver: "auto" };

/// A running process; killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
}

impl Process {
    pub(crate) fn start(engine: &Engine, upstream: SocketAddr, terms: Terms<'_>) -> Self {
        let folder = folder();
        let Terms { place, route, inbox, shared, delivery, driver } = terms;
        let own = format!("address = \"unix:{}\"", engine.folder.join("engine.sock").display());
        let place = if place.is_empty() { &own } else { place };
        fs::write(folder.join("secret"), SECRET).unwrap();
        fs::write(folder.join("shared-key"), "0123456789abcdef".repeat(4)).unwrap();
        let text = format!(
            "[server]\nworkers = 1\ndriver = \"{driver}\"\ndrain_delay = \"0s\"\ndrain_grace = \"5s\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [upstream]\naddress = \"{upstream}\"\nconnect_timeout = \"100ms\"\n\
             [shared]\n{place}\nkey_file = \"shared-key\"\nresponse_timeout = \"1s\"\n{shared}\n\
             [inbox]\nengine = \"redis\"\nsize = \"64MiB\"\ndeliveries = 100000\n{inbox}\n\
             [[route]]\npath = \"/hook\"\nscheme = \"github\"\nsecrets = [{{ id = \"1\", file = \"secret\" }}]\n\
             acknowledge = \"durable\"\ndelivery = {{ backoff = \"50ms..200ms\", timeout = \"1s\"{delivery} }}\n{route}\n"
        );
        let path = folder.join("countersign.toml");
        fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("run").arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&lines);
        thread::spawn(move || errors.lines().map_while(Result::ok).for_each(|line| written.lock().unwrap().push(line)));
        Self { child, lines, folder }
    }

    pub(crate) fn await_line(&self, text: &str) -> String {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("no {text:?} in {:#?}", self.lines.lock().unwrap());
    }

    /// Where it listens, once its inbox is open and its claims can be asked for.
    pub(crate) fn open(&self) -> SocketAddr {
        self.await_line("the inbox is open");
        self.await_line("shared engine: connected");
        self.address()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.await_line("listening on ").rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn admin(&self) -> String {
        self.await_line("admin port at ").rsplit(' ').next().unwrap().to_owned()
    }

    /// What the admin port answers to a path.
    pub(crate) fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin()).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// What `countersign inbox` says, asked of this process.
    pub(crate) fn inbox(&self, words: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("inbox").args(words).arg("--address").arg(self.admin());
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// The same, where it stays to be replaced.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }

    /// SIGTERM.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.lines.lock().unwrap());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Sends a delivery. The answer; empty where the connection ended without one.
pub(crate) fn send(address: SocketAddr, body: &str) -> String {
    try_send(address, body).unwrap_or_default()
}

/// The same, where nothing may listen; nothing where the connection ended without an answer.
pub(crate) fn try_send(address: SocketAddr, body: &str) -> Option<String> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!(
        "POST /hook HTTP/1.1\r\nHost: hooks.example\r\nX-Hub-Signature-256: sha256={hex}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    message(&mut stream)
}

/// Sends until it is acknowledged.
#[track_caller]
pub(crate) fn send_until_acknowledged(address: SocketAddr, body: &str) -> String {
    let mut answer = String::new();
    eventually("an acknowledgement", || {
        answer = send(address, body);
        ["200", "202"].contains(&status(&answer))
    });
    answer
}

pub(crate) fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

pub(crate) fn field<'m>(message: &'m str, name: &str) -> &'m str {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_else(|| panic!("{message}"))
}

pub(crate) fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
