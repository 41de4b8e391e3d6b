//! Ends of attempts, and what operators ask for.

use std::collections::{BTreeMap, HashMap};

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Committed, DeliveryStore, Settled, Settlement, StoreRefusal, StoreTrouble};
use crate::now::Now;

use super::bounds::WriteCause;
use super::file_trouble::FileTrouble;
use super::generation::FileWriting;
use super::shelf::{Shelf, ShelfFile, ShelfPlace, trouble, unix};

/// For how long a delivery waits that should be dead, for which there was no room: 15 minutes, in milliseconds.
const KEPT_FOR: u64 = 900_000;

/// So many files of dead letters are dropped at most for what dies at a time: a file may be twice as large as another.
const DROPPED_AT_A_TIME: usize = 3;

/// So many deliveries are moved or removed at a time.
const AT_A_TIME: usize = 256;

/// Writes settlements into the file of their deliveries. Those that die are written elsewhere.
pub(super) fn write(
    writing: &mut FileWriting<'_>,
    settlements: &[Settlement],
    index: &HashMap<DeliveryId, ShelfPlace>,
    now: u64,
) -> Result<(), FileTrouble> {
    for settlement in settlements {
        let Some(place) = index.get(&settlement.id) else { continue };
        match settlement.settled {
            Settled::Done => writing.remove(settlement.id, place.chunks)?,
            _ => _ = writing.change_row(settlement.id, |row| settlement.apply(row, now))?,
        }
    }
    Ok(())
}

impl Shelf {
    /// Whether a settlement is about a delivery as it is now.
    fn is_ours(&self, settlement: &Settlement) -> Option<ShelfPlace> {
        let place = self.index.get(&settlement.id)?;
        (place.redrives == settlement.redrives && place.state == DeliveryState::Waiting).then_some(*place)
    }

    /// Takes the settlements that a file can write by itself out of those that wait.
    pub(super) fn due_settlements(&mut self, number: u32) -> Vec<Settlement> {
        let mut own = Vec::new();
        let later = std::mem::take(&mut self.later);
        for settlement in later {
            let dies = matches!(settlement.settled, Settled::Dead { .. });
            if !dies && self.is_ours(&settlement).is_some_and(|place| place.file == number) {
                own.push(settlement);
            } else {
                self.later.push(settlement);
            }
        }
        own
    }

    /// Settlements are durable.
    pub(super) fn settled(&mut self, settlements: Vec<Settlement>, done: &mut Committed) {
        for settlement in &settlements {
            if settlement.settled == Settled::Done {
                self.unnote(settlement.id);
            }
        }
        done.settled.extend(settlements);
        if self.later.is_empty() {
            self.later_since = None;
        }
    }

    /// Writes all settlements that can be written.
    pub(super) fn flush(&mut self, now: Now, done: &mut Committed) {
        let later = std::mem::take(&mut self.later);
        let mut groups: BTreeMap<u32, (Vec<Settlement>, Vec<Settlement>)> = BTreeMap::new();
        for settlement in later {
            let Some(place) = self.is_ours(&settlement) else {
                done.settled.push(settlement);
                continue;
            };
            let group = groups.entry(place.file).or_default();
            let dies = matches!(settlement.settled, Settled::Dead { .. });
            if dies { group.1.push(settlement) } else { group.0.push(settlement) }
        }
        for (number, (stay, die)) in groups {
            self.settle_in(number, stay, now, done);
            for some in die.chunks(AT_A_TIME) {
                self.bury(number, some, now, done);
            }
        }
        if self.later.is_empty() {
            self.later_since = None;
        }
    }

    fn settle_in(&mut self, number: u32, settlements: Vec<Settlement>, now: Now, done: &mut Committed) {
        if settlements.is_empty() {
            return;
        }
        self.bound(number, WriteCause::Settling);
        let index = &self.index;
        let generation = self.files.get_mut(&number).and_then(ShelfFile::writable);
        let Some(generation) = generation else { return self.later.extend(settlements) };
        match generation.write(|writing| write(writing, &settlements, index, unix(now))) {
            Ok(()) => self.settled(settlements, done),
            Err(error) => {
                self.close(number, &error, now);
                if error.is_full() && self.release_room() {
                    self.reopen(number, now);
                    return self.settle_in(number, settlements, now, done);
                }
                if error.is_bound() && settlements.len() > 1 {
                    // Each needs pages that the one before has freed: fewer at a time need fewer.
                    let mut first = settlements;
                    let second = first.split_off(first.len() / 2);
                    self.settle_in(number, first, now, done);
                    return self.settle_in(number, second, now, done);
                }
                self.later.extend(settlements);
            }
        }
    }

