//! What the database writes through: bounds the size of a file, and knows whether a commit that failed may have become
//! durable all the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use redb::StorageBackend;

use super::disk::Medium;
use super::leaves::{PAGE, is_sound};

/// Where the header of a database file says which of its two commit slots counts, and the bit that says so (redb, file
/// format 3).
const SLOT_AT: u64 = 9;
const SLOT_BIT: u8 = 1;

/// No slot is known.
const UNKNOWN: u8 = 0xff;

/// What is known of a file, from outside of the database.
#[derive(Debug)]
pub struct FileGauge {
    /// Bytes.
    length: AtomicU64,
    /// It must not grow beyond.
    limit: AtomicU64,
    slot: AtomicU8,
    /// The slot has changed since [`Self::mark`].
    switched: AtomicBool,
    /// Calls of sync.
    syncs: AtomicU64,
}

impl FileGauge {
    fn new(limit: u64) -> Self {
        Self {
            length: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            slot: AtomicU8::new(UNKNOWN),
            switched: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
        }
    }

    /// Bytes of the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// It must not grow beyond `limit` bytes from now on.
    pub fn bound(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How often it was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// A transaction begins.
    pub fn mark(&self) {
        self.switched.store(false, Ordering::Relaxed);
    }

    /// Whether what was written since [`Self::mark`] may count after a crash. While the slot has not changed, it cannot.
    #[must_use]
    pub fn may_count(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    fn written(&self, offset: u64, bytes: &[u8]) {
        let Some(flags) = SLOT_AT.checked_sub(offset).and_then(|at| bytes.get(usize::try_from(at).ok()?)) else {
            return;
        };
        let slot = flags & SLOT_BIT;
        if self.slot.swap(slot, Ordering::Relaxed) != slot {
            self.switched.store(true, Ordering::Relaxed);
        }
    }
}

/// A file below the database.
#[derive(Debug)]
pub struct GaugedFile {
    medium: Box<dyn Medium>,
    gauge: Arc<FileGauge>,
    /// Whether syncing reaches the disk (`durability = "fsync"`).
    durable: bool,
}

impl GaugedFile {
    /// A file that must not grow beyond `limit` bytes.
    ///
    /// # Errors
    /// Of the disk.
    pub fn new(medium: Box<dyn Medium>, limit: u64, durable: bool) -> io::Result<(Self, Arc<FileGauge>)> {
        let gauge = Arc::new(FileGauge::new(limit));
        let length = medium.length()?;
        gauge.length.store(length, Ordering::Relaxed);
        if length > SLOT_AT {
            let mut flags = [0];
            medium.read(SLOT_AT, &mut flags)?;
            gauge.slot.store(flags[0] & SLOT_BIT, Ordering::Relaxed);
        }
        Ok((Self { medium, gauge: Arc::clone(&gauge), durable }, gauge))
    }
}

impl StorageBackend for GaugedFile {
    fn len(&self) -> io::Result<u64> {
        self.medium.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.medium.read(offset, out)?;
        // Behind the header are pages.
        if offset >= PAGE && !is_sound(out, self.gauge.length()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a page of it has changed"));
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if length > self.gauge.length() && length > self.gauge.limit.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.medium.resize(length)?;
        self.gauge.length.store(length, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gauge.syncs.fetch_add(1, Ordering::Relaxed);
        if self.durable { self.medium.sync() } else { Ok(()) }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Before it is tried: a write that fails may have been made.
        self.gauge.written(offset, bytes);
        self.medium.write(offset, bytes)
    }
}
