//! The store over a real engine. Without `redis-server` on this machine the tests say that they were left out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::store::{EngineInboxTerms, EngineStore, LeaseTime};
use crate::control::inbox::keys::{InboxKey, KeyRing};
use crate::edge::clock::Clock;
use crate::edge::policy::Target;
use crate::edge::shared::standing::EngineStanding;
use crate::edge::shared::{EnginePlace, EngineTerms};
use crate::inbox::contract_tests::{fresh, holds, put, settlement};
use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::engine::promise::Durability;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settled, Settlement, StoreOrder, StoreRefusal, StoredRecord,
};
use crate::ledger::shared::EngineKey;
use crate::now::Now;

const DEAD: Settled = Settled::Dead { reason: DeliveryReason::RefusedByApplication };

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A Redis of one test, on a socket in a folder of its own.
pub(super) struct Engine {
    child: Child,
    pub(super) folder: PathBuf,
    prefixes: AtomicUsize,
}

impl Engine {
    pub(super) fn start() -> Option<Self> {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    fn start_with(options: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            let _ = crate::control::terminal::write_problem("left out: redis-server is not installed");
            return None;
        }
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("countersign-engine-inbox-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let child = spawn(&folder, options);
        Some(Self { child, folder, prefixes: AtomicUsize::new(0) })
    }

    fn restart(&mut self, options: &[&str]) {
        self.stop();
        self.child = spawn(&self.folder, options);
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.folder.join("engine.sock"));
    }

