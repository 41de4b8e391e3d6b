//! What a route says of deliveries that are stored, acknowledged at once, and delivered later.

use std::sync::Arc;

use crate::gate::verify::{Delivery, Verified, sha256};
use crate::outcome::Rejection;

/// How the deliveries of a route are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The name of the route, shared with what is stored.
    pub route: Arc<str>,
    /// The status of the answer to the sender.
    pub status: u16,
    /// What orders deliveries.
    pub order: OrderBy,
    /// Whether a delivery without its key is refused.
    pub order_required: bool,
    /// Stands for the route in the keys under which copies are recognised.
    pub tag: [u8; 8],
}

/// What orders the deliveries of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// Nothing.
    #[default]
    Nothing,
    /// The id of the delivery, where it is signed.
    DeliveryId,
    /// A header.
    HeaderField(String),
    /// A value of the body, by its JSON pointer (RFC 6901).
    BodyPointer(String),
}

impl Durable {
    /// What stands for a route in the keys of its copies: the first bytes of SHA-256 of its name.
    #[must_use]
    pub fn tag_of(route: &str) -> [u8; 8] {
        let digest = sha256(route.as_bytes());
        core::array::from_fn(|at| digest.get(at).copied().unwrap_or(0))
    }

    /// What stands for the route in the keys of the names that a delivery has besides the one by which it is counted.
    #[must_use]
    pub fn alias_tag(&self) -> [u8; 8] {
        self.tag.map(|byte| !byte)
    }

    /// The key that orders a delivery: the first bytes of SHA-256 of what was sent. Zeros for a delivery that nothing
    /// orders.
    ///
    /// # Errors
    /// [`Rejection::OrderKeyMissing`], where the route requires a key.
    pub fn order_key<D: Delivery>(&self, verified: &Verified<'_, D>) -> Result<[u8; 16], Rejection> {
        let delivery = verified.delivery();
        let digest = |value: &[u8]| Some(sha256(value));
        let found = match &self.order {
            OrderBy::Nothing => return Ok([0; 16]),
            OrderBy::DeliveryId => verified.signed_delivery_id().and_then(digest),
            OrderBy::HeaderField(name) => delivery.headers().all(name).next().and_then(digest),
            OrderBy::BodyPointer(pointer) => {
                let body = serde_json::from_slice::<serde_json::Value>(delivery.body()).ok();
                let value = body.as_ref().and_then(|body| body.pointer(pointer)).filter(|value| !value.is_null());
                value.map(|value| sha256(value.to_string().as_bytes()))
            }
        };
        match found {
            Some(digest) => Ok(core::array::from_fn(|at| digest.get(at).copied().unwrap_or(0))),
            None if self.order_required => Err(Rejection::OrderKeyMissing),
            None => Ok([0; 16]),
        }
    }
}
