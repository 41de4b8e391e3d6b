//! One trial: a delivery, as it came or with one thing changed, judged by the engine.

use crate::gate::verify::{Delivery, Verifier};
use crate::now::Now;
use crate::outcome::Rejection;
use crate::wire::headers::Headers;

/// The verdict of the engine, with the id of the key that matched.
pub(super) fn run<D: Delivery>(verifier: &Verifier, delivery: &D, now: Now) -> Result<Option<String>, Rejection> {
    let mut check = verifier.begin(delivery, now)?;
    check.update(delivery.body());
    match verifier.finish(check, delivery, now) {
        Ok(verified) => Ok(verified.key_id().map(str::to_owned)),
        Err((rejection, _)) => Err(rejection),
    }
}

/// A delivery of which something is another.
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
