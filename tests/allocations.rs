//! A request costs no allocation: counted by an allocator that wraps the system's, between two requests of the same kind
//! on connections that are warm. One test, because the counters are those of the whole process: of the worker, of the
//! thread that writes the access log, and of whatever else may run beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use countersign::control::durable::gate::{GateState, SpoolGate};
use countersign::control::event_log::EventLog;
use countersign::control::inbox::spooler::Spooler;
use countersign::control::records::Records;
use countersign::control::supervisor::{self, Witnesses};
use countersign::edge::clock::Clock;
use countersign::edge::deliver::Mailbox;
use countersign::edge::driver::{Driver, probe};
use countersign::edge::spool::{SpoolOffer, SpoolSide, SpoolTicket, SpoolVerdict};
use countersign::edge::worker::Observer;
use countersign::gate::limits::AdmissionLimits;
use countersign::gate::token_bucket::Rate;
use countersign::inbox::memory::MemoryStore;
use countersign::ledger::shared::{EngineKey, LeaseBook, SharedRate, TokenAnswer, TokenWait};
use countersign::outcome::Rejection;
use countersign::telemetry::exchange::Exchange;
use countersign::telemetry::suspicion::Suspicion;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use world::{Kind, LAST, REPLY, Scribe, World, delivery};

#[path = "../benches/world/mod.rs"]
mod world;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests before it is counted: buffers have found their sizes, pools are filled.
const WARM_UP: usize = 64;

/// Requests that are counted.
const COUNTED: usize = 64;

/// How often they are counted on real sockets until nothing is found. When more happens at the same moment than ever
/// before, pools grow; a connection that this machine has left alone for a quarter of a second is parked. Both may happen at
/// any time, but not with every request.
const ATTEMPTS: usize = 16;

/// Connections at a time on real sockets.
const CONNECTIONS: usize = 4;

/// Allocations of the process so far.
fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// A kind of request.
struct Case {
    name: &'static str,
    kind: Kind,
    size: usize,
    /// Every delivery is number 0, which the first case of all has had accepted before.
    repeated: bool,
    /// How all of them have to end, once they are warm.
    code: &'static str,
}

const fn case(name: &'static str, kind: Kind, size: usize, code: &'static str) -> Case {
    Case { name, kind, size, repeated: false, code }
}

const CASES: [Case; 10] = [
    case("forwarded, 256 B", Kind::Genuine, 256, "forwarded"),
    case("forwarded, 8 KiB", Kind::Genuine, 8 << 10, "forwarded"),
    case("forwarded, 64 KiB", Kind::Genuine, 64 << 10, "forwarded"),
    case("chunked, 256 B", Kind::Chunked, 256, "forwarded"),
    case("chunked, 8 KiB", Kind::Chunked, 8 << 10, "forwarded"),
    case("chunked, 64 KiB", Kind::Chunked, 64 << 10, "forwarded"),
    case("refused before the body, 256 B", Kind::Unsigned, 256, "signature_missing"),
    case("refused after verification, 256 B", Kind::Forged, 256, "signature_mismatch"),
    case("refused after verification, 8 KiB", Kind::Forged, 8 << 10, "signature_mismatch"),
    Case { name: "duplicate, 256 B", kind: Kind::Genuine, size: 256, repeated: true, code: "duplicate" },
];

/// On a route whose deliveries are stored.
const STORED: [Case; 4] = [
    case("stored, 256 B", Kind::Genuine, 256, "accepted"),
    case("stored, 2 KiB", Kind::Genuine, 2 << 10, "accepted"),
    case("stored, 64 KiB", Kind::Genuine, 64 << 10, "accepted"),
    case("not stored: refused after verification, 2 KiB", Kind::Forged, 2 << 10, "signature_mismatch"),
];

impl Case {
    /// So many deliveries, from number `first` on.
    fn deliveries(&self, first: usize, count: usize) -> Vec<Vec<u8>> {
        let number = |at: usize| if self.repeated { 0 } else { first + at };
        (0..count).map(|at| delivery(self.kind, self.size, number(at))).collect()
    }

    const fn status(&self) -> &'static str {
        if matches!(self.kind, Kind::Unsigned | Kind::Forged) { "HTTP/1.1 401 " } else { "HTTP/1.1 200 " }
    }
}

