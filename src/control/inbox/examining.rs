//! Reads all that a directory holds, and changes nothing.

use std::collections::HashMap;
use std::io;

use crate::inbox::delivery::DeliveryId;
use crate::inbox::record::ChunkSalt;
use crate::inbox::store::StoredRecord;

use super::disk::Disk;
use super::file_trouble::FileTrouble;
use super::generation::{FileTerms, Generation};
use super::keys::{InboxKey, sealer_of};
use super::overlay::Overlay;
use super::shelf::SET_ASIDE;
use super::starting::parse_name;

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileVerdict {
    /// Its name.
    pub name: String,
    /// The id of the key that it is encrypted with.
    pub key: Option<String>,
    /// Deliveries that it names.
    pub deliveries: u64,
    /// Deliveries that it says to have.
    pub expected: u64,
    /// Deliveries that are not what was written.
    pub damaged: Vec<DeliveryId>,
    /// Why it could not be read, or not to its end.
    pub trouble: Option<String>,
    /// It was set aside before: what is in it is not attempted.
    pub set_aside: bool,
}

impl FileVerdict {
    /// Whether all of it is as it was written.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.trouble.is_none() && self.deliveries == self.expected && !self.set_aside
    }
}

/// Examines every file of a directory.
///
/// # Errors
/// The directory cannot be listed.
pub fn verify(disk: &dyn Disk, keys: &[InboxKey]) -> io::Result<Vec<FileVerdict>> {
    let names = disk.list()?;
    let ours = |name: &&String| parse_name(name).is_some() || name.contains(SET_ASIDE);
    Ok(names.iter().filter(ours).map(|name| examine(disk, name, keys)).collect())
}

fn examine(disk: &dyn Disk, name: &str, keys: &[InboxKey]) -> FileVerdict {
    let set_aside = name.contains(SET_ASIDE);
    let mut verdict = FileVerdict { name: name.to_owned(), set_aside, ..FileVerdict::default() };
    if let Err(error) = read(disk, name, keys, &mut verdict) {
        verdict.trouble = Some(error.to_string());
    }
    verdict
}

fn read(disk: &dyn Disk, name: &str, keys: &[InboxKey], verdict: &mut FileVerdict) -> Result<(), FileTrouble> {
    let medium = disk.open_to_read(name).and_then(Overlay::new).map_err(FileTrouble::Io)?;
    let terms = FileTerms { limit: u64::MAX, durable: false };
    // Nothing is encrypted: the salt does not matter.
    let opened = Generation::open(Box::new(medium), terms, |key| sealer_of(keys, key, Some(ChunkSalt::default())));
    let (generation, about) = opened?;
    (verdict.expected, verdict.key) = (about.rows, about.key.map(|key| key.id));
    let mut rows = Vec::new();
    generation.each_row(|id, row| rows.push((id, row)))?;
    verdict.deliveries = rows.len() as u64;
    if let Some(lock) = generation.lock() {
        return Err(FileTrouble::Locked(lock.clone()));
    }
    let routes: HashMap<u16, String> = generation.routes()?.into_iter().collect();
    let mut record = StoredRecord::default();
    for (id, row) in rows {
        let whole = match row {
            Some(row) => {
                let route = routes.get(&row.route).map_or("", String::as_str);
                generation.read(id, row.chunks, &mut record)?.is_some() && record.is_of(&row, route)
            }
            None => false,
        };
        if !whole {
            verdict.damaged.push(id);
        }
    }
    Ok(())
}
