//! What earlier processes have accepted is remembered: the ledgers of routes get it back from the store.

use std::time::Duration;

use crate::control::inbox::shelf::Shelf;
use crate::edge::policy::Policy;
use crate::ledger::{CLAIM_KEY, KnownName};
use crate::now::Now;

/// Gives the ledgers of durable routes what the store remembers. Gives how many copies are recognised because of it, and
/// how many are not, because the table of their route has no room.
pub(super) fn recall(shelf: &Shelf, policy: &Policy, now: Now) -> (u64, u64) {
    let mut seen: Vec<(u64, [u8; 32])> = Vec::new();
    shelf.each_seen(now, |key, until| seen.push((until, key)));
    seen.sort_unstable();
    let unix = u64::try_from(now.unix_millis()).unwrap_or(0);
    let (mut known, mut lost) = (0, 0);
    for route in policy.gate.routes.routes() {
        let (Some(rule), Some(replay)) = (&route.durable, &route.replay) else { continue };
        let Some(ledger) = policy.live.ledgers.get(replay.table).and_then(Option::as_ref) else { continue };
        let (own, alias) = (rule.tag, rule.alias_tag());
        for (until, key) in &seen {
            let Some((name, tag)) = key.split_first_chunk::<CLAIM_KEY>() else { continue };
            let is_alias = tag == alias;
            if !is_alias && tag != own {
                continue;
            }
            let left = Duration::from_millis(until.saturating_sub(unix));
            let had_room = ledger.restore(&KnownName { key: *name, is_alias, left }, replay, now);
            known += u64::from(had_room && !is_alias);
            lost += u64::from(!had_room);
        }
        ledger.name_by_all(route.verifier.keys());
    }
    (known, lost)
}
