//! The story of one request. `story` is its table of contents: one line per room, and every early end in its place.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::gate::admission::Admitted;
use crate::gate::client::{Account, ClientAddress};
use crate::gate::conduct::Ended;
use crate::gate::identity::Caller;
use crate::gate::route::Route;
use crate::gate::verify::{Check, Delivery, Verified};
use crate::ledger::Claim;
use crate::now::Now;
use crate::outcome::{Fate, Fault, Observed, Outcome, Rejection};
use crate::telemetry::exchange::{DELIVERY_ID, Excerpt, Exchange, METHOD, PATH, QUERY, RouteTag, Stage, Stages};
use crate::wire::chunked::{ChunkDecoder, ChunkError};
use crate::wire::framing::{self, BodyFraming};
use crate::wire::head::{ResponseError, Version};

use super::admit::{self, Expected};
use super::connection::{Connection, Next, Peer};
use super::forward;
use super::ids::RequestId;
use super::inbound::Inbound;
use super::keep;
use super::late;
use super::net::Net;
use super::pace::Pace;
use super::policy::Policy;
use super::relay;
use super::respond;
use super::snapshot::Snapshot;
use super::stream::ByteStream;
use super::waiting::GaveWay;
use super::worker::{RefusedRequest, Worker};

/// What is known of a request beyond its bytes; it outlives them.
#[derive(Clone, Debug)]
pub struct Asked<'p> {
    /// Ours, for the answer, the application and the log.
    pub id: RequestId,
    /// When its first bytes were looked at.
    pub started: Now,
    /// When its head was whole: the present, to those who judge by the head.
    pub head_read: Now,
    /// The client's version.
    pub version: Version,
    /// Whether the method is `HEAD`: the answer then has no body.
    pub is_head: bool,
    /// Whether the client wants to send another request.
    pub keep_alive: bool,
    /// Whether the client has said that this is its last request.
    pub is_last: bool,
    /// How the body ends.
    pub framing: BodyFraming,
    /// Whether the body has been read to its end.
    pub body_read: bool,
    /// The route, once it is known.
    pub route: Option<&'p Route>,
    /// Who asks, as far as it is known: the connection's peer until the head has been read.
    pub client: ClientAddress,
    /// The status with which the application has accepted the delivery, if it has.
    pub accepted: Option<u16>,
    /// The rule that the application's answer broke.
    pub broken_rule: Option<ResponseError>,
    /// What checks that are only observed would have refused.
    pub observed: Observed,
    /// Seconds after which it makes sense to try again, where that is known.
    pub retry_after: Option<u64>,
    /// The key that matched.
    pub key_id: Option<&'p str>,
    /// Bytes of the answer's body that were sent.
    pub sent: u64,
    /// For the record: the request's own bytes give way to those that the application gets.
    pub excerpts: Excerpts,
    /// How long each stage took.
    pub stages: Stages,
}

/// What the record says of the request in its own words.
#[derive(Clone, Copy, Debug)]
pub struct Excerpts {
    /// The method.
    pub method: Excerpt<METHOD>,
    /// The path, without the query.
    pub path: Excerpt<PATH>,
    /// The query.
    pub query: Excerpt<QUERY>,
    /// The delivery id, if it is signed.
    pub delivery_id: Option<Excerpt<DELIVERY_ID>>,
}

impl Excerpts {
    const EMPTY: Self = Self { method: Excerpt::EMPTY, path: Excerpt::EMPTY, query: Excerpt::EMPTY, delivery_id: None };
}

impl<'p> Asked<'p> {
    /// A request of which nothing is known yet.
    fn new(id: RequestId, started: Now, peer: Option<&Peer>) -> Self {
        Self {
            id,
            started,
            head_read: started,
            version: Version::Http11,
            is_head: false,
            keep_alive: false,
            is_last: false,
            framing: BodyFraming::None,
            body_read: false,
            route: None,
            client: ClientAddress::direct(peer.map(|peer| peer.address)),
            accepted: None,
            broken_rule: None,
            observed: Observed::NONE,
            retry_after: None,
            key_id: None,
            sent: 0,
            excerpts: Excerpts::EMPTY,
            stages: Stages::default(),
        }
    }

