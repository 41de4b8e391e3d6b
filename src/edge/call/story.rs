//! The story of one request. `story` is its table of contents: one line a stage, and every early end in its place.

use std::pin::pin;
use std::time::Duration;

use crate::edge::door::listener::ListenerId;
use crate::edge::observer::RefusedRequest;
use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::snapshot::Snapshot;
use crate::edge::worker::Worker;
use crate::gate::admission::Admitted;
use crate::gate::client::{Account, ClientAddress};
use crate::gate::conduct::Ended;
use crate::gate::route::{Disposition, Route};
use crate::gate::verify::Check;
use crate::outcome::{AnswerRow, Fate, Fault, Outcome, Rejection};
use crate::telemetry::exchange::Stage;
use crate::wire::framing::BodyFraming;

use super::admit;
use super::await_record;
use super::carrier::{Carrier, Next, OwnAnswer};
use super::challenge::{self, WithoutProof};
use super::enqueue::{self, Storing};
use super::errand;
use super::forward::{self, Way};
use super::inbound::Inbound;
use super::judge;
use super::late;
use super::read;
use super::relay;
use super::request::{Call, Case};

/// A client must take an answer of a few hundred bytes within this time.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// A client that was evicted must take its answer within this time: as long as the kernel needs.
const PARTING_TIME: Duration = Duration::from_millis(50);

/// Serves one request under one policy: its story, its answer if the story ended early, its record.
pub async fn run<'p, N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    policy: &'p Snapshot<N::Stream>,
    call: &mut Call<'_, 'p>,
    carrier: &mut C,
) -> Next {
    let mut granted = None;
    let outcome = match story(worker, policy, call, carrier, &mut granted).await {
        Ok(outcome) => outcome,
        // A sender that is told that nothing is left to do must be able to rely on it.
        Err(acknowledged @ Outcome::Rejected(Rejection::Duplicate)) => {
            await_record::await_record(worker, call, carrier.sender(), acknowledged).await.err().unwrap_or(acknowledged)
        }
        // A handshake has no proof, or another method than deliveries have.
        Err(refused) => {
            if let Some(route) = call.asked.route {
                call.asked.excerpts.note_stated(&route.verifier, &*call.inbound);
            }
            let unproven = WithoutProof { granted: granted.as_mut(), refused };
            challenge::answer_instead(worker, policy, call, carrier, unproven).await
        }
    };
    // Nothing is worked on any more. The body is still in memory, and counts until the answer has been taken.
    granted.iter_mut().for_each(Admitted::end_request);
    judge_conduct(worker, call, granted.as_ref(), outcome);
    let next = conclude(worker, policy, call, carrier, outcome).await;
    let ended = worker.net.now();
    call.asked.mark(Stage::Total, ended.monotonic);
    let exchange = call.record(worker.position(), carrier.sender(), outcome, ended);
    worker.record(policy, &exchange);
    if let Outcome::Rejected(_) = outcome {
        let (head, body) = call.inbound.raw();
        worker.refused(&exchange, &RefusedRequest { route: call.asked.route, head, body });
    }
    next
}

/// The path of a request. What was granted at admission stays with the caller; the claim is held to its commit.
async fn story<'p, 'w, N: Net, C: Carrier<N>>(
    worker: &'w Worker<N>,
    snapshot: &'p Snapshot<N::Stream>,
    call: &mut Call<'_, 'p>,
    carrier: &mut C,
    granted: &mut Option<Admitted<'w>>,
) -> Result<Outcome, Outcome> {
    let policy: &Policy = snapshot;
    read::head(worker, policy, call, carrier).await?;
    identify(policy, call, carrier.listener());
    let route = resolve(policy, call)?;
    admit::take_first_turn(worker, call, carrier.sender()).await?;
    let admitted = granted.insert(admit::admit(worker, call, carrier.sender(), route).await?);
    if admitted.is_suspect() {
        call.turn_slot.take_suspects_turn().await;
    }
    let mut case = Case { route, check: begin(admitted, route, call)?, admitted };
    read::body(worker, policy, call, carrier, &mut case).await?;
    if let Some(work) = late::work(route, call.inbound) {
        late::compute(worker, call, &mut case, work).await?;
    }
    let Call { inbound, asked, reply_head, .. } = &mut *call;
    let judged = judge::judge(worker, policy, inbound, asked, case).await;
    let genuine = judged.inspect_err(|_| asked.mark(Stage::Verified, worker.net.look().monotonic))?;
    match route.disposition(genuine.verified.delivery(), || worker.net.now()) {
        Disposition::Answer(reply) if reply.confirm.is_some() => {
            drop(genuine);
            Err(Box::pin(errand::confirm(worker, asked, route, reply)).await.unwrap_or_else(Outcome::from))
        }
        Disposition::Answer(reply) => Err(asked.answer_with(reply)),
        Disposition::Refuse(rejection) => Err(rejection.into()),
        Disposition::Forward { upstream } => {
            let way = Way { sender: carrier.sender(), socket: carrier.socket(), reply_head, upstream };
            let reply = forward::forward(worker, snapshot, way, asked, genuine).await;
            let outcome = match &reply {
                Ok(_) => Outcome::Forwarded { status: call.reply_head.status },
                Err(outcome) => *outcome,
            };
            // What the application has accepted is recorded even if its answer cannot be passed on: a copy is
            // acknowledged.
            if reply.is_ok() || call.asked.accepted.is_some() {
                await_record::await_record(worker, call, carrier.sender(), outcome).await?;
            }
            let status = relay::relay(worker, snapshot, call, carrier, reply?).await?;
            Ok(Outcome::Forwarded { status })
        }
        Disposition::Enqueue { rule } => {
            let storing = Storing { rule, sender: carrier.sender() };
            enqueue::enqueue(worker, policy, storing, asked, genuine).await?;
            let accepted = Outcome::Accepted { status: rule.status };
            await_record::await_record(worker, call, carrier.sender(), accepted).await?;
            Ok(accepted)
        }
    }
}

