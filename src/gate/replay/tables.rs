//! All tables of the process, by the name of their route: they outlive a configuration.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::shard::MARGIN;
use super::table::ReplayTable;
use crate::gate::route::Route;
use crate::now::Now;

/// Spreads keys over a table in a way that nobody outside can foresee: multilinear hashing, under which two different
/// keys collide with a probability of one in 2^32 over the choice of the seed. Random, once a process.
#[derive(Clone, Copy)]
pub struct ReplaySeed([u64; 9]);

impl ReplaySeed {
    /// Bytes of randomness that a seed is made of.
    pub const LENGTH: usize = 72;

    /// A seed of random bytes.
    #[must_use]
    pub fn new(random: &[u8; Self::LENGTH]) -> Self {
        let mut words = [0; 9];
        for (word, bytes) in words.iter_mut().zip(random.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Self(words)
    }

    pub(super) fn hash(&self, key: &[u8; 32]) -> u32 {
        let [first, factors @ ..] = &self.0;
        let words = key.as_chunks::<4>().0.iter().map(|word| u64::from(u32::from_ne_bytes(*word)));
        let sum = words.zip(factors).fold(*first, |sum, (word, factor)| sum.wrapping_add(word.wrapping_mul(*factor)));
        (sum >> 32) as u32
    }
}

impl core::fmt::Debug for ReplaySeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ReplaySeed")
    }
}

/// The tables of a process.
#[derive(Debug)]
pub struct ReplayTables {
    seed: ReplaySeed,
    by_name: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    table: Arc<ReplayTable>,
    /// The longest that an entry of it may have to live.
    lifetime: Duration,
    /// Since when there is no route of its name.
    gone: Option<Duration>,
}

impl ReplayTables {
    /// No table yet.
    #[must_use]
    pub const fn new(seed: ReplaySeed) -> Self {
        Self { seed, by_name: Mutex::new(BTreeMap::new()) }
    }

    /// The table of each route, in their order; nothing for a route that remembers nothing. A route that had a table
    /// under its name has it still, with the capacity that it was made with: another one would have forgotten what may
    /// not come again. For the same reason the table of a route that is gone is kept for the lifetime of its entries.
    #[must_use]
    pub fn of(&self, routes: &[Route], now: Now) -> Vec<Option<Arc<ReplayTable>>> {
        let mut known = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        let mut tables = Vec::with_capacity(routes.len());
        for route in routes {
            let Some(policy) = &route.replay else {
                tables.push(None);
                continue;
            };
            let found = known.remove(&route.name);
            // Entries live as long as the policy said when they were claimed.
            let lifetime = found.as_ref().map_or(Duration::ZERO, |known| known.lifetime).max(policy.lifetime);
            let table = found.map(|known| known.table);
            let table = table.unwrap_or_else(|| Arc::new(ReplayTable::new(policy.capacity, self.seed)));
            table.adopt(route.verifier.keys(), lifetime, now);
            kept.insert(route.name.clone(), Known { table: Arc::clone(&table), lifetime, gone: None });
            tables.push(Some(table));
        }
        for (name, known) in std::mem::take(&mut *known) {
            let gone = known.gone.unwrap_or(now.monotonic);
            if now.monotonic < gone.saturating_add(known.lifetime + MARGIN) {
                kept.insert(name, Known { gone: Some(gone), ..known });
            }
        }
        *known = kept;
        tables
    }
}
