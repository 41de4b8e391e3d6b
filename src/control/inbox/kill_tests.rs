//! A real process on a real directory, killed at random moments: `kill -9` leaves what the kernel has, half of it perhaps.
//!
//! The child is this test binary again: senders, store, agenda and an application in one thread. It says in a file what is
//! about to happen and what has happened; the parent believes the lines that arrived whole. Half of the deliveries are
//! ordered by sixteen keys. `COUNTERSIGN_KILLS` says how often it is killed, `COUNTERSIGN_FLIPS` how often a sector of a file
//! is changed between kill and start.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::inbox::agenda::Agenda;
use crate::inbox::backoff::{Backoff, Dice};
use crate::inbox::contract_tests::fresh;
use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::judgement::AttemptEnd;
use crate::inbox::lane::LaneTerms;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settled, Settlement, StoreOrder, StoreRefusal, StoredRecord,
};
use crate::now::Now;

use super::directory::Directory;
use super::shelf::{Shelf, ShelfTerms};
use super::shelf_tests::{key, terms};
use crate::control::terminal::{Stream, write_line};

const DIRECTORY: &str = "COUNTERSIGN_KILL_TEST_DIRECTORY";

/// So few that senders are refused while the application is down.
const DELIVERIES: usize = 600;

fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Now { monotonic: unix, unix }
}

fn open(directory: &Path) -> Shelf {
    let terms = ShelfTerms { deliveries: DELIVERIES, ..terms(&[key("a", 1)]) };
    Shelf::open(Box::new(Directory::open(directory).unwrap()), terms, now()).unwrap()
}

/// Numbers grow with time. Every ninth delivery is large, every second one is ordered.
fn body(number: u64) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    body.resize(if number.is_multiple_of(9) { 100_000 } else { 2_000 }, b'.');
    body
}

fn number(body: &[u8]) -> u64 {
    String::from_utf8_lossy(body).split(' ').next().unwrap().parse().unwrap()
}

const ROUTES: [&str; 2] = ["orders", "sorted"];

fn order_of(number: u64) -> Option<u8> {
    number.is_multiple_of(2).then(|| u8::try_from(number / 2 % 16).unwrap() + 1)
}

fn said(directory: &Path) -> PathBuf {
    directory.with_extension("said")
}

/// Senders, store, agenda and application.
struct Life {
    file: File,
    store: Shelf,
    agenda: Agenda,
    dice: Dice,
    /// The application refuses connections.
    down: bool,
    settlements: Vec<Settlement>,
    next: u64,
}

impl Life {
    fn say(&mut self, line: &str) {
        self.file.write_all(format!("\n@{line}$\n").as_bytes()).unwrap();
    }

    /// Sends a group, and settles what the application has answered.
    fn send(&mut self) {
        let numbers: Vec<u64> = (0..1 + self.dice.throw(15)).map(|at| self.next + at).collect();
        self.next += 100;
        numbers.iter().for_each(|number| self.say(&format!("sending {number}")));
        let bodies: Vec<Vec<u8>> = numbers.iter().map(|number| body(*number)).collect();
        let batch: Vec<FreshDelivery<'_>> = bodies
            .iter()
            .zip(&numbers)
            .map(|(body, number)| {
                let order = order_of(*number);
                let fresh = fresh(ROUTES[usize::from(order.is_some())], body);
                FreshDelivery { order_key: order.map_or([0; 16], |key| [key; 16]), ..fresh }
            })
            .collect();
        let settlements = std::mem::take(&mut self.settlements);
        let mut done = Committed::default();
        let result = self.store.commit(&batch, &settlements, now(), &mut done);
        match result {
            Ok(()) => {
                for (row, number) in done.accepted.iter().zip(&numbers) {
                    self.say(&format!("accepted {} {number}", row.id));
                }
            }
            Err(StoreRefusal::Unknown) => {}
            Err(_) => numbers.iter().for_each(|number| self.say(&format!("refused {number}"))),
        }
        self.store.mend(now(), &mut done);
        self.admit(&done.accepted);
        for settlement in &done.settled {
            if settlement.settled == Settled::Done {
                self.say(&format!("settled {}", settlement.id));
            }
            self.agenda.committed(settlement);
        }
        done.kept.iter().for_each(|id| self.agenda.keep(*id, now()));
    }

