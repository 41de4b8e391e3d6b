//! The durable inbox from end to end: the process, real sockets, real files, on both drivers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ring::hmac;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
const PATIENCE: Duration = Duration::from_secs(30);
const DRIVERS: [&str; 2] = ["auto", "epoll"];

/// An application that answers with these statuses, and then with 200.
struct Application {
    address: SocketAddr,
    requests: Receiver<String>,
}

fn application(address: &str, statuses: &[u16]) -> Application {
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
    fn heard(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("the application is called")
    }

    fn is_quiet(&self) -> bool {
        self.requests.recv_timeout(Duration::from_millis(300)).is_err()
    }
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-inbox-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("secret"), SECRET).unwrap();
        Self(path)
    }

    fn configure(&self, driver: &str, upstream: SocketAddr, more: &str) -> PathBuf {
        let path = self.0.join("countersign.toml");
        let text = format!(
            "[server]\nworkers = 1\ndriver = \"{driver}\"\ndrain_grace = \"5s\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n[upstream]\naddress = \"{upstream}\"\n\
             [inbox]\ndirectory = \"box\"\nsize = \"64MiB\"\ndeliveries = 2048\n\
             [[route]]\npath = \"/hook\"\nscheme = \"github\"\nsecrets = [{{ id = \"1\", file = \"secret\" }}]\n\
             acknowledge = \"durable\"\ndelivery = {{ backoff = \"50ms..200ms\"{more} }}\n\
             [[route]]\npath = \"/direct\"\nscheme = \"github\"\nsecrets = [{{ id = \"1\", file = \"secret\" }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running process; killed when dropped.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&lines);
        thread::spawn(move || errors.lines().map_while(Result::ok).for_each(|line| written.lock().unwrap().push(line)));
        Self { child, lines }
    }

    fn await_line(&self, text: &str) -> String {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            pause();
        }
        panic!("no {text:?} in {:#?}", self.lines.lock().unwrap());
    }

    /// Where it listens, once its inbox is open.
    fn open(&self) -> SocketAddr {
        self.await_line("the inbox is open");
        self.address()
    }

    fn address(&self) -> SocketAddr {
        self.await_line("listening on ").rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    fn stop(mut self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.lines.lock().unwrap());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pause() {
    thread::sleep(Duration::from_millis(20));
}

fn send(address: SocketAddr, path: &str, body: &str) -> String {
    send_signed(address, path, body, body)
}

fn send_signed(address: SocketAddr, path: &str, body: &str, signed: &str) -> String {
    send_by(SECRET, address, path, (body, signed))
}

fn send_by(secret: &str, address: SocketAddr, path: &str, (body, signed): (&str, &str)) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: hooks.example\r\nX-Hub-Signature-256: sha256={hex}\r\nX-Countersign-Attempt: 9\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    message(&mut stream).expect("an answer")
}

fn field<'m>(message: &'m str, name: &str) -> &'m str {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_else(|| panic!("{message}"))
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

