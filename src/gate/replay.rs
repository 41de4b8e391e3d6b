//! What a route says about replays.

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::outcome::Rejection;

/// Entries that a table may have.
pub const CAPACITY: RangeInclusive<usize> = 1..=1 << 24;

/// How long an entry may be remembered.
pub const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

/// What becomes of a new delivery when the table is full of entries that have not expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused, and may come again: nothing is ever forgotten early.
    #[default]
    Refuse,
    /// The entry that was committed first is forgotten. Claims in flight never are.
    EvictOldest,
}

/// How a duplicate of a committed delivery is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DuplicateAnswer {
    /// As a success: the sender has nothing left to do.
    #[default]
    Acknowledge,
    /// As a conflict.
    Conflict,
}

impl DuplicateAnswer {
    /// The row of the table of outcomes.
    #[must_use]
    pub const fn rejection(self) -> Rejection {
        match self {
            Self::Acknowledge => Rejection::Duplicate,
            Self::Conflict => Rejection::DuplicateConflict,
        }
    }
}

/// What becomes of a new delivery while the shared engine cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// It is refused, and may come again: no two processes accept the same delivery.
    #[default]
    Refuse,
    /// It is judged by what this process knows: each process may accept it once.
    Local,
}

/// How a route claims deliveries in the shared engine, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedClaims {
    /// While the engine cannot be asked.
    pub when_unavailable: WhenUnavailable,
    /// What ends a claim whose process is gone: longer than any exchange takes.
    pub lease: Duration,
}

/// How a route treats deliveries that it has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayPolicy {
    /// How long a committed delivery is remembered; at least as long as a capture of it could stay valid.
    pub lifetime: Duration,
    /// How many deliveries are remembered.
    pub capacity: usize,
    /// When that many are.
    pub when_full: WhenFull,
    /// What a duplicate is answered.
    pub duplicates: DuplicateAnswer,
    /// Position of the route in the list that `Ledgers::of` was given (`ledger`).
    pub table: usize,
    /// Where other processes are to refuse copies, too; `None` where this process alone does.
    pub shared: Option<SharedClaims>,
}

impl ReplayPolicy {
    /// What is used where the configuration says nothing; `tolerance` is that of the route, zero without one. Two-sided:
    /// a delivery that is dated into the future stays valid for twice the tolerance.
    #[must_use]
    pub fn with_tolerance(tolerance: Duration) -> Self {
        Self {
            lifetime: Duration::from_secs(600).max(tolerance.saturating_mul(2)),
            capacity: 1 << 18,
            when_full: WhenFull::default(),
            duplicates: DuplicateAnswer::default(),
            table: 0,
            shared: None,
        }
    }
}

/// Whether the application has accepted a delivery that it answered with this status. Only then is it remembered.
#[must_use]
pub const fn accepted(status: u16) -> bool {
    matches!(status, 200..=299)
}
