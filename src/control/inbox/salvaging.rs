//! Deliveries from a file that the database refuses.
//!
//! A chunk says what it is and has a seal ([`crate::inbox::record`]), so that it is found wherever it lies. Pages that were
//! freed hold deliveries that were delivered long ago: what is found goes to the dead letters, and an operator decides.

use std::collections::BTreeMap;

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState, IDS_BELOW};
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::{
    ChunkHeader, ChunkSalt, KeyTag, RecordParts, Sealer, find_chunks, key_tag, open_chunk, stored_size,
};
use crate::inbox::row::ROW_SIZE;
use crate::inbox::store::{StoreRefusal, StoredRecord};
use crate::now::Now;

use super::bounds::WriteCause;
use super::keys::InboxKey;
use super::shelf::{Shelf, ShelfFile, fresh_row, unix};

/// So many copies of the chunks of a delivery are looked at, or four of each: a file that was made to be slow has any number.
const COPIES: usize = 256;

/// What was found in a file.
#[derive(Debug, Default)]
pub struct SalvagedFile {
    /// Deliveries of which everything was found, by id.
    pub whole: Vec<(DeliveryId, StoredRecord)>,
    /// Deliveries of which a part is missing or changed.
    pub partial: Vec<DeliveryId>,
    /// Deliveries that were encrypted with a key that was not given.
    pub locked: Vec<DeliveryId>,
}

/// What became of salvaged deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SalvageEnd {
    /// They are dead letters now.
    pub buried: Vec<DeliveryId>,
    /// The inbox has them anyway.
    pub known: Vec<DeliveryId>,
}

/// Finds the deliveries in the bytes of a file.
#[must_use]
pub fn salvage(bytes: &[u8], keys: &[InboxKey]) -> SalvagedFile {
    let mut chunks: BTreeMap<DeliveryId, Vec<(usize, ChunkHeader)>> = BTreeMap::new();
    find_chunks(bytes, |at, header| {
        let copies: &mut Vec<_> = chunks.entry(header.place.id).or_default();
        if header.place.id.0 < IDS_BELOW && copies.len() < COPIES.max(4 * usize::from(header.place.of)) {
            copies.push((at, header));
        }
    });
    chunks.retain(|_, copies| !copies.is_empty());
    let mut sealers: BTreeMap<KeyTag, Vec<Sealer>> = BTreeMap::new();
    for key in keys {
        // Each chunk has its own salt: that of the sealer does not matter, since it seals nothing.
        let sealer = Sealer::encrypted(&key.id, &key.bytes, &ChunkSalt::default());
        sealers.entry(key_tag(&key.id)).or_default().extend(sealer);
    }
    let mut found = SalvagedFile::default();
    for (id, chunks) in chunks {
        let locked = chunks.iter().all(|(_, header)| header.key.is_some_and(|tag| !sealers.contains_key(&tag)));
        match assemble(bytes, &chunks, &sealers) {
            Some(record) => found.whole.push((id, record)),
            None if locked => found.locked.push(id),
            None => found.partial.push(id),
        }
    }
    found
}

/// The content of a delivery, from the first copy of each chunk that is as it was written.
fn assemble(
    bytes: &[u8],
    chunks: &[(usize, ChunkHeader)],
    sealers: &BTreeMap<KeyTag, Vec<Sealer>>,
) -> Option<StoredRecord> {
    let mut parts: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    let mut of = 0;
    for (at, header) in chunks {
        if parts.contains_key(&header.place.chunk) {
            continue;
        }
        let chunk = bytes.get(*at..at + header.size())?;
        let plain = [Sealer::Plain];
        let candidates = header.key.map_or(&plain[..], |tag| sealers.get(&tag).map_or(&[], Vec::as_slice));
        let content = candidates.iter().find_map(|sealer| {
            let mut content = Vec::new();
            open_chunk(&mut chunk.to_vec(), header.place, sealer, &mut content).map(|()| content)
        });
        if let Some(content) = content {
            of = header.place.of;
            parts.insert(header.place.chunk, content);
        }
    }
    let whole = of > 0 && parts.len() == usize::from(of) && parts.keys().copied().eq(0..of);
    let bytes = whole.then(|| parts.into_values().flatten().collect::<Vec<u8>>())?;
    let parts = RecordParts::of(&bytes)?;
    Some(StoredRecord { bytes, parts })
}

impl Shelf {
    /// Makes dead letters of salvaged deliveries. Those that the inbox has anyway stay as they are.
    ///
    /// # Errors
    /// There is no room, or the disk fails; a part may have been done.
    pub fn bury_salvaged(
        &mut self,
        salvaged: &[(DeliveryId, StoredRecord)],
        now: Now,
    ) -> Result<SalvageEnd, StoreRefusal> {
        let mut end = SalvageEnd::default();
        for (id, record) in salvaged {
            if self.index.contains_key(id) {
                end.known.push(*id);
                continue;
            }
            self.bury_one(*id, record, now)?;
            end.buried.push(*id);
        }
        Ok(end)
    }

    fn bury_one(&mut self, id: DeliveryId, record: &StoredRecord, now: Now) -> Result<(), StoreRefusal> {
        if self.index.len() >= self.terms.deliveries {
            return Err(StoreRefusal::Full);
        }
        let fresh = FreshDelivery {
            route: record.route(),
            head: record.head(),
            body: record.body(),
            accepted: record.parts.accepted,
            order_key: record.parts.order_key,
            seen_key: record.parts.seen_key,
            seen_also: &[],
            seen_until: 0,
        };
        let size = stored_size(&fresh) + ROW_SIZE as u64;
        let number = self.accepting(true, size, now)?;
        let route = self.route_number(record.route());
        let mut row = fresh_row(&fresh, id, route, unix(now));
        (row.state, row.reason) = (DeliveryState::Dead, DeliveryReason::Salvaged);
        self.bound(number, WriteCause::Dead);
        let generation = self.files.get_mut(&number).and_then(ShelfFile::writable).ok_or(StoreRefusal::Failed)?;
        let written = generation.write(|writing| {
            writing.name_route(route, record.route())?;
            writing.add(&fresh, &row)
        });
        if let Err(error) = written {
            self.close(number, &error, now);
            return Err(if error.is_full() { StoreRefusal::Full } else { StoreRefusal::Failed });
        }
        if let Some(file) = self.files.get_mut(&number) {
            file.routes.insert(route);
            Self::note(&mut self.index, file, number, &row, size);
        }
        self.next_id = self.next_id.max(id.0 + 1);
        Ok(())
    }
}
