//! What is in the engine, for attempts and for operators.

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::engine::answers::{InboxAnswer, InboxRefusal, id_text, read_id};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::row::{DeliveryRow, ROW_SIZE};
use crate::inbox::store::{Fetched, StoreTrouble, StoredRecord};
use crate::wire::resp;

use super::sealing::OpenedRecord;
use super::store::{EngineStore, away};

/// So many rows are read at a time.
const PAGE: usize = 256;

/// The id in rows: the engine chooses the real one, and keeps the row under it.
const NO_ID: DeliveryId = DeliveryId(0);

/// Bytes of the name of a holding, in front of a row.
const HOLDING: usize = 16;

/// A row that the engine has told; nothing where it is not what was written.
#[derive(Debug)]
pub(super) struct ListedRow {
    pub(super) id: DeliveryId,
    pub(super) row: Option<DeliveryRow>,
}

fn read_row(id: DeliveryId, bytes: &[u8]) -> ListedRow {
    let row = DeliveryRow::decode(bytes).filter(|row| row.id == NO_ID);
    ListedRow { id, row: row.map(|row| DeliveryRow { id, ..row }) }
}

/// A row as it is kept.
pub(super) fn kept_bytes(row: &DeliveryRow) -> Vec<u8> {
    DeliveryRow { id: NO_ID, ..row.clone() }.encode().to_vec()
}

/// Rows of a list that has id, row and order key of each.
pub(super) fn listed(texts: Vec<&[u8]>) -> Vec<ListedRow> {
    let each = |three: &[&[u8]]| Some(read_row(read_id(three.first()?)?, three.get(1)?));
    texts.chunks(3).filter_map(each).collect()
}

/// A row as it is kept, without its holding and its order key.
fn kept_row(id: DeliveryId, value: &[u8]) -> ListedRow {
    read_row(id, value.get(HOLDING..HOLDING + ROW_SIZE).unwrap_or_default())
}

/// What is written in place of a row that is not what was written.
pub(super) fn unreadable(id: DeliveryId) -> DeliveryRow {
    DeliveryRow {
        id,
        state: DeliveryState::Damaged,
        reason: DeliveryReason::DamagedRecord,
        redrives: 0,
        route: u16::MAX,
        attempts: 0,
        status: 0,
        chunks: 0,
        head_length: 0,
        body_length: 0,
        accepted: 0,
        begun: 0,
        due: 0,
        changed: 0,
        order_key: [0; 16],
        seen_key: [0; 32],
    }
}

impl EngineStore {
    /// Reads a record.
    pub(super) fn look_up(&mut self, id: DeliveryId, into: &mut StoredRecord) -> Result<Fetched, StoreTrouble> {
        if self.locked.contains_key(&id) {
            return Err(locked(id));
        }
        let (mut out, text) = (Vec::new(), id_text(id));
        for key in [self.link.keys.rows(), self.link.keys.records()] {
            resp::command(&mut out, &[b"HGET", key.as_bytes(), text.as_bytes()]);
        }
        let replies = self.link.send(&out, 2).map_err(|_| away())?;
        let value = |at: usize| match replies.get(at).map(|reply| InboxAnswer::plain(reply).text_if_any()) {
            Some(Ok(value)) => Ok(value),
            Some(Err(refusal)) => Err(trouble(&refusal)),
            None => Err(away()),
        };
        let (Some(row), Some(record)) = (value(0)?, value(1)?) else { return Ok(Fetched::Gone) };
        let ListedRow { row, .. } = kept_row(id, row);
        let opened = self.sealer.open(record, into);
        if opened == OpenedRecord::Locked {
            if let Some(row) = self.owned.get(&id) {
                self.locked.insert(id, row.clone());
                self.gone.push(id);
                self.notes.push(format!("delivery {id} waits for its key: {}", locked(id)));
            }
            return Err(locked(id));
        }
        if let Some(row) = row {
            self.learn_routes(&[ListedRow { id, row: Some(row.clone()) }]);
            let route = self.routes.get(usize::from(row.route)).map_or("", String::as_str);
            if opened == OpenedRecord::Whole && into.is_of(&row, route) {
                return Ok(Fetched::Whole);
            }
        }
        self.mark_damaged(id);
        Ok(Fetched::Damaged)
    }