    fn admit(&mut self, rows: &[DeliveryRow]) {
        for row in rows {
            let route = ROUTES.iter().position(|name| *name == self.store.route_name(row.route)).unwrap();
            self.agenda.admit(row, route, now());
        }
    }

    /// The application gets what is due.
    fn attempt(&mut self) {
        let mut record = StoredRecord::default();
        while let Some(due) = self.agenda.next(now()) {
            let answered = |status| AttemptEnd::Answered { status, retry_after: None };
            let end = if self.down {
                AttemptEnd::Unreachable
            } else {
                assert_eq!(self.store.fetch(due.id, &mut record), Ok(Fetched::Whole));
                let number = number(record.body());
                assert_eq!(record.body(), body(number));
                match self.dice.throw(40) {
                    0 => {
                        self.say(&format!("died {} {number}", due.id));
                        answered(400)
                    }
                    1..=4 => answered(503),
                    _ => {
                        self.say(&format!("arrived {} {number}", due.id));
                        answered(200)
                    }
                }
            };
            self.settlements.extend(self.agenda.finish(due.id, end, now()));
        }
    }
}

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut file = OpenOptions::new().append(true).create(true).open(said(directory)).unwrap();
    file.write_all(b"\n@opening$\n").unwrap();
    let store = open(directory);
    let backoff = Backoff { first: 10, cap: 40 };
    let lane = LaneTerms { concurrency: 8, backoff, ..LaneTerms::default() };
    let seed = u64::from(std::process::id());
    let mut life = Life {
        file,
        store,
        agenda: Agenda::new(vec![lane.clone(), lane], seed),
        dice: Dice::new(seed),
        down: false,
        settlements: Vec::new(),
        next: u64::try_from(now().unix.as_nanos()).unwrap() / 1_000,
    };
    let mut rows = Vec::new();
    life.store.take(usize::MAX, &mut rows);
    life.admit(&rows);
    life.say("open");
    loop {
        if life.dice.throw(15) == 0 {
            life.down = !life.down;
        }
        life.send();
        life.attempt();
    }
}

/// What the sender and the application know.
#[derive(Default)]
struct Heard {
    /// The numbers of deliveries that were acknowledged, and may be in the store still.
    accepted: BTreeMap<DeliveryId, u64>,
    acknowledged: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// Sent; perhaps without an answer.
    sent: BTreeSet<u64>,
    /// What the application has accepted, and how often.
    arrived: BTreeMap<u64, u32>,
    died: BTreeSet<DeliveryId>,
    settled: BTreeSet<DeliveryId>,
    /// The youngest that the application has accepted of each key.
    youngest: HashMap<u8, u64>,
    out_of_order: u64,
    opened: u64,
    opening: u64,
}

impl Heard {
    fn lines(&mut self, directory: &Path) {
        std::fs::read_to_string(said(directory)).unwrap_or_default().lines().for_each(|line| self.line(line));
        let _ = std::fs::remove_file(said(directory));
    }

    fn line(&mut self, line: &str) {
        let Some(line) = line.strip_prefix('@').and_then(|line| line.strip_suffix('$')) else { return };
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().unwrap();
        match *words {
            ["opening"] => self.opening += 1,
            ["open"] => self.opened += 1,
            ["sending", sent] => _ = self.sent.insert(number(sent)),
            ["refused", refused] => _ = self.refused.insert(number(refused)),
            ["accepted", id, it] => {
                self.acknowledged.insert(number(it));
                self.accepted.insert(id.parse().unwrap(), number(it));
            }
            ["arrived", _, it] => {
                let it = number(it);
                *self.arrived.entry(it).or_default() += 1;
                if let Some(key) = order_of(it) {
                    let youngest = self.youngest.entry(key).or_default();
                    self.out_of_order += u64::from(it < *youngest);
                    *youngest = it.max(*youngest);
                }
            }
            ["died", id, _] => _ = self.died.insert(id.parse().unwrap()),
            ["settled", id] => _ = self.settled.insert(id.parse().unwrap()),
            _ => {}
        }
    }

