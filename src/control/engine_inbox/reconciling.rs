//! A new connection begins with a look at what is in the holding: answers over the former one may have been lost that had told
//! of deliveries, or of their end.

use std::collections::BTreeSet;

use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::engine::answers::{InboxAnswer, InboxRefusal, id_text};
use crate::inbox::store::StoreTrouble;
use crate::wire::resp;

use super::looking::trouble;
use super::store::{EngineStore, away};

/// So many ids are read at a time.
const PAGE: usize = 4_096;

/// So many rows are read at a time.
const ROWS: usize = 256;

impl EngineStore {
    /// Learns what is in the holding and is not known, and forgets what is known and not in it. Gives whether the engine said
    /// so. Nothing is put before: what is found may be older, and of the same key.
    pub(super) fn reconcile(&mut self) -> bool {
        match self.try_reconcile() {
            Ok(()) => true,
            Err(why) => {
                self.link.doubt(&InboxRefusal::Failed(why.to_string()));
                false
            }
        }
    }

    fn try_reconcile(&mut self) -> Result<(), StoreTrouble> {
        let me = self.me();
        let mut out = Vec::new();
        resp::command(&mut out, &[b"ZSCORE", self.link.keys.leases().as_bytes(), me.as_bytes()]);
        let replies = self.link.send(&out, 1).map_err(|_| away())?;
        let lease = InboxAnswer::plain(replies.first().map_or(&[][..], Vec::as_slice)).text_if_any();
        if lease.map_err(|refusal| trouble(&refusal))?.is_none() {
            self.refused(&InboxRefusal::Lost);
            return Ok(());
        }
        let there = self.ids_of_holding(&me)?;
        let mut unknown: Vec<DeliveryId> = there.iter().filter(|id| !self.is_known(**id)).copied().collect();
        let dead = self.owned.values().filter(|row| row.state == DeliveryState::Dead).map(|row| row.id);
        unknown.extend(dead.filter(|id| there.contains(id)));
        unknown.sort_unstable();
        for some in unknown.chunks(ROWS) {
            for row in self.rows_of(some)? {
                let is_redriven = row.state == DeliveryState::Waiting;
                if row.state != DeliveryState::Damaged && (is_redriven || !self.is_known(row.id)) {
                    self.own(row);
                }
            }
        }
        let extra: Vec<DeliveryId> = self.owned.keys().filter(|id| !there.contains(id)).copied().collect();
        extra.into_iter().for_each(|id| self.forget(id));
        Ok(())
    }

    fn is_known(&self, id: DeliveryId) -> bool {
        self.owned.contains_key(&id)
    }

    fn ids_of_holding(&mut self, me: &str) -> Result<BTreeSet<DeliveryId>, StoreTrouble> {
        let (key, page) = (format!("{}of:{me}", self.link.keys.start()), PAGE.to_string());
        let (mut all, mut from) = (BTreeSet::new(), "-".to_owned());
        loop {
            let mut out = Vec::new();
            let range = [key.as_bytes(), from.as_bytes(), b"+", b"LIMIT", b"0", page.as_bytes()];
            resp::command(&mut out, &[&[&b"ZRANGEBYLEX"[..]], &range[..]].concat());
            let replies = self.link.send(&out, 1).map_err(|_| away())?;
            let ids = InboxAnswer::plain(replies.first().map_or(&[][..], Vec::as_slice)).ids();
            let ids = ids.map_err(|refusal| trouble(&refusal))?;
            let Some(last) = ids.last() else { return Ok(all) };
            from = format!("({}", id_text(*last));
            let is_last = ids.len() < PAGE;
            all.extend(ids);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// A delivery is not this replica's to attempt.
    pub(super) fn forget(&mut self, id: DeliveryId) {
        self.owned.remove(&id);
        self.locked.remove(&id);
        self.untaken.retain(|row| row.id != id);
        self.gone.push(id);
    }
}
