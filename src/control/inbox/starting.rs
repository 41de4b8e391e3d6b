//! From a directory to a shelf.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::record::HEADER_SIZE;
use crate::inbox::row::{DeliveryRow, ROW_SIZE};
use crate::inbox::store::Committed;
use crate::now::Now;

use super::disk::Disk;
use super::generation::{FileTrouble, Generation};
use super::shelf::{Shelf, ShelfFile, ShelfTerms, UNFINISHED, damaged_row, file_name, unix};

/// Ids begin with the time in milliseconds, times this: a directory that has lost its files uses none of its former
/// ids again.
const IDS_PER_MILLISECOND: u64 = 1 << 16;

fn parse_name(name: &str) -> Option<(bool, u32)> {
    let stem = name.strip_suffix(".redb")?;
    let (dead, number) = match stem.strip_prefix("inbox-") {
        Some(number) => (false, number),
        None => (true, stem.strip_prefix("dead-")?),
    };
    let is_number = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten().map(|number| (dead, number))
}

/// Bytes that a delivery takes, from its row.
fn stored(row: &DeliveryRow) -> u64 {
    u64::from(row.head_length)
        + row.body_length
        + 72
        + u64::from(row.chunks) * (HEADER_SIZE as u64 + 16)
        + ROW_SIZE as u64
}

impl Shelf {
    /// Opens what is there. Files that cannot be opened are set aside or tried again later, and said in
    /// [`Shelf::take_notes`].
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(disk: Box<dyn Disk>, terms: ShelfTerms, now: Now) -> io::Result<Self> {
        let names = disk.list()?;
        let mut this = Self {
            disk,
            terms,
            files: BTreeMap::new(),
            index: HashMap::new(),
            untaken: BTreeSet::new(),
            later: Vec::new(),
            later_since: None,
            stale: Vec::new(),
            routes: Vec::new(),
            held: Vec::new(),
            next_id: unix(now).saturating_mul(IDS_PER_MILLISECOND),
            next_file: 1,
            damaged_files: names.iter().filter(|name| name.contains(".damaged-")).count() as u64,
            failing_since: None,
            disk_low: false,
            looked: 0,
            tried: None,
            notes: Vec::new(),
        };
        for (dead, number) in names.iter().filter_map(|name| parse_name(name)) {
            this.next_file = this.next_file.max(number + 1);
            this.files.insert(number, ShelfFile::new(dead));
        }
        for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
            let _ = this.disk.remove(name);
        }
        let numbers: Vec<u32> = this.files.keys().copied().collect();
        numbers.into_iter().for_each(|number| _ = this.reopen(number, now));
        this.mend_files(now, &mut Committed::default());
        Ok(this)
    }

    /// Opens a file that is closed, and takes in what it holds. Gives whether it is open.
    pub(super) fn reopen(&mut self, number: u32, now: Now) -> bool {
        let Some(dead) = self.files.get(&number).map(|file| file.dead) else { return false };
        let name = file_name(dead, number);
        let opened = self
            .disk
            .open(&name)
            .map_err(FileTrouble::Io)
            .and_then(|medium| Generation::open(medium, self.terms.file_terms(), |about| self.terms.sealer(about)));
        let read = opened.and_then(|(generation, about)| {
            let routes = generation.routes()?;
            let mut rows = Vec::new();
            generation.each_row(|id, row| rows.push(row.unwrap_or_else(|| damaged_row(id))))?;
            let mut seen_until = 0;
            generation.each_seen(unix(now), |_, until| seen_until = seen_until.max(until))?;
            Ok((generation, about, routes, rows, seen_until))
        });
        match read {
            Ok((generation, about, routes, mut rows, seen_until)) => {
                self.next_id = self.next_id.max(about.ids_below);
                if rows.len() as u64 != about.rows {
                    let (found, expected) = (rows.len(), about.rows);
                    self.notes.push(format!("{name} has {found} deliveries and should have {expected}: verify it"));
                }
                if !dead {
                    self.held = about.held;
                }
                let numbers: HashMap<u16, u16> =
                    routes.iter().map(|(at, name)| (*at, self.route_number_for(*at, name))).collect();
                if let Some(file) = self.files.get_mut(&number) {
                    file.gauge = Some(Arc::clone(&generation.gauge));
                    (file.open, file.seen_until, file.ids_below) = (Some(generation), seen_until, about.ids_below);
                    // A file whose numbers mean other routes takes no more deliveries.
                    file.sealed |= numbers.iter().any(|(own, ours)| own != ours);
                    file.routes.extend(numbers.keys());
                }
                rows.iter_mut().for_each(|row| row.route = numbers.get(&row.route).copied().unwrap_or(u16::MAX));
                self.take_in(number, &rows);
                true
            }
            Err(error) => {
                self.not_opened(number, &name, &error, now);
                false
            }
        }
    }

    /// The number of a route: that of the file, if it is free.
    fn route_number_for(&mut self, at: u16, name: &str) -> u16 {
        if self.routes.len() == usize::from(at) && !self.routes.iter().any(|known| known == name) {
            self.routes.push(name.to_owned());
            return at;
        }
        self.route_number(name)
    }

    fn not_opened(&mut self, number: u32, name: &str, error: &FileTrouble, now: Now) {
        match error {
            // It may be over soon: the file stays where it is.
            FileTrouble::Io(_) => self.failed(&format!("{name} cannot be opened: {error}"), now),
            FileTrouble::NoKey(about) => {
                self.next_id = self.next_id.max(about.ids_below);
                self.notes.push(format!("{name} cannot be read: {error}"));
                if let Some(file) = self.files.get_mut(&number) {
                    file.hopeless = true;
                }
            }
            FileTrouble::Damaged(_) => {
                let aside = format!("{name}.damaged-{}", unix(now));
                if self.disk.rename(name, &aside).is_err() {
                    return self.failed(&format!("{name}: {error}, and it cannot be renamed"), now);
                }
                self.damaged_files += 1;
                self.notes.push(format!("{name}: {error}; it is {aside} now: `countersign inbox salvage` reads it"));
                let lost: Vec<DeliveryId> =
                    self.index.iter().filter(|(_, place)| place.file == number).map(|(id, _)| *id).collect();
                lost.into_iter().for_each(|id| self.unnote(id));
                self.files.remove(&number);
            }
        }
    }

    /// Compares the rows of a file with the index. What the index does not have is taken in; of what two files have, the
    /// newer one counts; what the file does not have any more is forgotten.
    fn take_in(&mut self, number: u32, rows: &[DeliveryRow]) {
        let in_file: BTreeSet<DeliveryId> = rows.iter().map(|row| row.id).collect();
        let gone: Vec<DeliveryId> = self
            .index
            .iter()
            .filter(|(id, place)| place.file == number && !in_file.contains(id))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().for_each(|id| self.unnote(id));
        for row in rows {
            let known = self.index.get(&row.id).copied();
            if let Some(place) = known {
                if place.file == number {
                    continue;
                }
                let rank = |redrives: u8, state: DeliveryState, file: u32| (redrives, state.number(), file);
                let ours = rank(place.redrives, place.state, place.file);
                if rank(row.redrives, row.state, number) <= ours || row.chunks == 0 {
                    self.stale.push((number, row.id, row.chunks));
                    continue;
                }
                self.stale.push((place.file, row.id, place.chunks));
                self.unnote(row.id);
            }
            if let Some(file) = self.files.get_mut(&number) {
                Self::note(&mut self.index, file, number, row, stored(row));
            }
            if row.state != DeliveryState::Damaged {
                self.untaken.insert(row.id);
            }
        }
    }
}
