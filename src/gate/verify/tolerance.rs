//! Timestamps: their text, and the window around the present in which they count.
//!
//! The window has two sides. Old timestamps are refused so that a captured delivery goes stale; timestamps from the
//! future are refused because they would stay valid for as long as they are ahead.

use core::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

use super::bytes::ByteSet;
use crate::now::Now;
use crate::outcome::Rejection;

/// How a timestamp is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Decimal seconds since 1970.
    Seconds,
    /// Decimal milliseconds since 1970.
    Milliseconds,
    /// RFC 3339 text, with any offset and any precision.
    Rfc3339,
    /// The date of HTTP: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7; the obsolete forms are none).
    HttpDate,
    /// RFC 3339 text without an offset, in UTC: `2024-03-27T15:42:29.551`.
    Iso8601,
}

/// The longest timestamp text, in bytes: RFC 3339 with nanoseconds and an offset has 35.
const TEXT_LIMIT: usize = 40;

/// How many digits seconds since 1970 have.
const SECONDS_LENGTH: usize = 10;

/// How many digits milliseconds since 1970 have.
const MILLISECONDS_LENGTH: usize = 13;

/// The part of an RFC 3339 text whose length is fixed: `0` stands for a digit.
const RFC3339_MOMENT: &[u8; 19] = b"0000-00-00T00:00:00";

/// The date of HTTP: `0` stands for a digit, `a` for a letter.
const HTTP_DATE: &[u8; 29] = b"aaa, 00 aaa 0000 00:00:00 GMT";

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl Unit {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Seconds, Self::Milliseconds, Self::Rfc3339, Self::HttpDate, Self::Iso8601];

    /// Whether every timestamp has the same length.
    pub(super) const fn is_fixed_length(self) -> bool {
        matches!(self, Self::Seconds | Self::Milliseconds | Self::HttpDate)
    }

    /// What can stand behind the first places of a timestamp of this unit; nothing where its end shows by itself.
    pub(super) const fn tail(self) -> Option<ByteSet> {
        match self {
            Self::Iso8601 => Some(ByteSet::DIGITS.or(ByteSet::of(b"."))),
            Self::Seconds | Self::Milliseconds | Self::Rfc3339 | Self::HttpDate => None,
        }
    }

    /// What stands at the first places of a timestamp in every delivery: all of it for numbers.
    pub(super) fn lead(self) -> Vec<ByteSet> {
        match self {
            Self::Seconds => vec![ByteSet::DIGITS; SECONDS_LENGTH],
            Self::Milliseconds => vec![ByteSet::DIGITS; MILLISECONDS_LENGTH],
            Self::Rfc3339 | Self::Iso8601 => {
                let at = |form: &u8| match form {
                    b'0' => ByteSet::DIGITS,
                    b'T' => ByteSet::of(b"Tt"),
                    form => ByteSet::of(&[*form]),
                };
                RFC3339_MOMENT.iter().map(at).collect()
            }
            Self::HttpDate => {
                let at = |form: &u8| match form {
                    b'0' => ByteSet::DIGITS,
                    b'a' => ByteSet::range(b'A', b'Z').or(ByteSet::range(b'a', b'z')),
                    form => ByteSet::of(&[*form]),
                };
                HTTP_DATE.iter().map(at).collect()
            }
        }
    }

    /// The name in a scheme table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Rfc3339 => "rfc3339",
            Self::HttpDate => "http-date",
            Self::Iso8601 => "iso8601",
        }
    }

    /// Milliseconds since 1970. Numbers are plain digits: no sign, no leading zero, no fraction, because two texts
    /// for one moment are two signed contents for one delivery. They have one length for the next centuries (from 2001
    /// to 2286), so that no digit can move between a timestamp and what stands next to it.
    pub(crate) fn parse(self, text: &[u8]) -> Option<i64> {
        match self {
            Self::Seconds => parse_digits(text, SECONDS_LENGTH)?.checked_mul(1000),
            Self::Milliseconds => parse_digits(text, MILLISECONDS_LENGTH),
            Self::Rfc3339 => {
                if text.len() > TEXT_LIMIT || !is_rfc3339(text) {
                    return None;
                }
                let moment = OffsetDateTime::parse(core::str::from_utf8(text).ok()?, &Rfc3339).ok()?;
                i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
            }
            Self::Iso8601 => Self::Rfc3339.parse(&[text.get(..TEXT_LIMIT.min(text.len()))?, b"Z"].concat()),
            Self::HttpDate => parse_http_date(text)?.unix_timestamp().checked_mul(1000),
        }
    }

    /// How a sender writes this moment.
    pub(super) fn format(self, unix: Duration) -> Option<String> {
        match self {
            Self::Seconds => Some(unix.as_secs().to_string()),
            Self::Milliseconds => Some(unix.as_millis().to_string()),
            Self::Rfc3339 => {
                let moment = OffsetDateTime::from_unix_timestamp(i64::try_from(unix.as_secs()).ok()?).ok()?;
                moment.format(&Rfc3339).ok()
            }
            Self::Iso8601 => Self::Rfc3339.format(unix).map(|text| text.trim_end_matches('Z').to_owned()),
            Self::HttpDate => {
                let at = OffsetDateTime::from_unix_timestamp(i64::try_from(unix.as_secs()).ok()?).ok()?;
                let (day, month) = (at.weekday().to_string(), at.month().to_string());
                let clock = format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
                Some(format!("{}, {:02} {} {:04} {clock} GMT", day.get(..3)?, at.day(), month.get(..3)?, at.year()))
            }
        }
    }
}

