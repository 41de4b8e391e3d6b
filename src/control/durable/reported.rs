//! A store whose changes the operator is told of.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::control::engine_inbox::store::EngineStore;
use crate::control::event_log::{EventLog, Level};
use crate::control::inbox::shelf::Shelf;
use crate::edge::observer::Observer;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settlement, StoreOrder, StoreRefusal, StoreStanding, StoreTrouble, StoredRecord,
};
use crate::now::Now;
use crate::telemetry::audit::inbox_change::{InboxAction, InboxChange, NAMED};

/// A store that has something to tell.
pub(super) trait NotedStore: DeliveryStore {
    /// What the operator is to be told.
    fn take_notes(&mut self) -> Vec<String>;

    /// Dead letters that it has removed by itself, and why.
    fn take_removals(&mut self) -> Vec<(InboxAction, Vec<DeliveryId>)>;

    /// What a 202 means, where that is found out while it runs.
    fn means(&self) -> &str {
        ""
    }
}

impl NotedStore for Shelf {
    fn take_notes(&mut self) -> Vec<String> {
        Self::take_notes(self)
    }

    fn take_removals(&mut self) -> Vec<(InboxAction, Vec<DeliveryId>)> {
        Self::take_removals(self)
    }
}

impl NotedStore for EngineStore {
    fn take_notes(&mut self) -> Vec<String> {
        Self::take_notes(self)
    }

    fn take_removals(&mut self) -> Vec<(InboxAction, Vec<DeliveryId>)> {
        let expired = self.take_expired();
        if expired.is_empty() { Vec::new() } else { vec![(InboxAction::Expired, expired)] }
    }

    fn means(&self) -> &str {
        Self::means(self)
    }
}

/// A store, and the log that its notes go to.
pub(super) struct ReportedStore<S> {
    pub(super) store: S,
    /// What a 202 means, for what shows it.
    pub(super) means: Arc<Mutex<String>>,
    pub(super) log: Arc<EventLog>,
    /// What is told of dead letters that are removed.
    pub(super) observer: Arc<dyn Observer>,
    /// The log knows that it fails.
    pub(super) failing: bool,
}

impl<S: NotedStore> ReportedStore<S> {
    fn report(&mut self) {
        self.report_means();
        for note in self.store.take_notes() {
            self.log.event(Level::Warn, &format!("inbox: {note}"));
        }
        for (action, ids) in self.store.take_removals() {
            let named: Vec<[u8; 13]> = ids.iter().take(NAMED).map(|id| id.text()).collect();
            let (by, meant, count) = ("countersign", "", ids.len() as u64);
            self.observer.inbox_changed(&InboxChange { action, by, meant, count, ids: &named, failed: None });
        }
        let failing = self.store.standing().failing_since.is_some();
        if failing != self.failing {
            self.failing = failing;
            if !failing {
                self.log.event(Level::Info, "inbox: deliveries are stored again");
            }
        }
    }

    /// Tells what a 202 means, where that has changed.
    pub(super) fn report_means(&self) {
        let mut known = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != self.store.means() {
            self.store.means().clone_into(&mut known);
            self.log.event(Level::Info, &format!("inbox: deliveries are kept in {known}"));
        }
    }
}

impl<S: NotedStore> DeliveryStore for ReportedStore<S> {
    fn commit(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        settlements: &[Settlement],
        now: Now,
        done: &mut Committed,
    ) -> Result<(), StoreRefusal> {
        self.store.commit(fresh, settlements, now, done)
    }

    fn unwritten(&self) -> usize {
        self.store.unwritten()
    }

    fn take(&mut self, room: usize, out: &mut Vec<DeliveryRow>) {
        self.store.take(room, out);
    }

    fn fetch(&mut self, id: DeliveryId, into: &mut StoredRecord) -> Result<Fetched, StoreTrouble> {
        self.store.fetch(id, into)
    }

    fn browse(
        &mut self,
        filter: &DeliveryFilter,
        after: Option<DeliveryId>,
        room: usize,
        out: &mut Vec<DeliveryRow>,
    ) -> Result<bool, StoreTrouble> {
        self.store.browse(filter, after, room, out)
    }

    fn order(&mut self, order: &StoreOrder, now: Now) -> Result<Vec<DeliveryId>, StoreTrouble> {
        self.store.order(order, now)
    }

    fn take_gone(&mut self, out: &mut Vec<DeliveryId>) {
        self.store.take_gone(out);
    }

    fn route_name(&self, route: u16) -> &str {
        self.store.route_name(route)
    }

    fn held_routes(&self) -> Vec<String> {
        self.store.held_routes()
    }

    fn take_held(&mut self, out: &mut Vec<(String, bool)>) {
        self.store.take_held(out);
    }

    fn attempts_until(&self) -> Option<Duration> {
        self.store.attempts_until()
    }

    fn standing(&self) -> StoreStanding {
        self.store.standing()
    }

    fn mend(&mut self, now: Now, done: &mut Committed) {
        self.store.mend(now, done);
        self.report();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::inbox::directory::Directory;
    use crate::control::inbox::keys::{KeyRing, random_salt};
    use crate::control::inbox::shelf::ShelfTerms;
    use crate::inbox::contract_tests::{fresh, now, put, settle, settlement};
    use crate::inbox::delivery::DeliveryReason;
    use crate::inbox::store::Settled;
    use crate::telemetry::exchange::Exchange;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Observer for Told {
        fn exchange(&self, _: &Exchange<'_>) {}
        fn accept_failed(&self, _: &std::io::Error) {}
        fn inbox_changed(&self, change: &InboxChange<'_>) {
            let InboxChange { action, by, count, ids, .. } = change;
            let ids: Vec<_> = ids.iter().map(|id| String::from_utf8_lossy(id)).collect();
            self.0.lock().unwrap().push(format!("{} {by} {count} {}", action.word(), ids.join(" ")));
        }
    }

    #[test]
    fn dead_letters_that_leave_by_themselves_are_told_of() {
        let folder = std::env::temp_dir().join(format!("countersign-reported-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let terms = ShelfTerms {
            size: 64 << 20,
            dead_size: 16 << 20,
            deliveries: 100,
            retention: 60_000,
            drops_oldest: false,
            durable: false,
            keys: KeyRing::default(),
            salt: Box::new(random_salt),
        };
        let store = Shelf::open(Box::new(Directory::open(&folder).unwrap()), terms, now(0)).unwrap();
        let told = Arc::<Told>::default();
        let (log, observer) = (Arc::new(EventLog::start()), Arc::<Told>::clone(&told));
        let mut store = ReportedStore { store, means: Arc::default(), log, observer, failing: false };
        let ids = put(&mut store, &[fresh("orders", b"1"), fresh("orders", b"2")]);
        let dead = Settled::Dead { reason: DeliveryReason::RefusedByApplication };
        settle(&mut store, &[settlement(ids[0], dead), settlement(ids[1], dead)]);
        assert!(told.0.lock().unwrap().is_empty());
        store.mend(now(200_000), &mut Committed::default());
        assert_eq!(*told.0.lock().unwrap(), [format!("expired countersign 2 {} {}", ids[0], ids[1])]);
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
