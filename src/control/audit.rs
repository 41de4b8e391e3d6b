//! The audit trail of a running process. Workers leave entries in buffers of their own; one thread chains, seals and
//! writes them, makes them durable as the configuration says, and tells the workers how far it is.
//!
//! What is in the file when it starts is proven from its last seal on (`audit_end.rs`); what cannot be is recorded
//! and told before anything else, so that the next seal does not make it any better.
//!
//! When it cannot write, it keeps what it has and tries again. The buffers fill up meanwhile, and then, or as soon as
//! writing has failed, deliveries are refused or pass uncounted in lines but not in numbers, as the configuration says:
//! what has no record of its own is in one that says how many there were, and why.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::config::records::{self, BUFFER, Fsync, WhenBlocked};
use crate::edge::observer::{Awaited, Kept, Ticket};
use crate::gate::token_bucket::{Measure, TokenBucket};
use crate::outcome::{Outcome, Rejection};
use crate::telemetry::access_log::is_repeatable;
use crate::telemetry::audit::record::{self, Change};
use crate::telemetry::audit::{SealKey, Tally};
use crate::telemetry::exchange::Exchange;
use crate::telemetry::line::Stamp;

use super::access_log::share;
use super::audit_end::{UnprovenEnd, unproven_end};
use super::audit_file::{AuditFile, Opened};
use super::audit_writer::{Opening, Order, Writer};
use super::event_log::{EventLog, unix_now};
use super::worker_buffers::{Pending, WorkerBuffers};

/// A buffer that holds more refuses what can be refused; the rest is for deliveries that were let in before.
const FULL: usize = BUFFER / 4 * 3;

/// An audit trail that is being written. It is to be ended with [`Audit::finish`]; dropping it does so, too.
#[derive(Debug)]
pub struct Audit {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    writer: Mutex<Option<JoinHandle<()>>>,
    key: Arc<SealKey>,
    refused: Measure,
    body_digest: bool,
    waits: bool,
    when_blocked: WhenBlocked,
    /// The workers' ends of the sockets by which they are told.
    changes: Mutex<Vec<Option<UnixStream>>>,
    /// Records that were there at the start and that nothing proves or explains.
    unproven: u64,
}

/// What workers and writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) buffers: WorkerBuffers<WorkerState>,
    /// How many records of each worker are durable.
    reached: Box<[AtomicU64]>,
    /// Whose buffers are full.
    full: Box<[AtomicBool]>,
    /// How often the writer has begun to take everything that there is, and how often it was durable then.
    pub(super) rounds: [AtomicU64; 2],
    /// A copy waits for that.
    pub(super) awaited: AtomicBool,
    /// Writing does not succeed.
    pub(super) failing: AtomicBool,
    /// Deliveries without a record of their own since the start: refused ones over the rate, and those that found no
    /// room. The writer alone adds.
    pub(super) unrecorded: [AtomicU64; 2],
}

/// What a worker keeps beside its entries.
#[derive(Debug, Default)]
pub(super) struct WorkerState {
    stamp: Stamp,
    /// For what nothing was proven of.
    strangers: TokenBucket,
    /// For what is genuine and refused: copies above all.
    copies: TokenBucket,
    /// Entries that it has made.
    made: u64,
    /// Refused ones over the rate.
    over_rate: Tally,
    /// Those that found no room.
    blocked: Tally,
}

/// What the writer finds with a worker.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) made: u64,
    pub(super) over_rate: Tally,
    pub(super) blocked: Tally,
}

