//! A store that keeps nothing: for tests, and as the measure of what a store does.

use std::collections::{BTreeMap, VecDeque};

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::{RecordParts, Sealer, chunks_of, open_chunk, write_chunks};
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settled, Settlement, StoreOrder, StoreRefusal, StoreStanding, StoreTrouble,
    StoredRecord,
};
use crate::now::Now;

/// Deliveries in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    deliveries: BTreeMap<DeliveryId, (DeliveryRow, Vec<u8>)>,
    routes: Vec<String>,
    held: Vec<String>,
    untaken: VecDeque<DeliveryId>,
    gone: Vec<DeliveryId>,
    next: u64,
    /// So many deliveries, dead ones included.
    limit: usize,
    /// So many dead ones.
    dead_limit: usize,
}

impl MemoryStore {
    /// A store for so many deliveries, and so many dead ones among them.
    #[must_use]
    pub fn new(limit: usize, dead_limit: usize) -> Self {
        Self { next: 1, limit, dead_limit, ..Self::default() }
    }

    fn dead(&self) -> usize {
        self.deliveries.values().filter(|(row, _)| row.state == DeliveryState::Dead).count()
    }

    fn route_number(&mut self, name: &str) -> u16 {
        let at = self.routes.iter().position(|known| known == name).unwrap_or_else(|| {
            self.routes.push(name.to_owned());
            self.routes.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    fn settle(&mut self, settlement: &Settlement, now: u64, done: &mut Committed) {
        let room = self.dead() < self.dead_limit;
        let found = self.deliveries.get_mut(&settlement.id).map(|(row, _)| row);
        if let Some(row) = found.filter(|row| row.redrives == settlement.redrives) {
            match settlement.settled {
                Settled::Done => drop(self.deliveries.remove(&settlement.id)),
                Settled::Dead { .. } if !room => return done.kept.push(settlement.id),
                Settled::Again { .. } => settlement.apply(row, now),
                Settled::Dead { .. } => {
                    settlement.apply(row, now);
                    row.state = DeliveryState::Dead;
                }
            }
        }
        done.settled.push(*settlement);
    }

    fn matching(&self, filter: &DeliveryFilter, room: usize) -> Vec<DeliveryId> {
        let fits = |row: &&DeliveryRow| filter.matches(row, self.route_name(row.route));
        self.deliveries.values().map(|(row, _)| row).filter(fits).map(|row| row.id).take(room).collect()
    }
}

fn unix(now: Now) -> u64 {
    u64::try_from(now.unix_millis()).unwrap_or(0)
}

impl DeliveryStore for MemoryStore {
    fn commit(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        settlements: &[Settlement],
        now: Now,
        done: &mut Committed,
    ) -> Result<(), StoreRefusal> {
        settlements.iter().for_each(|settlement| self.settle(settlement, unix(now), done));
        if self.deliveries.len() + fresh.len() > self.limit {
            return Err(StoreRefusal::Full);
        }
        for fresh in fresh {
            let id = DeliveryId(self.next);
            self.next += 1;
            let row = DeliveryRow {
                id,
                state: DeliveryState::Waiting,
                reason: DeliveryReason::New,
                redrives: 0,
                route: self.route_number(fresh.route),
                attempts: 0,
                status: 0,
                chunks: chunks_of(fresh).ok_or(StoreRefusal::Full)?,
                head_length: u32::try_from(fresh.head.len()).unwrap_or(u32::MAX),
                body_length: fresh.body.len() as u64,
                accepted: fresh.accepted,
                begun: fresh.accepted,
                due: 0,
                changed: unix(now),
                order_key: fresh.order_key,
                seen_key: fresh.seen_key,
            };
            let mut content = Vec::new();
            write_chunks(fresh, id, &Sealer::Plain, &mut Vec::new(), |place, chunk| {
                open_chunk(&mut chunk.to_vec(), place, &Sealer::Plain, &mut content).ok_or(StoreRefusal::Failed)
            })?;
            done.accepted.push(row.clone());
            self.deliveries.insert(id, (row, content));
        }
        Ok(())
    }

    fn take(&mut self, room: usize, out: &mut Vec<DeliveryRow>) {
        let ids: Vec<DeliveryId> = self.untaken.drain(..room.min(self.untaken.len())).collect();
        out.extend(ids.into_iter().filter_map(|id| self.deliveries.get(&id).map(|(row, _)| row.clone())));
    }

    fn fetch(&mut self, id: DeliveryId, into: &mut StoredRecord) -> Result<Fetched, StoreTrouble> {
        let Some((_, content)) = self.deliveries.get(&id) else { return Ok(Fetched::Gone) };
        into.bytes.clone_from(content);
        let parts = RecordParts::of(content);
        let whole = parts.is_some();
        into.parts = parts.unwrap_or_default();
        Ok(if whole { Fetched::Whole } else { Fetched::Damaged })
    }

    fn browse(
        &mut self,
        filter: &DeliveryFilter,
        after: Option<DeliveryId>,
        room: usize,
        out: &mut Vec<DeliveryRow>,
    ) -> Result<bool, StoreTrouble> {
        let mut found = self.matching(filter, usize::MAX);
        found.retain(|id| after.is_none_or(|after| *id > after));
        out.extend(found.iter().take(room).filter_map(|id| self.deliveries.get(id)).map(|(row, _)| row.clone()));
        Ok(found.len() > room)
    }

    fn order(&mut self, order: &StoreOrder, now: Now) -> Result<Vec<DeliveryId>, StoreTrouble> {
        match order {
            StoreOrder::Redrive(filter, room) => {
                let filter = DeliveryFilter { state: Some(DeliveryState::Dead), ..filter.clone() };
                let ids = self.matching(&filter, *room);
                for id in &ids {
                    if let Some((row, _)) = self.deliveries.get_mut(id) {
                        row.redrive(unix(now));
                        self.untaken.push_back(*id);
                    }
                }
                Ok(ids)
            }
            StoreOrder::Purge(filter, room) => {
                let ids = self.matching(filter, *room);
                ids.iter().for_each(|id| drop(self.deliveries.remove(id)));
                self.gone.extend(&ids);
                Ok(ids)
            }
            StoreOrder::Hold(route, held) => {
                self.held.retain(|known| known != route);
                self.held.extend(held.then(|| route.clone()));
                Ok(Vec::new())
            }
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
        let dead = self.dead();
        StoreStanding {
            waiting: (self.deliveries.len() - dead) as u64,
            dead: dead as u64,
            dead_letters_full: dead >= self.dead_limit,
            ..StoreStanding::default()
        }
    }

    fn mend(&mut self, _now: Now, _done: &mut Committed) {}
}
