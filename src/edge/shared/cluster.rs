//! A cluster: which node has which slots, and a connection of this worker to each node in use.
//!
//! The map is that of the process: one worker asks for it, at most every quarter of a second, and the others take what it has
//! found. So an outage makes no herd of questions. What a single node says of a slot counts for the worker that was told.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::greeting::{Replies, trouble_of};
use super::line::{self, mixed};
use super::link::EngineLink;
use super::{EnginePlace, EngineTerms, dial};
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream as _;
use crate::edge::runtime::target::Target;
use crate::edge::worker::Worker;
use crate::ledger::shared::{ClusterErrand, EngineTrouble, SILENCE, SlotMap};
use crate::wire::resp;

/// The map is asked for again after this time at the earliest, and up to as much again, by chance.
const REST: Duration = Duration::from_millis(250);

/// So often a worker looks whether another one has found a newer map.
const LOOK: Duration = Duration::from_secs(1);

/// What all workers know of the cluster.
#[derive(Debug, Default)]
pub struct ClusterView {
    known: Mutex<KnownMap>,
    generation: AtomicU64,
    /// When it may be asked for again, in milliseconds of the monotonic clock.
    next: AtomicU64,
}

/// What was found last.
#[derive(Clone, Debug, Default)]
struct KnownMap {
    map: Arc<SlotMap>,
    /// Why nothing was found the last time.
    trouble: Option<EngineTrouble>,
}

