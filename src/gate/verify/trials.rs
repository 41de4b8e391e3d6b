//! Trials of an explanation: is a delivery genuine in which one thing is different?

use super::Delivery;
use super::budget::Budget;
use super::engine::Verifier;
use super::scheme::Kind;
use super::signature::CANDIDATE_LIMIT;
use crate::now::Now;
use crate::outcome::Rejection;
use crate::wire::headers::Headers;

/// What a trial costs beside the body, in bytes: reading the head, making keys.
const TRIAL: usize = 4096;

/// Verifies a delivery whose body is whole: the key that it matches, if there are keys.
pub(super) fn run<D: Delivery>(verifier: &Verifier, delivery: &D, now: Now) -> Result<Option<String>, Rejection> {
    let mut check = verifier.begin(delivery, now)?;
    check.update(delivery.body());
    match verifier.finish(check, delivery, now) {
        Ok(verified) => Ok(verified.key_id().map(str::to_owned)),
        Err((rejection, _)) => Err(rejection),
    }
}

/// Whether `verifier` takes `delivery` for genuine, if `budget` can pay for the trial.
pub(super) fn matches<D: Delivery>(budget: &Budget, verifier: &Verifier, delivery: &D, now: Now) -> bool {
    let candidates = match verifier.scheme().map(|scheme| scheme.kind) {
        Some(Kind::Public(_)) => CANDIDATE_LIMIT,
        _ => 1,
    };
    // Every key may hash the body, and what is read from inside of it is read once more.
    let passes = verifier.keys().len().saturating_mul(candidates).saturating_add(1);
    let once = delivery.body().len().saturating_add(delivery.target().len()).saturating_add(TRIAL);
    budget.spend(once.saturating_mul(passes)) && run(verifier, delivery, now).is_ok()
}

/// A delivery in which something is replaced.
pub(super) struct Varied<'d, D> {
    pub(super) inner: &'d D,
    pub(super) method: &'d [u8],
    pub(super) target: &'d [u8],
    pub(super) body: &'d [u8],
}

impl<D> Clone for Varied<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for Varied<'_, D> {}

impl<'d, D: Delivery> Varied<'d, D> {
    pub(super) fn of(inner: &'d D) -> Self {
        Self { inner, method: inner.method(), target: inner.target(), body: inner.body() }
    }
}

impl<D: Delivery> Delivery for Varied<'_, D> {
    fn method(&self) -> &[u8] {
        self.method
    }

    fn target(&self) -> &[u8] {
        self.target
    }

    fn headers(&self) -> Headers<'_> {
        self.inner.headers()
    }

    fn body(&self) -> &[u8] {
        self.body
    }
}
