//! A trail over a disk that is slow, full or broken when the test says so.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::*;
use crate::config::parse_str;
use crate::control::audit_file::Store;
use crate::now::Now;
use crate::outcome::Observed;
use crate::telemetry::audit::{Examiner, Link};
use crate::telemetry::deliveries::AttemptResult;
use crate::telemetry::exchange::{RouteTag, Stage, Stages, Stated};

#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    broken: Arc<AtomicBool>,
    moved: Arc<AtomicBool>,
    /// A test that holds it lets the disk wait.
    gate: Arc<Mutex<()>>,
    /// Whether something is to be written, and waits for the gate.
    is_waited_for: Arc<AtomicBool>,
}

impl Disk {
    fn wait(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap()
    }

    fn whole(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Store for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_waited_for.store(true, Ordering::SeqCst);
        let _open = self.wait();
        self.is_waited_for.store(false, Ordering::SeqCst);
        self.whole()?;
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.whole()
    }
    fn is_full(&self, _: Duration) -> bool {
        false
    }
    fn rotate(&mut self, _: Link, _: Duration) -> io::Result<()> {
        Ok(())
    }
    fn is_in_place(&self) -> bool {
        !self.moved.load(Ordering::SeqCst)
    }
    fn replace(&mut self, _: Duration) -> io::Result<()> {
        self.moved.store(false, Ordering::SeqCst);
        // The space of a file that was moved away is free only when no process has it open any more.
        self.broken.store(false, Ordering::SeqCst);
        Ok(())
    }
}

fn audit(disk: &Disk, keys: &str) -> Audit {
    let text = format!(
        "[[listener]]\naddress = '127.0.0.1:1'\n[[route]]\npath = '/a'\nscheme = 'none'\nupstream = '127.0.0.1:2'\n\
         [audit]\nfile = 'a'\nkey = {{ id = 'k', file = 'k' }}\n{keys}\n"
    );
    let (settings, _) = parse_str("test.toml", &text).unwrap();
    let settings = settings.audit.unwrap();
    let opening = Opening { store: Box::new(disk.clone()), last: Link::NONE, entries: Vec::new() };
    Audit::over(
        &settings,
        Arc::new(SealKey::new("k", b"key")),
        Writers { workers: 1, delivers: true },
        opening,
        Arc::new(EventLog::start()),
    )
    .unwrap()
}

fn passed() -> Exchange<'static> {
    let mut stages = Stages::default();
    stages.mark(Stage::Answered, Duration::from_millis(1));
    Exchange {
        worker: 0,
        request_id: [b'0'; 32],
        ended: Now::at_unix(Duration::from_secs(1_760_000_000)),
        route: Some(RouteTag { position: 0, name: "a", scheme: "none" }),
        peer: None,
        client: None,
        caller: None,
        method: b"POST",
        path: b"/a",
        query: b"",
        outcome: Outcome::Forwarded { status: 200 },
        accepted: None,
        broken_rule: None,
        observed: Observed::NONE,
        key_id: None,
        delivery_id: None,
        stated: Stated::default(),
        body: Some(b"{}"),
        received: 2,
        sent: 0,
        stages,
    }
}

#[expect(clippy::disallowed_methods, reason = "a test waits for a thread")]
fn eventually(condition: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < give_up);
        std::thread::yield_now();
    }
}

/// Lines of deliveries, and deliveries that are only counted.
fn recorded(disk: &Disk) -> (u64, u64) {
    let bytes = disk.bytes.lock().unwrap();
    let keys = [SealKey::new("k", b"key")];
    let mut examiner = Examiner::new(&keys);
    let (mut lines, mut counted) = (0, 0);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        examiner.line(line).unwrap();
        let text = std::str::from_utf8(line).unwrap();
        lines += u64::from(text.contains("\"event\":\"delivery\""));
        let count = text.split_once("\"count\":").and_then(|(_, rest)| rest.split(',').next());
        counted += count.map_or(0, |count| count.parse::<u64>().unwrap());
    }
    assert!(examiner.summary().unwrap().seals > 0);
    (lines, counted)
}