/// An address at which nothing listens.
fn away() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_delivery_is_acknowledged_at_once_and_delivered_until_it_is_accepted() {
    for driver in DRIVERS {
        let folder = Folder::new(&format!("accepted-{driver}"));
        let application = application("127.0.0.1:0", &[503, 500]);
        let process = Process::start(&folder.configure(driver, application.address, ""));
        let address = process.open();
        let answer = send(address, "/hook", "{\"n\":1}");
        assert_eq!(status(&answer), "202", "{answer}");
        assert!(answer.contains("{\"status\":\"accepted\","), "{answer}");
        let id = field(&answer, "X-Countersign-Delivery").to_owned();
        for attempt in ["1", "2", "3"] {
            let request = application.heard();
            assert!(request.starts_with("POST /hook HTTP/1.1\r\nHost: hooks.example\r\n"), "{request}");
            assert!(request.ends_with("\r\n\r\n{\"n\":1}"), "{request}");
            assert_eq!(field(&request, "X-Countersign-Delivery"), id);
            assert_eq!(field(&request, "X-Countersign-Attempt"), attempt, "and not what the client claims");
            assert!(field(&request, "X-Countersign-Accepted").ends_with('Z'), "{request}");
            assert_eq!(field(&request, "X-Countersign-Route"), "hook");
        }
        assert_eq!(status(&send(address, "/hook", "{\"n\":1}")), "200", "a copy");
        assert_eq!(status(&send_signed(address, "/hook", "{\"n\":2}", "other")), "401", "a forgery");
        assert!(application.is_quiet());
        assert_eq!(status(&send(address, "/direct", "{\"n\":1}")), "200", "another route, answered by the application");
        assert!(application.heard().starts_with("POST /direct "));
        process.stop();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_so_does_the_memory_of_it() {
    for driver in DRIVERS {
        let folder = Folder::new(&format!("killed-{driver}"));
        let upstream = away();
        let config = folder.configure(driver, upstream, "");
        let process = Process::start(&config);
        let address = process.open();
        let ids: Vec<String> = (0..20)
            .map(|at| {
                let answer = send(address, "/hook", &format!("{{\"n\":{at}}}"));
                assert_eq!(status(&answer), "202", "{answer}");
                field(&answer, "X-Countersign-Delivery").to_owned()
            })
            .collect();
        process.kill();
        let process = Process::start(&config);
        let address = process.open();
        process.await_line("20 deliveries wait");
        assert_eq!(status(&send(address, "/hook", "{\"n\":3}")), "200", "a copy");
        let application = application(&upstream.to_string(), &[]);
        let mut delivered: Vec<String> =
            (0..20).map(|_| field(&application.heard(), "X-Countersign-Delivery").to_owned()).collect();
        delivered.sort_unstable();
        assert_eq!(delivered, ids);
        assert!(application.is_quiet());
        process.stop();
        let process = Process::start(&config);
        let address = process.open();
        process.await_line("0 deliveries wait");
        assert_eq!(status(&send(address, "/hook", "{\"n\":3}")), "200", "a copy of what was delivered");
        process.stop();
    }
}

#[test]
fn a_copy_is_recognised_after_a_kill_whichever_key_of_the_route_was_removed() {
    const NEXT: &str = "another-battery-staple-0123456789";
    let entry = |id: u8, file: &str| format!("{{ id = \"{id}\", file = \"{file}\" }}");
    for kept in [entry(2, "next"), entry(2, "next") + ", " + &entry(1, "secret"), entry(1, "secret")] {
        let folder = Folder::new("rotated");
        std::fs::write(folder.0.join("next"), NEXT).unwrap();
        let with_keys = |keys: &str| {
            let config = folder.configure("auto", away(), "");
            let text = std::fs::read_to_string(&config).unwrap().replacen(&entry(1, "secret"), keys, 1);
            let unfinished = folder.0.join("unfinished");
            std::fs::write(&unfinished, text).unwrap();
            std::fs::rename(unfinished, &config).unwrap();
            config
        };
        let process = Process::start(&with_keys(&entry(1, "secret")));
        let address = process.open();
        assert_eq!(status(&send(address, "/hook", "{\"n\":0}")), "202");
        with_keys(&(entry(1, "secret") + ", " + &entry(2, "next")));
        let begun = Instant::now();
        while status(&send_by(NEXT, address, "/hook", ("{\"n\":1}", "{\"n\":1}"))) == "401" {
            assert!(begun.elapsed() < PATIENCE, "the new key does not come into force");
            pause();
        }
        for body in ["{\"n\":2}", "{\"n\":3}"] {
            assert_eq!(status(&send(address, "/hook", body)), "202");
        }
        process.kill();
        let process = Process::start(&with_keys(&kept));
        let address = process.open();
        // Signed with either key: it is the same delivery, and one of the keys may not count any more.
        for body in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"] {
            let answers = [SECRET, NEXT].map(|secret| send_by(secret, address, "/hook", (body, body)));
            let statuses = answers.each_ref().map(|answer| status(answer));
            assert!(statuses.contains(&"200") && !statuses.contains(&"202"), "{kept}: {body}: {statuses:?}");
        }
        process.kill();
    }
}

#[test]
fn attempts_stand_in_the_access_log_and_the_audit_trail() {
    let folder = Folder::new("recorded");
    let application = application("127.0.0.1:0", &[500, 200, 410]);
    let config = folder.configure("auto", application.address, "");
    std::fs::write(folder.0.join("seal"), SECRET).unwrap();
    let (log, trail) = (folder.0.join("access.log"), folder.0.join("audit.jsonl"));
    let more = format!(
        "[access_log]\noutput = \"{}\"\n[audit]\nfile = \"{}\"\nkey = {{ id = \"k\", file = \"seal\" }}\n",
        log.display(),
        trail.display()
    );
    let text = std::fs::read_to_string(&config).unwrap() + &more;
    std::fs::write(&config, text).unwrap();
    let process = Process::start(&config);
    let address = process.open();
    let answers = ["{\"n\":1}", "{\"n\":2}"].map(|body| {
        let answer = send(address, "/hook", body);
        assert_eq!(status(&answer), "202", "{answer}");
        (0..if body.contains('1') { 2 } else { 1 }).for_each(|_| _ = application.heard());
        answer
    });
    process.stop();
    for file in [log, trail] {
        let written = std::fs::read_to_string(&file).unwrap();
        let attempts: Vec<&str> = written.lines().filter(|line| line.contains("\"event\":\"attempt\"")).collect();
        let expected = [
            (0, "\"attempt\":1,\"outcome\":\"again\",\"reason\":\"answered\",\"status\":500"),
            (0, "\"attempt\":2,\"outcome\":\"delivered\",\"reason\":\"delivered\",\"status\":200"),
            (1, "\"attempt\":1,\"outcome\":\"dead\",\"reason\":\"refused_by_application\",\"status\":410"),
        ];
        assert_eq!(attempts.len(), expected.len(), "{written}");
        for (line, (answer, part)) in attempts.iter().zip(expected) {
            let (id, request) =
                (field(&answers[answer], "X-Countersign-Delivery"), field(&answers[answer], "X-Request-Id"));
            let named = format!("\"request_id\":\"{request}\",\"route\":\"hook\",\"delivery\":\"{id}\",{part}");
            assert!(line.contains(&named), "{named}\n{line}");
        }
    }
}

/// A request as a browser makes it, of a page that came from `origin`.
fn browse(admin: SocketAddr, request: &str, origin: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: {admin}\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    message(&mut stream).expect("an answer")
}

#[test]
fn a_dead_letter_is_redriven_from_the_status_page_and_from_no_other() {
    let folder = Folder::new("page");
    let application = application("127.0.0.1:0", &[410]);
    let config = folder.configure("auto", application.address, "");
    let text = std::fs::read_to_string(&config).unwrap() + "[admin]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(&config, text).unwrap();
    let process = Process::start(&config);
    let address = process.open();
    let admin: SocketAddr = process.await_line("admin port at ").rsplit(' ').next().unwrap().parse().unwrap();
    let own = format!("http://{admin}");
    let answer = send(address, "/hook", "{}");
    let id = field(&answer, "X-Countersign-Delivery");
    assert_eq!(field(&application.heard(), "X-Countersign-Delivery"), id);
    let page = browse(admin, "GET /", &own);
    assert!(page.contains("fetch(\"/-/inbox/redrive?\" + query, { method: \"POST\""), "{page}");
    let begun = Instant::now();
    while !browse(admin, "GET /inbox?state=dead&limit=10", &own).contains(id) {
        assert!(begun.elapsed() < PATIENCE, "no dead letter");
        pause();
    }
    let redrive = format!("/-/inbox/redrive?id={id}");
    assert_eq!(status(&browse(admin, &format!("POST {redrive}"), "http://evil.example")), "403");
    assert_eq!(status(&browse(admin, "GET /inbox?state=dead&limit=10", "http://evil.example")), "403");
    assert_eq!(status(&browse(admin, &format!("GET {redrive}"), &own)), "405");
    assert!(application.is_quiet());
    let answer = browse(admin, &format!("POST {redrive}"), &own);
    assert!(status(&answer) == "200" && answer.contains(id), "{answer}");
    let request = application.heard();
    assert_eq!((field(&request, "X-Countersign-Delivery"), field(&request, "X-Countersign-Attempt")), (id, "1"));
    assert_eq!(field(&request, "X-Countersign-Redriven"), "true");
    process.stop();
}

#[test]
fn what_operators_do_stands_in_the_audit_trail_and_in_the_log() {
    let folder = Folder::new("operated");
    let application = application("127.0.0.1:0", &[410, 410]);
    let config = folder.configure("auto", application.address, "");
    std::fs::write(folder.0.join("seal"), SECRET).unwrap();
    let trail = folder.0.join("audit.jsonl");
    let more = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n[audit]\nfile = \"{}\"\nkey = {{ id = \"k\", file = \"seal\" }}\n",
        trail.display()
    );
    let text = std::fs::read_to_string(&config).unwrap() + &more;
    std::fs::write(&config, text).unwrap();
    let process = Process::start(&config);
    let address = process.open();
    let admin: SocketAddr = process.await_line("admin port at ").rsplit(' ').next().unwrap().parse().unwrap();
    let own = format!("http://{admin}");
    let answers = ["1", "2"].map(|body| send(address, "/hook", body));
    let [first, second] = answers.each_ref().map(|answer| field(answer, "X-Countersign-Delivery"));
    (0..2).for_each(|_| _ = application.heard());
    let begun = Instant::now();
    while browse(admin, "GET /inbox?state=dead", &own).matches("\"id\":").count() < 2 {
        assert!(begun.elapsed() < PATIENCE, "no dead letters");
        pause();
    }
    for request in [
        "POST /-/inbox/hold?route=hook".to_owned(),
        "POST /-/inbox/redrive?route=hook&dry=1".to_owned(),
        format!("POST /-/inbox/redrive?id={first}&state=dead"),
        format!("GET /inbox/{first}"),
        format!("GET /inbox/{second}/message"),
        format!("POST /-/inbox/purge?id={second}"),
        "POST /-/inbox/release?route=no%20such".to_owned(),
        "POST /-/inbox/release?route=hook".to_owned(),
    ] {
        let answer = browse(admin, &request, &own);
        assert_eq!(status(&answer), "200", "{request}: {answer}");
    }
    application.heard();
    let logged = process.await_line("released, asked by 127.0.0.1:");
    assert!(logged.is_ascii() && !logged.contains('\u{1b}'), "{logged}");
    process.await_line(&format!("inbox: 1 deliveries (id={first}&state=dead) redriven, asked by 127.0.0.1:"));
    process.stop();
    let written = std::fs::read_to_string(&trail).unwrap();
    let records: Vec<&str> = written.lines().filter(|line| line.contains("\"event\":\"inbox\"")).collect();
    let one = |id: &str| format!("\"count\":1,\"deliveries\":[\"{id}\"]");
    let expected = [
        ("held", "\"meant\":\"route=hook\",\"count\":0".to_owned()),
        ("redriven", format!("\"meant\":\"id={first}&state=dead\",{}", one(first))),
        ("shown", one(first)),
        ("exported", one(second)),
        ("purged", format!("\"meant\":\"id={second}\",{}", one(second))),
        ("released", "\"meant\":\"route=no%20such\"".to_owned()),
        ("released", "\"meant\":\"route=hook\"".to_owned()),
    ];
    assert_eq!(records.len(), expected.len(), "{records:#?}");
    for (record, (action, part)) in records.iter().zip(&expected) {
        assert!(record.contains(&format!("\"action\":\"{action}\",\"by\":\"127.0.0.1:")), "{record}");
        assert!(record.contains(", user ") && record.contains(part), "{part} in {record}");
    }
    let verify = ["audit", "verify", "--key-file", "seal", "--key-id", "k", "audit.jsonl"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let verified = command.args(verify).current_dir(&folder.0).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn an_inbox_that_cannot_be_opened_refuses_its_routes_and_no_others() {
    let folder = Folder::new("closed");
    let application = application("127.0.0.1:0", &[]);
    let config = folder.configure("auto", application.address, "");
    // A file where the directory should be.
    std::fs::write(folder.0.join("box"), "").unwrap();
    let process = Process::start(&config);
    process.await_line("cannot be opened");
    let address = process.address();
    let answer = send(address, "/hook", "{}");
    assert_eq!(status(&answer), "503", "{answer}");
    assert!(field(&answer, "Retry-After").parse::<u32>().is_ok());
    assert_eq!(status(&send(address, "/direct", "{}")), "200");
    assert!(application.heard().starts_with("POST /direct "));
    std::fs::remove_file(folder.0.join("box")).unwrap();
    process.await_line("the inbox is open");
    assert_eq!(status(&send(address, "/hook", "{}")), "202", "what was refused is no copy");
    assert!(application.heard().starts_with("POST /hook "));
    assert!(application.is_quiet());
    process.stop();
}

#[test]
fn a_reload_changes_where_and_how_deliveries_go() {
    let folder = Folder::new("reload");
    let config = folder.configure("auto", away(), "");
    let process = Process::start(&config);
    let address = process.open();
    assert_eq!(status(&send(address, "/hook", "{}")), "202");
    let application = application("127.0.0.1:0", &[400]);
    folder.configure("auto", application.address, ", dead_on = [410]");
    // Twice: after the first answer it would be a dead letter by the former list.
    application.heard();
    application.heard();
    process.stop();
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter_map(|path| std::fs::read(&path).ok().map(|bytes| (path, bytes))).collect()
}

#[test]
fn stored_deliveries_are_encrypted_and_keys_rotate_while_the_process_runs() {
    let folder = Folder::new("encryption");
    let file = |name: &str, content: &str| std::fs::write(folder.0.join(name), content).unwrap();
    file("key-a", &"5a01".repeat(16));
    file("key-b", &"6b02".repeat(16));
    let encrypt = |upstream: SocketAddr, keys: &[&str]| {
        let config = folder.configure("auto", upstream, "");
        let text = std::fs::read_to_string(&config).unwrap();
        let keys: Vec<String> = keys.iter().map(|id| format!("{{ id = \"{id}\", file = \"key-{id}\" }}")).collect();
        let with = format!("deliveries = 2048\nencryption = {{ keys = [{}] }}\n", keys.join(", "));
        // In one step, as editors do.
        let new = config.with_extension("new");
        std::fs::write(&new, text.replace("deliveries = 2048\n", &with)).unwrap();
        std::fs::rename(new, &config).unwrap();
        config
    };
    let config = encrypt(away(), &["a"]);
    let process = Process::start(&config);
    let address = process.open();
    assert_eq!(status(&send(address, "/hook", "{\"a\":\"secret in the body\"}")), "202");
    let stored = files(&folder.0.join("box"));
    assert!(stored.iter().any(|(path, _)| path.extension().is_some_and(|it| it == "redb")), "{stored:?}");
    let in_clear = |text: &str| {
        let holds = |(_, bytes): &(PathBuf, Vec<u8>)| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        files(&folder.0.join("box")).iter().any(holds)
    };
    assert!(!in_clear("secret in the body") && !in_clear("POST /hook") && !in_clear("hooks.example"));
    // Another key, without a restart: what is there is encrypted anew.
    encrypt(away(), &["b", "a"]);
    process.await_line("[inbox] changed");
    process.await_line("encrypted with the first key");
    assert_eq!(status(&send(address, "/hook", "{\"b\":\"secret in the body\"}")), "202");
    assert!(!in_clear("secret in the body"));
    process.kill();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign")).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (place, directory) = (config.to_str().unwrap(), folder.0.join("box"));
    let directory = directory.to_str().unwrap();
    // The commands take the keys from the configuration.
    encrypt(away(), &["b"]);
    let (code, out, err) = run(&["inbox", "verify", directory, "--config", place]);
    assert!(code == 0 && out.contains("encrypted with the key \"b\"") && !out.contains("\"a\""), "{out}{err}");
    let exported = folder.0.join("exported");
    let (code, out, err) =
        run(&["inbox", "export", exported.to_str().unwrap(), "--directory", directory, "--config", place]);
    assert!(code == 0 && out.contains("2 deliveries"), "{out}{err}");
    assert_eq!(files(&exported).iter().filter(|(_, it)| it.ends_with(b"secret in the body\"}")).count(), 2);
    let (code, out, err) = run(&["check", place]);
    assert!(code == 0 && out.contains("encrypted with the key \"b\""), "{out}{err}");
    // A key that is another one under the same id is found out, and nothing is lost.
    file("key-b", &"0102".repeat(16));
    let (code, out, _) = run(&["inbox", "verify", directory, "--config", place]);
    assert!(code == 1 && out.contains("another key than the one that is given as \"b\""), "{out}");
    // Half of the digits: the file was cut off.
    file("key-b", &"6b02".repeat(8));
    let (_, out, err) = run(&["check", place]);
    assert!((out + &err).contains("holds 32 hexadecimal digits, which count as 32 bytes"), "a warning");
    file("key-b", "too short");
    let (code, out, err) = run(&["check", place]);
    let told = out + &err;
    assert!(code == 1 && told.contains("holds no key") && told.contains("openssl rand -hex 32"), "{told}");
    let (code, _, err) = run(&["inbox", "list", "--directory", directory, "--config", place]);
    assert!(code == 2 && err.contains("holds no key"), "{err}");
    file("key-b", &"6b02".repeat(16));
    let application = application("127.0.0.1:0", &[]);
    let process = Process::start(&encrypt(application.address, &["b"]));
    let mut heard = [application.heard(), application.heard()];
    heard.sort_by_key(|request| request.ends_with("{\"b\":\"secret in the body\"}"));
    assert!(heard[0].ends_with("{\"a\":\"secret in the body\"}"), "{heard:?}");
    assert!(heard[1].ends_with("{\"b\":\"secret in the body\"}"), "{heard:?}");
    process.stop();
}
