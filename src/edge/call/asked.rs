//! What is known of a request.

use std::time::Duration;

use crate::edge::peer::Peer;
use crate::gate::client::ClientAddress;
use crate::gate::route::Route;
use crate::gate::verify::{ChallengeReply, Delivery, Verifier};
use crate::inbox::delivery::DeliveryId;
use crate::now::Now;
use crate::outcome::{Observed, Outcome};
use crate::telemetry::exchange::{
    DELIVERY_ID, Excerpt, METHOD, PATH, QUERY, Stage, Stages, Stated, TRACEPARENT, USER_AGENT,
};
use crate::wire::framing::BodyFraming;
use crate::wire::head::{ResponseError, Version};
use crate::wire::headers::{Headers, Known};

use super::ids::RequestId;

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
    /// The id under which it was stored, if it was.
    pub stored: Option<DeliveryId>,
    /// The rule that the application's answer broke.
    pub broken_rule: Option<ResponseError>,
    /// What checks that are only observed would have refused.
    pub observed: Observed,
    /// Seconds after which it makes sense to try again, where that is known.
    pub retry_after: Option<u64>,
    /// The answer to a handshake.
    pub challenge: Option<Box<ChallengeReply>>,
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
    /// The delivery id that the head names, not proven; empty where a signed one is known. Nothing before it was looked
    /// for (`note_stated`).
    pub stated_id: Option<Excerpt<DELIVERY_ID>>,
    /// The first `User-Agent`.
    pub user_agent: Excerpt<USER_AGENT>,
    /// The first `traceparent`.
    pub traceparent: Excerpt<TRACEPARENT>,
}

impl Excerpts {
    const EMPTY: Self = Self {
        method: Excerpt::EMPTY,
        path: Excerpt::EMPTY,
        query: Excerpt::EMPTY,
        delivery_id: None,
        stated_id: None,
        user_agent: Excerpt::EMPTY,
        traceparent: Excerpt::EMPTY,
    };

    /// Takes down what client and trace are said to be.
    pub(super) fn note_origin(&mut self, headers: Headers<'_>) {
        if let Some(agent) = headers.of_kind(Known::UserAgent).next() {
            self.user_agent.set(agent);
        }
        if let Some(parent) = headers.of_kind(Known::Traceparent).next() {
            self.traceparent.set(parent);
        }
    }

    /// Takes down the id that the head of a delivery names, where no signed one is known. It is looked for once, and only
    /// where nothing better is known: for a token that means decoding it.
    pub(super) fn note_stated<D: Delivery>(&mut self, verifier: &Verifier, delivery: &D) {
        if self.stated_id.is_some() {
            return;
        }
        let mut excerpt = Excerpt::EMPTY;
        if self.delivery_id.is_none()
            && let Some(id) = verifier.stated_id(delivery)
        {
            excerpt.set(&id);
        }
        self.stated_id = Some(excerpt);
    }

    /// What the request says of itself.
    pub(super) fn stated(&self) -> Stated<'_> {
        Stated {
            delivery_id: self.stated_id.as_ref().map_or(&[], Excerpt::bytes),
            user_agent: self.user_agent.bytes(),
            traceparent: self.traceparent.bytes(),
        }
    }
}

impl<'p> Asked<'p> {
    /// A request of which nothing is known yet.
    pub(in crate::edge) fn new(id: RequestId, started: Now, peer: Option<&Peer>) -> Self {
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
            stored: None,
            broken_rule: None,
            observed: Observed::NONE,
            retry_after: None,
            challenge: None,
            key_id: None,
            sent: 0,
            excerpts: Excerpts::EMPTY,
            stages: Stages::default(),
        }
    }

    /// Keeps the answer to a handshake; gives what becomes of the exchange.
    pub fn answer_with(&mut self, reply: Box<ChallengeReply>) -> Outcome {
        let status = reply.status;
        self.challenge = Some(reply);
        Outcome::Answered { status }
    }

    /// Notes that a stage has ended at `monotonic`.
    pub fn mark(&mut self, stage: Stage, monotonic: Duration) {
        self.stages.mark(stage, monotonic.saturating_sub(self.started.monotonic));
    }
}
