//! Records of deliveries, as the engine keeps them.
//!
//! A record is its version, a number that its chunks name in place of the id (which the engine chooses), what tells whether a
//! key is the one that it was encrypted with, and the chunks of [`crate::inbox::record`], one after the other.

use std::sync::Arc;

use crate::control::inbox::keys::{InboxKey, KeyRing, random_salt};
use crate::inbox::delivery::DeliveryId;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::{
    ChunkHeader, ChunkPlace, KeyCheck, KeyTag, RecordParts, Sealer, key_tag, open_chunk, stored_size, write_chunks,
};
use crate::inbox::store::StoredRecord;

const RECORD_VERSION: u8 = 1;

/// Bytes before the chunks.
const START: usize = 1 + 8 + size_of::<KeyCheck>();

/// What was found in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenedRecord {
    Whole,
    Damaged,
    /// It is encrypted with a key that is not there.
    Locked,
}

/// Seals records, and opens them.
#[derive(Debug)]
pub(super) struct RecordSealer {
    keys: KeyRing,
    known: Arc<Vec<InboxKey>>,
    /// By the names of their keys, the one that seals first; none without encryption.
    sealers: Vec<(KeyTag, Sealer)>,
    plain: Sealer,
    next: u64,
}

impl RecordSealer {
    /// Nothing without randomness.
    pub(super) fn new(keys: KeyRing) -> Option<Self> {
        let known = keys.current();
        let sealers = sealers(&known)?;
        Some(Self { keys, known, sealers, plain: Sealer::Plain, next: 0 })
    }

    /// Follows the keys that are in force. Gives whether they have changed.
    pub(super) fn follow(&mut self) -> bool {
        let keys = self.keys.current();
        if Arc::ptr_eq(&keys, &self.known) {
            return false;
        }
        let Some(sealers) = sealers(&keys) else { return false };
        (self.known, self.sealers) = (keys, sealers);
        true
    }

    /// The record of a delivery.
    pub(super) fn seal(&mut self, fresh: &FreshDelivery<'_>) -> Vec<u8> {
        let sealer = self.sealers.first().map_or(&self.plain, |(_, sealer)| sealer);
        self.next += 1;
        let mut out = Vec::with_capacity(START + usize::try_from(stored_size(fresh)).unwrap_or(0) + 64);
        out.push(RECORD_VERSION);
        out.extend(self.next.to_le_bytes());
        out.extend(sealer.check().unwrap_or_default());
        let mut scratch = Vec::new();
        let _ = write_chunks(fresh, DeliveryId(self.next), sealer, &mut scratch, |_, chunk| {
            out.extend_from_slice(chunk);
            Ok::<(), ()>(())
        });
        out
    }

    /// Opens a record.
    pub(super) fn open(&self, record: &[u8], into: &mut StoredRecord) -> OpenedRecord {
        into.bytes.clear();
        self.open_into(record, into).unwrap_or(OpenedRecord::Damaged)
    }

    fn open_into(&self, record: &[u8], into: &mut StoredRecord) -> Option<OpenedRecord> {
        let (start, mut rest) = record.split_at_checked(START)?;
        let (version, start) = start.split_first()?;
        let (number, check) = start.split_first_chunk::<8>()?;
        if *version != RECORD_VERSION {
            return None;
        }
        let id = DeliveryId(u64::from_le_bytes(*number));
        let of = ChunkHeader::read(rest)?.place.of;
        for chunk in 0..of {
            let header = ChunkHeader::read(rest)?;
            let sealer = match header.key {
                None => &self.plain,
                Some(tag) => match self.sealers.iter().find(|(known, _)| *known == tag) {
                    Some((_, sealer)) if sealer.check().is_some_and(|it| it == *check) => sealer,
                    _ => return Some(OpenedRecord::Locked),
                },
            };
            let (bytes, more) = rest.split_at_checked(header.size())?;
            open_chunk(&mut bytes.to_vec(), ChunkPlace { id, chunk, of }, sealer, &mut into.bytes)?;
            rest = more;
        }
        into.parts = RecordParts::of(&into.bytes).filter(|_| rest.is_empty())?;
        Some(OpenedRecord::Whole)
    }
}

/// Each with a fresh salt.
fn sealers(keys: &[InboxKey]) -> Option<Vec<(KeyTag, Sealer)>> {
    keys.iter().map(|key| Some((key_tag(&key.id), Sealer::encrypted(&key.id, &key.bytes, &random_salt()?)?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::inbox::contract_tests::fresh;

    fn key(id: &str, byte: u8) -> InboxKey {
        InboxKey::parse(id, vec![byte; 32]).unwrap()
    }

    fn sealer(keys: Vec<InboxKey>) -> RecordSealer {
        RecordSealer::new(keys.into()).unwrap()
    }

    #[test]
    fn records_are_opened_with_the_key_that_sealed_them_and_with_no_other() {
        let body = vec![7; 150_000];
        let mut plain = sealer(Vec::new());
        let mut first = sealer(vec![key("a", 1)]);
        let mut into = StoredRecord::default();
        let (open, sealed) = (plain.seal(&fresh("r", &body)), first.seal(&fresh("r", &body)));
        assert!(memchr::memmem::find(&sealed, &[7; 32]).is_none());
        assert_eq!(plain.open(&open, &mut into), OpenedRecord::Whole);
        assert_eq!((into.route(), into.body()), ("r", &body[..]));
        let both = sealer(vec![key("b", 2), key("a", 1)]);
        assert_eq!(
            (both.open(&sealed, &mut into), both.open(&open, &mut into)),
            (OpenedRecord::Whole, OpenedRecord::Whole)
        );
        assert_eq!(plain.open(&sealed, &mut into), OpenedRecord::Locked);
        assert_eq!(
            sealer(vec![key("a", 2)]).open(&sealed, &mut into),
            OpenedRecord::Locked,
            "another key of that name"
        );
        for at in [0, 3, START + 2, START + 60, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_ne!(both.open(&changed, &mut into), OpenedRecord::Whole, "{at}");
        }
        assert_eq!(both.open(&sealed[..sealed.len() - 1], &mut into), OpenedRecord::Damaged);
        assert_eq!(both.open(&[], &mut into), OpenedRecord::Damaged);
    }

    #[test]
    fn keys_are_followed() {
        let ring = KeyRing::from(vec![key("a", 1)]);
        let mut sealer = RecordSealer::new(ring.clone()).unwrap();
        assert!(!sealer.follow());
        ring.set(vec![key("b", 2)]);
        assert!(sealer.follow());
        let record = sealer.seal(&fresh("r", b"1"));
        assert_eq!(sealer.open(&record, &mut StoredRecord::default()), OpenedRecord::Whole);
    }
}
