//! A real process on a real directory, killed at random moments: `kill -9` leaves what the kernel has, half of it perhaps.
//!
//! The child is this test binary again. It says in a file what it is about to store, what was stored and
//! what was settled; the parent believes the lines that arrived whole. `COUNTERSIGN_KILLS` says how often it is killed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::inbox::backoff::Dice;
use crate::inbox::contract_tests::{fresh, settlement};
use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Committed, DeliveryStore, Fetched, Settled, Settlement, StoredRecord};
use crate::now::Now;

use super::directory::Directory;
use super::shelf::{Shelf, ShelfTerms};
use super::shelf_tests::{key, terms};

const DIRECTORY: &str = "COUNTERSIGN_KILL_TEST_DIRECTORY";

fn now() -> Now {
    Now::at_unix(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

fn open(directory: &Path) -> Shelf {
    let terms = ShelfTerms { deliveries: 1 << 20, ..terms(&[key("a", 1)]) };
    Shelf::open(Box::new(Directory::open(directory).unwrap()), terms, now()).unwrap()
}

fn body(number: u64) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    body.resize(if number.is_multiple_of(9) { 100_000 } else { 2_000 }, b'.');
    body
}

fn number(body: &[u8]) -> u64 {
    String::from_utf8_lossy(body).split(' ').next().unwrap().parse().unwrap()
}

fn said(directory: &Path) -> PathBuf {
    directory.with_extension("said")
}

#[test]
#[ignore = "the child of the other test"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut file = OpenOptions::new().append(true).create(true).open(said(directory)).unwrap();
    let mut say = |line: &str| file.write_all(format!("\n@{line}$\n").as_bytes()).unwrap();
    let mut store = open(directory);
    let mut dice = Dice::new(u64::from(std::process::id()));
    let (mut living, mut rows): (Vec<DeliveryId>, Vec<_>) = (Vec::new(), Vec::new());
    store.take(usize::MAX, &mut rows);
    // Dead letters are given, too: their keys may have to wait for them.
    rows.retain(|row: &DeliveryRow| row.state == DeliveryState::Waiting);
    living.extend(rows.iter().map(|row| row.id));
    let mut next = now().unix.as_nanos() as u64;
    say("open");
    loop {
        let numbers: Vec<u64> = (0..1 + dice.throw(15)).map(|at| next + at).collect();
        next += 100;
        let bodies: Vec<Vec<u8>> = numbers.iter().map(|number| body(*number)).collect();
        let batch: Vec<FreshDelivery<'_>> = bodies.iter().map(|body| fresh("orders", body)).collect();
        let count = living.len().min(usize::try_from(dice.throw(20)).unwrap());
        let settlements: Vec<Settlement> = living
            .drain(..count)
            .map(|id| {
                let dead = Settled::Dead { reason: DeliveryReason::GaveUpAge };
                settlement(id, if dice.throw(30) == 0 { dead } else { Settled::Done })
            })
            .collect();
        settlements.iter().filter(|it| it.settled == Settled::Done).for_each(|it| say(&format!("settling {}", it.id)));
        let mut done = Committed::default();
        if store.commit(&batch, &settlements, now(), &mut done).is_ok() {
            done.accepted.iter().zip(&numbers).for_each(|(row, number)| say(&format!("accepted {} {number}", row.id)));
            living.extend(done.accepted.iter().map(|row| row.id));
        }
        store.mend(now(), &mut done);
        done.settled.iter().filter(|it| it.settled == Settled::Done).for_each(|it| say(&format!("settled {}", it.id)));
    }
}

#[derive(Default)]
struct Heard {
    accepted: BTreeMap<DeliveryId, u64>,
    settling: BTreeSet<DeliveryId>,
    settled: BTreeSet<DeliveryId>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let Some(line) = line.strip_prefix('@').and_then(|line| line.strip_suffix('$')) else { return };
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["accepted", id, number] => drop(self.accepted.insert(id.parse().unwrap(), number.parse().unwrap())),
            ["settling", id] => _ = self.settling.insert(id.parse().unwrap()),
            ["settled", id] => _ = self.settled.insert(id.parse().unwrap()),
            _ => {}
        }
    }

    fn check(&mut self, store: &mut Shelf) {
        assert_eq!(store.standing().damaged_files, 0, "{:?}", store.take_notes());
        let mut record = StoredRecord::default();
        // A file that has reached its bound while others were moved is opened again by the next call.
        for _ in 0..50 {
            let closed = self.accepted.keys().any(|id| store.fetch(*id, &mut record).is_err());
            if !closed {
                break;
            }
            wait(20_000);
            store.mend(now(), &mut Committed::default());
        }
        assert_eq!(store.standing().damaged_files, 0, "{:?}", store.take_notes());
        for (id, expected) in &self.accepted {
            let found = store.fetch(*id, &mut record);
            match found.unwrap_or_else(|why| panic!("{id}: {why}: {:?}", store.take_notes())) {
                Fetched::Gone => assert!(self.settling.contains(id), "{id} is lost"),
                Fetched::Damaged => panic!("{id} is damaged"),
                Fetched::Whole => {
                    assert!(!self.settled.contains(id), "{id} is back");
                    assert!(number(record.body()) == *expected && record.body() == body(*expected), "{id}");
                }
            }
        }
        let mut rows = Vec::new();
        store.browse(&Default::default(), None, 1 << 30, &mut rows).unwrap();
        rows.iter().for_each(|row| assert_eq!(store.fetch(row.id, &mut record).unwrap(), Fetched::Whole));
        // What is settled for good need not be looked at again.
        let settled = std::mem::take(&mut self.settled);
        self.accepted.retain(|id, _| !settled.contains(id));
    }
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_accepted() {
    let kills = std::env::var("COUNTERSIGN_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let directory = std::env::temp_dir().join(format!("inbox-kill-{}", std::process::id()));
    let mut heard = Heard::default();
    let mut dice = Dice::new(u64::from(std::process::id()));
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "control::inbox::kill_tests::child"])
            .env(DIRECTORY, &directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Half of them die while they open the files.
        let early = dice.throw(1) == 0;
        if early {
            wait(dice.throw(30_000));
        } else {
            while !std::fs::read_to_string(said(&directory)).unwrap_or_default().contains("@open$") {
                wait(5_000);
            }
            wait(dice.throw(400_000));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::read_to_string(said(&directory)).unwrap_or_default().lines().for_each(|line| heard.line(line));
        let _ = std::fs::remove_file(said(&directory));
        if early && kill % 4 != 0 {
            continue;
        }
        heard.check(&mut open(&directory));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

fn wait(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}