    /// Notes that a stage has ended at `monotonic`.
    pub fn mark(&mut self, stage: Stage, monotonic: Duration) {
        self.stages.mark(stage, monotonic.saturating_sub(self.started.monotonic));
    }

    /// The record of an exchange that has ended, or is about to be answered, on the worker at `position`.
    pub(super) fn record<'a, S>(
        &'a self,
        position: usize,
        connection: &'a Connection<S>,
        outcome: Outcome,
        ended: Now,
    ) -> Exchange<'a> {
        let tag = |route: &'p Route| RouteTag {
            position: route.admission.position,
            name: &route.name,
            scheme: route.scheme_name(),
        };
        Exchange {
            worker: position,
            request_id: *self.id.text(),
            ended,
            route: self.route.map(tag),
            peer: connection.peer.as_ref().map(|peer| peer.address),
            client: self.client.address,
            caller: connection.caller.as_ref().and_then(Caller::name),
            method: self.excerpts.method.bytes(),
            path: self.excerpts.path.bytes(),
            query: self.excerpts.query.bytes(),
            outcome,
            accepted: self.accepted,
            broken_rule: self.broken_rule,
            observed: self.observed,
            key_id: self.key_id,
            delivery_id: self.excerpts.delivery_id.as_ref().map(Excerpt::bytes),
            body: (self.body_read && connection.inbound.is_intact()).then(|| connection.inbound.body()),
            received: connection.inbound.body_length() as u64,
            sent: self.sent,
            stages: self.stages,
        }
    }
}

/// Serves one request under one policy: its story, its answer if the story ended early, its record.
pub async fn run<N: Net>(
    worker: &Worker<N>,
    policy: &Snapshot<N::Stream>,
    connection: &mut Connection<N::Stream>,
) -> Next {
    let mut asked = Asked::new(worker.ids.next(), worker.net.now(), connection.peer.as_ref());
    let mut admitted = None;
    let outcome = match story(worker, policy, connection, &mut asked, &mut admitted).await {
        Ok(status) => Outcome::Forwarded { status },
        // Whoever is told that nothing is left to do must be right.
        Err(acknowledged @ Outcome::Rejected(Rejection::Duplicate)) => {
            keep::keep(worker, connection, &asked, acknowledged).await.err().unwrap_or(acknowledged)
        }
        Err(outcome) => outcome,
    };
    // Nothing is worked on any more. The body is still in memory, and counts until the answer has been taken.
    admitted.iter_mut().for_each(Admitted::end_request);
    judge_conduct(worker, connection, &mut asked, (admitted.as_ref(), outcome));
    let next = conclude(worker, policy, connection, &mut asked, outcome).await;
    let ended = worker.net.now();
    asked.mark(Stage::Total, ended.monotonic);
    let exchange = asked.record(worker.position(), connection, outcome, ended);
    worker.record(policy, &exchange);
    if let Outcome::Rejected(_) = outcome {
        let (head, body) = connection.inbound.raw();
        worker.refused(&exchange, &RefusedRequest { route: asked.route, head, body });
    }
    next
}

