//! The thread that delivers: asks the agenda what is due, makes the attempts, and tells the store how they ended.
//!
//! It has a runtime, connections and buffers of its own, so that a backlog never stands between a worker and its
//! requests. It shares nothing with the thread of the store but a [`Mailbox`] and a [`StoreSide`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::inbox::agenda::{Agenda, Due};
use crate::inbox::delivery::DeliveryId;
use crate::inbox::judgement::AttemptEnd;
use crate::inbox::lane::LaneTerms;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Fetched, Settlement, StoredRecord};

use super::runtime::alarms::Alarms;
use super::attempt::attempt;
use super::runtime::clock::{Clock, WorkerClock};
use super::runtime::driver::{self, DriverChoice, Unavailable};
use super::runtime::net::{Net, Sockets};
use super::policy::Upstream;
use super::runtime::stream::{ByteStream, Socket};
use super::upstream::Pool;

/// For how long the loop rests at most.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Bytes of records that wait in memory for their attempt; the others are read from the store.
const IN_MEMORY: usize = 8 << 20;

/// The store, as the delivering thread sees it. Nothing of it blocks.
pub trait StoreSide: Send + Sync {
    /// An attempt has ended. [`DeliveryNews::Settled`] follows when that is durable.
    fn settle(&self, settlement: Settlement);
    /// Asks for a record. [`DeliveryNews::Fetched`] follows.
    fn fetch(&self, id: DeliveryId);
}

/// What the store tells.
#[derive(Debug)]
pub enum DeliveryNews {
    /// A delivery is stored that is to be attempted: its row, its route, and its record where that is in memory.
    Stored(DeliveryRow, Arc<str>, Option<Arc<StoredRecord>>),
    /// A settlement is durable.
    Settled(Settlement),
    /// A delivery that should be a dead letter, for which there was no room.
    Kept(DeliveryId),
    /// A record that was asked for; nothing where it could not be read now.
    Fetched(DeliveryId, Option<Fetched>, Arc<StoredRecord>),
    /// Deliveries are not there any more.
    Forgotten(Vec<DeliveryId>),
    /// A route is held, or released.
    Held(String, bool),
    /// Whether dead letters have no room.
    DeadLettersFull(bool),
    /// No more attempts: the process stops.
    Stop,
}

/// Where the store leaves its news, and the bell that wakes the delivering thread.
#[derive(Debug)]
pub struct Mailbox {
    news: Mutex<Vec<DeliveryNews>>,
    bell: UnixStream,
}

impl Mailbox {
    /// A mailbox, and the end of its bell that the delivering thread listens to.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> io::Result<(Arc<Self>, UnixStream)> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok((Arc::new(Self { news: Mutex::default(), bell }), ear))
    }

    /// Leaves news, and rings.
    pub fn post(&self, news: impl IntoIterator<Item = DeliveryNews>) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
        self.ring();
    }

    /// A bell that was rung already stays rung.
    fn ring(&self) {
        let _ = (&self.bell).write(&[0]);
    }

    fn take(&self) -> Vec<DeliveryNews> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A route whose deliveries are stored.
#[derive(Clone, Debug)]
pub struct DurableRoute {
    /// Its name.
    pub name: Arc<str>,
    /// When and how often.
    pub terms: LaneTerms,
    /// For how long an answer is awaited.
    pub timeout: Duration,
}

/// What the delivering thread works with.
#[derive(Debug)]
pub struct DeliveryPlan {
    /// The routes.
    pub routes: Vec<DurableRoute>,
    /// The applications, by the positions that [`LaneTerms::upstream`] names.
    pub upstreams: Vec<Upstream>,
    /// The seed of all delays.
    pub seed: u64,
    /// What it runs on.
    pub driver: DriverChoice,
    /// The clock of the process.
    pub clock: Clock,
}

struct Deliverer {
    agenda: Agenda,
    records: HashMap<DeliveryId, Arc<StoredRecord>>,
    bytes: usize,
    /// Attempts that wait for their record.
    fetching: HashMap<DeliveryId, Due>,
    ended: Vec<(DeliveryId, AttemptEnd)>,
    flying: usize,
    stopping: bool,
}

