//! The shelf on a simulated disk: its contract, its bounds, and what it does when the disk fails.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use crate::inbox::contract_tests::{fresh, holds, now, put, settle, settlement};
use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settled, Settlement, StoreOrder, StoreRefusal, StoredRecord,
};

use super::disk_in_tests::SimulatedDisk;
use super::keys::InboxKey;
use super::shelf::{Shelf, ShelfTerms};

const DEAD: Settled = Settled::Dead { reason: DeliveryReason::RefusedByApplication };

pub(super) fn key(id: &str, byte: u8) -> InboxKey {
    InboxKey { id: id.to_owned(), bytes: Arc::new(vec![byte; 32].into()) }
}

pub(super) fn terms(keys: &[InboxKey]) -> ShelfTerms {
    ShelfTerms {
        size: 64 << 20,
        dead_size: 16 << 20,
        deliveries: 100_000,
        retention: 0,
        drops_oldest: false,
        durable: true,
        keys: keys.to_vec().into(),
        salt: Box::new(|| Some([3; 16])),
    }
}

pub(super) fn open(disk: &SimulatedDisk) -> Shelf {
    Shelf::open(Box::new(disk.clone()), terms(&[]), now(0)).unwrap()
}

fn bodies(count: usize, length: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| vec![u8::try_from(at % 256).unwrap(); length]).collect()
}

fn fill(store: &mut Shelf, count: usize, length: usize) -> (Vec<DeliveryId>, Option<StoreRefusal>) {
    let body = vec![1; length];
    let mut ids = Vec::new();
    for _ in 0..count {
        let mut done = Committed::default();
        match store.commit(&[fresh("orders", &body)], &[], now(0), &mut done) {
            Ok(()) => ids.push(done.accepted[0].id),
            Err(why) => return (ids, Some(why)),
        }
    }
    (ids, None)
}

fn waiting(store: &mut Shelf) -> Vec<DeliveryId> {
    let (mut rows, filter) = (Vec::new(), DeliveryFilter { state: Some(DeliveryState::Waiting), ..Default::default() });
    store.browse(&filter, None, usize::MAX - 10, &mut rows).unwrap();
    rows.iter().map(|row| row.id).collect()
}

fn mend(store: &mut Shelf, from: u64) -> Committed {
    let mut done = Committed::default();
    (1..=30).for_each(|at| store.mend(now(from + at * 100), &mut done));
    done
}