    /// Moves deliveries that died to the dead letters; without room for them they wait on.
    fn bury(&mut self, from: u32, settlements: &[Settlement], now: Now, done: &mut Committed) {
        let mut rows = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let Some(place) = self.is_ours(settlement) else { continue };
            match self.row(settlement.id, place) {
                Ok(mut row) if row.state == DeliveryState::Waiting => {
                    settlement.apply(&mut row, unix(now));
                    row.state = DeliveryState::Dead;
                    rows.push(row);
                }
                _ => self.later.push(*settlement),
            }
        }
        let mut droppable = DROPPED_AT_A_TIME;
        while !rows.is_empty() {
            match self.transfer(from, true, &rows, now) {
                Ok(moved) => {
                    done.settled.extend(settlements.iter().filter(|it| moved.contains(&it.id)));
                    // What is damaged stays where it is.
                    let index = &self.index;
                    rows.retain(|row| index.get(&row.id).is_some_and(|it| it.state == DeliveryState::Waiting));
                    if moved.is_empty() {
                        break;
                    }
                }
                Err(StoreRefusal::Full | StoreRefusal::DiskFull) if droppable > 0 && self.drop_oldest(now) => {
                    droppable -= 1;
                }
                _ => break,
            }
        }
        let wait = Settled::Again { due: unix(now) + KEPT_FOR };
        let is_left = |it: &&Settlement| rows.iter().any(|row| row.id == it.id);
        let kept: Vec<Settlement> =
            settlements.iter().filter(is_left).map(|it| Settlement { settled: wait, ..*it }).collect();
        done.kept.extend(kept.iter().map(|settlement| settlement.id));
        let mut unheard = Committed::default();
        self.settle_in(from, kept, now, &mut unheard);
    }

    /// What was read is not what was written: the delivery is kept and never attempted.
    pub(super) fn mark_damaged(&mut self, id: DeliveryId, place: ShelfPlace) {
        if let Some(known) = self.index.get_mut(&id) {
            let before = std::mem::replace(&mut known.state, DeliveryState::Damaged);
            if let Some(file) = self.files.get_mut(&known.file) {
                file.counted(before, -1);
                file.counted(DeliveryState::Damaged, 1);
            }
        }
        self.untaken.remove(&id);
        self.gone.push(id);
        self.notes.push(format!("delivery {id} is damaged on disk: it is kept and not attempted"));
        self.unmarked.push((place.file, id));
    }

    /// Writes down which deliveries were found to be damaged.
    pub(super) fn write_marks(&mut self, now: Now) {
        for (number, id) in std::mem::take(&mut self.unmarked) {
            self.bound(number, WriteCause::Settling);
            let Some(generation) = self.files.get_mut(&number).and_then(ShelfFile::writable) else {
                if self.files.contains_key(&number) {
                    self.unmarked.push((number, id));
                }
                continue;
            };
            let written = generation.write(|writing| {
                writing.change_row(id, |row| {
                    row.state = DeliveryState::Damaged;
                    row.reason = DeliveryReason::DamagedRecord;
                })
            });
            // Where it could not be written, it is found again after the next start.
            if let Err(error) = written {
                self.close(number, &error, now);
            }
        }
    }

    fn matching(&mut self, filter: &DeliveryFilter, room: usize) -> Result<Vec<DeliveryRow>, StoreTrouble> {
        let mut rows = Vec::new();
        self.browse(filter, None, room, &mut rows)?;
        Ok(rows)
    }

    pub(super) fn redrive(
        &mut self,
        filter: &DeliveryFilter,
        room: usize,
        now: Now,
    ) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let filter = DeliveryFilter { state: Some(DeliveryState::Dead), ..filter.clone() };
        let mut rows = self.matching(&filter, room)?;
        let mut by_file: BTreeMap<u32, Vec<DeliveryRow>> = BTreeMap::new();
        for mut row in rows.drain(..) {
            let Some(place) = self.index.get(&row.id) else { continue };
            if let Some(lock) = self.files.get(&place.file).and_then(ShelfFile::lock) {
                self.notes.push(format!("delivery {} is not redriven: {lock}", row.id));
                continue;
            }
            row.redrive(unix(now));
            by_file.entry(place.file).or_default().push(row);
        }
        let mut redriven = Vec::new();
        for (from, rows) in by_file {
            for some in rows.chunks(AT_A_TIME) {
                let moved = self.transfer(from, false, some, now).map_err(|why| StoreTrouble(why.to_string()))?;
                self.untaken.extend(&moved);
                redriven.extend(moved);
            }
        }
        redriven.sort_unstable();
        Ok(redriven)
    }

    pub(super) fn purge(
        &mut self,
        filter: &DeliveryFilter,
        room: usize,
        now: Now,
    ) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let rows = self.matching(filter, room)?;
        let mut by_file: BTreeMap<u32, Vec<DeliveryRow>> = BTreeMap::new();
        for row in rows {
            if let Some(place) = self.index.get(&row.id) {
                by_file.entry(place.file).or_default().push(row);
            }
        }
        let mut purged = Vec::new();
        for (number, rows) in by_file {
            for some in rows.chunks(AT_A_TIME) {
                let ids = some.iter().map(|row| (row.id, row.chunks)).collect::<Vec<_>>();
                self.remove(number, &ids, now).map_err(|error| trouble(&error))?;
                ids.iter().for_each(|(id, _)| self.lose(*id));
                purged.extend(ids.iter().map(|(id, _)| *id));
            }
        }
        purged.sort_unstable();
        Ok(purged)
    }

    pub(super) fn hold(&mut self, route: &str, held: bool, now: Now) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let mut routes = self.held.clone();
        routes.retain(|known| known != route);
        routes.extend(held.then(|| route.to_owned()));
        // Where there is no file yet, the first one will know.
        let youngest = self.files.iter().rev().find(|(_, file)| !file.dead);
        if let Some(number) = youngest.map(|(number, _)| *number) {
            self.bound(number, WriteCause::Settling);
            let Some(generation) = self.files.get_mut(&number).and_then(ShelfFile::writable) else {
                return Err(StoreTrouble("the disk cannot be written at the moment".to_owned()));
            };
            if let Err(error) = generation.write(|writing| writing.held(&routes)) {
                self.close(number, &error, now);
                return Err(trouble(&error));
            }
            self.held_from = number;
        }
        self.held = routes;
        Ok(Vec::new())
    }
}
