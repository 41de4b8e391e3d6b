//! What a worker counts of the shared engine.

use core::time::Duration;

use super::histogram::Histogram;
use super::tally::Tally;

/// What the engine is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineAsk {
    /// To claim a delivery.
    Claim,
    /// To remember that it was accepted.
    Commit,
    /// To forget the claim.
    Release,
    /// For tokens of the rate of a route.
    Take,
}

impl EngineAsk {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Claim, Self::Commit, Self::Release, Self::Take];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Commit => "commit",
            Self::Release => "release",
            Self::Take => "take",
        }
    }
}

/// How that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEnd {
    /// It was done: a claim is this process's.
    Done,
    /// The delivery had been accepted by another process.
    Duplicate,
    /// Another process has it.
    InFlight,
    /// The claim had ended before, and another process has it.
    Fenced,
    /// There was no token.
    Empty,
    /// The engine could not do it, or the connection ended.
    Failed,
    /// The engine did not answer in time.
    Late,
    /// The engine was away, and was not asked.
    NotAsked,
}

impl EngineEnd {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Duplicate,
        Self::InFlight,
        Self::Fenced,
        Self::Empty,
        Self::Failed,
        Self::Late,
        Self::NotAsked,
    ];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Duplicate => "duplicate",
            Self::InFlight => "in_flight",
            Self::Fenced => "fenced",
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::NotAsked => "not_asked",
        }
    }
}

/// The counts of one worker.
#[derive(Debug, Default)]
pub struct EngineCells {
    ends: [[Tally; EngineEnd::ALL.len()]; EngineAsk::ALL.len()],
    times: [Histogram; EngineAsk::ALL.len()],
}

impl EngineCells {
    /// So many have ended so.
    pub fn ended(&self, ask: EngineAsk, end: EngineEnd, count: u64) {
        if count > 0
            && let Some(tally) = self.ends.get(ask as usize).and_then(|ends| ends.get(end as usize))
        {
            tally.add(count);
        }
    }

    /// An answer took so long.
    pub fn took(&self, ask: EngineAsk, took: Duration) {
        if let Some(times) = self.times.get(ask as usize) {
            times.record(took);
        }
    }

    /// How many have ended so.
    #[must_use]
    pub fn count(&self, ask: EngineAsk, end: EngineEnd) -> u64 {
        self.ends.get(ask as usize).and_then(|ends| ends.get(end as usize)).map_or(0, Tally::get)
    }

    /// How long answers took.
    #[must_use]
    pub fn times(&self, ask: EngineAsk) -> Option<&Histogram> {
        self.times.get(ask as usize)
    }
}