#[test]
fn the_shelf_keeps_the_contract() {
    holds(|| Box::new(open(&SimulatedDisk::default())));
    holds(|| {
        let disk = SimulatedDisk::default();
        Box::new(Shelf::open(Box::new(disk), terms(&[key("a", 1)]), now(0)).unwrap())
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    let seen = |key: u8| FreshDelivery {
        seen_key: [key; 32],
        seen_until: now(5_000).unix_millis() as u64,
        ..fresh("b", b"x")
    };
    let ids = put(&mut store, &[fresh("a", b"one"), seen(1), seen(2), fresh("c", b"four")]);
    settle(&mut store, &[settlement(ids[1], Settled::Done), settlement(ids[0], DEAD)]);
    settle(&mut store, &[settlement(ids[2], Settled::Again { due: 77 })]);
    store.order(&StoreOrder::Hold("c".to_owned(), true), now(0)).unwrap();
    drop(store);
    let mut store = open(&disk);
    assert_eq!(waiting(&mut store), ids[2..]);
    assert_eq!((store.standing().waiting, store.standing().dead), (2, 1));
    assert_eq!(store.held_routes(), ["c"]);
    let mut taken = Vec::new();
    store.take(10, &mut taken);
    assert_eq!(taken.iter().map(|row| row.id).collect::<Vec<_>>(), [ids[0], ids[2], ids[3]]);
    assert_eq!(taken.iter().map(|row| store.route_name(row.route)).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((taken[1].due, taken[0].state), (77, DeliveryState::Dead));
    let mut seen = Vec::new();
    store.each_seen(now(4_999), |key, until| seen.push((key[0], until)));
    assert_eq!(seen.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [1, 2], "also of what is done");
    let mut forgotten = 0;
    store.each_seen(now(5_001), |_, _| forgotten += 1);
    assert_eq!(forgotten, 0);
    assert!(put(&mut store, &[fresh("a", b"")])[0] > ids[3], "ids grow");
}

#[test]
fn a_settlement_that_nothing_waits_for_goes_with_the_next_delivery_or_soon() {
    let mut store = open(&SimulatedDisk::default());
    let ids =
        put(&mut store, &[fresh("a", b"1"), fresh("a", b"2"), fresh("a", b"3"), fresh("a", b"4"), fresh("a", b"5")]);
    let alone = |id| Settlement { awaited: false, ..settlement(id, Settled::Done) };
    let settled = |done: &mut Committed| done.settled.drain(..).map(|it| it.id).collect::<Vec<_>>();
    let mut done = Committed::default();
    store.commit(&[], &[alone(ids[0])], now(10), &mut done).unwrap();
    assert_eq!(settled(&mut done), [], "no commit for it alone");
    store.commit(&[fresh("a", b"6")], &[], now(11), &mut done).unwrap();
    assert_eq!(settled(&mut done), [ids[0]], "a delivery takes it along");
    store.commit(&[], &[alone(ids[1])], now(20), &mut done).unwrap();
    store.mend(now(69), &mut done);
    assert_eq!(settled(&mut done), []);
    store.mend(now(70), &mut done);
    assert_eq!(settled(&mut done), [ids[1]], "none comes: it waits 50 ms");
    store.commit(&[], &[alone(ids[2])], now(80), &mut done).unwrap();
    store.commit(&[], &[settlement(ids[3], Settled::Done)], now(81), &mut done).unwrap();
    assert_eq!(settled(&mut done), [ids[2], ids[3]], "the next one of its key waits for one of them");
    store.commit(&[], &[alone(ids[4])], now(90), &mut done).unwrap();
    store.commit(&[], &[], now(91), &mut done).unwrap();
    assert_eq!(settled(&mut done), [ids[4]], "the thread ends");
}

#[test]
fn room_comes_back_and_the_normal_case_needs_one_small_file() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    let all = bodies(32, 2_000);
    let batch: Vec<FreshDelivery<'_>> = all.iter().map(|body| fresh("orders", body)).collect();
    let (mut settled, mut most) = (Vec::new(), 0);
    for _ in 0..60 {
        let mut done = Committed::default();
        store.commit(&batch, &settled, now(0), &mut done).unwrap();
        settled = done.accepted.iter().map(|row| settlement(row.id, Settled::Done)).collect();
        most = most.max(disk.used());
    }
    assert!(most <= (2 << 20) + terms(&[]).file_limit(), "{most}");
    let (ids, why) = fill(&mut store, 150, 100_000);
    assert_eq!(why, None);
    assert!(disk.names().len() > 5);
    let settlements: Vec<_> = ids.iter().map(|id| settlement(*id, Settled::Done)).collect();
    settle(&mut store, &settlements);
    mend(&mut store, 5_000);
    assert_eq!(disk.names().len(), 1, "{:?}", disk.names());
}

#[test]
fn bounds_are_kept() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    let (ids, why) = fill(&mut store, 10_000, 60_000);
    assert_eq!(why, Some(StoreRefusal::Full));
    assert!(disk.used() <= 64 << 20, "{}", disk.used());
    assert!(ids.len() * 60_000 > 20 << 20, "{} of 60 kB", ids.len());
    assert_eq!(
        store.commit(&[fresh("a", &vec![0; 3 << 20])], &[], now(0), &mut Committed::default()),
        Err(StoreRefusal::Full)
    );
    // What dies has room although nothing is accepted any more.
    let done = settle(&mut store, &[settlement(ids[0], DEAD), settlement(ids[1], DEAD)]);
    assert_eq!((done.settled.len(), done.kept.len(), store.standing().dead), (2, 0, 2));
    let mut few =
        Shelf::open(Box::new(SimulatedDisk::default()), ShelfTerms { deliveries: 3, ..terms(&[]) }, now(0)).unwrap();
    assert_eq!(fill(&mut few, 9, 10).0.len(), 3);
}

#[test]
fn dead_letters_are_bounded_and_none_is_dropped() {
    let disk = SimulatedDisk::default();
    let mut store = Shelf::open(Box::new(disk), ShelfTerms { dead_size: 1 << 20, ..terms(&[]) }, now(0)).unwrap();
    let (ids, _) = fill(&mut store, 100, 60_000);
    let settlements: Vec<_> = ids.iter().map(|id| settlement(*id, DEAD)).collect();
    let done = settle(&mut store, &settlements);
    assert_eq!(done.kept.len() + done.settled.len(), 100);
    assert!(!done.kept.is_empty() && store.standing().dead > 5, "{}", store.standing().dead);
    assert_eq!(store.standing().waiting + store.standing().dead, 100);
    let (waits, dead) = (store.standing().waiting, store.standing().dead);
    let redriven = store.order(&StoreOrder::Redrive(DeliveryFilter::default(), usize::MAX - 1), now(9_000)).unwrap();
    assert_eq!((redriven.len() as u64, store.standing().waiting), (dead, waits + dead));
}

#[test]
fn the_oldest_dead_letters_give_way_where_that_is_wanted() {
    let disk = SimulatedDisk::default();
    let terms = || ShelfTerms { dead_size: 8 << 20, drops_oldest: true, ..terms(&[]) };
    let mut store = Shelf::open(Box::new(disk.clone()), terms(), now(0)).unwrap();
    let mut all = Vec::new();
    for _ in 0..6 {
        let (ids, why) = fill(&mut store, 50, 60_000);
        assert_eq!(why, None);
        let settlements: Vec<_> = ids.iter().map(|id| settlement(*id, DEAD)).collect();
        let done = settle(&mut store, &settlements);
        assert_eq!((done.settled.len(), done.kept.len()), (50, 0), "{:?}", store.take_notes());
        mend(&mut store, 0);
        all.extend(ids);
    }
    let standing = store.standing();
    assert!(standing.waiting == 0 && standing.dead < 300 && standing.dead > 20, "{standing:?}");
    assert!(standing.dead_bytes <= 16 << 20 && !standing.dead_letters_full, "{standing:?}");
    assert!(store.take_notes().iter().any(|note| note.contains("dropped to make room")));
    // The youngest is there, and the oldest is not, also after a restart.
    drop(store);
    let mut store = Shelf::open(Box::new(disk), terms(), now(0)).unwrap();
    let mut rows = Vec::new();
    store.browse(&DeliveryFilter::default(), None, usize::MAX, &mut rows).unwrap();
    let left: Vec<DeliveryId> = rows.iter().map(|row| row.id).collect();
    assert_eq!(left.len() as u64, standing.dead);
    assert!(!left.contains(&all[0]) && left.contains(&all[all.len() - 1]), "{left:?}");
}

#[test]
fn what_finds_no_room_among_dead_letters_waits_on_one_by_one() {
    let disk = SimulatedDisk::default();
    let mut store = Shelf::open(Box::new(disk), ShelfTerms { dead_size: 4 << 20, ..terms(&[]) }, now(0)).unwrap();
    let mut kept = 0;
    for _ in 0..20 {
        let (ids, _) = fill(&mut store, 50, 60_000);
        let done = settle(&mut store, &ids.iter().map(|id| settlement(*id, DEAD)).collect::<Vec<_>>());
        assert_eq!(done.kept.len() + done.settled.len(), ids.len(), "each is one or the other");
        kept += done.kept.len();
        if kept > 0 {
            break;
        }
        mend(&mut store, 0);
    }
    assert!(kept > 0, "{:?}", store.standing());
}

#[test]
fn dead_letters_leave_at_the_end_of_their_retention() {
    let disk = SimulatedDisk::default();
    let mut store = Shelf::open(Box::new(disk), ShelfTerms { retention: 10_000, ..terms(&[]) }, now(0)).unwrap();
    let (ids, _) = fill(&mut store, 2, 10);
    settle(&mut store, &[settlement(ids[0], DEAD)]);
    mend(&mut store, 5_000);
    assert_eq!(store.standing().dead, 1);
    mend(&mut store, 11_000);
    assert_eq!((store.standing().dead, store.standing().waiting), (0, 1), "{:?}", store.take_notes());
}

#[test]
fn a_full_disk_refuses_and_recovers_without_a_restart() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    disk.capacity(Some(10 << 20));
    let (ids, why) = fill(&mut store, 10_000, 30_000);
    assert!(matches!(why, Some(StoreRefusal::DiskFull)), "{why:?}");
    mend(&mut store, 0);
    assert_eq!(fill(&mut store, 1, 10).1, Some(StoreRefusal::DiskFull));
    assert_eq!(waiting(&mut store), ids, "what was refused is not there");
    let done = settle(&mut store, &[settlement(ids[0], Settled::Done)]);
    assert_eq!(done.settled.len(), 1, "what is delivered can be removed");
    disk.capacity(None);
    mend(&mut store, 10_000);
    assert_eq!(store.standing().failing_since, None);
    assert_eq!(fill(&mut store, 5, 30_000).1, None);
    drop(store);
    assert_eq!(waiting(&mut open(&disk)).len(), ids.len() + 4);
}

