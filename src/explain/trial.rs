//! The verdict of the engine on one delivery.

use crate::gate::verify::{Delivery, Verifier};
use crate::now::Now;
use crate::outcome::Rejection;

/// The verdict of the engine, with the id of the key that matched.
pub(super) fn run<D: Delivery>(verifier: &Verifier, delivery: &D, now: Now) -> Result<Option<String>, Rejection> {
    let mut check = verifier.begin(delivery, now)?;
    check.update(delivery.body());
    match verifier.finish(check, delivery, now) {
        Ok(verified) => Ok(verified.key_id().map(str::to_owned)),
        Err((rejection, _)) => Err(rejection),
    }
}
