//! A store whose changes the operator is told of.

use std::sync::Arc;

use crate::control::event_log::{EventLog, Level};
use crate::control::inbox::shelf::Shelf;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settlement, StoreOrder, StoreRefusal, StoreStanding, StoreTrouble, StoredRecord,
};
use crate::now::Now;

/// A shelf, and the log that its notes go to.
pub(super) struct ReportedShelf {
    pub(super) shelf: Shelf,
    pub(super) log: Arc<EventLog>,
    /// The log knows that it fails.
    pub(super) failing: bool,
}

impl ReportedShelf {
    fn report(&mut self) {
        for note in self.shelf.take_notes() {
            self.log.event(Level::Warn, &format!("inbox: {note}"));
        }
        let failing = self.shelf.standing().failing_since.is_some();
        if failing != self.failing {
            self.failing = failing;
            if !failing {
                self.log.event(Level::Info, "inbox: deliveries are stored again");
            }
        }
    }
}

impl DeliveryStore for ReportedShelf {
    fn commit(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        settlements: &[Settlement],
        now: Now,
        done: &mut Committed,
    ) -> Result<(), StoreRefusal> {
        self.shelf.commit(fresh, settlements, now, done)
    }

    fn take(&mut self, room: usize, out: &mut Vec<DeliveryRow>) {
        self.shelf.take(room, out);
    }

    fn fetch(&mut self, id: DeliveryId, into: &mut StoredRecord) -> Result<Fetched, StoreTrouble> {
        self.shelf.fetch(id, into)
    }

    fn browse(
        &mut self,
        filter: &DeliveryFilter,
        after: Option<DeliveryId>,
        room: usize,
        out: &mut Vec<DeliveryRow>,
    ) -> Result<bool, StoreTrouble> {
        self.shelf.browse(filter, after, room, out)
    }

    fn order(&mut self, order: &StoreOrder, now: Now) -> Result<Vec<DeliveryId>, StoreTrouble> {
        self.shelf.order(order, now)
    }

    fn route_name(&self, route: u16) -> &str {
        self.shelf.route_name(route)
    }

    fn held_routes(&self) -> Vec<String> {
        self.shelf.held_routes()
    }

    fn standing(&self) -> StoreStanding {
        self.shelf.standing()
    }

    fn mend(&mut self, now: Now, done: &mut Committed) {
        self.shelf.mend(now, done);
        self.report();
    }
}