#[test]
fn a_disk_that_fails_for_a_while_refuses_loses_nothing_and_damages_no_file() {
    for syncs in [false, true] {
        let disk = SimulatedDisk::default();
        let mut store = open(&disk);
        let (ids, _) = fill(&mut store, 20, 5_000);
        if syncs {
            disk.fail_syncs(true)
        } else {
            disk.fail_writes(true)
        }
        let refused = fill(&mut store, 1, 10).1;
        assert_eq!(refused, Some(StoreRefusal::Failed), "syncs {syncs}");
        let mut done = Committed::default();
        store.commit(&[], &[settlement(ids[0], Settled::Done)], now(0), &mut done).unwrap();
        mend(&mut store, 0);
        assert!(done.settled.is_empty() && store.standing().failing_since.is_some());
        disk.fail_syncs(false);
        disk.fail_writes(false);
        let done = mend(&mut store, 10_000);
        assert_eq!(done.settled.len(), 1);
        assert_eq!((store.standing().failing_since, store.standing().damaged_files), (None, 0));
        assert_eq!(waiting(&mut store), ids[1..]);
        assert_eq!(fill(&mut store, 1, 10).1, None);
        drop(store);
        let mut store = open(&disk);
        assert_eq!(waiting(&mut store).len(), 20);
        assert!(!store.take_notes().iter().any(|note| note.contains("damaged")));
    }
}

