//! Handshakes of clients that have shown nothing: which requests are read although they would be refused, and what becomes
//! of the answer. What is a handshake, and how it is answered, the gate decides.

use std::sync::Arc;
use std::time::Duration;

use super::carrier::Carrier;
use super::read;
use super::request::{Call, Case};
use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;
use crate::gate::admission::Admitted;
use crate::gate::pairing::{PairingEnd, PairingFate, PairingOffer};
use crate::gate::route::Route;
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
            Box::pin(pair(worker, call, route, reply)).await.unwrap_or_else(Outcome::from)
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

/// How long a secret waits for the thread that stores it before it is withdrawn. Senders wait for ten seconds.
const PAIRING_PATIENCE: Duration = Duration::from_secs(5);

/// How long a client waits for a secret that is being stored. A disk that takes longer does not work.
const PAIRING_HANGS_AFTER: Duration = Duration::from_secs(30);

/// Between two looks at what has become of a secret. A webhook is paired once: that is too rare for a bell.
const PAIRING_GLANCE: Duration = Duration::from_millis(5);

/// Offers the secret of a call to the pairing window of its route. It is answered when the secret is durable, and can be
/// recorded.
async fn pair<N: Net>(
    worker: &Worker<N>,
    call: &mut Call<'_, '_>,
    route: &Route,
    mut reply: ChallengeReply,
) -> Result<Outcome, Rejection> {
    if !worker.can_record() {
        return Err(Rejection::AuditUnavailable);
    }
    let fate = Arc::<PairingFate>::default();
    let offer = PairingOffer {
        secret: reply.secret.take().ok_or(Rejection::PairingRefused)?,
        client: call.asked.client.address,
        request_id: *call.asked.id.text(),
        fate: Arc::clone(&fate),
    };
    let begun = worker.net.monotonic();
    worker.admission.pairings().offer(&route.name, offer, begun)?;
    let fate = Offered(fate);
    loop {
        match fate.0.ended() {
            Some(PairingEnd::Stored) => return Ok(call.asked.answer_with(Box::new(reply))),
            Some(PairingEnd::Failed) => return Err(Rejection::PairingFailed),
            Some(PairingEnd::Unfit) => return Err(Rejection::ChallengeMalformed),
            None => {}
        }
        let waited = worker.net.look().monotonic.saturating_sub(begun);
        if waited >= PAIRING_PATIENCE && fate.0.withdraw() || waited >= PAIRING_HANGS_AFTER {
            return Err(Rejection::PairingFailed);
        }
        monoio::time::sleep(PAIRING_GLANCE).await;
    }
}

/// An offer, which is withdrawn when its client is gone.
struct Offered(Arc<PairingFate>);

impl Drop for Offered {
    fn drop(&mut self) {
        // What is being stored, or is stored, stays so.
        let _ = self.0.withdraw();
    }
}