#[test]
fn a_slow_disk_refuses_when_the_buffer_is_full_and_loses_nothing() {
    let disk = Disk::default();
    let audit = audit(&disk, "interval = '20ms'");
    let slow = disk.wait();
    assert_eq!(audit.answering(&passed()), None);
    let mut passed_on = 1;
    // From here on nothing is taken out of the buffer.
    eventually(|| disk.is_waited_for.load(Ordering::SeqCst));
    while audit.can_record(0) {
        assert_eq!(audit.answering(&passed()), None);
        passed_on += 1;
    }
    // What was let in before the buffer was full is recorded all the same; what is refused has a number.
    for _ in 0..100 {
        audit.answering(&passed());
        audit.exchange(&Exchange {
            outcome: Rejection::AuditUnavailable.into(),
            key_id: Some("k"),
            stages: Stages::default(),
            ..passed()
        });
    }
    drop(slow);
    eventually(|| audit.can_record(0));
    audit.finish();
    assert_eq!(recorded(&disk), (passed_on + 100, 100));
}

#[test]
fn attempts_have_records_of_their_own_and_a_broken_application_fills_no_disk() {
    let disk = Disk::default();
    let audit = audit(&disk, "refused = '5/h'");
    let ended = Now::at_unix(Duration::from_secs(1_760_000_000));
    let attempt = Attempted {
        ended,
        request_id: Some([b'0'; 32]),
        route: "a",
        delivery: [b'0'; 13],
        attempt: 1,
        is_redriven: false,
        result: AttemptResult::Again,
        reason: "unreachable",
        status: 0,
        took: Duration::ZERO,
        age: Duration::ZERO,
    };
    for number in 1..=200 {
        audit.attempted(&Attempted { attempt: number, ..attempt });
    }
    for (result, reason) in [(AttemptResult::Delivered, "delivered"), (AttemptResult::Dead, "gave_up_age")] {
        audit.attempted(&Attempted { result, reason, ..attempt });
    }
    audit.finish();
    assert_eq!(recorded(&disk), (0, 195), "the others are counted");
    let written = String::from_utf8(disk.bytes.lock().unwrap().clone()).unwrap();
    assert_eq!(written.matches("\"event\":\"attempt\"").count(), 7);
    assert_eq!(written.matches("\"outcome\":\"delivered\"").count(), 1);
    assert!(written.contains("\"outcome\":\"dead\",\"reason\":\"gave_up_age\""), "{written}");
    assert!(written.contains("\"why\":\"rate\"") && written.contains("\"reasons\":{\"attempt\":"), "{written}");
}

#[test]
fn a_slow_disk_is_passed_by_where_that_is_wanted() {
    let disk = Disk::default();
    let audit = audit(&disk, "when_blocked = 'drop'\nfsync = 'each'");
    let slow = disk.wait();
    for _ in 0..20_000 {
        assert!(audit.can_record(0));
        audit.answering(&passed());
    }
    drop(slow);
    audit.finish();
    let (lines, counted) = recorded(&disk);
    assert!(counted > 0 && lines + counted == 20_000, "{lines} {counted}");
}

#[test]
fn a_ticket_is_kept_failed_or_pending() {
    let disk = Disk::default();
    let audit = audit(&disk, "fsync = 'each'");
    let changes = audit.changes(0).unwrap();
    assert!(audit.changes(0).is_none());
    let first = audit.answering(&passed()).unwrap();
    eventually(|| audit.kept(0, first) == Kept::Durable);
    assert_eq!(io::Read::read(&mut &changes, &mut [0; 1]).unwrap(), 1, "the worker is told");
    let slow = disk.wait();
    let second = audit.answering(&passed()).unwrap();
    assert_eq!(audit.kept(0, second), Kept::Pending);
    disk.broken.store(true, Ordering::SeqCst);
    drop(slow);
    eventually(|| audit.kept(0, second) == Kept::Failed);
    assert!(second.mandatory && !audit.can_record(0));
    disk.broken.store(false, Ordering::SeqCst);
    eventually(|| audit.kept(0, second) == Kept::Durable && audit.can_record(0));
    audit.finish();
    assert_eq!(recorded(&disk), (2, 0));
}

