//! The files that a configuration depends on: the only file of this room that opens any, and what it found in them.
//!
//! Every file that is asked for is noted, also one that is not there: it may appear later. What was in it is kept as a
//! digest, to be compared in memory and never shown, because most of these files are secrets.

use core::cell::RefCell;
use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::config::problem::{Place, Problems};

/// Where a configuration finds its files, and which it has asked for.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    sources: RefCell<Sources>,
}

impl Files {
    /// The files of the configuration at `path`: what it names is relative to its directory.
    pub(super) fn of(path: &Path) -> Self {
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        Self { directory, sources: RefCell::default() }
    }

    /// What relative paths are relative to.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the file is that the configuration calls `name`.
    pub(super) fn path(&self, name: &Path) -> PathBuf {
        self.directory.join(name)
    }

    /// The bytes of a regular file that is not longer than `limit`; `path` as [`Files::path`] gives it.
    pub(super) fn read(&self, path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        let read = read_file(path, limit);
        self.sources.borrow_mut().note(path, limit, &read);
        read
    }

    /// Every file that has been asked for.
    pub(super) fn into_sources(self) -> Sources {
        self.sources.into_inner()
    }
}

/// Files, and what was in each when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    list: Vec<NamedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedFile {
    path: PathBuf,
    limit: usize,
    content: FileContent,
}

#[derive(Clone, PartialEq, Eq)]
enum FileContent {
    Digest([u8; 32]),
    Unreadable(String),
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(_) => f.write_str("Digest(redacted)"),
            Self::Unreadable(why) => f.debug_tuple("Unreadable").field(why).finish(),
        }
    }
}

impl FileContent {
    fn of(read: &io::Result<Zeroizing<Vec<u8>>>) -> Self {
        match read {
            Ok(bytes) => Self::Digest(sha256(bytes)),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(digest(&SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    out
}

impl Sources {
    /// The paths, in the order in which the files were asked for.
    pub fn paths(&self) -> impl Iterator<Item = &Path> + Clone {
        self.list.iter().map(|source| source.path.as_path())
    }

    /// The same files as they are now.
    #[must_use]
    pub fn again(&self) -> Self {
        let read = |source: &NamedFile| NamedFile {
            content: FileContent::of(&read_file(&source.path, source.limit)),
            ..source.clone()
        };
        Self { list: self.list.iter().map(read).collect() }
    }

    /// The files that are not as they were in `earlier`, or that it does not have.
    pub fn changed_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a Path> {
        self.list.iter().filter(|source| !earlier.list.contains(source)).map(|source| source.path.as_path())
    }

    /// A file that is read twice keeps what was found first: if it has changed in between, what was made of the two
    /// fits neither, and a comparison with [`Sources::again`] tells.
    fn note(&mut self, path: &Path, limit: usize, read: &io::Result<Zeroizing<Vec<u8>>>) {
        if self.paths().all(|known| known != path) {
            self.list.push(NamedFile { path: path.to_owned(), limit, content: FileContent::of(read) });
        }
    }
}

/// Warns of a file with a secret that every user of this machine may read. A group may read: that is how Kubernetes hands
/// secrets to a process that is not root.
pub(super) fn warn_if_readable(path: &Path, place: Place, problems: &mut Problems) {
    use std::os::unix::fs::PermissionsExt;
    if path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0) {
        let message = format!("{} can be read by every user of this machine", path.display());
        problems.warning(place, message, format!("chmod o-rwx {} (Kubernetes: defaultMode: 0440)", path.display()));
    }
}

/// Whatever else has a path (a directory, a pipe that would block) is refused before it is opened.
fn read_file(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes"));
    let size = usize::try_from(metadata.len()).ok().filter(|size| *size <= limit).ok_or_else(too_long)?;
    // One byte more than the limit, so that a file that has grown meanwhile is noticed and the buffer never moves.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.max(limit.min(4096)) + 1));
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(too_long()) } else { Ok(bytes) }
}
