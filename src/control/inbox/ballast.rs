//! Room that is set aside on the disk, so that what is delivered can be written down although the disk is full.
//!
//! The database needs pages for what it removes, and other programs may have taken the last byte. A file without content
//! holds the room of one file of the inbox; it is removed when a settlement finds no room, and made again when there is.

use super::disk::Disk;
use super::shelf::Shelf;

/// The name of the file.
pub(super) const RESERVE: &str = "reserve";

fn make(disk: &dyn Disk, size: u64) -> std::io::Result<()> {
    disk.create(RESERVE)?.resize(size)
}

impl Shelf {
    /// Bytes of the room that is set aside.
    pub(super) fn set_aside(&self) -> u64 {
        if self.ballast { self.terms.file_limit() } else { 0 }
    }

    /// Sets room aside, if there is enough.
    pub(super) fn set_room_aside(&mut self) {
        let size = self.terms.file_limit();
        let room = self.disk.free().is_ok_and(|free| free >= 2 * size);
        if self.ballast || self.files.is_empty() || !room || self.failing_since.is_some() {
            return;
        }
        self.ballast = make(&*self.disk, size).is_ok();
        if !self.ballast {
            let _ = self.disk.remove(RESERVE);
        }
    }

    /// Gives the room back. Gives whether there was any.
    pub(super) fn release_room(&mut self) -> bool {
        std::mem::take(&mut self.ballast) && self.disk.remove(RESERVE).is_ok()
    }
}
