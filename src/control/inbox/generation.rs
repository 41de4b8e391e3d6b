//! One file of the inbox: a database with the deliveries of some time, which is removed when none of them is left.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::inbox::delivery::{DeliveryId, IDS_BELOW};
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::{ChunkPlace, RecordParts, Sealer, open_chunk, write_chunks};
use crate::inbox::row::{DeliveryRow, SeenKey};
use crate::inbox::store::StoredRecord;

use super::backend::{FileGauge, GaugedFile};
use super::disk::Medium;
use super::file_trouble::FileTrouble;
use super::keys::{FileKey, KeyTrouble};

/// All tables have the same types, so that the code of the library for them is in the program once. Numbers in keys have
/// their most significant byte first: so they are in their order.
type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

const ABOUT: Rows = Rows::new("about");
/// Pieces of records: id and number of the piece.
const RECORD: Rows = Rows::new("record");
/// Rows of deliveries by id.
const STATE: Rows = Rows::new("state");
/// Names of routes by number.
const ROUTES: Rows = Rows::new("routes");
/// Until when (milliseconds since 1970) and what is remembered.
const SEEN: Rows = Rows::new("seen");

fn record_key(id: DeliveryId, chunk: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&id.0.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

fn seen_key(until: u64, seen: &SeenKey) -> [u8; 8 + size_of::<SeenKey>()] {
    let mut key = [0; 8 + size_of::<SeenKey>()];
    key[..8].copy_from_slice(&until.to_be_bytes());
    key[8..].copy_from_slice(seen);
    key
}

/// The number that a key begins with, and the rest.
fn split_number(key: &[u8]) -> Option<(u64, &[u8])> {
    key.split_first_chunk().map(|(number, rest)| (u64::from_be_bytes(*number), rest))
}

/// The version of the format of a file.
const FORMAT: u64 = 2;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAbout {
    /// Ids below this may have been used.
    pub ids_below: u64,
    /// The key that it is encrypted with.
    pub key: Option<FileKey>,
    /// Routes that are held.
    pub held: Vec<String>,
    /// How many rows there are.
    pub rows: u64,
}

/// A file that is open.
#[derive(Debug)]
pub struct Generation {
    database: Database,
    /// What the file is known to be from outside.
    pub gauge: Arc<FileGauge>,
    key: Option<FileKey>,
    sealer: Result<Sealer, KeyTrouble>,
    scratch: Vec<u8>,
    rows: u64,
}

/// How files are opened.
#[derive(Clone, Copy, Debug)]
pub struct FileTerms {
    /// A file does not grow beyond, in bytes.
    pub limit: u64,
    /// Whether commits reach the disk.
    pub durable: bool,
}

fn database(medium: Box<dyn Medium>, terms: FileTerms) -> Result<(Database, Arc<FileGauge>), FileTrouble> {
    let (file, gauge) = GaugedFile::new(medium, terms.limit, terms.durable).map_err(FileTrouble::Io)?;
    Ok((Database::builder().set_cache_size(4 << 20).create_with_backend(file)?, gauge))
}

impl Generation {
    /// Makes a file.
    ///
    /// # Errors
    /// Of the disk.
    pub fn create(
        medium: Box<dyn Medium>,
        terms: FileTerms,
        about: &FileAbout,
        sealer: Sealer,
    ) -> Result<Self, FileTrouble> {
        let (database, gauge) = database(medium, terms)?;
        let (key, sealer) = (about.key.clone(), Ok(sealer));
        let mut this = Self { database, gauge, key, sealer, scratch: Vec::new(), rows: 0 };
        this.write(|writing| {
            writing.about.insert(&b"format"[..], &FORMAT.to_le_bytes()[..])?;
            let (id, check) = about.key.as_ref().map(|key| (key.id.as_bytes(), &key.check[..])).unwrap_or_default();
            writing.about.insert(&b"key"[..], id)?;
            writing.about.insert(&b"key_check"[..], check)?;
            writing.ids_below(about.ids_below)?;
            writing.held(&about.held)
        })?;
        Ok(this)
    }

    /// Opens a file. `sealer` gives what opens its chunks; without that the file is open all the same, and
    /// [`Self::lock`] says why its records cannot be read.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn open(
        medium: Box<dyn Medium>,
        terms: FileTerms,
        sealer: impl FnOnce(Option<&FileKey>) -> Result<Sealer, KeyTrouble>,
    ) -> Result<(Self, FileAbout), FileTrouble> {
        // The database would make a new file of an empty one.
        if medium.length().map_err(FileTrouble::Io)? == 0 {
            return Err(FileTrouble::Damaged("it is empty".to_owned()));
        }
        let (database, gauge) = database(medium, terms)?;
        let about = Self::read_about(&database)?;
        let sealer = sealer(about.key.as_ref());
        let (rows, key) = (about.rows, about.key.clone());
        Ok((Self { database, gauge, key, sealer, scratch: Vec::new(), rows }, about))
    }

    /// Why its records cannot be read; nothing where they can.
    #[must_use]
    pub fn lock(&self) -> Option<&KeyTrouble> {
        self.sealer.as_ref().err()
    }

    /// The key that it is encrypted with.
    #[must_use]
    pub const fn key(&self) -> Option<&FileKey> {
        self.key.as_ref()
    }

    /// Its records are sealed and opened with this from now on.
    pub fn seal_with(&mut self, sealer: Result<Sealer, KeyTrouble>) {
        self.sealer = sealer;
    }

    fn read_about(database: &Database) -> Result<FileAbout, FileTrouble> {
        let damaged = |what: &str| FileTrouble::Damaged(format!("{what} is missing"));
        let reading = database.begin_read()?;
        let about = reading.open_table(ABOUT)?;
        let bytes = |name: &str| -> Result<Vec<u8>, FileTrouble> {
            Ok(about.get(name.as_bytes())?.ok_or_else(|| damaged(name))?.value().to_vec())
        };
        let number = |name: &str| -> Result<u64, FileTrouble> {
            Ok(u64::from_le_bytes(bytes(name)?.try_into().map_err(|_| damaged(name))?))
        };
        let text =
            |name: &str| -> Result<String, FileTrouble> { String::from_utf8(bytes(name)?).map_err(|_| damaged(name)) };
        if number("format")? != FORMAT {
            return Err(FileTrouble::Damaged("its format is not known".to_owned()));
        }
        let key = match Some(text("key")?).filter(|id| !id.is_empty()) {
            Some(id) => {
                let check = bytes("key_check")?.try_into().map_err(|_| damaged("key_check"))?;
                Some(FileKey { id, check })
            }
            None => None,
        };
        let ids_below = number("ids_below")?;
        if ids_below > IDS_BELOW {
            return Err(FileTrouble::Damaged("its ids are none".to_owned()));
        }
        Ok(FileAbout {
            ids_below,
            key,
            held: text("held")?.lines().map(str::to_owned).collect(),
            rows: number("rows")?,
        })
    }

    /// How many rows there should be.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Makes changes, all of them or none. Two-phase commit, so that a damaged page cannot take back what was committed;
    /// quick repair, so that opening after a crash reads no more than it has to.
    ///
    /// # Errors
    /// [`FileTrouble`]. The file must then be opened anew, whatever the error.
    pub fn write<T>(
        &mut self,
        change: impl FnOnce(&mut FileWriting<'_>) -> Result<T, FileTrouble>,
    ) -> Result<T, FileTrouble> {
        self.gauge.mark();
        let mut transaction: WriteTransaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        let (result, rows) = {
            let mut writing = FileWriting {
                about: transaction.open_table(ABOUT)?,
                record: transaction.open_table(RECORD)?,
                state: transaction.open_table(STATE)?,
                routes: transaction.open_table(ROUTES)?,
                seen: transaction.open_table(SEEN)?,
                sealer: self.sealer.as_ref(),
                scratch: &mut self.scratch,
                rows: self.rows,
            };
            let result = change(&mut writing)?;
            writing.about.insert(&b"rows"[..], &writing.rows.to_le_bytes()[..])?;
            (result, writing.rows)
        };
        transaction.commit()?;
        self.rows = rows;
        Ok(result)
    }

    /// Reads the content of a record, as it was written: nothing when a chunk is missing or changed.
    ///
    /// # Errors
    /// Of the disk.
    pub fn read(&self, id: DeliveryId, chunks: u16, into: &mut StoredRecord) -> Result<Option<()>, FileTrouble> {
        into.bytes.clear();
        let sealer = self.sealer.as_ref().map_err(|why| FileTrouble::Locked(why.clone()))?;
        let reading = self.database.begin_read()?;
        let records = reading.open_table(RECORD)?;
        let mut copy = Vec::new();
        for chunk in 0..chunks {
            let Some(bytes) = records.get(&record_key(id, chunk)[..])? else { return Ok(None) };
            copy.clear();
            copy.extend_from_slice(bytes.value());
            let place = ChunkPlace { id, chunk, of: chunks };
            if open_chunk(&mut copy, place, sealer, &mut into.bytes).is_none() {
                return Ok(None);
            }
        }
        let parts = RecordParts::of(&into.bytes);
        let whole = parts.is_some();
        into.parts = parts.unwrap_or_default();
        Ok(whole.then_some(()))
    }

    /// Reads a row: nothing when it is missing or changed.
    ///
    /// # Errors
    /// Of the disk.
    pub fn row(&self, id: DeliveryId) -> Result<Option<DeliveryRow>, FileTrouble> {
        let reading = self.database.begin_read()?;
        let found =
            reading.open_table(STATE)?.get(&id.0.to_be_bytes()[..])?.and_then(|row| DeliveryRow::decode(row.value()));
        Ok(found.filter(|row| row.id == id))
    }

    /// Calls `each` with every row; with the id alone where the row is not what was written.
    ///
    /// # Errors
    /// Of the disk.
    pub fn each_row(&self, mut each: impl FnMut(DeliveryId, Option<DeliveryRow>)) -> Result<(), FileTrouble> {
        let reading = self.database.begin_read()?;
        for entry in reading.open_table(STATE)?.iter()? {
            let (id, row) = entry?;
            let Some((id, _)) = split_number(id.value()) else { continue };
            let id = DeliveryId(id);
            each(id, DeliveryRow::decode(row.value()).filter(|row| row.id == id));
        }
        Ok(())
    }

    /// The names of the routes, by number.
    ///
    /// # Errors
    /// Of the disk.
    pub fn routes(&self) -> Result<Vec<(u16, String)>, FileTrouble> {
        let reading = self.database.begin_read()?;
        let mut routes = Vec::new();
        for entry in reading.open_table(ROUTES)?.iter()? {
            let (number, name) = entry?;
            let number = number.value().try_into().map(u16::from_be_bytes);
            let name = str::from_utf8(name.value());
            if let (Ok(number), Ok(name)) = (number, name) {
                routes.push((number, name.to_owned()));
            }
        }
        Ok(routes)
    }

    /// Calls `each` with what was seen and when it is to be forgotten, from `from` (milliseconds since 1970) on.
    ///
    /// # Errors
    /// Of the disk.
    pub fn each_seen(&self, from: u64, mut each: impl FnMut(SeenKey, u64)) -> Result<(), FileTrouble> {
        let reading = self.database.begin_read()?;
        for entry in reading.open_table(SEEN)?.range(&from.to_be_bytes()[..]..)? {
            let (key, _) = entry?;
            let Some((until, key)) = split_number(key.value()) else { continue };
            key.try_into().into_iter().for_each(|key| each(key, until));
        }
        Ok(())
    }
}

type RowsWriting<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// Changes that become durable together.
pub struct FileWriting<'t> {
    about: RowsWriting<'t>,
    record: RowsWriting<'t>,
    state: RowsWriting<'t>,
    routes: RowsWriting<'t>,
    seen: RowsWriting<'t>,
    sealer: Result<&'t Sealer, &'t KeyTrouble>,
    scratch: &'t mut Vec<u8>,
    rows: u64,
}

