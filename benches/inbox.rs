//! What the store of the inbox costs, beside a loop that appends and syncs on the same directory:
//! `cargo bench --bench inbox -- [--directory DIR] [--seconds N] [--bytes N] [--waiting N]`.
//!
//! K senders wait for their answer and send the next delivery then; each delivery that was stored is settled with the next
//! commit, as when the application is up. Printed are commits and syncs, the time until the answer, the CPU of the thread
//! that owns the store, and the memory of deliveries that wait.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign::control::inbox::directory::Directory;
use countersign::control::inbox::disk::{Disk, Medium};
use countersign::control::inbox::keys::{KeyRing, random_salt};
use countersign::control::inbox::shelf::{Shelf, ShelfTerms};
use countersign::control::inbox::spooler::{SpoolDoor, Spooler};
use countersign::control::inbox::spooling::{SpoolAnswer, SpoolRequest, SpoolTold};
use countersign::edge::clock::Clock;
use countersign::edge::deliver::{Mailbox, StoreSide};
use countersign::inbox::agenda::Agenda;
use countersign::inbox::backoff::Backoff;
use countersign::inbox::delivery::{DeliveryId, DeliveryReason};
use countersign::inbox::fresh::FreshDelivery;
use countersign::inbox::lane::LaneTerms;
use countersign::inbox::store::{Committed, DeliveryStore, Settled, Settlement};

/// Calls of sync, and the nanoseconds that they took.
#[derive(Debug, Default)]
struct Syncs {
    count: AtomicU64,
    nanos: AtomicU64,
}

#[derive(Debug)]
struct CountedDisk(Directory, Arc<Syncs>);

#[derive(Debug)]
struct CountedFile(Box<dyn Medium>, Arc<Syncs>);

impl CountedDisk {
    fn counted(&self, file: io::Result<Box<dyn Medium>>) -> io::Result<Box<dyn Medium>> {
        Ok(Box::new(CountedFile(file?, Arc::clone(&self.1))))
    }
}

impl Disk for CountedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        self.counted(self.0.open(name))
    }
    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        self.0.open_to_read(name)
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        self.counted(self.0.create(name))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

impl Medium for CountedFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }
    fn resize(&self, length: u64) -> io::Result<()> {
        self.0.resize(length)
    }
    fn sync(&self) -> io::Result<()> {
        let begun = Instant::now();
        let result = self.0.sync();
        self.1.count.fetch_add(1, Ordering::Relaxed);
        self.1.nanos.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap(), Ordering::Relaxed);
        result
    }
}

struct Options {
    directory: PathBuf,
    seconds: f64,
    bytes: usize,
    waiting: usize,
}

/// What was measured with so many senders.
struct Measured {
    deliveries: u64,
    syncs: u64,
    sync_nanos: u64,
    cpu_nanos: Option<u64>,
    times: Vec<Duration>,
    elapsed: Duration,
}

/// The CPU of the thread with this name, in nanoseconds.
fn thread_cpu(name: &str) -> Option<u64> {
    for entry in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim() == name {
            let line = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            return line.split(' ').next()?.parse().ok();
        }
    }
    None
}

/// Sends with K senders for a while. `send` hands a delivery in, and what it is given is told the answer.
fn load(
    senders: usize,
    seconds: f64,
    mut send: impl FnMut(Sender<Option<DeliveryId>>),
    mut settle: impl FnMut(DeliveryId),
) -> (u64, Vec<Duration>, Duration) {
    let (sender, answers) = channel();
    let mut begun = std::collections::VecDeque::new();
    let start = Instant::now();
    for _ in 0..senders {
        begun.push_back(Instant::now());
        send(sender.clone());
    }
    let (mut count, mut times) = (0, Vec::new());
    // Answers come in the order in which deliveries were handed in.
    while let Some(since) = begun.pop_front() {
        let answer = answers.recv().unwrap();
        times.push(since.elapsed());
        count += 1;
        answer.into_iter().for_each(&mut settle);
        if start.elapsed().as_secs_f64() < seconds {
            begun.push_back(Instant::now());
            send(sender.clone());
        }
    }
    (count, times, start.elapsed())
}

