//! What is done several times a second: the lease is prolonged, and what others have left or done is learned.

use std::time::Duration;

use crate::inbox::delivery::DeliveryId;
use crate::inbox::engine::answers::{InboxAnswer, InboxCounts, InboxRefusal};
use crate::inbox::engine::scripts::InboxScript;
#[cfg(test)]
use crate::inbox::store::{Committed, DeliveryStore};
#[cfg(test)]
use crate::now::Now;

use super::looking::{ListedRow, listed, unreadable};
use super::store::{EngineStore, number_text};

/// Between two ticks while nothing changes.
const PACE: Duration = Duration::from_millis(100);

/// So much later a tick comes at the latest, whatever else is done.
const LATE: Duration = Duration::from_secs(1);

/// So many deliveries are learned of at a time.
const AT_A_TIME: &[u8] = b"256";

/// So many ticks follow each other at once: the thread has other things to do.
const IN_A_ROW: usize = 4;

/// What a tick has told.
struct TickNews {
    more: bool,
    held: Vec<String>,
    gone: Vec<DeliveryId>,
    expired: Vec<DeliveryId>,
    rows: Vec<ListedRow>,
    taken_over: u64,
    counts: InboxCounts,
}

impl TickNews {
    fn read(reply: &[u8]) -> Result<Self, InboxRefusal> {
        let mut answer = InboxAnswer::of(reply)?;
        let more = answer.number()? > 0;
        let held = answer.texts()?;
        Ok(Self {
            more,
            held: held.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
            gone: answer.ids()?,
            expired: answer.ids()?,
            rows: listed(answer.texts()?),
            taken_over: answer.number()?,
            counts: answer.counts()?,
        })
    }
}

impl EngineStore {
    pub(super) fn tick_when_due(&mut self) {
        for _ in 0..IN_A_ROW {
            if self.link.now() < self.next_tick || !self.tick() {
                return;
            }
        }
    }

    /// Prolongs the lease in the middle of something that takes long.
    pub(super) fn keep_lease(&mut self) {
        if self.holding.is_some() && self.link.now() >= self.next_tick + LATE {
            self.tick();
        }
    }

    /// Gives whether there is more at once.
    fn tick(&mut self) -> bool {
        let asked = self.link.now();
        let (me, lease, retention) = (self.me(), self.bounds.lease.current(), number_text(self.bounds.retention));
        let text = number_text(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        let arguments = [me.as_bytes(), text.as_bytes(), AT_A_TIME, retention.as_bytes()];
        let Ok(reply) = self.link.call(InboxScript::Tick, &arguments) else { return false };
        match TickNews::read(&reply) {
            Ok(news) => {
                self.next_tick = asked + if news.more { Duration::ZERO } else { PACE };
                if let Some(holding) = &mut self.holding {
                    holding.until = asked + lease;
                }
                let more = news.more;
                self.hear(news);
                more
            }
            Err(refusal) => {
                self.refused(&refusal);
                false
            }
        }
    }

    fn hear(&mut self, news: TickNews) {
        self.counted(news.counts);
        self.hear_held(news.held);
        for id in news.gone {
            self.forget(id);
        }
        self.expired.extend(news.expired);
        if news.taken_over > 0 {
            self.taken_over += news.taken_over;
            self.notes.push(format!(
                "{} deliveries are taken over from a replica that has ended or could not reach the engine",
                news.taken_over
            ));
        }
        self.own_listed(news.rows);
    }

    pub(super) fn hear_held(&mut self, mut held: Vec<String>) {
        held.sort_unstable();
        let released = self.held.iter().filter(|route| !held.contains(route)).map(|route| (route.clone(), false));
        let added = held.iter().filter(|route| !self.held.contains(route)).map(|route| (route.clone(), true));
        let changes: Vec<_> = released.chain(added).collect();
        self.held_changes.extend(changes);
        self.held = held;
    }

    /// Rows that are this replica's from now on.
    pub(super) fn own_listed(&mut self, rows: Vec<ListedRow>) {
        self.learn_routes(&rows);
        for ListedRow { id, row } in rows {
            match row {
                // A tick after a new connection may tell again what was found with it.
                Some(row) if self.owned.get(&id).is_some_and(|known| *known == row) => {}
                Some(row) => self.own(row),
                None => {
                    self.owned.insert(id, unreadable(id));
                    self.mark_damaged(id);
                }
            }
        }
    }

    /// What waited for a key is attempted when it is there.
    pub(super) fn follow_keys(&mut self) {
        if self.sealer.follow() {
            for (_, row) in std::mem::take(&mut self.locked) {
                self.own(row);
            }
        }
    }

    /// Ends what can be ended without the engine: for tests that look at what follows.
    #[cfg(test)]
    pub(super) fn mend_at_once(&mut self, now: Now) {
        self.next_tick = Duration::ZERO;
        DeliveryStore::mend(self, now, &mut Committed::default());
    }
}