/// The moment of a date of HTTP. The day of the week must be one, and need not be that of the date.
fn parse_http_date(text: &[u8]) -> Option<OffsetDateTime> {
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'a' => byte.is_ascii_alphabetic(),
        form => byte == form,
    };
    if text.len() != HTTP_DATE.len() || !text.iter().zip(HTTP_DATE).all(fits) {
        return None;
    }
    let number = |at: core::ops::Range<usize>| core::str::from_utf8(text.get(at)?).ok()?.parse::<u16>().ok();
    let two = |at: usize| u8::try_from(number(at..at + 2)?).ok();
    let month = text.get(8..11)?;
    let month = u8::try_from(MONTHS.iter().position(|name| name.as_slice() == month)? + 1).ok()?;
    let date = Date::from_calendar_date(i32::from(number(12..16)?), Month::try_from(month).ok()?, two(5)?).ok()?;
    Some(date.with_hms(two(17)?, two(20)?, two(23)?).ok()?.assume_utc())
}

/// Whether `text` has the form of RFC 3339, section 5.6, with a year of four digits. No text of this form is the
/// beginning or the end of another one: it ends with the offset, and three numbers with hyphens stand only at its
/// beginning.
fn is_rfc3339(text: &[u8]) -> bool {
    let Some((moment, rest)) = text.split_at_checked(RFC3339_MOMENT.len()) else { return false };
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't'),
        form => byte == form,
    };
    let offset = match rest.split_first() {
        Some((b'.', fraction)) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            fraction.get(digits..).filter(|_| digits > 0).unwrap_or_default()
        }
        _ => rest,
    };
    moment.iter().zip(RFC3339_MOMENT).all(fits)
        && match offset {
            [b'Z' | b'z'] => true,
            [b'+' | b'-', hours @ .., b':', m, n] => {
                hours.len() == 2 && hours.iter().chain([m, n]).all(u8::is_ascii_digit)
            }
            _ => false,
        }
}

