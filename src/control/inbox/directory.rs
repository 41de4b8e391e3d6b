//! A directory of the file system, and the files in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};

use super::disk::{Disk, Medium};

/// A directory of the file system, locked for as long as this exists.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Opens a directory, and makes it if it is not there; only this user may read it.
    ///
    /// # Errors
    /// Of the disk; [`io::ErrorKind::WouldBlock`] while another process has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"));
        let lock = match lock {
            // What is there can be read all the same, and no other process can write it.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                File::open(path.join("lock")).or_else(|_| File::open(path))
            }
            other => other,
        }?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| io::Error::from(errno))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// As [`Self::open`]; [`io::ErrorKind::NotFound`] where there is none.
    pub fn existing(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Self::open(path)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Box::new(PlainFile(file)))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        Ok(Box::new(PlainFile(File::open(self.path.join(name))?)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(self.path.join(name))?;
        self.sync()?;
        Ok(Box::new(PlainFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))?;
        self.sync()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))?;
        self.sync()
    }

    fn free(&self) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.path)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

/// A file of the file system.
#[derive(Debug)]
struct PlainFile(File);

impl Medium for PlainFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        let before = self.length()?;
        if length <= before {
            return self.0.set_len(length);
        }
        // The room is taken now: a disk that is full says so here, and not in the middle of a commit.
        let (from, more) = (i64::try_from(before), i64::try_from(length - before));
        let (Ok(from), Ok(more)) = (from, more) else { return Err(io::ErrorKind::FileTooLarge.into()) };
        match fallocate(&self.0, FallocateFlags::empty(), from, more) {
            Ok(()) => Ok(()),
            Err(nix::errno::Errno::EOPNOTSUPP) => self.0.set_len(length),
            Err(errno) => {
                let _ = self.0.set_len(before);
                Err(errno.into())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