    /// What must be true after every kill, as soon as the files are open.
    fn check(&mut self, store: &mut Shelf) {
        assert_eq!(store.standing().damaged_files, 0, "{:?}", store.take_notes());
        let mut record = StoredRecord::default();
        for (id, expected) in &self.accepted {
            let found = store.fetch(*id, &mut record);
            match found.unwrap_or_else(|why| panic!("{id}: {why}: {:?}", store.take_notes())) {
                Fetched::Gone => assert!(self.arrived.contains_key(expected), "{id} is lost"),
                Fetched::Damaged => panic!("{id} is damaged"),
                Fetched::Whole => {
                    assert!(!self.settled.contains(id), "{id} is back");
                    assert!(number(record.body()) == *expected && record.body() == body(*expected), "{id}");
                }
            }
        }
        let mut rows = Vec::new();
        store.browse(&Default::default(), None, 1 << 30, &mut rows).unwrap();
        for row in rows {
            assert_eq!(store.fetch(row.id, &mut record).unwrap(), Fetched::Whole);
            let number = number(record.body());
            assert!(!self.refused.contains(&number), "{number} was refused and is stored");
        }
        assert!(self.arrived.keys().all(|it| !self.refused.contains(it)), "what was refused was delivered");
        assert!(self.arrived.keys().all(|it| self.sent.contains(it)), "what was delivered was sent");
        assert_eq!(self.out_of_order, 0, "an older delivery arrived after a later one of its key");
        // What is settled for good need not be looked at again.
        let settled = std::mem::take(&mut self.settled);
        self.accepted.retain(|id, _| !settled.contains(id));
    }
}

impl Heard {
    /// Dead letters are removed: otherwise there is soon no room for others.
    fn purge(&mut self, store: &mut Shelf) {
        let filter = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
        let purged = store.order(&StoreOrder::Purge(filter, usize::MAX), now()).unwrap();
        purged.iter().for_each(|id| _ = self.accepted.remove(id));
    }
}

/// Removes a folder and what was said of it, also where a check fails.
struct Scene(PathBuf);

impl Scene {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("inbox-{name}-{}", std::process::id())))
    }

    fn child(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "control::inbox::kill_tests::child"])
            .env(DIRECTORY, &self.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits until the child has said that so often, or for two seconds after it is open: while an application that comes and
    /// goes is left alone, nothing is accepted for longer than that.
    fn hears(&self, child: &mut Child, word: &str, times: u64) {
        let word = format!("@{word}");
        let heard = || std::fs::read_to_string(said(&self.0)).unwrap_or_default().matches(&word).count() as u64;
        let mut patience = 2_000;
        while heard() < times && patience > 0 {
            patience -= u32::from(word != "@opening$");
            assert!(child.try_wait().unwrap().is_none(), "the child has ended by itself");
            wait(1_000);
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        let _ = std::fs::remove_file(said(&self.0));
    }
}

fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_accepted() {
    let kills = rounds("COUNTERSIGN_KILLS", 8);
    let scene = Scene::new("kill");
    let mut heard = Heard::default();
    let mut dice = Dice::new(u64::from(std::process::id()));
    for kill_number in 0..kills {
        let mut child = scene.child();
        // Half of them die while they open the files.
        if kill_number % 2 == 1 {
            scene.hears(&mut child, "opening$", 1);
            wait(dice.throw(6_000));
        } else {
            scene.hears(&mut child, "accepted", dice.throw(120));
            wait(dice.throw(20_000));
        }
        kill(child);
        heard.lines(&scene.0);
        let mut store = open(&scene.0);
        heard.check(&mut store);
        heard.purge(&mut store);
    }
    let (again, unanswered) = (heard.arrived.values().filter(|count| **count > 1).count(), heard.sent.len());
    let _ = write_line(
        Stream::Output,
        &format!(
            "{kills} kills, {} of them before the files were open: {} acknowledged, {} refused, {} without an answer; \
         {} arrived, {again} of them more than once; 0 lost, 0 refused ones delivered, 0 out of order; {} died",
            heard.opening - heard.opened,
            heard.acknowledged.len(),
            heard.refused.len(),
            unanswered - heard.acknowledged.len() - heard.refused.len(),
            heard.arrived.len(),
            heard.died.len(),
        ),
    );
}

/// What a changed sector did.
#[derive(Debug, Default)]
struct Tally {
    harmless: u64,
    damaged_deliveries: u64,
    missing_deliveries: u64,
    set_aside: u64,
    unreadable: u64,
}

/// Changes 16 bytes of a sector.
fn flip(directory: &Path, dice: &mut Dice) {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|it| it == "redb")).collect();
    files.sort();
    let file = &files[usize::try_from(dice.throw(files.len() as u64 - 1)).unwrap()];
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let at = dice.throw(file.metadata().unwrap().len() / 16 - 1) * 16;
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
    file.write_all_at(&bytes, at).unwrap();
}

