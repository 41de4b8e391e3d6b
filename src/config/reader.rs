//! A typed walk over a TOML document that knows where everything stands and reports every mistake at once.
//!
//! Derived serde mirrors are not used here: they stop at the first value of the wrong type and know no line for a
//! value that is well-typed but out of range. A [`Reader`] stands on one table. Each question about a key marks the
//! key as known, answers `None` for a key that is absent, and for a key of the wrong type or range reports a problem
//! and answers `None` too. [`Reader::finish`] reports the keys that nobody asked for.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::document::Document;
use crate::config::problem::Place;
use crate::config::suggest::quoted_list;
pub use crate::config::suggest::{closest, did_you_mean};
use crate::config::units::{self, NotAQuantity};

/// Stands on one table of a [`Document`].
#[must_use = "call finish(), which reports the keys that nobody asked for"]
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

impl<'d> Reader<'d> {
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

    /// Reports a key that must be there and is not. Answers whether it is there.
    pub fn require(&self, key: &str, fix: &str) -> bool {
        let there = self.has(key);
        if !there {
            self.error(key, "is missing", fix);
        }
        there
    }

    /// A string.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<&'d str> {
        let value = self.ask(key)?;
        self.expect(key, "a string", value, |value| value.as_str())
    }

    /// `true` or `false`.
    #[must_use]
    pub fn bool(&self, key: &str) -> Option<bool> {
        let value = self.ask(key)?;
        self.expect(key, "true or false", value, DeValue::as_bool)
    }

    /// A whole number inside `range`.
    #[must_use]
    pub fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.ask(key)?;
        let integer = self.expect(key, "a whole number", value, DeValue::as_integer)?;
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                let message = format!("{} is out of range", units::shorten(&integer.to_string()));
                self.error(key, message, format!("choose a number from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// A duration with its unit ("10s", "500ms", "5m", "1h") inside `range`.
    #[must_use]
    pub fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.quantity(key, range, "a duration like \"10s\"", units::parse_duration, |d| units::show_duration(*d))
    }

    /// A number of bytes with its unit ("16KiB", "1MiB", "4096B") inside `range`.
    #[must_use]
    pub fn size(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.quantity(key, range, "a size like \"16KiB\"", units::parse_size, |size| units::show_size(*size))
    }

    /// A number of bytes a second with its unit ("1KiB/s") inside `range`.
    #[must_use]
    pub fn speed(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let show = |speed: &u64| format!("{}/s", units::show_size(*speed));
        self.quantity(key, range, "a number of bytes a second like \"1KiB/s\"", units::parse_speed, show)
    }

    /// How often ("100/s", "600/m", "1000/h"): a number inside `range`, and its period.
    #[must_use]
    pub fn frequency(&self, key: &str, range: RangeInclusive<u64>) -> Option<(u64, Duration)> {
        let all = (0, Duration::ZERO)..=(u64::MAX, Duration::MAX);
        let show = |(number, period): &(u64, Duration)| units::show_frequency(*number, *period);
        let read = self.quantity(key, all, "a rate like \"100/s\"", units::parse_frequency, show)?;
        if !range.contains(&read.0) {
            let fix = format!("choose a number from {} to {}", range.start(), range.end());
            self.error(key, format!("{} is out of range", show(&read)), fix);
            return None;
        }
        Some(read)
    }

    /// One of the named choices.
    #[must_use]
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string(key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let message = format!("\"{}\" is not one of the choices", units::shorten(text));
        self.error(key, message, format!("{}choose {}", did_you_mean(text, &names), quoted_list(&names)));
        None
    }

    /// A list of strings.
    #[must_use]
    pub fn strings(&self, key: &str) -> Option<Vec<&'d str>> {
        let value = self.ask(key)?;
        let array = self.expect(key, "a list of strings", value, DeValue::as_array)?;
        let mut strings = Vec::with_capacity(array.len());
        for (position, item) in array.iter().enumerate() {
            match item.get_ref().as_str() {
                Some(text) => strings.push(text),
                None => self.wrong_type(&format!("{key}[{position}]"), item, "a string"),
            }
        }
        (strings.len() == array.len()).then_some(strings)
    }

    /// A list of strings, each with its own place.
    #[must_use]
    pub fn placed_strings(&self, key: &str) -> Option<Vec<(&'d str, Place)>> {
        let strings = self.strings(key)?;
        let items = self.table.get(key).and_then(|value| value.get_ref().as_array()).into_iter().flatten();
        let places = items
            .enumerate()
            .map(|(position, item)| self.document.place(item.span(), self.path_of(&format!("{key}[{position}]"))));
        Some(strings.into_iter().zip(places).collect())
    }

    /// A string, or a list of strings.
    #[must_use]
    pub fn one_or_more(&self, key: &str) -> Option<Vec<&'d str>> {
        match self.ask(key)?.get_ref() {
            DeValue::String(text) => Some(vec![text]),
            DeValue::Array(_) => self.strings(key),
            _ => {
                let value = self.ask(key)?;
                self.wrong_type(key, value, "a string or a list of strings");
                None
            }
        }
    }

    /// An instant: a TOML date-time with offset, or a string as in RFC 3339. Seconds since 1970; fractions are cut.
    #[must_use]
    pub fn datetime(&self, key: &str) -> Option<i64> {
        let value = self.ask(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(datetime) => {
                let mut whole = *datetime;
                // TOML lets the seconds be left out, RFC 3339 does not.
                whole.time.iter_mut().for_each(|time| _ = time.second.get_or_insert(0));
                whole.to_string()
            }
            _ => {
                self.wrong_type(key, value, "a date and time");
                return None;
            }
        };
        match OffsetDateTime::parse(&text, &Rfc3339) {
            Ok(instant) => Some(instant.unix_timestamp()),
            Err(_) => {
                // Whatever else stands there may be a secret.
                let is_dated = text.bytes().all(|byte| byte.is_ascii_digit() || b"-+:.TtZz ".contains(&byte));
                let shown = if is_dated { format!("\"{}\"", units::shorten(&text)) } else { "this".to_owned() };
                self.error(
                    key,
                    format!("{shown} is not a date and time with an offset"),
                    "write it like 2026-11-24T00:00:00Z (RFC 3339)",
                );
                None
            }
        }
    }

    /// A table.
    #[must_use]
    pub fn table(&self, key: &str) -> Option<Self> {
        let value = self.ask(key)?;
        let table = self.expect(key, "a table", value, DeValue::as_table)?;
        Some(Self::new(self.document, table, value.span(), self.path_of(key)))
    }

    /// A list of tables; `None` when the key is absent or not a list. Items of another type are reported and left
    /// out.
    #[must_use]
    pub fn tables(&self, key: &str) -> Option<Vec<Self>> {
        self.tables_like(key, "")
    }

    /// The same, with an example of the whole for whoever has written something else; it may be empty.
    #[must_use]
    pub fn tables_like(&self, key: &str, example: &str) -> Option<Vec<Self>> {
        let value = self.ask(key)?;
        let instead = value.get_ref().as_array().is_none_or(|list| list.iter().any(|it| !it.get_ref().is_table()));
        if instead && !example.is_empty() {
            // Names the types and not the value, which may be a secret in the wrong place.
            let found =
                if value.get_ref().is_array() { "a list of something else" } else { value.get_ref().type_str() };
            let message = format!("expected a list of tables, found {found}");
            self.error(key, message, format!("write {example}"));
            return None;
        }
        if value.get_ref().is_table() {
            let fix = format!("write [[{key}]] with two brackets, or {key} = [{{ … }}]");
            self.error(key, "expected a list of tables, found one table", fix);
            return None;
        }
        let array = self.expect(key, "a list of tables", value, DeValue::as_array)?;
        let mut readers = Vec::with_capacity(array.len());
        for (position, item) in array.iter().enumerate() {
            let key = format!("{key}[{position}]");
            match item.get_ref().as_table() {
                Some(table) => readers.push(Self::new(self.document, table, item.span(), self.path_of(&key))),
                None => self.wrong_type(&key, item, "a table"),
            }
        }
        Some(readers)
    }

    /// The tables inside this one, whatever their names (as in `[scheme.NAME]`). Marks all keys as known.
    #[must_use]
    pub fn named_tables(&self) -> Vec<(&'d str, Self)> {
        self.any_name.set(true);
        let mut readers = Vec::with_capacity(self.table.len());
        for (key, value) in self.table.iter() {
            let name: &'d str = key.get_ref();
            if let Some(table) = self.expect(name, "a table", value, DeValue::as_table) {
                readers.push((name, Self::new(self.document, table, value.span(), self.path_of(name))));
            }
        }
        readers
    }

    /// All names that have been asked for, in the order of the questions.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    /// Reports every key that nobody asked for, and suggests one that was.
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

    fn quantity<T: PartialOrd>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, NotAQuantity>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let value = self.ask(key)?;
        if let DeValue::Integer(number) = value.get_ref() {
            let message = format!("{} has no unit", units::shorten(&number.to_string()));
            self.error(key, message, format!("write {expected}, in quotes and with a unit"));
            return None;
        }
        let text = self.expect(key, expected, value, |value| value.as_str())?;
        match parse(text) {
            Ok(amount) if range.contains(&amount) => return Some(amount),
            Ok(amount) => {
                let fix = format!("choose from {} to {}", show(range.start()), show(range.end()));
                self.error(key, format!("{} is out of range", show(&amount)), fix);
            }
            Err(wrong) => self.error(key, wrong.message, wrong.fix),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn problems_of(text: &str, read: impl FnOnce(&Reader<'_>)) -> Vec<String> {
        let document = Document::parse("test.toml", text).unwrap();
        let reader = document.root();
        read(&reader);
        reader.finish();
        let mut problems = document.into_problems();
        problems.sort();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_of_every_type_are_read() {
        let text = "s = 'x'\nb = true\ni = 0x10\nd = '5m'\nz = '16KiB'\nl = ['a', 'b']\no = 'one'\n\
                    t = 2026-11-24T00:00:00Z\nu = '2026-11-24T01:00:00+01:00'\nv = 2026-11-24T00:00Z\n\
                    [n]\nk = 1\n[[a]]\nk = 1\n[[a]]\nk = 2\n";
        let problems = problems_of(text, |reader| {
            assert_eq!(reader.string("s"), Some("x"));
            assert_eq!(reader.bool("b"), Some(true));
            assert_eq!(reader.integer("i", 0..=16), Some(16));
            assert_eq!(reader.duration("d", Duration::ZERO..=Duration::MAX), Some(Duration::from_secs(300)));
            assert_eq!(reader.size("z", 0..=u64::MAX), Some(16384));
            assert_eq!(reader.strings("l"), Some(vec!["a", "b"]));
            assert_eq!(reader.one_or_more("l"), Some(vec!["a", "b"]));
            assert_eq!(reader.one_or_more("s"), Some(vec!["x"]));
            assert_eq!(reader.choice("o", &[("one", 1), ("two", 2)]), Some(1));
            assert_eq!(reader.datetime("t"), Some(1_795_478_400));
            assert_eq!(reader.datetime("u"), Some(1_795_478_400));
            assert_eq!(reader.datetime("v"), Some(1_795_478_400));
            assert_eq!(reader.string("absent"), None);
            let table = reader.table("n").unwrap();
            assert_eq!(table.integer("k", 0..=9), Some(1));
            table.finish();
            let tables = reader.tables("a").unwrap();
            assert_eq!(tables.iter().map(|t| t.integer("k", 0..=9).unwrap()).collect::<Vec<_>>(), [1, 2]);
            tables.into_iter().for_each(Reader::finish);
        });
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_reported_in_one_run_with_its_place() {
        let text =
            "s = 1\nb = 'x'\ni = 99\nd = 5\nz = '1KB'\nl = ['a', 2]\no = 'tow'\n  t = 2026-11-24\n[n]\nvalu = 1\n";
        let problems = problems_of(text, |reader| {
            assert_eq!(reader.string("s"), None);
            assert_eq!(reader.bool("b"), None);
            assert_eq!(reader.integer("i", 0..=16), None);
            assert_eq!(reader.duration("d", Duration::ZERO..=Duration::MAX), None);
            assert_eq!(reader.size("z", 0..=u64::MAX), None);
            assert_eq!(reader.strings("l"), None);
            assert_eq!(reader.choice("o", &[("one", 1), ("two", 2)]), None);
            assert_eq!(reader.datetime("t"), None);
            let table = reader.table("n").unwrap();
            assert_eq!(table.string("value"), None);
            table.finish();
            assert!(reader.failed());
        });
        let starts = [
            "test.toml:1:5: error: s: expected a string, found an integer",
            "test.toml:2:5: error: b: expected true or false, found a string",
            "test.toml:3:5: error: i: 99 is out of range\n    fix: choose a number from 0 to 16",
            "test.toml:4:5: error: d: 5 has no unit",
            "test.toml:5:5: error: z: the size \"1KB\" has an unknown unit\n    fix: write \"1kB\"",
            "test.toml:6:11: error: l[1]: expected a string, found an integer",
            "test.toml:7:5: error: o: \"tow\" is not one of the choices\n    fix: did you mean \"two\"? Or choose \"one\" or",
            "test.toml:8:7: error: t: \"2026-11-24\" is not a date and time",
            "test.toml:10:1: error: n.valu: unknown key\n    fix: did you mean \"value\"?",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}\n{start}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_quoted() {
        let problems = problems_of("secret = 123456789\nflag = 'hunter2hunter2'", |reader| {
            assert_eq!(reader.string("secret"), None);
            assert_eq!(reader.bool("flag"), None);
        });
        assert_eq!(problems.len(), 2);
        assert!(problems.iter().all(|problem| !problem.contains("123456789") && !problem.contains("hunter2")));
    }

    #[test]
    fn one_table_is_not_a_list_of_tables() {
        let problems = problems_of("[route]\npath = '/'\n", |reader| assert!(reader.tables("route").is_none()));
        assert!(problems[0].contains("[[route]]"), "{problems:?}");
    }
}
