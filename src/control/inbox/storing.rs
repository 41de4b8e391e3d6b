//! The shelf as a store.

use std::collections::BTreeSet;

use crate::inbox::delivery::DeliveryId;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::{chunks_of, stored_size};
use crate::inbox::row::{DeliveryRow, ROW_SIZE};
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settled, Settlement, StoreOrder, StoreRefusal, StoreStanding, StoreTrouble,
    StoredRecord,
};
use crate::now::Now;

use super::bounds::WriteCause;
use super::settling;
use super::shelf::{ID_BLOCK, Shelf, ShelfPlace, fresh_row, monotonic, trouble, unix};

/// So many settlements do not wait for a delivery to be stored with.
const SETTLED_TOGETHER: usize = 256;

impl Shelf {
    /// Stores deliveries, with the settlements that belong to the same file.
    fn put(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        now: Now,
        done: &mut Committed,
        sizes: &[u64],
    ) -> Result<(), StoreRefusal> {
        let number = self.accepting(false, sizes.iter().sum(), now)?;
        let first = self.next_id;
        self.next_id += fresh.len() as u64;
        let mut rows = Vec::with_capacity(fresh.len());
        for (at, fresh) in fresh.iter().enumerate() {
            rows.push(fresh_row(fresh, DeliveryId(first + at as u64), self.route_number(fresh.route), unix(now)));
        }
        let own = self.due_settlements(number);
        self.bound(number, WriteCause::Living);
        let Some(file) = self.files.get_mut(&number) else { return Err(StoreRefusal::Failed) };
        let unknown: BTreeSet<u16> =
            rows.iter().map(|row| row.route).filter(|route| !file.routes.contains(route)).collect();
        let more_ids = (self.next_id > file.ids_below).then_some(self.next_id + ID_BLOCK);
        let (routes, index) = (&self.routes, &self.index);
        let Some(generation) = file.writable() else { return Err(StoreRefusal::Failed) };
        let written = generation.write(|writing| {
            if let Some(bound) = more_ids {
                writing.ids_below(bound)?;
            }
            for route in &unknown {
                writing.name_route(*route, routes.get(usize::from(*route)).map_or("", String::as_str))?;
            }
            let names = fresh.iter().map(|fresh| 1 + fresh.seen_also.len()).sum::<usize>();
            writing.forget_seen(unix(now), names * 2 + 16)?;
            for (fresh, row) in fresh.iter().zip(&rows) {
                writing.add(fresh, row)?;
            }
            settling::write(writing, &own, index, unix(now))
        });
        match written {
            Ok(()) => {
                file.routes.extend(unknown);
                file.ids_below = more_ids.unwrap_or(file.ids_below);
                for ((fresh, row), size) in fresh.iter().zip(rows).zip(sizes) {
                    file.seen_until = file.seen_until.max(fresh.seen_until);
                    Self::note(&mut self.index, file, number, &row, *size);
                    done.accepted.push(row);
                }
                self.failing_since = None;
                self.settled(own, done);
                Ok(())
            }
            Err(error) => {
                let certain = !generation.gauge.may_count();
                self.close(number, &error, now);
                self.later.extend(own);
                if certain || self.erase(number, first..self.next_id, now) {
                    return Err(match error.is_full() {
                        true if error.is_bound() => StoreRefusal::Full,
                        true => StoreRefusal::DiskFull,
                        false => StoreRefusal::Failed,
                    });
                }
                Err(StoreRefusal::Unknown)
            }
        }
    }
}

