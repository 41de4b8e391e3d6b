//! A delivery on its way into a store.

use crate::inbox::lane::OrderKey;
use crate::inbox::row::SeenKey;

/// A delivery that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct FreshDelivery<'a> {
    /// The name of its route.
    pub route: &'a str,
    /// The head of the request to the application, without the empty line at its end.
    pub head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// When it was accepted, in milliseconds since 1970.
    pub accepted: u64,
    /// The key that orders it; zeros for none.
    pub order_key: OrderKey,
    /// The key under which copies are recognised; zeros for none.
    pub seen_key: SeenKey,
    /// Further keys under which copies are recognised: the names of the delivery under other keys of its route. A process
    /// that starts with another first key, or without the one that counted, recognises a copy by one of them.
    pub seen_also: &'a [SeenKey],
    /// Until when copies are to be recognised, in milliseconds since 1970.
    pub seen_until: u64,
}
