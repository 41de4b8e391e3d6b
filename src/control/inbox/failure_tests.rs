//! The failure matrix, on a simulated disk: what is refused while the disk fails, what goes on, and that nothing is lost.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crate::inbox::backoff::Dice;
use crate::inbox::contract_tests::{fresh, now, settlement};
use crate::inbox::delivery::{DeliveryId, DeliveryReason};
use crate::inbox::store::{Committed, DeliveryStore, Fetched, Settled, StoreOrder, StoreRefusal, StoredRecord};

use super::disk_in_tests::SimulatedDisk;
use super::shelf::{Shelf, ShelfTerms};
use super::shelf_tests::{open, terms};

fn store(store: &mut Shelf, length: usize, at: u64) -> Result<DeliveryId, StoreRefusal> {
    let mut done = Committed::default();
    store.commit(&[fresh("orders", &vec![1; length])], &[], now(at), &mut done)?;
    Ok(done.accepted[0].id)
}

/// Calls `mend` every 50 ms for that long. Gives what was settled.
fn mend(store: &mut Shelf, from: u64, millis: u64) -> Vec<DeliveryId> {
    let mut done = Committed::default();
    (1..=millis / 50).for_each(|at| store.mend(now(from + at * 50), &mut done));
    done.settled.iter().map(|settlement| settlement.id).collect()
}

fn is_whole(store: &mut Shelf, id: DeliveryId) -> bool {
    store.fetch(id, &mut StoredRecord::default()) == Ok(Fetched::Whole)
}

/// Files that are as full as they may be can lose deliveries, and what is in them can be read at any moment: also right
/// after the start, which moves what is left in small files and may meet the bound of another one.
#[test]
fn a_file_that_is_full_can_be_read_and_emptied() {
    for seed in 0..3 {
        let mut dice = Dice::new(seed);
        let disk = SimulatedDisk::default();
        let mut shelf = open(&disk);
        let mut living = BTreeSet::new();
        let mut at = 0;
        for round in 0..40 {
            at += 100;
            for _ in 0..10 {
                let length =
                    usize::try_from([2_000, 100_000, 700, 31_000][usize::try_from(dice.throw(3)).unwrap()]).unwrap();
                living.extend(store(&mut shelf, length, at));
            }
            let some: Vec<DeliveryId> = living.iter().copied().filter(|_| dice.throw(2) == 0).collect();
            let dies = |_: &DeliveryId| Settled::Dead { reason: DeliveryReason::GaveUpAge };
            let settlements: Vec<_> = some
                .iter()
                .map(|id| settlement(*id, if dice.throw(20) == 0 { dies(id) } else { Settled::Done }))
                .collect();
            let mut done = Committed::default();
            shelf.commit(&[], &settlements, now(at), &mut done).unwrap();
            some.iter().for_each(|id| _ = living.remove(id));
            for id in &living {
                assert!(is_whole(&mut shelf, *id), "seed {seed} round {round}: {id}: {:?}", shelf.take_notes());
            }
            if round % 4 == 3 {
                drop(shelf);
                disk.kill();
                shelf = open(&disk);
            }
            for id in &living {
                assert!(is_whole(&mut shelf, *id), "seed {seed} after {round}: {id}: {:?}", shelf.take_notes());
            }
        }
        assert!(disk.used() <= 64 << 20, "{}", disk.used());
        let settlements: Vec<_> = living.iter().map(|id| settlement(*id, Settled::Done)).collect();
        let mut done = Committed::default();
        shelf.commit(&[], &settlements, now(at), &mut done).unwrap();
        mend(&mut shelf, at, 5_000);
        assert!(shelf.later.is_empty() && shelf.standing().waiting == 0, "{:?}", shelf.take_notes());
    }
}

