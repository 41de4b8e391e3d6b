//! Keys that wait for their dead letters, with a real store: whatever removes a dead letter frees its key, and nothing else
//! does. The news go from the store to the agenda as the thread of the store sends them.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use crate::inbox::agenda::Agenda;
use crate::inbox::backoff::Dice;
use crate::inbox::contract_tests::{fresh, now};
use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::judgement::AttemptEnd;
use crate::inbox::lane::{LaneTerms, OnDead};
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Committed, DeliveryStore, StoreOrder, StoredRecord};

use super::disk_in_tests::SimulatedDisk;
use super::shelf::{Shelf, ShelfTerms};
use super::shelf_tests::terms;

const RETENTION: u64 = 3_600_000;

/// So large that a file of dead letters holds three.
const BODY: usize = 650_000;

/// How often each way was taken by which a dead letter can leave.
#[derive(Debug, Default)]
struct Ways {
    redriven: usize,
    purged: usize,
    expired: usize,
    dropped: usize,
    damaged: usize,
    set_aside: usize,
    restarted: usize,
}

struct Run {
    disk: SimulatedDisk,
    store: Shelf,
    agenda: Agenda,
    flying: BTreeSet<DeliveryId>,
    settlements: Vec<crate::inbox::store::Settlement>,
    dice: Dice,
    millis: u64,
    sent: u64,
    ways: Ways,
}

fn open(disk: &SimulatedDisk, millis: u64) -> Shelf {
    let small = ShelfTerms { dead_size: 4 << 20, retention: RETENTION, drops_oldest: true, ..terms(&[]) };
    Shelf::open(Box::new(disk.clone()), small, now(millis)).unwrap()
}

