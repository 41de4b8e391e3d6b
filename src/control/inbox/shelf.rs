//! The deliveries of this machine, in a row of files.
//!
//! Fresh deliveries go to the youngest file; a delivery lives in one file with all of its state; no file refers to another
//! one. A file without deliveries is removed, so that room comes back. Dead letters move to files of their own, so that
//! they keep no other file alive. What moves is written to its new file first and removed from the old one then: after a
//! crash between the two the newer one counts.
//!
//! A file that fails is closed, and opened again until that succeeds. Refused is only what cannot
//! count after a crash ([`super::backend::FileGauge::may_count`]), or was removed again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::chunks_of;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Settlement, StoreRefusal, StoreTrouble, StoredRecord};
use crate::now::Now;
use crate::telemetry::audit::inbox_change::InboxAction;

use super::backend::FileGauge;
use super::disk::Disk;
use super::file_trouble::FileTrouble;
use super::generation::{FileAbout, FileTerms, Generation};
use super::keys::{InboxKey, KeyRing, KeyTrouble, SaltSource, sealer_for_new};

/// Ids that a file reserves at a time.
pub(super) const ID_BLOCK: u64 = 65_536;

/// A file is set aside when writing has found so often that it is damaged, and for so long.
const FLAWS: u32 = 3;

/// A disk that fails may give other bytes than were written: for so long a file is read again before it is set aside, in
/// milliseconds.
pub(super) const PATIENCE: u64 = 10_000;

/// A commit has at most so many bytes of deliveries.
const BATCH: usize = 16 << 20;

/// How the name of a file ends that is being made.
pub(super) const UNFINISHED: &str = ".new";

/// What is in the name of a file that was set aside.
pub(super) const SET_ASIDE: &str = ".damaged-";

/// Bounds and keys.
pub struct ShelfTerms {
    /// All files together, in bytes.
    pub size: u64,
    /// Files of dead letters together, in bytes.
    pub dead_size: u64,
    /// Deliveries, dead ones included.
    pub deliveries: usize,
    /// Dead letters are removed when they are so old, in milliseconds; 0 for never.
    pub retention: u64,
    /// Whether the oldest dead letters are dropped when there is no room for more.
    pub drops_oldest: bool,
    /// Whether commits reach the disk.
    pub durable: bool,
    /// The keys of the encryption at rest.
    pub keys: KeyRing,
    /// Salt for what is encrypted.
    pub salt: SaltSource,
}

impl fmt::Debug for ShelfTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShelfTerms").field("size", &self.size).finish_non_exhaustive()
    }
}

impl ShelfTerms {
    /// No file grows beyond, in bytes.
    #[must_use]
    pub const fn file_limit(&self) -> u64 {
        let part = self.size / 16;
        if part < 4 << 20 {
            4 << 20
        } else if part > 256 << 20 {
            256 << 20
        } else {
            part
        }
    }

    /// A file takes no more than so many bytes of deliveries: the database needs the rest for what it replaces.
    pub(super) const fn file_content(&self) -> u64 {
        self.file_limit() / 2
    }

    /// Bytes of a commit: a part of what a file takes, so that what fits alone is not refused for what came with it.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.file_content() / 2).unwrap_or(BATCH).min(BATCH)
    }

    pub(super) const fn file_terms(&self) -> FileTerms {
        FileTerms { limit: self.file_limit(), durable: self.durable }
    }
}

/// A file, open or not.
#[derive(Debug)]
pub(super) struct ShelfFile {
    pub(super) dead: bool,
    /// Nothing while it is closed because it failed.
    pub(super) open: Option<Generation>,
    /// The disk cannot be written: it is open to be read alone, and what is written would not be kept.
    pub(super) frozen: bool,
    /// Since when it seems to be damaged, in monotonic milliseconds.
    pub(super) suspect: Option<u64>,
    /// How often writing found that it is damaged, and when it first did: monotonic milliseconds.
    pub(super) flaws: u32,
    pub(super) flawed: Option<u64>,
    pub(super) gauge: Option<Arc<FileGauge>>,
    /// Deliveries in it.
    pub(super) count: u64,
    /// How many of them are in each state, by its number.
    pub(super) states: [u64; DeliveryState::ALL.len()],
    /// Their bytes.
    pub(super) bytes: u64,
    /// Until when something in it is to be remembered, in milliseconds since 1970.
    pub(super) seen_until: u64,
    /// It takes no more deliveries.
    pub(super) sealed: bool,
    /// Ids below may be used without another word.
    pub(super) ids_below: u64,
    /// Routes that it names.
    pub(super) routes: BTreeSet<u16>,
    /// Numbers of routes in its rows that mean another number here.
    pub(super) numbers: HashMap<u16, u16>,
    /// Deliveries that are not given to be attempted while their key is missing.
    pub(super) withheld: Vec<DeliveryId>,
    /// What the operator was told of its key.
    pub(super) told_lock: Option<KeyTrouble>,
}