/// Says who the client is: the peer, or the client that the trusted proxies name.
fn identify(policy: &Policy, call: &mut Call<'_, '_>, listener: ListenerId) {
    if let Some(door) = policy.door(listener) {
        let (head, bytes) = call.inbound.head();
        call.asked.client = ClientAddress::of(call.asked.client.address, head.headers(bytes), &door.proxies);
    }
}

fn resolve<'p>(policy: &'p Policy, call: &mut Call<'_, 'p>) -> Result<&'p Route, Outcome> {
    let (head, bytes) = call.inbound.head();
    let (host, path) = (head.host(bytes).name, head.path(bytes));
    let found = policy.gate.routes.resolve(host, path, head.method.of(bytes));
    // A handshake may come with a method of its own.
    let route = match found {
        Err(Rejection::MethodNotAllowed) => policy.gate.routes.challenged(host, path, &*call.inbound),
        found => Some(found?),
    };
    let route = route.ok_or(Rejection::MethodNotAllowed)?;
    call.asked.route = Some(route);
    Ok(route)
}

/// Judges the head of a delivery. What comes with another method than the route's can only be a handshake.
fn begin(admitted: &Admitted<'_>, route: &Route, call: &Call<'_, '_>) -> Result<Check, Outcome> {
    let (head, bytes) = call.inbound.head();
    if !route.takes(head.method.of(bytes)) {
        return Err(Rejection::MethodNotAllowed.into());
    }
    admit::begin(admitted, route, call)
}

/// What the connection, and others of its client, have to expect after this request.
fn judge_conduct<N: Net>(
    worker: &Worker<N>,
    call: &mut Call<'_, '_>,
    admitted: Option<&Admitted<'_>>,
    outcome: Outcome,
) {
    let asked = &mut call.asked;
    let genuine = asked.key_id.is_some();
    if let Some(suspicion) = admit::suspicion(admitted, outcome, genuine) {
        worker.cells(|cells| cells.suspected(suspicion));
        if !genuine {
            worker.turns.charge(asked.stages.verify());
        }
    }
    call.turn_slot.note(Ended {
        outcome,
        client: admitted.map(Admitted::client),
        genuine,
        over_budget: admitted.is_some_and(Admitted::is_suspect),
        shared: asked.client.account != Account::Stranger,
    });
    let holding = call.occupancy.holding();
    holding.prove(call.turn_slot.conduct().has_proven());
    // Its client has too many connections, and this is one of those on which something was just refused.
    asked.keep_alive &= !(matches!(outcome, Outcome::Rejected(_)) && worker.admission.sheds(holding));
}

/// Answers what the application has not answered, and decides the fate of the connection.
async fn conclude<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    policy: &Policy,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
    outcome: Outcome,
) -> Next {
    let Some(answer) = outcome.answer() else {
        return carrier.settle(call);
    };
    if answer.fate == Fate::Abort {
        return Next::Close;
    }
    let asked = &mut call.asked;
    if let (false, BodyFraming::Length(length)) = (asked.body_read, asked.framing) {
        asked.body_read = usize::try_from(length).is_ok_and(|length| call.inbound.skip_body(length));
    }
    let intact = asked.body_read && call.inbound.is_intact();
    asked.keep_alive &= answer.fate == Fate::Keep && intact && !carrier.is_closing(worker);
    let written = {
        let reply = asked.challenge.take();
        let own = OwnAnswer {
            challenge: reply.as_deref(),
            is_bare: asked.route.is_some_and(|route| route.refuses_bare(answer.status)),
            ..own_answer(worker, policy, call.inbound, answer)
        };
        let writing = pin!(carrier.answer(worker, asked, own));
        match answer.fate {
            Fate::Leave => writing.await,
            _ => {
                let written = call.occupancy.during_write(|| worker.net.monotonic(), writing).await;
                written.unwrap_or(Err(Fault::ResponseGaveWay.into()))
            }
        }
    };
    match written {
        Ok(()) if answer.fate == Fate::Leave => Next::Close,
        Ok(()) => carrier.settle(call),
        Err(_) => Next::Close,
    }
}

fn own_answer<'a, N: Net>(
    worker: &Worker<N>,
    policy: &'a Policy,
    inbound: &Inbound,
    answer: AnswerRow,
) -> OwnAnswer<'a> {
    let allow = match answer.status {
        405 => {
            let (head, bytes) = inbound.head();
            policy.gate.routes.allow(head.host(bytes).name, head.path(bytes)).unwrap_or_default()
        }
        _ => "",
    };
    let time = if answer.fate == Fate::Leave { PARTING_TIME } else { ANSWER_TIME };
    let deadline = worker.net.monotonic() + policy.limits.write_timeout.min(time);
    OwnAnswer { answer, challenge: None, is_bare: false, allow, deadline }
}
