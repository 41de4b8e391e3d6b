//! How the files stand, and what is to be done about them now and then.

use std::collections::BTreeMap;

use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::store::{Committed, DeliveryStore, StoreStanding};
use crate::now::Now;
use crate::telemetry::audit::inbox_change::InboxAction;

use super::bounds::WriteCause;
use super::shelf::{Shelf, ShelfFile, file_name, monotonic, unix};

/// What was seen is carried to another file in pieces of so many.
const SEEN_AT_A_TIME: usize = 4_096;

/// Files that have failed are opened again every so many milliseconds.
const REOPEN_PACE: u64 = 50;

impl Shelf {
    pub(super) fn stand(&self) -> StoreStanding {
        let mut standing = StoreStanding {
            bytes: self.bytes(false),
            dead_bytes: self.bytes(true),
            limit: self.terms.size,
            generations: self.files.len() as u64,
            damaged_files: self.damaged_files,
            failing_since: self.failing_since,
            ..StoreStanding::default()
        };
        // It is asked for with every commit: nothing of it depends on how many there are.
        for file in self.files.values() {
            let [waiting, dead, damaged] = file.states;
            standing.waiting += waiting;
            standing.dead += dead;
            standing.damaged += damaged;
        }
        [standing.locked, standing.former_keys] = self.count_by_key();
        let limit = self.terms.file_limit();
        let room = self.files.values().any(|file| file.dead && !file.sealed && file.bytes < self.terms.file_content());
        let more =
            standing.dead_bytes + limit <= self.terms.dead_size.max(limit) && standing.bytes + limit <= self.terms.size;
        standing.dead_letters_full = !room && !more && !self.terms.drops_oldest;
        standing
    }

    pub(super) fn mend_files(&mut self, now: Now, done: &mut Committed) {
        let mono = monotonic(now);
        self.follow_keys();
        if mono >= self.looked {
            self.looked = mono + 1_000;
            self.disk_low = self.disk.free().is_ok_and(|free| free < self.reserve());
            self.expire(now);
            self.set_room_aside();
        }
        self.reopen_all(now);
        if self.later_since.is_some_and(|since| mono >= since + 50) {
            self.flush(now, done);
        }
        self.write_marks(now);
        self.remove_stale(now);
        if self.later.is_empty() && self.failing_since.is_none() {
            self.gather(now);
            self.encrypt_anew(now);
        }
        self.retire(now);
    }

    fn reopen_all(&mut self, now: Now) {
        let mono = monotonic(now);
        let closed: Vec<u32> =
            self.files.iter().filter(|(_, file)| !file.is_writable()).map(|(number, _)| *number).collect();
        if closed.is_empty() {
            if self.tried.is_none_or(|tried| mono >= tried + 1_000) {
                self.failing_since = None;
            }
            return;
        }
        if mono < self.reopen_at {
            return;
        }
        self.reopen_at = mono + REOPEN_PACE;
        let failed = closed.into_iter().filter(|number| !self.reopen(*number, now)).count();
        if failed == 0 {
            self.failing_since = None;
        }
    }

    fn remove_stale(&mut self, now: Now) {
        let mut by_file: BTreeMap<u32, Vec<(DeliveryId, u16)>> = BTreeMap::new();
        for (number, id, chunks) in std::mem::take(&mut self.stale) {
            by_file.entry(number).or_default().push((id, chunks));
        }
        for (number, ids) in by_file {
            if self.files.contains_key(&number) && self.remove(number, &ids, now).is_err() {
                self.stale.extend(ids.into_iter().map(|(id, chunks)| (number, id, chunks)));
            }
        }
    }

