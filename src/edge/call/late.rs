//! What is computed of a delivery when its body is whole. Most are hashed while they arrive, and have nothing left; a public
//! key needs all of the signed content at once, for each signature that it is tried on, and a key of which the first did
//! not hash the body needs a pass of its own. Such work is done in turns, in proportion to what it costs, by one delivery
//! at a time: otherwise those that have had their turns together would do it together.

use crate::gate::route::Route;
use crate::gate::verify::Work;
use crate::outcome::Rejection;

use super::inbound::Inbound;
use super::request::{Call, Case};
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;

/// Bytes that are hashed in one turn. A delivery with less work than this does not wait.
const WORK_OF_A_TURN: usize = 256 << 10;

/// No piece waits for more turns than this: the longest bodies would otherwise wait for hundreds of looks.
const TURNS_LIMIT: usize = 16;

/// What is left, where that is enough to wait for others.
pub(in crate::edge) fn work(route: &Route, inbound: &Inbound) -> Option<Work> {
    let work = route.verifier.work_left(inbound);
    (work.pieces.saturating_mul(work.bytes) >= WORK_OF_A_TURN).then_some(work)
}

/// Computes it, or what of it can be computed in pieces.
///
/// # Errors
/// [`Rejection::GaveWay`]
pub(in crate::edge) async fn compute<N: Net>(
    worker: &Worker<N>,
    call: &Call<'_, '_>,
    case: &mut Case<'_, '_, '_>,
    work: Work,
) -> Result<(), Rejection> {
    let _baton = call.wait_for(worker, worker.compute_lock.take()).await?;
    loop {
        for _ in 0..(work.bytes / WORK_OF_A_TURN).clamp(1, TURNS_LIMIT) {
            call.take_turn(worker, true).await?;
        }
        if !case.route.verifier.advance(&mut case.check, call.inbound, worker.net.look()) {
            return Ok(());
        }
    }
}
