//! How long a client may take for its body: a total, and a least speed.

use std::time::Duration;

use crate::outcome::Fault;

use crate::edge::policy::Limits;

/// The longest time in which no speed is asked of a body.
const GRACE: Duration = Duration::from_secs(5);

/// Until when something must come, and what it is if nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadDue {
    /// A time of the monotonic clock.
    pub deadline: Duration,
    /// What becomes of the request.
    pub late: Fault,
}

/// The pace of one body.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    late: Duration,
    /// From here on so many bytes must come in a second; 0 for any.
    counted: Duration,
    rate: u64,
}

impl Pace {
    /// The pace of a body for which we begin to wait at `begun`. The least speed is an average since then, without a
    /// grace period of half of the whole time, at most 5 seconds.
    #[must_use]
    pub fn new(begun: Duration, limits: &Limits) -> Self {
        let grace = GRACE.min(limits.body_timeout / 2);
        Self { late: begun + limits.body_timeout, counted: begun + grace, rate: limits.body_rate_min }
    }

    /// Until when more must have come than the `arrived` bytes that are here, and what it is if it has not.
    #[must_use]
    pub fn due(&self, arrived: usize) -> ReadDue {
        let worth = (arrived as u64).saturating_mul(1_000_000_000).checked_div(self.rate).map(Duration::from_nanos);
        match worth.map(|worth| self.counted + worth) {
            Some(slow) if slow < self.late => ReadDue { deadline: slow, late: Fault::BodyTooSlow },
            _ => ReadDue { deadline: self.late, late: Fault::BodyTimeout },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::HeadLimits;

    fn limits(body_timeout: Duration, body_rate_min: u64) -> Limits {
        let head = HeadLimits { size: 0, fields: 0, target: 0 };
        let idle = Duration::ZERO;
        Limits {
            head,
            head_timeout: idle,
            body_timeout,
            handshake_timeout: idle,
            idle_timeout: idle,
            write_timeout: idle,
            requests_per_connection: 1,
            body_rate_min,
        }
    }

    #[test]
    fn bytes_buy_time_up_to_the_whole() {
        let seconds = Duration::from_secs;
        let due = |deadline, late| ReadDue { deadline, late };
        let pace = Pace::new(seconds(100), &limits(seconds(30), 1000));
        assert_eq!(pace.due(0), due(seconds(105), Fault::BodyTooSlow));
        assert_eq!(pace.due(500), due(Duration::from_millis(105_500), Fault::BodyTooSlow));
        assert_eq!(pace.due(24_999), due(Duration::from_millis(129_999), Fault::BodyTooSlow));
        assert_eq!(pace.due(25_000), due(seconds(130), Fault::BodyTimeout));
        assert_eq!(pace.due(usize::MAX), due(seconds(130), Fault::BodyTimeout));
        let short = Pace::new(seconds(0), &limits(seconds(6), 1000));
        assert_eq!(short.due(0), due(seconds(3), Fault::BodyTooSlow));
        let any = Pace::new(seconds(0), &limits(seconds(6), 0));
        assert_eq!(any.due(0), due(seconds(6), Fault::BodyTimeout));
    }
}
