//! What was fetched last, on disk: a file for each URL, or for each list of networks, replaced as a whole.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::gate::verify::published::KEY_SET_LIMIT;
use crate::gate::verify::sha256;

/// The directory, if there is one.
#[derive(Clone, Debug)]
pub(super) struct KeyStore {
    directory: Option<PathBuf>,
}

impl KeyStore {
    pub(super) const fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    fn path(&self, url: &str) -> Option<PathBuf> {
        let mut name = String::new();
        for byte in sha256(url.as_bytes()).iter().take(16) {
            let _ = write!(name, "{byte:02x}");
        }
        Some(self.directory.as_ref()?.join(format!("{name}.keys")))
    }

    /// What was kept; nothing where there is nothing, or it is too long.
    pub(super) fn load(&self, url: &str) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        File::open(self.path(url)?).ok()?.take(KEY_SET_LIMIT as u64 + 1).read_to_end(&mut text).ok()?;
        (text.len() <= KEY_SET_LIMIT).then_some(text)
    }

    /// Keeps a text. It is on the disk, or what was there before still is.
    pub(super) fn save(&self, url: &str, text: &[u8]) -> io::Result<()> {
        let Some(path) = self.path(url) else { return Ok(()) };
        if let Some(directory) = &self.directory {
            fs::create_dir_all(directory)?;
        }
        let draft = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    }
}
