//! Reads a request: its head, and its body once it has been admitted.

use std::io;
use std::pin::pin;

use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::wait::slow_set::Evicted;
use crate::edge::worker::Worker;
use crate::gate::admission::Admitted;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::telemetry::exchange::Stage;
use crate::wire::chunked::{ChunkDecoder, ChunkError};
use crate::wire::framing::{self, BodyFraming};

use super::admit::{self, Expected};
use super::carrier::Carrier;
use super::pace::{Pace, ReadDue};
use super::request::{Call, Case};

/// Reads up to the end of the head, and takes down what it says.
///
/// # Errors
/// It breaks a rule, or does not come.
pub async fn head<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    policy: &Policy,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
) -> Result<(), Outcome> {
    let limits = &policy.limits;
    let deadline = call.asked.started.monotonic + limits.head_timeout;
    while !call.inbound.parse_head(limits.head)? {
        call.inbound.make_room_for_head(&worker.buffers, limits.head.size);
        receive(worker, call, carrier, ReadDue { deadline, late: Fault::HeadTimeout }).await?;
        call.take_turn(worker, call.inbound.has_charged_buffer()).await?;
        call.asked.head_read = worker.net.now();
    }
    let Call { inbound, asked, .. } = call;
    asked.mark(Stage::Head, worker.net.monotonic());
    let (head, bytes) = inbound.head();
    asked.excerpts.method.set(head.method.of(bytes));
    asked.excerpts.path.set(head.path(bytes).as_bytes());
    asked.excerpts.query.set(head.query(bytes));
    asked.excerpts.note_origin(head.headers(bytes));
    asked.version = head.version;
    asked.is_head = head.method.of(bytes) == b"HEAD";
    asked.framing = framing::of_request(head, bytes)?;
    asked.body_read = matches!(asked.framing, BodyFraming::None | BodyFraming::Length(0));
    asked.is_last = !framing::keep_alive(head.version, head.headers(bytes));
    asked.keep_alive = !asked.is_last && carrier.may_carry_another(limits);
    Ok(())
}

/// Reads the body to its end; each piece is hashed as it lands.
///
/// # Errors
/// It is too large, breaks a rule or does not come; no memory is left for it; the connection was evicted.
pub async fn body<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    policy: &Policy,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
    case: &mut Case<'_, '_, '_>,
) -> Result<(), Outcome> {
    let Case { route, check, admitted } = case;
    // The clock is read only for a body that did not come along with its head.
    let mut pace = None;
    let mut due =
        |arrived: usize| pace.get_or_insert_with(|| Pace::new(worker.net.monotonic(), &policy.limits)).due(arrived);
    match call.asked.framing {
        BodyFraming::None => {
            let (head, bytes) = call.inbound.head();
            framing::expects_continue(head, bytes)?;
        }
        BodyFraming::Length(length) => {
            if length > route.body_limit {
                return Err(Rejection::BodyTooLarge.into());
            }
            let length = usize::try_from(length).map_err(|_| Rejection::BodyTooLarge)?;
            admit::make_room(worker, call, admitted, Expected::Length(length)).await?;
            invite(worker, policy, call, carrier).await?;
            loop {
                check.update(call.inbound.take_arrived(length));
                let arrived = call.inbound.body_length();
                admit::hold_body(worker, call, admitted, (arrived, arrived == length)).await?;
                if arrived == length {
                    break;
                }
                admit::make_room(worker, call, admitted, Expected::Length(length)).await?;
                receive_piece(worker, call, carrier, admitted, due(arrived)).await?;
            }
        }
        BodyFraming::Chunked => {
            let mut decoder = ChunkDecoder::new(route.body_limit);
            let limit = usize::try_from(route.body_limit).unwrap_or(usize::MAX);
            invite(worker, policy, call, carrier).await?;
            loop {
                let whole = call.inbound.take_chunks(&mut decoder, |piece| check.update(piece));
                let whole = whole.map_err(refuse_chunk)?;
                let arrived = call.inbound.body_length();
                admit::hold_body(worker, call, admitted, (arrived, whole)).await?;
                if whole {
                    break;
                }
                admit::make_room(worker, call, admitted, Expected::AtMost(limit)).await?;
                receive_piece(worker, call, carrier, admitted, due(arrived)).await?;
            }
        }
    }
    call.occupancy.end().map_err(|Evicted| Rejection::GaveWay)?;
    call.asked.body_read = true;
    Ok(())
}

fn refuse_chunk(error: ChunkError) -> Rejection {
    match error {
        ChunkError::Malformed => Rejection::ChunkMalformed,
        ChunkError::TooLarge => Rejection::BodyTooLarge,
    }
}

/// `100 Continue`, to a client that waits for it: everything that can be refused without the body has been.
async fn invite<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    policy: &Policy,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
) -> Result<(), Outcome> {
    let (head, bytes) = call.inbound.head();
    if !framing::expects_continue(head, bytes)? || call.inbound.has_body_bytes() {
        return Ok(());
    }
    let deadline = worker.net.monotonic() + policy.limits.write_timeout;
    carrier.invite(worker, deadline).await
}

/// Reads more of a body. The kernel copies what it reads, and thousands of unfinished bodies may be readable at once: so a
/// suspect takes its turn before, and so does a large piece while many connections wait for turns. Others take it afterwards:
/// most have nothing to wait for, and need one operation for it.
///
/// # Errors
/// Those of [`receive`].
async fn receive_piece<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
    admitted: &Admitted<'_>,
    due: ReadDue,
) -> Result<(), Outcome> {
    let large = call.inbound.has_charged_buffer();
    let before = admitted.is_suspect() || large && worker.turns.is_crowded();
    if !before {
        receive(worker, call, carrier, due).await?;
        return Ok(call.take_turn(worker, large).await?);
    }
    let readable = {
        let waiting = pin!(carrier.readable(due.deadline));
        call.occupancy.during(|| worker.net.monotonic(), waiting).await.map_err(|Evicted| Rejection::GaveWay)?
    };
    if let Err(error) = readable {
        return Err(failure(worker, call, &error, due.late).await);
    }
    call.take_piece(worker, large).await?;
    receive(worker, call, carrier, due).await
}

/// Reads more of the request. `Ok(())` means that something came.
///
/// # Errors
/// [`ReadDue::late`] at the deadline, [`Fault::DownstreamClosed`] when the client has gone, [`Rejection::GaveWay`].
async fn receive<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
    due: ReadDue,
) -> Result<(), Outcome> {
    let (result, buf) = {
        let reading = pin!(carrier.read(call.inbound.lend(), due.deadline));
        let read = call.occupancy.during(|| worker.net.monotonic(), reading).await;
        read.map_err(|Evicted| Rejection::GaveWay)?
    };
    call.inbound.returned(buf);
    match result {
        Ok(0) => Err(Fault::DownstreamClosed.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(failure(worker, call, &error, due.late).await),
    }
}

/// Why nothing came. Deadlines pass together where an attacker began together: ending takes turns.
async fn failure<N: Net>(worker: &Worker<N>, call: &Call<'_, '_>, error: &io::Error, late: Fault) -> Outcome {
    if error.kind() != io::ErrorKind::TimedOut {
        return Fault::DownstreamClosed.into();
    }
    call.wait_for(worker, call.turn_slot.take_turn_to_end()).await.err().map_or_else(|| late.into(), Into::into)
}