#[test]
fn everything_can_leave_a_full_inbox() {
    for (length, group) in [(3_500, 200), (60_000, 8)] {
        let disk = SimulatedDisk::default();
        let mut shelf = open(&disk);
        let (mut ids, body) = (Vec::new(), vec![1; length]);
        let why = loop {
            let mut done = Committed::default();
            match shelf.commit(&vec![fresh("orders", &body); group], &[], now(0), &mut done) {
                Ok(()) => ids.extend(done.accepted.iter().map(|row| row.id)),
                Err(why) => break why,
            }
        };
        assert_eq!(why, StoreRefusal::Full, "{:?}", shelf.take_notes());
        assert!(ids.iter().step_by(20).all(|id| is_whole(&mut shelf, *id)));
        assert!(disk.used() <= 64 << 20, "{}", disk.used());
        // Every second one, so that each page of each file must change.
        let half: Vec<_> = ids.iter().step_by(2).map(|id| settlement(*id, Settled::Done)).collect();
        let mut done = Committed::default();
        shelf.commit(&[], &half, now(10), &mut done).unwrap();
        mend(&mut shelf, 10, 2_000);
        assert!(shelf.later.is_empty(), "{} of {length} bytes left: {:?}", shelf.later.len(), shelf.take_notes());
        assert!(disk.used() <= 64 << 20, "{}", disk.used());
        assert!(ids.iter().skip(1).step_by(20).all(|id| is_whole(&mut shelf, *id)));
        assert!(store(&mut shelf, length, 3_000).is_ok(), "there is room again");
    }
}

#[test]
fn on_a_disk_that_became_read_only_reading_goes_on_and_the_rest_waits() {
    let disk = SimulatedDisk::default();
    let mut shelf = open(&disk);
    let ids: Vec<DeliveryId> = (0..10).map(|_| store(&mut shelf, 5_000, 0).unwrap()).collect();
    disk.read_only(true);
    assert_eq!(store(&mut shelf, 10, 10), Err(StoreRefusal::Failed));
    let mut done = Committed::default();
    shelf.commit(&[], &[settlement(ids[0], Settled::Done)], now(20), &mut done).unwrap();
    assert!(mend(&mut shelf, 20, 5_000).is_empty());
    assert!(shelf.standing().failing_since.is_some());
    assert!(ids.iter().all(|id| is_whole(&mut shelf, *id)), "{:?}", shelf.take_notes());
    assert_eq!(store(&mut shelf, 10, 6_000), Err(StoreRefusal::Failed));
    assert!(shelf.order(&StoreOrder::Hold("orders".to_owned(), true), now(6_000)).is_err());
    // A restart finds it read-only still.
    drop(shelf);
    disk.kill();
    let mut shelf = open(&disk);
    let mut taken = Vec::new();
    shelf.take(100, &mut taken);
    assert_eq!(taken.iter().map(|row| row.id).collect::<Vec<_>>(), ids, "deliveries go on");
    assert!(ids.iter().all(|id| is_whole(&mut shelf, *id)));
    assert!(shelf.take_notes().iter().any(|note| note.contains("read-only")));
    shelf.commit(&[], &[settlement(ids[1], Settled::Done)], now(20), &mut done).unwrap();
    assert!(mend(&mut shelf, 20, 2_000).is_empty());
    disk.read_only(false);
    assert_eq!(mend(&mut shelf, 3_000, 200), [ids[1]]);
    assert_eq!((shelf.standing().failing_since, shelf.standing().damaged_files), (None, 0));
    assert!(store(&mut shelf, 10, 4_000).is_ok());
    drop(shelf);
    assert_eq!(open(&disk).standing().waiting, 10);
}

#[test]
fn a_disk_that_fails_for_seconds_turns_no_healthy_file_into_a_damaged_one() {
    let disk = SimulatedDisk::default();
    let mut shelf = open(&disk);
    let ids: Vec<DeliveryId> = (0..10).map(|_| store(&mut shelf, 5_000, 0).unwrap()).collect();
    let name = disk.names()[0].clone();
    let flip = || (0..64).for_each(|at| assert!(disk.flip(&name, at)));
    // It fails, and for 8 s it gives other bytes than were written.
    disk.fail_syncs(true);
    disk.fail_reads(true);
    assert!(store(&mut shelf, 10, 0).is_err());
    mend(&mut shelf, 0, 2_000);
    disk.fail_syncs(false);
    disk.fail_reads(false);
    flip();
    mend(&mut shelf, 2_000, 8_000);
    assert_eq!((shelf.standing().damaged_files, disk.names()), (0, vec![name.clone()]));
    assert!(shelf.standing().failing_since.is_some());
    flip();
    mend(&mut shelf, 10_000, 200);
    assert!(ids.iter().all(|id| is_whole(&mut shelf, *id)), "{:?}", shelf.take_notes());
    assert!(store(&mut shelf, 10, 11_000).is_ok());
    // What stays as it is, is damage.
    disk.fail_syncs(true);
    let mut done = Committed::default();
    shelf.commit(&[], &[settlement(ids[0], Settled::Done)], now(12_000), &mut done).unwrap();
    disk.fail_syncs(false);
    flip();
    mend(&mut shelf, 12_000, 11_000);
    assert_eq!(shelf.standing().damaged_files, 1);
    assert!(store(&mut shelf, 10, 24_000).is_ok(), "the inbox goes on");
}

