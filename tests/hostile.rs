//! Refused requests with hostile bytes in them, by the hundred thousand, through the connection loop in memory and into
//! the access log: every line is valid JSON, the log stays within its rate, and memory stays where it was.
//!
//! The usual run is a small one; `cargo test --release --test hostile -- --ignored` sends a million.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::hash::RandomState;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use countersign::config::load::load;
use countersign::control::Writers;
use countersign::control::access_log::AccessLog;
use countersign::control::event_log::EventLog;
use countersign::control::plan::plan;
use countersign::edge::clock::Clock;
use countersign::edge::peer::PeerOrigin;
use countersign::edge::pipe::VirtualNet;
use countersign::edge::serve;
use countersign::edge::snapshot::Published;
use countersign::edge::worker::{Observer, Shared, Worker};
use countersign::gate::admission::Admission;
use countersign::telemetry::exchange::Exchange;
use countersign::telemetry::metrics::Metrics;
use serde_json::Value;

/// Requests that a connection sends at once.
const BATCH: usize = 4;

struct Log(AccessLog);

impl Observer for Log {
    fn exchange(&self, exchange: &Exchange<'_>) {
        self.0.exchange(exchange);
    }
    fn accept_failed(&self, _: &io::Error) {}
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes that look random, the same every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    /// Anything that does not end the line that it stands in: most of it printable, some of it not.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let byte = |noise: &mut Self| match noise.next() % 4 {
            0 => (noise.next() as u8).max(b' '),
            1 => b"\"\\{}<>%\xff\xc3\x80~;"[noise.next() as usize % 12],
            _ => b'a' + (noise.next() % 26) as u8,
        };
        (0..length).map(|_| byte(self)).collect()
    }
}

/// A request that is refused: forged, malformed, or for no route.
fn request(noise: &mut Noise) -> Vec<u8> {
    let path = match noise.next() % 4 {
        0 => [b"/".as_slice(), &noise.bytes(20)].concat(),
        1 => b"/%22%00%0a%1b".to_vec(),
        _ => b"/hook".to_vec(),
    };
    let length = noise.next() as usize % 60;
    let (query, value, signature) = (noise.bytes(length), noise.bytes(length), noise.bytes(64));
    [
        b"POST ",
        path.as_slice(),
        b"?",
        &query,
        b" HTTP/1.1\r\nHost: x\r\nX-GitHub-Delivery: ",
        &value,
        b"\r\nX-Hub-Signature-256: sha256=",
        &signature,
        b"\r\nContent-Length: 2\r\n\r\n{}",
    ]
    .concat()
}

fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Sends so many requests, and gives how many exchanges there were and the lines of the log.
fn run(name: &str, refused: &str, requests: u64) -> (u64, PathBuf, Folder) {
    let folder = Folder(std::env::temp_dir().join(format!("countersign-hostile-{name}-{}", std::process::id())));
    fs::create_dir_all(&folder.0).unwrap();
    let config = folder.0.join("countersign.toml");
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:1\"\n[limits]\nunverified_per_client = {{ rate = \"1000000/s\", burst = 1000000 }}\n\
         [[route]]\nname = \"hook\"\npath = \"/hook\"\nscheme = \"github\"\nupstream = \"127.0.0.1:2\"\n\
         replay = {{ mode = \"off\" }}\nsecrets = [{{ id = \"k\", value = \"correct-horse-battery-staple\" }}]\n\
         [access_log]\noutput = \"access.jsonl\"\nrefused = \"{refused}\"\nquery = true\n"
    );
    fs::write(&config, text).unwrap();
    let loaded = load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    let writers = Writers { workers: 1, delivers: false };
    let log = AccessLog::start(&loaded.settings.access_log, writers, Arc::new(EventLog::start())).unwrap().unwrap();
    let (plan, _) = plan(loaded);
    let admission = Admission::new(plan.admission, RandomState::new());
    let log = Arc::new(Log(log));
    let observer: Arc<dyn Observer> = Arc::<Log>::clone(&log);
    let net = VirtualNet::new(usize::MAX, None);
    let shared = Shared {
        policy: Arc::new(Published::new(plan.policy)),
        clock: Clock::start(),
        observer,
        pseudonym: Arc::from(&b"countersign-0"[..]),
        spool: None,
        admission: Arc::new(admission),
        metrics: Metrics::new(1),
    };
    let worker = Rc::new(Worker::new(net.clone(), &shared, 0));
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let (mut answers, mut warm) = (0_u64, 0);
    let mut batch = 0;
    while answers < requests {
        let input: Vec<u8> = (0..BATCH).flat_map(|_| request(&mut noise)).collect();
        // A request that cannot be told from the next one ends its connection: the rest goes over another.
        let client = net.client(&input, true);
        let outbox = Rc::clone(&client.outbox);
        let permit = worker.open(PeerOrigin::default()).unwrap();
        net.run(serve::serve(Rc::clone(&worker), client, PeerOrigin::default(), permit));
        let out = outbox.borrow();
        answers += memchr::memmem::find_iter(&out, b"HTTP/1.1 ").count() as u64;
        assert!(memchr::memmem::find(&out, b"HTTP/1.1 200").is_none());
        drop(out);
        if warm == 0 && answers > requests / 4 {
            warm = resident();
        }
        batch += 1;
        if batch % 500 == 0 {
            assert!(log.0.flush());
        }
    }
    let grown = resident().saturating_sub(warm);
    assert!(grown < 8 << 20, "memory has grown by {grown} bytes");
    assert!(log.0.flush());
    (answers, folder.0.join("access.jsonl"), folder)
}

/// Lines about exchanges, lines left out, lines lost; every line must be valid JSON.
fn count(path: &Path) -> (u64, u64, u64) {
    let (mut exchanges, mut left_out, mut lost) = (0, 0, 0);
    for line in BufReader::new(fs::File::open(path).unwrap()).split(b'\n') {
        let line = line.unwrap();
        let read: Value = serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        if read["event"].is_null() {
            assert!(read["reason"].is_string() && read["outcome"] != "passed", "{read}");
            exchanges += 1;
        } else {
            left_out += read["left_out"].as_u64().unwrap();
            lost += read["lost"].as_u64().unwrap();
        }
    }
    (exchanges, left_out, lost)
}

fn flood(name: &str, requests: u64) {
    // As many lines as there are requests: whatever they are made of, they are lines.
    let (answers, path, _folder) = run(&format!("{name}-all"), "1000000/s", requests);
    let (exchanges, left_out, lost) = count(&path);
    println!("{answers} refused, {exchanges} lines, {left_out} left out, {lost} lost");
    assert_eq!(exchanges + left_out + lost, answers);
    assert!(exchanges > answers / 2);
    // At the usual rate: time stands still in memory, so what may be written at once is all that is written.
    let (answers, path, _folder) = run(&format!("{name}-few"), "100/s", requests);
    let (exchanges, left_out, lost) = count(&path);
    println!("{answers} refused, {exchanges} lines, {left_out} left out, {lost} lost");
    assert_eq!((exchanges, lost), (200, 0));
    assert_eq!(exchanges + left_out, answers);
}

#[test]
fn twenty_thousand_hostile_requests() {
    flood("small", 20_000);
}

#[test]
#[ignore = "takes a minute without optimisation"]
fn a_million_hostile_requests() {
    flood("large", 1_000_000);
}