impl FileWriting<'_> {
    /// Adds a delivery.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn add(&mut self, fresh: &FreshDelivery<'_>, row: &DeliveryRow) -> Result<(), FileTrouble> {
        let record = &mut self.record;
        let sealer = self.sealer.map_err(|why| FileTrouble::Locked(why.clone()))?;
        write_chunks(fresh, row.id, sealer, self.scratch, |place, chunk| {
            record.insert(&record_key(place.id, place.chunk)[..], chunk).map(drop)
        })?;
        self.put_row(row)?;
        if fresh.seen_until > 0 {
            self.add_seen(&fresh.seen_key, fresh.seen_until)?;
            fresh.seen_also.iter().try_for_each(|key| self.add_seen(key, fresh.seen_until))?;
        }
        Ok(())
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn put_row(&mut self, row: &DeliveryRow) -> Result<(), FileTrouble> {
        let new = self.state.insert(&row.id.0.to_be_bytes()[..], &row.encode()[..])?.is_none();
        self.rows += u64::from(new);
        Ok(())
    }

    /// Changes a row. Gives it as it is then; nothing where there is none that can be read.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn change_row(
        &mut self,
        id: DeliveryId,
        change: impl FnOnce(&mut DeliveryRow),
    ) -> Result<Option<DeliveryRow>, FileTrouble> {
        let found = self.state.get(&id.0.to_be_bytes()[..])?.and_then(|row| DeliveryRow::decode(row.value()));
        let Some(mut row) = found.filter(|row| row.id == id) else { return Ok(None) };
        change(&mut row);
        self.put_row(&row)?;
        Ok(Some(row))
    }

    /// Removes a delivery.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn remove(&mut self, id: DeliveryId, chunks: u16) -> Result<(), FileTrouble> {
        for chunk in 0..chunks {
            self.record.remove(&record_key(id, chunk)[..])?;
        }
        let known = self.state.remove(&id.0.to_be_bytes()[..])?.is_some();
        self.rows = self.rows.saturating_sub(u64::from(known));
        Ok(())
    }

    /// Names a route.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn name_route(&mut self, number: u16, name: &str) -> Result<(), FileTrouble> {
        self.routes.insert(&number.to_be_bytes()[..], name.as_bytes())?;
        Ok(())
    }

    /// Notes that ids below this may have been used.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn ids_below(&mut self, bound: u64) -> Result<(), FileTrouble> {
        self.about.insert(&b"ids_below"[..], &bound.to_le_bytes()[..])?;
        Ok(())
    }

    /// Notes which routes are held.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn held(&mut self, routes: &[String]) -> Result<(), FileTrouble> {
        self.about.insert(&b"held"[..], routes.join("\n").as_bytes())?;
        Ok(())
    }

    /// Notes under which key copies are recognised, and until when.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn add_seen(&mut self, key: &SeenKey, until: u64) -> Result<(), FileTrouble> {
        self.seen.insert(&seen_key(until, key)[..], &[][..])?;
        Ok(())
    }

    /// Forgets what was to be remembered until then, at most so much of it. Gives how much.
    ///
    /// # Errors
    /// [`FileTrouble`].
    pub fn forget_seen(&mut self, now: u64, room: usize) -> Result<usize, FileTrouble> {
        let mut expired = Vec::new();
        for entry in self.seen.range(..&now.to_be_bytes()[..])?.take(room) {
            expired.push(entry?.0.value().to_vec());
        }
        for key in &expired {
            self.seen.remove(&key[..])?;
        }
        Ok(expired.len())
    }
}