#[test]
fn a_damaged_record_is_kept_and_named_and_a_damaged_file_is_set_aside() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    let ids = put(&mut store, &[fresh("a", b"the first body"), fresh("a", b"the second body")]);
    drop(store);
    let name = disk.names()[0].clone();
    assert!(disk.flip(&name, disk.find(&name, b"the first body").unwrap()));
    let mut store = open(&disk);
    let mut record = StoredRecord::default();
    assert_eq!(store.fetch(ids[0], &mut record), Ok(Fetched::Damaged));
    assert_eq!(store.fetch(ids[1], &mut record), Ok(Fetched::Whole));
    assert!(store.take_notes().iter().any(|note| note.contains(&ids[0].to_string())));
    mend(&mut store, 0);
    drop(store);
    let mut store = open(&disk);
    assert_eq!((store.standing().damaged, store.standing().waiting), (1, 1));
    let mut taken = Vec::new();
    store.take(9, &mut taken);
    assert_eq!(taken.len(), 1);
    let (more, _) = fill(&mut store, 60, 60_000);
    let names = disk.names();
    drop(store);
    (0..64).for_each(|at| assert!(disk.flip(&names[0], at)));
    let mut store = open(&disk);
    assert_eq!(store.standing().damaged_files, 1);
    let left = waiting(&mut store);
    assert!(!left.is_empty() && left.len() < more.len() && left.iter().all(|id| more.contains(id)));
    assert!(disk.names().iter().any(|name| name.contains(".damaged-")));
    assert_eq!(fill(&mut store, 1, 10).1, None, "the others go on");
}

