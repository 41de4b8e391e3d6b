//! What operators ask for.

use crate::inbox::delivery::{DeliveryId, DeliveryState};
use crate::inbox::engine::answers::{InboxAnswer, InboxRefusal, id_text};
use crate::inbox::engine::scripts::InboxScript;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::StoreTrouble;
use crate::now::Now;
use crate::wire::resp;

use super::looking::{kept_bytes, trouble};
use super::store::{EngineStore, away, unix};

/// So many deliveries are changed at a time.
const AT_A_TIME: usize = 256;

impl EngineStore {
    fn matching(&mut self, filter: &DeliveryFilter, room: usize) -> Result<Vec<DeliveryRow>, StoreTrouble> {
        let mut rows = Vec::new();
        self.look_through(filter, None, room, &mut rows)?;
        Ok(rows)
    }

    /// Runs a script over deliveries. Gives what the engine says of each.
    fn change(&mut self, script: InboxScript, arguments: &[&[u8]]) -> Result<Vec<u8>, StoreTrouble> {
        let reply = self.link.call(script, arguments).map_err(|_| away())?;
        let read = InboxAnswer::of(&reply).and_then(|mut answer| Ok((answer.text()?.to_vec(), answer.counts()?)));
        let (said, counts) = read.map_err(|refusal| {
            self.refused(&refusal);
            trouble(&refusal)
        })?;
        self.counted(counts);
        Ok(said)
    }

    pub(super) fn redrive(
        &mut self,
        filter: &DeliveryFilter,
        room: usize,
        now: Now,
    ) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let filter = DeliveryFilter { state: Some(DeliveryState::Dead), ..filter.clone() };
        let mut redriven = Vec::new();
        for some in self.matching(&filter, room)?.chunks(AT_A_TIME) {
            let me = self.me();
            let texts: Vec<(String, Vec<Vec<u8>>, DeliveryRow)> = some
                .iter()
                .map(|row| {
                    let mut next = row.clone();
                    next.redrive(unix(now));
                    (id_text(row.id), vec![kept_bytes(row), kept_bytes(&next)], next)
                })
                .collect();
            let mut arguments = vec![me.as_bytes()];
            for (id, rows, _) in &texts {
                arguments.push(id.as_bytes());
                arguments.extend(rows.iter().map(Vec::as_slice));
            }
            let said = self.change(InboxScript::Redrive, &arguments)?;
            for ((_, _, row), said) in texts.into_iter().zip(said) {
                match said {
                    b'1' => {
                        redriven.push(row.id);
                        self.own(row);
                    }
                    b'3' => redriven.push(row.id),
                    _ => {}
                }
            }
        }
        redriven.sort_unstable();
        Ok(redriven)
    }

    pub(super) fn purge(&mut self, filter: &DeliveryFilter, room: usize) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let mut purged = Vec::new();
        for some in self.matching(filter, room)?.chunks(AT_A_TIME) {
            let me = self.me();
            let texts: Vec<(String, Vec<u8>)> = some.iter().map(|row| (id_text(row.id), kept_bytes(row))).collect();
            let mut arguments = vec![me.as_bytes()];
            texts.iter().for_each(|(id, row)| arguments.extend([id.as_bytes(), row.as_slice()]));
            let said = self.change(InboxScript::Remove, &arguments)?;
            let removed = some.iter().zip(said).filter(|(_, said)| *said == b'1').map(|(row, _)| row.id);
            for id in removed {
                self.forget(id);
                purged.push(id);
            }
        }
        purged.sort_unstable();
        Ok(purged)
    }

    pub(super) fn hold(&mut self, route: &str, held: bool) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let (mut out, key) = (Vec::new(), self.link.keys.held().as_bytes());
        let command: &[u8] = if held { b"SADD" } else { b"SREM" };
        resp::command(&mut out, &[command, key, route.as_bytes()]);
        resp::command(&mut out, &[b"SMEMBERS", key]);
        let replies = self.link.send(&out, 2).map_err(|_| away())?;
        let mut replies = replies.iter();
        let changed = replies.next().map_or(Err(InboxRefusal::Malformed), |it| InboxAnswer::plain(it).number());
        changed.map_err(|refusal| trouble(&refusal))?;
        let names = replies.next().map_or(Err(InboxRefusal::Malformed), |it| InboxAnswer::plain(it).texts());
        let names = names.map_err(|refusal| trouble(&refusal))?;
        let names = names.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        self.hear_held(names);
        Ok(Vec::new())
    }
}
