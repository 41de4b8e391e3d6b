//! What the end of an audit trail proves of itself when a process starts: everything from the last seal on.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::telemetry::audit::{Examiner, Link, SealKey, Unproven};

use super::audit_file::{WINDOW, newest_aside};
use super::event_log::{EventLog, Level};

/// Records at the end of a trail that no seal proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnprovenEnd {
    /// The number of the first one.
    pub(super) first: u64,
    /// The number of the last one.
    pub(super) last: u64,
    /// A word for the reason.
    pub(super) why: &'static str,
    /// The reason, for the operator.
    words: String,
    /// A process that was killed leaves no more than this.
    ordinary: bool,
}

impl UnprovenEnd {
    /// Says so.
    pub(super) fn tell(&self, log: &EventLog) {
        let Self { first, last, words, ordinary, .. } = self;
        if *ordinary {
            let message = format!(
                "audit trail: records {first} to {last} are not proven: the process that wrote them was killed before \
                 it sealed them"
            );
            return log.event(Level::Warn, &message);
        }
        let message = format!(
            "audit trail: records {first} to {last} are NOT PROVEN: {words}; they may have been changed, or others \
             removed: `countersign audit verify`"
        );
        log.event(Level::Error, &message);
    }

    /// How many records there are that a killed process does not explain.
    pub(super) const fn unexplained(&self) -> u64 {
        if self.ordinary { 0 } else { self.last.saturating_sub(self.first) + 1 }
    }
}

/// What is not proven of the trail that ends with `end`, behind the last seal that `key` has made; nothing where that is
/// the end. The work is bounded: a seal that is further away than a writer lets it be is not looked for.
///
/// # Errors
/// Of the disk.
pub(super) fn unproven_end(path: &Path, key: &SealKey, end: Link) -> io::Result<Option<UnprovenEnd>> {
    let keys = std::slice::from_ref(key);
    let mut file = File::open(path)?;
    let mut examiner = Examiner::new(keys);
    let broken = match last_seal(&mut file, key)? {
        Search::Found(at) => examine(&mut examiner, &mut file, at)?,
        // The seal may be the last record of the file before this one.
        Search::Start => {
            let before = newest_aside(path)?.map(File::open).transpose()?;
            let broken = match before {
                Some(mut before) => match last_seal(&mut before, key)? {
                    Search::Found(at) => examine(&mut examiner, &mut before, at)?,
                    Search::Start | Search::GivenUp => None,
                },
                None => None,
            };
            if broken.is_some() { broken } else { examine(&mut examiner, &mut file, 0)? }
        }
        Search::GivenUp => {
            let start = file.metadata()?.len().saturating_sub(REACH);
            let at = next_line(&mut file, start)?;
            examine(&mut examiner, &mut file, at)?
        }
    };
    if let Some(words) = broken {
        let sealed = examiner.summary().and_then(|summary| summary.sealed).unwrap_or_default();
        let first = examiner.tail().map_or(sealed + 1, |tail| tail.first).min(end.seq);
        return Ok(Some(UnprovenEnd { first, last: end.seq, why: "broken", words, ordinary: false }));
    }
    Ok(examiner.tail().map(|Unproven { first, last, doubt, .. }| UnprovenEnd {
        first,
        last,
        why: doubt.code(),
        words: doubt.to_string(),
        ordinary: doubt.is_ordinary(),
    }))
}

/// How far from the end a seal is looked for, in bytes. A writer makes one at least every 256 records, which are shorter
/// than this by far.
const REACH: u64 = 64 << 20;

/// How much is read at once.
const BLOCK: u64 = 1 << 20;

/// Where a seal is.
enum Search {
    /// Its line begins there.
    Found(u64),
    /// There is none back to the start of the file.
    Start,
    /// There is none within reach.
    GivenUp,
}

/// Looks for the last line that is a seal of `key`, from the end.
fn last_seal(file: &mut File, key: &SealKey) -> io::Result<Search> {
    let size = file.metadata()?.len();
    let (mut end, mut bytes) = (size, Vec::new());
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        // What is left of the block behind this one is the end of a line that begins here.
        let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        block.append(&mut bytes);
        let whole = if start == 0 { 0 } else { memchr::memchr(b'\n', &block).map_or(block.len(), |at| at + 1) };
        let (rest, lines) = block.split_at(whole);
        let mut line_end = lines.len();
        for at in memchr::memrchr_iter(b'\n', lines.get(..line_end.saturating_sub(1)).unwrap_or_default())
            .map(|at| at + 1)
            .chain([0])
        {
            let line = lines.get(at..line_end).unwrap_or_default();
            if is_seal(line.strip_suffix(b"\n").unwrap_or(line), key) {
                return Ok(Search::Found(start + (whole + at) as u64));
            }
            line_end = at;
        }
        bytes = rest.to_vec();
        if size - start > REACH || bytes.len() as u64 > WINDOW {
            return Ok(Search::GivenUp);
        }
        end = start;
    }
    Ok(Search::Start)
}

