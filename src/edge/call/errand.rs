//! Handshakes that are answered when another thread has done something: stored the secret that a call brings, or asked the
//! sender to confirm a subscription.

use std::sync::Arc;
use std::time::Duration;

use super::asked::Asked;
use super::request::Call;
use crate::edge::runtime::net::Net;
use crate::edge::wait::told::{AwaitedErrand, ErrandTime};
use crate::edge::worker::Worker;
use crate::gate::confirming::ConfirmOffer;
use crate::gate::errand::{ErrandEnd, ErrandFate};
use crate::gate::pairing::PairingOffer;
use crate::gate::route::Route;
use crate::gate::verify::ChallengeReply;
use crate::outcome::{Outcome, Rejection};

/// For a secret. Senders wait for ten seconds; a disk that takes longer does not work.
const PAIRING: ErrandTime = ErrandTime { patience: Duration::from_secs(5), hangs_after: Duration::from_secs(30) };

/// For a confirmation. Amazon waits for 15 seconds, and the thread that asks has other publishers to ask.
const CONFIRMING: ErrandTime = ErrandTime { patience: Duration::from_secs(12), hangs_after: Duration::from_secs(14) };

/// Offers the secret of a call to the pairing window of its route. It is answered when the secret is durable, and can be
/// recorded.
///
/// # Errors
/// [`Rejection::PairingRefused`], [`Rejection::PairingFailed`], [`Rejection::ChallengeMalformed`],
/// [`Rejection::AuditUnavailable`].
pub(super) async fn pair<N: Net>(
    worker: &Worker<N>,
    call: &mut Call<'_, '_>,
    route: &Route,
    mut reply: ChallengeReply,
) -> Result<Outcome, Rejection> {
    if !worker.can_record() {
        return Err(Rejection::AuditUnavailable);
    }
    let fate = Arc::<ErrandFate>::default();
    let offer = PairingOffer {
        secret: reply.secret.take().ok_or(Rejection::PairingRefused)?,
        client: call.asked.client.address,
        request_id: *call.asked.id.text(),
        fate: Arc::clone(&fate),
    };
    let begun = worker.net.monotonic();
    worker.admission.pairings().offer(&route.name, offer, begun)?;
    match AwaitedErrand(fate).ended(&worker.net, &worker.untold, PAIRING, begun).await {
        Some(ErrandEnd::Done) => Ok(call.asked.answer_with(Box::new(reply))),
        Some(ErrandEnd::Unfit) => Err(Rejection::ChallengeMalformed),
        Some(ErrandEnd::Failed) | None => Err(Rejection::PairingFailed),
    }
}

/// Has the URL of a verified call fetched. It is answered when the sender has confirmed the subscription.
///
/// # Errors
/// [`Rejection::ConfirmationFailed`]: the sender calls again.
pub(super) async fn confirm<N: Net>(
    worker: &Worker<N>,
    asked: &mut Asked<'_>,
    route: &Route,
    mut reply: Box<ChallengeReply>,
) -> Result<Outcome, Rejection> {
    let (url, challenges) = reply.confirm.take().zip(route.challenges.as_ref()).ok_or(Rejection::ConfirmationFailed)?;
    let fate = Arc::<ErrandFate>::default();
    let offer = ConfirmOffer { url, fate: Arc::clone(&fate), bells: Arc::clone(worker.admission.bells()) };
    let begun = worker.net.monotonic();
    if !challenges.confirmations.offer(offer) {
        return Err(Rejection::ConfirmationFailed);
    }
    match AwaitedErrand(fate).ended(&worker.net, &worker.untold, CONFIRMING, begun).await {
        Some(ErrandEnd::Done) => Ok(asked.answer_with(reply)),
        Some(ErrandEnd::Failed | ErrandEnd::Unfit) | None => Err(Rejection::ConfirmationFailed),
    }
}