/// Delivers until [`DeliveryNews::Stop`], and until what is under way then has ended.
///
/// # Errors
/// The driver that was demanded cannot be had.
pub fn run(
    plan: DeliveryPlan,
    mailbox: &Arc<Mailbox>,
    ear: UnixStream,
    store: &Arc<dyn StoreSide>,
) -> Result<(), Unavailable> {
    let (mut runtime, _) = driver::build(plan.driver)?;
    runtime.block_on(async move {
        let alarms = Rc::new(Alarms::new(plan.clock.clone()));
        let kept = Rc::clone(&alarms);
        monoio::spawn(async move { kept.keep().await });
        let Ok(ear) = monoio::net::UnixStream::from_std(ear) else { return };
        let mut ear = Socket::unix(ear, &alarms);
        let net = Rc::new(Sockets { clock: WorkerClock::new(plan.clock.clone()), alarms });
        let plan = Rc::new(plan);
        let pools: Rc<Vec<Pool<Socket>>> = Rc::new(plan.upstreams.iter().map(|_| Pool::default()).collect());
        let lanes = plan.routes.iter().map(|route| route.terms.clone()).collect();
        let state = Rc::new(RefCell::new(Deliverer {
            agenda: Agenda::new(lanes, plan.seed),
            records: HashMap::new(),
            bytes: 0,
            fetching: HashMap::new(),
            ended: Vec::new(),
            flying: 0,
            stopping: false,
        }));
        loop {
            let now = net.look();
            let due = {
                let mut state = state.borrow_mut();
                mailbox.take().into_iter().for_each(|news| state.hear(news, &plan, now));
                state.end_attempts(&**store, now);
                if state.stopping && state.flying == 0 {
                    return;
                }
                state.due(&**store, now)
            };
            for (due, record) in due {
                let (net, plan, pools) = (Rc::clone(&net), Rc::clone(&plan), Rc::clone(&pools));
                let (state, mailbox) = (Rc::clone(&state), Arc::clone(mailbox));
                monoio::spawn(async move {
                    let end = send(&*net, &plan, &pools, &due, &record).await;
                    state.borrow_mut().ended.push((due.id, end));
                    mailbox.ring();
                });
            }
            plan.upstreams
                .iter()
                .zip(&*pools)
                .for_each(|(upstream, pool)| pool.close_expired(now, upstream.idle_timeout));
            let wakes = state.borrow().agenda.wakes_at().map_or(Duration::MAX, Duration::from_millis);
            let deadline = wakes.max(now.monotonic).min(now.monotonic + LONGEST_REST);
            let (heard, _) = ear.read_patiently(Vec::with_capacity(256), deadline).await;
            if matches!(heard, Ok(Some(0)) | Err(_)) {
                return;
            }
        }
    });
    Ok(())
}

/// Makes one attempt.
async fn send<N: Net>(
    net: &N,
    plan: &DeliveryPlan,
    pools: &[Pool<N::Stream>],
    due: &Due,
    record: &StoredRecord,
) -> AttemptEnd {
    let Some(route) = plan.routes.get(due.route) else { return AttemptEnd::NotSent };
    let at = route.terms.upstream;
    let (Some(upstream), Some(pool)) = (plan.upstreams.get(at), pools.get(at)) else { return AttemptEnd::NotSent };
    attempt(net, pool, upstream, &request(due, record), route.timeout).await
}

/// The request of an attempt: the head as it was stored, what only this attempt knows, and the body.
fn request(due: &Due, record: &StoredRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.head().len() + record.body().len() + 192);
    out.extend_from_slice(record.head());
    let seconds = i64::try_from(due.accepted / 1_000).unwrap_or(0);
    let accepted = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|it| it.format(&Rfc3339).ok());
    crate::wire::encode::field(&mut out, b"X-Countersign-Delivery", &due.id.text());
    crate::wire::encode::field_u64(&mut out, b"X-Countersign-Attempt", u64::from(due.attempt));
    crate::wire::encode::field(&mut out, b"X-Countersign-Accepted", accepted.unwrap_or_default().as_bytes());
    if due.redrives > 0 {
        crate::wire::encode::field(&mut out, b"X-Countersign-Redriven", b"true");
    }
    crate::wire::encode::end(&mut out);
    out.extend_from_slice(record.body());
    out
}

