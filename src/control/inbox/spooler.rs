//! The thread that owns the store: one commit for what all workers have gathered meanwhile, and for the settlements that
//! have come; then the answers, and the news for the thread that delivers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crate::edge::clock::Clock;
use crate::edge::deliver::{DeliveryNews, Mailbox, StoreSide};
use crate::inbox::delivery::DeliveryId;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::operation::{InboxOperation, InboxReport};
use crate::inbox::record::RecordParts;
use crate::inbox::row::{DeliveryRow, SeenKey};
use crate::inbox::store::{
    Committed, DeliveryStore, Settlement, StoreOrder, StoreRefusal, StoreStanding, StoreTrouble, StoredRecord,
};

/// A commit holds at most so many deliveries.
const BATCH: usize = 1_024;

/// Bytes that wait for a commit, for each worker.
const LANE_BYTES: usize = 4 << 20;

/// The store is mended at least so often.
const REST: Duration = Duration::from_millis(50);

/// So many rows are handed to the delivering thread at a time.
const TAKEN: usize = 4_096;

/// What a worker is told of a delivery that it has handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolAnswer {
    /// It is durable, under this id.
    Durable(DeliveryId),
    /// It is not stored.
    Refused(StoreRefusal),
}

/// Called once, on the thread of the store.
pub type SpoolBell = Box<dyn FnOnce(SpoolAnswer) + Send>;

/// A delivery on its way into the store.
pub struct Spooling {
    /// The name of its route.
    pub route: Arc<str>,
    /// Head and body; [`RecordParts`] of `record` say where. The route is not among the bytes.
    pub record: StoredRecord,
    /// Further keys under which copies are recognised.
    pub seen_also: Vec<SeenKey>,
    /// Until when copies are recognised, in milliseconds since 1970.
    pub seen_until: u64,
    /// Called when it is known what became of it.
    pub bell: SpoolBell,
}

impl fmt::Debug for Spooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spooling").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Spooling {
    /// A delivery of a head, without the empty line at its end, and a body.
    #[must_use]
    pub fn new(route: Arc<str>, request: &SpoolRequest<'_>, bell: SpoolBell) -> Self {
        let (head, body) = (request.head.len(), request.body.len());
        let mut bytes = Vec::with_capacity(head + body);
        bytes.extend_from_slice(request.head);
        bytes.extend_from_slice(request.body);
        let parts = RecordParts {
            route: 0..0,
            head: 0..head,
            body: head..head + body,
            accepted: request.accepted,
            order_key: request.order_key,
            seen_key: request.seen_key,
        };
        let record = StoredRecord { bytes, parts };
        Self { route, record, seen_also: request.seen_also.to_vec(), seen_until: request.seen_until, bell }
    }

    fn fresh(&self) -> FreshDelivery<'_> {
        FreshDelivery {
            route: &self.route,
            head: self.record.head(),
            body: self.record.body(),
            accepted: self.record.parts.accepted,
            order_key: self.record.parts.order_key,
            seen_key: self.record.parts.seen_key,
            seen_also: &self.seen_also,
            seen_until: self.seen_until,
        }
    }
}

/// What is to be stored of a request. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpoolRequest<'a> {
    /// The head of the request to the application, without the empty line at its end.
    pub head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// When it was accepted.
    pub accepted: u64,
    /// The key that orders it; zeros for none.
    pub order_key: [u8; 16],
    /// The key under which copies are recognised; zeros for none.
    pub seen_key: [u8; 32],
    /// Further ones: the names under other keys of the route.
    pub seen_also: &'a [SeenKey],
    /// Until when.
    pub seen_until: u64,
}

/// What one worker has handed in. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SpoolLane(Mutex<SpoolPending>);

