//! Keys that senders publish at a URL: one thread fetches them, keeps what it has fetched last on disk, and replaces what
//! routes verify with. No worker ever waits for it.
//!
//! A URL is one of the configuration or of a preset, or one that a delivery names within what its scheme pins. A delivery
//! that names a key that is not known is refused, and rings a bell; the thread looks at the bells twice a second and asks
//! the publisher at most so often.
//!
//! The same thread fetches the networks that senders publish, where the configuration asks for that.

mod chains;
mod client;
mod fetching;
mod pinned;
mod ranges;
mod sources;
mod store;
mod watched;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::config::section::published::PublishedKeySettings;
use crate::edge::clock::Clock;
use crate::gate::confirming::{ConfirmOffer, Confirmations};
use crate::gate::errand::ErrandEnd;
use crate::telemetry::readings::{PublisherReading, RangeReading};

use super::event_log::{EventLog, Level};
use chains::ChainJudge;
pub use client::{FetchError, KeyClient};
pub use fetching::{FetchPace, Fetching};
use pinned::WatchedPins;
use ranges::WatchedRanges;
pub use sources::KeySources;
use store::KeyStore;
use watched::WatchedPublisher;

/// Keeps the published keys of the policy in force fresh until it is dropped.
pub struct Publishers {
    store: KeyStore,
    chains: ChainJudge,
    clock: Clock,
    followed: Mutex<KeySources>,
    follow: Sender<KeySources>,
    readings: Readings,
    ranges: RangeReadings,
}

/// What is to be told, by URL, and by the name of the sender.
type Readings = Arc<Mutex<BTreeMap<Arc<str>, PublisherReading>>>;
type RangeReadings = Arc<Mutex<Vec<RangeReading>>>;

impl std::fmt::Debug for Publishers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publishers").finish_non_exhaustive()
    }
}

impl Publishers {
    /// Starts the thread. It has nothing to do until [`Publishers::follow`].
    #[must_use]
    pub fn start(fetching: Fetching) -> Self {
        let (follow, followed) = channel();
        let store = KeyStore::new(fetching.cache.clone());
        let (readings, ranges) = (Readings::default(), RangeReadings::default());
        let (shared, shared_ranges) = (Arc::clone(&readings), Arc::clone(&ranges));
        let thread_store = store.clone();
        let (chains, clock) = (fetching.client.chains().clone(), Clock::start());
        let run = move || {
            let clock = Clock::start();
            Fetcher { fetching, store: thread_store, readings: shared, ranges: shared_ranges, clock }.run(&followed);
        };
        // Where there can be no thread, nothing is fetched, and routes refuse for want of keys.
        let _ = thread::Builder::new().name("keys".to_owned()).spawn(run);
        Self { store, chains, clock, followed: Mutex::default(), follow, readings, ranges }
    }

    /// With the settings of a configuration. Nothing is trusted where authorities cannot be read, and the log says so.
    #[must_use]
    pub fn of(settings: &PublishedKeySettings, log: Arc<EventLog>) -> Self {
        let client = KeyClient::new(settings.authorities.as_deref());
        let (cache, pace) = (settings.cache.clone(), FetchPace::every(settings.refresh));
        Self::start(Fetching { client, cache, pace, log })
    }

    /// Gives keys that are not in force yet what is known: from those that are, else from disk. To be called before
    /// they are put in force, so that no delivery meets a route without keys that had some.
    pub fn fill(&self, keys: &KeySources) {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        keys.ranges.iter().for_each(|new| ranges::fill(new, &followed.ranges, &self.store));
        for new in keys.pinned.iter().filter(|new| new.urls().is_empty()) {
            pinned::fill(new, &followed.pinned, &self.store, &self.chains, self.clock.now());
        }
        for new in keys.sets.iter().filter(|new| new.current().is_none()) {
            let known = followed.sets.iter().find(|old| old.is_same_source(new)).and_then(|old| old.current());
            let kept = || self.store.load(new.url()).and_then(|text| new.read(&text).ok()).map(Arc::new);
            if let Some(set) = known.or_else(kept) {
                new.put(set);
            }
        }
    }

    /// From now on keeps these keys fresh, and no others.
    pub fn follow(&self, keys: KeySources) {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&keys);
        // The thread ends only after this end of the channel does.
        let _ = self.follow.send(keys);
    }

    /// What there is to be told of each publisher.
    #[must_use]
    pub fn readings(&self) -> Vec<PublisherReading> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What there is to be told of the networks of each sender.
    #[must_use]
    pub fn range_readings(&self) -> Vec<RangeReading> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the thread looks after.