    /// Removes dead letters that are too old.
    fn expire(&mut self, now: Now) {
        if monotonic(now) < self.expire_at {
            return;
        }
        // Every dead letter is looked at.
        self.expire_at = monotonic(now) + (self.terms.retention / 16).min(60_000);
        if self.terms.retention == 0 || self.stand().dead == 0 {
            return;
        }
        let before = unix(now).saturating_sub(self.terms.retention);
        let filter = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
        let mut rows = Vec::new();
        if self.browse(&filter, None, usize::MAX, &mut rows).is_err() {
            return;
        }
        let ids: Vec<DeliveryId> =
            rows.iter().filter(|row| row.changed < before).map(|row| row.id).take(SEEN_AT_A_TIME).collect();
        if ids.is_empty() {
            return;
        }
        let filter = DeliveryFilter { ids, ..filter };
        if let Ok(purged) = self.purge(&filter, SEEN_AT_A_TIME, now)
            && !purged.is_empty()
        {
            self.notes.push(format!("{} dead letters were removed at the end of their retention", purged.len()));
            self.removals.push((InboxAction::Expired, purged));
        }
    }

    /// Drops the oldest file of dead letters, where the operator wants that. Gives whether there is more room then. A file
    /// that holds something damaged stays.
    pub(super) fn drop_oldest(&mut self, now: Now) -> bool {
        if !self.terms.drops_oldest {
            return false;
        }
        let is_droppable = |file: &ShelfFile| file.dead && file.states == [0, file.count, 0] && file.count > 0;
        let oldest = self.files.iter().find(|(_, file)| is_droppable(file)).map(|(number, _)| *number);
        let living = self.files.iter().rev().find(|(_, file)| !file.dead && !file.sealed).map(|(number, _)| *number);
        let Some(number) = oldest.filter(|number| self.carry_seen(*number, living, now)) else { return false };
        if self.disk.remove(&file_name(true, number)).is_err() {
            return false;
        }
        let count = self.files.remove(&number).map_or(0, |file| file.count);
        self.tried = None;
        let dropped: Vec<DeliveryId> =
            self.index.iter().filter(|(_, place)| place.file == number).map(|(id, _)| *id).collect();
        dropped.iter().for_each(|id| self.lose(*id));
        self.removals.push((InboxAction::Dropped, dropped));
        self.notes.push(format!(
            "{count} dead letters were dropped to make room for younger ones: when_full = \"drop_oldest\""
        ));
        true
    }

    /// Removes files without deliveries. The youngest stays: it takes the next ones.
    fn retire(&mut self, now: Now) {
        let youngest = |dead: bool| {
            self.files.iter().rev().find(|(_, file)| file.dead == dead && !file.sealed).map(|(number, _)| *number)
        };
        let (living, graves) = (youngest(false), youngest(true));
        let tells = (!self.held.is_empty()).then_some(self.held_from);
        let empty: Vec<u32> = self
            .files
            .iter()
            .filter(|(number, file)| {
                file.count == 0 && file.is_writable() && ![living, graves, tells].contains(&Some(**number))
            })
            .map(|(number, _)| *number)
            .collect();
        for number in empty {
            if self.stale.iter().any(|(file, ..)| *file == number) || !self.carry_seen(number, living, now) {
                continue;
            }
            let dead = self.files.remove(&number).is_some_and(|file| file.dead);
            let _ = self.disk.remove(&file_name(dead, number));
        }
    }

    /// What is remembered in a file that is to be removed is written to the youngest one. Gives whether nothing is lost.
    fn carry_seen(&mut self, from: u32, to: Option<u32>, now: Now) -> bool {
        let Some(file) = self.files.get(&from) else { return false };
        if file.seen_until <= unix(now) {
            return true;
        }
        let mut seen = Vec::new();
        let read =
            file.open.as_ref().map(|generation| generation.each_seen(unix(now), |key, until| seen.push((key, until))));
        let Some((Some(Ok(())), to)) = to.map(|to| (read, to)) else { return false };
        for some in seen.chunks(SEEN_AT_A_TIME) {
            self.bound(to, WriteCause::Settling);
            let generation = self.files.get_mut(&to).and_then(ShelfFile::writable);
            let Some(generation) = generation else { return false };
            let written =
                generation.write(|writing| some.iter().try_for_each(|(key, until)| writing.add_seen(key, *until)));
            if let Err(error) = written {
                self.close(to, &error, now);
                return false;
            }
        }
        let last = seen.iter().map(|(_, until)| *until).max().unwrap_or(0);
        if let Some(file) = self.files.get_mut(&to) {
            file.seen_until = file.seen_until.max(last);
        }
        true
    }
}
