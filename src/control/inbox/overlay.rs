//! A file that is read where it is, and of which every change stays in memory.
//!
//! The database writes when it opens a file. Through this it opens one on a disk that cannot be written at the moment, so
//! that its deliveries can still be read; and `countersign inbox verify` examines a file without changing it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, Medium};

const PAGE: u64 = 4_096;

/// The file, and what was changed of it.
#[derive(Debug)]
pub struct Overlay {
    below: Box<dyn Medium>,
    changed: Mutex<OverlayPages>,
}

#[derive(Debug)]
struct OverlayPages {
    pages: BTreeMap<u64, Vec<u8>>,
    length: u64,
    /// The file is read up to here; what was cut off or added behind is zeros.
    kept: u64,
}

impl Overlay {
    /// Over a file.
    ///
    /// # Errors
    /// Of the disk.
    pub fn new(below: Box<dyn Medium>) -> io::Result<Self> {
        let length = below.length()?;
        Ok(Self { below, changed: Mutex::new(OverlayPages { pages: BTreeMap::new(), length, kept: length }) })
    }

    fn pages(&self) -> MutexGuard<'_, OverlayPages> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page as it stands in the file.
    fn original(&self, page: u64, kept: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PAGE as usize];
        let there = kept.saturating_sub(page * PAGE).min(PAGE) as usize;
        if let Some(place) = bytes.get_mut(..there).filter(|place| !place.is_empty()) {
            self.below.read(page * PAGE, place)?;
        }
        Ok(bytes)
    }
}

/// The parts of a range, page by page: number of the page, where in it, where in the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset + done as u64;
        let from = (at % PAGE) as usize;
        let count = (PAGE as usize - from).min(length - done);
        let part = (at / PAGE, from..from + count, done..done + count);
        done += count;
        Some(part)
    })
}

impl Medium for Overlay {
    fn length(&self) -> io::Result<u64> {
        Ok(self.pages().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.pages();
        if offset + out.len() as u64 > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if state.pages.is_empty() && offset + out.len() as u64 <= state.kept {
            return self.below.read(offset, out);
        }
        for (page, within, part) in parts(offset, out.len()) {
            let original;
            let bytes = match state.pages.get(&page) {
                Some(bytes) => bytes,
                None => {
                    original = self.original(page, state.kept)?;
                    &original
                }
            };
            if let (Some(to), Some(from)) = (out.get_mut(part), bytes.get(within)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.pages();
        for (page, within, part) in parts(offset, bytes.len()) {
            let mut changed = match state.pages.remove(&page) {
                Some(bytes) => bytes,
                None => self.original(page, state.kept)?,
            };
            if let (Some(to), Some(from)) = (changed.get_mut(within), bytes.get(part)) {
                to.copy_from_slice(from);
            }
            state.pages.insert(page, changed);
        }
        Ok(())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        let mut state = self.pages();
        state.length = length;
        state.kept = state.kept.min(length);
        state.pages.retain(|page, _| page * PAGE < length);
        // Behind the new end is nothing, also where the file is made longer again.
        if let Some(last) = state.pages.get_mut(&(length / PAGE)) {
            last.iter_mut().skip((length % PAGE) as usize).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory that is looked at: no file of it is changed, and what is changed of its files is not kept.
#[derive(Debug)]
pub struct LookedAt(pub Box<dyn Disk>);

fn unchangeable<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for LookedAt {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        Ok(Box::new(Overlay::new(self.0.open_to_read(name)?)?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        self.0.open_to_read(name)
    }

    fn create(&self, _name: &str) -> io::Result<Box<dyn Medium>> {
        unchangeable()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        unchangeable()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        unchangeable()
    }

    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::inbox::disk::Disk;
    use crate::control::inbox::disk_in_tests::SimulatedDisk;

    #[test]
    fn what_is_written_is_read_and_the_file_stays_as_it_was() {
        let disk = SimulatedDisk::default();
        let file = disk.create("file").unwrap();
        file.resize(10_000).unwrap();
        file.write(4_000, &[7; 200]).unwrap();
        let overlay = Overlay::new(disk.open("file").unwrap()).unwrap();
        let read = |from: u64, length: usize| {
            let mut out = vec![9; length];
            overlay.read(from, &mut out).map(|()| out)
        };
        assert_eq!(read(3_990, 20).unwrap(), [[0; 10], [7; 10]].concat());
        overlay.write(4_090, &[8; 20]).unwrap();
        assert_eq!(read(4_089, 22).unwrap(), [&[7][..], &[8; 20], &[7]].concat());
        overlay.resize(4_100).unwrap();
        assert!(read(4_099, 2).is_err());
        overlay.resize(20_000).unwrap();
        assert_eq!(read(4_098, 4).unwrap(), [8, 8, 0, 0]);
        assert_eq!(read(9_000, 3_000).unwrap(), vec![0; 3_000]);
        let mut out = [0; 2];
        file.read(4_099, &mut out).unwrap();
        assert_eq!((out, file.length().unwrap()), ([7, 7], 10_000));
    }
}
