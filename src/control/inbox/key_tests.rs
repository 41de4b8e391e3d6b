//! Encryption at rest on a simulated disk: nothing in the clear, keys that rotate, are missing, or are other ones.
#![allow(clippy::unwrap_used)]

use crate::inbox::contract_tests::{fresh, now, put, settle, settlement};
use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Committed, DeliveryStore, Fetched, Settled, StoreOrder, StoreRefusal, StoredRecord};

use super::disk::Disk;
use super::disk_in_tests::SimulatedDisk;
use super::examining;
use super::generation::{FileTerms, Generation};
use super::keys::{InboxKey, KeyRing, random_salt, sealer_of};
use super::shelf::{Shelf, ShelfTerms};
use super::shelf_tests::{key, terms};

const DEAD: Settled = Settled::Dead { reason: DeliveryReason::RefusedByApplication };

fn with(disk: &SimulatedDisk, keys: &[InboxKey]) -> (Shelf, KeyRing) {
    let ring = KeyRing::from(keys.to_vec());
    let terms = ShelfTerms { keys: ring.clone(), salt: Box::new(random_salt), ..terms(&[]) };
    (Shelf::open(Box::new(disk.clone()), terms, now(0)).unwrap(), ring)
}

fn mend(store: &mut Shelf, seconds: std::ops::Range<u64>) {
    seconds.for_each(|second| store.mend(now(second * 1_000), &mut Committed::default()));
}

