//! What the thread that fetches keys works with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::event_log::EventLog;
use super::client::KeyClient;

/// When publishers are asked.
#[derive(Clone, Copy, Debug)]
pub struct FetchPace {
    /// How often in any case.
    pub refresh: Duration,
    /// How often at most because a delivery names a key that is not known.
    pub asked: Duration,
    /// How soon after the first failure; twice as long after each further one, up to 20 times.
    pub retry: Duration,
    /// How often the bells are looked at.
    pub bell: Duration,
}

impl FetchPace {
    /// The usual, with this refresh.
    #[must_use]
    pub const fn every(refresh: Duration) -> Self {
        Self {
            refresh,
            asked: Duration::from_secs(30),
            retry: Duration::from_secs(15),
            bell: Duration::from_millis(500),
        }
    }
}

/// What there is to fetch with.
pub struct Fetching {
    /// Who asks.
    pub client: KeyClient,
    /// The directory for what was fetched last.
    pub cache: Option<PathBuf>,
    /// When.
    pub pace: FetchPace,
    /// Who is told.
    pub log: Arc<EventLog>,
}
