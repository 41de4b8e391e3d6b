//! The thread that owns the store: one commit for what all workers have gathered meanwhile, and for the settlements that
//! have come; then the answers, and the news for the thread that delivers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crate::control::background;
use crate::edge::clock::Clock;
use crate::edge::deliver::{DeliveryNews, Mailbox, StoreSide};
use crate::inbox::commit_pace::CommitPace;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::operation::{InboxOperation, InboxReport};
use crate::inbox::store::{
    Committed, DeliveryStore, Settlement, StoreOrder, StoreRefusal, StoreStanding, StoreTrouble, StoredRecord,
};

use super::spooling::{SpoolAnswer, SpoolRequest, SpoolTold, Spooling};

/// A commit holds at most so many deliveries.
const BATCH: usize = 1_024;

/// Bytes that wait for a commit, for each worker.
const LANE_BYTES: usize = 4 << 20;

/// Bytes of buffers that each worker has for what it hands in next.
const SPARE_BYTES: usize = 1 << 20;

/// A larger buffer is not kept.
const SPARE_BUFFER: usize = 128 << 10;

/// The store is mended at least so often.
const REST: Duration = Duration::from_millis(50);

/// For so long a thread that ends tries to write what is left.
const LAST: Duration = Duration::from_secs(4);

/// So many rows are handed to the delivering thread at a time.
const TAKEN: usize = 4_096;

/// What one worker has handed in. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SpoolLane(Mutex<SpoolPending>);

#[derive(Debug, Default)]
struct SpoolPending {
    waiting: VecDeque<(u64, Spooling)>,
    bytes: usize,
    next: u64,
    /// Buffers of what was stored before: a worker allocates nothing for what it hands in.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl SpoolPending {
    fn buffer(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer
    }

    fn give_back(&mut self, buffer: Vec<u8>) {
        let size = buffer.capacity();
        if size > 0 && size <= SPARE_BUFFER && self.spare_bytes + size <= SPARE_BYTES {
            self.spare_bytes += size;
            self.spare.push(buffer);
        }
    }
}

/// What others ask of the store.
enum SpoolErrand {
    Settle(Settlement),
    Fetch(DeliveryId),
    Order(StoreOrder, Sender<Result<Vec<DeliveryId>, StoreTrouble>>),
    Operate(InboxOperation, Sender<Result<InboxReport, StoreTrouble>>),
}

/// The way to the store, for all threads.
pub struct SpoolDoor {
    lanes: Box<[SpoolLane]>,
    errands: Mutex<Vec<SpoolErrand>>,
    standing: Mutex<StoreStanding>,
    /// No attempt may last longer than until then: milliseconds of the monotonic clock.
    attempts_until: AtomicU64,
    asleep: AtomicBool,
    stopping: AtomicBool,
    thread: OnceLock<Thread>,
}

