//! A real disk that is full, read-only, failing or slow: `tests/live/run inbox-disk` mounts it and calls these.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::inbox::contract_tests::{fresh, settlement};
use crate::inbox::delivery::DeliveryId;
use crate::inbox::store::{Committed, DeliveryStore, Fetched, Settled, StoreRefusal, StoredRecord};
use crate::now::Now;

use super::directory::Directory;
use super::shelf::{Shelf, ShelfTerms};
use super::shelf_tests::terms;
use crate::control::terminal::{Stream, write_line};

const DISK: &str = "COUNTERSIGN_INBOX_DISK";

/// The mounted disk; nothing where the test is not called by the command.
fn disk() -> Option<PathBuf> {
    std::env::var_os(DISK).map(PathBuf::from)
}

/// A store with a clock that runs.
struct Real {
    shelf: Shelf,
    begun: Instant,
}

impl Real {
    fn open(disk: &Path) -> Self {
        let begun = Instant::now();
        let directory = Directory::open(&disk.join("inbox")).unwrap();
        let terms = ShelfTerms { size: 64 << 20, ..terms(&[]) };
        Self { shelf: Shelf::open(Box::new(directory), terms, clock(begun)).unwrap(), begun }
    }

    /// One round of the thread that owns the store. Gives the id, and how long it took.
    fn store(&mut self, length: usize) -> (Result<DeliveryId, StoreRefusal>, Duration) {
        let (from, now) = (Instant::now(), clock(self.begun));
        let mut done = Committed::default();
        let result = self.shelf.commit(&[fresh("orders", &vec![1; length])], &[], now, &mut done);
        let took = from.elapsed();
        self.shelf.mend(clock(self.begun), &mut done);
        (result.map(|()| done.accepted[0].id), took)
    }

    /// Stores until that is refused, or accepted. Gives after how long, and the longest wait for an answer.
    fn until(&mut self, refused: bool, stored: &mut Vec<DeliveryId>) -> (Duration, Duration) {
        let (from, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            let (result, took) = self.store(3_000);
            longest = longest.max(took);
            if let Ok(id) = result {
                stored.push(id);
            }
            if result.is_err() == refused {
                return (from.elapsed(), longest);
            }
            assert!(from.elapsed() < Duration::from_secs(30), "{result:?}: {:?}", self.shelf.take_notes());
            pause(20);
        }
    }

    fn settle(&mut self, id: DeliveryId) -> bool {
        let mut done = Committed::default();
        self.shelf.commit(&[], &[settlement(id, Settled::Done)], clock(self.begun), &mut done).unwrap();
        for _ in 0..40 {
            pause(50);
            self.shelf.mend(clock(self.begun), &mut done);
        }
        done.settled.iter().any(|settled| settled.id == id)
    }

    fn all_whole(&mut self, ids: &[DeliveryId]) {
        let mut record = StoredRecord::default();
        for id in ids {
            let found = self.shelf.fetch(*id, &mut record);
            assert_eq!(found, Ok(Fetched::Whole), "{id}: {:?}", self.shelf.take_notes());
        }
    }
}

fn clock(begun: Instant) -> Now {
    Now { monotonic: begun.elapsed(), unix: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() }
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Takes all room that is left, as a program does that shares the disk.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("stranger");
    let mut file = File::create(&path).unwrap();
    let block = vec![0; 64 << 10];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&block[..512]).is_ok() {}
    let _ = file.sync_all();
    path
}

fn remount(disk: &Path, how: &str) {
    assert!(
        Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(disk).status().unwrap().success(),
        "{how}"
    );
}

#[test]
#[ignore = "tests/live/run inbox-disk"]
fn a_disk_that_is_filled_and_freed() {
    let Some(disk) = disk() else { return };
    let mut real = Real::open(&disk);
    let mut ids = Vec::new();
    real.until(false, &mut ids);
    let stranger = fill(&disk);
    let (refused, longest) = real.until(true, &mut ids);
    assert!(
        refused < Duration::from_millis(2_500) && longest < Duration::from_millis(1_500),
        "{refused:?} {longest:?}"
    );
    real.all_whole(&ids);
    let first = ids.remove(0);
    assert!(real.settle(first), "what is delivered can be removed: {:?}", real.shelf.take_notes());
    // A start on a full disk.
    drop(real);
    let mut real = Real::open(&disk);
    real.all_whole(&ids);
    assert_eq!(real.store(3_000).0, Err(StoreRefusal::DiskFull));
    fs::remove_file(stranger).unwrap();
    let (accepted, answered) = real.until(false, &mut ids);
    assert!(accepted < Duration::from_secs(10), "{accepted:?}");
    drop(real);
    let mut real = Real::open(&disk);
    real.all_whole(&ids);
    assert_eq!(real.shelf.standing().damaged_files, 0);
    let _ = write_line(
        Stream::Output,
        &format!(
            "full: first refusal after {refused:?}, longest answer {:?}; accepted again after {accepted:?}",
            longest.max(answered)
        ),
    );
}

#[test]
#[ignore = "tests/live/run inbox-disk"]
fn a_disk_that_is_read_only_at_the_start() {
    let Some(disk) = disk() else { return };
    let mut real = Real::open(&disk);
    let mut ids = Vec::new();
    (0..20).for_each(|_| _ = real.until(false, &mut ids));
    drop(real);
    remount(&disk, "ro");
    let mut real = Real::open(&disk);
    real.all_whole(&ids);
    assert!(real.store(3_000).0.is_err());
    let first = ids.remove(0);
    assert!(!real.settle(first), "it cannot be written");
    remount(&disk, "rw");
    let (accepted, _) = real.until(false, &mut ids);
    assert!(accepted < Duration::from_secs(2), "{accepted:?}");
    let mut done = Committed::default();
    (0..10).for_each(|_| {
        pause(50);
        real.shelf.mend(clock(real.begun), &mut done);
    });
    assert_eq!(real.shelf.fetch(first, &mut StoredRecord::default()), Ok(Fetched::Gone), "it was settled");
    real.all_whole(&ids);
    assert_eq!((real.shelf.standing().failing_since, real.shelf.standing().damaged_files), (None, 0));
    let _ = write_line(Stream::Output, &format!("read-only: accepted again {accepted:?} after it could be written"));
}

/// Under `strace -e inject`, which makes calls of `fdatasync` fail or wait.
#[test]
#[ignore = "tests/live/run inbox-disk"]
fn a_disk_whose_sync_fails_or_waits() {
    let Some(disk) = disk() else { return };
    let mut real = Real::open(&disk);
    let (mut ids, mut refused, mut longest) = (Vec::new(), 0, Duration::ZERO);
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(8) {
        let (result, took) = real.store(3_000);
        longest = longest.max(took);
        match result {
            Ok(id) => ids.push(id),
            Err(_) => refused += 1,
        }
        pause(10);
    }
    assert!(ids.len() > 10, "{} stored", ids.len());
    assert_eq!((real.shelf.standing().failing_since, real.shelf.standing().damaged_files), (None, 0));
    real.all_whole(&ids);
    drop(real);
    let mut real = Real::open(&disk);
    real.all_whole(&ids);
    let _ = write_line(
        Stream::Output,
        &format!("sync: {} stored, {refused} refused, longest answer {longest:?}", ids.len()),
    );
}
