//! What a directory is good for as the place of an inbox.

use std::path::Path;

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};

/// What an operator should know of a directory; nothing where it seems to survive what it should.
#[must_use]
pub fn directory_warning(directory: &Path) -> Option<String> {
    // A directory that is not there yet is on the file system of the nearest one that is.
    let kind = directory.ancestors().find_map(|place| statfs(place).ok())?.filesystem_type();
    let shown = directory.display();
    if kind == TMPFS_MAGIC {
        Some(format!("the inbox {shown} is in memory (tmpfs): an acknowledged delivery does not survive the machine"))
    } else if kind == OVERLAYFS_SUPER_MAGIC {
        Some(format!("the inbox {shown} is in the layer of a container (overlay): it ends with the container"))
    } else {
        None
    }
}
