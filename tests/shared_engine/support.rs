//! An engine, an application and replicas of the proxy, as the tests have them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use countersign::config::load::load;
use countersign::control::plan::plan;
use countersign::control::supervisor::{self, Running, Witnesses};
use countersign::edge::observer::Observer;
use countersign::ledger::shared::EngineTrouble;
use countersign::telemetry::engine::{EngineAsk, EngineEnd};
use countersign::telemetry::exchange::Exchange;
use ring::hmac;

pub(crate) const SECRET: &str = "correct-horse-battery-staple-0123456789";
pub(crate) const OTHER_SECRET: &str = "another-horse-and-its-battery-0123456789";

/// How long a test waits for what takes a few milliseconds; longer than a lease of ten seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come to pass");
        thread::yield_now();
    }
}

pub(crate) static FOLDERS: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn folder() -> PathBuf {
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("countersign-shared-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

/// Four senders that send to all replicas while something happens, each until its delivery is acknowledged. Gives the bodies.
pub(crate) fn traffic(replicas: &[Replica], meanwhile: impl FnOnce()) -> Vec<String> {
    let (stop, accepted) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for sender in 0..4 {
            let (stop, accepted) = (&stop, &accepted);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = format!("{{\"sender\":{sender},\"number\":{number}}}");
                    let mut tries = sender..;
                    while tries.next().is_some_and(|at| deliver(replicas[at % replicas.len()].address(), &body) != 200)
                    {
                        thread::sleep(Duration::from_millis(20));
                    }
                    accepted.lock().unwrap().push(body);
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        meanwhile();
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
    });
    accepted.into_inner().unwrap()
}

/// Sends a copy of everything to every replica. Gives how often the application has got each.
pub(crate) fn accepted_with_copies(
    replicas: &[Replica],
    application: &Application,
    bodies: &[String],
) -> BTreeMap<String, usize> {
    for body in bodies {
        for replica in replicas {
            eventually("an answer that is no conflict", || deliver(replica.address(), body) == 200);
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    application.bodies.try_iter().for_each(|body| *counts.entry(body).or_default() += 1);
    counts
}

/// A port that nothing listens on at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The program of the engine: `redis-server`, or what the environment names (`valkey-server` of another folder).
pub(crate) fn server() -> String {
    std::env::var("COUNTERSIGN_ENGINE_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// A Redis of this test alone, on a socket in a folder of its own.
pub(crate) struct Engine {
    /// Words before its command.
    within: Vec<String>,
    pub(crate) child: Child,
    pub(crate) folder: PathBuf,
}

impl Engine {
    /// Starts one with these options; nothing where there is no Redis.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        Self::start_within(&[], options)
    }

    /// The same by another command: `ip netns exec NAME`.
    pub(crate) fn start_within(within: &[&str], options: &[&str]) -> Option<Self> {
        let server = server();
        if Command::new(&server).arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("left out: {server} is not installed");
            return None;
        }
        let folder = folder();
        let within: Vec<String> = within.iter().map(|word| (*word).to_owned()).collect();
        let engine = Self { child: Self::spawn(&within, &folder, options), within, folder };
        engine.await_answer();
        Some(engine)
    }

    pub(crate) fn spawn(within: &[String], folder: &Path, options: &[&str]) -> Child {
        let words: Vec<String> = within.iter().cloned().chain([server()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"]);
        command.arg(folder.join("engine.sock")).arg("--dir").arg(folder).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the engine starts")
    }

    pub(crate) fn await_answer(&self) {
        eventually("an engine that answers", || {
            UnixStream::connect(self.socket()).is_ok() && !self.ask(&["PING"]).is_empty()
        });
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("engine.sock")
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// What it answers to a command, as it is written.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let mut text = format!("*{}\r\n", command.len());
        command.iter().for_each(|part| _ = write!(text, "${}\r\n{part}\r\n", part.len()));
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }

    /// Ends it, and starts another at the same place.
    pub(crate) fn restart(&mut self, options: &[&str]) {
        self.stop();
        self.child = Self::spawn(&self.within, &self.folder, options);
        self.await_answer();
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
        let _ = fs::remove_file(self.socket());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An application that says what it got, and answers when the test lets it.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    pub(crate) bodies: Receiver<String>,
}

pub(crate) fn application(answers: bool) -> Application {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, bodies) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            thread::spawn(move || {
                while let Some((_, body)) = message(&mut stream) {
                    let gone = tell.send(body).is_err();
                    if gone || !answers || stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err()
                    {
                        // One that does not answer keeps the connection until its other side goes.
                        let _ = stream.read(&mut [0]);
                        return;
                    }
                }
            });
        }
    });
    Application { address, bodies }
}

/// Head and body of a message with a `Content-Length`.
pub(crate) fn message(stream: &mut TcpStream) -> Option<(String, String)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let field = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned);
    let length = head.lines().find_map(field).map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

#[derive(Default)]
pub(crate) struct Ends(pub(crate) Mutex<Vec<(&'static str, String)>>);

impl Observer for Ends {
    fn exchange(&self, exchange: &Exchange<'_>) {
        self.0.lock().unwrap().push((exchange.outcome.code(), exchange.observed.to_string()));
    }

    fn accept_failed(&self, _: &std::io::Error) {}
}

/// What a configuration says beyond the usual.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'t> {
    pub(crate) shared: &'t str,
    pub(crate) upstream: &'t str,
    pub(crate) route: &'t str,
    pub(crate) keys: &'t [&'t str],
    pub(crate) workers: usize,
    pub(crate) driver: &'t str,
}

pub(crate) const USUAL: Terms<'static> =
    Terms { shared: "", upstream: "", route: "", keys: &[SECRET], workers: 2, driver: "auto" };

pub(crate) fn configure(engine: &str, application: &Application, terms: Terms<'_>) -> PathBuf {
    let folder = folder();
    let Terms { shared, upstream, route, keys, workers, driver } = terms;
    fs::write(folder.join("shared-key"), "0123456789abcdef".repeat(4)).unwrap();
    let keys: Vec<String> = keys.iter().map(|key| format!("{{ id = \"{}\", value = \"{key}\" }}", &key[..7])).collect();
    let text = format!(
        "[server]\nworkers = {workers}\ndriver = \"{driver}\"\ndrain_delay = \"0s\"\ndrain_grace = \"0s\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n[upstream]\naddress = \"{}\"\n{upstream}\n\
         [shared]\naddress = \"{engine}\"\nkey_file = \"shared-key\"\n{shared}\n\
         [[route]]\nname = \"hook\"\npath = \"/hook\"\nscheme = \"github\"\nsecrets = [{}]\n{route}\n",
        application.address,
        keys.join(", ")
    );
    let path = folder.join("countersign.toml");
    fs::write(&path, text).unwrap();
    path
}

/// A replica in this process.
pub(crate) struct Replica {
    pub(crate) running: Option<Running>,
    pub(crate) ends: Arc<Ends>,
    pub(crate) folder: PathBuf,
}

impl Replica {
    pub(crate) fn start(config: &Path) -> Self {
        let loaded = load(config).unwrap_or_else(|problems| panic!("{problems}"));
        let (plan, _) = plan(loaded);
        let ends = Arc::new(Ends::default());
        let observer: Arc<dyn Observer> = Arc::<Ends>::clone(&ends);
        let workers = plan.workers;
        let running = supervisor::start(plan, Witnesses::new(observer, workers)).unwrap();
        Self { running: Some(running), ends, folder: config.parent().unwrap().to_owned() }
    }

    pub(crate) fn of(engine: &Engine, application: &Application, terms: Terms<'_>) -> Self {
        Self::start(&configure(&engine.address(), application, terms))
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().addresses[0]
    }

    pub(crate) fn trouble(&self) -> Option<EngineTrouble> {
        self.running().engine.as_ref().unwrap().trouble()
    }

    pub(crate) fn counted(&self, ask: EngineAsk, end: EngineEnd) -> u64 {
        self.running().metrics.workers().iter().map(|cells| cells.engine.count(ask, end)).sum()
    }

    #[track_caller]
    pub(crate) fn await_engine(&self) {
        eventually("a replica that can ask its engine", || self.trouble().is_none());
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.running.take().map(Running::stop);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn signature(secret: &str, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    tag.as_ref().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Sends a delivery: the status and the whole head of the answer.
pub(crate) fn deliver_with(address: SocketAddr, secret: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: {}\r\nContent-Length: {}\r\n\r\n{body}",
        signature(secret, body),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (head, _) = message(&mut stream).expect("an answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
}

pub(crate) fn deliver(address: SocketAddr, body: &str) -> u16 {
    deliver_with(address, SECRET, body).0
}

pub(crate) const DRIVERS: [&str; 2] = ["auto", "epoll"];
