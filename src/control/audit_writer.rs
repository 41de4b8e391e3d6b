//! The thread that writes the audit trail.

use std::io::{self, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::config::records::{self, BUFFER, Fsync};
use crate::telemetry::audit::record::{self, Change, Sealing};
use crate::telemetry::audit::{Chain, Link, SEAL_RECORDS, SealKey, Tally};
use crate::telemetry::line::Stamp;

use super::audit::Shared;
use super::audit_file::Store;
use super::event_log::{EventLog, Level, unix_now};

/// How often the writer looks while there is something to write, where nobody waits for it.
const PACE: Duration = Duration::from_millis(20);

/// How often it tries again what has failed.
const RETRY: Duration = Duration::from_millis(100);

/// How often refused deliveries over the rate are recorded as a number, and the file is looked for.
const ROUND: Duration = Duration::from_secs(1);

/// What the writer is told beside the workers' entries.
#[derive(Debug)]
pub(super) enum Order {
    /// An entry.
    Entry(Vec<u8>),
    /// Write what is left and, as the last one, this entry; and end.
    Stop(Vec<u8>),
}

/// What a writer begins with.
pub(super) struct Opening {
    /// Where records go.
    pub(super) store: Box<dyn Store>,
    /// The last record that is there.
    pub(super) last: Link,
    /// Entries that come before all others, and are sealed at once: what comes behind them has a seal of its own.
    pub(super) entries: Vec<Vec<u8>>,
}

/// The state of the thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    key: Arc<SealKey>,
    store: Box<dyn Store>,
    chain: Chain,
    /// The last record that is in the file.
    written: Link,
    queue: Receiver<Order>,
    /// Orders that have been looked at and not carried out.
    orders: Vec<Order>,
    signals: Vec<UnixStream>,
    log: Arc<EventLog>,
    fsync: Fsync,
    seal_every: Duration,
    stamp: Stamp,
    /// Lines that are to be written.
    batch: Vec<u8>,
    spare: Vec<u8>,
    /// How many entries of each worker are in what has been taken.
    made: Vec<u64>,
    over_rate: Tally,
    /// The last seal, or the end of the trail when it was opened.
    sealed: Link,
    last_seal: Duration,
    last_sync: Duration,
    /// Something has been written since.
    unsynced: bool,
    /// A sync has failed since the last record about it.
    sync_failed: bool,
    /// The file is not in its place, and there cannot be another: nothing is written where nobody would find it.
    lost: Option<io::ErrorKind>,
    next_round: Duration,
    /// When it looked at the clock last.
    looked: Duration,
}

impl Writer {
    pub(super) fn new(
        settings: &records::Audit,
        (shared, key): (Arc<Shared>, Arc<SealKey>),
        opening: Opening,
        (queue, signals): (Receiver<Order>, Vec<UnixStream>),
        log: Arc<EventLog>,
    ) -> Self {
        let (now, workers) = (unix_now(), shared.buffers.workers());
        let Opening { store, last, entries } = opening;
        let mut this = Self {
            shared,
            key,
            store,
            chain: Chain::behind(last),
            written: last,
            queue,
            orders: Vec::new(),
            signals,
            log,
            fsync: settings.fsync,
            seal_every: settings.seal_every,
            stamp: Stamp::default(),
            batch: Vec::with_capacity(2 * BUFFER),
            spare: Vec::with_capacity(BUFFER),
            made: vec![0; workers],
            over_rate: Tally::default(),
            sealed: last,
            last_seal: now,
            last_sync: now,
            unsynced: false,
            sync_failed: false,
            lost: None,
            next_round: now + ROUND,
            looked: now,
        };
        if !entries.is_empty() {
            entries.iter().for_each(|entry| this.append_entry(entry, now));
            this.seal(now);
        }
        this
    }

