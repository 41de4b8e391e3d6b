//! Reads `[access_log]` and `[audit]`: what is written down of exchanges, and where.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::{Path, PathBuf};

use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::settings::Settings;
use crate::config::summary::{line, show_rate};
use crate::config::units::{show_duration, show_size};
use crate::gate::token_bucket::Rate;

const LINES: RangeInclusive<u64> = 1..=Rate::TOKEN_LIMIT as u64;

/// `[access_log]`: one line for each exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub output: Output,
    /// How they look.
    pub format: Format,
    /// How many lines may be written of refused requests that were not genuine.
    pub refused: Rate,
    /// Whether the query of a request is written.
    pub query: bool,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { output: Output::Stdout, format: Format::Auto, refused: per((100, SECOND)), query: false }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// So many in a period, all of them at once if need be.
fn per((number, period): (u64, Duration)) -> Rate {
    let tokens = u32::try_from(number).unwrap_or(Rate::TOKEN_LIMIT);
    Rate { tokens, per: period, burst: tokens }
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Nowhere: they are not even made.
    Off,
    /// Standard output.
    #[default]
    Stdout,
    /// A file, relative to the directory of the configuration file until it has been loaded.
    File(PathBuf),
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON everywhere else.
    #[default]
    Auto,
    /// JSON objects.
    Json,
    /// For people.
    Text,
}

impl Format {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// `[audit]`: a trail of deliveries and changes that shows when it has been tampered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
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

impl Audit {
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

/// Bytes of lines that wait to be written, for each worker; the writer has as many in its hands. Records likewise.
pub const BUFFER: usize = 1 << 20;

impl Audit {
    /// Makes the paths ones that do not depend on where the process was started.
    pub fn resolve(&mut self, directory: &Path) {
        self.file = directory.join(&self.file);
        self.key_file = directory.join(&self.key_file);
    }
}

impl AccessLog {
    /// Makes the path of a file one that does not depend on where the process was started.
    pub fn resolve(&mut self, directory: &Path) {
        if let Output::File(path) = &mut self.output {
            *path = directory.join(&*path);
        }
    }
}

pub(super) fn access_log(root: &Reader<'_>) -> AccessLog {
    let mut log = AccessLog::default();
    let Some(reader) = root.table("access_log") else { return log };
    match reader.string("output") {
        None => {}
        Some("stdout") => log.output = Output::Stdout,
        Some("off") => log.output = Output::Off,
        Some("") => reader.error("output", "is empty", "write \"stdout\", \"off\" or the path of a file"),
        Some(path) if path.ends_with('/') => {
            reader.error("output", "is a directory", "name a file in it");
        }
        Some(path) => log.output = Output::File(PathBuf::from(path)),
    }
    let formats = [Format::Auto, Format::Json, Format::Text].map(|format| (format.name(), format));
    log.format = reader.choice("format", &formats).unwrap_or(log.format);
    log.refused = reader.frequency("refused", LINES).map_or(log.refused, per);
    log.query = reader.bool("query").unwrap_or(log.query);
    if log.output == Output::Off {
        for key in ["format", "refused", "query"].into_iter().filter(|key| reader.has(key)) {
            reader.warning(key, "has no effect: the access log is off", "remove it, or give the log an output");
        }
    }
    reader.finish();
    log
}

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(60);
const ROTATE_SIZE: RangeInclusive<u64> = 64 << 10..=1 << 40;
const ROTATE_EVERY: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(366 * 86_400);
const SEAL_EVERY: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);

pub(super) fn audit(root: &Reader<'_>, log: &AccessLog) -> Option<Audit> {
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
    Some(Audit {
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
fn check_name(reader: &Reader<'_>, file: &Path, key: Option<&Path>, log: &AccessLog) {
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
    let id = crate::config::keys::id(&reader, &[]);
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

/// What is written down, for `check`.
pub(super) fn write(out: &mut String, settings: &Settings) -> fmt::Result {
    let log = &settings.access_log;
    writeln!(out, "\nrecords")?;
    let (query, rate) = (if log.query { "with" } else { "without" }, show_rate(&log.refused));
    match &log.output {
        Output::Off => line(out, "access log", "off")?,
        Output::Stdout => line(out, "access log", format_args!("standard output, format {}", log.format.name()))?,
        Output::File(path) => {
            line(out, "access log", format_args!("{}, format {}", path.display(), log.format.name()))?;
        }
    }
    if log.output != Output::Off {
        line(
            out,
            "",
            format_args!("{query} queries; refused: {rate}, of genuine ones, of others on routes, and elsewhere"),
        )?;
    }
    match &settings.audit {
        None => line(out, "audit trail", "off")?,
        Some(audit) => write_audit(out, audit)?,
    }
    let files = usize::from(log.output != Output::Off) + usize::from(settings.audit.is_some());
    let memory = show_size(2 * (files * BUFFER) as u64);
    line(out, "buffers", format_args!("at most {memory} per worker; with requests in flight a few KiB each on top"))
}

fn write_audit(out: &mut String, audit: &Audit) -> fmt::Result {
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
