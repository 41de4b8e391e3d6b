//! Handshakes of clients that have shown nothing: which requests are read although they would be refused, and what becomes
//! of the answer. What is a handshake, and how it is answered, the gate decides.

use super::carrier::Carrier;
use super::errand;
use super::read;
use super::request::{Call, Case};
use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;
use crate::gate::admission::Admitted;
use crate::gate::verify::{CallProof, ChallengeReply, Challenges, Question, Verifier};
use crate::outcome::{Outcome, Rejection};
use crate::wire::framing::BodyFraming;

/// A request that is refused unless it is a handshake.
pub struct WithoutProof<'a, 'w> {
    /// What was granted to it; nothing before its admission.
    pub granted: Option<&'a mut Admitted<'w>>,
    /// Why it is refused.
    pub refused: Outcome,
}

/// Answers a request that is refused because it lacks every proof, or has a method that the route does not take, where it
/// is a handshake that needs none. Its body is read only if its head can be that of a handshake, and is no longer than one.
pub async fn answer_instead<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    policy: &Policy,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
    unproven: WithoutProof<'_, '_>,
) -> Outcome {
    let WithoutProof { granted, refused } = unproven;
    let Some((route, admitted)) = call.asked.route.zip(granted) else { return refused };
    let Some(challenges) = route.challenges.as_deref().filter(|it| can_be(it, call, refused)) else { return refused };
    if !call.asked.body_read {
        // Nothing is hashed while it arrives.
        let check = match Verifier::none().begin(call.inbound, call.asked.head_read) {
            Ok(check) => check,
            Err(rejection) => return rejection.into(),
        };
        let mut case = Case { route, check, admitted };
        if let Err(outcome) = read::body(worker, policy, call, carrier, &mut case).await {
            return outcome;
        }
    }
    let now = worker.net.now();
    match challenges.judge(Question { delivery: &*call.inbound, is_verified: false, now }, &route.verifier) {
        // A secret waits for a disk: in a box, for all other requests do not.
        Ok(Some(reply)) if reply.proof == CallProof::Pairing => {
            Box::pin(errand::pair(worker, call, route, reply)).await.unwrap_or_else(Outcome::from)
        }
        Ok(Some(reply)) => permit(worker, call, reply).unwrap_or_else(Outcome::from),
        Ok(None) => refused,
        Err(rejection) => rejection.into(),
    }
}

/// Whether a request that was refused so can be a handshake.
fn can_be(challenges: &Challenges, call: &Call<'_, '_>, refused: Outcome) -> bool {
    let lacks = match refused {
        Outcome::Rejected(rejection) => rejection == Rejection::MethodNotAllowed || rejection.is_absence(),
        _ => false,
    };
    let is_short = match call.asked.framing {
        BodyFraming::Length(length) => Challenges::takes_body(length),
        BodyFraming::None | BodyFraming::Chunked => true,
    };
    lacks && is_short && challenges.may_be_asked(&*call.inbound)
}

/// Whether a call that nothing proves is answered at present.
fn permit<N: Net>(worker: &Worker<N>, call: &mut Call<'_, '_>, reply: ChallengeReply) -> Result<Outcome, Rejection> {
    match reply.proof {
        CallProof::Signature | CallProof::Nothing => {}
        CallProof::FirstCall => {
            worker.admission.take_first_call(worker.net.monotonic()).map_err(|refused| {
                call.asked.retry_after = refused.retry_after;
                refused.rejection
            })?;
        }
        // It waits: `pair` answers it.
        CallProof::Pairing => return Err(Rejection::PairingRefused),
    }
    Ok(call.asked.answer_with(Box::new(reply)))
}
