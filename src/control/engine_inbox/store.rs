//! Deliveries in the engine, as a store.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::control::inbox::keys::KeyRing;
use crate::edge::clock::Clock;
use crate::edge::shared::EngineTerms;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::engine::answers::{InboxAnswer, InboxCounts, InboxRefusal};
use crate::inbox::engine::promise::Durability;
use crate::inbox::engine::scripts::InboxScript;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{
    Committed, DeliveryStore, Fetched, Settlement, StoreOrder, StoreRefusal, StoreStanding, StoreTrouble, StoredRecord,
};
use crate::now::Now;

use super::dial::DialTerms;
use super::link::{LinkNews, StoreLink};
use super::sealing::RecordSealer;

/// For all answers to what is asked at once. A disk that fsyncs for longer does not work.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bounds, keys, and the engine.
#[derive(Debug)]
pub struct EngineInboxTerms {
    /// How the engine is talked to.
    pub engine: EngineTerms,
    /// Bytes of all records together, those of all replicas.
    pub size: u64,
    /// Bytes of records of dead letters.
    pub dead_size: u64,
    /// Deliveries, dead letters included, those of all replicas.
    pub deliveries: u64,
    /// Dead letters are removed when they are so old, in milliseconds; 0 for never.
    pub retention: u64,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// The configuration vouches for what the engine does not say of itself.
    pub trusted: bool,
    /// The keys of the encryption at rest.
    pub keys: KeyRing,
    /// For how long the holding of a replica is leased: longer than the longest attempt.
    pub lease: LeaseTime,
    /// The clock of the process.
    pub clock: Clock,
}

/// The holding of this replica: what it attempts.
#[derive(Debug)]
pub(super) struct LeasedHolding {
    /// Its name, in 16 digits.
    pub(super) name: String,
    /// The number of the last put.
    pub(super) puts: u64,
    /// A put of this number may have been done or not.
    pub(super) unknown: Option<u64>,
    /// Until then the lease lasts at least.
    pub(super) until: Duration,
}

/// Deliveries in the engine, as one replica sees them.
pub struct EngineStore {
    pub(super) link: StoreLink,
    pub(super) bounds: EngineBounds,
    pub(super) sealer: RecordSealer,
    pub(super) holding: Option<LeasedHolding>,
    /// What this replica attempts, and dead letters for which a key of it waits.
    pub(super) owned: HashMap<DeliveryId, DeliveryRow>,
    pub(super) untaken: VecDeque<DeliveryRow>,
    pub(super) gone: Vec<DeliveryId>,
    /// Settlements that are not in the engine yet.
    pub(super) later: Vec<Settlement>,
    /// Their key is missing.
    pub(super) locked: BTreeMap<DeliveryId, DeliveryRow>,
    pub(super) routes: Vec<String>,
    pub(super) held: Vec<String>,
    pub(super) held_changes: Vec<(String, bool)>,
    pub(super) counts: InboxCounts,
    /// So many bytes of dead letters there were when there was no room for another one.
    pub(super) dead_full: Option<u64>,
    pub(super) next_tick: Duration,
    pub(super) failing_since: Option<u64>,
    pub(super) expired: Vec<DeliveryId>,
    pub(super) notes: Vec<String>,
    pub(super) taken_over: u64,
    pub(super) fenced: u64,
    /// The connection over which it was looked at what is in the holding.
    looked_over: u64,
    means: String,
    /// Why it could not be opened the last time that the engine was asked.
    cannot: String,
}

/// What the inbox may hold.
#[derive(Debug)]
pub(super) struct EngineBounds {
    pub(super) size: u64,
    pub(super) dead_size: u64,
    pub(super) deliveries: u64,
    pub(super) retention: u64,
    pub(super) lease: LeaseTime,
}

/// For how long a holding is leased. Clones share it: another configuration may ask for longer attempts.
#[derive(Clone, Debug)]
pub struct LeaseTime(Arc<AtomicU64>);

impl LeaseTime {
    /// So long.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        let time = Self(Arc::default());
        time.set(lease);
        time
    }

    /// So long from the next tick on.
    pub fn set(&self, lease: Duration) {
        self.0.store(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    pub(super) fn current(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Acquire))
    }
}

impl fmt::Debug for EngineStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineStore").field("holding", &self.holding).finish_non_exhaustive()
    }
}

pub(super) fn unix(now: Now) -> u64 {
    u64::try_from(now.unix_millis()).unwrap_or(0)
}

pub(super) fn number_text(number: u64) -> String {
    number.to_string()
}