impl Shared {
    fn new(workers: usize) -> Self {
        Self {
            buffers: WorkerBuffers::new(workers, BUFFER),
            reached: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            full: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            rounds: [const { AtomicU64::new(0) }; 2],
            awaited: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            unrecorded: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// The writer's side: takes what a worker has left.
    pub(super) fn take(&self, worker: usize, spare: &mut Vec<u8>) -> Found {
        let found = self.buffers.take(worker, spare, |state| {
            if let Some(full) = self.full.get(worker) {
                full.store(false, Ordering::Relaxed);
            }
            let (over_rate, blocked) = (std::mem::take(&mut state.over_rate), std::mem::take(&mut state.blocked));
            Found { made: state.made, over_rate, blocked }
        });
        found.unwrap_or_default()
    }

    /// Has the writer make everything durable that there is by now; what there is to wait for.
    fn ask_for_everything(&self) -> Awaited {
        let [begun, _] = &self.rounds;
        // A round that has begun may have been here already.
        let round = begun.load(Ordering::SeqCst) + 1;
        self.awaited.store(true, Ordering::SeqCst);
        self.buffers.wake();
        Awaited::Everything(round)
    }

    /// The writer's side: it takes everything that there is.
    pub(super) fn begin_round(&self) {
        let [begun, _] = &self.rounds;
        begun.fetch_add(1, Ordering::SeqCst);
    }

    /// The writer's side: everything that it has taken is durable. Whether a copy waits for that.
    pub(super) fn end_round(&self) -> bool {
        let [begun, durable] = &self.rounds;
        durable.store(begun.load(Ordering::Relaxed), Ordering::Release);
        self.awaited.swap(false, Ordering::SeqCst)
    }

    /// The writer's side: this many records of a worker are durable.
    pub(super) fn reach(&self, worker: usize, made: u64) {
        if let Some(reached) = self.reached.get(worker) {
            reached.store(made, Ordering::Release);
        }
    }
}

impl Audit {
    /// Opens the trail and starts its writer. `configuration` is the fingerprint of what the process starts with.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn start(
        settings: &records::Audit,
        secret: &[u8],
        workers: usize,
        configuration: &str,
        log: Arc<EventLog>,
    ) -> Result<Self, String> {
        let key = Arc::new(SealKey::new(&settings.key_id, secret));
        let limit = (settings.rotate_size, settings.rotate_every);
        let cannot = |why: String| format!("audit trail {}: {why}", settings.file.display());
        let Opened { file, last, torn } = AuditFile::open(&settings.file, limit, unix_now()).map_err(cannot)?;
        let unproven = unproven_end(&settings.file, &key, last).map_err(|error| cannot(error.to_string()))?;
        let mut entries = Vec::new();
        let mut add = |change| entries.push(entry_of(&change));
        if torn > 0 {
            add(Change::Torn { bytes: torn });
        }
        if let Some(UnprovenEnd { first, last, why, .. }) = &unproven {
            add(Change::Unproven { first: *first, last: *last, why });
        }
        add(Change::Start { version: env!("CARGO_PKG_VERSION"), configuration });
        unproven.iter().for_each(|unproven| unproven.tell(&log));
        let opening = Opening { store: Box::new(file), last, entries };
        let mut audit = Self::over(settings, key, workers, opening, log)?;
        audit.unproven = unproven.as_ref().map_or(0, UnprovenEnd::unexplained);
        Ok(audit)
    }

    /// The same over any store, behind its last record.
    pub(super) fn over(
        settings: &records::Audit,
        key: Arc<SealKey>,
        workers: usize,
        opening: Opening,
        log: Arc<EventLog>,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("audit trail: {error}");
        let shared = Arc::new(Shared::new(workers));
        let waits = settings.fsync == Fsync::Each;
        let (mut signals, mut changes) = (Vec::new(), Vec::new());
        for _ in 0..if waits { workers } else { 0 } {
            let (signal, change) = UnixStream::pair().map_err(failed)?;
            signal.set_nonblocking(true).map_err(failed)?;
            signals.push(signal);
            changes.push(Some(change));
        }
        let (orders, queue) = channel();
        let writer = Writer::new(settings, (Arc::clone(&shared), Arc::clone(&key)), opening, (queue, signals), log);
        let writer = thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run()).map_err(failed)?;
        Ok(Self {
            shared,
            orders,
            writer: Mutex::new(Some(writer)),
            key,
            refused: share(settings.refused, workers).measure(),
            body_digest: settings.body_digest,
            waits,
            when_blocked: settings.when_blocked,
            changes: Mutex::new(changes),
            unproven: 0,
        })
    }

    /// Records a change of what deliveries are judged by.
    pub fn change(&self, change: &Change<'_>) {
        let _ = self.orders.send(Order::Entry(entry_of(change)));
        self.shared.buffers.wake();
    }

