//! Accounting before answering: a delivery that cannot be recorded is not forwarded, and where records must be durable
//! an answer waits for that. The worker goes on meanwhile: another thread writes the records, and says by a
//! byte on a socket that it has come further.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use crate::gate::verify::Verified;
use crate::outcome::{Outcome, Rejection};

use super::inbound::Inbound;
use super::request::Call;
use crate::edge::observer::Kept;
use crate::edge::peer::Sender;
use crate::edge::runtime::net::Net;
use crate::edge::wait::wake_list::WakeList;
use crate::edge::worker::Worker;

/// How long an answer waits for its record. A disk that takes longer does not work.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Refuses a delivery that could not be recorded.
///
/// # Errors
/// [`Rejection::AuditUnavailable`]
pub fn recordable<N: Net>(worker: &Worker<N>, _: &Verified<'_, &mut Inbound>) -> Result<(), Outcome> {
    if worker.can_record() { Ok(()) } else { Err(Rejection::AuditUnavailable.into()) }
}

/// Has recorded that this is about to be answered, and waits until the record is durable if it must be.
///
/// # Errors
/// [`Rejection::AuditUnavailable`]: the sender must not believe that all is well. The application may have accepted the
/// delivery; when it comes again, it is a duplicate.
pub async fn await_record<N: Net>(
    worker: &Worker<N>,
    call: &Call<'_, '_>,
    sender: Sender<'_>,
    outcome: Outcome,
) -> Result<(), Outcome> {
    if !worker.records_answers() {
        return Ok(());
    }
    let now = worker.net.now();
    let Some(ticket) = worker.answering(&call.record(worker.position(), sender, outcome, now)) else { return Ok(()) };
    let deadline = now.monotonic + RECORD_TIMEOUT;
    let kept = poll_fn(|cx| match worker.kept(ticket) {
        Kept::Pending if worker.net.monotonic() < deadline => {
            worker.unrecorded.push(cx.waker());
            Poll::Pending
        }
        kept => Poll::Ready(kept),
    });
    match kept.await {
        Kept::Pending | Kept::Failed if ticket.mandatory => Err(Rejection::AuditUnavailable.into()),
        _ => Ok(()),
    }
}

/// Wakes the answers that wait whenever something comes on `changes`.
pub async fn listen(waiting: &WakeList, mut changes: UnixStream) {
    let mut buf = vec![0; 64];
    loop {
        let (result, back) = changes.read(buf).await;
        buf = back;
        waiting.wake();
        if !matches!(result, Ok(1..)) {
            return;
        }
    }
}