#[test]
fn a_file_that_is_moved_off_a_full_disk_has_a_successor() {
    let disk = Disk::default();
    let audit = audit(&disk, "interval = '20ms'");
    disk.broken.store(true, Ordering::SeqCst);
    audit.answering(&passed());
    eventually(|| !audit.can_record(0));
    disk.moved.store(true, Ordering::SeqCst);
    eventually(|| audit.can_record(0));
    audit.finish();
    assert_eq!(recorded(&disk), (1, 0));
}

fn copy() -> Exchange<'static> {
    Exchange {
        outcome: Rejection::Duplicate.into(),
        key_id: Some("k"),
        ended: Now::at_unix(Duration::from_secs(1_760_000_001)),
        ..passed()
    }
}

/// An acknowledgement is right, also when the copy has no record of its own.
#[test]
fn a_copy_over_the_rate_waits_for_what_was_recorded_before() {
    let disk = Disk::default();
    let audit = audit(&disk, "fsync = 'each'\nrefused = '1/h'");
    let slow = disk.wait();
    let (accepted, first) = (audit.answering(&passed()).unwrap(), audit.answering(&copy()).unwrap());
    let later: Vec<Ticket> = (0..100).map(|_| audit.answering(&copy()).unwrap()).collect();
    assert!(later.iter().all(|ticket| ticket.mandatory && matches!(ticket.awaited, Awaited::Everything(_))));
    let all = || [accepted, first].into_iter().chain(later.iter().copied());
    assert!(all().all(|ticket| audit.kept(0, ticket) == Kept::Pending));
    disk.broken.store(true, Ordering::SeqCst);
    drop(slow);
    eventually(|| all().all(|ticket| audit.kept(0, ticket) == Kept::Failed));
    disk.broken.store(false, Ordering::SeqCst);
    eventually(|| all().all(|ticket| audit.kept(0, ticket) == Kept::Durable));
    // Where everything is durable already, nothing has to be written for it.
    let after = audit.answering(&copy()).unwrap();
    eventually(|| audit.kept(0, after) == Kept::Durable);
    audit.finish();
    assert_eq!(recorded(&disk), (2, 101));
}

#[test]
fn copies_over_the_rate_wait_for_nothing_where_no_answer_waits() {
    for keys in ["refused = '1/h'", "refused = '1/h'\nfsync = 'each'\nwhen_blocked = 'drop'"] {
        let disk = Disk::default();
        let audit = audit(&disk, keys);
        audit.answering(&passed());
        audit.answering(&copy());
        assert!((0..100).all(|_| audit.answering(&copy()).is_none()));
        // The exchange ends, and is not counted twice.
        (0..101).for_each(|_| audit.exchange(&copy()));
        audit.finish();
        assert_eq!(recorded(&disk), (2, 100));
    }
}

/// A trail that has been stopped says so in its last entry, whatever was only counted until then.
#[test]
fn the_stop_is_the_last_entry() {
    let disk = Disk::default();
    let audit = audit(&disk, "refused = '1/h'");
    (0..3).for_each(|_| assert_eq!(audit.answering(&copy()), None));
    audit.finish();
    let bytes = disk.bytes.lock().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let event = |line: &str| line.split_once("\"event\":\"").unwrap().1.split('"').next().unwrap().to_owned();
    let events: Vec<String> = text.lines().map(event).collect();
    assert_eq!(events.iter().rev().take(3).map(String::as_str).collect::<Vec<_>>(), ["seal", "stop", "unrecorded"]);
}