    /// Tells secrets apart without giving them away ([`SealKey::fingerprint`]).
    #[must_use]
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        self.key.fingerprint(secret)
    }

    /// Deliveries without a record of their own, over the rate and for want of room; and whether writing fails.
    #[must_use]
    pub fn reading(&self) -> ([u64; 2], bool) {
        let unrecorded = self.shared.unrecorded.each_ref().map(|count| count.load(Ordering::Relaxed));
        (unrecorded, self.shared.failing.load(Ordering::Relaxed))
    }

    /// How many records were in the trail at the start that no seal proves, and that no killed process has left so.
    #[must_use]
    pub const fn unproven(&self) -> u64 {
        self.unproven
    }

    /// Whether what this worker forwards now can be recorded, as far as that matters.
    #[must_use]
    pub fn can_record(&self, worker: usize) -> bool {
        self.when_blocked == WhenBlocked::Drop || !(self.shared.failing.load(Ordering::Relaxed) || self.is_full(worker))
    }

    fn is_full(&self, worker: usize) -> bool {
        self.shared.full.get(worker).is_some_and(|full| full.load(Ordering::Relaxed))
    }

    /// Records what is about to be answered; gives what that has to wait for. What this has recorded,
    /// [`Audit::exchange`] does not record again. Copies over the rate are only counted. The
    /// acknowledgement must be right all the same: an earlier record says that the delivery was accepted, or a copy of it
    /// acknowledged. So the answer waits until everything that was recorded before is durable.
    pub fn answering(&self, exchange: &Exchange<'_>) -> Option<Ticket> {
        exchange.route?;
        let mandatory = self.when_blocked == WhenBlocked::Refuse;
        let position = self.shared.buffers.with(exchange.worker, |pending| {
            let is_copy = matches!(exchange.outcome, Outcome::Rejected(_));
            if is_copy && self.is_over_rate(&mut pending.state, exchange) {
                return mandatory.then_some(Awaited::Everything(0));
            }
            if !mandatory && pending.bytes.len() >= FULL {
                pending.state.blocked.count(exchange.outcome);
                return None;
            }
            self.append(pending, exchange);
            Some(Awaited::Record(pending.state.made))
        });
        let awaited = position.flatten().filter(|_| self.waits)?;
        let awaited = if let Awaited::Everything(_) = awaited { self.shared.ask_for_everything() } else { awaited };
        Some(Ticket { awaited, mandatory })
    }

    /// Whether there are more exchanges like this one than are recorded each; then it is counted.
    fn is_over_rate(&self, state: &mut WorkerState, exchange: &Exchange<'_>) -> bool {
        let bucket = if exchange.key_id.is_some() { &mut state.copies } else { &mut state.strangers };
        let over = bucket.take(self.refused, exchange.ended.monotonic).is_err();
        if over {
            state.over_rate.count(exchange.outcome);
        }
        over
    }

    /// Records how an exchange under a route has ended.
    pub fn exchange(&self, exchange: &Exchange<'_>) {
        let is_recorded =
            exchange.stages.upstream().is_some() || exchange.outcome == Outcome::Rejected(Rejection::Duplicate);
        if exchange.route.is_none() || is_recorded {
            return;
        }
        self.shared.buffers.with(exchange.worker, |pending| {
            if is_repeatable(exchange) && self.is_over_rate(&mut pending.state, exchange) {
                return;
            }
            if pending.bytes.len() >= FULL {
                pending.state.blocked.count(exchange.outcome);
            } else {
                self.append(pending, exchange);
            }
        });
    }

    fn append(&self, pending: &mut Pending<WorkerState>, exchange: &Exchange<'_>) {
        let Pending { bytes, state } = pending;
        record::delivery(bytes, exchange, &mut state.stamp, self.body_digest);
        bytes.push(b'\n');
        state.made += 1;
        if let Some(full) = self.shared.full.get(exchange.worker).filter(|_| bytes.len() >= FULL) {
            full.store(true, Ordering::Relaxed);
        }
    }

    /// What has become of a record.
    #[must_use]
    pub fn kept(&self, worker: usize, ticket: Ticket) -> Kept {
        let reached = match ticket.awaited {
            Awaited::Record(made) => {
                self.shared.reached.get(worker).is_none_or(|reached| reached.load(Ordering::Acquire) >= made)
            }
            Awaited::Everything(round) => {
                let [_, durable] = &self.shared.rounds;
                durable.load(Ordering::Acquire) >= round
            }
        };
        if reached {
            Kept::Durable
        } else if self.shared.failing.load(Ordering::Acquire) {
            Kept::Failed
        } else {
            Kept::Pending
        }
    }

    /// Records that the process stops, seals what there is, and ends. What comes later is not recorded.
    pub fn finish(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = self.orders.send(Order::Stop(entry_of(&Change::Stop)));
            self.shared.buffers.wake();
            let _ = writer.join();
        }
    }

    /// The socket by which a worker is told; once.
    pub fn changes(&self, worker: usize) -> Option<UnixStream> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.get_mut(worker).and_then(Option::take)
    }
}

/// The entry of a change that happens now.
fn entry_of(change: &Change<'_>) -> Vec<u8> {
    let mut entry = Vec::new();
    record::change(&mut entry, change, &mut Stamp::default(), unix_now());
    entry
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
