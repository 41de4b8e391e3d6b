//! All ledgers of the process, by the name of their route: they outlive a configuration.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::claim::Ledger;
use super::names::Seed;
use super::stripe::MARGIN;
use crate::gate::route::Route;
use crate::now::Now;

/// The ledgers of a process.
#[derive(Debug)]
pub struct Ledgers {
    seed: Seed,
    by_name: Mutex<BTreeMap<String, KnownRoute>>,
}

#[derive(Debug)]
struct KnownRoute {
    ledger: Arc<Ledger>,
    /// The longest that an entry of it may have to live.
    lifetime: Duration,
    /// Since when there is no route of its name.
    gone: Option<Duration>,
}

impl Ledgers {
    /// No ledger yet.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        Self { seed, by_name: Mutex::new(BTreeMap::new()) }
    }

    /// The ledger of each route, in their order; `None` for a route that remembers nothing. A route that had a ledger
    /// under its name has it still, with the capacity that it was made with: another one would have forgotten what may
    /// not come again. For the same reason the ledger of a route that is gone is kept for the lifetime of its entries.
    #[must_use]
    pub fn of(&self, routes: &[Route], now: Now) -> Vec<Option<Arc<Ledger>>> {
        let mut known = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        let mut ledgers = Vec::with_capacity(routes.len());
        for route in routes {
            let Some(policy) = &route.replay else {
                ledgers.push(None);
                continue;
            };
            let found = known.remove(&route.name);
            // Entries live as long as the policy said when they were claimed.
            let lifetime = found.as_ref().map_or(Duration::ZERO, |known| known.lifetime).max(policy.lifetime);
            let ledger = found.map(|known| known.ledger);
            let ledger = ledger.unwrap_or_else(|| Arc::new(Ledger::new(policy.capacity, &self.seed)));
            ledger.adopt(route.verifier.keys(), lifetime, now);
            if policy.shared.is_some() {
                ledger.name_by_every(route.verifier.keys());
            } else if route.durable.is_some() {
                ledger.name_by_next(route.verifier.keys());
            }
            kept.insert(route.name.clone(), KnownRoute { ledger: Arc::clone(&ledger), lifetime, gone: None });
            ledgers.push(Some(ledger));
        }
        for (name, known) in std::mem::take(&mut *known) {
            let gone = known.gone.unwrap_or(now.monotonic);
            if now.monotonic < gone.saturating_add(known.lifetime + MARGIN) {
                kept.insert(name, KnownRoute { gone: Some(gone), ..known });
            }
        }
        *known = kept;
        ledgers
    }
}
