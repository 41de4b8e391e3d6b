//! Values of a table: text, numbers, quantities with their units, choices, lists, moments.

use core::ops::RangeInclusive;
use core::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::de::DeValue;

use super::Reader;
use crate::config::problem::Place;
use crate::config::suggest::{did_you_mean, quoted_list};
use crate::config::units::{self, NotAQuantity};

impl<'d> Reader<'d> {
    /// A string.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<&'d str> {
        let value = self.ask(key)?;
        self.expect(key, "a string", value, |value| value.as_str())
    }

    /// Whether the value is a list. Marks the key as known.
    #[must_use]
    pub fn is_list(&self, key: &str) -> bool {
        self.ask(key).is_some_and(|value| value.get_ref().as_array().is_some())
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

    /// A whole number inside `range`, for counting things in memory.
    #[must_use]
    pub fn count(&self, key: &str, range: RangeInclusive<u64>) -> Option<usize> {
        self.integer(key, range).and_then(|number| usize::try_from(number).ok())
    }

    /// The same as [`Reader::size`], for sizes in memory.
    #[must_use]
    pub fn bytes(&self, key: &str, range: RangeInclusive<u64>) -> Option<usize> {
        self.size(key, range).and_then(|number| usize::try_from(number).ok())
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

    /// A list of status codes inside `range`.
    #[must_use]
    pub fn statuses(&self, key: &str, range: RangeInclusive<u16>) -> Option<Vec<u16>> {
        let value = self.ask(key)?;
        let array = self.expect(key, "a list of status codes", value, DeValue::as_array)?;
        let mut statuses = Vec::with_capacity(array.len());
        for (position, item) in array.iter().enumerate() {
            let key = format!("{key}[{position}]");
            let number = item.get_ref().as_integer().map(|it| u16::from_str_radix(it.as_str(), it.radix()));
            match number {
                None => self.wrong_type(&key, item, "a status code"),
                Some(Ok(status)) if range.contains(&status) => statuses.push(status),
                Some(_) => {
                    let place = self.document.place(item.span(), self.path_of(&key));
                    let fix = format!("choose a status from {} to {}", range.start(), range.end());
                    self.error_at(place, format!("is no status from {} to {}", range.start(), range.end()), fix);
                }
            }
        }
        (statuses.len() == array.len()).then_some(statuses)
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
