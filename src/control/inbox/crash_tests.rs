//! Crashes at every moment: what was accepted is there, what was refused is not, what was settled does not come back.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use crate::inbox::backoff::Dice;
use crate::inbox::contract_tests::{fresh, now, settlement};
use crate::inbox::delivery::{DeliveryId, DeliveryReason};
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::store::{Committed, DeliveryStore, Fetched, Settled, Settlement, StoreRefusal, StoredRecord};

use super::disk_in_tests::SimulatedDisk;
use super::shelf::{Shelf, ShelfTerms};
use super::shelf_tests::terms;

const DEAD: Settled = Settled::Dead { reason: DeliveryReason::RefusedByApplication };

/// What the senders and the deliverer know.
#[derive(Default)]
struct Truth {
    accepted: BTreeMap<DeliveryId, Vec<u8>>,
    refused: BTreeSet<Vec<u8>>,
    settled: BTreeSet<DeliveryId>,
    /// Settlements that were asked for.
    asked: BTreeSet<DeliveryId>,
    /// Those among them that are to be dead letters.
    dying: BTreeSet<DeliveryId>,
    number: u64,
}

fn small(disk: &SimulatedDisk) -> Option<Shelf> {
    let terms = ShelfTerms { size: 64 << 20, ..terms(&[]) };
    Shelf::open(Box::new(disk.clone()), terms, now(0)).ok()
}

impl Truth {
    /// One group: some deliveries, some settlements.
    fn work(&mut self, store: &mut Shelf, dice: &mut Dice, at: u64) {
        let bodies: Vec<Vec<u8>> = (0..dice.throw(4))
            .map(|_| {
                self.number += 1;
                let length = if dice.throw(9) == 0 { 100_000 } else { 1_000 + dice.throw(2_000) };
                let mut body = format!("<{}>", self.number).into_bytes();
                body.resize(usize::try_from(length).unwrap(), b'.');
                body
            })
            .collect();
        let batch: Vec<FreshDelivery<'_>> = bodies.iter().map(|body| fresh("orders", body)).collect();
        let open: Vec<DeliveryId> = self.accepted.keys().filter(|id| !self.asked.contains(id)).copied().collect();
        let some = open.into_iter().filter(|_| dice.throw(2) == 0).collect::<Vec<_>>();
        let settlements: Vec<_> = some
            .iter()
            .map(|id| {
                let settled = match dice.throw(3) {
                    0 => DEAD,
                    1 => Settled::Again { due: at },
                    _ => Settled::Done,
                };
                settlement(*id, settled)
            })
            .collect();
        let ends = |it: &&Settlement| !matches!(it.settled, Settled::Again { .. });
        self.asked.extend(settlements.iter().filter(ends).map(|it| it.id));
        self.dying.extend(settlements.iter().filter(|it| it.settled == DEAD).map(|it| it.id));
        let mut done = Committed::default();
        match store.commit(&batch, &settlements, now(at * 10), &mut done) {
            Ok(()) => {
                self.accepted.extend(done.accepted.iter().map(|row| row.id).zip(bodies));
            }
            Err(StoreRefusal::Unknown) => assert!(done.accepted.is_empty()),
            Err(_) => self.refused.extend(bodies),
        }
        store.mend(now(at * 10 + 5), &mut done);
        self.settled.extend(done.settled.iter().filter(|it| it.settled == Settled::Done).map(|it| it.id));
    }

    /// What must be true after a restart.
    fn check(&self, store: &mut Shelf, seed: u64) {
        let mut record = StoredRecord::default();
        for (id, body) in &self.accepted {
            let found = store.fetch(*id, &mut record).unwrap();
            if self.settled.contains(id) {
                assert_eq!(found, Fetched::Gone, "seed {seed}: {id} was settled and is back");
            } else if found == Fetched::Gone {
                let may_be = self.asked.contains(id) && !self.dying.contains(id);
                assert!(may_be, "seed {seed}: {id} was accepted and is lost");
            } else {
                assert!(found == Fetched::Whole && record.body() == body, "seed {seed}: {id} is another");
            }
        }
        let mut rows = Vec::new();
        store.browse(&Default::default(), None, 1 << 30, &mut rows).unwrap();
        for row in rows {
            assert_eq!(store.fetch(row.id, &mut record).unwrap(), Fetched::Whole, "seed {seed}: {}", row.id);
            assert!(!self.refused.contains(record.body()), "seed {seed}: {} was refused", row.id);
        }
        assert_eq!(store.standing().damaged_files, 0, "seed {seed}: {:?}", store.take_notes());
    }
}

fn life(seed: u64) {
    let mut dice = Dice::new(seed);
    let (disk, mut truth) = (SimulatedDisk::default(), Truth::default());
    for _ in 0..4 {
        let mut store = small(&disk).unwrap();
        truth.check(&mut store, seed);
        disk.die_in(dice.throw(400));
        for at in 0..60 {
            truth.work(&mut store, &mut dice, at);
            if disk.is_dead() {
                break;
            }
        }
        drop(store);
        if dice.throw(1) == 0 {
            disk.crash(&mut dice)
        } else {
            disk.kill()
        }
        // And again while it recovers.
        disk.die_in(dice.throw(60));
        drop(small(&disk));
        if dice.throw(1) == 0 { disk.crash(&mut dice) } else { disk.kill() }
    }
    truth.check(&mut small(&disk).unwrap(), seed);
}

#[test]
fn power_fails_at_any_moment() {
    (0..16).for_each(life);
}

#[test]
fn the_disk_fails_for_a_while_at_any_moment() {
    for seed in 0..10 {
        let mut dice = Dice::new(seed ^ 0xdead);
        let (disk, mut truth) = (SimulatedDisk::default(), Truth::default());
        let mut store = small(&disk).unwrap();
        for at in 0..40 {
            match dice.throw(9) {
                0 => disk.fail_syncs(true),
                1 => disk.fail_writes(true),
                2..=5 => {
                    disk.fail_syncs(false);
                    disk.fail_writes(false);
                }
                _ => {}
            }
            truth.work(&mut store, &mut dice, at * 20);
        }
        disk.fail_syncs(false);
        disk.fail_writes(false);
        let mut done = Committed::default();
        (0..30).for_each(|at| store.mend(now(10_000 + at * 100), &mut done));
        truth.settled.extend(done.settled.iter().filter(|it| it.settled == Settled::Done).map(|it| it.id));
        assert!(store.later.is_empty() && store.standing().failing_since.is_none(), "seed {seed}");
        truth.check(&mut store, seed);
        drop(store);
        disk.crash(&mut dice);
        truth.check(&mut small(&disk).unwrap(), seed);
    }
}
