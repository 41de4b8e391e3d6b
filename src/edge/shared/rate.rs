//! The stage of an exchange: a delivery takes a token of its route, from the bucket that all processes share.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use super::link::EngineLink;
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;
use crate::gate::admission::Refused;
use crate::gate::replay::WhenUnavailable;
use crate::gate::route::Route;
use crate::ledger::shared::{SharedRate, TokenAnswer, TokenWait};
use crate::outcome::Rejection;
use crate::telemetry::engine::{EngineAsk, EngineEnd};

/// The rate of a route that all processes share; nothing for another route.
pub fn of(route: &Route) -> Option<(SharedRate<'_>, WhenUnavailable)> {
    let admission = &route.admission;
    let (rate, when_unavailable) = admission.rate.zip(admission.rate_shared)?;
    Some((SharedRate { position: admission.position, name: &route.name, rate }, when_unavailable))
}

/// What a delivery would be refused for when it has been claimed, as far as this worker knows: the engine is not asked for a claim
/// that would be given back.
pub fn known_empty<N: Net>(worker: &Worker<N>, link: &EngineLink, route: &Route) -> Option<Refused> {
    let (rate, _) = of(route).filter(|_| !route.observe.rate)?;
    let empty = link.book.borrow().known_empty(rate, worker.net.monotonic())?;
    Some(Refused::empty(Rejection::RouteRateLimited, empty))
}

/// Takes a token. While the engine is away, `alone` takes one of this process, where the route says so; an observer should know
/// of that.
///
/// # Errors
/// [`Rejection::RouteRateLimited`]; [`Rejection::SharedUnavailable`]: the engine is away, and the route refuses then.
pub async fn spend<N: Net>(
    worker: &Worker<N>,
    link: &Rc<EngineLink>,
    (rate, when_unavailable): (SharedRate<'_>, WhenUnavailable),
    alone: impl FnOnce(Duration) -> Result<(), Refused>,
) -> (Result<(), Refused>, Option<Rejection>) {
    let since = worker.net.monotonic();
    let mut asked = false;
    let answer = poll_fn(|cx| {
        let mut book = link.book.borrow_mut();
        let wait = TokenWait { since, now: worker.net.monotonic() };
        let answer = book.take_token(link.key(), rate, wait, cx.waker());
        let asks = book.has_more();
        drop(book);
        asked |= answer.is_pending();
        if asks {
            link.ring();
        }
        answer
    })
    .await;
    match answer {
        TokenAnswer::Taken => (Ok(()), None),
        TokenAnswer::Empty(empty) => (Err(Refused::empty(Rejection::RouteRateLimited, empty)), None),
        TokenAnswer::Away(_) => {
            worker.cells(|cells| cells.engine.ended(EngineAsk::Take, EngineEnd::NotAsked, u64::from(!asked)));
            let now = worker.net.monotonic();
            match when_unavailable {
                WhenUnavailable::Local => {
                    let spent = alone(now);
                    let noted = spent.is_ok().then_some(Rejection::SharedUnavailable);
                    (spent, noted)
                }
                WhenUnavailable::Refuse => {
                    // Not all senders come back at once.
                    let retry_after = Some(2 + u64::from(now.subsec_micros()) % 4);
                    (Err(Refused { retry_after, ..Rejection::SharedUnavailable.into() }), None)
                }
            }
        }
    }
}
