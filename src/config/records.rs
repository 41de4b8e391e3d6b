//! Reads `[access_log]`: what is written down of exchanges, and where.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::{Path, PathBuf};

use crate::config::reader::Reader;
use crate::config::settings::Settings;
use crate::config::summary::{line, show_rate};
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

/// What is written down, for `check`.
pub(super) fn write(out: &mut String, settings: &Settings) -> fmt::Result {
    let log = &settings.access_log;
    writeln!(out, "\nrecords")?;
    match &log.output {
        Output::Off => return line(out, "access log", "off"),
        Output::Stdout => line(out, "access log", format_args!("standard output, format {}", log.format.name()))?,
        Output::File(path) => {
            line(out, "access log", format_args!("{}, format {}", path.display(), log.format.name()))?
        }
    }
    let query = if log.query { "with" } else { "without" };
    line(out, "", format_args!("{query} queries; not genuine: {}, on routes and elsewhere", show_rate(&log.refused)))
}