impl EngineStore {
    /// A store that has not asked the engine yet; nothing where the system has no randomness.
    #[must_use]
    pub fn new(terms: EngineInboxTerms) -> Option<Self> {
        let EngineInboxTerms { engine, size, dead_size, deliveries, retention, lease, .. } = terms;
        let dial = DialTerms {
            engine,
            durability: terms.durability,
            trusted: terms.trusted,
            patience: PATIENCE,
            clock: terms.clock,
        };
        Some(Self {
            link: StoreLink::new(dial),
            bounds: EngineBounds { size, dead_size, deliveries, retention, lease },
            sealer: RecordSealer::new(terms.keys)?,
            holding: None,
            owned: HashMap::new(),
            untaken: VecDeque::new(),
            gone: Vec::new(),
            later: Vec::new(),
            locked: BTreeMap::new(),
            routes: Vec::new(),
            held: Vec::new(),
            held_changes: Vec::new(),
            counts: InboxCounts::default(),
            dead_full: None,
            next_tick: Duration::ZERO,
            failing_since: None,
            expired: Vec::new(),
            notes: Vec::new(),
            taken_over: 0,
            fenced: 0,
            looked_over: 0,
            means: String::new(),
            cannot: "the engine cannot be asked".to_owned(),
        })
    }

    /// Connects and begins a holding.
    ///
    /// # Errors
    /// Why deliveries cannot be kept at the moment.
    pub fn open(&mut self, now: Now) -> Result<(), String> {
        let mut done = Committed::default();
        self.mend(now, &mut done);
        if self.holding.is_some() && self.failing_since.is_none() {
            return Ok(());
        }
        if let Some(why) = self.take_notes().pop() {
            self.cannot = why;
        }
        Err(self.cannot.clone())
    }

    /// What a 202 means with the engine as it was found last; empty before.
    #[must_use]
    pub fn means(&self) -> &str {
        &self.means
    }

    /// What the operator is to be told.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Dead letters that this replica has removed at the end of their retention.
    pub fn take_expired(&mut self) -> Vec<DeliveryId> {
        std::mem::take(&mut self.expired)
    }

    /// Whether the engine can be asked, and there is a holding in it.
    pub(super) fn reach(&mut self, now: Now, without_pause: bool) -> bool {
        let reached = self.link.reach(without_pause) && self.look_again() && (self.holding.is_some() || self.begin());
        for news in self.link.take_news() {
            match news {
                LinkNews::Up(means) => self.means = means,
                LinkNews::Down(why) => {
                    self.notes.push(format!("the engine does not keep deliveries, and its routes answer 503: {why}"));
                }
            }
        }
        if reached {
            self.failing_since = None;
        } else if self.failing_since.is_none() {
            self.failing_since = Some(unix(now));
        }
        reached
    }

    /// With each new connection it is looked at what is in the holding.
    fn look_again(&mut self) -> bool {
        if self.looked_over == self.link.connections || self.holding.is_none() {
            return true;
        }
        let looked = self.reconcile();
        if looked {
            self.looked_over = self.link.connections;
        }
        looked
    }

