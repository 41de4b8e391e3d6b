//! The thread that delivers: asks the agenda what is due, makes the attempts, and tells the store how they ended.
//!
//! It has a runtime, connections and buffers of its own, so that a backlog never stands between a worker and its
//! requests. It shares nothing with the thread of the store but a [`Mailbox`] and a [`StoreSide`].

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::inbox::agenda::{Agenda, Due};
use crate::inbox::delivery::DeliveryId;
use crate::inbox::judgement::AttemptEnd;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Fetched, Settlement, StoredRecord};
use crate::now::Now;
use crate::telemetry::deliveries::{DeliveryCells, DeliveryMeters};

use super::attempt::attempt;
pub use super::durable_route::DurableRoute;
use super::ended_attempt::{EndedAttempt, request};
use super::observer::Observer;
use super::policy::{Target, Upstream};
use super::runtime::alarms::Alarms;
use super::runtime::clock::{Clock, WorkerClock};
use super::runtime::driver::{self, DriverChoice, Unavailable};
use super::runtime::net::{Net, Sockets};
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
    /// No attempt may last longer than until then, by the monotonic clock: afterwards another process may have the delivery.
    fn attempts_until(&self) -> Duration {
        Duration::MAX
    }
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
    /// Another configuration is in force: its durable routes, and the applications that their terms name by position.
    Follow(Vec<DurableRoute>, Vec<Upstream>),
    /// No more attempts: the process stops. Those under way have so much time to end.
    Stop(Duration),
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

/// What the delivering thread works with.
pub struct DeliveryPlan {
    /// The routes.
    pub routes: Vec<DurableRoute>,
    /// The applications, by the positions that [`crate::inbox::lane::LaneTerms::upstream`] names.
    pub upstreams: Vec<Upstream>,
    /// The seed of all delays.
    pub seed: u64,
    /// Where is counted.
    pub meters: Arc<DeliveryMeters>,
    /// Who is told of attempts.
    pub observer: Arc<dyn Observer>,
    /// What it runs on.
    pub driver: DriverChoice,
    /// The clock of the process.
    pub clock: Clock,
}

/// A route that is known, or was once.
struct DeliveredRoute {
    route: DurableRoute,
    cells: Arc<DeliveryCells>,
    /// It is not configured any more: its deliveries are kept, and not attempted.
    gone: bool,
    /// Held by the operator.
    held: bool,
}

/// An application, and the connections to it.
struct KnownApplication {
    upstream: Upstream,
    pool: Rc<Pool<Socket>>,
}

struct Deliverer {
    agenda: Agenda,
    meters: Arc<DeliveryMeters>,
    /// When the meters were last told how many wait.
    told: Duration,
    /// By their positions in the agenda.
    routes: Vec<DeliveredRoute>,
    applications: Vec<KnownApplication>,
    /// Some routes have not got their new terms yet.
    unsettled: bool,
    /// What is stored for routes that are not configured.
    strangers: Vec<(DeliveryRow, Arc<str>)>,
    /// Routes that are held and not known.
    held: BTreeSet<String>,
    records: HashMap<DeliveryId, Arc<StoredRecord>>,
    bytes: usize,
    /// Attempts that wait for their record.
    fetching: HashMap<DeliveryId, Due>,
    ended: Vec<EndedAttempt>,
    observer: Arc<dyn Observer>,
    flying: usize,
    /// No attempt takes longer.
    longest: Duration,
    /// Until when attempts under way may end; set when the process stops.
    stopping: Option<Duration>,
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
        let mut deliverer = Deliverer::new(plan.seed, plan.meters, plan.observer);
        deliverer.follow(plan.routes, plan.upstreams, net.look());
        let state = Rc::new(RefCell::new(deliverer));
        loop {
            let now = net.look();
            // Looked at before the news: what has raised it may have taken deliveries away, and that is among them.
            let until = store.attempts_until();
            let due = {
                let mut state = state.borrow_mut();
                mailbox.take().into_iter().for_each(|news| state.hear(news, now));
                state.end_attempts(&**store, now);
                if state.stopping.is_some_and(|until| state.flying == 0 || now.monotonic >= until) {
                    return;
                }
                state.settle_terms();
                state.tell(now);
                state.due(&**store, until, now)
            };
            for (due, record) in due {
                let (net, state, mailbox) = (Rc::clone(&net), Rc::clone(&state), Arc::clone(mailbox));
                let plan = state.borrow().plan(&due);
                monoio::spawn(async move {
                    let end = match plan {
                        Some(plan) => plan.run(&net, &request(&due, &record)).await,
                        None => AttemptEnd::NotSent,
                    };
                    let begun = now.monotonic;
                    state.borrow_mut().ended.push(EndedAttempt { due, record, end, begun });
                    mailbox.ring();
                });
            }
            let stopping = state.borrow().stopping;
            state.borrow().applications.iter().for_each(|it| it.pool.close_expired(now, it.upstream.idle_timeout));
            let wakes = state.borrow().agenda.wakes_at().map_or(Duration::MAX, Duration::from_millis);
            let wakes = wakes.min(stopping.unwrap_or(Duration::MAX));
            let deadline = wakes.max(now.monotonic).min(now.monotonic + LONGEST_REST);
            let (heard, _) = ear.read_patiently(Vec::with_capacity(256), deadline).await;
            if matches!(heard, Ok(Some(0)) | Err(_)) {
                return;
            }
        }
    });
    Ok(())
}

