//! Timestamps in another unit than the scheme says: what they are by their form, proven where the signature then matches.

use core::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::case::{TriedCase, Visit};
use super::finding::NamedMistake;
use super::mistake::Mistake;
use super::quoted::quoted_start;
use super::spans::shown_span;
use crate::gate::verify::{Part, Template, TimestampSource, Unit, inspect};

/// A time that is farther from the present, in milliseconds, is none that a sender has just taken.
const NEAR: u64 = 366 * 86_400_000;
/// A year, on average.
const YEAR: i128 = 31_556_952_000;
/// So many characters of a timestamp are shown.
const SHOWN: usize = 40;

/// What a text is by its form.
struct ReadTime {
    unit: &'static str,
    /// Milliseconds since 1970.
    millis: i64,
}

/// The timestamp in another unit, where it then is of the present.
pub(super) fn units(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let Some((text, read)) = other_unit(case) else { return false };
    // The text is signed as it stands, whatever it means.
    let scheme = case.changed_scheme(|scheme| {
        let parts = scheme.content.parts().iter();
        let parts = parts.map(|part| match part {
            Part::Timestamp => Part::Literal(text.clone()),
            part => part.clone(),
        });
        scheme.content = Template::of(parts.collect());
        scheme.timestamp = None;
    });
    let Some(details) = details(case, &text, &read) else { return false };
    let [unit, wanted, readings] = &details;
    visit(TriedCase { scheme: &scheme, ..case }, Mistake::TimeUnit, &[unit, wanted, readings])
}

/// The same where the signature does not match either.
pub(super) fn looks_of_unit(case: TriedCase<'_>) -> Option<NamedMistake> {
    let (text, read) = other_unit(case)?;
    let [unit, wanted, readings] = &details(case, &text, &read)?;
    Some(NamedMistake::new(Mistake::TimeUnitLooks, &[unit, wanted, readings]))
}

/// The moment that a timestamp in another unit means, in milliseconds since 1970.
pub(super) fn moment_in_other_unit(case: TriedCase<'_>) -> Option<i64> {
    other_unit(case).map(|(_, read)| read.millis)
}

/// The text of the timestamp, with what it is where that is of the present and not of the unit of the scheme.
fn other_unit(case: TriedCase<'_>) -> Option<(Vec<u8>, ReadTime)> {
    let timestamp = case.scheme.timestamp.as_ref()?;
    if timestamp.source.is_in_body() && !case.pays(2) {
        return None;
    }
    let text = inspect::timestamp_text(case.scheme, &timestamp.source, &case.seen).ok()??;
    if timestamp.unit.parse(&text).is_some() {
        return None;
    }
    let read = read(&text)?;
    let now = case.known.now.unix_millis();
    (now.abs_diff(read.millis) < NEAR).then_some((text, read))
}

fn read(text: &[u8]) -> Option<ReadTime> {
    let bare = text.trim_ascii();
    let (whole, fraction) = match bare.iter().position(|byte| *byte == b'.') {
        Some(dot) => (bare.get(..dot)?, bare.get(dot + 1..)?),
        None => (bare, &b""[..]),
    };
    let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit) && !text.is_empty();
    if is_number(whole) && (fraction.is_empty() || is_number(fraction)) {
        let number: i128 = core::str::from_utf8(whole).ok()?.parse().ok()?;
        let (unit, millis) = match whole.len() {
            9..=11 if !fraction.is_empty() => ("seconds with a fraction", number * 1000),
            9..=11 => ("seconds", number * 1000),
            12..=14 if !fraction.is_empty() => ("milliseconds with a fraction", number),
            12..=14 => ("milliseconds", number),
            15..=17 => ("microseconds", number / 1000),
            18..=20 => ("nanoseconds", number / 1_000_000),
            _ => return None,
        };
        return Some(ReadTime { unit, millis: i64::try_from(millis).ok()? });
    }
    let spaced: Vec<u8> = bare.iter().map(|byte| if *byte == b' ' { b'T' } else { *byte }).collect();
    let forms: [(Unit, &[u8], &str); 5] = [
        (Unit::Rfc3339, bare, "RFC 3339"),
        (Unit::Iso8601, bare, "ISO 8601 without an offset"),
        (Unit::HttpDate, bare, "the date of HTTP"),
        (Unit::Rfc3339, &spaced, "RFC 3339 with a space"),
        (Unit::Iso8601, &spaced, "ISO 8601 with a space"),
    ];
    forms.iter().find_map(|(unit, text, name)| Some(ReadTime { unit: name, millis: unit.parse(text)? }))
}