impl fmt::Debug for SpoolDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolDoor").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SpoolDoor {
    /// A door for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            lanes: (0..workers).map(|_| SpoolLane::default()).collect(),
            errands: Mutex::default(),
            standing: Mutex::default(),
            attempts_until: AtomicU64::new(u64::MAX),
            asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            thread: OnceLock::new(),
        })
    }

    /// Hands a delivery in, which is copied. Gives its place, for [`Self::withdraw`]; of one that finds no room is told at
    /// once.
    pub fn submit(&self, worker: usize, route: &Arc<str>, request: &SpoolRequest<'_>, told: SpoolTold) -> Option<u64> {
        let Some(lane) = self.lanes.get(worker) else {
            told.tell(SpoolAnswer::Refused(StoreRefusal::Failed));
            return None;
        };
        let size = request.size();
        let mut pending = lock(&lane.0);
        // The worker alone adds to its lane: what has room now has it when the copy is made.
        let full = pending.bytes + size > LANE_BYTES && !pending.waiting.is_empty();
        if full || self.stopping.load(Ordering::SeqCst) {
            drop(pending);
            told.tell(SpoolAnswer::Refused(StoreRefusal::Full));
            return None;
        }
        let buffer = pending.buffer();
        drop(pending);
        let spooling = Spooling::new(Arc::clone(route), request, told, buffer);
        let mut pending = lock(&lane.0);
        let place = pending.next;
        pending.next += 1;
        pending.bytes += size;
        pending.waiting.push_back((place, spooling));
        drop(pending);
        self.wake();
        Some(place)
    }

    /// Takes a delivery back that the store has not taken yet. Gives whether it is withdrawn: then it is not stored, and
    /// its bell does not ring. Once it is taken, its sender is not refused before the store knows.
    pub fn withdraw(&self, worker: usize, place: u64) -> bool {
        let Some(lane) = self.lanes.get(worker) else { return false };
        let mut pending = lock(&lane.0);
        let found = pending.waiting.iter().position(|(known, _)| *known == place);
        let Some((_, spooling)) = found.and_then(|at| pending.waiting.remove(at)) else { return false };
        pending.bytes -= spooling.record.bytes.len();
        pending.give_back(spooling.record.bytes);
        true
    }

    /// Does what an operator asks for, and waits for it.
    ///
    /// # Errors
    /// Of the disk, or the thread has ended.
    pub fn order(&self, order: StoreOrder) -> Result<Vec<DeliveryId>, StoreTrouble> {
        let (sender, receiver) = channel();
        lock(&self.errands).push(SpoolErrand::Order(order, sender));
        self.wake();
        receiver.recv().unwrap_or_else(|_| Err(StoreTrouble("the inbox has ended".to_owned())))
    }

    /// Carries out an operation, and waits for it.
    ///
    /// # Errors
    /// Of the disk, or the thread has ended.
    pub fn operate(&self, operation: InboxOperation) -> Result<InboxReport, StoreTrouble> {
        let (sender, receiver) = channel();
        lock(&self.errands).push(SpoolErrand::Operate(operation, sender));
        self.wake();
        receiver.recv().unwrap_or_else(|_| Err(StoreTrouble("the inbox has ended".to_owned())))
    }

    /// How the store stood a moment ago.
    #[must_use]
    pub fn standing(&self) -> StoreStanding {
        *lock(&self.standing)
    }

    /// Ends the thread when everything that was handed in has its answer.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Deliveries that have gathered.
    fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lock(&lane.0).waiting.len()).sum()
    }

    /// What has gathered, in turns of the workers, up to the bounds of a commit; each with the worker that it is from.
    fn gather(&self, bytes: usize) -> Vec<(usize, Spooling)> {
        let (mut batch, mut size) = (Vec::new(), 0);
        for (worker, lane) in self.lanes.iter().enumerate() {
            let mut pending = lock(&lane.0);
            while let Some((_, spooling)) = pending.waiting.front() {
                let length = spooling.record.bytes.len();
                if batch.len() >= BATCH || (size + length > bytes && !batch.is_empty()) {
                    break;
                }
                size += length;
                pending.bytes -= length;
                batch.extend(pending.waiting.pop_front().map(|(_, spooling)| (worker, spooling)));
            }
        }
        batch
    }

    /// Buffers that workers can use again.
    fn give_back(&self, buffers: Vec<(usize, Vec<u8>)>) {
        for (worker, buffer) in buffers {
            if let Some(lane) = self.lanes.get(worker) {
                lock(&lane.0).give_back(buffer);
            }
        }
    }
}

impl StoreSide for SpoolDoor {
    fn settle(&self, settlement: Settlement) {
        lock(&self.errands).push(SpoolErrand::Settle(settlement));
        self.wake();
    }

    fn fetch(&self, id: DeliveryId) {
        lock(&self.errands).push(SpoolErrand::Fetch(id));
        self.wake();
    }

    fn attempts_until(&self) -> Duration {
        Duration::from_millis(self.attempts_until.load(Ordering::Acquire))
    }
}

/// What the thread works with.
pub struct Spooler {
    /// The store.
    pub store: Box<dyn DeliveryStore>,
    /// Where its work comes from.
    pub door: Arc<SpoolDoor>,
    /// Where its news go.
    pub mailbox: Arc<Mailbox>,
    /// The clock of the process.
    pub clock: Clock,
    /// Bytes of a commit.
    pub batch_bytes: usize,
}

