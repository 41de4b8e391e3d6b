//! What a delivery is explained with.

use std::sync::Arc;

use super::body_end::BodyEnd;
use super::budget::TrialBudget;
use super::case::NamedSecret;
use crate::gate::verify::{Scheme, Verifier};
use crate::now::Now;

/// What a delivery is explained with.
#[derive(Clone, Copy)]
pub struct Given<'g> {
    /// What judges it.
    pub verifier: &'g Verifier,
    /// Each secret with its name, byte for byte as it stands in its file. Those that are missing are tried as they are.
    pub secrets: &'g [NamedSecret],
    /// Secrets of other routes, with words for each.
    pub of_others: &'g [NamedSecret],
    /// Schemes that may have been meant.
    pub schemes: &'g [Arc<Scheme>],
    /// The time to judge by.
    pub now: Now,
    /// Whether `now` is the present, and not the time at which the delivery came.
    pub is_present: bool,
    /// The query of the URL that the operator has given, which the request need not have.
    pub query: Option<&'g [u8]>,
    /// How the body of a capture ends.
    pub end: BodyEnd<'g>,
    /// What the trials may cost.
    pub budget: &'g TrialBudget,
}

impl<'g> Given<'g> {
    /// A route with its secrets and nothing beside it, judged by the time at which the delivery came.
    #[must_use]
    pub const fn alone(verifier: &'g Verifier, secrets: &'g [NamedSecret], now: Now, budget: &'g TrialBudget) -> Self {
        let (of_others, schemes, query, end): (&[_], &[_], _, _) = (&[], &[], None, BodyEnd::AsSaid);
        Self { verifier, secrets, of_others, schemes, now, is_present: false, query, end, budget }
    }
}