#[test]
fn no_request_allocates() {
    let mut wrong = Vec::new();
    let mut note = |place: &str, case: &Case, count: usize| {
        let line = format!("{place}, {}: {count} allocations in {COUNTED} requests", case.name);
        println!("{line}");
        wrong.extend((count > 0).then_some(line));
    };
    for case in &CASES {
        note("in memory", case, in_memory(case, false));
        note("in memory, pipelined", case, in_memory(case, true));
    }
    for case in &STORED {
        note("in memory", case, stored(case));
    }
    for driver in [Driver::Epoll, Driver::IoUring] {
        match (driver, probe()) {
            (Driver::IoUring, Err(why)) => println!("left out: {why}"),
            _ => on_sockets(driver, |case, count| note(driver.name(), case, count)),
        }
    }
    let count = tokens();
    wrong.extend((count > 0).then(|| format!("tokens of a shared rate: {count} allocations")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Allocations of deliveries that take tokens of a shared rate, the requests for more and their answers among them.
fn tokens() -> usize {
    let key = EngineKey::new(&[7; 32], "cs1:");
    let mut book = LeaseBook::new(1, 0, 1, Duration::from_millis(50));
    book.connected(0, Duration::ZERO);
    let route = SharedRate { position: 0, name: "hook", rate: Rate::per_second(1000, 2000) };
    let (mut out, mut before, mut taken) = (Vec::new(), 0, 0);
    for number in 0..8 * ALL {
        if number == 4 * ALL {
            (before, taken) = (allocations(), 0);
        }
        let now = Duration::from_micros(number as u64);
        let token = book.take_token(&key, route, TokenWait { since: now, now }, Waker::noop());
        taken += usize::from(token == Poll::Ready(TokenAnswer::Taken));
        out.clear();
        book.send(0, &mut out, &key, now);
        if !out.is_empty() {
            book.answered(0, b"*2\r\n:50\r\n:0\r\n", now).unwrap();
        }
    }
    let count = allocations() - before;
    assert_eq!(taken, 4 * ALL);
    count
}

const ALL: usize = WARM_UP + COUNTED;

/// The thread of the store, on the thread of the worker: what it allocates is left out of the count.
struct StoreBeside {
    gate: Arc<SpoolGate>,
    store: Mutex<Spooler>,
    allocated: Arc<AtomicUsize>,
    _ear: UnixStream,
}

impl StoreBeside {
    fn new(allocated: Arc<AtomicUsize>) -> Self {
        let gate = SpoolGate::new(1).unwrap();
        let (mailbox, ear) = Mailbox::new().unwrap();
        let store = Box::new(MemoryStore::new(1 << 20, 1 << 10));
        let door = Arc::clone(gate.door());
        let spooler = Spooler { store, door, mailbox, clock: Clock::start(), batch_bytes: 1 << 20 };
        gate.set(GateState::Open);
        Self { gate, store: Mutex::new(spooler), allocated, _ear: ear }
    }
}

impl SpoolSide for StoreBeside {
    fn submit(&self, worker: usize, offer: &SpoolOffer<'_>) -> Result<SpoolTicket, Rejection> {
        let ticket = self.gate.submit(worker, offer)?;
        let before = allocations();
        self.store.lock().unwrap().round();
        self.allocated.fetch_add(allocations() - before, Ordering::Relaxed);
        Ok(ticket)
    }

    fn verdict(&self, worker: usize, ticket: SpoolTicket) -> Option<SpoolVerdict> {
        self.gate.verdict(worker, ticket)
    }

    fn withdraw(&self, worker: usize, ticket: SpoolTicket) -> bool {
        self.gate.withdraw(worker, ticket)
    }

    fn forget(&self, worker: usize, ticket: SpoolTicket) {
        self.gate.forget(worker, ticket);
    }

    fn changes(&self, worker: usize) -> Option<UnixStream> {
        self.gate.changes(worker)
    }
}

/// The same as [`in_memory`] on a route whose deliveries are stored.
fn stored(case: &Case) -> usize {
    let of_store = Arc::<AtomicUsize>::default();
    let side = Arc::new(StoreBeside::new(Arc::clone(&of_store)));
    let (scribe, marks) = between_marks(case, of_store);
    let input = case.deliveries(0, ALL).concat();
    World::durable(input.len() / ALL, Arc::new(scribe), side).converse(&input);
    difference(&marks)
}

/// Allocations between the last request of the warm-up and the last of all, on one connection.
fn in_memory(case: &Case, pipelined: bool) -> usize {
    let (scribe, marks) = between_marks(case, Arc::default());
    let input = case.deliveries(0, ALL).concat();
    let grain = if pipelined { usize::MAX } else { input.len() / ALL };
    World::new(grain, ALL, Arc::new(scribe)).converse(&input);
    difference(&marks)
}

type Marks = Arc<[AtomicUsize; 3]>;

fn difference(marks: &Marks) -> usize {
    let [ended, first, last] = &**marks;
    assert_eq!(ended.load(Ordering::Relaxed), ALL, "every request was answered");
    last.load(Ordering::Relaxed) - first.load(Ordering::Relaxed)
}

/// Counts requests, and allocations without those that `others` counts.
fn between_marks(case: &Case, others: Arc<AtomicUsize>) -> (Scribe<impl Fn(&Exchange<'_>) + use<>>, Marks) {
    let marks = Marks::default();
    let (seen, code) = (Arc::clone(&marks), case.code);
    let count = move || allocations() - others.load(Ordering::Relaxed);
    let scribe = Scribe::new(move |exchange: &Exchange<'_>| {
        let [ended, first, last] = &*seen;
        match ended.fetch_add(1, Ordering::Relaxed) + 1 {
            WARM_UP => first.store(count(), Ordering::Relaxed),
            ALL => last.store(count(), Ordering::Relaxed),
            ended => assert!(ended < WARM_UP || exchange.outcome.code() == code, "{}", exchange.outcome.code()),
        }
    });
    (scribe, marks)
}

/// The same for the whole process as `run` starts it, with its access log in a file: for each case on connections of its
/// own, one after the other.
fn on_sockets(driver: Driver, mut note: impl FnMut(&Case, usize)) {
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = application.local_addr().unwrap();
    thread::spawn(move || serve(&application));
    let folder = std::env::temp_dir().join(format!("countersign-allocations-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("access.log");
    let lines = format!(
        "[server]\nworkers = 1\ndriver = \"{}\"\n[upstream]\naddress = \"{upstream}\"\nidle_timeout = \"60s\"\n\
         [access_log]\noutput = \"{}\"\nformat = \"json\"",
        driver.name(),
        path.display()
    );
    let (plan, loaded) = world::plan_of(&lines);
    let records = Arc::new(Records::start(&loaded, &Arc::new(EventLog::start())).unwrap());
    let observer: Arc<dyn Observer> = Arc::<Records>::clone(&records);
    let running = supervisor::start(plan, Witnesses::new(observer, 1)).unwrap();
    for (at, case) in CASES.iter().enumerate() {
        note(case, exchange_all(running.addresses[0], (case, at * 1_000_000)));
    }
    // The same from an address whose budget is empty: forgeries and copies wait for their turns.
    let unverified_per_client = Rate { tokens: 1, per: Duration::from_secs(3600), burst: 1 };
    running
        .admission
        .set_limits(AdmissionLimits { unverified_per_client, ..AdmissionLimits::default() }, Duration::ZERO);
    for (at, case) in CASES.iter().enumerate() {
        note(case, exchange_all(running.addresses[0], (case, (CASES.len() + at) * 1_000_000)));
    }
    assert!(Suspicion::ALL[..2].iter().all(|end| running.metrics.workers()[0].suspicions(*end) > 0));
    running.stop();
    records.finish();
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    for case in &CASES {
        assert!(log.contains(&format!("\"reason\":\"{}\"", case.code)), "{} is not in the log", case.code);
    }
}

/// Deliveries from number `first` on, four at a time. Gives the fewest allocations that there were while so many of them
/// were answered as are counted, after the warm-up.
fn exchange_all(proxy: SocketAddr, (case, first): (&Case, usize)) -> usize {
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| TcpStream::connect(proxy).unwrap()).collect();
    let mut buffer = vec![0; 8 << 10];
    exchange(&mut clients, &mut buffer, &case.deliveries(first, WARM_UP), case.status());
    let mut fewest = usize::MAX;
    for attempt in 0..ATTEMPTS {
        let deliveries = case.deliveries(first + WARM_UP + attempt * COUNTED, COUNTED);
        let before = allocations();
        exchange(&mut clients, &mut buffer, &deliveries, case.status());
        fewest = fewest.min(allocations() - before);
        if fewest == 0 {
            break;
        }
    }
    fewest
}

/// A delivery on each connection, then the answer on each, and again. Allocates nothing.
fn exchange(clients: &mut [TcpStream], buffer: &mut [u8], deliveries: &[Vec<u8>], status: &str) {
    for deliveries in deliveries.chunks_exact(CONNECTIONS) {
        for (client, delivery) in clients.iter_mut().zip(deliveries) {
            client.write_all(delivery).unwrap();
        }
        for client in &mut *clients {
            let mut length = 0;
            while !is_whole(&buffer[..length]) {
                match client.read(&mut buffer[length..]).unwrap() {
                    0 => panic!("the connection was closed: {}", String::from_utf8_lossy(&buffer[..length])),
                    count => length += count,
                }
            }
            assert!(buffer.starts_with(status.as_bytes()), "{}", String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

/// Whether an answer has come to its end. Allocates nothing.
fn is_whole(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap();
    let Some(end) = text.find("\r\n\r\n") else { return false };
    let length = text.find("Content-Length: ").map(|at| &text[at + 16..]).expect("answers have a length");
    let length: usize = length[..length.find('\r').unwrap()].parse().unwrap();
    answer.len() == end + 4 + length
}

/// The application: a thread for each connection, none of which allocates once it runs. They end with the process.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 128 << 10];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if buffer[count - 1] == LAST && stream.write_all(REPLY).is_err() {
                    break;
                }
            }
        });
    }
}