impl fmt::Debug for Spooler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spooler").field("door", &self.door).finish_non_exhaustive()
    }
}

impl Spooler {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(self) -> std::io::Result<JoinHandle<()>> {
        let door = Arc::clone(&self.door);
        let handle = thread::Builder::new().name("inbox".to_owned()).spawn(move || self.run())?;
        let _ = door.thread.set(handle.thread().clone());
        Ok(handle)
    }

    fn run(mut self) {
        background::give_way();
        for route in self.store.held_routes() {
            self.mailbox.post([DeliveryNews::Held(route, true)]);
        }
        self.tell_until();
        let mut full = false;
        let mut pace = CommitPace::default();
        loop {
            // Before the round: what was handed in before the stop is then in it, however long it takes.
            let stopping = self.door.stopping.load(Ordering::SeqCst);
            let worked = self.paced_round(&mut pace);
            self.tell_until();
            self.hand_over();
            let standing = self.store.standing();
            *lock(&self.door.standing) = standing;
            if standing.dead_letters_full != full {
                full = standing.dead_letters_full;
                self.mailbox.post([DeliveryNews::DeadLettersFull(full)]);
            }
            if !worked {
                if stopping {
                    self.write_settlements();
                    return;
                }
                self.rest();
            }
        }
    }

    /// One round, after the pause in which a commit gathers more.
    fn paced_round(&mut self, pace: &mut CommitPace) -> bool {
        if let Some(pause) = pace.pause(self.door.waiting()) {
            thread::park_timeout(pause);
        }
        let (held, begun) = (self.door.waiting(), self.clock.now());
        let worked = self.round();
        pace.committed(held, self.clock.now().monotonic.saturating_sub(begun.monotonic));
        worked
    }

    /// Writes the settlements that wait for a delivery to be stored with: none comes any more. A store that cannot be written
    /// to for a moment is waited for: what is not settled is delivered again.
    fn write_settlements(&mut self) {
        let until = self.clock.now().monotonic + LAST;
        loop {
            let mut done = Committed::default();
            let _ = self.store.commit(&[], &[], self.clock.now(), &mut done);
            self.mailbox.post(done.settled.into_iter().map(DeliveryNews::Settled));
            if self.store.unwritten() == 0 || self.clock.now().monotonic >= until {
                return;
            }
            thread::park_timeout(REST);
        }
    }

    /// Sleeps until there is something to do. What comes between the look and the sleep unparks it.
    fn rest(&self) {
        self.door.asleep.store(true, Ordering::SeqCst);
        if self.door.waiting() == 0 && lock(&self.door.errands).is_empty() {
            thread::park_timeout(REST);
        }
        self.door.asleep.store(false, Ordering::SeqCst);
    }

    /// One commit, and what was asked for besides. Gives whether there was anything to do. The thread calls it again and
    /// again; without one, whatever owns the spooler does.
    pub fn round(&mut self) -> bool {
        let batch = self.door.gather(self.batch_bytes);
        let errands = std::mem::take(&mut *lock(&self.door.errands));
        let idle = batch.is_empty() && errands.is_empty();
        let (mut settlements, mut others) = (Vec::new(), Vec::new());
        for errand in errands {
            match errand {
                SpoolErrand::Settle(settlement) => settlements.push(settlement),
                other => others.push(other),
            }
        }
        let mut done = Committed::default();
        if !batch.is_empty() || !settlements.is_empty() {
            let fresh: Vec<FreshDelivery<'_>> = batch.iter().map(|(_, spooling)| spooling.fresh()).collect();
            let result = self.store.commit(&fresh, &settlements, self.clock.now(), &mut done);
            drop(fresh);
            self.answer(batch, result, &mut done);
        }
        self.store.mend(self.clock.now(), &mut done);
        let settled = done.settled.drain(..).map(DeliveryNews::Settled);
        let news: Vec<DeliveryNews> = settled.chain(done.kept.drain(..).map(DeliveryNews::Kept)).collect();
        if !news.is_empty() {
            self.mailbox.post(news);
        }
        others.into_iter().for_each(|errand| self.run_errand(errand));
        self.tell_of_gone();
        self.tell_of_held();
        !idle
    }

