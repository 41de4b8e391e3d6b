//! Between route and verification: what admission is asked, and how its answers become those of an exchange.

use crate::gate::admission::{AdmissionRequest, Admitted, Refused};
use crate::gate::client::Account;
use crate::gate::eviction::Owner;
use crate::gate::identity::Caller;
use crate::gate::keyed_buckets::ClientKey;
use crate::gate::observe::unless_observed;
use crate::gate::route::Route;
use crate::gate::verify::Check;
use crate::outcome::{Outcome, Rejection};
use crate::telemetry::suspicion::Suspicion;
use crate::wire::framing::BodyFraming;

use super::asked::Asked;
use super::inbound::{Growth, Inbound};
use super::request::Call;
use crate::edge::peer::Sender;
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;

/// Asks for the right to spend work on this request, before anything of its body has been asked for. It is counted for
/// the client, not for the proxies that it came through.
///
/// # Errors
/// Which bound was met.
pub async fn admit<'w, N: Net>(
    worker: &'w Worker<N>,
    call: &mut Call<'_, '_>,
    sender: Sender<'_>,
    route: &Route,
) -> Result<Admitted<'w>, Outcome> {
    let Call { inbound, asked, turn_slot, occupancy, .. } = call;
    let verdict = route.clients.admit(asked.client.proven());
    unless_observed(verdict, route.observe.allow, &mut asked.observed)?;
    if !route.callers.admits(sender.caller.map(Caller::identity)) {
        return Err(Rejection::ClientNameRefused.into());
    }
    let (head, bytes) = inbound.head();
    let has_body = !matches!(asked.framing, BodyFraming::None | BodyFraming::Length(0));
    let client = client_key(asked, sender);
    let is_proven = turn_slot.conduct().is_proven(client);
    let request = AdmissionRequest { route, headers: head.headers(bytes), has_body, is_proven };
    let (holding, now) = (occupancy.holding(), asked.head_read.monotonic);
    let newcomer = (Owner::Client(client), u64::from(!is_whole(inbound, asked)));
    let attempt = || loop {
        match worker.admission.admit(request, client, now, holding) {
            Err(Refused { bound: Some(bound), .. }) if worker.evict_for(bound, newcomer, worker.net.monotonic()) => {}
            admitted => return admitted,
        }
    };
    let mut admitted = attempt();
    if let Err(Refused { bound: Some(bound), .. }) = admitted {
        worker.call_peers(bound);
        let retry = || Some(attempt()).filter(is_final);
        admitted = worker.peers.wait_for(retry).await.unwrap_or(admitted);
    }
    admitted.map_err(|refused| refuse(asked, refused))
}

/// The client that a request is counted for. A name is better than an address: it cannot be shared by accident, and has no
/// neighbours. But what a proxy proves is its own name, and not that of the client it speaks for.
fn client_key(asked: &Asked<'_>, sender: Sender<'_>) -> ClientKey {
    let named = sender.caller.and_then(Caller::key).filter(|_| asked.client.account == Account::Stranger);
    named.unwrap_or_else(|| ClientKey::of(asked.client.address))
}

/// Waits for the turn of the first request of a connection.
///
/// # Errors
/// [`Rejection::GaveWay`]
pub async fn take_first_turn<N: Net>(
    worker: &Worker<N>,
    call: &Call<'_, '_>,
    sender: Sender<'_>,
) -> Result<(), Rejection> {
    let client = || client_key(&call.asked, sender);
    call.wait_for(worker, call.turn_slot.take_first_turn(client)).await
}

/// Charges the body as far as it has arrived; slow connections are evicted for it.
///
/// # Errors
/// [`Rejection::BodyMemoryFull`], or [`Rejection::ClientRateLimited`] for the share of suspects; [`Rejection::GaveWay`].
pub async fn hold_body<N: Net>(
    worker: &Worker<N>,
    call: &Call<'_, '_>,
    admitted: &mut Admitted<'_>,
    (arrived, whole): (usize, bool),
) -> Result<(), Rejection> {
    if admitted.hold_body(arrived).is_ok() {
        return Ok(());
    }
    // What it holds already is counted, if the connection is slow.
    let held = call.occupancy.holding().body();
    let newcomer = (admitted.owner(), if whole { 0 } else { (arrived as u64).saturating_sub(held) });
    let mut attempt = || loop {
        if call.occupancy.was_evicted() {
            return Err(Rejection::GaveWay.into());
        }
        match admitted.hold_body(arrived) {
            Err(Refused { bound: Some(bound), .. }) if worker.evict_for(bound, newcomer, worker.net.monotonic()) => {}
            held => return held,
        }
    };
    let mut held = attempt();
    if let Err(Refused { bound: Some(bound), .. }) = held {
        worker.call_peers(bound);
        let retry = || Some(attempt()).filter(is_final);
        held = worker.peers.wait_for(retry).await.unwrap_or(held);
    }
    held.map_err(|refused| refused.rejection)
}

