//! Durations and sizes as people write them: a whole number and a unit, never a bare number.

use core::ops::RangeInclusive;
use core::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Seconds of the periods.
const FREQUENCY_UNITS: [(&str, u64); 3] = [("/s", 1), ("/m", 60), ("/h", 3600)];

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAQuantity {
    /// What is wrong with the text.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

/// Reads a duration: a whole number followed by `ms`, `s`, `m` or `h`.
///
/// # Errors
/// [`NotAQuantity`] says what is wrong and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, NotAQuantity> {
    let example = "a whole number and a unit: \"500ms\", \"10s\", \"5m\" or \"1h\"";
    quantity(text, &DURATION_UNITS, "duration", example).map(Duration::from_millis)
}

/// Reads a number of bytes: a whole number followed by `B`, `kB`, `MB`, `GB` (powers of 1000) or `KiB`, `MiB`,
/// `GiB` (powers of 1024).
///
/// # Errors
/// [`NotAQuantity`] says what is wrong and what to write.
pub fn parse_size(text: &str) -> Result<u64, NotAQuantity> {
    let example = "a whole number and a unit: \"4096B\", \"16KiB\", \"1MiB\", or \"64kB\", \"2MB\" for powers of 1000";
    quantity(text, &SIZE_UNITS, "size", example)
}

/// Reads how often something may happen: a whole number and `/s`, `/m` or `/h`. The number, and the period.
///
/// # Errors
/// [`NotAQuantity`] says what is wrong and what to write.
pub fn parse_frequency(text: &str) -> Result<(u64, Duration), NotAQuantity> {
    let example = "a whole number and a unit: \"100/s\", \"600/m\" or \"1000/h\"";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let period = FREQUENCY_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| *seconds);
    match (number.parse(), period) {
        (Ok(number), Some(seconds)) => Ok((number, Duration::from_secs(seconds))),
        _ => Err(NotAQuantity {
            message: format!("\"{}\" is not a rate", shorten(text)),
            fix: format!("write {example}"),
        }),
    }
}

/// Reads a number of bytes a second: a size, and `/s`.
///
/// # Errors
/// [`NotAQuantity`] says what is wrong and what to write.
pub fn parse_speed(text: &str) -> Result<u64, NotAQuantity> {
    let size = text.strip_suffix("/s").and_then(|size| parse_size(size).ok());
    size.ok_or_else(|| NotAQuantity {
        message: format!("\"{}\" is not a number of bytes a second", shorten(text)),
        fix: "write a size and /s: \"1KiB/s\", \"500B/s\"".to_owned(),
    })
}

/// How often something may happen: `100/s`.
#[must_use]
pub fn show_frequency(number: u64, period: Duration) -> String {
    let unit = FREQUENCY_UNITS.iter().find(|(_, seconds)| Duration::from_secs(*seconds) == period);
    match unit {
        Some((unit, _)) => format!("{number}{unit}"),
        None => format!("{number} in {}", show_duration(period)),
    }
}

/// The shortest exact form of a duration, in whole milliseconds: `90s`, `5m`, `500ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &DURATION_UNITS)
}

/// The shortest exact form of a number of bytes in powers of 1024: `16KiB`, `1000B`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    show(bytes, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
}

/// A number of bytes in the largest fitting power of 1024, cut to one decimal: `4.8GiB`.
#[must_use]
pub fn show_size_rounded(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => format!("{}.{}{unit}", bytes / factor, (bytes % factor) * 10 / factor),
        None => format!("{bytes}B"),
    }
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().rev().find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => format!("{}{unit}", amount / factor),
        None => format!("0{}", units.iter().map(|(unit, _)| *unit).find(|unit| *unit != "ms").unwrap_or_default()),
    }
}

