//! From a verified delivery to its place in the inbox: it is answered when the commit that holds it is durable.
//!
//! What was refused is never delivered. So a delivery that takes too long is withdrawn while the store has not begun to
//! write it. Later its sender waits until the store knows, or is not answered at all.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::edge::peer::Sender;
use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::spool::{SpoolOffer, SpoolSide, SpoolTicket, SpoolVerdict};
use crate::edge::worker::Worker;
use crate::gate::durable::Durable;
use crate::gate::verify::Delivery as _;
use crate::inbox::row::SeenKey;
use crate::inbox::store::StoreRefusal;
use crate::ledger::{CLAIM_KEY, FORMER, MARGIN};
use crate::outcome::{Fault, Outcome, Rejection};
use crate::telemetry::exchange::Stage;

use super::asked::Asked;
use super::forward::OnwardHead;
use super::request::Genuine;

/// How long the store may take before a delivery that it has not begun to write is withdrawn. Without a verdict that is
/// looked at once a second, and senders are to be answered within a second and a half.
const PATIENCE: Duration = Duration::from_millis(450);

/// How long a sender waits for a commit that has begun. A disk that takes longer does not work.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// How a delivery is stored, and whom it came from.
#[derive(Clone, Copy)]
pub struct Storing<'a> {
    /// What its route says.
    pub rule: &'a Durable,
    /// Whom it came from.
    pub sender: Sender<'a>,
}

/// Stores a delivery that has been proven genuine, and commits its claim.
///
/// # Errors
/// [`Rejection::InboxFull`], [`Rejection::InboxUnavailable`], [`Rejection::InboxStarting`]: it is not stored.
/// [`Fault::InboxHung`]: that is not known. [`Rejection::LoopDetected`], [`Rejection::OrderKeyMissing`].
pub async fn enqueue<'p, N: Net>(
    worker: &Worker<N>,
    policy: &Policy,
    storing: Storing<'_>,
    asked: &mut Asked<'p>,
    genuine: Genuine<'p, '_>,
) -> Result<(), Outcome> {
    let Storing { rule, sender } = storing;
    let Genuine { route, verified, claim } = genuine;
    let now = worker.net.look();
    asked.mark(Stage::Verified, now.monotonic);
    let spool = worker.spool().ok_or(Rejection::InboxUnavailable)?;
    let order_key = rule.order_key(&verified)?;
    let unix = u64::try_from(now.unix_millis()).unwrap_or(0);
    let (mut seen_key, mut seen_until) = ([0; 32], 0);
    if let (Some(key), Some(replay)) = (claim.of_process().key(), &route.replay) {
        seen_key = seen(key, rule.tag);
        let lifetime = u64::try_from((replay.lifetime + MARGIN).as_millis()).unwrap_or(u64::MAX);
        seen_until = unix.saturating_add(lifetime);
    }
    let submitted = {
        let (mut others, mut count) = ([[0; 32]; FORMER], 0);
        for (place, key) in others.iter_mut().zip(claim.of_process().other_keys()) {
            *place = seen(key, rule.alias_tag());
            count += 1;
        }
        let seen_also = others.get(..count).unwrap_or_default();
        let mut head = worker.scratch.borrow_mut();
        head.clear();
        OnwardHead { policy, route, verified: &verified, sender, asked }.encode_fields(&mut head, &worker.pseudonym)?;
        let body = verified.delivery().body();
        let offer = SpoolOffer {
            route: &rule.route,
            head: &head,
            body,
            accepted: unix,
            order_key,
            seen_key,
            seen_also,
            seen_until,
        };
        spool.submit(worker.position(), &offer)
    };
    let waiting = Spooled { spool, worker: worker.position(), ticket: submitted?, known: false };
    match waiting.wait(worker, now.monotonic).await {
        Some(SpoolVerdict::Durable(id)) => {
            claim.commit(worker.net.now()).await;
            asked.stored = Some(id);
            Ok(())
        }
        Some(SpoolVerdict::Refused(StoreRefusal::Full | StoreRefusal::DiskFull)) => Err(Rejection::InboxFull.into()),
        Some(SpoolVerdict::Refused(StoreRefusal::Failed)) => Err(Rejection::InboxUnavailable.into()),
        Some(SpoolVerdict::Refused(StoreRefusal::Unknown)) | None => Err(Fault::InboxHung.into()),
    }
}

/// A name of a delivery, and the route that it has it on.
fn seen(name: [u8; CLAIM_KEY], tag: [u8; 8]) -> SeenKey {
    let mut key = [0; 32];
    let (start, end) = key.split_at_mut(CLAIM_KEY);
    start.copy_from_slice(&name);
    end.copy_from_slice(&tag);
    key
}

/// A delivery that was handed in. Dropped before its verdict is known, it is withdrawn, or its verdict is not kept.
struct Spooled<'w> {
    spool: &'w Arc<dyn SpoolSide>,
    worker: usize,
    ticket: SpoolTicket,
    known: bool,
}

impl Spooled<'_> {
    /// The verdict; nothing where the store does not answer.
    async fn wait<N: Net>(mut self, worker: &Worker<N>, begun: Duration) -> Option<SpoolVerdict> {
        let verdict = poll_fn(|cx| {
            if let Some(verdict) = self.spool.verdict(self.worker, self.ticket) {
                return Poll::Ready(Some(verdict));
            }
            let waited = worker.net.monotonic().saturating_sub(begun);
            if waited >= PATIENCE && self.spool.withdraw(self.worker, self.ticket) {
                return Poll::Ready(Some(SpoolVerdict::Refused(StoreRefusal::Failed)));
            }
            if waited >= HANGS_AFTER {
                return Poll::Ready(None);
            }
            worker.unspooled.push(cx.waker());
            Poll::Pending
        })
        .await;
        self.known = verdict.is_some();
        verdict
    }
}

impl Drop for Spooled<'_> {
    fn drop(&mut self) {
        if !self.known && !self.spool.withdraw(self.worker, self.ticket) {
            self.spool.forget(self.worker, self.ticket);
        }
    }
}
