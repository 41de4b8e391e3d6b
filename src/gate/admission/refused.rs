//! What a request is told for which there is no room.

use super::eviction::Bound;
use super::token_bucket::Empty;
use crate::outcome::Rejection;

/// A bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one.
    pub rejection: Rejection,
    /// Seconds after which it makes sense to try again, where that is known.
    pub retry_after: Option<u64>,
    /// What has to be made room of, where others could give way.
    pub bound: Option<Bound>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, retry_after: None, bound: None }
    }
}

impl Refused {
    /// There is no token; for a while.
    #[must_use]
    pub fn empty(rejection: Rejection, empty: Empty) -> Self {
        Self { rejection, retry_after: Some(empty.seconds()), bound: None }
    }

    pub(super) const fn full(bound: Bound) -> Self {
        let rejection = match bound {
            Bound::Connections | Bound::Requests => Rejection::RequestsFull,
            Bound::BodyMemory => Rejection::BodyMemoryFull,
            Bound::SuspectRequests | Bound::SuspectMemory => Rejection::ClientRateLimited,
        };
        Self { rejection, retry_after: None, bound: Some(bound) }
    }
}