    /// Appends what matches, in the order of ids. Gives whether there is more.
    pub(super) fn look_through(
        &mut self,
        filter: &DeliveryFilter,
        after: Option<DeliveryId>,
        room: usize,
        out: &mut Vec<DeliveryRow>,
    ) -> Result<bool, StoreTrouble> {
        let end = out.len().saturating_add(room);
        let mut behind = after;
        let mut named = filter.ids.clone();
        named.sort_unstable();
        named.dedup();
        let mut named = named.into_iter().filter(|id| after.is_none_or(|after| *id > after));
        loop {
            let ids: Vec<DeliveryId> =
                if filter.ids.is_empty() { self.ids_behind(behind)? } else { named.by_ref().take(PAGE).collect() };
            let Some(last) = ids.last().copied() else { return Ok(false) };
            behind = Some(last);
            self.keep_lease();
            for row in self.rows_of(&ids)? {
                let route = self.routes.get(usize::from(row.route)).map_or("", String::as_str);
                if filter.matches(&row, route) {
                    if out.len() == end {
                        return Ok(true);
                    }
                    out.push(row);
                }
            }
        }
    }

    fn ids_behind(&mut self, after: Option<DeliveryId>) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({}", id_text(after)));
        let (mut out, page) = (Vec::new(), PAGE.to_string());
        let key = self.link.keys.ids().as_bytes();
        resp::command(&mut out, &[b"ZRANGEBYLEX", key, from.as_bytes(), b"+", b"LIMIT", b"0", page.as_bytes()]);
        let replies = self.link.send(&out, 1).map_err(|_| away())?;
        let reply = replies.first().map_or(&[][..], Vec::as_slice);
        InboxAnswer::plain(reply).ids().map_err(|refusal| trouble(&refusal))
    }

    /// The rows of those that are there; a row that cannot be read is shown as damaged.
    pub(super) fn rows_of(&mut self, ids: &[DeliveryId]) -> Result<Vec<DeliveryRow>, StoreTrouble> {
        let texts: Vec<String> = ids.iter().map(|id| id_text(*id)).collect();
        let mut command = vec![&b"HMGET"[..], self.link.keys.rows().as_bytes()];
        command.extend(texts.iter().map(String::as_bytes));
        let mut out = Vec::new();
        resp::command(&mut out, &command);
        let replies = self.link.send(&out, 1).map_err(|_| away())?;
        let reply = replies.first().map_or(&[][..], Vec::as_slice);
        let values = InboxAnswer::plain(reply).list().map_err(|refusal| trouble(&refusal))?;
        let rows: Vec<ListedRow> =
            ids.iter().zip(values).filter_map(|(id, value)| value.map(|value| kept_row(*id, value))).collect();
        self.learn_routes(&rows);
        Ok(rows.into_iter().map(|listed| listed.row.unwrap_or_else(|| unreadable(listed.id))).collect())
    }

    /// Asks for the names of routes, where a row has a number without one.
    pub(super) fn learn_routes(&mut self, rows: &[ListedRow]) {
        let known = |row: &DeliveryRow| {
            row.state == DeliveryState::Damaged
                || self.routes.get(usize::from(row.route)).is_some_and(|it| !it.is_empty())
        };
        if rows.iter().filter_map(|listed| listed.row.as_ref()).all(known) {
            return;
        }
        let mut out = Vec::new();
        resp::command(&mut out, &[b"HGETALL", self.link.keys.routes().as_bytes()]);
        let Ok(replies) = self.link.send(&out, 1) else { return };
        let reply = replies.first().map_or(&[][..], Vec::as_slice);
        let pairs = InboxAnswer::plain(reply).texts().unwrap_or_default();
        for pair in pairs.chunks(2) {
            let number = pair.get(1).and_then(|number| core::str::from_utf8(number).ok()?.parse::<u16>().ok());
            let Some((name, at)) = pair.first().zip(number.map(usize::from)) else { continue };
            if self.routes.len() <= at {
                self.routes.resize(at + 1, String::new());
            }
            if let Some(place) = self.routes.get_mut(at) {
                *place = String::from_utf8_lossy(name).into_owned();
            }
        }
    }
}

fn locked(id: DeliveryId) -> StoreTrouble {
    StoreTrouble(format!("delivery {id} is encrypted with a key that is not among those of [inbox] encryption.keys"))
}

pub(super) fn trouble(refusal: &InboxRefusal) -> StoreTrouble {
    StoreTrouble(refusal.to_string())
}
