//! A typed walk over a TOML document that knows where everything stands and reports every mistake at once.
//!
//! Derived serde mirrors are not used here: they stop at the first value of the wrong type and know no line for a
//! value that is well-typed but out of range. A [`Reader`] stands on one table. Each question about a key marks the
//! key as known, answers `None` for a key that is absent, and for a key of the wrong type or range reports a problem
//! and answers `None` too. [`Reader::finish`] reports the keys that no question named.

mod tables;
mod values;

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::document::Document;
use crate::config::problem::Place;
use crate::config::suggest::closest;

/// Stands on one table of a [`Document`].
#[must_use = "call finish(), which reports the keys that no question named"]
pub struct Reader<'d> {
    document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    span: Range<usize>,
    path: String,
    asked: RefCell<Vec<String>>,
    failed: Cell<bool>,
    any_name: Cell<bool>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.path)
    }
}
/// Keeps the default where nothing, or nothing valid, was written.
pub(crate) fn set<T>(value: &mut T, written: Option<T>) {
    if let Some(written) = written {
        *value = written;
    }
}

impl<'d> Reader<'d> {
    /// A reader that stands on the whole document.
    pub fn root(document: &'d Document<'d>) -> Self {
        Self::new(document, document.table(), 0..0, String::new())
    }

    pub(super) fn new(document: &'d Document<'d>, table: &'d DeTable<'d>, span: Range<usize>, path: String) -> Self {
        Self {
            document,
            table,
            span,
            path,
            asked: RefCell::default(),
            failed: Cell::default(),
            any_name: Cell::default(),
        }
    }

    /// The key path of this table; empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where this table stands.
    #[must_use]
    pub fn here(&self) -> Place {
        self.document.place(self.span.clone(), self.path.clone())
    }

    /// Where the value of `key` stands, or the table when there is no such key.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.document.place(span, self.path_of(key))
    }

    /// Whether the key is there, whatever its type. Marks it as known.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.ask(key).is_some()
    }

    /// Reports an error about `key` of this table.
    pub fn error(&self, key: &str, message: impl AsRef<str>, fix: impl AsRef<str>) {
        self.error_at(self.place(key), message, fix);
    }

    /// Reports an error at a place of this document.
    pub fn error_at(&self, place: Place, message: impl AsRef<str>, fix: impl AsRef<str>) {
        self.failed.set(true);
        self.document.report(|problems| problems.error(place, message, fix));
    }

    /// Reports a warning about `key` of this table.
    pub fn warning(&self, key: &str, message: impl AsRef<str>, fix: impl AsRef<str>) {
        self.warning_at(self.place(key), message, fix);
    }

    /// Reports a warning at a place of this document.
    pub fn warning_at(&self, place: Place, message: impl AsRef<str>, fix: impl AsRef<str>) {
        self.document.report(|problems| problems.warning(place, message, fix));
    }

    /// Makes this table count as failed because of a subtable of it.
    pub fn mark_failed(&self) {
        self.failed.set(true);
    }

    /// Whether this reader itself (not its subtables) has reported an error so far.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed.get()
    }

    /// Reports a key that people may look for here, and that is not supported: it is none of the known ones.
    pub fn refuse(&self, key: &str, message: impl AsRef<str>, fix: impl AsRef<str>) {
        if self.table.get(key).is_some() {
            self.asked.borrow_mut().push(key.to_owned());
            self.error(key, message, fix);
        }
    }

    /// Reports a key that must be there and is not. Answers whether it is there.
    pub fn require(&self, key: &str, fix: &str) -> bool {
        let there = self.has(key);
        if !there {
            self.error(key, "is missing", fix);
        }
        there
    }

    /// All names that have been asked for, in the order of the questions.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    /// Reports every key that no question named, and suggests one that was.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        let known: Vec<&str> = asked.iter().map(String::as_str).collect();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.any_name.get() || known.contains(&name) {
                continue;
            }
            let place = self.document.place(key.span(), self.path_of(name));
            let fix = match closest(name, &known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.document.report(|problems| problems.error(place, "unknown key", fix));
        }
    }

    fn ask(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|known| known == key) {
            asked.push(key.to_owned());
            self.document.asked(&self.path_of(key));
        }
        self.table.get(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn expect<T>(
        &self,
        key: &str,
        expected: &str,
        value: &'d Spanned<DeValue<'d>>,
        cast: impl FnOnce(&'d DeValue<'d>) -> Option<T>,
    ) -> Option<T> {
        let cast = cast(value.get_ref());
        if cast.is_none() {
            self.wrong_type(key, value, expected);
        }
        cast
    }

    /// Names the types and not the value, which may be a secret in the wrong place.
    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        let fix = match value.get_ref() {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if expected == "a string" => {
                "put it in quotes".to_owned()
            }
            DeValue::String(_) if expected == "a whole number" || expected == "true or false" => {
                "write it without quotes".to_owned()
            }
            DeValue::String(_) if expected == "a list of strings" => "put it in brackets: [\"…\"]".to_owned(),
            DeValue::Table(_) => format!("write {key} = … inside [{}]", self.path),
            _ => format!("write {expected}"),
        };
        let place = self.document.place(value.span(), self.path_of(key));
        self.error_at(place, format!("expected {expected}, found {article} {found}"), fix);
    }
}

#[cfg(test)]
mod tests;
