//! Ends of attempts on their way into the engine.

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::engine::answers::{InboxAnswer, InboxCounts, id_text};
use crate::inbox::engine::scripts::InboxScript;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Committed, Settled, Settlement};
use crate::now::Now;

use super::looking::kept_bytes;
use super::store::{EngineStore, number_text, unix};

/// For how long a delivery waits that should be dead, for which there was no room: 15 minutes, in milliseconds.
const KEPT_FOR: u64 = 900_000;

/// So many settlements are written at a time.
const AT_A_TIME: usize = 256;

/// What becomes of a delivery, as the engine is told.
#[derive(Debug)]
pub(super) struct WrittenEnd {
    pub(super) id: DeliveryId,
    pub(super) what: &'static str,
    /// Its row from now on; nothing where it is removed.
    pub(super) row: Option<DeliveryRow>,
}

impl EngineStore {
    /// Writes all settlements that wait, and reports those that are written.
    pub(super) fn flush(&mut self, now: Now, done: &mut Committed) {
        while !self.later.is_empty() {
            let count = self.later.len().min(AT_A_TIME);
            let some: Vec<Settlement> = self.later.drain(..count).collect();
            let mut meant = Vec::with_capacity(some.len());
            for settlement in some {
                match self.end_of_settlement(&settlement, now) {
                    Some(end) => meant.push((settlement, end)),
                    None => done.settled.push(settlement),
                }
            }
            if meant.is_empty() {
                continue;
            }
            let (settlements, ends): (Vec<_>, Vec<_>) = meant.into_iter().unzip();
            let Some(said) = self.write_ends(&ends) else {
                if self.holding.is_some() {
                    // They are written when the engine is there again.
                    self.later.splice(0..0, settlements);
                } else {
                    self.fenced += settlements.len() as u64;
                    done.settled.extend(settlements);
                }
                return;
            };
            for ((settlement, end), said) in settlements.into_iter().zip(ends).zip(said) {
                self.written(settlement, end, said, done);
            }
        }
    }

    /// What a settlement changes; nothing where it is about a former life, or the delivery is not this replica's.
    fn end_of_settlement(&self, settlement: &Settlement, now: Now) -> Option<WrittenEnd> {
        let row = self.owned.get(&settlement.id)?;
        if row.redrives != settlement.redrives || row.state != DeliveryState::Waiting {
            return None;
        }
        let mut row = row.clone();
        settlement.apply(&mut row, unix(now));
        let id = settlement.id;
        Some(match settlement.settled {
            Settled::Done => WrittenEnd { id, what: "done", row: None },
            Settled::Again { .. } => WrittenEnd { id, what: "again", row: Some(row) },
            Settled::Dead { .. } => {
                row.state = DeliveryState::Dead;
                WrittenEnd { id, what: "dead", row: Some(row) }
            }
        })
    }

    /// Tells the engine what becomes of deliveries. Gives what it says of each; nothing where it could not be told.
    pub(super) fn write_ends(&mut self, ends: &[WrittenEnd]) -> Option<Vec<u8>> {
        let (me, dead_size) = (self.me(), number_text(self.bounds.dead_size));
        let texts: Vec<(String, Vec<u8>)> =
            ends.iter().map(|end| (id_text(end.id), end.row.as_ref().map(kept_bytes).unwrap_or_default())).collect();
        let mut arguments = vec![me.as_bytes(), dead_size.as_bytes()];
        for (end, (id, row)) in ends.iter().zip(&texts) {
            arguments.extend([id.as_bytes(), end.what.as_bytes(), row]);
        }
        let reply = self.link.call(InboxScript::Settle, &arguments).ok()?;
        let read = InboxAnswer::of(&reply).and_then(|mut answer| Ok((answer.text()?.to_vec(), answer.counts()?)));
        match read {
            Ok((said, counts)) => {
                self.counted(counts);
                Some(said)
            }
            Err(refusal) => {
                self.refused(&refusal);
                None
            }
        }
    }

    fn written(&mut self, settlement: Settlement, end: WrittenEnd, said: u8, done: &mut Committed) {
        let WrittenEnd { id, row, .. } = end;
        match (said, row) {
            (b'1', Some(row)) if row.state != DeliveryState::Dead || row.order_key != [0; 16] => {
                self.owned.insert(id, row);
            }
            (b'2', row) => {
                self.dead_full = Some(self.counts.dead_bytes);
                done.kept.push(id);
                let due = row.map_or(0, |row| row.changed + KEPT_FOR);
                let settled = Settled::Again { due };
                return self.later.push(Settlement { settled, ..settlement });
            }
            (b'1', _) => _ = self.owned.remove(&id),
            _ => {
                // It was purged, or is another replica's by now.
                self.fenced += 1;
                self.owned.remove(&id);
                self.gone.push(id);
            }
        }
        done.settled.push(settlement);
    }

    /// The engine has told how much there is.
    pub(super) fn counted(&mut self, counts: InboxCounts) {
        self.counts = counts;
        if self.dead_full.is_some_and(|full| counts.dead_bytes < full) {
            self.dead_full = None;
        }
    }

    /// What was read is not what was written: the delivery is kept and never attempted.
    pub(super) fn mark_damaged(&mut self, id: DeliveryId) {
        let Some(mut row) = self.owned.remove(&id) else { return };
        row.state = DeliveryState::Damaged;
        row.reason = DeliveryReason::DamagedRecord;
        self.notes.push(format!("delivery {id} is damaged in the engine: it is kept and not attempted"));
        self.untaken.retain(|row| row.id != id);
        self.gone.push(id);
        let _ = self.write_ends(&[WrittenEnd { id, what: "bad", row: Some(row) }]);
    }
}