impl Deliverer {
    fn keep(&mut self, id: DeliveryId, record: Arc<StoredRecord>) {
        if self.bytes + record.bytes.len() <= IN_MEMORY {
            self.bytes += record.bytes.len();
            self.records.insert(id, record);
        }
    }

    fn drop_record(&mut self, id: DeliveryId) {
        if let Some(record) = self.records.remove(&id) {
            self.bytes -= record.bytes.len();
        }
    }

    fn hear(&mut self, news: DeliveryNews, plan: &DeliveryPlan, now: crate::now::Now) {
        match news {
            DeliveryNews::Stored(row, route, record) => {
                // A redriven delivery may still be known as the dead one that its key waits for.
                if row.redrives > 0 {
                    self.agenda.forget(row.id);
                }
                // A route that is not configured any more keeps its deliveries in the store.
                let Some(at) = plan.routes.iter().position(|known| known.name == route) else { return };
                if self.agenda.admit(&row, at, now) {
                    record.into_iter().for_each(|record| self.keep(row.id, record));
                }
            }
            DeliveryNews::Settled(settlement) => self.agenda.committed(&settlement),
            DeliveryNews::Kept(id) => self.agenda.keep(id, now),
            DeliveryNews::Fetched(id, found, record) => match found {
                Some(Fetched::Whole) => self.keep_for_attempt(id, record),
                None => self.give_up_fetching(id, now),
                Some(Fetched::Gone | Fetched::Damaged) => {
                    self.forget(id);
                }
            },
            DeliveryNews::Forgotten(ids) => ids.into_iter().for_each(|id| self.forget(id)),
            DeliveryNews::Held(name, held) => {
                if let Some(at) = plan.routes.iter().position(|route| *route.name == *name) {
                    self.agenda.hold(at, held);
                }
            }
            DeliveryNews::DeadLettersFull(full) => self.agenda.dead_letters_full = full,
            DeliveryNews::Stop => self.stopping = true,
        }
    }

    fn forget(&mut self, id: DeliveryId) {
        self.agenda.forget(id);
        self.drop_record(id);
        self.fetching.remove(&id);
    }

    /// A record has come for an attempt that waits for it, however full the memory is.
    fn keep_for_attempt(&mut self, id: DeliveryId, record: Arc<StoredRecord>) {
        self.drop_record(id);
        self.bytes += record.bytes.len();
        self.records.insert(id, record);
    }

    fn give_up_fetching(&mut self, id: DeliveryId, now: crate::now::Now) {
        if self.fetching.remove(&id).is_some() {
            self.agenda.finish(id, AttemptEnd::NotSent, now);
        }
    }

    fn end_attempts(&mut self, store: &dyn StoreSide, now: crate::now::Now) {
        for (id, end) in std::mem::take(&mut self.ended) {
            self.flying -= 1;
            if let Some(settlement) = self.agenda.finish(id, end, now) {
                store.settle(settlement);
            }
            self.drop_record(id);
        }
    }

    /// What can be attempted now. For what is not in memory the store is asked.
    fn due(&mut self, store: &dyn StoreSide, now: crate::now::Now) -> Vec<(Due, Arc<StoredRecord>)> {
        let mut ready = Vec::new();
        let arrived: Vec<DeliveryId> =
            self.fetching.keys().filter(|id| self.records.contains_key(*id)).copied().collect();
        for id in arrived {
            if let (Some(due), Some(record)) = (self.fetching.remove(&id), self.records.get(&id)) {
                ready.push((due, Arc::clone(record)));
            }
        }
        while !self.stopping
            && let Some(due) = self.agenda.next(now)
        {
            match self.records.get(&due.id) {
                Some(record) => ready.push((due, Arc::clone(record))),
                None => {
                    self.fetching.insert(due.id, due);
                    store.fetch(due.id);
                }
            }
        }
        self.flying += ready.len();
        ready
    }
}
