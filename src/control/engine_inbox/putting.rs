//! Deliveries on their way into the engine.

use std::collections::hash_map::Entry;
use std::time::Duration;

use crate::control::inbox::shelf::fresh_row;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::engine::answers::{InboxAnswer, InboxRefusal, PutPlace, put_places};
use crate::inbox::engine::scripts::InboxScript;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::chunks_of;
use crate::inbox::row::{DeliveryRow, SeenKey};
use crate::inbox::store::{Committed, StoreRefusal};
use crate::now::Now;

use super::link::NoReply;
use super::looking::{kept_bytes, listed};
use super::store::{EngineStore, number_text, unix};

/// For so long a put whose answer did not come is repeated before its senders are left without an answer.
const REPEATED: Duration = Duration::from_secs(6);

/// Between two attempts to reach an engine that is starting.
const PAUSE: Duration = Duration::from_millis(50);

/// The engine remembers no copy for longer, in milliseconds: a hundred years.
const LONGEST: u64 = 100 * 366 * 24 * 3_600 * 1_000;

/// A delivery as it is put.
struct PutDelivery {
    row: DeliveryRow,
    bytes: Vec<u8>,
    lane: String,
    record: Vec<u8>,
    remembered: String,
    names: String,
}

/// What came of a put.
enum PutEnd {
    Done(Vec<PutPlace>),
    /// Nothing of it was done, and it is repeated with a new holding.
    Anew,
    Refused(StoreRefusal),
}

impl EngineStore {
    /// Makes deliveries durable, all of them or none.
    pub(super) fn put(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        now: Now,
        done: &mut Committed,
    ) -> Result<(), StoreRefusal> {
        if fresh.iter().any(|fresh| chunks_of(fresh).is_none()) {
            return Err(StoreRefusal::Full);
        }
        let mut deliveries = Vec::with_capacity(fresh.len());
        for fresh in fresh {
            let route = self.route_number(fresh.route).map_err(|_| StoreRefusal::Failed)?;
            deliveries.push(self.prepare(fresh, route, now));
        }
        for _ in 0..2 {
            match self.put_once(&deliveries, now) {
                PutEnd::Done(places) => {
                    self.note_places(deliveries, &places, done);
                    return Ok(());
                }
                PutEnd::Refused(why) => return Err(why),
                PutEnd::Anew if self.reach(now, true) => {}
                PutEnd::Anew => return Err(StoreRefusal::Failed),
            }
        }
        Err(StoreRefusal::Failed)
    }

    fn prepare(&mut self, fresh: &FreshDelivery<'_>, route: u16, now: Now) -> PutDelivery {
        // The engine chooses the id.
        let row = fresh_row(fresh, DeliveryId(0), route, unix(now));
        let left = fresh.seen_until.saturating_sub(unix(now));
        let mut names = String::new();
        if left > 0 && fresh.seen_key != [0; 32] {
            core::iter::once(&fresh.seen_key).chain(fresh.seen_also).for_each(|key| add_name(&mut names, key));
        }
        PutDelivery {
            bytes: kept_bytes(&row),
            row,
            lane: self.link.lane(fresh.route, &fresh.order_key),
            record: self.sealer.seal(fresh),
            remembered: number_text(left.clamp(1, LONGEST)),
            names,
        }
    }

    /// Puts under one number, again and again until the engine says what it has done.
    fn put_once(&mut self, deliveries: &[PutDelivery], now: Now) -> PutEnd {
        let Some(holding) = &mut self.holding else { return PutEnd::Refused(StoreRefusal::Failed) };
        holding.puts += 1;
        let number = holding.puts;
        let (me, most, bytes) = (self.me(), number_text(self.bounds.deliveries), number_text(self.bounds.size));
        let seq = number_text(number);
        let mut arguments = vec![me.as_bytes(), seq.as_bytes(), most.as_bytes(), bytes.as_bytes()];
        for it in deliveries {
            let parts = [&*it.bytes, it.lane.as_bytes(), &it.record, it.remembered.as_bytes(), it.names.as_bytes()];
            arguments.extend(parts);
        }
        let until = self.link.now() + REPEATED;
        let mut sent = false;
        loop {
            match self.link.call(InboxScript::Put, &arguments) {
                Ok(reply) => match self.end_of(&reply, deliveries.len(), number) {
                    // An earlier one of these requests may have been done: only the engine knows.
                    PutEnd::Anew if sent => return PutEnd::Refused(StoreRefusal::Unknown),
                    PutEnd::Refused(StoreRefusal::Full) if sent => {
                        self.note_unknown(number);
                        return PutEnd::Refused(StoreRefusal::Unknown);
                    }
                    PutEnd::Refused(StoreRefusal::Failed) if sent => std::thread::park_timeout(PAUSE),
                    end => return end,
                },
                Err(NoReply::Unsent) if !sent => return PutEnd::Refused(StoreRefusal::Failed),
                Err(NoReply::Unsent | NoReply::Unknown) => sent = true,
            }
            while !self.reach(now, true) && self.link.now() < until {
                std::thread::park_timeout(PAUSE);
            }
            let is_held = self.me() == me;
            if self.link.now() >= until || !is_held {
                if is_held {
                    self.note_unknown(number);
                }
                return PutEnd::Refused(StoreRefusal::Unknown);
            }
        }
    }

