//! The only place that reads the clocks of a running proxy.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::now::Now;

/// Both clocks, with a common origin for every worker of the process.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic origin is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock room")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock room")]
    pub fn now(&self) -> Now {
        Now {
            monotonic: self.origin.elapsed(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
        }
    }

    /// Reads the monotonic clock alone.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The instant at which the monotonic clock reads `monotonic`.
    #[must_use]
    pub fn instant(&self, monotonic: Duration) -> Instant {
        self.origin + monotonic
    }
}

/// The `Date` header of our own answers, formatted at most once a second.
#[derive(Debug, Default)]
pub struct DateLine {
    second: Cell<u64>,
    text: Cell<[u8; 29]>,
}

impl DateLine {
    /// RFC 9110 section 5.6.7 (IMF-fixdate) for `now`.
    #[must_use]
    pub fn at(&self, now: Now) -> [u8; 29] {
        let second = now.unix.as_secs();
        if self.second.get() != second {
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            let mut text = [0; 29];
            if write!(text.as_mut_slice(), "{date}").is_ok() {
                self.text.set(text);
                self.second.set(second);
            }
        }
        self.text.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_an_imf_fixdate_and_moves_with_the_second() {
        let date = DateLine::default();
        assert_eq!(&date.at(Now::at_unix(Duration::from_secs(784_111_777))), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date.at(Now::at_unix(Duration::from_secs(784_111_778))), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
