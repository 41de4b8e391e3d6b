//! Deliveries from one file to another.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{StoreRefusal, StoredRecord};
use crate::now::Now;

use super::bounds::WriteCause;
use super::file_trouble::FileTrouble;
use super::generation::Generation;
use super::shelf::{Shelf, ShelfFile};

impl Shelf {
    /// Moves deliveries, with new rows, to a file of living or of dead ones. Gives which: what cannot be read stays where
    /// it is, and is marked.
    ///
    /// # Errors
    /// Why none was moved.
    pub(super) fn transfer(
        &mut self,
        from: u32,
        dead: bool,
        rows: &[DeliveryRow],
        now: Now,
    ) -> Result<Vec<DeliveryId>, StoreRefusal> {
        let places: Vec<_> = rows.iter().filter_map(|row| Some((row, *self.index.get(&row.id)?))).collect();
        let mut moved = Vec::with_capacity(rows.len());
        let mut at = 0;
        while at < places.len() {
            // As many as are a tenth of a file.
            let (mut size, begin) = (0_u64, at);
            while let Some((_, place)) = places.get(at) {
                if at > begin && size + u64::from(place.size) > self.terms.file_content() / 5 {
                    break;
                }
                size += u64::from(place.size);
                at += 1;
            }
            let some: Vec<DeliveryRow> = places.iter().take(at).skip(begin).map(|(row, _)| (*row).clone()).collect();
            match self.move_some(from, dead, &some, now) {
                Ok(ids) => moved.extend(ids),
                Err(why) if moved.is_empty() => return Err(why),
                Err(_) => return Ok(moved),
            }
        }
        Ok(moved)
    }

    fn move_some(
        &mut self,
        from: u32,
        dead: bool,
        rows: &[DeliveryRow],
        now: Now,
    ) -> Result<Vec<DeliveryId>, StoreRefusal> {
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(place) = self.index.get(&row.id).copied() else { continue };
            let mut record = StoredRecord::default();
            match self.generation(place).map(|generation| generation.read(row.id, place.chunks, &mut record)) {
                Ok(Ok(Some(()))) if self.is_own(row, &record) => records.push((row, place, record)),
                Ok(Ok(_)) => self.mark_damaged(row.id, place),
                _ => return Err(StoreRefusal::Failed),
            }
        }
        let size = records.iter().map(|(_, place, _)| u64::from(place.size)).sum();
        let to = self.accepting(dead, size, now)?;
        if to == from {
            return Err(StoreRefusal::Failed);
        }
        let routes: BTreeSet<u16> = records.iter().map(|(row, ..)| row.route).collect();
        self.bound(to, WriteCause::adding(dead));
        let names = &self.routes;
        let target = self.files.get_mut(&to);
        let Some(generation) = target.and_then(ShelfFile::writable) else { return Err(StoreRefusal::Failed) };
        let written = generation.write(|writing| {
            for route in &routes {
                writing.name_route(*route, names.get(usize::from(*route)).map_or("", String::as_str))?;
            }
            records.iter().try_for_each(|(row, _, record)| writing.add(&again(record), row))
        });
        if let Err(error) = written {
            self.close(to, &error, now);
            return Err(if error.is_full() { StoreRefusal::DiskFull } else { StoreRefusal::Failed });
        }
        let mut left = Vec::with_capacity(records.len());
        for (row, place, _) in &records {
            self.unnote(row.id);
            if let Some(file) = self.files.get_mut(&to) {
                file.routes.extend(&routes);
                Self::note(&mut self.index, file, to, row, u64::from(place.size));
            }
            left.push((row.id, place.chunks));
        }
        if self.remove(from, &left, now).is_err() {
            self.stale.extend(left.iter().map(|(id, chunks)| (from, *id, *chunks)));
        }
        Ok(left.into_iter().map(|(id, _)| id).collect())
    }

    /// Removes deliveries from a file, whatever the index says of them.
    pub(super) fn remove(&mut self, number: u32, ids: &[(DeliveryId, u16)], now: Now) -> Result<(), FileTrouble> {
        let closed = || FileTrouble::Io(std::io::Error::other("the file cannot be opened at the moment"));
        self.bound(number, WriteCause::Settling);
        let generation = self.files.get_mut(&number).and_then(ShelfFile::writable).ok_or_else(closed)?;
        let written = generation.write(|writing| ids.iter().try_for_each(|(id, chunks)| writing.remove(*id, *chunks)));
        if let Err(error) = &written {
            self.close(number, error, now);
            if error.is_full() && self.release_room() {
                self.reopen(number, now);
                return self.remove(number, ids, now);
            }
        }
        written
    }

    /// A commit failed at its very end. Opens the file again, and removes what the commit may have left there. Gives
    /// whether that is certain.
    pub(super) fn erase(&mut self, number: u32, ids: Range<u64>, now: Now) -> bool {
        if !self.reopen(number, now) {
            return false;
        }
        let found = |generation: &Generation| {
            let mut found = Vec::new();
            for id in ids.clone().map(DeliveryId) {
                if let Some(row) = generation.row(id)? {
                    found.push((id, row.chunks));
                }
            }
            Ok::<_, FileTrouble>(found)
        };
        let file = self.files.get(&number).and_then(|file| file.open.as_ref());
        let Some(Ok(left)) = file.map(found) else { return false };
        // Even if nothing is found: a commit that succeeds now says that what came before is as it was read.
        let erased = self.remove(number, &left, now).is_ok();
        if erased {
            left.iter().for_each(|(id, _)| self.lose(*id));
        }
        erased
    }

    /// Moves what is left in a file that is almost empty to the youngest one, so that it can be removed.
    pub(super) fn gather(&mut self, now: Now) {
        let small = self.terms.file_content() / 8;
        let youngest =
            |dead: bool| self.files.iter().rev().find(|(_, file)| file.dead == dead).map(|(number, _)| *number);
        let (living, graves) = (youngest(false), youngest(true));
        let is_left = |(number, file): &(&u32, &ShelfFile)| {
            let is_youngest = Some(**number) == living || Some(**number) == graves;
            !is_youngest
                && file.count > 0
                && file.count <= 256
                && file.bytes <= small
                && file.is_writable()
                && file.lock().is_none()
        };
        let Some((number, dead)) = self.files.iter().find(is_left).map(|(number, file)| (*number, file.dead)) else {
            return;
        };
        let of_file: Vec<(DeliveryId, DeliveryState)> =
            self.index.iter().filter(|(_, place)| place.file == number).map(|(id, place)| (*id, place.state)).collect();
        if of_file.iter().any(|(_, state)| *state == DeliveryState::Damaged) {
            return;
        }
        let rows: Vec<DeliveryRow> = of_file
            .iter()
            .filter_map(|(id, _)| self.row(*id, *self.index.get(id)?).ok())
            .filter(|row| row.state != DeliveryState::Damaged)
            .collect();
        let untaken: Vec<DeliveryId> = rows.iter().map(|row| row.id).filter(|id| self.untaken.contains(id)).collect();
        if let Some(file) = self.files.get_mut(&number) {
            file.sealed = true;
        }
        let _ = self.transfer(number, dead, &rows, now);
        self.untaken.extend(untaken);
    }
}

/// A record that was read, to be written again.
fn again(record: &StoredRecord) -> FreshDelivery<'_> {
    FreshDelivery {
        route: record.route(),
        head: record.head(),
        body: record.body(),
        accepted: record.parts.accepted,
        order_key: record.parts.order_key,
        seen_key: record.parts.seen_key,
        seen_also: &[],
        seen_until: 0,
    }
}
