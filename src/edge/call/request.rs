//! The values that the stages of a call hand on.

use std::pin::pin;
use std::rc::Rc;

use crate::edge::peer::Sender;
use crate::edge::runtime::net::Net;
use crate::edge::shared::claim::DeliveryClaim;
use crate::edge::wait::slow_set::{Evicted, Occupancy};
use crate::edge::wait::turns::TurnSlot;
use crate::edge::worker::Worker;
use crate::gate::admission::Admitted;
use crate::gate::identity::Caller;
use crate::gate::route::Route;
use crate::gate::verify::{Check, Delivery, Verified};
use crate::now::Now;
use crate::outcome::{Outcome, Rejection};
use crate::telemetry::exchange::{Excerpt, Exchange, RouteTag};
use crate::wire::head::ResponseHead;

use super::asked::Asked;
use super::inbound::Inbound;

/// One request: what has come, what is known of it, and what is held for it.
pub struct Call<'c, 'p> {
    /// What has come.
    pub inbound: &'c mut Inbound,
    /// What is known.
    pub asked: Asked<'p>,
    /// The connection in the turn queue of its worker.
    pub turn_slot: &'c mut TurnSlot,
    /// What the connection holds of the limits of the process, and whether it makes us wait.
    pub occupancy: &'c Rc<Occupancy>,
    /// The head of the application's answer; kept for its memory.
    pub reply_head: &'c mut ResponseHead,
}

/// A request that was admitted.
pub struct Case<'r, 'a, 'w> {
    /// Its route.
    pub route: &'r Route,
    /// Its verification, as far as it has come.
    pub check: Check,
    /// What was granted to it.
    pub admitted: &'a mut Admitted<'w>,
}

/// A delivery that was proven genuine and is no copy. What accepts it commits the claim, and nothing else does; dropped, the
/// claim is released.
pub struct Genuine<'p, 'c> {
    /// Its route.
    pub route: &'p Route,
    /// The proof, and the delivery itself.
    pub verified: Verified<'p, &'c mut Inbound>,
    /// The right to forward it.
    pub claim: DeliveryClaim<'p>,
}

impl<'p> Call<'_, 'p> {
    /// The record of the exchange on the worker at `position` if it ends like this.
    pub(super) fn record<'a>(
        &'a self,
        position: usize,
        sender: Sender<'a>,
        outcome: Outcome,
        ended: Now,
    ) -> Exchange<'a> {
        let Self { inbound, asked, .. } = self;
        let tag = |route: &'p Route| RouteTag {
            position: route.admission.position,
            name: &route.name,
            scheme: route.scheme_name(),
        };
        Exchange {
            worker: position,
            request_id: *asked.id.text(),
            ended,
            route: asked.route.map(tag),
            peer: sender.peer.map(|peer| peer.address),
            client: asked.client.address,
            caller: sender.caller.and_then(Caller::name),
            method: asked.excerpts.method.bytes(),
            path: asked.excerpts.path.bytes(),
            query: asked.excerpts.query.bytes(),
            outcome,
            accepted: asked.accepted,
            broken_rule: asked.broken_rule,
            observed: asked.observed,
            key_id: asked.key_id,
            delivery_id: asked.excerpts.delivery_id.as_ref().map(Excerpt::bytes),
            stated: asked.excerpts.stated(),
            body: (asked.body_read && inbound.is_intact()).then(|| inbound.body()),
            received: inbound.body_length() as u64,
            sent: asked.sent,
            stages: asked.stages,
        }
    }

    /// Waits for a turn, where the call has to.
    ///
    /// # Errors
    /// [`Rejection::GaveWay`]
    pub(super) async fn take_turn<N: Net>(&self, worker: &Worker<N>, large: bool) -> Result<(), Rejection> {
        self.wait_for(worker, self.turn_slot.take_turn(large)).await
    }

    /// Waits for its turn to read a piece of a body, whatever its rank.
    ///
    /// # Errors
    /// [`Rejection::GaveWay`]: it was evicted meanwhile.
    pub(super) async fn take_piece<N: Net>(&self, worker: &Worker<N>, large: bool) -> Result<(), Rejection> {
        self.wait_for(worker, self.turn_slot.take_piece(large)).await
    }

    /// Waits for something of this worker.
    ///
    /// # Errors
    /// [`Rejection::GaveWay`]: it was evicted meanwhile.
    pub(super) async fn wait_for<N: Net, T>(
        &self,
        worker: &Worker<N>,
        wait: impl Future<Output = T>,
    ) -> Result<T, Rejection> {
        let wait = pin!(wait);
        // Waiting for us is not making us wait.
        if !self.occupancy.is_slow() {
            return Ok(wait.await);
        }
        self.occupancy.during(|| worker.net.monotonic(), wait).await.map_err(|Evicted| Rejection::GaveWay)
    }
}
