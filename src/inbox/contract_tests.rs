//! What every store does, whatever keeps its deliveries.
#![allow(clippy::unwrap_used)]

use core::time::Duration;

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::memory::MemoryStore;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settled, Settlement, StoreOrder, StoreRefusal, StoredRecord,
};
use crate::now::Now;

pub(crate) const fn now(millis: u64) -> Now {
    Now { monotonic: Duration::from_millis(millis), unix: Duration::from_millis(1_795_478_400_000 + millis) }
}

pub(crate) fn fresh<'a>(route: &'a str, body: &'a [u8]) -> FreshDelivery<'a> {
    let unix = 1_795_478_400_000;
    FreshDelivery {
        route,
        head: b"POST /hook HTTP/1.1\r\nHost: app\r\n",
        body,
        accepted: unix,
        order_key: [0; 16],
        seen_key: [0; 32],
        seen_also: &[],
        seen_until: 0,
    }
}

pub(crate) fn put(store: &mut dyn DeliveryStore, fresh: &[FreshDelivery<'_>]) -> Vec<DeliveryId> {
    let mut done = Committed::default();
    store.commit(fresh, &[], now(0), &mut done).unwrap();
    done.accepted.iter().map(|row| row.id).collect()
}

pub(crate) const fn settlement(id: DeliveryId, settled: Settled) -> Settlement {
    Settlement { id, redrives: 0, attempts: 1, status: 503, reason: DeliveryReason::Refused, settled, awaited: true }
}

pub(crate) fn settle(store: &mut dyn DeliveryStore, settlements: &[Settlement]) -> Committed {
    let mut done = Committed::default();
    store.commit(&[], settlements, now(10), &mut done).unwrap();
    (1..20).for_each(|at| store.mend(now(10 + at * 100), &mut done));
    done
}

fn list(store: &mut dyn DeliveryStore, filter: &DeliveryFilter) -> Vec<DeliveryId> {
    let mut rows = Vec::new();
    assert!(!store.browse(filter, None, 1_000, &mut rows).unwrap());
    rows.iter().map(|row| row.id).collect()
}

const DEAD: Settled = Settled::Dead { reason: DeliveryReason::RefusedByApplication };

/// The contract. `make` gives an empty store with room for at least 100 deliveries, and for 10 dead ones.
pub(crate) fn holds(mut make: impl FnMut() -> Box<dyn DeliveryStore>) {
    stores_what_it_is_given(&mut *make());
    settles(&mut *make());
    buries_and_redrives(&mut *make());
    browses_by_page(&mut *make());
    purges(&mut *make());
}

fn stores_what_it_is_given(store: &mut dyn DeliveryStore) {
    let large = vec![7; 200_000];
    let ids = put(store, &[fresh("orders", b"one"), fresh("bills", &large), fresh("orders", b"")]);
    assert!(ids.is_sorted() && ids.len() == 3 && ids[0] != ids[1]);
    let more = put(store, &[fresh("orders", b"four")]);
    assert!(more[0] > ids[2]);
    let mut record = StoredRecord::default();
    for (id, route, body) in [(ids[0], "orders", &b"one"[..]), (ids[1], "bills", &large), (ids[2], "orders", b"")] {
        assert_eq!(store.fetch(id, &mut record), Ok(Fetched::Whole));
        assert_eq!((record.route(), record.body()), (route, body));
        assert_eq!(record.head(), fresh("", b"").head);
    }
    assert_eq!(store.fetch(DeliveryId(u64::MAX), &mut record), Ok(Fetched::Gone));
    assert_eq!((store.standing().waiting, store.standing().dead), (4, 0));
    let mut taken = Vec::new();
    store.take(100, &mut taken);
    assert_eq!(taken, [], "fresh ones were given already");
}

fn settles(store: &mut dyn DeliveryStore) {
    let ids = put(store, &[fresh("orders", b"one"), fresh("orders", b"two")]);
    let settlements = [settlement(ids[0], Settled::Done), settlement(ids[1], Settled::Again { due: 5 })];
    let done = settle(store, &settlements);
    assert_eq!(done.settled.len(), 2);
    assert_eq!(store.fetch(ids[0], &mut StoredRecord::default()), Ok(Fetched::Gone));
    let mut rows = Vec::new();
    store.browse(&DeliveryFilter::default(), None, 10, &mut rows).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].attempts, rows[0].status, rows[0].due), (1, 503, 5));
    let done = settle(store, &[settlement(ids[0], Settled::Done), settlement(DeliveryId(9_999_999), DEAD)]);
    assert_eq!(done.settled.len(), 2, "what is not there is settled");
    assert_eq!((store.standing().waiting, store.standing().dead), (1, 0));
}

