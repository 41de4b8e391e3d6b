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
use std::sync::Arc;

use crate::config::records::{self, Fsync, WhenBlocked};
use crate::edge::observer::{Awaited, Kept, Ticket};
use crate::gate::token_bucket::Measure;
use crate::outcome::{Outcome, Rejection};
use crate::telemetry::access_log::is_repeatable;
use crate::telemetry::attempt::{self, Attempted};
use crate::telemetry::audit::SealKey;
use crate::telemetry::audit::record::{self, Change};
use crate::telemetry::exchange::Exchange;
use crate::telemetry::line::TimeText;

use super::audit_end::{UnprovenEnd, unproven_end};
use super::audit_file::{AuditFile, Opened};
use super::audit_sink::{Opening, TrailSink, TrailState, Unrecorded};
use super::event_log::{EventLog, unix_now};
use super::journal::{FULL, Journal, Pending, Writers, share};

type TrailBuffer = Pending<TrailState, Unrecorded>;

/// An audit trail that is being written. It is to be ended with [`Audit::finish`]; dropping it does so, too.
#[derive(Debug)]
pub struct Audit {
    journal: Journal<TrailSink>,
    key: Arc<SealKey>,
    refused: Measure,
    body_digest: bool,
    waits: bool,
    when_blocked: WhenBlocked,
    /// Records that were there at the start and that nothing proves or explains.
    unproven: u64,
    /// The position of the thread that delivers, behind those of the workers.
    deliverer: usize,
}