impl ClusterView {
    /// What was found last, and a number that changes with it.
    fn current(&self) -> (u64, KnownMap) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation.load(Ordering::Acquire), known.clone())
    }

    fn publish(&self, found: Result<SlotMap, EngineTrouble>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.trouble = found.as_ref().err().copied();
        found.into_iter().for_each(|map| known.map = Arc::new(map));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Whether this worker is to ask for the map now.
    fn begin(&self, now: Duration, chance: u64) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let after = millis(now + REST) + chance % millis(REST);
        let due = millis(now) >= next;
        due && self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Where a cluster is.
#[derive(Clone, Debug)]
pub struct ClusterTerms {
    /// Nodes of it.
    pub seeds: Vec<Target>,
    /// What is known of the others.
    pub view: Arc<ClusterView>,
}

/// Connects to the nodes that the routes need, before connections are accepted, and keeps what belongs to a cluster.
pub async fn begin<N: Net>(worker: &Rc<Worker<N>>, link: &Rc<EngineLink>) {
    let mapping = Rc::new(Cell::new(false));
    let seen = Rc::new(Cell::new(0));
    map(worker, link, &seen).await;
    for node in nodes_of_routes(worker, link) {
        let Some(lane) = link.book.borrow_mut().begin_lane(node) else { continue };
        let opened = line::open(worker, link, Some(node)).await;
        let place = line::LanePlace { lane, node: Some(node) };
        monoio::spawn(line::keep(Rc::clone(worker), Rc::clone(link), place, Some(opened)));
    }
    line::stand(worker, link);
    monoio::spawn(supervise(Rc::clone(worker), Rc::clone(link), (mapping, seen)));
}

/// The nodes of the routes that share something, each once.
fn nodes_of_routes<N: Net>(worker: &Worker<N>, link: &EngineLink) -> Vec<SocketAddr> {
    let EnginePlace::Cluster(cluster) = &link.terms.place else { return Vec::new() };
    let (policy, (_, KnownMap { map, .. })) = (worker.policy(), cluster.view.current());
    let shares = |route: &&crate::gate::route::Route| route.replay.is_some() || route.admission.rate_shared.is_some();
    let slots = policy.gate.routes.routes().iter().filter(shares).map(|route| link.key().rate(&route.name).slot());
    let mut nodes: Vec<SocketAddr> = slots.filter_map(|slot| map.node(slot)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Does what the book of the worker asks for; does not end.
async fn supervise<N: Net>(
    worker: Rc<Worker<N>>,
    link: Rc<EngineLink>,
    (mapping, seen): (Rc<Cell<bool>>, Rc<Cell<u64>>),
) {
    loop {
        match next_errand(&link).await {
            Some(ClusterErrand::Keep(lane, node)) => {
                let place = line::LanePlace { lane, node: Some(node) };
                drop(monoio::spawn(line::keep(Rc::clone(&worker), Rc::clone(&link), place, None)));
            }
            Some(ClusterErrand::Map) if !mapping.replace(true) => {
                let (worker, link) = (Rc::clone(&worker), Rc::clone(&link));
                let (mapping, seen) = (Rc::clone(&mapping), Rc::clone(&seen));
                drop(monoio::spawn(async move {
                    map(&worker, &link, &seen).await;
                    mapping.set(false);
                }));
            }
            Some(ClusterErrand::Map) => {}
            None => _ = adopt(&worker, &link, &seen),
        }
    }
}

/// The next errand; nothing where none came for a while.
async fn next_errand(link: &EngineLink) -> Option<ClusterErrand> {
    let mut sleep = pin!(monoio::time::sleep(LOOK));
    poll_fn(|cx| match link.book.borrow_mut().errand(cx.waker()) {
        Poll::Ready(errand) => Poll::Ready(Some(errand)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Takes what was found last, if this worker does not know of it yet.
fn adopt<N: Net>(worker: &Worker<N>, link: &EngineLink, seen: &Cell<u64>) -> bool {
    let EnginePlace::Cluster(cluster) = &link.terms.place else { return false };
    let (generation, KnownMap { map, trouble }) = cluster.view.current();
    let newer = seen.replace(generation) != generation;
    if newer {
        let mut book = link.book.borrow_mut();
        book.adopt_map(trouble.map_or(Ok(map), Err), worker.net.monotonic());
        if trouble.is_some() {
            book.want_map();
        }
        drop(book);
        line::stand(worker, link);
    }
    newer
}

/// Waits until anything newer is known of the cluster. One worker asks for it, so that none waits for the turn of another one.
async fn map<N: Net>(worker: &Worker<N>, link: &EngineLink, seen: &Cell<u64>) {
    let EnginePlace::Cluster(cluster) = &link.terms.place else { return };
    let mut chance = link.terms.process ^ link.worker as u64;
    while !adopt(worker, link, seen) {
        chance = mixed(chance ^ u64::try_from(worker.net.monotonic().as_nanos()).unwrap_or(0));
        if cluster.view.begin(worker.net.monotonic(), chance) {
            cluster.view.publish(find(worker, &link.terms, cluster, chance as usize).await);
        } else {
            monoio::time::sleep(REST / 8).await;
        }
    }
}

/// Asks one node after the other, beginning at a place that differs between processes, until one has an answer.
async fn find<N: Net>(
    worker: &Worker<N>,
    terms: &EngineTerms,
    cluster: &ClusterTerms,
    first: usize,
) -> Result<SlotMap, EngineTrouble> {
    let mut nodes: Vec<SocketAddr> = cluster.view.current().1.map.nodes().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let count = nodes.len().max(1);
    let known = nodes.iter().cycle().skip(first % count).take(nodes.len()).map(|node| dial::at(*node));
    let mut trouble = EngineTrouble::Unreachable;
    for node in known.chain(cluster.seeds.iter().cloned()) {
        match ask(worker, terms, &node).await {
            Ok(map) => return Ok(map),
            Err(EngineTrouble::Unreachable) if trouble != EngineTrouble::Unreachable => {}
            Err(why) => trouble = why,
        }
    }
    Err(trouble)
}

async fn ask<N: Net>(worker: &Worker<N>, terms: &EngineTerms, node: &Target) -> Result<SlotMap, EngineTrouble> {
    let mut stream = dial::connect(worker, terms, node).await?;
    let deadline = worker.net.monotonic() + terms.response_timeout.max(SILENCE);
    let mut out = Vec::new();
    if let Some(password) = &terms.password {
        let user = terms.username.as_deref().unwrap_or("default").as_bytes();
        resp::command(&mut out, &[b"AUTH", user, password]);
    }
    resp::command(&mut out, &[b"CLUSTER", b"SLOTS"]);
    let length = out.len();
    let (written, _) = stream.write_all(out, 0..length, deadline).await;
    written.map_err(|error| trouble_of(&error))?;
    let mut replies = Replies::default();
    if terms.password.is_some()
        && let Some(resp::RespValue::Failure(error)) = resp::values(replies.next(&mut stream, deadline).await?).next()
    {
        return Err(EngineTrouble::of_error(error));
    }
    let Target::Tcp(addresses) = node else { return Err(EngineTrouble::Malformed) };
    let asked = addresses.current().first().map(SocketAddr::ip);
    SlotMap::of(replies.next(&mut stream, deadline).await?, asked)
}