#[derive(Debug, Default)]
struct SpoolPending {
    waiting: VecDeque<(u64, Spooling)>,
    bytes: usize,
    next: u64,
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
            asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            thread: OnceLock::new(),
        })
    }

    /// Hands a delivery in. Gives its place, for [`Self::withdraw`]; the bell of one that finds no room rings at once.
    pub fn submit(&self, worker: usize, spooling: Spooling) -> Option<u64> {
        let size = spooling.record.bytes.len();
        let Some(lane) = self.lanes.get(worker) else {
            (spooling.bell)(SpoolAnswer::Refused(StoreRefusal::Failed));
            return None;
        };
        let mut pending = lock(&lane.0);
        let full = pending.bytes + size > LANE_BYTES && !pending.waiting.is_empty();
        if full || self.stopping.load(Ordering::SeqCst) {
            drop(pending);
            (spooling.bell)(SpoolAnswer::Refused(StoreRefusal::Full));
            return None;
        }
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

    /// What has gathered, in turns of the workers, up to the bounds of a commit.
    fn gather(&self, bytes: usize) -> Vec<Spooling> {
        let (mut batch, mut size) = (Vec::new(), 0);
        for lane in &self.lanes {
            let mut pending = lock(&lane.0);
            while let Some((_, spooling)) = pending.waiting.front() {
                let length = spooling.record.bytes.len();
                if batch.len() >= BATCH || (size + length > bytes && !batch.is_empty()) {
                    break;
                }
                size += length;
                pending.bytes -= length;
                batch.extend(pending.waiting.pop_front().map(|(_, spooling)| spooling));
            }
        }
        batch
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
        for route in self.store.held_routes() {
            self.mailbox.post([DeliveryNews::Held(route, true)]);
        }
        let mut full = false;
        loop {
            let worked = self.round();
            self.hand_over();
            let standing = self.store.standing();
            *lock(&self.door.standing) = standing;
            if standing.dead_letters_full != full {
                full = standing.dead_letters_full;
                self.mailbox.post([DeliveryNews::DeadLettersFull(full)]);
            }
            if !worked {
                if self.door.stopping.load(Ordering::SeqCst) {
                    return;
                }
                self.rest();
            }
        }
    }

    /// Sleeps until there is something to do. What comes between the look and the sleep unparks it.
    fn rest(&self) {
        self.door.asleep.store(true, Ordering::SeqCst);
        let idle = self.door.lanes.iter().all(|lane| lock(&lane.0).waiting.is_empty());
        if idle && lock(&self.door.errands).is_empty() {
            thread::park_timeout(REST);
        }
        self.door.asleep.store(false, Ordering::SeqCst);
    }

    /// One commit, and what was asked for besides. Gives whether there was anything to do.
    fn round(&mut self) -> bool {
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
            let fresh: Vec<FreshDelivery<'_>> = batch.iter().map(Spooling::fresh).collect();
            let result = self.store.commit(&fresh, &settlements, self.clock.now(), &mut done);
            drop(fresh);
            self.answer(batch, result, std::mem::take(&mut done.accepted));
        }
        self.store.mend(self.clock.now(), &mut done);
        let settled = done.settled.drain(..).map(DeliveryNews::Settled);
        let news: Vec<DeliveryNews> = settled.chain(done.kept.drain(..).map(DeliveryNews::Kept)).collect();
        if !news.is_empty() {
            self.mailbox.post(news);
        }
        others.into_iter().for_each(|errand| self.run_errand(errand));
        !idle
    }

    fn answer(&self, batch: Vec<Spooling>, result: Result<(), StoreRefusal>, rows: Vec<DeliveryRow>) {
        if let Err(why) = result {
            batch.into_iter().for_each(|spooling| (spooling.bell)(SpoolAnswer::Refused(why)));
            return;
        }
        let mut news = Vec::with_capacity(batch.len());
        for (spooling, row) in batch.into_iter().zip(rows) {
            (spooling.bell)(SpoolAnswer::Durable(row.id));
            news.push(DeliveryNews::Stored(row, spooling.route, Some(Arc::new(spooling.record))));
        }
        self.mailbox.post(news);
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
                match (&order, &result) {
                    (StoreOrder::Purge(..), Ok(ids)) => self.mailbox.post([DeliveryNews::Forgotten(ids.clone())]),
                    (StoreOrder::Hold(route, held), Ok(_)) => {
                        self.mailbox.post([DeliveryNews::Held(route.clone(), *held)]);
                    }
                    _ => {}
                }
                let _ = answer.send(result);
            }
            SpoolErrand::Operate(operation, answer) => {
                let result = operation.carry_out(&mut *self.store, self.clock.now());
                match (&operation, &result) {
                    (InboxOperation::Purge(_, false), Ok(report)) => {
                        let ids = report.deliveries.iter().map(|listed| listed.row.id).collect();
                        self.mailbox.post([DeliveryNews::Forgotten(ids)]);
                    }
                    (InboxOperation::Hold(route, held), Ok(_)) => {
                        self.mailbox.post([DeliveryNews::Held(route.clone(), *held)]);
                    }
                    _ => {}
                }
                let _ = answer.send(result);
            }
        }
    }
}
