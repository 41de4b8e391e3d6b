//! Where the audit trail goes: entries become chained and sealed lines, which are made durable as the configuration says.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::config::records::{self, BUFFER, Fsync};
use crate::gate::token_bucket::TokenBucket;
use crate::telemetry::audit::record::{self, Change, Sealing};
use crate::telemetry::audit::{Chain, Link, SEAL_RECORDS, SealKey, UnrecordedTally};
use crate::telemetry::line::TimeText;

use super::audit_file::Store;
use super::event_log::{EventLog, Level, unix_now};
use super::journal::{JournalSink, RoundEnd};

/// How often the writer looks while there is something to write and no answer waits for it.
const PACE: Duration = Duration::from_millis(20);

/// What a worker keeps beside its entries.
#[derive(Debug, Default)]
pub(super) struct TrailState {
    pub(super) stamp: TimeText,
    /// For deliveries of which nothing was proven.
    pub(super) strangers: TokenBucket,
    /// For genuine deliveries that are refused: copies above all.
    pub(super) copies: TokenBucket,
}

/// Deliveries without a record of their own.
#[derive(Debug, Default)]
pub(super) struct Unrecorded {
    /// Refused ones over the rate.
    pub(super) over_rate: UnrecordedTally,
    /// Those that found no room.
    pub(super) blocked: UnrecordedTally,
}

/// What a trail begins with.
pub(super) struct Opening {
    /// Where records go.
    pub(super) store: Box<dyn Store>,
    /// The last record that is there.
    pub(super) last: Link,
    /// Entries that come before all others, and are sealed at once: what comes behind them has a seal of its own.
    pub(super) entries: Vec<Vec<u8>>,
}

/// The trail as its writer has it.
pub(super) struct TrailSink {
    key: Arc<SealKey>,
    store: Box<dyn Store>,
    chain: Chain,
    /// The last record that is in the file.
    written: Link,
    log: Arc<EventLog>,
    fsync: Fsync,
    seal_every: Duration,
    stamp: TimeText,
    /// Lines that are to be written.
    batch: Vec<u8>,
    unrecorded: Unrecorded,
    /// The last seal, or the end of the trail when it was opened.
    sealed: Link,
    last_seal: Duration,
    last_sync: Duration,
    /// Something has been written since.
    unsynced: bool,
    /// A sync has failed since the last record about it.
    sync_failed: bool,
    /// The file is not in its place, and there cannot be another: nothing is written where it would not be found.
    lost: Option<io::ErrorKind>,
}

impl TrailSink {
    pub(super) fn new(settings: &records::Audit, key: Arc<SealKey>, opening: Opening, log: Arc<EventLog>) -> Self {
        let now = unix_now();
        let Opening { store, last, entries } = opening;
        let mut this = Self {
            key,
            store,
            chain: Chain::behind(last),
            written: last,
            log,
            fsync: settings.fsync,
            seal_every: settings.seal_every,
            stamp: TimeText::default(),
            batch: Vec::with_capacity(2 * BUFFER),
            unrecorded: Unrecorded::default(),
            sealed: last,
            last_seal: now,
            last_sync: now,
            unsynced: false,
            sync_failed: false,
            lost: None,
        };
        if !entries.is_empty() {
            entries.iter().for_each(|entry| this.append_entry(entry, now));
            this.seal(now);
        }
        this
    }

    /// Makes a line of an entry, and a seal when there are as many lines without one as there may be.
    fn append_entry(&mut self, entry: &[u8], now: Duration) {
        self.chain.append(&mut self.batch, entry);
        if self.chain.last().seq.saturating_sub(self.sealed.seq) >= SEAL_RECORDS {
            self.seal(now);
        }
    }

    fn entry(&mut self, now: Duration, write: impl FnOnce(&mut Vec<u8>, &mut TimeText)) {
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

    fn append(&mut self) -> io::Result<()> {
        self.store.append(&self.batch)?;
        self.batch.clear();
        self.written = self.chain.last();
        Ok(())
    }
}

impl JournalSink for TrailSink {
    type State = TrailState;
    type Counted = Unrecorded;
    /// An entry.
    type Order = Vec<u8>;

    const NAME: &'static str = "the audit trail";
    const THREAD: &'static str = "audit";

    fn clock_was_put_back(&mut self) {
        (self.last_seal, self.last_sync) = (Duration::ZERO, Duration::ZERO);
    }

    fn is_behind(&self) -> bool {
        !self.batch.is_empty()
    }

    fn order(&mut self, entry: Vec<u8>, now: Duration) {
        self.append_entry(&entry, now);
    }

    fn take(&mut self, entries: &[u8], counted: Unrecorded, now: Duration) -> [u64; 2] {
        for entry in entries.split(|byte| *byte == b'\n').filter(|entry| !entry.is_empty()) {
            self.append_entry(entry, now);
        }
        let Unrecorded { over_rate, blocked } = counted;
        self.unrecorded.over_rate.add(&over_rate);
        self.unrecorded.blocked.add(&blocked);
        [over_rate.sum(), blocked.sum()]
    }

    fn end_round(&mut self, RoundEnd { now, due, stops }: RoundEnd) {
        let blocked = mem::take(&mut self.unrecorded.blocked);
        let over_rate =
            if due || stops { mem::take(&mut self.unrecorded.over_rate) } else { UnrecordedTally::default() };
        for (tally, why) in [(blocked, "blocked"), (over_rate, "rate")] {
            if tally.sum() > 0 {
                self.entry(now, |out, stamp| tally.write(out, why, (stamp, now)));
            }
        }
        if mem::take(&mut self.sync_failed) {
            self.change(&Change::SyncFailed, now);
        }
        if due {
            self.look_after_file(now);
        }
        // The last entry: what verifies the trail takes another one behind it for what a killed process has left.
        if stops {
            self.change(&Change::Stop, now);
        }
        if stops || now.saturating_sub(self.last_seal) >= self.seal_every {
            self.seal(now);
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

    fn write(&mut self, now: Duration, stops: bool) -> io::Result<bool> {
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
        }
        Ok(!self.unsynced)
    }

    fn rotate(&mut self, now: Duration) -> io::Result<()> {
        if !self.store.is_full(now) {
            return Ok(());
        }
        self.seal(now);
        self.append()?;
        if let Err(error) = self.store.rotate(self.chain.last(), now) {
            self.log.event(Level::Error, &format!("the audit trail cannot begin another file: {error}"));
        }
        Ok(())
    }

    fn pause(&self, wrote: bool) -> Option<Duration> {
        match self.fsync {
            Fsync::Interval(_) => (wrote || self.unsynced).then_some(PACE),
            // An answer may wait already: look again at once.
            Fsync::Each => wrote.then_some(Duration::ZERO),
        }
    }

    /// Says with which record the trail ends: what verifies it is told to expect that one.
    fn end(&mut self) {
        let last = self.written;
        match self.chain.last().seq - last.seq {
            0 => self.log.event(Level::Info, &format!("the audit trail ends with record {last}")),
            lost => {
                let line = format!("the audit trail ends with record {last}; {lost} behind it could not be written");
                self.log.event(Level::Error, &line);
            }
        }
    }
}