/// `size` is that of the disk: the reserve that is kept free grows with it, and a small disk is not always full.
#[test]
fn a_disk_of_the_size_of_the_inbox_can_be_used() {
    for size in [64 << 20, 256 << 20] {
        let disk = SimulatedDisk::default();
        disk.capacity(Some(size));
        let mut shelf = Shelf::open(Box::new(disk.clone()), ShelfTerms { size, ..terms(&[]) }, now(0)).unwrap();
        let mut stored = 0;
        let why = loop {
            shelf.mend(now(stored * 1_100), &mut Committed::default());
            match store(&mut shelf, 400_000, stored * 1_100) {
                Ok(_) => stored += 1,
                Err(why) => break why,
            }
        };
        assert!([StoreRefusal::Full, StoreRefusal::DiskFull].contains(&why));
        assert!(stored * 400_000 > size * 2 / 5, "{stored} of {size}");
        assert!(disk.used() >= size / 2 && disk.used() <= size, "{} of {size}", disk.used());
    }
}

/// What another program leaves of the disk is nothing: the room that was set aside is for what has been delivered.
#[test]
fn on_a_disk_without_a_byte_left_settlements_are_written() {
    let disk = SimulatedDisk::default();
    let mut shelf = open(&disk);
    let mut ids: Vec<DeliveryId> = (0..40).map(|at| store(&mut shelf, 20_000, at).unwrap()).collect();
    disk.capacity(Some(disk.used()));
    for at in 0..ids.len() as u64 {
        let id = ids.remove(ids.len() / 2);
        let mut done = Committed::default();
        shelf.commit(&[], &[settlement(id, Settled::Done)], now(2_000 + at * 100), &mut done).unwrap();
        shelf.mend(now(2_050 + at * 100), &mut done);
        assert_eq!(done.settled.len(), 1, "{at}: {:?}", shelf.take_notes());
        assert!(ids.iter().all(|id| is_whole(&mut shelf, *id)));
    }
    assert_eq!(store(&mut shelf, 20_000, 9_000), Err(StoreRefusal::DiskFull));
    disk.capacity(None);
    mend(&mut shelf, 9_000, 2_000);
    assert!(store(&mut shelf, 20_000, 12_000).is_ok());
    assert!(disk.used() >= terms(&[]).file_limit(), "room is set aside again");
}

#[test]
fn a_start_on_a_full_disk_refuses_delivers_and_recovers() {
    let disk = SimulatedDisk::default();
    let mut shelf = open(&disk);
    let ids: Vec<DeliveryId> = (0..10).map(|_| store(&mut shelf, 5_000, 0).unwrap()).collect();
    drop(shelf);
    disk.capacity(Some(disk.used()));
    let mut shelf = open(&disk);
    assert_eq!(store(&mut shelf, 10, 10), Err(StoreRefusal::DiskFull));
    assert!(ids.iter().all(|id| is_whole(&mut shelf, *id)));
    let mut done = Committed::default();
    shelf.commit(&[], &[settlement(ids[0], Settled::Done)], now(20), &mut done).unwrap();
    mend(&mut shelf, 20, 500);
    assert_eq!(shelf.standing().waiting, 9, "what is delivered can be removed");
    disk.capacity(None);
    mend(&mut shelf, 1_000, 1_000);
    assert!(store(&mut shelf, 10, 2_000).is_ok());
}

#[test]
fn held_routes_are_known_after_every_restart() {
    let disk = SimulatedDisk::default();
    let mut shelf = open(&disk);
    let mut ids = Vec::new();
    for round in 0..12 {
        let hold = round % 2 == 0;
        ids.extend((0..30).map(|_| store(&mut shelf, 60_000, round * 1_000).unwrap()));
        shelf.order(&StoreOrder::Hold("orders".to_owned(), hold), now(round * 1_000)).unwrap();
        let some: Vec<_> = ids.drain(..ids.len() / 2).map(|id| settlement(id, Settled::Done)).collect();
        shelf.commit(&[], &some, now(round * 1_000), &mut Committed::default()).unwrap();
        mend(&mut shelf, round * 1_000, 500);
        assert_eq!(shelf.held_routes().is_empty(), !hold);
        drop(shelf);
        shelf = open(&disk);
        assert_eq!(shelf.held_routes().is_empty(), !hold, "round {round}");
    }
}