    fn note_unknown(&mut self, number: u64) {
        if let Some(holding) = &mut self.holding {
            holding.unknown = Some(number);
        }
    }

    fn end_of(&mut self, reply: &[u8], count: usize, number: u64) -> PutEnd {
        let read = InboxAnswer::of(reply).and_then(|mut answer| {
            let places = put_places(answer.text()?, count)?;
            Ok((places, answer.counts()?))
        });
        match read {
            Ok((places, counts)) => {
                self.counted(counts);
                PutEnd::Done(places)
            }
            Err(InboxRefusal::Full) => PutEnd::Refused(StoreRefusal::Full),
            Err(InboxRefusal::Refused(words)) if words.starts_with("OOM") => PutEnd::Refused(StoreRefusal::Full),
            Err(refusal @ InboxRefusal::Lost) => {
                self.refused(&refusal);
                PutEnd::Anew
            }
            Err(refusal @ (InboxRefusal::Refused(_) | InboxRefusal::NoScript)) => {
                self.refused(&refusal);
                PutEnd::Refused(StoreRefusal::Failed)
            }
            Err(refusal) => {
                self.note_unknown(number);
                self.refused(&refusal);
                PutEnd::Refused(StoreRefusal::Unknown)
            }
        }
    }

    fn note_places(&mut self, deliveries: Vec<PutDelivery>, places: &[PutPlace], done: &mut Committed) {
        // What was found before goes first: it may be older and of the same key.
        let behind = !self.untaken.is_empty();
        for (delivery, place) in deliveries.into_iter().zip(places) {
            let mut row = delivery.row;
            match *place {
                PutPlace::Here(id) => {
                    row.id = id;
                    let is_given = match self.owned.entry(id) {
                        // It was found with a new connection, and is given from there.
                        Entry::Occupied(_) => true,
                        Entry::Vacant(place) => {
                            place.insert(row.clone());
                            let waits = behind && !delivery.lane.is_empty();
                            self.untaken.extend(waits.then(|| row.clone()));
                            waits
                        }
                    };
                    done.elsewhere.extend(is_given.then_some(id));
                }
                PutPlace::Elsewhere(id) => {
                    row.id = id;
                    done.elsewhere.push(id);
                    self.next_tick = Duration::ZERO;
                }
                PutPlace::Copy(id) => {
                    row.id = id;
                    done.elsewhere.push(id);
                }
            }
            done.accepted.push(row);
        }
    }

    /// Finds out what became of a put whose answer never came, and makes sure that it does not come later.
    /// Gives whether that is known.
    pub(super) fn resolve(&mut self) -> bool {
        let Some(number) = self.holding.as_ref().and_then(|holding| holding.unknown) else { return true };
        let (me, seq) = (self.me(), number_text(number));
        let Ok(reply) = self.link.call(InboxScript::Resolve, &[me.as_bytes(), seq.as_bytes()]) else { return false };
        let read = InboxAnswer::of(&reply).and_then(|mut answer| answer.texts().map(listed));
        match read {
            Ok(rows) => {
                if let Some(holding) = &mut self.holding {
                    holding.unknown = None;
                }
                self.own_listed(rows);
                true
            }
            Err(refusal) => {
                self.refused(&refusal);
                false
            }
        }
    }

    /// The number of a route in the engine.
    fn route_number(&mut self, name: &str) -> Result<u16, NoReply> {
        if let Some(at) = self.routes.iter().position(|known| known == name) {
            return Ok(u16::try_from(at).unwrap_or(u16::MAX));
        }
        let reply = self.link.call(InboxScript::Route, &[name.as_bytes()])?;
        let number = InboxAnswer::of(&reply).and_then(|mut answer| answer.number());
        let number = number.ok().and_then(|number| u16::try_from(number).ok()).ok_or(NoReply::Unknown)?;
        let at = usize::from(number);
        if self.routes.len() <= at {
            self.routes.resize(at + 1, String::new());
        }
        if let Some(place) = self.routes.get_mut(at) {
            name.clone_into(place);
        }
        Ok(number)
    }
}

/// The name by which a copy is recognised, whichever replica accepted the first one: a name that counts for one of them may
/// be a further one for another.
fn add_name(names: &mut String, key: &SeenKey) {
    let (name, tag) = key.split_at(key.len() - 8);
    let inverse: Vec<u8> = tag.iter().map(|byte| !byte).collect();
    let tag = tag.min(&inverse);
    for byte in name.iter().chain(tag) {
        names.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        names.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_whether_it_counts_or_is_a_further_one() {
        let own: SeenKey = core::array::from_fn(|at| u8::try_from(at).unwrap_or(0));
        let further: SeenKey = core::array::from_fn(|at| if at < 24 { own[at] } else { !own[at] });
        let (mut one, mut other) = (String::new(), String::new());
        add_name(&mut one, &own);
        add_name(&mut other, &further);
        assert_eq!((one.len(), &one), (64, &other));
    }
}
