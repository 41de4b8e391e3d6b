//! The file of an audit trail: locked for one process, appended to in whole batches, followed by another one when it is
//! full. A chain goes on from file to file and from process to process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::telemetry::audit::Link;
use crate::telemetry::audit::chain::ChainLine;

/// Where a trail is kept.
pub trait Store: Send {
    /// Appends bytes, all of them or none.
    ///
    /// # Errors
    /// Of the disk.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes durable what has been appended.
    ///
    /// # Errors
    /// Of the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Whether it is time for another file.
    fn is_full(&self, now: Duration) -> bool;
    /// Puts the file aside, named after its last record, and begins another.
    ///
    /// # Errors
    /// Of the disk; the old file stays in use.
    fn rotate(&mut self, last: Link, now: Duration) -> io::Result<()>;
    /// Whether the file is still the one that its name stands for.
    fn is_in_place(&self) -> bool;
    /// Begins another file in the place of one that is not there any more.
    ///
    /// # Errors
    /// Of the disk; the old file stays in use.
    fn replace(&mut self, now: Duration) -> io::Result<()>;
}

/// A trail in files.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    file: Flock<File>,
    size: u64,
    /// When its first record was made, since 1970.
    begun: Duration,
    /// A batch that failed may have left something behind the last whole record.
    untidy: bool,
    limit: (u64, Duration),
}

/// A trail that has been opened.
#[derive(Debug)]
pub struct Opened {
    /// Where it goes on.
    pub file: AuditFile,
    /// Its last record.
    pub last: Link,
    /// Bytes of a record that was not whole, and has been removed.
    pub torn: u64,
}

impl AuditFile {
    /// Opens the file at `path`, or makes it, and finds the record behind which the trail goes on: the last one of this
    /// file or, if it has none, of the newest one that was put aside. `limit` is the size and the age at which another
    /// file begins.
    ///
    /// # Errors
    /// A sentence for the operator: the file cannot be opened, belongs to another process, or its end is no trail.
    pub fn open(path: &Path, limit: (u64, Duration), now: Duration) -> Result<Opened, String> {
        let file = lock(path).map_err(|error| error.to_string())?;
        let mut this = Self { path: path.to_owned(), file, size: 0, begun: now, untidy: false, limit };
        let (found, torn) = this.recover().map_err(|error| error.to_string())?;
        let last = match found {
            Some(last) => last.ok_or("its last record is damaged: prove it with `audit verify`, and move it away")?,
            None => newest(path).map_err(|error| error.to_string())?,
        };
        Ok(Opened { file: this, last, torn })
    }

    /// Removes what is not a whole line from the end. Gives the last line, if there is one, unless it is damaged.
    #[expect(clippy::option_option, reason = "no line, a damaged line, a line")]
    fn recover(&mut self) -> io::Result<(Option<Option<Link>>, u64)> {
        let size = self.file.metadata()?.len();
        let (last, whole) = last_line(&mut self.file, size)?;
        let link = last.map(|line| ChainLine::parse(&line).ok().map(|line| line.link));
        if whole < size && link != Some(None) {
            if !self.begins_a_record(whole)? {
                return Err(io::Error::other("its end is no audit trail, and stays as it is: name another file"));
            }
            self.file.set_len(whole)?;
            self.file.sync_data()?;
        }
        self.size = whole;
        if let Some(begun) = begun(&mut self.file) {
            self.begun = begun;
        }
        Ok((link, size - whole))
    }

    /// Whether what comes from there to the end may be what is left of a record: a file of another program is not cut. After a
    /// crash of the machine there may be zeros in the place of bytes.
    fn begins_a_record(&mut self, from: u64) -> io::Result<bool> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(from))?;
        (&mut *self.file).take(WINDOW).read_to_end(&mut rest)?;
        let written = rest.len() - rest.iter().rev().take_while(|byte| **byte == 0).count();
        let rest = rest.get(..written).unwrap_or_default();
        Ok(rest.starts_with(BEGINNING) || BEGINNING.starts_with(rest))
    }
}