fn store(options: &Options, senders: usize) -> Measured {
    let path = options.directory.join(format!("inbox-{senders}"));
    let syncs = Arc::new(Syncs::default());
    let terms = ShelfTerms {
        size: 1 << 30,
        dead_size: 256 << 20,
        deliveries: 1 << 20,
        retention: 0,
        drops_oldest: false,
        durable: true,
        keys: KeyRing::default(),
        salt: Box::new(random_salt),
    };
    let clock = Clock::start();
    let disk = CountedDisk(Directory::open(&path).unwrap(), Arc::clone(&syncs));
    let shelf = Shelf::open(Box::new(disk), terms, clock.now()).unwrap();
    let door = SpoolDoor::new(1);
    let (mailbox, _ear) = Mailbox::new().unwrap();
    let spooler = Spooler { store: Box::new(shelf), door: Arc::clone(&door), mailbox, clock, batch_bytes: 4 << 20 };
    let thread = spooler.start().unwrap();
    let (body, route): (Vec<u8>, Arc<str>) = (vec![b'x'; options.bytes], Arc::from("orders"));
    let request =
        SpoolRequest { head: b"POST /hook HTTP/1.1\r\nHost: app\r\n", body: &body, ..SpoolRequest::default() };
    let send = |answers: Sender<Option<DeliveryId>>| {
        let told = SpoolTold::by(move |answer| {
            let id = match answer {
                SpoolAnswer::Durable(id) => id,
                SpoolAnswer::Refused(why) => panic!("{why}"),
            };
            let _ = answers.send(Some(id));
        });
        door.submit(0, &route, &request, told);
    };
    let done = |id| {
        let reason = DeliveryReason::New;
        door.settle(Settlement {
            id,
            redrives: 0,
            attempts: 1,
            status: 200,
            reason,
            settled: Settled::Done,
            awaited: false,
        });
    };
    load(senders, options.seconds / 4.0, send, done);
    let before = (syncs.count.load(Ordering::Relaxed), syncs.nanos.load(Ordering::Relaxed), thread_cpu("inbox"));
    let (deliveries, times, elapsed) = load(senders, options.seconds, send, done);
    let cpu = thread_cpu("inbox");
    let measured = Measured {
        deliveries,
        syncs: syncs.count.load(Ordering::Relaxed) - before.0,
        sync_nanos: syncs.nanos.load(Ordering::Relaxed) - before.1,
        cpu_nanos: cpu.zip(before.2).map(|(after, before)| after - before),
        times,
        elapsed,
    };
    door.stop();
    thread.join().unwrap();
    fs::remove_dir_all(path).unwrap();
    measured
}

/// Appends what has gathered and syncs it: what any store must do at least.
fn raw(options: &Options, senders: usize) -> Measured {
    let path = options.directory.join("raw");
    let mut file = File::create(&path).unwrap();
    let (hand_in, taken) = channel::<(Arc<Vec<u8>>, Sender<Option<DeliveryId>>)>();
    let syncs = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&syncs);
    let writer = std::thread::Builder::new().name("raw".to_owned()).spawn(move || {
        while let Ok(first) = taken.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(taken.try_iter()).collect();
            let bytes: Vec<u8> = batch.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
            file.write_all(&bytes).unwrap();
            let begun = Instant::now();
            file.sync_data().unwrap();
            let mut syncs = counted.lock().unwrap();
            syncs.0 += 1;
            syncs.1 += u64::try_from(begun.elapsed().as_nanos()).unwrap();
            drop(syncs);
            batch.into_iter().for_each(|(_, answers)| _ = answers.send(None));
        }
    });
    let body = Arc::new(vec![b'x'; options.bytes]);
    let before = thread_cpu("raw");
    let send = |answers| hand_in.send((Arc::clone(&body), answers)).unwrap();
    let (deliveries, times, elapsed) = load(senders, options.seconds, send, |_| {});
    let cpu = thread_cpu("raw");
    drop(hand_in);
    writer.unwrap().join().unwrap();
    fs::remove_file(path).unwrap();
    let (count, nanos) = *syncs.lock().unwrap();
    let cpu_nanos = cpu.zip(before).map(|(after, before)| after - before);
    Measured { deliveries, syncs: count, sync_nanos: nanos, cpu_nanos, times, elapsed }
}