fn parse_digits(text: &[u8], length: usize) -> Option<i64> {
    if !matches!(text.first(), Some(b'1'..=b'9')) || text.len() != length {
        return None;
    }
    text.iter().try_fold(0_i64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// How far a timestamp may be from the present, on either side, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance(Duration);

impl Tolerance {
    /// The same distance into the past and the future.
    #[must_use]
    pub const fn new(distance: Duration) -> Self {
        Self(distance)
    }

    /// The distance.
    #[must_use]
    pub const fn distance(self) -> Duration {
        self.0
    }

    /// Refuses a timestamp (unix milliseconds) outside of the window around `now`.
    ///
    /// # Errors
    /// [`Rejection::TimestampStale`] or [`Rejection::TimestampFuture`].
    pub fn judge(self, timestamp: i64, now: Now) -> Result<(), Rejection> {
        let distance = i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX);
        let age = now.unix_millis().saturating_sub(timestamp);
        if age > distance {
            Err(Rejection::TimestampStale)
        } else if age < -distance {
            Err(Rejection::TimestampFuture)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_window_is_inclusive_on_both_sides() {
        let tolerance = Tolerance::new(Duration::from_secs(300));
        let now = Now::at_unix(Duration::from_secs(1_760_000_000));
        let at = |offset: i64| tolerance.judge(1_760_000_000_000 + offset, now);
        assert_eq!(at(-300_000), Ok(()));
        assert_eq!(at(300_000), Ok(()));
        assert_eq!(at(-300_001), Err(Rejection::TimestampStale));
        assert_eq!(at(300_001), Err(Rejection::TimestampFuture));
        assert_eq!(tolerance.judge(i64::MIN, now), Err(Rejection::TimestampStale));
        assert_eq!(tolerance.judge(i64::MAX, now), Err(Rejection::TimestampFuture));
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(Unit::Seconds.parse(b"1760000000"), Some(1_760_000_000_000));
        assert_eq!(Unit::Milliseconds.parse(b"1760000000123"), Some(1_760_000_000_123));
        for text in ["", "0", "01760000000", "+1760000000", "-1760000000", "1760000000.0", " 1760000000", "1e9", "soon"]
        {
            assert_eq!(Unit::Seconds.parse(text.as_bytes()), None, "{text:?}");
            assert_eq!(Unit::Milliseconds.parse(text.as_bytes()), None, "{text:?}");
        }
        // Another length would be another place where the next part begins.
        for text in ["999999999", "17600000000", "1760000000123", "99999999999999999999"] {
            assert_eq!(Unit::Seconds.parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["1760000000", "176000000012", "17600000001234"] {
            assert_eq!(Unit::Milliseconds.parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn rfc3339_has_offsets_and_fractions() {
        assert_eq!(Unit::Rfc3339.parse(b"2025-10-09T08:53:20Z"), Some(1_760_000_000_000));
        assert_eq!(Unit::Rfc3339.parse(b"2025-10-09T10:53:20.123456789+02:00"), Some(1_760_000_000_123));
        for text in ["2025-10-09", "2025-10-09T08:53:20", "1760000000", "12025-10-09T08:53:20Z", "\u{ff}"] {
            assert_eq!(Unit::Rfc3339.parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn no_rfc3339_begins_or_ends_with_another() {
        let texts = [
            "2025-10-09T08:53:20Z",
            "2025-10-09t08:53:20.5z",
            "2025-10-09T08:53:20.2025+02:00",
            "2025-10-09T08:53:20-07:00",
        ];
        for text in texts {
            assert!(is_rfc3339(text.as_bytes()) && Unit::Rfc3339.parse(text.as_bytes()).is_some(), "{text}");
            for cut in 1..text.len() {
                let (left, right) = text.split_at(cut);
                assert!(!is_rfc3339(left.as_bytes()) && !is_rfc3339(right.as_bytes()), "{left} {right}");
            }
        }
        for text in
            ["2025-10-09 08:53:20Z", "2025-10-09T08:53:20.Z", "2025-10-09T08:53:20+0200", "2025-10-09T08:53:20Zz"]
        {
            assert!(!is_rfc3339(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_formatted_parses() {
        let unix = Duration::from_secs(1_760_000_000);
        assert_eq!(Unit::Iso8601.parse(b"2025-10-09T08:53:20.551"), Some(1_760_000_000_551));
        for text in ["2025-10-09T08:53:20Z", "2025-10-09T08:53:20+00:00", "2025-10-09T08:53:20.", "2025-10-09 08:53:20"]
        {
            assert_eq!(Unit::Iso8601.parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Unit::HttpDate.parse(b"Thu, 09 Oct 2025 08:53:20 GMT"), Some(1_760_000_000_000));
        for text in [
            "Thu, 9 Oct 2025 08:53:20 GMT",
            "Thu, 09 Okt 2025 08:53:20 GMT",
            "Thu, 31 Feb 2025 08:53:20 GMT",
            "Thu, 09 Oct 2025 24:53:20 GMT",
            "Thursday, 09-Oct-25 08:53:20 GMT",
            "Thu, 09 Oct 2025 08:53:20 UTC",
        ] {
            assert_eq!(Unit::HttpDate.parse(text.as_bytes()), None, "{text}");
        }
        for unit in Unit::ALL {
            assert_eq!(unit.parse(unit.format(unix).unwrap().as_bytes()), Some(1_760_000_000_000));
        }
    }
}
