//! The state of a delivery, as it is stored: 128 bytes, little-endian.

use ring::digest::{SHA256, digest};

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::lane::OrderKey;

/// Bytes of a row.
pub const ROW_SIZE: usize = 128;

/// The version of the format.
const ROW_VERSION: u8 = 1;

/// Where the check sum begins: the first 8 bytes of SHA-256 over what is before it.
const SUM_AT: usize = ROW_SIZE - 8;

/// A key under which a copy would be recognised. All zeros is none.
pub type SeenKey = [u8; 32];

/// The state of a delivery. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Which delivery.
    pub id: DeliveryId,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// How its last attempt ended, or why it is dead.
    pub reason: DeliveryReason,
    /// How often it has been redriven.
    pub redrives: u8,
    /// The number of its route in the store.
    pub route: u16,
    /// Attempts since it was accepted or redriven.
    pub attempts: u16,
    /// The last status; 0 where there was none.
    pub status: u16,
    /// Chunks of its record.
    pub chunks: u16,
    /// Bytes of its head.
    pub head_length: u32,
    /// Bytes of its body.
    pub body_length: u64,
    /// When it was accepted.
    pub accepted: u64,
    /// When it was accepted or last redriven: its age for giving up counts from then.
    pub begun: u64,
    /// Not before then it is attempted again.
    pub due: u64,
    /// When its state last changed.
    pub changed: u64,
    /// The key that orders it.
    pub order_key: OrderKey,
    /// The key under which a copy would be recognised.
    pub seen_key: SeenKey,
}

impl DeliveryRow {
    /// The row as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; ROW_SIZE] {
        let mut out = Vec::with_capacity(ROW_SIZE);
        out.extend([ROW_VERSION, self.state.number(), self.reason.number(), self.redrives]);
        [self.route, self.attempts, self.status, self.chunks].iter().for_each(|it| out.extend(it.to_le_bytes()));
        out.extend(self.head_length.to_le_bytes());
        [self.id.0, self.body_length, self.accepted, self.begun, self.due, self.changed]
            .iter()
            .for_each(|it| out.extend(it.to_le_bytes()));
        out.extend(self.order_key);
        out.extend(self.seen_key);
        out.resize(SUM_AT, 0);
        let sum = digest(&SHA256, &out);
        out.extend(sum.as_ref().iter().take(8));
        let mut row = [0; ROW_SIZE];
        row.iter_mut().zip(out).for_each(|(to, from)| *to = from);
        row
    }

    /// Makes a dead letter a delivery that waits for attempt 1.
    pub const fn redrive(&mut self, now: u64) {
        self.state = DeliveryState::Waiting;
        self.reason = DeliveryReason::New;
        self.redrives = self.redrives.saturating_add(1);
        self.attempts = 0;
        self.status = 0;
        self.begun = now;
        self.due = now;
        self.changed = now;
    }

    /// The row that these bytes are; nothing when they are none, or when a bit of them has changed.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_at_checked(SUM_AT).filter(|_| bytes.len() == ROW_SIZE)?;
        if digest(&SHA256, content).as_ref().get(..8)? != sum {
            return None;
        }
        let mut fields = Fields(content);
        let [version, state, reason, redrives] = fields.take()?;
        if version != ROW_VERSION {
            return None;
        }
        let mut two = || fields.take().map(u16::from_le_bytes);
        let (route, attempts, status, chunks) = (two()?, two()?, two()?, two()?);
        let head_length = fields.take().map(u32::from_le_bytes)?;
        let mut eight = || fields.take().map(u64::from_le_bytes);
        let (id, body_length, accepted) = (eight()?, eight()?, eight()?);
        let (begun, due, changed) = (eight()?, eight()?, eight()?);
        Some(Self {
            id: DeliveryId(id),
            state: DeliveryState::of_number(state)?,
            reason: DeliveryReason::of_number(reason)?,
            redrives,
            route,
            attempts,
            status,
            chunks,
            head_length,
            body_length,
            accepted,
            begun,
            due,
            changed,
            order_key: fields.take()?,
            seen_key: fields.take()?,
        })
    }
}

/// Fields of fixed size, one after the other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(in crate::inbox) fn row(id: u64) -> DeliveryRow {
        DeliveryRow {
            id: DeliveryId(id),
            state: DeliveryState::Waiting,
            reason: DeliveryReason::New,
            redrives: 0,
            route: 0,
            attempts: 0,
            status: 0,
            chunks: 1,
            head_length: 100,
            body_length: 2_000,
            accepted: 0,
            begun: 0,
            due: 0,
            changed: 0,
            order_key: [0; 16],
            seen_key: [0; 32],
        }
    }

    #[test]
    fn rows_are_read_as_they_are_written_and_every_changed_bit_is_found() {
        let row = DeliveryRow {
            state: DeliveryState::Dead,
            reason: DeliveryReason::GaveUpAge,
            redrives: 3,
            route: 7,
            attempts: 600,
            status: 503,
            chunks: 2,
            head_length: 777,
            body_length: 100_000,
            accepted: 1_795_478_400_123,
            begun: 1_795_478_400_124,
            due: 1_795_478_500_000,
            changed: 1_795_478_499_000,
            order_key: [5; 16],
            seen_key: [9; 32],
            ..row(u64::MAX - 4)
        };
        let bytes = row.encode();
        assert_eq!(DeliveryRow::decode(&bytes), Some(row));
        for bit in 0..ROW_SIZE * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(DeliveryRow::decode(&bytes), None, "bit {bit}");
        }
        assert_eq!(DeliveryRow::decode(&bytes[..127]), None);
        assert_eq!(DeliveryRow::decode(&[]), None);
    }
}
