//! A delivery on its way from a worker to the thread of the store.

use std::fmt;
use std::sync::Arc;

use crate::inbox::delivery::DeliveryId;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::RecordParts;
use crate::inbox::row::SeenKey;
use crate::inbox::store::{StoreRefusal, StoredRecord};
use crate::ledger::FORMER;

/// What a worker is told of a delivery that it has handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolAnswer {
    /// It is durable, under this id.
    Durable(DeliveryId),
    /// It is not stored.
    Refused(StoreRefusal),
}

/// What is told what became of deliveries.
pub trait SpoolListener: Send + Sync {
    /// Called once for each delivery, on the thread of the store; at once for one that finds no room. `ticket` is what was
    /// handed in with it.
    fn answered(&self, ticket: u64, answer: SpoolAnswer);
}

impl<F: Fn(u64, SpoolAnswer) + Send + Sync> SpoolListener for F {
    fn answered(&self, ticket: u64, answer: SpoolAnswer) {
        self(ticket, answer);
    }
}

/// What is told what becomes of a delivery, and under which number.
#[derive(Clone)]
pub struct SpoolTold {
    /// What is told.
    pub listener: Arc<dyn SpoolListener>,
    /// The number.
    pub ticket: u64,
}

impl SpoolTold {
    /// Tells a function.
    #[must_use]
    pub fn by(listener: impl Fn(SpoolAnswer) + Send + Sync + 'static) -> Self {
        Self { listener: Arc::new(move |_: u64, answer| listener(answer)), ticket: 0 }
    }

    pub(super) fn tell(&self, answer: SpoolAnswer) {
        self.listener.answered(self.ticket, answer);
    }
}

/// What is to be stored of a request. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpoolRequest<'a> {
    /// The head of the request to the application, without the empty line at its end.
    pub head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// When it was accepted.
    pub accepted: u64,
    /// The key that orders it; zeros for none.
    pub order_key: [u8; 16],
    /// The key under which copies are recognised; zeros for none.
    pub seen_key: [u8; 32],
    /// Further ones: the names under other keys of the route. At most [`FORMER`].
    pub seen_also: &'a [SeenKey],
    /// Until when.
    pub seen_until: u64,
}

impl SpoolRequest<'_> {
    /// Bytes that are copied.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// A delivery that waits for the store.
pub(super) struct Spooling {
    /// The name of its route.
    pub(super) route: Arc<str>,
    /// Head and body; [`RecordParts`] of `record` say where. The route is not among the bytes.
    pub(super) record: StoredRecord,
    /// Further keys under which copies are recognised.
    seen_also: [SeenKey; FORMER],
    seen_count: usize,
    /// Until when copies are recognised, in milliseconds since 1970.
    seen_until: u64,
    /// What is told what becomes of it.
    pub(super) told: SpoolTold,
}

impl fmt::Debug for Spooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spooling").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Spooling {
    /// Copies a request into a buffer, which grows where it must.
    pub(super) fn new(route: Arc<str>, request: &SpoolRequest<'_>, told: SpoolTold, buffer: Vec<u8>) -> Self {
        let (head, body) = (request.head.len(), request.body.len());
        let mut bytes = buffer;
        bytes.clear();
        bytes.reserve(request.size());
        bytes.extend_from_slice(request.head);
        bytes.extend_from_slice(request.body);
        let parts = RecordParts {
            route: 0..0,
            head: 0..head,
            body: head..head + body,
            accepted: request.accepted,
            order_key: request.order_key,
            seen_key: request.seen_key,
        };
        let mut seen_also = [SeenKey::default(); FORMER];
        let seen_count = request.seen_also.len().min(FORMER);
        seen_also.iter_mut().zip(request.seen_also).for_each(|(to, from)| *to = *from);
        let record = StoredRecord { bytes, parts };
        Self { route, record, seen_also, seen_count, seen_until: request.seen_until, told }
    }

    pub(super) fn fresh(&self) -> FreshDelivery<'_> {
        FreshDelivery {
            route: &self.route,
            head: self.record.head(),
            body: self.record.body(),
            accepted: self.record.parts.accepted,
            order_key: self.record.parts.order_key,
            seen_key: self.record.parts.seen_key,
            seen_also: self.seen_also.get(..self.seen_count).unwrap_or_default(),
            seen_until: self.seen_until,
        }
    }
}
