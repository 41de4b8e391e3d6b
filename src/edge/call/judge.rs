//! What is decided about a delivery that is whole: whether it is genuine, whether it can be recorded, whether it is a copy,
//! and whether its route has a token left.

use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::shared::claim::{self as elsewhere, DeliveryClaim, Elsewhere, EngineClaim};
use crate::edge::shared::rate;
use crate::edge::worker::Worker;
use crate::gate::route::Route;
use crate::gate::verify::{Check, Verified};
use crate::ledger::{Claim, Ledger};
use crate::now::Now;
use crate::outcome::{Outcome, Rejection};
use crate::telemetry::exchange::{Excerpt, Stage};

use super::admit;
use super::asked::Asked;
use super::await_record;
use super::inbound::Inbound;
use super::request::{Case, Genuine};

/// Judges a delivery that is whole. The caller marks the time of a refusal.
///
/// # Errors
/// Why it is not forwarded.
pub async fn judge<'p, 'c, N: Net>(
    worker: &Worker<N>,
    policy: &'p Policy,
    inbound: &'c mut Inbound,
    asked: &mut Asked<'p>,
    case: Case<'p, '_, '_>,
) -> Result<Genuine<'p, 'c>, Outcome> {
    let Case { route, check, admitted } = case;
    let now = worker.net.look();
    asked.mark(Stage::Body, now.monotonic);
    let verified = finish(inbound, asked, route, check, now)?;
    await_record::recordable(worker, &verified)?;
    let claimed = claim(worker, policy, asked, Claimant { route, verified: &verified }, now).await;
    if claimed.as_ref().is_err_and(|refused| *refused == Outcome::Rejected(Rejection::RouteRateLimited)) {
        admitted.vouch(&verified);
    }
    let claim = claimed?;
    // A copy that is only observed is forwarded, and counts all the same.
    if !asked.observed.contains_copy() {
        admitted.vouch(&verified);
    }
    let spent = match rate::of(route).zip(worker.engine()) {
        Some((shared, link)) => {
            let (spent, noted) =
                rate::spend(worker, link, shared, |now| admitted.spend(policy.bucket(route), &verified, now)).await;
            noted.into_iter().for_each(|rejection| asked.observed.note(rejection));
            spent
        }
        None => admitted.spend(policy.bucket(route), &verified, now.monotonic),
    };
    admit::unless_rate_is_observed(spent, route, asked)?;
    Ok(Genuine { route, verified, claim })
}

/// A delivery that is to be claimed.
struct Claimant<'a, 'p, 'c> {
    route: &'a Route,
    verified: &'a Verified<'p, &'c mut Inbound>,
}

/// The verdict. Only the engine can make a [`Verified`], and only a [`Verified`] can be forwarded.
fn finish<'p, 'c>(
    inbound: &'c mut Inbound,
    asked: &mut Asked<'p>,
    route: &'p Route,
    check: Check,
    now: Now,
) -> Result<Verified<'p, &'c mut Inbound>, Outcome> {
    let verified = route.verifier.finish(check, inbound, now).map_err(|(rejection, _)| rejection)?;
    verified.untimely().into_iter().for_each(|rejection| asked.observed.note(rejection));
    asked.key_id = verified.key_id();
    asked.excerpts.delivery_id = verified.signed_delivery_id().map(|id| {
        let mut excerpt = Excerpt::EMPTY;
        excerpt.set(id);
        excerpt
    });
    asked.excerpts.note_stated(&route.verifier, verified.delivery());
    Ok(verified)
}

/// The right to forward, which no second copy of a delivery has. Only with a [`DeliveryClaim`] claim can something be forwarded.
async fn claim<'p, N: Net>(
    worker: &Worker<N>,
    policy: &'p Policy,
    asked: &mut Asked<'p>,
    of: Claimant<'_, 'p, '_>,
    now: Now,
) -> Result<DeliveryClaim<'p>, Outcome> {
    let Claimant { route, verified } = of;
    let Some(rule) = &route.replay else { return Ok(Claim::unremembered().into()) };
    let ledger = policy.live.ledgers.get(rule.table).and_then(Option::as_ref);
    let (judged, retry_after) = match ledger {
        Some(ledger) => {
            let Some(names) = ledger.names(&route.verifier, verified) else { return Ok(Claim::unremembered().into()) };
            let claimed = ledger.claim(&names, rule, now).await;
            let retry_after = claimed.retry_after();
            let judged = match (claimed.judge(rule), rule.shared.zip(worker.engine())) {
                (Ok((claim, noted)), Some((shared, link))) => {
                    noted.into_iter().for_each(|rejection| asked.observed.note(rejection));
                    if let Some(refused) = rate::known_empty(worker, link, route) {
                        return Err(admit::refuse(asked, refused));
                    }
                    let names = Ledger::engine_names(link.key(), &route.name, &names, verified);
                    let asking = EngineClaim { names, policy: rule, shared };
                    elsewhere::claim(worker, link, claim, asking).await
                }
                (judged, _) => judged.map(|(claim, noted)| (claim.into(), noted)).map_err(Elsewhere::from),
            };
            (judged, retry_after)
        }
        None => (Err(Rejection::ReplayTableFull.into()), None),
    };
    match judged {
        Ok((claim, noted)) => {
            let claim: DeliveryClaim<'p> = claim;
            noted.into_iter().for_each(|rejection| asked.observed.note(rejection));
            if claim.of_process().has_reused_id() {
                asked.observed.note(Rejection::IdReused);
            }
            Ok(claim)
        }
        Err(Elsewhere { rejection, .. }) if route.observe.replay => {
            asked.observed.note(rejection);
            Ok(Claim::unremembered().into())
        }
        Err(Elsewhere { rejection, retry_after: elsewhere }) => {
            asked.retry_after = elsewhere.or(retry_after);
            Err(rejection.into())
        }
    }
}