/// How every record begins.
const BEGINNING: &[u8] = b"{\"seq\":";

/// No record is longer, so the last one is in so many bytes at the end.
pub(super) const WINDOW: u64 = 64 << 10;

/// The last whole line of a file of `size` bytes, and where it ends.
fn last_line(file: &mut File, size: u64) -> io::Result<(Option<Vec<u8>>, u64)> {
    let start = size.saturating_sub(WINDOW);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(WINDOW).read_to_end(&mut end)?;
    let Some(last) = memchr::memrchr(b'\n', &end) else {
        return if start == 0 { Ok((None, 0)) } else { Err(io::Error::other("its end is no audit trail")) };
    };
    let lines = end.get(..last).unwrap_or_default();
    let line = memchr::memrchr(b'\n', lines).map_or(lines, |before| lines.get(before + 1..).unwrap_or_default());
    Ok((Some(line.to_vec()), start + last as u64 + 1))
}

/// When the first record of a file was made.
fn begun(file: &mut File) -> Option<Duration> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(WINDOW).read_to_end(&mut start).ok()?;
    let line = start.split(|byte| *byte == b'\n').next()?;
    let text = core::str::from_utf8(ChainLine::parse(line).ok()?.entry.get(8..32)?).ok()?;
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp()).ok().map(Duration::from_secs)
}

fn lock(path: &Path) -> io::Result<Flock<File>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => io::Error::other(
            "another process writes it. To replace that process without a gap, let both have the sockets of one service \
             manager (socket activation), stop the old one, then start this one: docs/operating.md",
        ),
        errno => errno.into(),
    })
}

/// The newest file that was put aside from `path`.
pub(super) fn newest_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut found: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let number = path.file_name().and_then(|file| {
            let rest = name.to_str()?.strip_prefix(file.to_str()?)?.strip_prefix('.')?;
            rest.bytes().all(|byte| byte.is_ascii_digit()).then(|| rest.parse::<u64>().ok())?
        });
        if let Some(number) = number.filter(|number| found.as_ref().is_none_or(|(best, _)| number > best)) {
            found = Some((number, entry.path()));
        }
    }
    Ok(found.map(|(_, path)| path))
}

/// The last record of the newest file that was put aside from `path`.
fn newest(path: &Path) -> io::Result<Link> {
    let Some(newest) = newest_aside(path)? else { return Ok(Link::NONE) };
    let mut file = File::open(&newest)?;
    let size = file.metadata()?.len();
    let line = last_line(&mut file, size)?.0.unwrap_or_default();
    let damaged = || io::Error::other(format!("the last record of {} is damaged", newest.display()));
    ChainLine::parse(&line).map(|line| line.link).map_err(|_| damaged())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new name is durable only when its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

impl Store for AuditFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.untidy {
            self.file.set_len(self.size)?;
            self.untidy = false;
        }
        let written = self.file.write_all(bytes);
        match &written {
            Ok(()) => self.size += bytes.len() as u64,
            Err(_) => self.untidy = self.file.set_len(self.size).is_err(),
        }
        written
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_full(&self, now: Duration) -> bool {
        let (size, age) = self.limit;
        self.size >= size || (self.size > 0 && now.saturating_sub(self.begun) >= age)
    }

    fn rotate(&mut self, last: Link, now: Duration) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".{:012}", last.seq));
        self.sync()?;
        fs::rename(&self.path, &aside)?;
        self.replace(now)
    }

    fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (named, open) = (self.path.metadata().map(identity), self.file.metadata().map(identity));
        matches!((named, open), (Ok(named), Ok(open)) if named == open)
    }

    fn replace(&mut self, now: Duration) -> io::Result<()> {
        self.file = lock(&self.path)?;
        self.size = self.file.metadata()?.len();
        self.begun = now;
        sync_directory(&self.path)
    }
}