/// Where an attempt goes.
struct AttemptPlan {
    upstream: Upstream,
    pool: Rc<Pool<Socket>>,
    timeout: Duration,
}

impl AttemptPlan {
    async fn run(&self, net: &Sockets, request: &[u8]) -> AttemptEnd {
        attempt(net, &self.pool, &self.upstream, request, self.timeout).await
    }
}

/// What makes two upstreams the same application.
fn same_application(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Unix(one), Target::Unix(other)) => one == other,
        (Target::Tcp(one), Target::Tcp(other)) => one.name == other.name,
        _ => false,
    }
}

/// For how long an attempt of any route can take at most: until a connection is there, and until the answer is. A
/// connection is made anew at most once.
#[must_use]
pub fn longest_attempt<'a>(
    routes: impl Iterator<Item = &'a DurableRoute>,
    upstreams: impl Iterator<Item = &'a Upstream>,
) -> Duration {
    let answer = routes.map(|route| route.timeout).max().unwrap_or_default();
    let connection = upstreams.map(|upstream| upstream.connect_timeout).max().unwrap_or_default();
    answer.saturating_add(connection.saturating_mul(2))
}

impl Deliverer {
    fn new(seed: u64, meters: Arc<DeliveryMeters>, observer: Arc<dyn Observer>) -> Self {
        Self {
            agenda: Agenda::new(Vec::new(), seed),
            meters,
            told: Duration::ZERO,
            routes: Vec::new(),
            applications: Vec::new(),
            unsettled: false,
            strangers: Vec::new(),
            held: BTreeSet::new(),
            records: HashMap::new(),
            bytes: 0,
            fetching: HashMap::new(),
            ended: Vec::new(),
            observer,
            flying: 0,
            longest: Duration::ZERO,
            stopping: None,
        }
    }

    /// Another configuration is in force. Routes and applications keep their positions by their names. Deliveries of a
    /// route that is gone wait until it is there again.
    fn follow(&mut self, routes: Vec<DurableRoute>, upstreams: Vec<Upstream>, now: Now) {
        self.longest = longest_attempt(routes.iter(), upstreams.iter());
        let places: Vec<usize> = upstreams.into_iter().map(|upstream| self.place(upstream)).collect();
        for known in &mut self.routes {
            known.gone = !routes.iter().any(|route| route.name == known.route.name);
        }
        for mut route in routes {
            route.terms.upstream = places.get(route.terms.upstream).copied().unwrap_or(0);
            match self.routes.iter_mut().find(|known| known.route.name == route.name) {
                Some(known) => known.route = route,
                None => {
                    let held = self.held.remove(&*route.name);
                    self.agenda.add(route.terms.clone());
                    let cells = self.meters.of(&route.name);
                    self.routes.push(DeliveredRoute { route, cells, gone: false, held });
                }
            }
        }
        self.unsettled = true;
        for (at, known) in self.routes.iter().enumerate() {
            self.agenda.hold(at, known.held || known.gone);
        }
        for (row, route) in std::mem::take(&mut self.strangers) {
            self.stored(row, route, None, now);
        }
    }

    fn place(&mut self, upstream: Upstream) -> usize {
        let known = self.applications.iter().position(|it| same_application(&it.upstream.target, &upstream.target));
        match known.and_then(|at| Some((at, self.applications.get_mut(at)?))) {
            Some((at, known)) => {
                known.upstream = upstream;
                at
            }
            None => {
                self.applications.push(KnownApplication { upstream, pool: Rc::default() });
                self.applications.len() - 1
            }
        }
    }

