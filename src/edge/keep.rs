//! Accounting before answering: a delivery that cannot be recorded is not forwarded, and where records must be durable
//! an answer waits for that. The worker goes on meanwhile: whoever writes the records is another thread, which says by a
//! byte on a socket that it has come further.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use crate::gate::verify::Verified;
use crate::outcome::{Outcome, Rejection};

use super::connection::Connection;
use super::exchange::Asked;
use super::inbound::Inbound;
use super::net::{Net, Sockets};
use super::worker::Worker;

/// How long an answer waits for its record. A disk that takes longer does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an answer has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Its record: how many there are of this worker, this one included.
    Record(u64),
    /// Every record that was made before, of all workers: so many times everything has to have been made durable. It has
    /// none of its own.
    Everything(u64),
}

/// A record that an answer has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What it waits for.
    pub awaited: Awaited,
    /// Whether the sender is told to try again when the record cannot be kept; otherwise the answer is given all the
    /// same.
    pub mandatory: bool,
}

/// What has become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is durable.
    Durable,
    /// Not yet.
    Pending,
    /// It cannot be written at present.
    Failed,
}

/// The answers of a worker that wait for their records.
#[derive(Debug, Default)]
pub struct Waiting(RefCell<Vec<Waker>>);

impl Waiting {
    /// Lets all of them look again.
    pub fn wake(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }
}

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
pub async fn keep<N: Net>(
    worker: &Worker<N>,
    connection: &Connection<N::Stream>,
    asked: &Asked<'_>,
    outcome: Outcome,
) -> Result<(), Outcome> {
    if !worker.records_answers() {
        return Ok(());
    }
    let now = worker.net.now();
    let record = asked.record(worker.position(), connection, outcome, now);
    let Some(ticket) = worker.answering(&record) else { return Ok(()) };
    let deadline = now.monotonic + PATIENCE;
    let kept = poll_fn(|cx| match worker.kept(ticket) {
        Kept::Pending if worker.net.monotonic() < deadline => {
            worker.unrecorded.0.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        }
        kept => Poll::Ready(kept),
    });
    match kept.await {
        Kept::Pending | Kept::Failed if ticket.mandatory => Err(Rejection::AuditUnavailable.into()),
        _ => Ok(()),
    }
}

/// Wakes whoever waits whenever something comes on `changes`.
pub async fn listen(worker: Rc<Worker<Sockets>>, mut changes: UnixStream) {
    let mut buf = vec![0; 64];
    loop {
        let (result, back) = changes.read(buf).await;
        buf = back;
        worker.unrecorded.wake();
        if !matches!(result, Ok(1..)) {
            return;
        }
    }
}