impl ShelfFile {
    pub(super) fn new(dead: bool) -> Self {
        Self {
            dead,
            open: None,
            frozen: false,
            suspect: None,
            flaws: 0,
            flawed: None,
            gauge: None,
            count: 0,
            states: [0; DeliveryState::ALL.len()],
            bytes: 0,
            seen_until: 0,
            sealed: false,
            ids_below: 0,
            routes: BTreeSet::new(),
            numbers: HashMap::new(),
            withheld: Vec::new(),
            told_lock: None,
        }
    }

    /// So many deliveries more are in this state.
    pub(super) fn counted(&mut self, state: DeliveryState, more: i64) {
        let count = self.states.get_mut(usize::from(state.number()));
        count.into_iter().for_each(|count| *count = count.saturating_add_signed(more));
    }

    pub(super) fn length(&self) -> u64 {
        self.gauge.as_ref().map_or(0, |gauge| gauge.length())
    }
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShelfPlace {
    pub(super) file: u32,
    pub(super) size: u32,
    pub(super) chunks: u16,
    pub(super) redrives: u8,
    pub(super) state: DeliveryState,
}

/// Deliveries in files.
#[derive(Debug)]
pub struct Shelf {
    pub(super) disk: Box<dyn Disk>,
    pub(super) terms: ShelfTerms,
    /// The keys that files were last looked at with.
    pub(super) keys: Arc<Vec<InboxKey>>,
    pub(super) files: BTreeMap<u32, ShelfFile>,
    pub(super) index: HashMap<DeliveryId, ShelfPlace>,
    pub(super) untaken: BTreeSet<DeliveryId>,
    /// Deliveries that are not to be attempted any more, which was not told yet.
    pub(super) gone: Vec<DeliveryId>,
    /// Settlements that are not written yet.
    pub(super) later: Vec<Settlement>,
    pub(super) later_since: Option<u64>,
    /// What was moved elsewhere, and is to be removed where it was.
    pub(super) stale: Vec<(u32, DeliveryId, u16)>,
    /// What was found to be damaged, and is to be marked in its file.
    pub(super) unmarked: Vec<(u32, DeliveryId)>,
    pub(super) routes: Vec<String>,
    pub(super) held: Vec<String>,
    /// The file that says so.
    pub(super) held_from: u32,
    pub(super) next_id: u64,
    pub(super) next_file: u32,
    pub(super) damaged_files: u64,
    pub(super) failing_since: Option<u64>,
    /// When the disk last failed, and when files that are closed are opened again: monotonic milliseconds.
    pub(super) failed_at: Option<u64>,
    pub(super) reopen_at: u64,
    /// When dead letters are looked at for their age.
    pub(super) expire_at: u64,
    /// When deliveries are encrypted anew next: monotonic milliseconds.
    pub(super) rekey_at: u64,
    /// Room is set aside on the disk.
    pub(super) ballast: bool,
    /// The disk has less room than the reserve.
    pub(super) disk_low: bool,
    /// When the disk was last looked at, and when a file was last tried to be made or opened: monotonic milliseconds.
    pub(super) looked: u64,
    pub(super) tried: Option<u64>,
    /// Dead letters that were removed without an operator, since this was last asked.
    pub(super) removals: Vec<(InboxAction, Vec<DeliveryId>)>,
    /// Sentences for the operator that were not read yet.
    pub(super) notes: Vec<String>,
}

pub(super) fn unix(now: Now) -> u64 {
    u64::try_from(now.unix_millis()).unwrap_or(0)
}

pub(super) fn monotonic(now: Now) -> u64 {
    u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn trouble(error: &FileTrouble) -> StoreTrouble {
    StoreTrouble(error.to_string())
}

impl Shelf {
    /// What has happened to files since this was last asked.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Dead letters that were removed by the configuration, and why, since this was last asked.
    pub fn take_removals(&mut self) -> Vec<(InboxAction, Vec<DeliveryId>)> {
        std::mem::take(&mut self.removals)
    }

    /// Calls `each` with what was seen and until when it is to be remembered.
    pub fn each_seen(&self, now: Now, mut each: impl FnMut([u8; 32], u64)) {
        for file in self.files.values().filter_map(|file| file.open.as_ref()) {
            let _ = file.each_seen(unix(now), &mut each);
        }
    }

    pub(super) fn route_number(&mut self, name: &str) -> u16 {
        let at = self.routes.iter().position(|known| known == name).unwrap_or_else(|| {
            self.routes.push(name.to_owned());
            self.routes.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    pub(super) fn bytes(&self, only_dead: bool) -> u64 {
        self.files.values().filter(|file| file.dead || !only_dead).map(ShelfFile::length).sum()
    }

    /// The file that takes fresh deliveries, or dead ones, of so many bytes; a new one where there is none.
    pub(super) fn accepting(&mut self, dead: bool, size: u64, now: Now) -> Result<u32, StoreRefusal> {
        let content = self.terms.file_content();
        if size > content {
            return Err(StoreRefusal::Full);
        }
        let fits =
            |file: &ShelfFile| file.dead == dead && !file.sealed && file.is_writable() && file.bytes + size <= content;
        if let Some((number, _)) = self.files.iter().next_back().filter(|(_, file)| fits(file)) {
            return Ok(*number);
        }
        if let Some((number, _)) = self.files.iter().rev().find(|(_, file)| fits(file)) {
            return Ok(*number);
        }
        self.create(dead, now)
    }

    fn create(&mut self, dead: bool, now: Now) -> Result<u32, StoreRefusal> {
        let (limit, size) = (self.terms.file_limit(), self.terms.size);
        // What settles and dies always has room.
        let reserve = if dead { 0 } else { self.reserve() };
        let too_large = self.bytes(false) + limit + reserve > size;
        if too_large || (dead && self.bytes(true) + limit > self.terms.dead_size.max(limit)) {
            return Err(StoreRefusal::Full);
        }
        let mono = monotonic(now);
        if self.tried.is_some_and(|tried| mono < tried + 100) {
            return Err(if self.disk_low { StoreRefusal::DiskFull } else { StoreRefusal::Failed });
        }
        let number = self.next_file;
        let name = file_name(dead, number);
        let (sealer, key) = sealer_for_new(&self.keys, &self.terms.salt).map_err(|why| {
            self.failed(&format!("{name} cannot be made: {why}"), now);
            StoreRefusal::Failed
        })?;
        let ids_below = self.next_id + ID_BLOCK;
        let about = FileAbout { ids_below, key, held: self.held.clone(), rows: 0 };
        // It gets its name when it is whole: after a crash in between there is nothing to take for damage.
        let unfinished = format!("{name}{UNFINISHED}");
        let made = self.disk.create(&unfinished).map_err(FileTrouble::Io);
        let made = made.and_then(|medium| Generation::create(medium, self.terms.file_terms(), &about, sealer));
        let named = made.and_then(|made| self.disk.rename(&unfinished, &name).map(|()| made).map_err(FileTrouble::Io));
        match named {
            Ok(generation) => {
                self.next_file += 1;
                self.tried = None;
                let mut file = ShelfFile::new(dead);
                file.gauge = Some(Arc::clone(&generation.gauge));
                (file.open, file.ids_below) = (Some(generation), ids_below);
                self.files.insert(number, file);
                if !dead {
                    self.held_from = number;
                }
                self.set_room_aside();
                Ok(number)
            }
            Err(error) => {
                let _ = self.disk.remove(&unfinished);
                self.tried = Some(mono);
                self.failed(&format!("{name} cannot be made: {error}"), now);
                self.disk_low |= error.is_full();
                Err(if error.is_full() { StoreRefusal::DiskFull } else { StoreRefusal::Failed })
            }
        }
    }

    pub(super) fn failed(&mut self, note: &str, now: Now) {
        self.failed_at = Some(monotonic(now));
        if self.failing_since.is_none() {
            self.failing_since = Some(unix(now));
            self.notes.push(note.to_owned());
        }
    }

    /// Closes a file that has failed. One that has only met its bound is opened again at once: its deliveries can be read.
    pub(super) fn close(&mut self, number: u32, error: &FileTrouble, now: Now) {
        let Some(file) = self.files.get_mut(&number) else { return };
        (file.open, file.frozen) = (None, false);
        file.sealed |= !error.is_full() || error.is_bound();
        let mono = monotonic(now);
        if matches!(error, FileTrouble::Damaged(_)) {
            file.flaws += 1;
            file.flawed.get_or_insert(mono);
        }
        let flawed = file.flaws >= FLAWS && file.flawed.is_some_and(|at| mono >= at + PATIENCE);
        if error.is_bound() {
            self.reopen(number, now);
        } else if flawed {
            // It can be opened, and what is changed in it cannot be written: a page of it lies.
            let name = file_name(file.dead, number);
            self.put_aside(number, &name, error, now);
        } else {
            let note = format!("{} failed: {error}", file_name(file.dead, number));
            self.failed(&note, now);
        }
    }

    /// Notes where a delivery is.
    pub(super) fn note(
        index: &mut HashMap<DeliveryId, ShelfPlace>,
        file: &mut ShelfFile,
        number: u32,
        row: &DeliveryRow,
        size: u64,
    ) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let place = ShelfPlace { file: number, size, chunks: row.chunks, redrives: row.redrives, state: row.state };
        file.count += 1;
        file.counted(row.state, 1);
        file.bytes += u64::from(size);
        index.insert(row.id, place);
    }

    /// A delivery is not there any more, and no settlement says so.
    pub(super) fn lose(&mut self, id: DeliveryId) {
        self.unnote(id);
        self.gone.push(id);
    }

    /// Forgets where a delivery is: it has ended, or is noted elsewhere. [`Self::lose`] is for all others.
    pub(super) fn unnote(&mut self, id: DeliveryId) {
        self.untaken.remove(&id);
        if let Some(place) = self.index.remove(&id)
            && let Some(file) = self.files.get_mut(&place.file)
        {
            file.count = file.count.saturating_sub(1);
            file.counted(place.state, -1);
            file.bytes = file.bytes.saturating_sub(u64::from(place.size));
        }
    }

    pub(super) fn generation(&self, place: ShelfPlace) -> Result<&Generation, StoreTrouble> {
        let file = self.files.get(&place.file).and_then(|file| file.open.as_ref());
        file.ok_or_else(|| StoreTrouble("its file cannot be read at the moment".to_owned()))
    }

    /// The row of a delivery; one that says so where it cannot be read.
    pub(super) fn row(&self, id: DeliveryId, place: ShelfPlace) -> Result<DeliveryRow, StoreTrouble> {
        let row = self.generation(place)?.row(id).map_err(|error| trouble(&error))?;
        let Some(mut row) = row else { return Ok(damaged_row(id)) };
        let numbers = self.files.get(&place.file).map(|file| &file.numbers);
        row.route = numbers.and_then(|numbers| numbers.get(&row.route)).copied().unwrap_or(row.route);
        Ok(row)
    }

    /// Whether a record is that of its row: what a row says of route, order and copies stands in the record, too, behind
    /// its seal. A row has a check sum alone, which anything that can write the file can make.
    pub(super) fn is_own(&self, row: &DeliveryRow, record: &StoredRecord) -> bool {
        let route = self.routes.get(usize::from(row.route)).map_or("", String::as_str);
        record.is_of(row, route)
    }
}

/// The name of a file.
pub(super) fn file_name(dead: bool, number: u32) -> String {
    format!("{}-{number:08}.redb", if dead { "dead" } else { "inbox" })
}

pub(in crate::control) fn fresh_row(fresh: &FreshDelivery<'_>, id: DeliveryId, route: u16, now: u64) -> DeliveryRow {
    DeliveryRow {
        id,
        state: DeliveryState::Waiting,
        reason: DeliveryReason::New,
        redrives: 0,
        route,
        attempts: 0,
        status: 0,
        chunks: chunks_of(fresh).unwrap_or(0),
        head_length: u32::try_from(fresh.head.len()).unwrap_or(u32::MAX),
        body_length: fresh.body.len() as u64,
        accepted: fresh.accepted,
        begun: fresh.accepted,
        due: 0,
        changed: now,
        order_key: fresh.order_key,
        seen_key: fresh.seen_key,
    }
}

/// What is shown of a delivery whose row is not what was written.
pub(super) fn damaged_row(id: DeliveryId) -> DeliveryRow {
    let nothing = FreshDelivery {
        route: "",
        head: &[],
        body: &[],
        accepted: 0,
        order_key: [0; 16],
        seen_key: [0; 32],
        seen_also: &[],
        seen_until: 0,
    };
    let row = fresh_row(&nothing, id, u16::MAX, 0);
    DeliveryRow { state: DeliveryState::Damaged, reason: DeliveryReason::DamagedRecord, chunks: 0, ..row }
}