fn is_seal(line: &[u8], key: &SealKey) -> bool {
    let mut examiner = Examiner::new(std::slice::from_ref(key));
    memchr::memmem::find(line, b"\"event\":\"seal\"").is_some()
        && examiner.line(line).is_ok()
        && examiner.summary().is_some_and(|summary| summary.seals == 1)
}

/// Where the first line begins behind `start`.
fn next_line(file: &mut File, start: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(start))?;
    let mut skipped = Vec::new();
    BufReader::new(file).take(WINDOW).read_until(b'\n', &mut skipped)?;
    Ok(start + skipped.len() as u64)
}

/// Shows the examiner all lines from there on. What is wrong with the first one that is not as it was written, in words.
fn examine(examiner: &mut Examiner<'_>, file: &mut File, from: u64) -> io::Result<Option<String>> {
    file.seek(SeekFrom::Start(from))?;
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if let Err(flaw) = examiner.line(line.strip_suffix(b"\n").unwrap_or(&line)) {
            let before = examiner.summary().map_or(0, |it| it.last.seq);
            return Ok(Some(format!("of the record behind record {before}: {flaw}")));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::audit::record::{self, Change, Sealing, Transition};
    use crate::telemetry::audit::{Chain, SEAL_RECORDS};
    use crate::telemetry::line::TimeText;
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    struct Trail {
        folder: PathBuf,
        chain: Chain,
        key: SealKey,
    }

    impl Trail {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("countersign-end-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self { folder, chain: Chain::behind(Link::NONE), key: SealKey::new("k", b"key") }
        }

        fn file(&self) -> PathBuf {
            self.folder.join("audit")
        }

        /// So many records, and perhaps a seal.
        fn records(&mut self, count: usize, key: Option<&SealKey>) -> Vec<u8> {
            let (mut out, unix, mut stamp) = (Vec::new(), Duration::from_secs(1_760_000_000), TimeText::default());
            for _ in 0..count {
                let mut entry = Vec::new();
                let change = Change::Secret { route: "a", key_id: "k", step: Transition::Added("0") };
                record::change(&mut entry, &change, &mut stamp, unix);
                self.chain.append(&mut out, &entry);
            }
            if let Some(key) = key {
                let sealing = Sealing { key, every: Duration::from_secs(60) };
                let mut entry = Vec::new();
                record::seal(&mut entry, sealing, self.chain.last(), &mut stamp, unix);
                self.chain.append(&mut out, &entry);
            }
            out
        }

        fn end(&self) -> Option<(u64, u64, &'static str)> {
            let end = unproven_end(&self.file(), &self.key, self.chain.last()).unwrap();
            end.map(|end| (end.first, end.last, end.why))
        }
    }

    impl Drop for Trail {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn the_end_is_proven_from_the_last_seal_on_wherever_it_is() {
        let mut trail = Trail::new("blocks");
        let key = SealKey::new("k", b"key");
        fs::write(trail.file(), b"").unwrap();
        assert_eq!(trail.end(), None);
        // Several blocks in front of the seal.
        let mut bytes = trail.records(8000, Some(&key));
        assert!(bytes.len() as u64 > BLOCK);
        fs::write(trail.file(), &bytes).unwrap();
        assert_eq!(trail.end(), None);
        bytes.extend(trail.records(3, None));
        fs::write(trail.file(), &bytes).unwrap();
        assert_eq!(trail.end(), Some((8002, 8004, "unsealed")));
        // And several behind it.
        bytes.extend(trail.records(8000, None));
        fs::write(trail.file(), &bytes).unwrap();
        assert_eq!(trail.end(), Some((8002, 16_004, "too_many")));
        bytes.extend(trail.records(0, Some(&SealKey::new("another", b"key"))));
        fs::write(trail.file(), &bytes).unwrap();
        assert_eq!(trail.end(), Some((8002, 16_005, "other_key")));
        let at = bytes.len() - 5000;
        bytes.get_mut(at..=at).unwrap().copy_from_slice(b"#");
        fs::write(trail.file(), &bytes).unwrap();
        assert_eq!(trail.end(), Some((8002, 16_005, "broken")));
    }

    #[test]
    fn the_last_seal_may_be_in_the_file_before() {
        let mut trail = Trail::new("aside");
        let key = SealKey::new("k", b"key");
        let aside = trail.records(5, Some(&key));
        let count = usize::try_from(SEAL_RECORDS).unwrap();
        let rest = trail.records(count, None);
        fs::write(trail.file(), &rest).unwrap();
        assert_eq!(trail.end(), Some((7, 262, "no_seal")));
        fs::write(trail.folder.join("audit.000000000006"), &aside).unwrap();
        assert_eq!(trail.end(), Some((7, 262, "unsealed")));
        // Another file that ends with a seal is not the one before.
        let mut other = Trail::new("other");
        fs::write(trail.folder.join("audit.000000000006"), other.records(6, Some(&key))).unwrap();
        assert_eq!(trail.end().map(|(_, _, why)| why), Some("broken"));
        fs::write(trail.file(), b"").unwrap();
        assert_eq!(trail.end(), None);
    }
}