impl DeliveryStore for Shelf {
    fn commit(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        settlements: &[Settlement],
        now: Now,
        done: &mut Committed,
    ) -> Result<(), StoreRefusal> {
        if !settlements.is_empty() && self.later.is_empty() {
            self.later_since = Some(monotonic(now));
        }
        self.later.extend(settlements);
        if fresh.is_empty() {
            // A commit for each of them would cost more than the delivery did. The next delivery takes them along.
            let pressing =
                |settlement: &Settlement| settlement.awaited || matches!(settlement.settled, Settled::Dead { .. });
            if settlements.is_empty() || self.later.len() >= SETTLED_TOGETHER || settlements.iter().any(pressing) {
                self.flush(now, done);
            }
            return Ok(());
        }
        let sizes: Vec<u64> = fresh.iter().map(|fresh| stored_size(fresh) + ROW_SIZE as u64).collect();
        let too_large = fresh.iter().any(|fresh| chunks_of(fresh).is_none());
        if too_large || self.index.len() + fresh.len() > self.terms.deliveries {
            return Err(StoreRefusal::Full);
        }
        if self.disk_low {
            return Err(StoreRefusal::DiskFull);
        }
        let mut result = self.put(fresh, now, done, &sizes);
        if result == Err(StoreRefusal::Full) {
            // The file has reached its bound: another one may take them.
            result = self.put(fresh, now, done, &sizes);
        }
        if self.later.len() >= SETTLED_TOGETHER || self.later_since.is_some_and(|since| monotonic(now) >= since + 1_000)
        {
            self.flush(now, done);
        }
        result
    }

    fn unwritten(&self) -> usize {
        self.later.len()
    }

    fn take(&mut self, room: usize, out: &mut Vec<DeliveryRow>) {
        let ids: Vec<DeliveryId> = self.untaken.iter().take(room).copied().collect();
        for id in ids {
            let Some(place) = self.index.get(&id).copied() else {
                self.untaken.remove(&id);
                continue;
            };
            // Rows of a file that is closed are given when it is open again.
            if let Ok(row) = self.row(id, place) {
                self.untaken.remove(&id);
                out.push(row);
            }
        }
    }

    fn fetch(&mut self, id: DeliveryId, into: &mut StoredRecord) -> Result<Fetched, StoreTrouble> {
        let Some(place) = self.index.get(&id).copied() else { return Ok(Fetched::Gone) };
        match self.generation(place)?.read(id, place.chunks, into) {
            Ok(Some(())) if self.is_own(&self.row(id, place)?, into) => Ok(Fetched::Whole),
            Ok(_) => {
                self.mark_damaged(id, place);
                Ok(Fetched::Damaged)
            }
            Err(error) => Err(trouble(&error)),
        }
    }

    fn browse(
        &mut self,
        filter: &DeliveryFilter,
        after: Option<DeliveryId>,
        room: usize,
        out: &mut Vec<DeliveryRow>,
    ) -> Result<bool, StoreTrouble> {
        let wanted = |(id, place): &(&DeliveryId, &ShelfPlace)| {
            after.is_none_or(|after| **id > after) && filter.state.is_none_or(|state| state == place.state)
        };
        let mut ids: Vec<DeliveryId> = if filter.ids.is_empty() {
            self.index.iter().filter(wanted).map(|(id, _)| *id).collect()
        } else {
            let named = filter.ids.iter().filter_map(|id| self.index.get_key_value(id));
            named.filter(wanted).map(|(id, _)| *id).collect()
        };
        ids.sort_unstable();
        ids.dedup();
        let end = out.len().saturating_add(room);
        for id in ids {
            let Some(place) = self.index.get(&id).copied() else { continue };
            let row = self.row(id, place)?;
            if filter.matches(&row, self.route_name(row.route)) {
                if out.len() == end {
                    return Ok(true);
                }
                out.push(row);
            }
        }
        Ok(false)
    }

    fn order(&mut self, order: &StoreOrder, now: Now) -> Result<Vec<DeliveryId>, StoreTrouble> {
        match order {
            StoreOrder::Redrive(filter, room) => self.redrive(filter, *room, now),
            StoreOrder::Purge(filter, room) => self.purge(filter, *room, now),
            StoreOrder::Hold(route, held) => self.hold(route, *held, now),
        }
    }

    fn take_gone(&mut self, out: &mut Vec<DeliveryId>) {
        out.append(&mut self.gone);
    }

    fn route_name(&self, route: u16) -> &str {
        self.routes.get(usize::from(route)).map_or("", String::as_str)
    }

    fn held_routes(&self) -> Vec<String> {
        self.held.clone()
    }

    fn standing(&self) -> StoreStanding {
        self.stand()
    }

    fn mend(&mut self, now: Now, done: &mut Committed) {
        self.mend_files(now, done);
    }
}