    /// Asks it as the user that may do everything.
    pub(super) fn ask(&self, words: &[&str]) {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(self.folder.join("engine.sock")).unwrap();
        let mut text = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| text += &format!("${}\r\n{word}\r\n", word.len()));
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+OK\r\n", "{words:?}");
    }

    /// A name of keys that no other test of this engine has.
    pub(super) fn prefix(&self) -> String {
        format!("t{}:", self.prefixes.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn terms(&self, prefix: &str) -> EngineInboxTerms {
        EngineInboxTerms {
            engine: EngineTerms {
                place: EnginePlace::Direct(Target::Unix(self.folder.join("engine.sock"))),
                tls: None,
                username: None,
                password: None,
                key: EngineKey::new(&[7; 32], prefix),
                connect_timeout: Duration::from_secs(1),
                response_timeout: Duration::from_millis(50),
                process: 1,
                standing: Arc::new(EngineStanding::new(1)),
            },
            size: 64 << 20,
            dead_size: 16 << 20,
            deliveries: 5_000,
            retention: 0,
            durability: Durability::Fsync,
            trusted: false,
            keys: KeyRing::default(),
            lease: LeaseTime::new(Duration::from_millis(400)),
            clock: Clock::start(),
        }
    }

    fn store(&self, prefix: &str) -> EngineStore {
        opened(self.terms(prefix))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &std::path::Path, options: &[&str]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--daemonize", "no", "--unixsocket"]).arg(folder.join("engine.sock"));
    command.arg("--dir").arg(folder).args(options).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn().expect("redis-server starts");
    eventually("an engine", || std::os::unix::net::UnixStream::connect(folder.join("engine.sock")).is_ok());
    child
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !holds() {
        assert!(clock.monotonic() < Duration::from_secs(30), "{what} does not come to pass");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub(super) fn opened(terms: EngineInboxTerms) -> EngineStore {
    let mut store = EngineStore::new(terms).unwrap();
    eventually("an open store", || store.open(now()).is_ok());
    store
}

pub(super) fn now() -> Now {
    Clock::start().now()
}

fn keyed(body: &[u8], key: u8) -> FreshDelivery<'_> {
    FreshDelivery { order_key: [key; 16], ..fresh("orders", body) }
}

/// Stores, and says which of them this replica attempts at once.
fn put_here(store: &mut EngineStore, deliveries: &[FreshDelivery<'_>]) -> (Vec<DeliveryId>, Vec<DeliveryId>) {
    let mut done = Committed::default();
    let result = store.commit(deliveries, &[], now(), &mut done);
    assert_eq!(result, Ok(()), "{:?}", store.take_notes());
    (done.accepted.iter().map(|row| row.id).collect(), done.elsewhere)
}

fn settle(store: &mut EngineStore, settlements: &[Settlement]) -> Committed {
    let mut done = Committed::default();
    store.commit(&[], settlements, now(), &mut done).unwrap();
    done
}

/// What it is given to attempt, up to so many deliveries.
pub(super) fn taken(store: &mut EngineStore, count: usize) -> Vec<DeliveryId> {
    let mut rows = Vec::new();
    eventually("deliveries to attempt", || {
        store.mend_at_once(now());
        store.take(1_000, &mut rows);
        rows.len() >= count
    });
    rows.iter().map(|row| row.id).collect()
}

fn gone(store: &mut EngineStore) -> Vec<DeliveryId> {
    let mut gone = Vec::new();
    store.take_gone(&mut gone);
    gone.sort_unstable();
    gone
}

pub(super) fn list(store: &mut EngineStore, state: Option<DeliveryState>) -> Vec<DeliveryId> {
    let mut rows = Vec::new();
    let filter = DeliveryFilter { state, ..DeliveryFilter::default() };
    assert!(!store.browse(&filter, None, 10_000, &mut rows).unwrap());
    rows.iter().map(|row| row.id).collect()
}

#[test]
fn a_store_in_the_engine_keeps_the_contract() {
    let Some(engine) = Engine::start() else { return };
    holds(|| Box::new(engine.store(&engine.prefix())));
}

#[test]
fn bounds_are_those_of_all_replicas() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let terms = || EngineInboxTerms { deliveries: 2, dead_size: 300, ..engine.terms(&prefix) };
    let (mut one, mut other) = (opened(terms()), opened(terms()));
    let ids = put(&mut one, &[fresh("orders", b"1"), fresh("orders", b"2")]);
    let full = other.commit(&[fresh("orders", b"3")], &[], now(), &mut Committed::default());
    assert_eq!(full, Err(StoreRefusal::Full));
    let done = settle(&mut one, &[settlement(ids[0], DEAD), settlement(ids[1], DEAD)]);
    assert_eq!(done.kept, [ids[1]]);
    assert!(one.standing().dead_letters_full);
    assert_eq!((one.standing().waiting, one.standing().dead), (1, 1));
    one.order(&StoreOrder::Purge(DeliveryFilter::default(), 1), now()).unwrap();
    assert!(!one.standing().dead_letters_full);
    assert_eq!(put(&mut other, &[fresh("orders", b"3")]).len(), 1);
}

#[test]
fn what_a_replica_left_another_takes_over_and_the_first_can_settle_nothing_more() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let (mut one, mut other) = (engine.store(&prefix), engine.store(&prefix));
    let bodies: Vec<[u8; 2]> = (0..600_u16).map(u16::to_be_bytes).collect();
    let ids = put(&mut one, &bodies.iter().map(|body| fresh("orders", body)).collect::<Vec<_>>());
    settle(&mut one, &[settlement(ids[0], Settled::Done), settlement(ids[1], DEAD)]);
    assert!(one.attempts_until().is_some());
    // The first one does not prolong its lease any more.
    assert_eq!(taken(&mut other, 598), ids[2..], "all of them, the oldest first");
    assert_eq!(other.standing().taken_over, 598);
    let mut record = StoredRecord::default();
    assert_eq!(other.fetch(ids[599], &mut record), Ok(Fetched::Whole));
    assert_eq!((record.route(), record.body()), ("orders", &bodies[599][..]));
    settle(&mut one, &[settlement(ids[2], Settled::Done), settlement(ids[3], DEAD)]);
    assert_eq!(other.fetch(ids[2], &mut record), Ok(Fetched::Whole), "it is not the first one's to settle");
    one.mend_at_once(now());
    assert_eq!(gone(&mut one), ids[2..], "and it is told so");
    assert!(one.standing().fenced > 0);
    settle(&mut other, &[settlement(ids[2], Settled::Done)]);
    assert_eq!(other.fetch(ids[2], &mut record), Ok(Fetched::Gone));
    // The first one goes on with a new holding.
    let (mine, elsewhere) = put_here(&mut one, &[fresh("orders", b"new")]);
    assert_eq!((mine.len(), elsewhere.len()), (1, 0));
    assert_eq!(list(&mut other, None).len(), 599);
}

#[test]
fn a_replica_that_stops_leaves_at_once_what_it_had() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let long = || EngineInboxTerms { lease: LeaseTime::new(Duration::from_secs(3_600)), ..engine.terms(&prefix) };
    let (mut one, mut other) = (opened(long()), opened(long()));
    let ids = put(&mut one, &[fresh("orders", b"1"), keyed(b"2", 1)]);
    other.mend_at_once(now());
    assert_eq!(other.standing().taken_over, 0, "a lease is respected");
    drop(one);
    assert_eq!(taken(&mut other, 2), ids);
}

#[test]
fn a_key_is_with_one_replica_in_the_order_of_acceptance() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let (mut one, mut other) = (engine.store(&prefix), engine.store(&prefix));
    let (first, elsewhere) = put_here(&mut one, &[keyed(b"1", 1)]);
    assert_eq!(elsewhere, []);
    let (second, elsewhere) = put_here(&mut other, &[keyed(b"2", 1), keyed(b"x", 2)]);
    assert_eq!(elsewhere, second[..1], "the key is with the other one");
    // Before the first one has heard of it: what comes later must not be attempted earlier.
    let (third, elsewhere) = put_here(&mut one, &[keyed(b"3", 1), fresh("orders", b"y")]);
    assert_eq!(elsewhere, third[..1]);
    assert!(first[0] < second[0] && second[0] < third[0]);
    assert_eq!(taken(&mut one, 2), [second[0], third[0]]);
    // A dead letter keeps the key where it is: it may have to wait for it.
    let done: Vec<Settlement> = [second[0], third[0]].map(|id| settlement(id, Settled::Done)).to_vec();
    settle(&mut one, &[done.as_slice(), &[settlement(first[0], DEAD)]].concat());
    let (fourth, elsewhere) = put_here(&mut other, &[keyed(b"4", 1)]);
    assert_eq!((fourth.len(), elsewhere), (1, fourth.clone()));
    assert_eq!(taken(&mut one, 1), fourth);
    settle(&mut one, &[settlement(fourth[0], Settled::Done)]);
    // Redriven by another replica, it goes to the replica that has the key.
    let redriven = other.order(&StoreOrder::Redrive(DeliveryFilter::default(), 10), now()).unwrap();
    assert_eq!(redriven, first);
    assert_eq!(taken(&mut one, 1), first);
    settle(&mut one, &[Settlement { redrives: 1, ..settlement(first[0], Settled::Done) }]);
    // With nothing left the key is free.
    let (_, elsewhere) = put_here(&mut other, &[keyed(b"5", 1)]);
    assert_eq!(elsewhere, []);
}