fn buries_and_redrives(store: &mut dyn DeliveryStore) {
    let ids = put(store, &[fresh("orders", b"one"), fresh("orders", b"two"), fresh("orders", b"three")]);
    settle(store, &[settlement(ids[0], DEAD), settlement(ids[1], DEAD)]);
    assert_eq!((store.standing().waiting, store.standing().dead), (1, 2));
    let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
    assert_eq!(list(store, &dead), ids[..2]);
    let mut record = StoredRecord::default();
    assert_eq!(store.fetch(ids[0], &mut record), Ok(Fetched::Whole));
    assert_eq!(record.body(), b"one");
    let redriven = store.order(&StoreOrder::Redrive(DeliveryFilter::default(), 1), now(50)).unwrap();
    assert_eq!(redriven, ids[..1], "what is dead, and at most so many");
    let mut taken = Vec::new();
    store.take(10, &mut taken);
    assert_eq!(taken.iter().map(|row| (row.id, row.redrives, row.attempts)).collect::<Vec<_>>(), [(ids[0], 1, 0)]);
    settle(store, &[settlement(ids[0], Settled::Done)]);
    assert_eq!(store.fetch(ids[0], &mut record), Ok(Fetched::Whole), "the settlement of its former life");
    settle(store, &[Settlement { redrives: 1, ..settlement(ids[0], Settled::Done) }]);
    assert_eq!(store.fetch(ids[0], &mut record), Ok(Fetched::Gone));
    assert_eq!((store.standing().waiting, store.standing().dead), (1, 1));
}

fn browses_by_page(store: &mut dyn DeliveryStore) {
    let bodies: Vec<[u8; 1]> = (0..50).map(|at| [at]).collect();
    let ids = put(store, &bodies.iter().map(|body| fresh("orders", body)).collect::<Vec<_>>());
    settle(store, &[settlement(ids[20], DEAD)]);
    let (mut rows, mut pages) = (Vec::new(), 1);
    while store.browse(&DeliveryFilter::default(), rows.last().map(|row: &_| id_of(row)), 7, &mut rows).unwrap() {
        pages += 1;
    }
    assert_eq!(pages, 8);
    assert_eq!(rows.iter().map(id_of).collect::<Vec<_>>(), ids, "in the order of their ids, dead or not");
}

fn id_of(row: &crate::inbox::row::DeliveryRow) -> DeliveryId {
    row.id
}

fn purges(store: &mut dyn DeliveryStore) {
    let ids = put(store, &[fresh("orders", b"one"), fresh("bills", b"two"), fresh("orders", b"three")]);
    settle(store, &[settlement(ids[0], DEAD)]);
    let of_orders = DeliveryFilter { route: Some("orders".to_owned()), ..DeliveryFilter::default() };
    assert_eq!(store.order(&StoreOrder::Purge(of_orders, 10), now(0)).unwrap(), [ids[0], ids[2]]);
    let mut gone = Vec::new();
    store.take_gone(&mut gone);
    gone.sort_unstable();
    assert_eq!(gone, [ids[0], ids[2]]);
    store.take_gone(&mut gone);
    assert_eq!(gone.len(), 2, "each is given once");
    assert_eq!(list(store, &DeliveryFilter::default()), ids[1..2]);
    store.order(&StoreOrder::Hold("bills".to_owned(), true), now(0)).unwrap();
    store.order(&StoreOrder::Hold("bills".to_owned(), true), now(0)).unwrap();
    assert_eq!(store.held_routes(), ["bills"]);
    store.order(&StoreOrder::Hold("bills".to_owned(), false), now(0)).unwrap();
    assert_eq!(store.held_routes(), Vec::<String>::new());
}

#[test]
fn a_store_in_memory_keeps_the_contract() {
    holds(|| Box::new(MemoryStore::new(100, 10)));
    let mut store = MemoryStore::new(2, 1);
    let ids = put(&mut store, &[fresh("orders", b"one"), fresh("orders", b"two")]);
    let full = store.commit(&[fresh("orders", b"three")], &[], now(0), &mut Committed::default());
    assert_eq!(full, Err(StoreRefusal::Full));
    let done = settle(&mut store, &[settlement(ids[0], DEAD), settlement(ids[1], DEAD)]);
    assert_eq!((done.settled.len(), done.kept), (1, vec![ids[1]]));
    assert!(store.standing().dead_letters_full);
}
