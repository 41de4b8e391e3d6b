//! `[audit]`: a trail of deliveries and changes that shows when it has been tampered with.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::{Path, PathBuf};

use super::access_log::{AccessLogSettings, Output};
use super::route::keys;
use crate::config::lines::line;
use crate::config::problem::Place;
use crate::config::rates::{LINES, SECOND, per, show_rate};
use crate::config::reader::Reader;
use crate::config::units::{show_duration, show_size};
use crate::gate::token_bucket::Rate;

/// `[audit]`: a trail of deliveries and changes that shows when it has been tampered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file, relative to the directory of the configuration file until it has been loaded.
    pub file: PathBuf,
    /// The name of the key of its seals.
    pub key_id: String,
    /// The file with that key, likewise.
    pub key_file: PathBuf,
    /// Where the key is configured.
    pub place: Place,
    /// When records are made durable.
    pub fsync: Fsync,
    /// What happens to deliveries that cannot be recorded.
    pub when_blocked: WhenBlocked,
    /// How many refused requests that were not genuine have records of their own.
    pub refused: Rate,
    /// Whether records have the SHA-256 of the body.
    pub body_digest: bool,
    /// The size at which another file begins, in bytes.
    pub rotate_size: u64,
    /// The age at which another file begins.
    pub rotate_every: Duration,
    /// How long records may be without a seal.
    pub seal_every: Duration,
}

impl AuditSettings {
    /// The same wherever it is configured: for comparison.
    #[must_use]
    pub fn without_place(&self) -> Self {
        Self { place: Place::file(""), ..self.clone() }
    }
}

/// When records are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before the sender gets its answer.
    Each,
    /// So long after they were made at the latest.
    Interval(Duration),
}

/// What happens to deliveries that cannot be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBlocked {
    /// They are refused before they reach the application.
    Refuse,
    /// They pass, and are counted.
    Drop,
}

impl AuditSettings {
    /// Makes the paths ones that do not depend on where the process was started.
    pub fn resolve(&mut self, directory: &Path) {
        self.file = directory.join(&self.file);
        self.key_file = directory.join(&self.key_file);
    }
}

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(60);
const ROTATE_SIZE: RangeInclusive<u64> = 64 << 10..=1 << 40;
const ROTATE_EVERY: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(366 * 86_400);
const SEAL_EVERY: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);

pub(crate) fn read(root: &Reader<'_>, log: &AccessLogSettings) -> Option<AuditSettings> {
    let reader = root.table("audit")?;
    reader.require("file", "add file = \"audit.jsonl\": where the records go");
    let file = reader.string("file");
    if file.is_some_and(|file| file.is_empty() || file.ends_with('/')) {
        reader.error("file", "is not the name of a file", "write file = \"audit.jsonl\"");
    }
    let key = audit_key(&reader);
    if let Some(file) = file.map(Path::new) {
        check_name(&reader, file, key.as_ref().map(|(_, key)| key.as_path()), log);
    }
    let fsync = fsync(&reader);
    let when_blocked = [("refuse", WhenBlocked::Refuse), ("drop", WhenBlocked::Drop)];
    let when_blocked = reader.choice("when_blocked", &when_blocked).unwrap_or(WhenBlocked::Refuse);
    let refused = reader.frequency("refused", LINES).unwrap_or((1000, SECOND));
    let body_digest = reader.bool("body_digest").unwrap_or(true);
    let rotate_size = reader.size("rotate_size", ROTATE_SIZE).unwrap_or(64 << 20);
    let rotate_every = reader.duration("rotate_every", ROTATE_EVERY).unwrap_or(Duration::from_secs(86_400));
    let seal_every = reader.duration("seal_every", SEAL_EVERY).unwrap_or(Duration::from_secs(60));
    let place = reader.place("key");
    reader.finish();
    let (key_id, key_file) = key?;
    Some(AuditSettings {
        file: PathBuf::from(file?),
        key_id,
        key_file,
        place,
        fsync,
        when_blocked,
        refused: per(refused),
        body_digest,
        rotate_size,
        rotate_every,
        seal_every,
    })
}

/// What else is in the file would break the chain, or the records would take its place.
fn check_name(reader: &Reader<'_>, file: &Path, key: Option<&Path>, log: &AccessLogSettings) {
    const FIX: &str = "give the trail a file of its own";
    if matches!(&log.output, Output::File(output) if output == file) {
        reader.error("file", "is the file of the access log, too", FIX);
    }
    if key == Some(file) {
        reader.error("file", "is the file of its key", FIX);
    }
}

fn audit_key(audit: &Reader<'_>) -> Option<(String, PathBuf)> {
    const FIX: &str = "write key = { id = \"1\", file = \"secrets/audit\" }: seals are made with it";
    audit.require("key", FIX);
    let reader = audit.table("key")?;
    reader.require("id", FIX);
    reader.require("file", FIX);
    let id = keys::id(&reader, &[]);
    let file = reader.string("file");
    if file.is_some_and(str::is_empty) {
        reader.error("file", "is empty", FIX);
    }
    reader.finish();
    Some((id?, PathBuf::from(file?)))
}

fn fsync(reader: &Reader<'_>) -> Fsync {
    let interval = reader.duration("interval", INTERVAL);
    match reader.choice("fsync", &[("interval", false), ("each", true)]) {
        Some(true) => {
            if interval.is_some() {
                let fix = "remove it, or write fsync = \"interval\"";
                reader.error("interval", "has no effect: every record is made durable by itself", fix);
            }
            Fsync::Each
        }
        _ => Fsync::Interval(interval.unwrap_or(SECOND)),
    }
}

/// For `check`; nothing where there is no trail.
pub(crate) fn describe(out: &mut String, audit: Option<&AuditSettings>) -> fmt::Result {
    let Some(audit) = audit else { return line(out, "audit trail", "off") };

    line(out, "audit trail", format_args!("{}, sealed with the key \"{}\"", audit.file.display(), audit.key_id))?;
    match audit.fsync {
        Fsync::Each => line(out, "", "durable before the sender is answered")?,
        Fsync::Interval(interval) => {
            line(
                out,
                "",
                format_args!("durable within {} (a crash of the machine loses this)", show_duration(interval)),
            )?;
        }
    }
    line(
        out,
        "",
        match audit.when_blocked {
            WhenBlocked::Refuse => "when it cannot be written, deliveries are refused (503)",
            WhenBlocked::Drop => "when it cannot be written, deliveries pass and are counted",
        },
    )?;
    let (size, age) = (show_size(audit.rotate_size), show_duration(audit.rotate_every));
    line(
        out,
        "",
        format_args!(
            "another file at {size} or {age}; refused: {}, and as many that are genuine",
            show_rate(&audit.refused)
        ),
    )
}