/// What the connection, and others of its client, have to expect after this request.
fn judge_conduct<N: Net>(
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
    asked: &mut Asked<'_>,
    (admitted, outcome): (Option<&Admitted<'_>>, Outcome),
) {
    let genuine = asked.key_id.is_some();
    if let Some(suspicion) = admit::suspicion(admitted, (outcome, genuine)) {
        worker.cells(|cells| cells.suspected(suspicion));
    }
    connection.place.note(Ended {
        outcome,
        client: admitted.map(Admitted::client),
        genuine,
        over_budget: admitted.is_some_and(Admitted::is_suspect),
        shared: asked.client.account != Account::Stranger,
    });
    let holding = connection.patience.holding();
    holding.prove(connection.place.conduct().has_proven());
    // Its client has too many connections, and this is one of those on which something was just refused.
    asked.keep_alive &= !(matches!(outcome, Outcome::Rejected(_)) && worker.admission.sheds(holding));
}

/// The path of a request. What was granted at admission stays with the caller; the claim is held to its commit.
async fn story<'p, 'w, N: Net>(
    worker: &'w Worker<N>,
    snapshot: &'p Snapshot<N::Stream>,
    connection: &mut Connection<N::Stream>,
    asked: &mut Asked<'p>,
    granted: &mut Option<Admitted<'w>>,
) -> Result<u16, Outcome> {
    let policy: &Policy = snapshot;
    read_head(worker, policy, connection, asked).await?;
    identify(policy, connection, asked);
    let route = resolve(policy, connection, asked)?;
    let admitted = granted.insert(admit::admit(worker, connection, asked, route).await?);
    if admitted.is_suspect() {
        connection.place.take_suspects_turn().await;
    }
    let mut check = admit::begin(admitted, route, connection, asked)?;
    read_body(worker, policy, connection, asked, (route, &mut check, admitted)).await?;
    if let Some(work) = late::work(route, &connection.inbound) {
        late::compute(worker, connection, (route, &mut check), work).await?;
    }
    let (inbound, way) = connection.split();
    let judged = judge(worker, policy, inbound, asked, (route, check, admitted)).await;
    if judged.is_err() {
        asked.mark(Stage::Verified, worker.net.look().monotonic);
    }
    let (verified, claim) = judged?;
    let reply = forward::forward(worker, snapshot, way, asked, (route, verified, claim)).await;
    let outcome = match &reply {
        Ok(_) => Outcome::Forwarded { status: connection.reply_head.status },
        Err(outcome) => *outcome,
    };
    // What the application has accepted is recorded even if its answer cannot be passed on: a copy is acknowledged.
    if reply.is_ok() || asked.accepted.is_some() {
        keep::keep(worker, connection, asked, outcome).await?;
    }
    relay::relay(worker, snapshot, connection, asked, reply?).await
}

/// Everything that is decided about a delivery that is whole.
async fn judge<'p, 'c, N: Net>(
    worker: &Worker<N>,
    policy: &'p Policy,
    inbound: &'c mut Inbound,
    asked: &mut Asked<'p>,
    (route, check, admitted): (&'p Route, Check, &mut Admitted<'_>),
) -> Result<(Verified<'p, &'c mut Inbound>, Claim<'p>), Outcome> {
    let now = worker.net.look();
    asked.mark(Stage::Body, now.monotonic);
    let verified = finish(inbound, asked, (route, check), now)?;
    keep::recordable(worker, &verified)?;
    let claim = claim(policy, asked, (route, &verified), now).await?;
    // A copy that is only observed is forwarded, and counts all the same.
    if !asked.observed.contains_copy() {
        admitted.vouch(&verified);
    }
    admit::spend(admitted, asked, (policy, route, &verified), now)?;
    Ok((verified, claim))
}

async fn read_head<N: Net>(
    worker: &Worker<N>,
    policy: &Policy,
    connection: &mut Connection<N::Stream>,
    asked: &mut Asked<'_>,
) -> Result<(), Outcome> {
    let limits = &policy.limits;
    let deadline = asked.started.monotonic + limits.head_timeout;
    while !connection.inbound.parse_head(limits.head)? {
        connection.inbound.make_room_for_head(&worker.buffers, limits.head.size);
        connection.receive(worker, (deadline, Fault::HeadTimeout)).await?;
        asked.head_read = worker.net.now();
    }
    asked.mark(Stage::Head, worker.net.monotonic());
    let (head, bytes) = connection.inbound.head();
    asked.excerpts.method.set(head.method.of(bytes));
    asked.excerpts.path.set(head.path(bytes).as_bytes());
    asked.excerpts.query.set(head.query(bytes));
    asked.version = head.version;
    asked.is_head = head.method.of(bytes) == b"HEAD";
    asked.framing = framing::of_request(head, bytes)?;
    asked.body_read = matches!(asked.framing, BodyFraming::None | BodyFraming::Length(0));
    asked.is_last = !framing::keep_alive(head.version, head.headers(bytes));
    asked.keep_alive = !asked.is_last && connection.served < limits.requests_per_connection;
    Ok(())
}

fn resolve<'p, S: ByteStream>(
    policy: &'p Policy,
    connection: &Connection<S>,
    asked: &mut Asked<'p>,
) -> Result<&'p Route, Outcome> {
    let (head, bytes) = connection.inbound.head();
    let route = policy.gate.routes.resolve(head.host(bytes).name, head.path(bytes), head.method.of(bytes))?;
    asked.route = Some(route);
    Ok(route)
}