    fn begin(&mut self) -> bool {
        let mut random = [0; 8];
        if SystemRandom::new().fill(&mut random).is_err() {
            return false;
        }
        let name = format!("{:016x}", u64::from_le_bytes(random));
        let asked = self.link.now();
        let lease = self.bounds.lease.current();
        let text = number_text(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        // What the user may not do is found out before anything is acknowledged.
        for (script, arguments) in
            [(InboxScript::Probe, &[][..]), (InboxScript::Begin, &[name.as_bytes(), text.as_bytes()][..])]
        {
            let Ok(reply) = self.link.call(script, arguments) else { return false };
            if let Err(refusal) = InboxAnswer::of(&reply) {
                self.link.doubt(&refusal);
                return false;
            }
        }
        self.looked_over = self.link.connections;
        self.holding = Some(LeasedHolding { name, puts: 0, unknown: None, until: asked + lease });
        self.next_tick = Duration::ZERO;
        true
    }

    /// The name of the holding.
    pub(super) fn me(&self) -> String {
        self.holding.as_ref().map(|holding| holding.name.clone()).unwrap_or_default()
    }

    /// What the engine did not do, or did otherwise. Gives whether it makes sense to ask again.
    pub(super) fn refused(&mut self, refusal: &InboxRefusal) -> bool {
        match refusal {
            InboxRefusal::Lost => {
                self.lose();
                true
            }
            InboxRefusal::Full => false,
            _ => {
                self.link.doubt(refusal);
                false
            }
        }
    }

    /// Another replica has taken over what this one had: it is attempted there.
    fn lose(&mut self) {
        self.holding = None;
        self.untaken.clear();
        self.fenced += self.later.len() as u64;
        let lost = self.owned.len();
        self.gone.extend(self.owned.drain().map(|(id, _)| id));
        self.locked.clear();
        self.notes.push(format!(
            "the engine does not have what this replica had: its lease had run out, and {lost} deliveries are attempted by another \
             replica; or the engine was emptied, and they are lost"
        ));
    }

    /// A delivery is this replica's to attempt from now on, and is given by [`DeliveryStore::take`].
    pub(super) fn own(&mut self, row: DeliveryRow) {
        self.owned.insert(row.id, row.clone());
        self.untaken.push_back(row);
    }
}

impl DeliveryStore for EngineStore {
    fn commit(
        &mut self,
        fresh: &[FreshDelivery<'_>],
        settlements: &[Settlement],
        now: Now,
        done: &mut Committed,
    ) -> Result<(), StoreRefusal> {
        self.later.extend(settlements);
        // What became of an earlier put is found out before the next one takes its place.
        if !self.reach(now, false) || !self.resolve() {
            return if fresh.is_empty() { Ok(()) } else { Err(StoreRefusal::Failed) };
        }
        self.flush(now, done);
        if fresh.is_empty() { Ok(()) } else { self.put(fresh, now, done) }
    }

    fn unwritten(&self) -> usize {
        self.later.len()
    }

    fn take(&mut self, room: usize, out: &mut Vec<DeliveryRow>) {
        let count = room.min(self.untaken.len());
        out.extend(self.untaken.drain(..count));
    }

    fn fetch(&mut self, id: DeliveryId, into: &mut StoredRecord) -> Result<Fetched, StoreTrouble> {
        self.look_up(id, into)
    }

    fn browse(
        &mut self,
        filter: &DeliveryFilter,
        after: Option<DeliveryId>,
        room: usize,
        out: &mut Vec<DeliveryRow>,
    ) -> Result<bool, StoreTrouble> {
        self.look_through(filter, after, room, out)
    }

    fn order(&mut self, order: &StoreOrder, now: Now) -> Result<Vec<DeliveryId>, StoreTrouble> {
        if !self.reach(now, false) {
            return Err(away());
        }
        match order {
            StoreOrder::Redrive(filter, room) => self.redrive(filter, *room, now),
            StoreOrder::Purge(filter, room) => self.purge(filter, *room),
            StoreOrder::Hold(route, held) => self.hold(route, *held),
        }
    }

    fn take_gone(&mut self, out: &mut Vec<DeliveryId>) {
        out.append(&mut self.gone);
    }

    fn route_name(&self, route: u16) -> &str {
        self.routes.get(usize::from(route)).map_or("", String::as_str)
    }

    fn held_routes(&self) -> Vec<String> {
        self.held.clone()
    }

    fn take_held(&mut self, out: &mut Vec<(String, bool)>) {
        out.append(&mut self.held_changes);
    }

    fn attempts_until(&self) -> Option<Duration> {
        Some(self.holding.as_ref().map_or(Duration::ZERO, |holding| holding.until))
    }

    fn standing(&self) -> StoreStanding {
        let InboxCounts { all, dead, damaged, bytes, dead_bytes } = self.counts;
        StoreStanding {
            waiting: all.saturating_sub(dead + damaged),
            dead,
            damaged,
            locked: self.locked.len() as u64,
            bytes,
            dead_bytes,
            limit: self.bounds.size,
            failing_since: self.failing_since,
            dead_letters_full: self.dead_full.is_some(),
            taken_over: self.taken_over,
            fenced: self.fenced,
            ..StoreStanding::default()
        }
    }

    fn mend(&mut self, now: Now, done: &mut Committed) {
        if !self.reach(now, false) || !self.resolve() {
            return;
        }
        self.follow_keys();
        if !self.later.is_empty() {
            self.flush(now, done);
        }
        self.tick_when_due();
    }
}

impl Drop for EngineStore {
    /// What this replica had, others may take over at once.
    fn drop(&mut self) {
        let me = self.me();
        if !me.is_empty() && self.link.is_up() {
            let _ = self.link.call(InboxScript::Leave, &[me.as_bytes()]);
        }
    }
}

pub(super) fn away() -> StoreTrouble {
    StoreTrouble("the engine cannot be asked at the moment".to_owned())
}
