//! Between route and verification: what admission is asked, and how its answers become those of an exchange.

use crate::gate::admission::{Admitted, Refused, Request};
use crate::gate::crowd::{Bound, Party};
use crate::gate::keyed_buckets::ClientKey;
use crate::gate::observe::unless_observed;
use crate::gate::route::Route;
use crate::gate::verify::{Check, Verified};
use crate::now::Now;
use crate::outcome::{Outcome, Rejection};
use crate::wire::framing::BodyFraming;

use super::connection::Connection;
use super::exchange::Asked;
use super::inbound::Inbound;
use super::net::Net;
use super::policy::Policy;
use super::stream::ByteStream;
use super::worker::Worker;

/// Asks for the right to spend work on this request, before anything of its body has been asked for. It is counted for
/// the client, not for the proxies that it came through.
///
/// # Errors
/// Which bound was met.
pub fn admit<'w, N: Net>(
    worker: &'w Worker<N>,
    connection: &Connection<N::Stream>,
    asked: &mut Asked<'_>,
    route: &Route,
) -> Result<Admitted<'w>, Outcome> {
    let verdict = route.clients.admit(asked.client.proven());
    unless_observed(verdict, route.observe.allow, &mut asked.observed)?;
    let (head, bytes) = connection.inbound.head();
    let has_body = !matches!(asked.framing, BodyFraming::None | BodyFraming::Length(0));
    let request = Request { route, headers: head.headers(bytes), has_body };
    let client = ClientKey::of(asked.client.address);
    let (holding, now) = (connection.patience.holding(), asked.head_read.monotonic);
    let mut admitted = worker.admission.admit(request, client, now, holding);
    let newcomer = (Party::Client(client), u64::from(!is_whole(connection, asked)));
    while admitted.as_ref().is_err_and(|refused| refused.rejection == Rejection::RequestsFull)
        && worker.make_way(Bound::Requests, newcomer, worker.net.monotonic())
    {
        admitted = worker.admission.admit(request, client, now, holding);
    }
    admitted.map_err(|refused| refuse(asked, refused))
}

/// Charges the body as far as it has arrived; others who make us wait give way to it.
///
/// # Errors
/// [`Rejection::BodyMemoryFull`]; [`Rejection::GaveWay`], because nobody makes us wait with more.
pub fn hold_body<N: Net>(
    worker: &Worker<N>,
    connection: &Connection<N::Stream>,
    admitted: &mut Admitted<'_>,
    (arrived, whole): (usize, bool),
) -> Result<(), Rejection> {
    while let Err(full) = admitted.hold_body(arrived) {
        // What he holds already is counted, if he has made us wait for it.
        let amount = if whole { 0 } else { (arrived as u64).saturating_sub(connection.patience.holding().body()) };
        if !worker.make_way(Bound::BodyMemory, (admitted.party(), amount), worker.net.monotonic()) {
            return Err(full);
        }
        if connection.patience.has_given_way() {
            return Err(Rejection::GaveWay);
        }
    }
    Ok(())
}

/// Judges the head: no work on a signature without admission.
///
/// # Errors
/// What [`crate::gate::verify::Verifier::begin`] refuses.
pub fn begin<S: ByteStream>(
    _: &Admitted<'_>,
    route: &Route,
    connection: &Connection<S>,
    asked: &Asked<'_>,
) -> Result<Check, Outcome> {
    Ok(route.verifier.begin(&connection.inbound, asked.head_read)?)
}

/// Takes a token of the route, which only a genuine delivery can. Where the route has no rate it goes on as it is.
///
/// # Errors
/// [`crate::outcome::Rejection::RouteRateLimited`], unless the route only observes it.
pub fn spend<S: ByteStream>(
    admitted: &Admitted<'_>,
    connection: &mut Connection<S>,
    asked: &mut Asked<'_>,
    (policy, route, verified): (&Policy, &Route, Verified<Inbound>),
    now: Now,
) -> Result<Verified<Inbound>, Outcome> {
    match admitted.spend(policy.bucket(route), &verified, now.monotonic) {
        Ok(()) => Ok(verified),
        Err(refused) if route.observe.rate => {
            asked.observed.note(refused.rejection);
            Ok(verified)
        }
        Err(refused) => {
            connection.inbound = asked.take_delivery(verified);
            Err(refuse(asked, refused))
        }
    }
}

/// Whether nothing of the request is still to come.
fn is_whole<S>(connection: &Connection<S>, asked: &Asked<'_>) -> bool {
    match asked.framing {
        BodyFraming::None => true,
        BodyFraming::Length(length) => connection.inbound.has_body_of(length),
        BodyFraming::Chunked => false,
    }
}

fn refuse(asked: &mut Asked<'_>, refused: Refused) -> Outcome {
    asked.retry_after = refused.retry_after;
    refused.rejection.into()
}
