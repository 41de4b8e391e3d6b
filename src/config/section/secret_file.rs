//! A file with a secret of another system.

use std::path::PathBuf;

use crate::config::digest::{Digest, digest_of_bytes};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::secret::Secret;

/// A file with a secret.
#[derive(Clone, Debug)]
pub struct SecretFile {
    /// Its path, relative to the directory of the configuration file until it has been loaded.
    pub path: PathBuf,
    /// Where it is configured.
    pub place: Place,
    /// What it holds. [`crate::config::load()`] reads it.
    pub content: Option<Secret>,
}

impl PartialEq for SecretFile {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.content, &other.content) {
            (Some(ours), Some(theirs)) => ours.same_as(theirs),
            (None, None) => true,
            _ => false,
        };
        same && self.path == other.path
    }
}

impl Eq for SecretFile {}

impl SecretFile {
    /// For comparison.
    pub(super) fn digest(&self) -> Digest {
        self.content.as_ref().map(|content| digest_of_bytes(content.bytes())).unwrap_or_default()
    }
}

/// Reads the path of one.
pub(super) fn read(reader: &Reader<'_>, key: &str) -> Option<SecretFile> {
    let path = reader.string(key)?;
    if path.is_empty() {
        reader.error(key, "is empty", "write the path of a file with the secret");
        return None;
    }
    Some(SecretFile { path: PathBuf::from(path), place: reader.place(key), content: None })
}