#[test]
fn a_key_stays_whole_while_its_deliveries_are_taken_over() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let mut one = engine.store(&prefix);
    let bodies: Vec<[u8; 2]> = (0..1_200_u16).map(u16::to_be_bytes).collect();
    let ids = put(&mut one, &bodies.iter().map(|body| keyed(body, body[1] % 3 + 1)).collect::<Vec<_>>());
    drop(one);
    let (mut two, mut three) = (engine.store(&prefix), engine.store(&prefix));
    let mut seen = Vec::new();
    two.take(2_000, &mut seen);
    assert!(!seen.is_empty() && seen.len() < 1_200, "the second one is in the middle of it: {}", seen.len());
    let (fresh_ids, elsewhere) = put_here(&mut three, &[keyed(b"a", 1), keyed(b"b", 2), keyed(b"c", 3)]);
    assert_eq!(elsewhere, fresh_ids, "all keys are where the first ones are");
    let (own, elsewhere) = put_here(&mut two, &[keyed(b"d", 1)]);
    assert_eq!(elsewhere, own, "older ones come first");
    let mut all: Vec<DeliveryId> = seen.iter().map(|row| row.id).collect();
    all.extend(taken(&mut two, 1_204 - all.len()));
    assert_eq!(all, [ids, fresh_ids, own].concat(), "in their order");
    three.mend_at_once(now());
    assert_eq!(three.standing().taken_over, 0);
}

