//! A disk in memory that loses what was not synced, tears what was being written, and fails when it is told to.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::inbox::backoff::Dice;

use super::ballast::RESERVE;
use super::disk::{Disk, Medium};

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Default)]
struct World {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, File>,
    made: u64,
    /// After so many operations everything fails.
    dies_in: Option<u64>,
    fail_writes: bool,
    fail_syncs: bool,
    /// As after `mount -o remount,ro`, or as a file system that has met an error makes itself.
    read_only: bool,
    /// Reading fails.
    fail_reads: bool,
    capacity: Option<u64>,
    syncs: u64,
}

impl World {
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.dies_in {
            Some(0) => Err(io::Error::other("the process is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn may_change(&self) -> io::Result<()> {
        match (self.read_only, self.fail_writes) {
            (true, _) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            (_, true) => Err(io::Error::other("injected")),
            _ => Ok(()),
        }
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.get_mut(&self.names[name]).unwrap()
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.current.len() as u64).sum()
    }
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<World>>);

impl SimulatedDisk {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// From now on so many operations succeed.
    pub(super) fn die_in(&self, operations: u64) {
        self.with(|world| world.dies_in = Some(operations));
    }

    /// Whether it has died.
    pub(super) fn is_dead(&self) -> bool {
        self.with(|world| world.dies_in == Some(0))
    }

    pub(super) fn fail_writes(&self, fail: bool) {
        self.with(|world| world.fail_writes = fail);
    }

    pub(super) fn fail_syncs(&self, fail: bool) {
        self.with(|world| world.fail_syncs = fail);
    }

    /// The file system cannot be written; what is open for writing fails, too.
    pub(super) fn read_only(&self, read_only: bool) {
        self.with(|world| world.read_only = read_only);
    }

    pub(super) fn fail_reads(&self, fail: bool) {
        self.with(|world| world.fail_reads = fail);
    }

    pub(super) fn capacity(&self, bytes: Option<u64>) {
        self.with(|world| world.capacity = bytes);
    }

    pub(super) fn syncs(&self) -> u64 {
        self.with(|world| world.syncs)
    }

    pub(super) fn used(&self) -> u64 {
        self.with(|world| world.used())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.with(|world| world.names.keys().filter(|name| *name != RESERVE).cloned().collect())
    }

    /// Changes a byte of a file. Gives whether the place is within it.
    pub(super) fn flip(&self, name: &str, at: usize) -> bool {
        self.with(|world| {
            let file = world.file(name);
            file.durable.get_mut(at).into_iter().for_each(|byte| *byte ^= 0x55);
            file.current.get_mut(at).is_some_and(|byte| {
                *byte ^= 0x55;
                true
            })
        })
    }

    /// Where these bytes are in a file.
    pub(super) fn find(&self, name: &str, bytes: &[u8]) -> Option<usize> {
        self.with(|world| memchr::memmem::find(&world.file(name).current, bytes))
    }

    /// The power fails: of what was not synced any part may be there, in sectors.
    pub(super) fn crash(&self, dice: &mut Dice) {
        self.with(|world| {
            for file in world.files.values_mut() {
                let mut bytes = std::mem::take(&mut file.durable);
                for change in file.pending.drain(..) {
                    match change {
                        Change::Resize(length) if dice.throw(1) == 0 => {
                            bytes.resize(usize::try_from(length).unwrap(), 0)
                        }
                        Change::Resize(_) => {}
                        Change::Write(at, written) => {
                            let whole = dice.throw(2);
                            for (sector, part) in written.chunks(SECTOR).enumerate() {
                                let from = usize::try_from(at).unwrap() + sector * SECTOR;
                                if whole == 1 || (whole == 2 && dice.throw(1) == 0) {
                                    let end = (from + part.len()).min(bytes.len());
                                    if from < end {
                                        bytes[from..end].copy_from_slice(&part[..end - from]);
                                    }
                                }
                            }
                        }
                    }
                }
                file.current.clone_from(&bytes);
                file.durable = bytes;
            }
            (world.dies_in, world.fail_writes, world.fail_syncs) = (None, false, false);
        });
    }

    /// The process is killed: what it wrote is there, synced or not.
    pub(super) fn kill(&self) {
        self.with(|world| {
            for file in world.files.values_mut() {
                file.durable.clone_from(&file.current);
                file.pending.clear();
            }
            world.dies_in = None;
        });
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.with(|world| {
            world.operate()?;
            Ok(world.names.keys().cloned().collect())
        })
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        if self.with(|world| world.read_only) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.open_to_read(name)
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        let number = self.with(|world| {
            world.operate()?;
            world.names.get(name).copied().ok_or(io::Error::from(io::ErrorKind::NotFound))
        })?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), number }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        self.with(|world| {
            world.operate()?;
            world.may_change()?;
            world.made += 1;
            world.files.insert(world.made, File::default());
            let before = world.names.insert(name.to_owned(), world.made);
            before.iter().for_each(|number| _ = world.files.remove(number));
            Ok::<(), io::Error>(())
        })?;
        self.open(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|world| {
            world.operate()?;
            world.may_change()?;
            let number = world.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            world.files.remove(&number);
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|world| {
            world.operate()?;
            world.may_change()?;
            let number = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            world.names.insert(to.to_owned(), number);
            Ok(())
        })
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.with(|world| world.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used()))))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    number: u64,
}

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        self.disk.with(|world| {
            world.operate()?;
            act(world.files.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?)
        })
    }
}

impl Medium for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.current.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.disk.with(|world| world.fail_reads) {
            return Err(io::Error::other("injected"));
        }
        self.with(|file| {
            let from = usize::try_from(offset).unwrap();
            out.copy_from_slice(file.current.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fails = self.disk.with(|world| world.may_change().err());
        self.with(|file| {
            // A write that fails may have done a part of its work.
            let bytes = if fails.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
            let from = usize::try_from(offset).unwrap();
            let place = file.current.get_mut(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            place.copy_from_slice(bytes);
            file.pending.push(Change::Write(offset, bytes.to_vec()));
            fails.map_or(Ok(()), Err)
        })
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        if self.disk.with(|world| world.read_only) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let more = length.saturating_sub(self.length()?);
        let room = self.disk.with(|world| world.capacity.map_or(u64::MAX, |all| all.saturating_sub(world.used())));
        if more > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|file| {
            file.current.resize(usize::try_from(length).unwrap(), 0);
            file.pending.push(Change::Resize(length));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        if self.disk.with(|world| world.fail_syncs || world.read_only) {
            return Err(io::Error::other("injected"));
        }
        self.with(|file| {
            for change in file.pending.drain(..) {
                match change {
                    Change::Resize(length) => file.durable.resize(usize::try_from(length).unwrap(), 0),
                    Change::Write(at, written) => {
                        let from = usize::try_from(at).unwrap();
                        let end = (from + written.len()).min(file.durable.len());
                        file.durable[from..end].copy_from_slice(&written[..end - from]);
                    }
                }
            }
            Ok(())
        })?;
        self.disk.with(|world| world.syncs += 1);
        Ok(())
    }
}