/// How much of a body is to come.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// As much as has been announced.
    Length(usize),
    /// The length is not known, but it is no more than this.
    AtMost(usize),
}

/// Makes room for what is to come of a body. A buffer is charged before it is there.
///
/// # Errors
/// Those of [`hold_body`].
pub async fn make_room<N: Net>(
    worker: &Worker<N>,
    call: &mut Call<'_, '_>,
    admitted: &mut Admitted<'_>,
    expected: Expected,
) -> Result<(), Rejection> {
    let growth = growth_for(call, admitted, expected);
    let Some(growth) = growth else { return Ok(()) };
    if growth.charge > 0 {
        hold_body(worker, call, admitted, (growth.charge, false)).await?;
    }
    call.inbound.grow(&worker.buffers, growth);
    Ok(())
}

fn growth_for(call: &mut Call<'_, '_>, admitted: &Admitted<'_>, expected: Expected) -> Option<Growth> {
    let held = call.occupancy.holding().body();
    let plentiful = |charge: usize| admitted.has_plenty((charge as u64).saturating_sub(held));
    match expected {
        Expected::Length(length) => call.inbound.growth_for_body(length, plentiful),
        Expected::AtMost(limit) => call.inbound.growth_for_chunks(limit, plentiful),
    }
}

/// Judges the head: no work on a signature, or on names of headers, without admission.
///
/// # Errors
/// What [`Route::refuse_tampering`] and [`crate::gate::verify::Verifier::begin`] refuse.
pub fn begin(_: &Admitted<'_>, route: &Route, call: &Call<'_, '_>) -> Result<Check, Outcome> {
    route.refuse_tampering(call.inbound)?;
    Ok(route.verifier.begin(call.inbound, call.asked.head_read)?)
}

/// What became of taking a token of the route, which only a genuine delivery can take. A route that only observes its rate
/// notes the refusal.
///
/// # Errors
/// [`Rejection::RouteRateLimited`]
pub fn unless_rate_is_observed(
    spent: Result<(), Refused>,
    route: &Route,
    asked: &mut Asked<'_>,
) -> Result<(), Outcome> {
    match spent {
        Err(refused) if route.observe.rate => asked.observed.note(refused.rejection),
        spent => spent.map_err(|refused| refuse(asked, refused))?,
    }
    Ok(())
}

/// What became of a request of a client that was over its budget; nothing where it was not.
pub fn suspicion(admitted: Option<&Admitted<'_>>, outcome: Outcome, genuine: bool) -> Option<Suspicion> {
    if outcome == Outcome::Rejected(Rejection::ClientRateLimited) {
        return Some(Suspicion::Refused);
    }
    let suspicion = if genuine { Suspicion::Genuine } else { Suspicion::NotGenuine };
    admitted.filter(|admitted| admitted.began_as_suspect()).map(|_| suspicion)
}

/// Whether nothing of the request is still to come.
fn is_whole(inbound: &Inbound, asked: &Asked<'_>) -> bool {
    match asked.framing {
        BodyFraming::None => true,
        BodyFraming::Length(length) => inbound.has_body_of(length),
        BodyFraming::Chunked => false,
    }
}

/// Whether no room that others make would change it.
fn is_final<T>(answer: &Result<T, Refused>) -> bool {
    !answer.as_ref().is_err_and(|refused| refused.bound.is_some())
}

/// The outcome of a request that met a bound.
pub fn refuse(asked: &mut Asked<'_>, refused: Refused) -> Outcome {
    asked.retry_after = refused.retry_after;
    refused.rejection.into()
}