#[test]
fn copies_are_recognised_whichever_replica_accepted_the_first() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let (mut one, mut other) = (engine.store(&prefix), engine.store(&prefix));
    let until = u64::try_from(now().unix_millis()).unwrap() + 60_000;
    let further = [[5; 32]];
    let named =
        |body| FreshDelivery { seen_key: [4; 32], seen_until: until, seen_also: &further, ..fresh("orders", body) };
    let (first, elsewhere) = put_here(&mut one, &[named(b"1")]);
    assert_eq!(elsewhere, []);
    assert_eq!(put_here(&mut other, &[named(b"1")]), (first.clone(), first.clone()), "not stored again");
    let by_further = FreshDelivery { seen_key: [5; 32], seen_also: &[], ..named(b"1") };
    assert_eq!(put_here(&mut other, &[by_further]).0, first);
    assert_eq!(list(&mut one, None), first);
    let in_one_batch = FreshDelivery { seen_key: [6; 32], seen_also: &[], ..named(b"2") };
    let (both, elsewhere) = put_here(&mut one, &[in_one_batch, in_one_batch]);
    assert_eq!((both[0], elsewhere), (both[1], vec![both[1]]));
}

#[test]
fn what_an_operator_does_at_one_replica_the_others_follow() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let (mut one, mut other) = (engine.store(&prefix), engine.store(&prefix));
    let ids = put(&mut one, &[fresh("orders", b"1"), fresh("bills", b"2"), keyed(b"3", 1)]);
    assert_eq!(list(&mut other, None), ids);
    other.order(&StoreOrder::Hold("bills".to_owned(), true), now()).unwrap();
    one.mend_at_once(now());
    let mut held = Vec::new();
    one.take_held(&mut held);
    assert_eq!((held, one.held_routes()), (vec![("bills".to_owned(), true)], vec!["bills".to_owned()]));
    let of_orders = DeliveryFilter { route: Some("orders".to_owned()), ..DeliveryFilter::default() };
    assert_eq!(other.order(&StoreOrder::Purge(of_orders, 10), now()).unwrap(), [ids[0], ids[2]]);
    one.mend_at_once(now());
    assert_eq!(gone(&mut one), [ids[0], ids[2]]);
    let done = settle(&mut one, &[settlement(ids[0], Settled::Again { due: 5 })]);
    assert_eq!(done.settled.len(), 1, "an attempt that was under way ends unheard");
    assert_eq!(list(&mut one, None), ids[1..2]);
    settle(&mut one, &[settlement(ids[1], DEAD)]);
    assert_eq!(other.order(&StoreOrder::Redrive(DeliveryFilter::default(), 10), now()).unwrap(), ids[1..2]);
    assert_eq!(taken(&mut other, 1), ids[1..2], "a dead letter without a key is attempted where it is redriven");
    other.order(&StoreOrder::Hold("bills".to_owned(), false), now()).unwrap();
    one.mend_at_once(now());
    assert_eq!(one.held_routes(), Vec::<String>::new());
}

#[test]
fn dead_letters_expire_by_the_clock_of_the_engine() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let terms = || EngineInboxTerms { retention: 150, ..engine.terms(&prefix) };
    let (mut one, mut other) = (opened(terms()), opened(terms()));
    let ids = put(&mut one, &[fresh("orders", b"1"), keyed(b"2", 1), fresh("orders", b"3")]);
    settle(&mut one, &[settlement(ids[0], DEAD), settlement(ids[1], DEAD)]);
    let mut expired = Vec::new();
    eventually("the end of the dead letters", || {
        other.mend_at_once(now());
        expired.extend(other.take_expired());
        expired.len() == 2
    });
    one.mend_at_once(now());
    assert_eq!(gone(&mut one), ids[1..2], "its key does not wait for it any more");
    assert_eq!((list(&mut one, None), one.standing().dead), (ids[2..].to_vec(), 0));
}

#[test]
fn an_engine_that_restarts_is_found_again_with_everything_in_it() {
    const OPTIONS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let mut store =
        opened(EngineInboxTerms { lease: LeaseTime::new(Duration::from_secs(3_600)), ..engine.terms(&prefix) });
    let ids = put(&mut store, &[fresh("orders", b"1"), fresh("orders", b"2")]);
    engine.stop();
    let settled = settle(&mut store, &[settlement(ids[0], Settled::Done)]).settled;
    assert_eq!(settled, [], "it is written later");
    let refused = store.commit(&[fresh("orders", b"3")], &[], now(), &mut Committed::default());
    assert!(refused.is_err());
    assert!(store.standing().failing_since.is_some());
    engine.restart(&OPTIONS);
    let mut done = Committed::default();
    eventually("the settlement", || {
        store.mend(now(), &mut done);
        !done.settled.is_empty()
    });
    assert_eq!(store.standing().failing_since, None);
    let (third, elsewhere) = put_here(&mut store, &[fresh("orders", b"3")]);
    assert_eq!(elsewhere, [], "the holding is the same");
    assert_eq!(list(&mut store, None), [ids[1], third[0]], "and scripts are known again");
}

