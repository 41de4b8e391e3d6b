//! How much files may grow.
//!
//! The database doubles a file when it needs a page, and needs pages for what it removes, too: it writes changed pages
//! elsewhere and frees the old ones with a later commit. So a file that was full of deliveries could not lose any. Hence
//! the bound of a file counts for what is added to it; what is settled, moved away or marked may double it once more,
//! as long as all files together stay below their bound. The room for that is the reserve.

use super::generation::Generation;
use super::shelf::{Shelf, ShelfFile};

/// Why a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteCause {
    /// Deliveries that wait are added.
    Living,
    /// Dead letters are added.
    Dead,
    /// Deliveries are removed or change their state.
    Settling,
}

impl WriteCause {
    pub(super) const fn adding(dead: bool) -> Self {
        if dead { Self::Dead } else { Self::Living }
    }
}

impl ShelfFile {
    /// The file, if it can be written.
    pub(super) fn writable(&mut self) -> Option<&mut Generation> {
        if self.frozen { None } else { self.open.as_mut() }
    }

    /// Whether it can be written.
    pub(super) const fn is_writable(&self) -> bool {
        self.open.is_some() && !self.frozen
    }
}

impl Shelf {
    /// What is left of `size` when the reserve is left alone.
    pub(super) const fn reserve(&self) -> u64 {
        self.terms.size / 16
    }

    /// Bytes by which all files together may grow.
    fn growth(&self, cause: WriteCause) -> u64 {
        let left = self.terms.size.saturating_sub(self.bytes(false));
        // Accepting leaves the reserve alone, of which the room that is set aside is a part.
        let free = left.saturating_sub(self.set_aside());
        match cause {
            WriteCause::Living => left.saturating_sub(self.reserve()),
            WriteCause::Dead => {
                let graves = self.terms.dead_size.max(self.terms.file_limit());
                free.min(graves.saturating_sub(self.bytes(true)))
            }
            WriteCause::Settling => free,
        }
    }

    /// Says how far a file may grow by what is written next.
    pub(super) fn bound(&self, number: u32, cause: WriteCause) {
        let Some(gauge) = self.files.get(&number).and_then(|file| file.gauge.as_ref()) else { return };
        let most = gauge.length().saturating_add(self.growth(cause));
        gauge.bound(most.min(self.terms.file_limit().saturating_mul(2)));
    }
}
