//! What becomes of files when the keys are other ones.
//!
//! The first key encrypts: a file with another key, or with none, takes no more deliveries, and what it holds moves to a
//! file with the first key, a little each second. A file whose key is missing is open all the same: its deliveries are
//! listed, counted and kept, copies of them are recognised, and none is attempted until its key is there.

use std::sync::Arc;

use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::row::DeliveryRow;
use crate::now::Now;

use super::generation::Generation;
use super::keys::{InboxKey, KeyTrouble, sealer_of};
use super::shelf::{Shelf, ShelfFile, file_name, monotonic};

/// So many deliveries of files with former keys are encrypted anew at a time, of so many bytes, and then not for so many
/// milliseconds.
const AT_A_TIME: usize = 256;
const BYTES_AT_A_TIME: u64 = 4 << 20;
const PACE: u64 = 1_000;

impl ShelfFile {
    /// Why its records cannot be read; nothing where they can, or it is not open.
    pub(super) fn lock(&self) -> Option<&KeyTrouble> {
        self.open.as_ref().and_then(Generation::lock)
    }

    /// Whether it is open and encrypted with another key than the first, or with none where there is one.
    fn is_former(&self, keys: &[InboxKey]) -> bool {
        let first = keys.first().map(|key| key.id.as_str());
        self.open.as_ref().is_some_and(|file| file.key().map(|key| key.id.as_str()) != first)
    }
}

impl Shelf {
    /// Looks at the key of a file that is open: whether it takes deliveries, and whether what it holds can be read.
    pub(super) fn look_at_key(&mut self, number: u32) {
        let Some(file) = self.files.get_mut(&number) else { return };
        let lock = file.lock().cloned();
        file.sealed |= lock.is_some() || file.is_former(&self.keys);
        let (dead, count) = (file.dead, file.count);
        match lock {
            Some(lock) if file.told_lock.as_ref() != Some(&lock) => {
                let name = file_name(dead, number);
                let note = format!("{name} with {count} deliveries, which are kept and not attempted: {lock}");
                file.told_lock = Some(lock);
                if count > 0 {
                    self.notes.push(note);
                }
            }
            Some(_) => {}
            None => {
                file.told_lock = None;
                let withheld = std::mem::take(&mut file.withheld);
                let index = &self.index;
                let known = |id: &DeliveryId| index.get(id).is_some_and(|it| it.state != DeliveryState::Damaged);
                self.untaken.extend(withheld.into_iter().filter(known));
            }
        }
    }

    /// Follows the keys that are in force.
    pub(super) fn follow_keys(&mut self) {
        let keys = self.terms.keys.current();
        if Arc::ptr_eq(&keys, &self.keys) {
            return;
        }
        self.keys = keys;
        let numbers: Vec<u32> = self.files.keys().copied().collect();
        for number in numbers {
            let salt = (self.terms.salt)();
            if let Some(generation) = self.files.get_mut(&number).and_then(|file| file.open.as_mut()) {
                let sealer = sealer_of(&self.keys, generation.key(), salt);
                generation.seal_with(sealer);
                self.look_at_key(number);
            }
        }
    }

    /// Deliveries that cannot be read without a key that is missing, and those that wait to be encrypted anew.
    pub(super) fn count_by_key(&self) -> [u64; 2] {
        let count = |of: &dyn Fn(&ShelfFile) -> bool| self.files.values().filter(|it| of(it)).map(|it| it.count).sum();
        let former = |file: &ShelfFile| file.lock().is_none() && file.is_former(&self.keys);
        [count(&|file| file.lock().is_some()), count(&former)]
    }

    /// Moves a part of what a file with a former key holds to one with the first key.
    pub(super) fn encrypt_anew(&mut self, now: Now) {
        let mono = monotonic(now);
        if self.keys.is_empty() || mono < self.rekey_at {
            return;
        }
        let is_due = |(_, file): &(&u32, &ShelfFile)| {
            let [.., damaged] = file.states;
            file.is_writable() && file.lock().is_none() && file.is_former(&self.keys) && file.count > damaged
        };
        let Some((number, dead)) = self.files.iter().find(is_due).map(|(number, file)| (*number, file.dead)) else {
            return;
        };
        self.rekey_at = mono + PACE;
        let of_file = self.index.iter().filter(|(_, it)| it.file == number && it.state != DeliveryState::Damaged);
        let mut places: Vec<(DeliveryId, u32)> = of_file.map(|(id, place)| (*id, place.size)).collect();
        places.sort_unstable();
        let mut size = 0;
        let fits = |(_, more): &(DeliveryId, u32)| {
            size += u64::from(*more);
            size <= BYTES_AT_A_TIME.max(u64::from(*more))
        };
        let ids: Vec<DeliveryId> = places.into_iter().take(AT_A_TIME).take_while(fits).map(|(id, _)| id).collect();
        let rows: Vec<DeliveryRow> =
            ids.iter().filter_map(|id| self.row(*id, *self.index.get(id)?).ok()).filter(|row| row.chunks > 0).collect();
        let untaken: Vec<DeliveryId> = ids.into_iter().filter(|id| self.untaken.contains(id)).collect();
        let _ = self.transfer(number, dead, &rows, now);
        self.untaken.extend(untaken.into_iter().filter(|id| self.index.contains_key(id)));
        let left = self.files.get(&number).is_some_and(|file| file.count > 0);
        if !left && self.count_by_key() == [0, 0] {
            self.notes.push("all deliveries are encrypted with the first key: the others are not needed".to_owned());
        }
    }
}