#[test]
fn an_engine_without_memory_refuses_what_is_new_and_what_it_has_goes_on() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let mut store = engine.store(&prefix);
    let ids = put(&mut store, &[fresh("orders", b"1"), fresh("orders", b"2"), keyed(b"3", 1), keyed(b"4", 1)]);
    engine.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = store.commit(&[fresh("orders", b"5")], &[], now(), &mut Committed::default());
    assert_eq!(full, Err(StoreRefusal::Full));
    let ends =
        [settlement(ids[0], Settled::Again { due: 5 }), settlement(ids[1], DEAD), settlement(ids[2], Settled::Done)];
    assert_eq!(settle(&mut store, &ends).settled.len(), 3);
    // For longer than a lease: it is prolonged.
    for _ in 0..100 {
        store.mend_at_once(now());
        std::thread::park_timeout(Duration::from_millis(6));
    }
    assert_eq!((store.standing().failing_since, gone(&mut store)), (None, Vec::new()));
    drop(store);
    let mut other = engine.store(&prefix);
    assert_eq!(taken(&mut other, 2), [ids[0], ids[3]], "what is left is taken over");
    engine.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(put(&mut other, &[fresh("orders", b"5")]).len(), 1);
}

#[test]
fn a_promise_that_the_engine_does_not_keep_is_refused() {
    let Some(mut engine) = Engine::start_with(&["--appendonly", "no"]) else { return };
    let prefix = engine.prefix();
    let try_open = |engine: &Engine, durability, trusted| {
        let terms = EngineInboxTerms { durability, trusted, ..engine.terms(&prefix) };
        let mut store = EngineStore::new(terms).unwrap();
        store.open(now()).map(|()| store.means().to_owned())
    };
    let why = try_open(&engine, Durability::Fsync, false).unwrap_err();
    assert!(why.contains("appendonly no") && why.contains("promise more"), "{why}");
    assert!(try_open(&engine, Durability::Os, false).is_err());
    assert!(try_open(&engine, Durability::Memory, false).unwrap().contains("lost when the engine ends"));
    engine.restart(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    assert!(try_open(&engine, Durability::Fsync, false).unwrap_err().contains("everysec"));
    assert!(try_open(&engine, Durability::Os, false).unwrap().contains("appendfsync everysec"));
    engine.restart(&["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "allkeys-lru"]);
    let why = try_open(&engine, Durability::Memory, true).unwrap_err();
    assert!(why.contains("evicts"), "{why}");
}

#[test]
fn what_is_encrypted_waits_for_its_key_and_is_never_called_damaged() {
    let Some(engine) = Engine::start() else { return };
    let prefix = engine.prefix();
    let key = |id: &str| InboxKey::parse(id, vec![id.as_bytes()[0]; 32]).unwrap();
    let with = |keys: KeyRing| EngineInboxTerms { keys, ..engine.terms(&prefix) };
    let mut one = opened(with(vec![key("a")].into()));
    let ids = put(&mut one, &[fresh("orders", b"1")]);
    drop(one);
    let ring = KeyRing::from(vec![key("b")]);
    let mut other = opened(with(ring.clone()));
    assert_eq!(taken(&mut other, 1), ids);
    let mut record = StoredRecord::default();
    assert!(other.fetch(ids[0], &mut record).unwrap_err().to_string().contains("encrypted with a key"));
    assert_eq!((gone(&mut other), other.standing().locked), (ids.clone(), 1));
    assert_eq!(list(&mut other, Some(DeliveryState::Waiting)), ids);
    ring.set(vec![key("b"), key("a")]);
    assert_eq!(taken(&mut other, 1), ids, "without a restart");
    assert_eq!(other.fetch(ids[0], &mut record), Ok(Fetched::Whole));
    assert_eq!(record.body(), b"1");
}