impl Audit {
    /// Opens the trail and starts its writer. `configuration` is the fingerprint of what the process starts with.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn start(
        settings: &records::Audit,
        secret: &[u8],
        writers: Writers,
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
        let mut audit = Self::over(settings, key, writers, opening, log)?;
        audit.unproven = unproven.as_ref().map_or(0, UnprovenEnd::unexplained);
        Ok(audit)
    }

    /// The same over any store, behind its last record.
    pub(super) fn over(
        settings: &records::Audit,
        key: Arc<SealKey>,
        writers: Writers,
        opening: Opening,
        log: Arc<EventLog>,
    ) -> Result<Self, String> {
        let sink = TrailSink::new(settings, Arc::clone(&key), opening, Arc::clone(&log));
        let waits = settings.fsync == Fsync::Each;
        let journal = Journal::start(sink, writers.all(), waits, log);
        Ok(Self {
            journal: journal.map_err(|error| format!("audit trail: {error}"))?,
            key,
            refused: share(settings.refused, writers.workers).measure(),
            body_digest: settings.body_digest,
            waits,
            when_blocked: settings.when_blocked,
            unproven: 0,
            deliverer: writers.workers,
        })
    }

    /// Records a change of what deliveries are judged by.
    pub fn change(&self, change: &Change<'_>) {
        self.journal.order(entry_of(change));
    }

    /// Tells secrets apart without giving them away ([`SealKey::fingerprint`]).
    #[must_use]
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        self.key.fingerprint(secret)
    }

    /// Deliveries without a record of their own, over the rate and for want of room; and whether writing fails.
    #[must_use]
    pub fn reading(&self) -> ([u64; 2], bool) {
        (self.journal.lanes.missed(), self.journal.lanes.is_failing())
    }

    /// How many records were in the trail at the start that no seal proves, and that no killed process has left so.
    #[must_use]
    pub const fn unproven(&self) -> u64 {
        self.unproven
    }

    /// Whether what this worker forwards now can be recorded, as far as that matters. The last quarter of a buffer is for
    /// deliveries that were let in before.
    #[must_use]
    pub fn can_record(&self, worker: usize) -> bool {
        self.when_blocked == WhenBlocked::Drop || self.journal.lanes.has_room(worker)
    }

    /// Records what is about to be answered; gives what that has to wait for. What this has recorded,
    /// [`Audit::exchange`] does not record again. Copies over the rate are only counted. The
    /// acknowledgement must be right all the same: an earlier record says that the delivery was accepted, or a copy of it
    /// acknowledged. So the answer waits until everything that was recorded before is durable.
    pub fn answering(&self, exchange: &Exchange<'_>) -> Option<Ticket> {
        exchange.route?;
        let mandatory = self.when_blocked == WhenBlocked::Refuse;
        let position = self.journal.lanes.with(exchange.worker, |pending| {
            let is_copy = matches!(exchange.outcome, Outcome::Rejected(_));
            if is_copy && self.is_over_rate(pending, exchange) {
                return mandatory.then_some(Awaited::Everything(0));
            }
            if !mandatory && pending.bytes.len() >= FULL {
                pending.counted.blocked.count(exchange.outcome);
                return None;
            }
            self.append(pending, exchange);
            Some(Awaited::Record(pending.made))
        });
        let awaited = position.flatten().filter(|_| self.waits)?;
        let awaited =
            if let Awaited::Everything(_) = awaited { self.journal.lanes.ask_for_everything() } else { awaited };
        Some(Ticket { awaited, mandatory })
    }

    /// Whether there are more exchanges like this one than are recorded each; then it is counted.
    fn is_over_rate(&self, pending: &mut TrailBuffer, exchange: &Exchange<'_>) -> bool {
        let state = &mut pending.state;
        let bucket = if exchange.key_id.is_some() { &mut state.copies } else { &mut state.strangers };
        let over = bucket.take(self.refused, exchange.ended.monotonic).is_err();
        if over {
            pending.counted.over_rate.count(exchange.outcome);
        }
        over
    }

    /// Records how an exchange under a route has ended.
    pub fn exchange(&self, exchange: &Exchange<'_>) {
        let is_recorded = exchange.stages.upstream().is_some()
            || matches!(exchange.outcome, Outcome::Rejected(Rejection::Duplicate) | Outcome::Accepted { .. });
        if exchange.route.is_none() || is_recorded {
            return;
        }
        self.journal.lanes.with(exchange.worker, |pending| {
            if is_repeatable(exchange) && self.is_over_rate(pending, exchange) {
                return;
            }
            if pending.bytes.len() >= FULL {
                pending.counted.blocked.count(exchange.outcome);
            } else {
                self.append(pending, exchange);
            }
        });
    }

    /// Records how an attempt to deliver what is stored has ended. Those that are followed by another one are recorded
    /// up to a rate, and counted beyond it.
    pub fn attempted(&self, attempt: &Attempted<'_>) {
        self.journal.lanes.with(self.deliverer, |pending| {
            let copies = &mut pending.state.copies;
            if attempt.is_repeatable() && copies.take(self.refused, attempt.ended.monotonic).is_err() {
                pending.counted.over_rate.count_attempt();
            } else if pending.bytes.len() >= FULL {
                pending.counted.blocked.count_attempt();
            } else {
                attempt::entry(&mut pending.bytes, attempt, &mut pending.state.stamp);
                pending.bytes.push(b'\n');
                pending.made += 1;
            }
        });
    }

    fn append(&self, pending: &mut TrailBuffer, exchange: &Exchange<'_>) {
        record::delivery(&mut pending.bytes, exchange, &mut pending.state.stamp, self.body_digest);
        pending.bytes.push(b'\n');
        pending.made += 1;
    }

    /// What has become of a record.
    #[must_use]
    pub fn kept(&self, worker: usize, ticket: Ticket) -> Kept {
        self.journal.lanes.kept(worker, ticket.awaited)
    }

    /// Records that the process stops, seals what there is, and ends. What comes later is not recorded.
    pub fn finish(&self) {
        self.journal.finish();
    }

    /// The socket by which a worker is told; once.
    pub fn changes(&self, worker: usize) -> Option<UnixStream> {
        self.journal.changes(worker)
    }
}

/// The entry of a change that happens now.
fn entry_of(change: &Change<'_>) -> Vec<u8> {
    let mut entry = Vec::new();
    record::change(&mut entry, change, &mut TimeText::default(), unix_now());
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