#[derive(Default)]
struct Attended {
    sets: Vec<WatchedPublisher>,
    pins: Vec<WatchedPins>,
    confirmations: Vec<Arc<Confirmations>>,
    ranges: Vec<WatchedRanges>,
}

impl Attended {
    /// The same for what another policy has.
    fn after(self, keys: KeySources, now: Duration) -> Self {
        Self {
            sets: watched::after(self.sets, keys.sets, now),
            pins: pinned::after(self.pins, keys.pinned, now),
            confirmations: keys.confirmations,
            ranges: ranges::after(self.ranges, keys.ranges, now),
        }
    }

    /// When there is something to do that no delivery asks for.
    fn due(&self, now: Duration, pace: &FetchPace) -> Option<Duration> {
        let sets = self.sets.iter().map(WatchedPublisher::due);
        let pins = self.pins.iter().filter_map(|one| one.due(now, pace));
        sets.chain(pins).chain(self.ranges.iter().filter_map(WatchedRanges::due)).min()
    }
}

struct Fetcher {
    fetching: Fetching,
    store: KeyStore,
    readings: Readings,
    ranges: RangeReadings,
    clock: Clock,
}

impl Fetcher {
    fn run(&self, followed: &Receiver<KeySources>) {
        let mut watch = Attended::default();
        loop {
            self.attend_all(&mut watch);
            let now = self.clock.monotonic();
            let outcome = match watch.due(now, &self.fetching.pace) {
                // Nothing to watch: nothing but another configuration changes that.
                None if watch.pins.is_empty() && watch.confirmations.is_empty() => {
                    followed.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
                due => {
                    let pause = due.map_or(self.fetching.pace.bell, |due| due.saturating_sub(now));
                    followed.recv_timeout(pause.min(self.fetching.pace.bell))
                }
            };
            match outcome {
                Ok(keys) => {
                    watch = watch.after(keys, self.clock.monotonic());
                    self.tell(&watch);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn attend_all(&self, watch: &mut Attended) {
        for one in &mut watch.sets {
            self.attend(one);
        }
        for one in &mut watch.pins {
            if one.attend(&self.fetching, &self.store, self.clock.now()) {
                self.tell_one(one.reading());
            }
        }
        for one in &mut watch.ranges {
            if one.attend(&self.fetching, &self.store, || self.clock.now()) {
                let mut readings = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
                let told = one.reading();
                readings.iter_mut().filter(|known| known.sender == told.sender).for_each(|known| *known = told.clone());
            }
        }
        watch.confirmations.iter().filter_map(|waiting| waiting.begin_next()).for_each(|offer| self.confirm(&offer));
    }

    fn attend(&self, one: &mut WatchedPublisher) {
        if !one.is_due(self.clock.monotonic(), &self.fetching.pace) {
            return;
        }
        let fetched = self.fetching.client.get(one.url());
        let now = self.clock.now();
        if let Some(text) = one.take(fetched, now, &self.fetching)
            && let Err(error) = self.store.save(one.url(), &text)
        {
            one.complain_about_disk(&error, &self.fetching.log);
        }
        self.tell_one(one.reading());
    }

    /// Asks the sender to confirm a subscription.
    fn confirm(&self, offer: &ConfirmOffer) {
        let url = offer.url.split('?').next().unwrap_or_default();
        let end = match self.fetching.client.fetch(&offer.url) {
            Ok(_) => {
                self.fetching.log.event(Level::Info, &format!("a subscription is confirmed at {url}"));
                ErrandEnd::Done
            }
            Err(why) => {
                self.fetching.log.event(Level::Warn, &format!("a subscription is not confirmed at {url}: {why}"));
                ErrandEnd::Failed
            }
        };
        offer.fate.end(end);
        offer.bells.ring();
    }

    fn tell_one(&self, reading: PublisherReading) {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.insert(Arc::from(reading.url.as_str()), reading);
    }

    fn tell(&self, watch: &Attended) {
        let all = watch.sets.iter().map(WatchedPublisher::reading).chain(watch.pins.iter().map(WatchedPins::reading));
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        *readings = all.map(|reading| (Arc::from(reading.url.as_str()), reading)).collect();
        let ranges = watch.ranges.iter().map(WatchedRanges::reading).collect();
        *self.ranges.lock().unwrap_or_else(PoisonError::into_inner) = ranges;
    }
}