/// A copy may come to a process whose first key is another one: every name is remembered, also when the file with the
/// delivery is gone.
#[test]
fn every_name_of_a_delivery_is_remembered_for_its_lifetime() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    let until = now(5_000).unix_millis() as u64;
    let names = [[8; 32], [9; 32]];
    let named = FreshDelivery { seen_key: [7; 32], seen_also: &names, seen_until: until, ..fresh("a", b"x") };
    let ids = put(&mut store, &[named]);
    settle(&mut store, &[settlement(ids[0], Settled::Done)]);
    let (more, _) = fill(&mut store, 100, 60_000);
    let settlements: Vec<_> = more.iter().map(|id| settlement(*id, Settled::Done)).collect();
    settle(&mut store, &settlements);
    mend(&mut store, 0);
    drop(store);
    let store = open(&disk);
    let seen = |at: u64| {
        let mut seen = Vec::new();
        store.each_seen(now(at), |key, until| seen.push((key[0], until)));
        seen.sort_unstable();
        seen
    };
    assert_eq!(seen(4_999), [(7, until), (8, until), (9, until)]);
    assert_eq!(seen(5_001), []);
}

#[test]
fn a_commit_syncs_twice_and_many_deliveries_share_it() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    let all = bodies(64, 2_000);
    let batch: Vec<FreshDelivery<'_>> = all.iter().map(|body| fresh("orders", body)).collect();
    let mut settled = Vec::new();
    let mut syncs = Vec::new();
    for _ in 0..10 {
        let (before, mut done) = (disk.syncs(), Committed::default());
        store.commit(&batch, &settled, now(0), &mut done).unwrap();
        settled = done.accepted.iter().map(|row| settlement(row.id, Settled::Done)).collect();
        syncs.push(disk.syncs() - before);
    }
    assert_eq!(syncs[5..], [2; 5], "{syncs:?}");
}

#[test]
fn routes_keep_their_names_whichever_files_are_left() {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk);
    let ids = put(&mut store, &[fresh("a", b"1"), fresh("b", b"2"), fresh("c", b"3")]);
    settle(&mut store, &[settlement(ids[0], Settled::Done), settlement(ids[1], DEAD), settlement(ids[2], DEAD)]);
    // The file that named the first route is gone; the one of the dead letters does not know it.
    (0..4).for_each(|at| _ = fill(&mut store, 12, 150_000 + at));
    let living = waiting(&mut store);
    settle(&mut store, &living.iter().map(|id| settlement(*id, Settled::Done)).collect::<Vec<_>>());
    drop(store);
    let names = disk.names();
    names
        .iter()
        .filter(|name| name.starts_with("inbox-"))
        .for_each(|name| super::disk::Disk::remove(&disk, name).unwrap());
    let mut store = open(&disk);
    let named = |store: &mut Shelf| {
        let mut rows = Vec::new();
        store.browse(&DeliveryFilter::default(), None, 10, &mut rows).unwrap();
        rows.iter().map(|row| (row.id, store.route_name(row.route).to_owned())).collect::<Vec<_>>()
    };
    let expected = [(ids[1], "b".to_owned()), (ids[2], "c".to_owned())];
    assert_eq!(named(&mut store), expected);
    assert_eq!(store.fetch(ids[1], &mut StoredRecord::default()), Ok(Fetched::Whole));
    let of_c = DeliveryFilter { route: Some("c".to_owned()), ..DeliveryFilter::default() };
    assert_eq!(store.order(&StoreOrder::Redrive(of_c, 10), now(0)).unwrap(), [ids[2]]);
    let mut taken = Vec::new();
    store.take(10, &mut taken);
    let redriven = taken.iter().find(|row| row.id == ids[2]).unwrap();
    assert_eq!(store.route_name(redriven.route), "c");
    drop(store);
    assert_eq!(named(&mut open(&disk)), expected);
}