    pub(super) fn run(mut self) {
        self.shared.buffers.adopt_writer();
        let mut stops = false;
        loop {
            let now = self.look();
            // What could not be written is tried again before anything is added to it.
            if self.batch.is_empty() {
                stops |= self.collect(now);
            } else if now >= self.next_round {
                // Whoever makes room moves the file away, and while it is open here that makes none.
                self.next_round = now + ROUND;
                self.look_after_file(now);
            }
            let wrote = !self.batch.is_empty();
            let outcome = self.write(now, stops);
            self.report(&outcome);
            if outcome.is_ok() && !self.unsynced && self.shared.end_round() {
                self.signal();
            }
            if stops || (outcome.is_err() && self.is_told_to_stop()) {
                return self.take_leave();
            }
            let busy = wrote || self.unsynced;
            match (outcome, self.fsync) {
                (Err(_), _) => self.shared.buffers.rest(Some(RETRY)),
                (Ok(()), Fsync::Interval(_)) => self.shared.buffers.rest(busy.then_some(PACE)),
                // Somebody may wait already: look again at once.
                (Ok(()), Fsync::Each) if wrote => {}
                (Ok(()), Fsync::Each) => self.shared.buffers.rest(None),
            }
        }
    }

    /// The time. Where the clock has been put back, everything is due: nothing waits until it has caught up.
    fn look(&mut self) -> Duration {
        let now = unix_now();
        if now < self.looked {
            (self.last_seal, self.last_sync, self.next_round) = (Duration::ZERO, Duration::ZERO, now);
        }
        self.looked = now;
        now
    }

    /// Says with which record the trail ends: what verifies it is told to expect that one.
    fn take_leave(&self) {
        let last = self.written;
        match self.chain.last().seq - last.seq {
            0 => self.log.event(Level::Info, &format!("the audit trail ends with record {last}")),
            lost => {
                let line = format!("the audit trail ends with record {last}; {lost} behind it could not be written");
                self.log.event(Level::Error, &line);
            }
        }
    }

    /// Makes lines of everything that there is. True when this is the end.
    fn collect(&mut self, now: Duration) -> bool {
        self.shared.begin_round();
        self.orders.extend(self.queue.try_iter());
        let mut last_entry = None;
        for order in mem::take(&mut self.orders) {
            match order {
                Order::Entry(entry) => self.append_entry(&entry, now),
                Order::Stop(entry) => last_entry = Some(entry),
            }
        }
        let stops = last_entry.is_some();
        let mut blocked = Tally::default();
        for worker in 0..self.made.len() {
            let found = self.shared.take(worker, &mut self.spare);
            let entries = mem::take(&mut self.spare);
            for entry in entries.split(|byte| *byte == b'\n').filter(|entry| !entry.is_empty()) {
                self.append_entry(entry, now);
            }
            self.spare = entries;
            for (total, found) in self.shared.unrecorded.iter().zip([&found.over_rate, &found.blocked]) {
                total.fetch_add(found.sum(), Ordering::Relaxed);
            }
            self.over_rate.add(&found.over_rate);
            blocked.add(&found.blocked);
            self.made.iter_mut().skip(worker).take(1).for_each(|made| *made = found.made);
        }
        last_entry.iter().for_each(|entry| self.append_entry(entry, now));
        let round = now >= self.next_round;
        let over_rate = if round || stops { mem::take(&mut self.over_rate) } else { Tally::default() };
        for (tally, why) in [(blocked, "blocked"), (over_rate, "rate")] {
            if tally.sum() > 0 {
                self.entry(now, |out, stamp| tally.write(out, why, (stamp, now)));
            }
        }
        if mem::take(&mut self.sync_failed) {
            self.change(&Change::SyncFailed, now);
        }
        if round {
            self.next_round = now + ROUND;
            self.look_after_file(now);
        }
        if stops || (now.saturating_sub(self.last_seal) >= self.seal_every) {
            self.seal(now);
        }
        stops
    }

