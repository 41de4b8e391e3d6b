//! Time as a value.
//!
//! Every decision takes `now` as a parameter; the only clocks are read in `edge/runtime/clock.rs` and in the commands of
//! `cli`. That is what makes tolerance, rotation and expiry testable without waiting.

use core::time::Duration;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the start of the process; never goes backwards. For deadlines and rates.
    pub monotonic: Duration,
    /// Since 1970-01-01T00:00:00Z. For everything that is compared with a sender's timestamp.
    pub unix: Duration,
}

impl Now {
    /// A reading for offline use, where only the wall clock matters.
    #[must_use]
    pub const fn at_unix(unix: Duration) -> Self {
        Self { monotonic: Duration::ZERO, unix }
    }

    /// Milliseconds since 1970, saturating at `i64::MAX`.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        i64::try_from(self.unix.as_millis()).unwrap_or(i64::MAX)
    }
}
