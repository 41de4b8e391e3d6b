//! `[access_log]`: one line for each exchange.

use core::fmt;
use std::path::{Path, PathBuf};

use crate::config::lines::line;
use crate::config::rates::{LINES, SECOND, per, show_rate};
use crate::config::reader::Reader;
use crate::gate::token_bucket::Rate;

/// `[access_log]`: one line for each exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where the lines go.
    pub output: Output,
    /// How they look.
    pub format: Format,
    /// How many lines may be written of refused requests that were not genuine.
    pub refused: Rate,
    /// Whether the query of a request is written.
    pub query: bool,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        Self { output: Output::Stdout, format: Format::Auto, refused: per((100, SECOND)), query: false }
    }
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

impl AccessLogSettings {
    /// Makes the path of a file one that does not depend on where the process was started.
    pub fn resolve(&mut self, directory: &Path) {
        if let Output::File(path) = &mut self.output {
            *path = directory.join(&*path);
        }
    }
}

pub(crate) fn read(root: &Reader<'_>) -> AccessLogSettings {
    let mut log = AccessLogSettings::default();
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

/// For `check`.
pub(crate) fn describe(out: &mut String, log: &AccessLogSettings) -> fmt::Result {
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

    Ok(())
}
