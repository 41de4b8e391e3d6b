//! From a directory to a shelf.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::record::HEADER_SIZE;
use crate::inbox::row::{DeliveryRow, ROW_SIZE};
use crate::inbox::store::Committed;
use crate::now::Now;

use super::ballast::RESERVE;
use super::disk::{Disk, Medium};
use super::file_trouble::FileTrouble;
use super::generation::{FileAbout, Generation};
use super::keys::sealer_of;
use super::overlay::Overlay;
use super::shelf::{
    PATIENCE, SET_ASIDE, Shelf, ShelfFile, ShelfTerms, UNFINISHED, damaged_row, file_name, monotonic, unix,
};

/// Ids begin with the time in milliseconds, times this: a directory that has lost its files uses none of its former
/// ids again.
const IDS_PER_MILLISECOND: u64 = 1 << 16;

/// For so long after the disk has failed, a file that seems to be damaged is read again, in milliseconds.
const ILLNESS: u64 = 60_000;

/// A file that was opened, and what was read of it.
struct FileFound {
    generation: Generation,
    about: FileAbout,
    routes: Vec<(u16, String)>,
    rows: Vec<DeliveryRow>,
    /// Until when something in it is to be remembered.
    seen_until: u64,
}

pub(super) fn parse_name(name: &str) -> Option<(bool, u32)> {
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
        let keys = terms.keys.current();
        let mut this = Self {
            disk,
            terms,
            keys,
            files: BTreeMap::new(),
            index: HashMap::new(),
            untaken: BTreeSet::new(),
            gone: Vec::new(),
            later: Vec::new(),
            later_since: None,
            stale: Vec::new(),
            unmarked: Vec::new(),
            routes: Vec::new(),
            held: Vec::new(),
            held_from: 0,
            next_id: unix(now).saturating_mul(IDS_PER_MILLISECOND),
            next_file: 1,
            damaged_files: names.iter().filter(|name| name.contains(SET_ASIDE)).count() as u64,
            failing_since: None,
            failed_at: None,
            reopen_at: 0,
            expire_at: 0,
            rekey_at: 0,
            ballast: names.iter().any(|name| name == RESERVE),
            disk_low: false,
            looked: 0,
            tried: None,
            removals: Vec::new(),
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

    /// Opens a file that is closed, and takes in what it holds. Gives whether it is open. Where the disk cannot be
    /// written, the file is opened to be read alone, and tried again later.
    pub(super) fn reopen(&mut self, number: u32, now: Now) -> bool {
        let Some(file) = self.files.get_mut(&number) else { return false };
        let dead = file.dead;
        if !file.frozen {
            // Two of them on one file would not know of each other.
            file.open = None;
        }
        let name = file_name(dead, number);
        let mut read = self.read_file(&name, false, now);
        if matches!(read, Err(FileTrouble::Damaged(_))) {
            // What one reading says is not enough to set deliveries aside.
            read = self.read_file(&name, false, now);
        }
        match read {
            Ok(file) => {
                self.opened(number, file, false);
                true
            }
            Err(error) => {
                let closed = self.files.get(&number).is_some_and(|file| file.open.is_none());
                if matches!(error, FileTrouble::Io(_))
                    && closed
                    && let Ok(file) = self.read_file(&name, true, now)
                {
                    self.opened(number, file, true);
                }
                self.not_opened(number, &name, &error, now);
                false
            }
        }
    }

    /// Opens a file and reads what is to be known of it.
    fn read_file(&self, name: &str, frozen: bool, now: Now) -> Result<FileFound, FileTrouble> {
        let medium = if frozen {
            self.disk.open_to_read(name).and_then(|medium| Ok(Box::new(Overlay::new(medium)?) as Box<dyn Medium>))
        } else {
            self.disk.open(name)
        };
        let medium = medium.map_err(FileTrouble::Io)?;
        let (generation, about) =
            Generation::open(medium, self.terms.file_terms(), |key| sealer_of(&self.keys, key, (self.terms.salt)()))?;
        let routes = generation.routes()?;
        let mut rows = Vec::new();
        generation.each_row(|id, row| rows.push(row.unwrap_or_else(|| damaged_row(id))))?;
        let mut seen_until = 0;
        generation.each_seen(unix(now), |_, until| seen_until = seen_until.max(until))?;
        Ok(FileFound { generation, about, routes, rows, seen_until })
    }

    fn opened(&mut self, number: u32, found: FileFound, frozen: bool) {
        let FileFound { generation, about, routes, mut rows, seen_until } = found;
        let Some(dead) = self.files.get(&number).map(|file| file.dead) else { return };
        self.next_id = self.next_id.max(about.ids_below);
        if rows.len() as u64 != about.rows {
            let (name, found, expected) = (file_name(dead, number), rows.len(), about.rows);
            self.notes.push(format!("{name} has {found} deliveries and should have {expected}: verify it"));
        }
        if !dead && number >= self.held_from {
            (self.held, self.held_from) = (about.held, number);
        }
        let numbers: HashMap<u16, u16> =
            routes.iter().map(|(at, name)| (*at, self.route_number_for(*at, name))).collect();
        if let Some(file) = self.files.get_mut(&number) {
            file.gauge = Some(Arc::clone(&generation.gauge));
            (file.open, file.frozen, file.suspect) = (Some(generation), frozen, None);
            (file.seen_until, file.ids_below) = (seen_until, about.ids_below);
            // A file whose numbers mean other routes takes no more deliveries.
            file.routes.extend(numbers.keys());
            file.numbers = numbers.iter().filter(|(own, ours)| own != ours).map(|(own, ours)| (*own, *ours)).collect();
            file.sealed |= !file.numbers.is_empty();
        }
        rows.iter_mut().for_each(|row| row.route = numbers.get(&row.route).copied().unwrap_or(u16::MAX));
        self.take_in(number, &rows);
        self.look_at_key(number);
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
            FileTrouble::Io(_) | FileTrouble::Locked(_) => {
                self.failed(&format!("{name} cannot be opened: {error}"), now)
            }
            FileTrouble::Damaged(_) => {
                if !self.is_damaged_for_good(number, now) {
                    return self.failed(&format!("{name} seems to be damaged, and is read again: {error}"), now);
                }
                self.put_aside(number, name, error, now);
            }
        }
    }

    /// Gives a file another name, and forgets what is in it.
    pub(super) fn put_aside(&mut self, number: u32, name: &str, error: &FileTrouble, now: Now) {
        let aside = format!("{name}{SET_ASIDE}{}", unix(now));
        if self.disk.rename(name, &aside).is_err() {
            return self.failed(&format!("{name}: {error}, and it cannot be renamed"), now);
        }
        self.damaged_files += 1;
        self.notes.push(format!("{name}: {error}; it is {aside} now: `countersign inbox salvage` reads it"));
        let lost: Vec<DeliveryId> =
            self.index.iter().filter(|(_, place)| place.file == number).map(|(id, _)| *id).collect();
        lost.into_iter().for_each(|id| self.lose(id));
        self.files.remove(&number);
    }

    /// Whether a file that cannot be read as what it was is set aside. A disk that fails may say so of a healthy file:
    /// after a failure files are read again for a while.
    fn is_damaged_for_good(&mut self, number: u32, now: Now) -> bool {
        let mono = monotonic(now);
        let ill = self.failed_at.is_some_and(|at| mono < at + ILLNESS);
        let Some(file) = self.files.get_mut(&number) else { return true };
        let since = *file.suspect.get_or_insert(mono);
        !ill || mono >= since + PATIENCE
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
        gone.into_iter().for_each(|id| self.lose(id));
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
            let Some(file) = self.files.get_mut(&number) else { continue };
            Self::note(&mut self.index, file, number, row, stored(row));
            if row.state == DeliveryState::Damaged {
                continue;
            }
            if file.lock().is_some() {
                file.withheld.push(row.id);
            } else {
                self.untaken.insert(row.id);
            }
        }
    }
}
