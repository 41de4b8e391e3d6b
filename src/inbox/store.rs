//! What keeps deliveries.

use core::fmt;
use core::time::Duration;

use crate::inbox::delivery::{DeliveryId, DeliveryReason};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::record::RecordParts;
use crate::inbox::row::DeliveryRow;
use crate::now::Now;

/// What has become of a delivery by an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The application has it. It is removed.
    Done,
    /// It is attempted again.
    Again {
        /// Not before then, in milliseconds since 1970.
        due: u64,
    },
    /// It is not attempted again.
    Dead {
        /// Why.
        reason: DeliveryReason,
    },
}

/// The end of an attempt, for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which delivery.
    pub id: DeliveryId,
    /// How often it had been redriven when the attempt began: the settlement of an older life changes nothing.
    pub redrives: u8,
    /// Attempts by now.
    pub attempts: u16,
    /// The status of the answer; 0 for none.
    pub status: u16,
    /// How the attempt ended.
    pub reason: DeliveryReason,
    /// What follows.
    pub settled: Settled,
    /// Another delivery may wait for this settlement to be durable: the next one of the same key.
    pub awaited: bool,
}

impl Settlement {
    /// Writes it into the row of its delivery.
    pub const fn apply(&self, row: &mut DeliveryRow, now: u64) {
        row.attempts = self.attempts;
        row.status = self.status;
        row.changed = now;
        row.reason = match self.settled {
            Settled::Dead { reason } => reason,
            _ => self.reason,
        };
        if let Settled::Again { due } = self.settled {
            row.due = due;
        }
    }
}

/// What a call has made durable.
#[derive(Debug, Default)]
pub struct Committed {
    /// The rows of the fresh deliveries, in their order.
    pub accepted: Vec<DeliveryRow>,
    /// Settlements that are durable by now, perhaps of an earlier call. Those of deliveries that are not there any more
    /// are among them.
    pub settled: Vec<Settlement>,
    /// Deliveries that should be dead letters, for which there was no room: they wait on.
    pub kept: Vec<DeliveryId>,
    /// Of those accepted: another process attempts them, they are copies of one that was accepted before, or
    /// [`DeliveryStore::take`] gives them.
    pub elsewhere: Vec<DeliveryId>,
}

/// Why fresh deliveries were refused. None of them is stored, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreRefusal {
    /// A bound of the inbox is met.
    Full,
    /// The disk has no room.
    DiskFull,
    /// The disk failed.
    Failed,
    /// The disk failed at the very end: they may be stored, or not. Their senders must not be answered at all, since what
    /// was refused is never delivered.
    Unknown,
}

impl fmt::Display for StoreRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the inbox is full",
            Self::DiskFull => "the disk is full",
            Self::Failed => "the disk failed",
            Self::Unknown => "the disk failed, and it is not known what it has kept",
        })
    }
}

impl core::error::Error for StoreRefusal {}

/// What was found under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// All of it.
    Whole,
    /// It is not what was written.
    Damaged,
    /// There is none.
    Gone,
}

/// The content of a record that was fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRecord {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What they are.
    pub parts: RecordParts,
}