/// The unit that it is in, the one that the scheme wants, and both readings.
fn details(case: TriedCase<'_>, text: &[u8], read: &ReadTime) -> Option<[String; 3]> {
    let now = case.known.now.unix_millis();
    let moment = OffsetDateTime::from_unix_timestamp(read.millis.div_euclid(1000)).ok()?.format(&Rfc3339).ok()?;
    let (unit, wanted) = (case.scheme.timestamp.as_ref()?.unit, read.unit);
    let own = name(unit);
    let other = match as_number(unit, text) {
        Some(millis) => format!("as {own} {}", apart(millis - i128::from(now))),
        None => format!("as {own} it cannot be read"),
    };
    let shown = quoted_start(text, SHOWN);
    let here = apart(i128::from(read.millis) - i128::from(now));
    Some([wanted.to_owned(), own.to_owned(), format!("`{shown}` is {moment} as {wanted} ({here}), and {other}")])
}

/// The number as one of this unit, however many digits it has.
fn as_number(unit: Unit, text: &[u8]) -> Option<i128> {
    let number: i128 = core::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?;
    match unit {
        Unit::Seconds => number.checked_mul(1000),
        Unit::Milliseconds => Some(number),
        Unit::Rfc3339 | Unit::HttpDate | Unit::Iso8601 => None,
    }
}

/// What is wrong with a timestamp that is none in the unit of the scheme.
pub(super) fn wrong_time(case: TriedCase<'_>, timestamp: &TimestampSource) -> String {
    let unit = name(timestamp.unit);
    let text = inspect::timestamp_text(case.scheme, &timestamp.source, &case.seen).ok().flatten();
    let Some(text) = text.filter(|text| !text.is_empty()) else { return format!("cannot be read as {unit}") };
    let shown = quoted_start(&text, SHOWN);
    let Some(millis) = as_number(timestamp.unit, &text) else {
        return match timestamp.unit {
            Unit::Seconds | Unit::Milliseconds => {
                format!("is `{shown}`, which is no whole number of {unit} since 1970")
            }
            _ => format!("is `{shown}`, which cannot be read as {unit}"),
        };
    };
    let moment =
        i64::try_from(millis.div_euclid(1000)).ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    match moment.and_then(|moment| moment.format(&Rfc3339).ok()) {
        Some(moment) => {
            let apart = apart(millis - i128::from(case.known.now.unix_millis()));
            format!("is `{shown}`, which as {unit} is {moment} ({apart}): no delivery is sent at such a time")
        }
        None => format!("is `{shown}`, which as {unit} is outside of the years 0 to 9999"),
    }
}

const fn name(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "seconds",
        Unit::Milliseconds => "milliseconds",
        Unit::Rfc3339 => "RFC 3339",
        Unit::HttpDate => "the date of HTTP",
        Unit::Iso8601 => "ISO 8601 without an offset",
    }
}

/// How far from the present, in milliseconds.
fn apart(distance: i128) -> String {
    let years = distance.unsigned_abs() / YEAR.unsigned_abs();
    let span = match u64::try_from(distance.unsigned_abs()) {
        Ok(millis) if years < 2 => shown_span(Duration::from_secs(millis / 1000)),
        _ => format!("{years} years"),
    };
    format!("{span} {}", if distance > 0 { "in the future" } else { "old" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_is_known_by_its_form() {
        for (text, unit) in [
            ("1760000000", "seconds"),
            ("1760000000.5", "seconds with a fraction"),
            ("1760000000000", "milliseconds"),
            ("1760000000000000", "microseconds"),
            ("1760000000000000000", "nanoseconds"),
            ("2025-10-09T08:53:20Z", "RFC 3339"),
            ("2025-10-09 08:53:20", "ISO 8601 with a space"),
            ("Thu, 09 Oct 2025 08:53:20 GMT", "the date of HTTP"),
        ] {
            let read = read(text.as_bytes()).unwrap();
            assert_eq!((read.unit, read.millis), (unit, 1_760_000_000_000), "{text}");
        }
        for text in ["", ".", "1.", "-5", "1e9", "yesterday", "99999999999999999999999999999999999999999999"] {
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
        assert_eq!(apart(1000 * 3600 * 24 * 365 * 5), "4 years in the future");
        assert_eq!(apart(-61_000), "1 min 1 s old");
    }
}