    fn tell_until(&self) {
        let until =
            self.store.attempts_until().map_or(u64::MAX, |until| u64::try_from(until.as_millis()).unwrap_or(u64::MAX));
        self.door.attempts_until.store(until, Ordering::Release);
    }

    /// Routes that were held or released elsewhere.
    fn tell_of_held(&mut self) {
        let mut held = Vec::new();
        self.store.take_held(&mut held);
        if !held.is_empty() {
            self.mailbox.post(held.into_iter().map(|(route, held)| DeliveryNews::Held(route, held)));
        }
    }

    /// Whatever has removed deliveries: what waits for them goes on.
    fn tell_of_gone(&mut self) {
        let mut gone = Vec::new();
        self.store.take_gone(&mut gone);
        if !gone.is_empty() {
            self.mailbox.post([DeliveryNews::Forgotten(gone)]);
        }
    }

    fn answer(&self, batch: Vec<(usize, Spooling)>, result: Result<(), StoreRefusal>, done: &mut Committed) {
        let (rows, elsewhere) = (std::mem::take(&mut done.accepted), std::mem::take(&mut done.elsewhere));
        let mut buffers = Vec::with_capacity(batch.len());
        if let Err(why) = result {
            for (worker, spooling) in batch {
                spooling.told.tell(SpoolAnswer::Refused(why));
                buffers.push((worker, spooling.record.bytes));
            }
            return self.door.give_back(buffers);
        }
        let mut news = Vec::with_capacity(batch.len());
        for ((worker, spooling), row) in batch.into_iter().zip(rows) {
            spooling.told.tell(SpoolAnswer::Durable(row.id));
            if elsewhere.contains(&row.id) {
                buffers.push((worker, spooling.record.bytes));
                continue;
            }
            let Spooling { route, mut record, .. } = spooling;
            if record.bytes.capacity() <= SPARE_BUFFER {
                let copy = record.bytes.clone();
                buffers.push((worker, std::mem::replace(&mut record.bytes, copy)));
            }
            news.push(DeliveryNews::Stored(row, route, Some(Arc::new(record))));
        }
        self.mailbox.post(news);
        self.door.give_back(buffers);
    }

    /// What was found at the start, or was redriven.
    fn hand_over(&mut self) {
        let mut rows = Vec::new();
        self.store.take(TAKEN, &mut rows);
        if !rows.is_empty() {
            let store = &self.store;
            let news = rows.into_iter().map(|row| {
                let route = Arc::from(store.route_name(row.route));
                DeliveryNews::Stored(row, route, None)
            });
            self.mailbox.post(news.collect::<Vec<_>>());
        }
    }

    fn run_errand(&mut self, errand: SpoolErrand) {
        match errand {
            SpoolErrand::Settle(_) => {}
            SpoolErrand::Fetch(id) => {
                let mut record = StoredRecord::default();
                let found = self.store.fetch(id, &mut record).ok();
                self.mailbox.post([DeliveryNews::Fetched(id, found, Arc::new(record))]);
            }
            SpoolErrand::Order(order, answer) => {
                let result = self.store.order(&order, self.clock.now());
                if let (StoreOrder::Hold(route, held), Ok(_)) = (&order, &result) {
                    self.mailbox.post([DeliveryNews::Held(route.clone(), *held)]);
                }
                let _ = answer.send(result);
            }
            SpoolErrand::Operate(operation, answer) => {
                let result = operation.carry_out(&mut *self.store, self.clock.now());
                if let (InboxOperation::Hold(route, held), Ok(_)) = (&operation, &result) {
                    self.mailbox.post([DeliveryNews::Held(route.clone(), *held)]);
                }
                let _ = answer.send(result);
            }
        }
    }
}
