//! What a connection was let in by. [`crate::edge::door::access`] judges it again when the policy changes.

use std::sync::Arc;

use super::verifier::CallerVerifier;

/// What a connection was let in by.
#[derive(Debug, Default)]
pub enum AdmittedBy {
    /// It has not been let in yet.
    #[default]
    NotYet,
    /// It speaks plain text: nothing is asked of it.
    Plain,
    /// By this verifier, or without being asked for a certificate.
    By(Option<Arc<CallerVerifier>>),
    /// It would not be let in any more.
    Refused,
}