fn print(name: &str, senders: usize, mut measured: Measured) {
    measured.times.sort_unstable();
    let at = |part: f64| {
        let place = (measured.times.len() as f64 * part) as usize;
        measured.times[place.min(measured.times.len() - 1)].as_secs_f64() * 1e3
    };
    let (count, syncs) = (measured.deliveries as f64, measured.syncs as f64);
    let sync = measured.sync_nanos as f64 / syncs / 1e6;
    let cpu = measured.cpu_nanos.map_or_else(|| "-".to_owned(), |nanos| format!("{:.1}", nanos as f64 / count / 1e3));
    println!(
        "{name:6} {senders:>7} {:>9.0} {:>9.1} {sync:>9.3} {:>8.2} {:>8.2} {:>9.1} {cpu:>9}",
        count / measured.elapsed.as_secs_f64(),
        count / syncs,
        at(0.5),
        at(0.99),
        at(0.5) / sync,
    );
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// The memory of deliveries that wait: the index of the store, and the agenda.
fn waiting(directory: &Path, count: usize) {
    let path = directory.join("waiting");
    let terms = ShelfTerms {
        size: 4 << 30,
        dead_size: 1 << 30,
        deliveries: count,
        retention: 0,
        drops_oldest: false,
        durable: false,
        keys: KeyRing::default(),
        salt: Box::new(random_salt),
    };
    let clock = Clock::start();
    let mut shelf = Shelf::open(Box::new(Directory::open(&path).unwrap()), terms, clock.now()).unwrap();
    let lane = LaneTerms {
        upstream: 0,
        concurrency: 8,
        backoff: Backoff::default(),
        attempts: 0,
        give_up_after: 259_200_000,
        dead_on: Vec::new(),
        on_dead: countersign::inbox::lane::OnDead::Continue,
    };
    let mut agenda = Agenda::new(vec![lane], 1);
    let before = resident();
    let body = vec![b'x'; 2_000];
    let fresh = FreshDelivery {
        route: "orders",
        head: b"POST /hook HTTP/1.1\r\nHost: app\r\n",
        body: &body,
        accepted: u64::try_from(clock.now().unix_millis()).unwrap(),
        order_key: [0; 16],
        seen_key: [0; 32],
        seen_also: &[],
        seen_until: 0,
    };
    let batch = vec![fresh; 256];
    let begun = Instant::now();
    for _ in 0..count / batch.len() {
        let mut done = Committed::default();
        shelf.commit(&batch, &[], clock.now(), &mut done).unwrap();
        done.accepted.iter().for_each(|row| _ = agenda.admit(row, 0, clock.now()));
    }
    let after = resident();
    println!(
        "\n{count} deliveries of 2,000 bytes wait: {:.1} MiB of memory, {:.0} bytes each (index and agenda, caches of the files); stored in {:.1} s",
        (after - before) as f64 / f64::from(1 << 20),
        (after - before) as f64 / count as f64,
        begun.elapsed().as_secs_f64()
    );
    drop(shelf);
    fs::remove_dir_all(path).unwrap();
}

fn main() {
    let mut options =
        Options { directory: std::env::temp_dir().join("inbox-bench"), seconds: 2.0, bytes: 2_000, waiting: 262_144 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--directory" => options.directory = arguments.next().unwrap().into(),
            "--seconds" => options.seconds = arguments.next().unwrap().parse().unwrap(),
            "--bytes" => options.bytes = arguments.next().unwrap().parse().unwrap(),
            "--waiting" => options.waiting = arguments.next().unwrap().parse().unwrap(),
            // Cargo's own.
            "--bench" => {}
            other => panic!("{other} is not known: --directory, --seconds, --bytes, --waiting"),
        }
    }
    fs::create_dir_all(&options.directory).unwrap();
    println!("{} bytes each, in {}", options.bytes, options.directory.display());
    println!("       senders    each s  per sync   sync ms   p50 ms   p99 ms  p50/sync  CPU µs each");
    for senders in [1, 16, 64, 256] {
        print("raw", senders, raw(&options, senders));
        print("store", senders, store(&options, senders));
    }
    if options.waiting > 0 {
        waiting(&options.directory, options.waiting);
    }
}