/// Says who the client is: the peer, or whom the trusted proxies name.
fn identify<S: ByteStream>(policy: &Policy, connection: &Connection<S>, asked: &mut Asked<'_>) {
    if let Some(door) = policy.door(connection.listener) {
        let (head, bytes) = connection.inbound.head();
        asked.client = ClientAddress::of(asked.client.address, head.headers(bytes), &door.proxies);
    }
}

/// Reads the body to its end; each piece is hashed as it lands.
async fn read_body<N: Net>(
    worker: &Worker<N>,
    policy: &Policy,
    connection: &mut Connection<N::Stream>,
    asked: &mut Asked<'_>,
    (route, check, admitted): (&Route, &mut Check, &mut Admitted<'_>),
) -> Result<(), Outcome> {
    // The clock is read only for a body that did not come along with its head.
    let mut pace = None;
    let mut deadline = |arrived: usize| {
        pace.get_or_insert_with(|| Pace::new(worker.net.monotonic(), &policy.limits)).deadline(arrived)
    };
    match asked.framing {
        BodyFraming::None => {
            let (head, bytes) = connection.inbound.head();
            framing::expects_continue(head, bytes)?;
        }
        BodyFraming::Length(length) => {
            if length > route.body_limit {
                return Err(Rejection::BodyTooLarge.into());
            }
            let length = usize::try_from(length).map_err(|_| Rejection::BodyTooLarge)?;
            admit::make_room(worker, connection, admitted, Expected::Length(length)).await?;
            invite(policy, worker, connection).await?;
            loop {
                check.update(connection.inbound.take_arrived(length));
                let arrived = connection.inbound.body_length();
                admit::hold_body(worker, connection, admitted, (arrived, arrived == length)).await?;
                if arrived == length {
                    break;
                }
                admit::make_room(worker, connection, admitted, Expected::Length(length)).await?;
                connection.receive(worker, deadline(arrived)).await?;
            }
        }
        BodyFraming::Chunked => {
            let mut decoder = ChunkDecoder::new(route.body_limit);
            let limit = usize::try_from(route.body_limit).unwrap_or(usize::MAX);
            invite(policy, worker, connection).await?;
            loop {
                let whole = connection.inbound.take_chunks(&mut decoder, |piece| check.update(piece));
                let whole = whole.map_err(refuse_chunk)?;
                let arrived = connection.inbound.body_length();
                admit::hold_body(worker, connection, admitted, (arrived, whole)).await?;
                if whole {
                    break;
                }
                admit::make_room(worker, connection, admitted, Expected::AtMost(limit)).await?;
                connection.receive(worker, deadline(arrived)).await?;
            }
        }
    }
    connection.patience.is_over().map_err(|GaveWay| Rejection::GaveWay)?;
    asked.body_read = true;
    Ok(())
}

fn refuse_chunk(error: ChunkError) -> Rejection {
    match error {
        ChunkError::Malformed => Rejection::ChunkMalformed,
        ChunkError::TooLarge => Rejection::BodyTooLarge,
    }
}

/// `100 Continue`, to a client that waits for it: everything that can be refused without the body has been.
async fn invite<N: Net>(
    policy: &Policy,
    worker: &Worker<N>,
    connection: &mut Connection<N::Stream>,
) -> Result<(), Outcome> {
    let (head, bytes) = connection.inbound.head();
    if !framing::expects_continue(head, bytes)? || connection.inbound.has_body_bytes() {
        return Ok(());
    }
    let deadline = worker.net.monotonic() + policy.limits.write_timeout;
    respond::write_continue(worker, &mut connection.stream, deadline).await
}

/// The verdict. Only the engine can make a [`Verified`], and only a [`Verified`] can be forwarded.
fn finish<'p, 'c>(
    inbound: &'c mut Inbound,
    asked: &mut Asked<'p>,
    (route, check): (&'p Route, Check),
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
    Ok(verified)
}

/// The right to forward, which no second copy of a delivery has. Only with a [`Claim`] can something be forwarded.
async fn claim<'p>(
    policy: &'p Policy,
    asked: &mut Asked<'p>,
    (route, verified): (&Route, &Verified<'p, &mut Inbound>),
    now: Now,
) -> Result<Claim<'p>, Outcome> {
    let Some(rule) = &route.replay else { return Ok(Claim::unremembered()) };
    let ledger = policy.live.ledgers.get(rule.table).and_then(Option::as_ref);
    let (judged, retry_after) = match ledger {
        Some(ledger) => {
            let Some(names) = ledger.names(&route.verifier, verified) else { return Ok(Claim::unremembered()) };
            let claimed = ledger.claim(&names, rule, now).await;
            let retry_after = claimed.retry_after();
            (claimed.judge(rule), retry_after)
        }
        None => (Err(Rejection::ReplayTableFull), None),
    };
    match judged {
        Ok((claim, noted)) => {
            noted.into_iter().for_each(|rejection| asked.observed.note(rejection));
            if claim.has_reused_id() {
                asked.observed.note(Rejection::IdReused);
            }
            Ok(claim)
        }
        Err(rejection) if route.observe.replay => {
            asked.observed.note(rejection);
            Ok(Claim::unremembered())
        }
        Err(rejection) => {
            asked.retry_after = retry_after;
            Err(rejection.into())
        }
    }
}

/// Answers what the application has not answered, and decides the fate of the connection.
async fn conclude<N: Net>(
    worker: &Worker<N>,
    policy: &Policy,
    connection: &mut Connection<N::Stream>,
    asked: &mut Asked<'_>,
    outcome: Outcome,
) -> Next {
    let Some(answer) = outcome.answer() else {
        return after_answer(connection, asked);
    };
    if answer.fate == Fate::Abort {
        return Next::Close;
    }
    if let (false, BodyFraming::Length(length)) = (asked.body_read, asked.framing) {
        asked.body_read = usize::try_from(length).is_ok_and(|length| connection.inbound.skip_body(length));
    }
    let intact = asked.body_read && connection.inbound.is_intact();
    asked.keep_alive &= answer.fate == Fate::Keep && intact && !connection.parts(worker);
    let time = if answer.fate == Fate::Leave { PARTING_TIME } else { ANSWER_TIME };
    let deadline = worker.net.monotonic() + policy.limits.write_timeout.min(time);
    let patience = Rc::clone(&connection.patience);
    let written = {
        let writing = pin!(respond::write_answer(worker, policy, connection, asked, (answer, deadline)));
        match answer.fate {
            Fate::Leave => writing.await,
            _ => patience
                .during_write(|| worker.net.monotonic(), writing)
                .await
                .unwrap_or(Err(Fault::ResponseGaveWay.into())),
        }
    };
    match written {
        Ok(()) if answer.fate == Fate::Leave => Next::Close,
        Ok(()) => after_answer(connection, asked),
        Err(_) => Next::Close,
    }
}

/// What becomes of a connection whose client has been answered. One that has sent all of its last request has nothing to
/// say that closing could cut off, and need not be waited for.
fn after_answer<S: ByteStream>(connection: &mut Connection<S>, asked: &Asked<'_>) -> Next {
    if asked.keep_alive {
        Next::Again
    } else if asked.is_last && asked.body_read && connection.has_said_all() {
        connection.stream.say_goodbye();
        Next::Close
    } else {
        Next::Linger
    }
}

/// A refusal is a few hundred bytes: a client that does not take them in this time does not want them.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// A client that had to give way is waited for no longer than the kernel needs.
const PARTING_TIME: Duration = Duration::from_millis(50);