fn body(store: &mut Shelf, id: DeliveryId) -> Result<Vec<u8>, String> {
    let mut record = StoredRecord::default();
    match store.fetch(id, &mut record) {
        Ok(Fetched::Whole) => Ok(record.body().to_vec()),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn is_clear(disk: &SimulatedDisk, bytes: &[u8]) -> bool {
    disk.names().iter().any(|name| disk.find(name, bytes).is_some())
}

fn taken(store: &mut Shelf) -> Vec<DeliveryId> {
    let mut rows = Vec::new();
    store.take(1_000, &mut rows);
    rows.iter().map(|row| row.id).collect()
}

fn listed(store: &mut Shelf) -> Vec<(DeliveryId, DeliveryState)> {
    let mut rows = Vec::new();
    store.browse(&DeliveryFilter::default(), None, 1_000, &mut rows).unwrap();
    rows.iter().map(|row| (row.id, row.state)).collect()
}

#[test]
fn heads_and_bodies_are_in_no_file_in_the_clear() {
    for (keys, clear) in [(vec![], true), (vec![key("a", 1)], false)] {
        let disk = SimulatedDisk::default();
        let (mut store, _) = with(&disk, &keys);
        let large = b"a body of many chunks ".repeat(9_000);
        let delivery = FreshDelivery { head: b"POST /secret-path HTTP/1.1\r\n", ..fresh("a", b"a secret body") };
        let ids = put(&mut store, &[delivery, fresh("a", &large)]);
        settle(&mut store, &[settlement(ids[0], DEAD), settlement(ids[1], DEAD)]);
        mend(&mut store, 1..9);
        assert_eq!(body(&mut store, ids[1]), Ok(large));
        drop(store);
        assert!(disk.names().len() > 1, "dead letters have a file of their own");
        for part in [&b"a secret body"[..], b"/secret-path", b"a body of many chunks"] {
            assert_eq!(is_clear(&disk, part), clear, "{}", String::from_utf8_lossy(part));
        }
    }
}

#[test]
fn the_first_key_encrypts_and_what_others_encrypted_is_encrypted_anew() {
    for first in [vec![], vec![key("old", 1)]] {
        let disk = SimulatedDisk::default();
        let (mut store, ring) = with(&disk, &first);
        let ids = put(&mut store, &[fresh("a", b"first body"), fresh("a", b"dead body"), fresh("a", b"third body")]);
        settle(&mut store, &[settlement(ids[1], DEAD)]);
        assert_eq!(taken(&mut store), []);
        // The key is there from the next moment on, without a restart.
        ring.set([vec![key("new", 2)], first].concat());
        mend(&mut store, 1..2);
        assert_eq!((store.standing().locked, store.standing().former_keys), (0, 1), "the waiting ones have moved");
        let more = put(&mut store, &[fresh("a", b"fourth body")]);
        mend(&mut store, 2..9);
        assert_eq!((store.standing().locked, store.standing().former_keys), (0, 0));
        assert!(store.take_notes().iter().any(|note| note.contains("not needed")));
        assert_eq!(taken(&mut store), [], "what is to be attempted is known by now");
        drop(store);
        assert!(!is_clear(&disk, b"body"), "the former files are gone");
        let (mut store, _) = with(&disk, &[key("new", 2)]);
        let all = [ids, more].concat();
        let dead =
            [false, true, false, false].map(|dead| if dead { DeliveryState::Dead } else { DeliveryState::Waiting });
        assert_eq!(listed(&mut store), all.iter().copied().zip(dead).collect::<Vec<_>>());
        let bodies: Vec<_> = all.iter().map(|id| body(&mut store, *id).unwrap()).collect();
        assert_eq!(bodies, [&b"first body"[..], b"dead body", b"third body", b"fourth body"]);
    }
}

#[test]
fn what_was_written_before_a_restart_is_read_after_it() {
    let disk = SimulatedDisk::default();
    let mut all = Vec::new();
    for round in 0..3_u8 {
        let (mut store, _) = with(&disk, &[key("a", 1)]);
        all.extend(put(&mut store, &[fresh("a", &[round; 9])]));
        for (id, byte) in all.iter().zip(0_u8..) {
            assert_eq!(body(&mut store, *id), Ok(vec![byte; 9]));
        }
    }
    assert_eq!(disk.names().iter().filter(|name| name.starts_with("inbox-")).count(), 1, "in one file");
}

#[test]
fn a_delivery_whose_key_is_missing_or_another_one_is_kept_until_it_is_there() {
    for (wrong, words) in [
        (vec![key("new", 2)], ["the key \"old\", which is not among the keys", "add it to [inbox] encryption.keys"]),
        (vec![key("old", 9)], ["another key than the one that is given as \"old\"", "put the former content"]),
        (vec![], ["the key \"old\", which is not among the keys", "--key old=FILE"]),
    ] {
        let disk = SimulatedDisk::default();
        let until = u64::try_from(now(500_000).unix_millis()).unwrap();
        let (mut store, _) = with(&disk, &[key("old", 1)]);
        let seen = FreshDelivery { seen_key: [7; 32], seen_until: until, ..fresh("a", b"first") };
        let ids = put(&mut store, &[seen, fresh("a", b"second")]);
        settle(&mut store, &[settlement(ids[1], DEAD)]);
        drop(store);
        let (mut store, ring) = with(&disk, &wrong);
        let notes = store.take_notes().join("\n");
        assert!(words.iter().all(|word| notes.contains(word)), "{notes}");
        assert_eq!((store.standing().locked, store.standing().waiting, store.standing().dead), (2, 1, 1));
        assert_eq!(listed(&mut store), [(ids[0], DeliveryState::Waiting), (ids[1], DeliveryState::Dead)]);
        assert_eq!(taken(&mut store), [], "it is not attempted");
        for id in &ids {
            let why = body(&mut store, *id).unwrap_err();
            assert!(words.iter().all(|word| why.contains(word)), "{why}");
        }
        let mut known = Vec::new();
        store.each_seen(now(0), |key, _| known.push(key));
        assert_eq!(known, [[7; 32]], "copies are recognised");
        let redriven = store.order(&StoreOrder::Redrive(DeliveryFilter::default(), 9), now(0)).unwrap();
        assert_eq!(redriven, [], "a dead letter that cannot be read stays one");
        let more = put(&mut store, &[fresh("a", b"third")]);
        mend(&mut store, 1..9);
        assert_eq!((store.standing().damaged, store.standing().locked), (0, 2), "the others go on, and these are kept");
        // The key comes back while the process runs.
        ring.set(vec![key("new", 2), key("old", 1)]);
        mend(&mut store, 9..10);
        let others = u64::from(wrong.iter().any(|key| key.id == "old"));
        assert_eq!(store.standing().locked, others, "what was written with the other one");
        let given = taken(&mut store);
        assert!(given.contains(&ids[0]) && !given.contains(&more[0]), "{given:?}");
        assert_eq!(body(&mut store, ids[0]).as_deref(), Ok(&b"first"[..]));
        assert_eq!(body(&mut store, ids[1]).as_deref(), Ok(&b"second"[..]));
        // And goes again: what is known already fails to be read, and nothing is given twice.
        mend(&mut store, 10..20);
        ring.set(vec![key("other", 5)]);
        mend(&mut store, 20..21);
        assert!(body(&mut store, ids[0]).unwrap_err().contains("\"new\""));
        ring.set(vec![key("new", 2), key("old", 1)]);
        mend(&mut store, 21..30);
        assert_eq!(taken(&mut store), []);
        assert_eq!(body(&mut store, ids[0]).as_deref(), Ok(&b"first"[..]));
    }
}

#[test]
fn without_randomness_nothing_is_stored_and_what_is_stored_is_kept() {
    let disk = SimulatedDisk::default();
    let (mut store, _) = with(&disk, &[key("a", 1)]);
    let ids = put(&mut store, &[fresh("a", b"x")]);
    drop(store);
    let terms = ShelfTerms { keys: vec![key("a", 1)].into(), salt: Box::new(|| None), ..terms(&[]) };
    let mut store = Shelf::open(Box::new(disk.clone()), terms, now(0)).unwrap();
    let refused = store.commit(&[fresh("a", b"y")], &[], now(0), &mut Committed::default());
    assert_eq!(refused, Err(StoreRefusal::Failed));
    assert!(store.take_notes().iter().any(|note| note.contains("no randomness")));
    drop(store);
    let (mut store, _) = with(&disk, &[key("a", 1)]);
    assert_eq!(body(&mut store, ids[0]).as_deref(), Ok(&b"x"[..]));
}

/// What an attacker can do who writes the directory and has no key: rows have a check sum alone.
fn forge(disk: &SimulatedDisk, keys: &[InboxKey], id: DeliveryId, change: impl Fn(&mut DeliveryRow)) {
    for name in disk.names() {
        let terms = FileTerms { limit: u64::MAX, durable: true };
        let opened = Generation::open(disk.open(&name).unwrap(), terms, |key| sealer_of(keys, key, Some([4; 16])));
        opened.unwrap().0.write(|writing| writing.change_row(id, &change)).unwrap();
    }
}

#[test]
fn a_row_that_says_something_else_than_its_record_is_damage() {
    let keys = [key("a", 1)];
    let changes: [fn(&mut DeliveryRow); 5] = [
        |row| row.route = 1,
        |row| row.order_key = [1; 16],
        |row| row.seen_key = [1; 32],
        |row| row.accepted += 1,
        |row| (row.head_length, row.body_length) = (row.head_length - 1, row.body_length + 1),
    ];
    for (at, change) in changes.iter().enumerate() {
        for keys in [&keys[..], &[]] {
            let disk = SimulatedDisk::default();
            let mut store = with(&disk, keys).0;
            let ids = put(&mut store, &[fresh("orders", b"one"), fresh("bills", b"two"), fresh("orders", b"three")]);
            drop(store);
            forge(&disk, keys, ids[0], change);
            let found = examining::verify(&disk, keys).unwrap();
            assert_eq!(found[0].damaged, ids[..1], "change {at}");
            let mut store = with(&disk, keys).0;
            let mut record = StoredRecord::default();
            assert_eq!(store.fetch(ids[0], &mut record), Ok(Fetched::Damaged), "change {at}");
            assert_eq!(store.fetch(ids[2], &mut record), Ok(Fetched::Whole));
            assert_eq!(store.standing().damaged, 1);
            // Nor does it become whole by moving to another file.
            drop(store);
            let mut store = with(&disk, &[key("b", 2), key("a", 1)]).0;
            mend(&mut store, 1..20);
            assert_eq!(store.standing().damaged, 1, "change {at}");
        }
    }
}

#[test]
fn ids_that_no_process_gives_are_damage() {
    let disk = SimulatedDisk::default();
    let mut store = with(&disk, &[]).0;
    put(&mut store, &[fresh("orders", b"one")]);
    drop(store);
    let name = disk.names().remove(0);
    let terms = FileTerms { limit: u64::MAX, durable: true };
    let opened = Generation::open(disk.open(&name).unwrap(), terms, |key| sealer_of(&[], key, None));
    opened.unwrap().0.write(|writing| writing.ids_below(u64::MAX)).unwrap();
    let mut store = with(&disk, &[]).0;
    assert_eq!((store.standing().damaged_files, store.standing().waiting), (1, 0));
    put(&mut store, &[fresh("orders", b"two")]);
}

#[test]
fn a_process_that_is_killed_while_keys_rotate_loses_nothing() {
    let (first, second) = (key("a", 1), key("b", 2));
    for operations in (0..).step_by(17) {
        let disk = SimulatedDisk::default();
        let mut store = with(&disk, core::slice::from_ref(&first)).0;
        let bodies: Vec<[u8; 3]> = (0..6).map(|at| [at; 3]).collect();
        let ids = put(&mut store, &bodies.iter().map(|body| fresh("orders", body)).collect::<Vec<_>>());
        settle(&mut store, &[settlement(ids[0], DEAD)]);
        drop(store);
        let (mut store, ring) = with(&disk, core::slice::from_ref(&first));
        ring.set(vec![second.clone(), first.clone()]);
        disk.die_in(operations);
        mend(&mut store, 1..8);
        let died = disk.is_dead();
        drop(store);
        disk.kill();
        let mut store = with(&disk, &[second.clone(), first.clone()]).0;
        mend(&mut store, 10..30);
        assert_eq!((store.standing().former_keys, store.standing().locked), (0, 0), "killed at {operations}");
        drop(store);
        let mut store = with(&disk, core::slice::from_ref(&second)).0;
        for (id, expected) in ids.iter().zip(&bodies) {
            assert_eq!(body(&mut store, *id).as_deref(), Ok(&expected[..]), "killed at {operations}");
        }
        assert_eq!((store.standing().dead, store.standing().waiting, store.standing().damaged), (1, 5, 0));
        if !died {
            return;
        }
    }
}
