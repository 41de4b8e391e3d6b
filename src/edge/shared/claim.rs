//! The stage of an exchange: what is new in this process is claimed in the engine, too.

use std::future::poll_fn;
use std::rc::Rc;

use super::link::EngineLink;
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;
use crate::gate::replay::{ReplayPolicy, SharedClaims, WhenUnavailable};
use crate::ledger::shared::{EngineAnswer, EngineNames, LeaseId, LeaseTerms};
use crate::ledger::{Claim, MARGIN};
use crate::now::Now;
use crate::outcome::Rejection;
use crate::telemetry::engine::{EngineAsk, EngineEnd};

/// The right to forward a delivery, which no other exchange has: of this process, and where claims are shared, of any.
/// Dropping it releases the delivery.
#[derive(Debug)]
#[must_use = "dropping a claim releases it"]
pub struct DeliveryClaim<'l> {
    claim: Claim<'l>,
    remote: Option<RemoteClaim>,
}

/// A claim in the engine. Dropping it gives it back.
#[derive(Debug)]
struct RemoteClaim {
    link: Rc<EngineLink>,
    id: Option<LeaseId>,
}

impl Drop for RemoteClaim {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.link.book.borrow_mut().release(id);
            self.link.ring();
        }
    }
}

impl<'l> From<Claim<'l>> for DeliveryClaim<'l> {
    fn from(claim: Claim<'l>) -> Self {
        Self { claim, remote: None }
    }
}

impl DeliveryClaim<'_> {
    /// What stands for the delivery in a store: [`Claim::key`].
    pub const fn of_process(&self) -> &Claim<'_> {
        &self.claim
    }

    /// What has it, has accepted it: it is remembered from now on, and the engine is told. That is not waited for.
    pub async fn commit(self, now: Now) {
        let Self { claim, remote } = self;
        claim.commit(now).await;
        if let Some(mut remote) = remote
            && let Some(id) = remote.id.take()
        {
            remote.link.book.borrow_mut().commit(id, now.monotonic);
            remote.link.ring();
        }
    }
}

/// Why another process, or the lack of the engine, keeps a delivery from being forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// The rule.
    pub rejection: Rejection,
    /// Seconds until it is worth trying again, where that is known.
    pub retry_after: Option<u64>,
}

impl From<Rejection> for Elsewhere {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, retry_after: None }
    }
}

/// What is claimed, and how.
#[derive(Clone, Copy, Debug)]
pub struct EngineClaim<'a> {
    /// The names of the delivery in the engine.
    pub names: EngineNames,
    /// How its route treats copies.
    pub policy: &'a ReplayPolicy,
    /// How it claims in the engine.
    pub shared: SharedClaims,
}

/// Claims in the engine what is new in this process. Also gives what an observer should know: that the engine was not asked.
///
/// # Errors
/// [`Elsewhere`]: another process has accepted the delivery or is at it, or the engine is away and the route refuses then.
pub async fn claim<'l, N: Net>(
    worker: &Worker<N>,
    link: &Rc<EngineLink>,
    claim: Claim<'l>,
    asking: EngineClaim<'_>,
) -> Result<(DeliveryClaim<'l>, Option<Rejection>), Elsewhere> {
    let EngineClaim { names, policy, shared } = asking;
    let now = worker.net.now();
    let terms = LeaseTerms { lease: shared.lease, window: policy.lifetime.saturating_add(MARGIN) };
    let asked = link.book.borrow_mut().claim(names, terms, now.monotonic);
    let (mut remote, answer) = match asked {
        Ok(id) => {
            link.ring();
            let remote = RemoteClaim { link: Rc::clone(link), id: Some(id) };
            let answer = poll_fn(|cx| link.book.borrow_mut().poll(id, cx.waker())).await;
            (Some(remote), answer)
        }
        Err(trouble) => {
            worker.cells(|cells| cells.engine.ended(EngineAsk::Claim, EngineEnd::NotAsked, 1));
            (None, EngineAnswer::Failed(trouble))
        }
    };
    match answer {
        EngineAnswer::Yours => Ok((DeliveryClaim { claim, remote }, None)),
        EngineAnswer::Committed { left } => {
            claim.accepted_elsewhere(policy, left, now).await;
            Err(Elsewhere { rejection: policy.duplicates.rejection(), retry_after: None })
        }
        EngineAnswer::Taken | EngineAnswer::Done | EngineAnswer::Fenced | EngineAnswer::Tokens { .. } => {
            Err(Elsewhere { rejection: Rejection::DuplicateInFlight, retry_after: None })
        }
        EngineAnswer::NoScript | EngineAnswer::Failed(_) if shared.when_unavailable == WhenUnavailable::Refuse => {
            // Not all senders come back at once.
            let retry_after = Some(2 + names.spread() % 4);
            Err(Elsewhere { rejection: Rejection::SharedUnavailable, retry_after })
        }
        EngineAnswer::NoScript | EngineAnswer::Failed(_) => {
            // What this process accepts now is told the engine when it is back.
            let mut book = link.book.borrow_mut();
            match remote.as_ref().and_then(|remote| remote.id) {
                Some(id) => book.hold(id),
                None => remote = book.adopt(names, terms).map(|id| RemoteClaim { link: Rc::clone(link), id: Some(id) }),
            }
            drop(book);
            Ok((DeliveryClaim { claim, remote }, Some(Rejection::SharedUnavailable)))
        }
    }
}
