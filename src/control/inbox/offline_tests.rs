//! What is done to a directory that no process has: examined, salvaged, looked at.
#![allow(clippy::unwrap_used)]

use crate::inbox::contract_tests::{fresh, now, put, settle, settlement};
use crate::inbox::delivery::{DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::store::{DeliveryStore, Fetched, Settled, StoreOrder, StoredRecord};

use super::disk::Disk;
use super::disk_in_tests::SimulatedDisk;
use super::examining::verify;
use super::keys::InboxKey;
use super::overlay::LookedAt;
use super::salvaging::{SalvageEnd, salvage};
use super::shelf::Shelf;
use super::shelf_tests::{key, terms};

fn with(disk: &SimulatedDisk, keys: &[InboxKey]) -> Shelf {
    Shelf::open(Box::new(disk.clone()), terms(keys), now(0)).unwrap()
}

fn bytes(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let medium = disk.open_to_read(name).unwrap();
    let mut bytes = vec![0; usize::try_from(medium.length().unwrap()).unwrap()];
    medium.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_damaged_is_named_and_examining_changes_nothing() {
    let disk = SimulatedDisk::default();
    let keys = [key("a", 1)];
    let mut shelf = with(&disk, &[]);
    let ids = put(&mut shelf, &[fresh("a", b"the first body"), fresh("a", b"the second body")]);
    drop(shelf);
    disk.kill();
    let name = disk.names()[0].clone();
    let found = verify(&disk, &keys).unwrap();
    assert!(found.len() == 1 && found[0].is_whole() && found[0].deliveries == 2, "{found:?}");
    assert!(disk.flip(&name, disk.find(&name, b"the first body").unwrap()));
    let before = bytes(&disk, &name);
    let found = verify(&disk, &keys).unwrap();
    assert_eq!((found[0].is_whole(), &found[0].damaged), (false, &vec![ids[0]]));
    (0..64).for_each(|at| assert!(disk.flip(&name, at)));
    let found = verify(&disk, &keys).unwrap();
    assert!(found[0].trouble.is_some(), "{found:?}");
    (0..64).for_each(|at| assert!(disk.flip(&name, at)));
    assert_eq!(bytes(&disk, &name), before);
    let disk = SimulatedDisk::default();
    put(&mut with(&disk, &keys), &[fresh("a", b"x")]);
    assert!(verify(&disk, &[]).unwrap()[0].trouble.as_ref().unwrap().contains("\"a\""), "the key is missing");
    assert!(verify(&disk, &keys).unwrap()[0].is_whole());
}

#[test]
fn a_file_that_is_refused_is_salvaged_into_dead_letters() {
    for keys in [vec![], vec![key("first", 1)], vec![key("new", 3), key("first", 1)]] {
        let disk = SimulatedDisk::default();
        let mut shelf = with(&disk, &keys[keys.len().saturating_sub(1)..]);
        let large = vec![7; 150_000];
        let ids = put(&mut shelf, &[fresh("a", b"small"), fresh("b", &large), fresh("a", b"delivered already")]);
        settle(&mut shelf, &[settlement(ids[2], Settled::Done)]);
        drop(shelf);
        let name = disk.names()[0].clone();
        (0..64).for_each(|at| assert!(disk.flip(&name, at)));
        let mut shelf = with(&disk, &keys);
        assert_eq!((shelf.standing().damaged_files, shelf.standing().waiting), (1, 0));
        let aside = disk.names().into_iter().find(|name| name.contains(".damaged-")).unwrap();
        let file = bytes(&disk, &aside);
        let found = salvage(&file, &keys);
        assert!(found.partial.is_empty() && found.locked.is_empty(), "{found:?}");
        assert_eq!(found.whole.iter().map(|(id, _)| *id).take(2).collect::<Vec<_>>(), ids[..2]);
        assert_eq!((found.whole[1].1.body(), found.whole[1].1.route()), (&large[..], "b"));
        let end = shelf.bury_salvaged(&found.whole, now(0)).unwrap();
        assert_eq!(end.buried[..2], ids[..2]);
        // Twice is as once.
        let again = shelf.bury_salvaged(&found.whole, now(0)).unwrap();
        assert_eq!(again, SalvageEnd { buried: vec![], known: end.buried.clone() });
        assert_eq!(shelf.standing().waiting, 0, "nothing of it is attempted");
        drop(shelf);
        let mut shelf = with(&disk, &keys);
        let mut rows = Vec::new();
        shelf.browse(&DeliveryFilter::default(), None, 10, &mut rows).unwrap();
        assert!(rows.iter().all(|row| row.state == DeliveryState::Dead && row.reason == DeliveryReason::Salvaged));
        let filter = DeliveryFilter { ids: vec![ids[1]], ..DeliveryFilter::default() };
        assert_eq!(shelf.order(&StoreOrder::Redrive(filter, 1), now(0)).unwrap(), [ids[1]]);
        let mut record = StoredRecord::default();
        assert_eq!(shelf.fetch(ids[1], &mut record), Ok(Fetched::Whole));
        assert_eq!(record.body(), large);
        if !keys.is_empty() {
            assert_eq!(salvage(&file, &[]).locked[..2], ids[..2], "without the key nothing is read");
            assert_eq!(salvage(&file, &[key("first", 9)]).partial[..2], ids[..2], "nor with another one");
        }
        // A flipped bit in one chunk costs that delivery alone.
        let mut torn = file.clone();
        let at = memchr::memmem::find_iter(&torn, b"CSR1").next().unwrap() + 40;
        torn[at] ^= 1;
        let found = salvage(&torn, &keys);
        assert_eq!(found.partial.len() + found.whole.len(), end.buried.len());
        assert!(found.partial.len() <= 1);
    }
}

#[test]
fn a_directory_that_is_looked_at_stays_as_it_is() {
    let disk = SimulatedDisk::default();
    let mut shelf = with(&disk, &[]);
    let ids = put(&mut shelf, &[fresh("a", b"one"), fresh("a", b"two")]);
    settle(&mut shelf, &[settlement(ids[0], Settled::Dead { reason: DeliveryReason::GaveUpAge })]);
    drop(shelf);
    let before: Vec<Vec<u8>> = disk.names().iter().map(|name| bytes(&disk, name)).collect();
    let mut shelf = Shelf::open(Box::new(LookedAt(Box::new(disk.clone()))), terms(&[]), now(0)).unwrap();
    assert_eq!((shelf.standing().waiting, shelf.standing().dead), (1, 1));
    let mut record = StoredRecord::default();
    assert_eq!(shelf.fetch(ids[0], &mut record), Ok(Fetched::Whole));
    drop(shelf);
    assert_eq!(disk.names().iter().map(|name| bytes(&disk, name)).collect::<Vec<_>>(), before);
}
