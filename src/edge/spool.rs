//! The way from a worker to the thread that stores deliveries. Nothing of it blocks.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::inbox::delivery::DeliveryId;
use crate::inbox::lane::OrderKey;
use crate::inbox::row::SeenKey;
use crate::inbox::store::StoreRefusal;
use crate::outcome::Rejection;

/// What stores deliveries, as workers see it. It is called on the threads of workers.
pub trait SpoolSide: Send + Sync {
    /// Hands a delivery in. It is copied. [`Self::verdict`] follows.
    ///
    /// # Errors
    /// Nothing can be stored now: the delivery is not stored, and will not be.
    fn submit(&self, worker: usize, offer: &SpoolOffer<'_>) -> Result<SpoolTicket, Rejection>;

    /// What became of a delivery, once that is known. It is told once.
    fn verdict(&self, worker: usize, ticket: SpoolTicket) -> Option<SpoolVerdict>;

    /// Takes a delivery back that the store has not begun to write. Gives whether it did: then it is never delivered,
    /// and no verdict follows.
    fn withdraw(&self, worker: usize, ticket: SpoolTicket) -> bool;

    /// The verdict will not be asked for.
    fn forget(&self, worker: usize, ticket: SpoolTicket);

    /// A socket of this worker on which a byte comes when verdicts are there. Asked once.
    fn changes(&self, worker: usize) -> Option<UnixStream>;
}

/// A delivery that is to be stored. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct SpoolOffer<'a> {
    /// The name of its route.
    pub route: &'a Arc<str>,
    /// The head of the request to the application, without the empty line at its end.
    pub head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// When it was accepted.
    pub accepted: u64,
    /// The key that orders it; zeros for none.
    pub order_key: OrderKey,
    /// The key under which copies are recognised; zeros for none.
    pub seen_key: SeenKey,
    /// Further ones: its names under other keys of its route.
    pub seen_also: &'a [SeenKey],
    /// Until when; 0 for not at all.
    pub seen_until: u64,
}

/// The place of a delivery among those that a worker has handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpoolTicket(pub u64);

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolVerdict {
    /// It is durable, under this id.
    Durable(DeliveryId),
    /// It is not stored.
    Refused(StoreRefusal),
}