fn quantity(text: &str, units: &[(&str, u64)], kind: &str, example: &str) -> Result<u64, NotAQuantity> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let refuse = |message: String, fix: String| Err(NotAQuantity { message, fix });
    let shown = shorten(text);
    if number.is_empty() {
        return refuse(format!("\"{shown}\" is not a {kind}"), format!("write {example}"));
    }
    if unit.is_empty() {
        return refuse(format!("the {kind} \"{shown}\" has no unit"), format!("write {example}"));
    }
    if unit.starts_with(['.', ',']) {
        let fix = format!("write {example}; whole numbers only: a smaller unit makes one");
        return refuse(format!("the {kind} \"{shown}\" is not a whole number"), fix);
    }
    let trimmed = unit.trim_start();
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let near = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(trimmed));
        let fix = near.map_or_else(
            || format!("write {example}"),
            |(name, _)| format!("write \"{number}{name}\", without a space and in this case"),
        );
        return refuse(format!("the {kind} \"{shown}\" has an unknown unit"), fix);
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)) {
        Some(amount) => Ok(amount),
        None => refuse(format!("the {kind} \"{shown}\" is too large to be meant"), format!("write {example}")),
    }
}

/// Bounds of a timeout.
pub(crate) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// A moment, in seconds since 1970, as in RFC 3339.
pub(crate) fn show_instant(seconds: i64) -> String {
    let instant = OffsetDateTime::from_unix_timestamp(seconds).ok();
    instant.and_then(|instant| instant.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}

/// At most 40 characters of a text that goes into a message.
pub(crate) fn shorten(text: &str) -> String {
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { short + "…" } else { short }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn fractions_are_told_to_be_whole_numbers() {
        for wrong in [parse_duration("1.5m").unwrap_err(), parse_size("1,5MiB").unwrap_err()] {
            assert!(wrong.message.contains("not a whole number"), "{}", wrong.message);
            assert!(wrong.fix.contains("whole numbers only"), "{}", wrong.fix);
        }
    }

    #[test]
    fn durations_and_sizes_are_read() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("10s").unwrap(), Duration::from_secs(10));
        assert_eq!(parse_duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(parse_duration("1h").unwrap(), Duration::from_secs(3600));
        assert_eq!(parse_size("4096B").unwrap(), 4096);
        assert_eq!(parse_size("16KiB").unwrap(), 16384);
        assert_eq!(parse_size("2MB").unwrap(), 2_000_000);
        assert_eq!(parse_size("1GiB").unwrap(), 1 << 30);
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["1ms", "999ms", "10s", "90s", "5m", "1h", "0s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["1B", "1000B", "16KiB", "5MiB", "1GiB", "0B"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }

    #[test]
    fn a_quantity_without_a_unit_or_with_a_strange_one_is_refused() {
        for text in ["", "5", "s", "5 s", "5S", "5d", "-5s", "1.5s", "5m30s", "99999999999999999999s", "5s "] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["", "5", "5KB", "5k", "5 KiB", "5kib", "-5B", "18446744073709551615KiB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
        assert!(parse_duration("5").unwrap_err().message.contains("no unit"));
        assert!(parse_size("5kib").unwrap_err().fix.contains("\"5KiB\""));
        assert!(parse_size("5 KB").unwrap_err().fix.contains("\"5kB\""));
    }

    #[test]
    fn rates_and_speeds() {
        for text in ["1/s", "600/m", "0/h", "1000000/h"] {
            let (number, period) = parse_frequency(text).unwrap();
            assert_eq!(show_frequency(number, period), text);
        }
        for text in ["", "5", "/s", "5/d", "5 /s", "5/S", "-5/s", "5/s ", "99999999999999999999/s"] {
            assert!(parse_frequency(text).unwrap_err().fix.contains("100/s"), "{text:?}");
        }
        assert_eq!(parse_speed("1KiB/s").unwrap(), 1024);
        assert_eq!(parse_speed("0B/s").unwrap(), 0);
        for text in ["", "/s", "5/s", "1KiB", "1KiB/m", "1kib/s", "1 KiB/s"] {
            assert!(parse_speed(text).is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_frequency(&text);
            let _ = parse_speed(&text);
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