    /// Makes a line of an entry, and a seal when there are as many lines without one as there may be.
    fn append_entry(&mut self, entry: &[u8], now: Duration) {
        self.chain.append(&mut self.batch, entry);
        if self.chain.last().seq.saturating_sub(self.sealed.seq) >= SEAL_RECORDS {
            self.seal(now);
        }
    }

    fn entry(&mut self, now: Duration, write: impl FnOnce(&mut Vec<u8>, &mut Stamp)) {
        let mut entry = Vec::new();
        write(&mut entry, &mut self.stamp);
        self.append_entry(&entry, now);
    }

    fn change(&mut self, change: &Change<'_>, now: Duration) {
        self.entry(now, |out, stamp| record::change(out, change, stamp, now));
    }

    /// Seals what there is, unless nothing has come since the last seal.
    fn seal(&mut self, now: Duration) {
        let last = self.chain.last();
        self.last_seal = now;
        if last != self.sealed {
            let sealing = Sealing { key: &self.key, every: self.seal_every };
            let mut entry = Vec::new();
            record::seal(&mut entry, sealing, last, &mut self.stamp, now);
            self.chain.append(&mut self.batch, &entry);
            self.sealed = self.chain.last();
        }
    }

    /// A file that was removed or moved gets a successor, in which the chain goes on.
    fn look_after_file(&mut self, now: Duration) {
        self.lost = None;
        if !self.store.is_in_place() {
            match self.store.replace(now) {
                Ok(()) => self.change(&Change::FileLost, now),
                Err(error) => self.lost = Some(error.kind()),
            }
        }
    }

    /// Writes the batch, and makes durable what is due.
    fn write(&mut self, now: Duration, stops: bool) -> io::Result<()> {
        if self.lost.is_some() {
            self.look_after_file(now);
        }
        if let Some(kind) = self.lost {
            return Err(io::Error::new(kind, format!("its file is gone, and there cannot be another ({kind})")));
        }
        if !self.batch.is_empty() {
            self.append()?;
            self.unsynced = true;
        }
        let due = match self.fsync {
            Fsync::Each => true,
            Fsync::Interval(interval) => stops || now.saturating_sub(self.last_sync) >= interval,
        };
        if self.unsynced && due {
            self.last_sync = now;
            if let Err(error) = self.store.sync() {
                self.sync_failed = true;
                return Err(error);
            }
            self.unsynced = false;
            self.tell();
        }
        if self.store.is_full(now) {
            self.rotate(now)?;
        }
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        self.store.append(&self.batch)?;
        self.batch.clear();
        self.written = self.chain.last();
        Ok(())
    }

    fn rotate(&mut self, now: Duration) -> io::Result<()> {
        self.seal(now);
        self.append()?;
        let rotated = self.store.rotate(self.chain.last(), now);
        if let Err(error) = rotated {
            self.log.event(Level::Error, &format!("the audit trail cannot begin another file: {error}"));
        }
        Ok(())
    }

    /// Tells the workers how far it is, those of them for whom that is news.
    fn tell(&mut self) {
        for (worker, made) in self.made.iter().enumerate() {
            self.shared.reach(worker, *made);
        }
        self.signal();
    }

    fn signal(&mut self) {
        for signal in &mut self.signals {
            // A socket that is full wakes its worker as well.
            let _ = signal.write(&[1]);
        }
    }

    fn report(&mut self, outcome: &io::Result<()>) {
        let failed = outcome.is_err();
        if self.shared.failing.swap(failed, Ordering::Release) == failed {
            return;
        }
        match outcome {
            Ok(()) => self.log.event(Level::Info, "the audit trail is written again"),
            Err(error) => self.log.event(Level::Error, &format!("the audit trail cannot be written: {error}")),
        }
        self.signal();
    }

    fn is_told_to_stop(&mut self) -> bool {
        self.orders.extend(self.queue.try_iter());
        self.orders.iter().any(|order| matches!(order, Order::Stop(_)))
    }
}
