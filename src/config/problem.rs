//! What is wrong with a configuration, where, and what to do about it.
//!
//! Problems are collected, not thrown: an operator sees every mistake of a file in one run. A problem never quotes
//! the value of a secret, nor what looks like one ([`crate::config::shown`]).

use core::fmt;
use std::sync::Arc;

use crate::config::shown::{concealed, harmless, plain_line};

/// Where something stands in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named to us.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 when the problem is with the file as a whole.
    pub line: u32,
    /// Column in characters, counted from 1; 0 when the problem is with the file as a whole.
    pub column: u32,
    /// Path of the key, with array positions counted from 0: `route[0].secrets[1].file`. Empty for the file itself.
    pub key_path: String,
}

impl Place {
    /// A file as a whole.
    #[must_use]
    pub fn file(file: &str) -> Self {
        Self { file: file.into(), line: 0, column: 0, key_path: String::new() }
    }

    /// The place of a sibling or child key for which there is no better position than this one.
    #[must_use]
    pub fn child(&self, key: &str) -> Self {
        let key_path = if self.key_path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key_path) };
        Self { key_path, ..self.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain_line(&concealed(&self.file)))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration works, but not in the way one would want.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong: what was expected and what was found.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// How bad it is.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}: {severity}: ", self.place)?;
        if !self.place.key_path.is_empty() {
            write!(f, "{}: ", self.place.key_path)?;
        }
        f.write_str(&self.message)?;
        if !self.fix.is_empty() {
            write!(f, "\n    fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of discovery until [`Problems::sort`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Adds something that makes the configuration unusable.
    pub fn error(&mut self, place: Place, message: impl AsRef<str>, fix: impl AsRef<str>) {
        self.add(Severity::Error, place, message.as_ref(), fix.as_ref());
    }

    /// Adds something that the operator should know.
    pub fn warning(&mut self, place: Place, message: impl AsRef<str>, fix: impl AsRef<str>) {
        self.add(Severity::Warning, place, message.as_ref(), fix.as_ref());
    }

    /// What problems quote, names of keys included, was written by another person, who may have put a secret in a wrong
    /// place.
    fn add(&mut self, severity: Severity, place: Place, message: &str, fix: &str) {
        let line = |text: &str| plain_line(&concealed(text)).into_owned();
        let place = Place { key_path: line(&place.key_path), ..place };
        self.list.push(Problem { place, message: line(message), fix: harmless(fix), severity });
    }

    /// Takes over everything from `others`.
    pub fn append(&mut self, mut others: Self) {
        self.list.append(&mut others.list);
    }

    /// Whether there is anything that makes the configuration unusable.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many problems there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// All problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Puts the problems of each file in the order of its lines, so that a report reads like the file.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| {
            (&a.place.file, a.place.line, a.place.column).cmp(&(&b.place.file, b.place.line, b.place.column))
        });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{problem}")?;
        }
        Ok(())
    }
}
