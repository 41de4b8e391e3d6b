//! Timestamps: their text, and the window around the present in which they count.
//!
//! The window has two sides. Old timestamps are refused so that a captured delivery goes stale; timestamps from the
//! future are refused because they would stay valid for as long as they are ahead.

use core::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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
}

/// The longest timestamp text, in bytes: RFC 3339 with nanoseconds and an offset has 35.
const TEXT_LIMIT: usize = 40;

impl Unit {
    /// The name in a scheme table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Rfc3339 => "rfc3339",
        }
    }

    /// Milliseconds since 1970. Numbers are plain digits: no sign, no leading zero, no fraction, because two texts
    /// for one moment are two signed contents for one delivery.
    pub(super) fn parse(self, text: &[u8]) -> Option<i64> {
        if text.len() > TEXT_LIMIT {
            return None;
        }
        match self {
            Self::Seconds => parse_digits(text)?.checked_mul(1000),
            Self::Milliseconds => parse_digits(text),
            Self::Rfc3339 => {
                let moment = OffsetDateTime::parse(core::str::from_utf8(text).ok()?, &Rfc3339).ok()?;
                i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
            }
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
        }
    }
}

fn parse_digits(text: &[u8]) -> Option<i64> {
    if !matches!(text.first(), Some(b'1'..=b'9')) || text.len() > 16 {
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
        assert_eq!(Unit::Seconds.parse(b"99999999999999999999"), None);
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
    fn what_is_formatted_parses() {
        let unix = Duration::from_secs(1_760_000_000);
        for unit in [Unit::Seconds, Unit::Milliseconds, Unit::Rfc3339] {
            assert_eq!(unit.parse(unit.format(unix).unwrap().as_bytes()), Some(1_760_000_000_000));
        }
    }
}
