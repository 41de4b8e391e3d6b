//! How workers hand deliveries to the store, and learn what became of them.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::inbox::spooler::SpoolDoor;
use crate::control::inbox::spooling::{SpoolAnswer, SpoolListener, SpoolRequest, SpoolTold};
use crate::edge::spool::{SpoolOffer, SpoolSide, SpoolTicket, SpoolVerdict};
use crate::outcome::Rejection;

/// Whether deliveries can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GateState {
    /// The store is being opened for the first time.
    Starting = 0,
    /// They can.
    Open = 1,
    /// The store cannot be opened.
    Unavailable = 2,
}

impl GateState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Open => "open",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The way to the store for workers.
pub struct SpoolGate {
    door: Arc<SpoolDoor>,
    state: AtomicU8,
    workers: Box<[Arc<WorkerEnd>]>,
}

impl fmt::Debug for SpoolGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolGate").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// What one worker waits for. On cache lines of its own.
#[repr(align(128))]
struct WorkerEnd {
    waiting: Mutex<WaitingRoom>,
    bell: UnixStream,
    /// The worker's end of the bell, until it asks for it.
    ear: Mutex<Option<UnixStream>>,
}

#[derive(Default)]
struct WaitingRoom {
    next: u64,
    tickets: HashMap<u64, HandedIn>,
    /// The bell has rung, and the worker has not looked since.
    rung: bool,
}

#[derive(Clone, Copy, Default)]
struct HandedIn {
    /// Its place at the door.
    place: Option<u64>,
    verdict: Option<SpoolVerdict>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WorkerEnd {
    fn new() -> io::Result<Self> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok(Self { waiting: Mutex::default(), bell, ear: Mutex::new(Some(ear)) })
    }
}

impl SpoolListener for WorkerEnd {
    /// A ticket that was forgotten is told nothing.
    fn answered(&self, ticket: u64, answer: SpoolAnswer) {
        let mut waiting = lock(&self.waiting);
        let Some(handed_in) = waiting.tickets.get_mut(&ticket) else { return };
        handed_in.verdict = Some(match answer {
            SpoolAnswer::Durable(id) => SpoolVerdict::Durable(id),
            SpoolAnswer::Refused(why) => SpoolVerdict::Refused(why),
        });
        if !std::mem::replace(&mut waiting.rung, true) {
            drop(waiting);
            // A bell that cannot be rung is full of rings that were not heard yet.
            let _ = (&self.bell).write(&[0]);
        }
    }
}

impl SpoolGate {
    /// A gate for so many workers, closed.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(workers: usize) -> io::Result<Arc<Self>> {
        let ends = (0..workers).map(|_| WorkerEnd::new().map(Arc::new)).collect::<io::Result<_>>()?;
        let state = AtomicU8::new(GateState::Starting as u8);
        Ok(Arc::new(Self { door: SpoolDoor::new(workers), state, workers: ends }))
    }

    /// The door of the store behind it.
    #[must_use]
    pub const fn door(&self) -> &Arc<SpoolDoor> {
        &self.door
    }

    /// Whether deliveries can be stored.
    #[must_use]
    pub fn state(&self) -> GateState {
        match self.state.load(Ordering::Acquire) {
            0 => GateState::Starting,
            1 => GateState::Open,
            _ => GateState::Unavailable,
        }
    }

    /// Opens or closes it.
    pub fn set(&self, state: GateState) {
        self.state.store(state as u8, Ordering::Release);
    }
}

impl SpoolSide for SpoolGate {
    fn submit(&self, worker: usize, offer: &SpoolOffer<'_>) -> Result<SpoolTicket, Rejection> {
        match self.state() {
            GateState::Starting => return Err(Rejection::InboxStarting),
            GateState::Unavailable => return Err(Rejection::InboxUnavailable),
            GateState::Open => {}
        }
        let end = self.workers.get(worker).ok_or(Rejection::InboxUnavailable)?;
        let ticket = {
            let mut waiting = lock(&end.waiting);
            waiting.next += 1;
            let ticket = waiting.next;
            waiting.tickets.insert(ticket, HandedIn::default());
            ticket
        };
        let SpoolOffer { route, head, body, accepted, order_key, seen_key, seen_also, seen_until } = *offer;
        let request = SpoolRequest { head, body, accepted, order_key, seen_key, seen_also, seen_until };
        let told = SpoolTold { listener: Arc::<WorkerEnd>::clone(end), ticket };
        let place = self.door.submit(worker, route, &request, told);
        if let Some(handed_in) = lock(&end.waiting).tickets.get_mut(&ticket) {
            handed_in.place = place;
        }
        Ok(SpoolTicket(ticket))
    }

    fn verdict(&self, worker: usize, ticket: SpoolTicket) -> Option<SpoolVerdict> {
        let mut waiting = lock(&self.workers.get(worker)?.waiting);
        waiting.rung = false;
        let verdict = waiting.tickets.get(&ticket.0)?.verdict?;
        waiting.tickets.remove(&ticket.0);
        Some(verdict)
    }

    fn withdraw(&self, worker: usize, ticket: SpoolTicket) -> bool {
        let Some(end) = self.workers.get(worker) else { return false };
        let place = lock(&end.waiting).tickets.get(&ticket.0).and_then(|handed_in| handed_in.place);
        let withdrawn = place.is_some_and(|place| self.door.withdraw(worker, place));
        if withdrawn {
            lock(&end.waiting).tickets.remove(&ticket.0);
        }
        withdrawn
    }

    fn forget(&self, worker: usize, ticket: SpoolTicket) {
        if let Some(end) = self.workers.get(worker) {
            lock(&end.waiting).tickets.remove(&ticket.0);
        }
    }

    fn changes(&self, worker: usize) -> Option<UnixStream> {
        lock(&self.workers.get(worker)?.ear).take()
    }
}