    /// Gives routes their new terms, as soon as the agenda takes them.
    fn settle_terms(&mut self) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        for (at, known) in self.routes.iter().enumerate() {
            self.agenda.change(at, known.route.terms.clone());
            self.unsettled |= self.agenda.lane(at).is_some_and(|lane| lane.terms != known.route.terms);
        }
    }

    /// Tells the meters, once a second, what waits.
    fn tell(&mut self, now: Now) {
        if now.monotonic < self.told + LONGEST_REST {
            return;
        }
        self.told = now.monotonic;
        let mut waiting = vec![(0, 0); self.routes.len()];
        self.agenda.each(|route, accepted| {
            if let Some((count, oldest)) = waiting.get_mut(route) {
                *count += 1;
                *oldest = if *oldest == 0 { accepted } else { accepted.min(*oldest) };
            }
        });
        for (known, (count, oldest)) in self.routes.iter().zip(waiting) {
            known.cells.stand(count, oldest);
        }
    }

    fn plan(&self, due: &Due) -> Option<AttemptPlan> {
        let timeout = self.routes.get(due.route)?.route.timeout;
        let application = self.applications.get(self.agenda.lane(due.route)?.terms.upstream)?;
        Some(AttemptPlan { upstream: application.upstream.clone(), pool: Rc::clone(&application.pool), timeout })
    }

    fn stored(&mut self, row: DeliveryRow, route: Arc<str>, record: Option<Arc<StoredRecord>>, now: Now) {
        let Some(at) = self.routes.iter().position(|known| known.route.name == route) else {
            self.strangers.push((row, route));
            return;
        };
        if self.agenda.admit(&row, at, now) {
            record.into_iter().for_each(|record| self.keep(row.id, record));
        }
    }

    fn hold(&mut self, name: String, held: bool) {
        match self.routes.iter().position(|known| *known.route.name == *name) {
            Some(at) => {
                let gone = self.routes.get_mut(at).is_some_and(|known| {
                    known.held = held;
                    known.gone
                });
                self.agenda.hold(at, held || gone);
            }
            None if held => _ = self.held.insert(name),
            None => _ = self.held.remove(&name),
        }
    }

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

    fn hear(&mut self, news: DeliveryNews, now: Now) {
        match news {
            DeliveryNews::Stored(row, route, record) => {
                // A redriven delivery may still be known as the dead one that its key waits for.
                if row.redrives > 0 {
                    self.agenda.forget(row.id);
                }
                self.stored(row, route, record, now);
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
            DeliveryNews::Forgotten(ids) => {
                ids.iter().for_each(|id| self.forget(*id));
                if !self.strangers.is_empty() {
                    let gone: BTreeSet<DeliveryId> = ids.into_iter().collect();
                    self.strangers.retain(|(row, _)| !gone.contains(&row.id));
                }
            }
            DeliveryNews::Held(name, held) => self.hold(name, held),
            DeliveryNews::Follow(routes, upstreams) => self.follow(routes, upstreams, now),
            DeliveryNews::DeadLettersFull(full) => self.agenda.dead_letters_full = full,
            DeliveryNews::Stop(grace) => self.stopping = Some(now.monotonic.saturating_add(grace)),
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

    fn give_up_fetching(&mut self, id: DeliveryId, now: Now) {
        if self.fetching.remove(&id).is_some() {
            self.agenda.finish(id, AttemptEnd::NotSent, now);
        }
    }

    fn end_attempts(&mut self, store: &dyn StoreSide, now: Now) {
        for ended in std::mem::take(&mut self.ended) {
            self.flying -= 1;
            let id = ended.due.id;
            let route = self.agenda.route_of(id);
            let settlement = self.agenda.finish(id, ended.end, now);
            if let Some(known) = route.and_then(|at| self.routes.get(at)) {
                known.cells.ended(EndedAttempt::result(settlement.as_ref()));
                ended.tell(&*self.observer, &known.route.name, settlement.as_ref(), now);
            }
            if let Some(settlement) = settlement {
                store.settle(settlement);
            }
            self.drop_record(id);
        }
    }

    /// What can be attempted now. For what is not in memory the store is asked.
    fn due(&mut self, store: &dyn StoreSide, until: Duration, now: Now) -> Vec<(Due, Arc<StoredRecord>)> {
        let mut ready = Vec::new();
        if now.monotonic.saturating_add(self.longest) > until {
            return ready;
        }
        let arrived: Vec<DeliveryId> =
            self.fetching.keys().filter(|id| self.records.contains_key(*id)).copied().collect();
        for id in arrived {
            if let (Some(due), Some(record)) = (self.fetching.remove(&id), self.records.get(&id)) {
                ready.push((due, Arc::clone(record)));
            }
        }
        while self.stopping.is_none()
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