/// Nothing wrong is delivered, and what is missing is named.
#[test]
fn a_sector_that_changes_between_kill_and_start_is_found() {
    let mut tally = Tally::default();
    let mut dice = Dice::new(u64::from(std::process::id()));
    let flips = rounds("COUNTERSIGN_FLIPS", 4);
    for _ in 0..flips {
        let scene = Scene::new("flip");
        let mut child = scene.child();
        scene.hears(&mut child, "accepted", 60 + dice.throw(120));
        wait(dice.throw(20_000));
        kill(child);
        let mut heard = Heard::default();
        heard.lines(&scene.0);
        flip(&scene.0, &mut dice);
        let mut store = open(&scene.0);
        let (mut record, mut missing, mut damaged, mut unreadable) = (StoredRecord::default(), 0, 0, 0);
        for (id, expected) in &heard.accepted {
            match store.fetch(*id, &mut record) {
                Ok(Fetched::Whole) => assert_eq!(record.body(), body(*expected), "{id} is another"),
                Ok(Fetched::Damaged) => damaged += 1,
                Ok(Fetched::Gone) => missing += u64::from(!heard.arrived.contains_key(expected)),
                Err(_) => unreadable += 1,
            }
        }
        let (standing, notes) = (store.standing(), store.take_notes());
        // What is settled is written down, or its file is set aside: nothing waits for ever.
        let settlements: Vec<Settlement> = heard
            .accepted
            .keys()
            .map(|id| Settlement {
                id: *id,
                redrives: 0,
                attempts: 1,
                status: 200,
                reason: DeliveryReason::New,
                settled: Settled::Done,
                awaited: true,
            })
            .collect();
        let (begun, mut done) = (now(), Committed::default());
        store.commit(&[], &settlements, begun, &mut done).unwrap();
        for at in 0..300 {
            let past = Duration::from_millis(at * 50);
            store.mend(Now { monotonic: begun.monotonic + past, unix: begun.unix + past }, &mut done);
        }
        assert!(store.later.is_empty(), "{} wait: {:?}", store.later.len(), store.take_notes());
        let named = standing.damaged > 0 || standing.damaged_files > 0 || !notes.is_empty() || unreadable > 0;
        assert!(missing == 0 || named, "{missing} are missing without a word");
        tally.harmless += u64::from(!named);
        tally.damaged_deliveries += damaged;
        tally.missing_deliveries += missing;
        tally.set_aside += standing.damaged_files;
        tally.unreadable += unreadable;
    }
    let _ = write_line(
        Stream::Output,
        &format!("{flips} flips: {tally:?}; nothing wrong was delivered, and what is missing was named"),
    );
}

fn wait(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}
