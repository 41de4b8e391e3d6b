//! Where the text of a configuration comes from: a file, which a reload reads again, or text that was given to the
//! process, as by standard input or by options of a command.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

/// Where the text of a configuration comes from.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file. What it names is relative to its directory.
    File(PathBuf),
    /// Text. What it names is relative to a directory that was given with it. A reload reads the same text again, and
    /// the files that it names as they are then.
    Text(GivenText),
}

/// Text that was given to the process, which may hold secrets.
#[derive(Clone)]
pub struct GivenText {
    name: String,
    directory: PathBuf,
    text: Arc<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for GivenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenText").field("name", &self.name).field("text", &"redacted").finish()
    }
}

impl ConfigSource {
    /// Text that messages call `name`, with files relative to `directory`.
    #[must_use]
    pub fn text(name: &str, directory: &Path, text: Vec<u8>) -> Self {
        let (name, directory) = (name.to_owned(), directory.to_owned());
        Self::Text(GivenText { name, directory, text: Arc::new(Zeroizing::new(text)) })
    }

    /// How messages call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(given) => given.name.clone(),
        }
    }

    /// A path in the directory to which names in the text are relative: that of the file itself if there is one.
    pub(super) fn place(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Text(given) => given.directory.join("configuration"),
        }
    }

    /// Where the file is that the text calls `name`.
    #[must_use]
    pub fn path_of(&self, name: &Path) -> PathBuf {
        self.place().parent().unwrap_or(Path::new(".")).join(name)
    }

    /// The bytes, where they need not be read.
    pub(super) fn given(&self) -> Option<&[u8]> {
        match self {
            Self::File(_) => None,
            Self::Text(given) => Some(&given.text),
        }
    }
}

impl From<PathBuf> for ConfigSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}