impl StoredRecord {
    /// The name of the route.
    #[must_use]
    pub fn route(&self) -> &str {
        self.bytes.get(self.parts.route.clone()).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// Whether it is the record of this row, whose route has this name.
    #[must_use]
    pub fn is_of(&self, row: &DeliveryRow, route: &str) -> bool {
        let RecordParts { head, body, accepted, order_key, seen_key, .. } = &self.parts;
        self.route() == route
            && head.len() as u64 == u64::from(row.head_length)
            && body.len() as u64 == row.body_length
            && (*accepted, *order_key, *seen_key) == (row.accepted, row.order_key, row.seen_key)
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.bytes.get(self.parts.head.clone()).unwrap_or_default()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.parts.body.clone()).unwrap_or_default()
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOrder {
    /// Dead letters that match are attempted again, as attempt 1; at most so many.
    Redrive(DeliveryFilter, usize),
    /// What matches is removed; at most so many.
    Purge(DeliveryFilter, usize),
    /// Deliveries of a route are not attempted, or are again.
    Hold(String, bool),
}

/// How the store stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStanding {
    /// Deliveries that wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that are not what was written.
    pub damaged: u64,
    /// Deliveries that are encrypted with a key that is missing: they are kept and not attempted. They are among the
    /// others, too.
    pub locked: u64,
    /// Deliveries that are encrypted with another key than the first, or with none, and will be encrypted anew.
    pub former_keys: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes on disk of dead letters.
    pub dead_bytes: u64,
    /// The bound on `bytes`.
    pub limit: u64,
    /// Files.
    pub generations: u64,
    /// Files that were set aside because they could not be opened.
    pub damaged_files: u64,
    /// Since when writing fails, in milliseconds since 1970.
    pub failing_since: Option<u64>,
    /// There is no room for another dead letter.
    pub dead_letters_full: bool,
    /// Deliveries that were taken over from replicas that had gone, since the start.
    pub taken_over: u64,
    /// Ends of attempts that came too late: the delivery was another replica's by then, or was purged.
    pub fenced: u64,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTrouble(pub String);

impl fmt::Display for StoreTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for StoreTrouble {}

/// What keeps deliveries: files of this machine, or an engine that many share. It is called from one thread and may
/// block; every call takes many.
pub trait DeliveryStore: Send {
    /// Makes `fresh` durable, all of them or none, and the settlements. Settlements cannot be refused: those that could
    /// not be written stay with the store and are among [`Committed::settled`] of a later call. So may those that nothing
    /// waits for ([`Settlement::awaited`]), for a tenth of a second; a call with neither writes all that is left.
    ///
    /// # Errors
    /// Why `fresh` was refused. What was refused is never delivered.
    fn commit(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        settlements: &[Settlement],
        now: Now,
        done: &mut Committed,
    ) -> Result<(), StoreRefusal>;

    /// Settlements that are not written yet.
    fn unwritten(&self) -> usize {
        0
    }

    /// Appends to `out` what is to be attempted and was not given before, the oldest first: at most `room` rows. Fresh
    /// deliveries have been given by [`Self::commit`]. Dead letters with a key are among them: their key may have to wait.
    fn take(&mut self, room: usize, out: &mut Vec<DeliveryRow>);

    /// Reads a record.
    ///
    /// # Errors
    /// Of the disk.
    fn fetch(&mut self, id: DeliveryId, into: &mut StoredRecord) -> Result<Fetched, StoreTrouble>;

    /// Appends to `out` what matches, by id, from behind `after`: at most `room` rows. Gives whether there is more.
    ///
    /// # Errors
    /// Of the disk.
    fn browse(
        &mut self,
        filter: &DeliveryFilter,
        after: Option<DeliveryId>,
        room: usize,
        out: &mut Vec<DeliveryRow>,
    ) -> Result<bool, StoreTrouble>;

    /// Does what an operator asks for. Gives the deliveries that it concerned. Those that were redriven are given by
    /// [`Self::take`] again.
    ///
    /// # Errors
    /// Of the disk; a part may have been done.
    fn order(&mut self, order: &StoreOrder, now: Now) -> Result<Vec<DeliveryId>, StoreTrouble>;

    /// Appends to `out` the deliveries that cannot be attempted any more although no settlement says so: they were purged,
    /// dropped or expired, found to be damaged, or lost with a file. Each is given once. Whatever waits for them, as a key
    /// waits for its dead letter, goes on.
    fn take_gone(&mut self, out: &mut Vec<DeliveryId>);

    /// The name of a route by its number in rows.
    fn route_name(&self, route: u16) -> &str;

    /// Routes that are held.
    fn held_routes(&self) -> Vec<String>;

    /// Appends to `out` routes that others have held (`true`) or released.
    fn take_held(&mut self, _out: &mut Vec<(String, bool)>) {}

    /// An attempt must not last longer than until then, by the monotonic clock: afterwards another process may have the
    /// delivery. Nothing where no other can.
    fn attempts_until(&self) -> Option<Duration> {
        None
    }

    /// How it stands.
    fn standing(&self) -> StoreStanding;

    /// Writes what could not be written before, opens again what failed, removes what is empty or expired. To be called
    /// a few times a second.
    fn mend(&mut self, now: Now, done: &mut Committed);
}
