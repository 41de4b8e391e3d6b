//! What an answer of the application means for a delivery.

use crate::inbox::delivery::DeliveryReason;

/// Statuses after which a delivery is not attempted again, unless the configuration has a list of its own: the
/// application says that it will never take this request. 401, 403, 404 and 405 are not among them, because one bad
/// deployment answers them to everything.
pub const DEAD_ON: [u16; 8] = [400, 410, 413, 414, 415, 422, 431, 501];

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The application answered.
    Answered {
        /// The status code.
        status: u16,
        /// What `Retry-After` asks for, in milliseconds from now.
        retry_after: Option<u64>,
    },
    /// No connection could be made: no byte of the request has left.
    Unreachable,
    /// The answer did not come in time.
    TimedOut,
    /// The connection ended before the answer.
    Closed,
    /// The answer is not HTTP.
    Malformed,
    /// It was given up before a byte of the request left: the process stops, or the route is gone.
    NotSent,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The application has it.
    Done,
    /// It is to be attempted again.
    Again,
    /// The application will never take it.
    Dead,
}

impl AttemptEnd {
    /// What follows, where `dead_on` are the statuses that end it.
    #[must_use]
    pub fn judge(self, dead_on: &[u16]) -> Consequence {
        match self {
            Self::Answered { status: 200..=299, .. } => Consequence::Done,
            Self::Answered { status, .. } if dead_on.contains(&status) => Consequence::Dead,
            _ => Consequence::Again,
        }
    }

    /// Whether the application itself seems to be away or broken, whatever the delivery.
    #[must_use]
    pub const fn speaks_against_application(self) -> bool {
        match self {
            Self::Answered { status, .. } => status >= 500 && status != 501,
            Self::Unreachable | Self::TimedOut | Self::Closed | Self::Malformed => true,
            Self::NotSent => false,
        }
    }

    /// Whether bytes of the request may have arrived, so that it counts as an attempt.
    #[must_use]
    pub const fn counts(self) -> bool {
        !matches!(self, Self::Unreachable | Self::NotSent)
    }

    /// For how long the application wants to be left alone, in milliseconds. Only 429 and 503 say so of everything
    /// (RFC 6585 section 4, RFC 9110 section 15.6.4).
    #[must_use]
    pub const fn quiet(self) -> Option<u64> {
        match self {
            Self::Answered { status: 429 | 503, retry_after } => retry_after,
            _ => None,
        }
    }

    /// What `Retry-After` asks for, whatever the status.
    #[must_use]
    pub const fn retry_after(self) -> Option<u64> {
        match self {
            Self::Answered { retry_after, .. } => retry_after,
            _ => None,
        }
    }

    /// The status of the answer; 0 where there was none.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Answered { status, .. } => status,
            _ => 0,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn reason(self) -> DeliveryReason {
        match self {
            Self::Answered { .. } => DeliveryReason::Refused,
            Self::Unreachable => DeliveryReason::Unreachable,
            Self::TimedOut => DeliveryReason::TimedOut,
            Self::Closed => DeliveryReason::Closed,
            Self::Malformed => DeliveryReason::MalformedAnswer,
            Self::NotSent => DeliveryReason::Interrupted,
        }
    }
}

/// Milliseconds that a `Retry-After` in seconds asks for (RFC 9110 section 10.2.3). Dates are read elsewhere: they need
/// a clock. What has too many digits asks for the greatest time there is.
#[must_use]
pub fn retry_after_seconds(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds =
        digits.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn answered(status: u16) -> AttemptEnd {
        AttemptEnd::Answered { status, retry_after: None }
    }

    #[test]
    fn the_list_of_statuses_decides() {
        for status in 200..=299 {
            assert_eq!(answered(status).judge(&DEAD_ON), Consequence::Done);
        }
        for status in [301, 302, 308, 401, 403, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 507] {
            assert_eq!(answered(status).judge(&DEAD_ON), Consequence::Again, "{status}");
        }
        for status in DEAD_ON {
            assert_eq!(answered(status).judge(&DEAD_ON), Consequence::Dead, "{status}");
            assert_eq!(answered(status).judge(&[]), Consequence::Again, "{status}");
        }
        assert_eq!(answered(200).judge(&[200]), Consequence::Done, "what was accepted is done, whatever the list says");
        for end in [AttemptEnd::Unreachable, AttemptEnd::TimedOut, AttemptEnd::Closed, AttemptEnd::Malformed] {
            assert_eq!(end.judge(&DEAD_ON), Consequence::Again);
            assert!(end.speaks_against_application());
        }
        assert!(!answered(404).speaks_against_application() && answered(500).speaks_against_application());
        assert!(!AttemptEnd::NotSent.speaks_against_application());
    }

    #[test]
    fn attempts_count_when_bytes_went_out() {
        assert!(answered(500).counts() && AttemptEnd::TimedOut.counts() && AttemptEnd::Closed.counts());
        assert!(!AttemptEnd::Unreachable.counts() && !AttemptEnd::NotSent.counts());
    }

    #[test]
    fn retry_after_is_read() {
        let cases: [(&[u8], Option<u64>); 7] = [
            (b"0", Some(0)),
            (b" 120 ", Some(120_000)),
            (b"", None),
            (b"-1", None),
            (b"1.5", None),
            (b"Fri, 31 Dec 1999 23:59:59 GMT", None),
            (b"99999999999999999999999", Some(u64::MAX)),
        ];
        for (value, expected) in cases {
            assert_eq!(retry_after_seconds(value), expected);
        }
        let quiet = |status| AttemptEnd::Answered { status, retry_after: Some(5) }.quiet();
        assert_eq!((quiet(429), quiet(503), quiet(500), quiet(404)), (Some(5), Some(5), None, None));
    }
}