fn agenda(seed: u64) -> Agenda {
    let on_dead = OnDead::Hold;
    Agenda::new(vec![LaneTerms { on_dead, give_up_after: u64::MAX / 4, ..LaneTerms::default() }], seed)
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = SimulatedDisk::default();
        Self {
            store: open(&disk, 0),
            disk,
            agenda: agenda(seed),
            flying: BTreeSet::new(),
            settlements: Vec::new(),
            dice: Dice::new(seed),
            millis: 0,
            sent: 0,
            ways: Ways::default(),
        }
    }

    fn rows(&mut self) -> Vec<DeliveryRow> {
        let mut rows = Vec::new();
        self.store.browse(&DeliveryFilter::default(), None, usize::MAX - 10, &mut rows).unwrap();
        rows
    }

    fn dead(&mut self) -> Vec<DeliveryRow> {
        let mut rows = self.rows();
        rows.retain(|row| row.state == DeliveryState::Dead);
        rows
    }

    /// What the thread of the store does in a round, and what the thread that delivers hears of it.
    fn round(&mut self, fresh: &[FreshDelivery<'_>]) {
        let (mut done, settlements) = (Committed::default(), std::mem::take(&mut self.settlements));
        let _ = self.store.commit(fresh, &settlements, now(self.millis), &mut done);
        self.store.mend(now(self.millis), &mut done);
        done.accepted.iter().for_each(|row| _ = self.agenda.admit(row, 0, now(self.millis)));
        done.settled.iter().for_each(|settlement| self.agenda.committed(settlement));
        done.kept.iter().for_each(|id| self.agenda.keep(*id, now(self.millis)));
        let (mut gone, mut taken) = (Vec::new(), Vec::new());
        self.store.take_gone(&mut gone);
        gone.iter().for_each(|id| self.agenda.forget(*id));
        self.flying.retain(|id| !gone.contains(id));
        self.store.take(4_096, &mut taken);
        for row in taken {
            if row.redrives > 0 {
                self.agenda.forget(row.id);
            }
            self.agenda.admit(&row, 0, now(self.millis));
        }
        self.millis += 100;
    }

    fn rounds(&mut self, count: usize) {
        (0..count).for_each(|_| self.round(&[]));
    }

    fn accept(&mut self) {
        self.sent += 1;
        let mut body = vec![b'.'; BODY];
        body.splice(..9, format!("<{:07}>", self.sent).into_bytes());
        let order_key = [u8::try_from(self.dice.throw(5)).unwrap(); 16];
        self.round(&[FreshDelivery { order_key, ..fresh("orders", &body) }]);
    }

    /// An attempt begins: nothing older of its key may be there.
    fn begin(&mut self) -> bool {
        let Some(due) = self.agenda.next(now(self.millis)) else { return false };
        let rows = self.rows();
        let row = rows.iter().find(|row| row.id == due.id).unwrap();
        let before =
            |it: &&DeliveryRow| it.id < row.id && it.order_key == row.order_key && it.state != DeliveryState::Damaged;
        let older = rows.iter().find(before).filter(|_| row.order_key != [0; 16]);
        assert_eq!(older, None, "{} overtakes", due.id);
        self.flying.insert(due.id)
    }

    fn end(&mut self, status: u16) {
        let Some(id) = self.flying.pop_first() else { return };
        let end = AttemptEnd::Answered { status, retry_after: None };
        self.settlements.extend(self.agenda.finish(id, end, now(self.millis)));
        self.rounds(2);
    }

    fn order(&mut self, order: &StoreOrder) -> usize {
        let count = self.store.order(order, now(self.millis)).unwrap().len();
        self.rounds(1);
        count
    }

    fn one_of(&mut self, rows: &[DeliveryRow]) -> Option<DeliveryFilter> {
        let at = usize::try_from(self.dice.throw(1 << 20)).unwrap().checked_rem(rows.len())?;
        Some(DeliveryFilter { ids: vec![rows[at].id], ..DeliveryFilter::default() })
    }

    /// The content of a dead letter changes on disk, and then it is looked at.
    fn damage(&mut self) {
        let dead = self.dead();
        let Some(id) = self.one_of(&dead).map(|filter| filter.ids[0]) else { return };
        let mut record = StoredRecord::default();
        self.store.fetch(id, &mut record).unwrap();
        let Some(mark) = record.body().get(..9).map(<[u8]>::to_vec) else { return };
        for name in self.disk.names() {
            if let Some(at) = self.disk.find(&name, &mark) {
                self.disk.flip(&name, at + 3);
            }
        }
        self.restart();
        self.store.fetch(id, &mut record).unwrap();
        self.rounds(1);
        self.ways.damaged += 1;
    }

    /// A file of dead letters fails, and is another one when it is read again.
    fn lose_a_file(&mut self) {
        let dead = self.dead();
        let Some(filter) = self.one_of(&dead) else { return };
        let number = self.store.index[&filter.ids[0]].file;
        self.disk.fail_writes(true);
        self.store.order(&StoreOrder::Purge(filter, 1), now(self.millis)).unwrap_err();
        let name = super::shelf::file_name(true, number);
        (0..9).for_each(|at| _ = self.disk.flip(&name, at));
        self.disk.fail_writes(false);
        for _ in 0..80 {
            self.millis += 1_000;
            self.round(&[]);
        }
        assert!(!self.store.files.contains_key(&number));
        self.ways.set_aside += 1;
    }

    fn restart(&mut self) {
        self.rounds(3);
        self.disk.kill();
        let unused = SimulatedDisk::default();
        drop(std::mem::replace(&mut self.store, open(&unused, 0)));
        self.store = open(&self.disk, self.millis);
        self.agenda = agenda(self.dice.throw(u64::MAX - 1));
        (self.flying, self.settlements) = (BTreeSet::new(), Vec::new());
        self.rounds(1);
        self.ways.restarted += 1;
    }

    fn step(&mut self) {
        let dead_before = self.dead().len();
        match self.dice.throw(99) {
            0..30 => self.accept(),
            30..50 => _ = self.begin(),
            50..68 => self.end(410),
            68..78 => {
                let status = [200, 500, 503][usize::try_from(self.dice.throw(2)).unwrap()];
                self.end(status);
            }
            78..83 => {
                let dead = self.dead();
                if let Some(filter) = self.one_of(&dead) {
                    self.ways.redriven += self.order(&StoreOrder::Redrive(filter, 1));
                }
            }
            83..88 => {
                let rows = self.rows();
                if let Some(filter) = self.one_of(&rows) {
                    self.flying.remove(&filter.ids[0]);
                    self.ways.purged += self.order(&StoreOrder::Purge(filter, 1));
                }
            }
            88..90 => {
                self.millis += RETENTION;
                self.rounds(2);
                self.ways.expired += usize::from(self.dead().len() < dead_before);
            }
            90..92 => self.damage(),
            92..94 => self.lose_a_file(),
            94..96 => self.restart(),
            _ => self.millis += 60_000,
        }
        let notes = self.store.take_notes();
        self.ways.dropped += notes.iter().filter(|note| note.contains("drop_oldest")).count();
    }

    /// The application accepts everything. What is left then must wait for a dead letter of its key.
    fn drain(&mut self) {
        for _ in 0..200 {
            if self.flying.is_empty() && self.agenda.wakes_at().is_none() {
                break;
            }
            while self.begin() {}
            (0..self.flying.len()).for_each(|_| self.end(200));
            self.rounds(2);
            self.millis += 400_000;
        }
        let mut oldest: BTreeMap<[u8; 16], DeliveryId> = BTreeMap::new();
        for row in self.rows() {
            match row.state {
                DeliveryState::Dead if row.order_key != [0; 16] => _ = oldest.entry(row.order_key).or_insert(row.id),
                DeliveryState::Waiting => {
                    let holds = oldest.get(&row.order_key).is_some_and(|dead| *dead < row.id);
                    assert!(holds, "{} waits for nothing: {:?}", row.id, self.agenda);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_key_is_free_when_its_last_dead_letter_has_left_in_whatever_way() {
    let mut ways = Ways::default();
    for seed in 1..=5 {
        let mut run = Run::new(seed);
        (0..250).for_each(|_| run.step());
        run.drain();
        run.restart();
        run.drain();
        let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
        run.order(&StoreOrder::Purge(dead, 10_000));
        run.drain();
        assert!(run.agenda.is_empty(), "seed {seed}: {:?}", run.agenda);
        ways.redriven += run.ways.redriven;
        ways.purged += run.ways.purged;
        ways.expired += run.ways.expired;
        ways.dropped += run.ways.dropped;
        ways.damaged += run.ways.damaged;
        ways.set_aside += run.ways.set_aside;
        ways.restarted += run.ways.restarted;
    }
    let Ways { redriven, purged, expired, dropped, damaged, set_aside, restarted } = ways;
    for count in [redriven, purged, expired, dropped, damaged, set_aside, restarted] {
        assert!(count > 0, "{ways:?}");
    }
}
