//! What the delivering thread knows of a route.

use std::sync::Arc;
use std::time::Duration;

use crate::inbox::lane::LaneTerms;

/// A route whose deliveries are stored.
#[derive(Clone, Debug)]
pub struct DurableRoute {
    /// Its name.
    pub name: Arc<str>,
    /// When and how often.
    pub terms: LaneTerms,
    /// For how long an answer is awaited.
    pub timeout: Duration,
}
