//! `[log]`: the log of the process, on standard error.

use core::fmt;

use crate::config::lines::line;
use crate::config::reader::{Reader, set};

/// `[log]`: the log of the process, on standard error. A reload changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// What is left out: everything that matters less.
    pub level: LogLevel,
}

/// How lines of the log of the process look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// JSON objects.
    Json,
}

impl LogFormat {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How much an event matters, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// As it should be.
    #[default]
    Info,
    /// The operator should look.
    Warn,
    /// Something does not work.
    Error,
}

impl LogLevel {
    /// The name in the configuration and in lines of JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

pub(crate) fn read(root: &Reader<'_>) -> LogSettings {
    let mut log = LogSettings::default();
    let Some(reader) = root.table("log") else { return log };
    let formats = [LogFormat::Text, LogFormat::Json].map(|format| (format.name(), format));
    let levels = [LogLevel::Info, LogLevel::Warn, LogLevel::Error].map(|level| (level.name(), level));
    set(&mut log.format, reader.choice("format", &formats));
    set(&mut log.level, reader.choice("level", &levels));
    reader.finish();
    log
}

/// For `check`.
pub(crate) fn describe(out: &mut String, log: LogSettings) -> fmt::Result {
    let LogSettings { format, level } = log;
    line(out, "log", format_args!("standard error, format {}, from level {}", format.name(), level.name()))
}
