//! Keys that deliveries name: what has been named is fetched at a bounded rate, and what is known is kept fresh.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::gate::verify::pinned::{PinnedKey, PinnedKeys};
use crate::now::Now;
use crate::telemetry::readings::PublisherReading;

use super::super::event_log::{EventLog, Level};
use super::chains::ChainJudge;
use super::client::FetchError;
use super::fetching::{FetchPace, Fetching};
use super::store::KeyStore;

/// How many URLs that a delivery has named may be fetched at once; then one in a third of the time that lies between two
/// requests to a publisher because of an unknown key.
const BURST: u32 = 4;

/// The most URLs that wait, and of which it is remembered that there is no key.
const WAITING: usize = 8;
const LACKING: usize = 64;

/// How many times that time a URL without a key is not asked again.
const PAUSE: u32 = 20;

/// The keys of one scheme and route that deliveries name.
pub(super) struct WatchedPins {
    keys: Arc<PinnedKeys>,
    known: BTreeMap<Box<str>, PinnedUrl>,
    waiting: VecDeque<Box<str>>,
    /// Until when a URL at which there was no key is not asked again.
    lacking: BTreeMap<Box<str>, Duration>,
    /// How many may be fetched now, and since when that is so.
    allowance: (u32, Duration),
    complaint: Option<String>,
    reading: PublisherReading,
}

/// A URL with a key.
struct PinnedUrl {
    text: Vec<u8>,
    due: Duration,
}

/// The pins of `keys`. One that was watched before goes on as it was.
pub(super) fn after(mut before: Vec<WatchedPins>, keys: Vec<Arc<PinnedKeys>>, now: Duration) -> Vec<WatchedPins> {
    let known = |new: &Arc<PinnedKeys>, before: &mut Vec<WatchedPins>| {
        let place = before.iter().position(|old| old.keys.is_same_source(new))?;
        Some(before.swap_remove(place))
    };
    let watch = |new: Arc<PinnedKeys>| match known(&new, &mut before) {
        Some(old) => old.with(new),
        None => WatchedPins::new(new, now),
    };
    keys.into_iter().map(watch).collect()
}

impl WatchedPins {
    fn new(keys: Arc<PinnedKeys>, now: Duration) -> Self {
        let reading = PublisherReading { url: keys.locator().label(), ..PublisherReading::default() };
        let known = keys.urls().into_iter().map(|url| (url, PinnedUrl { text: Vec::new(), due: now })).collect();
        Self {
            keys,
            known,
            waiting: VecDeque::new(),
            lacking: BTreeMap::new(),
            allowance: (BURST, now),
            complaint: None,
            reading,
        }
    }

    /// The same for the keys of another configuration, with what became known since they were filled.
    fn with(self, keys: Arc<PinnedKeys>) -> Self {
        for url in self.known.keys().filter(|url| keys.at(url).is_none()) {
            let _ = self.keys.at(url).map(|key| keys.put(url, &key));
        }
        let watched = Self { keys, ..self };
        watched.tell_lacking();
        watched
    }

    /// When there is something to do without a delivery that names a key.
    pub(super) fn due(&self, now: Duration, pace: &FetchPace) -> Option<Duration> {
        let waiting = (!self.waiting.is_empty()).then(|| match self.allowance {
            (0, since) => since.saturating_add(pace.asked / 3),
            _ => now,
        });
        let known = self.known.values().map(|url| url.due);
        known.chain(waiting).chain(self.lacking.values().copied()).min()
    }

    /// Fetches at most one URL, and says whether anything was done.
    pub(super) fn attend(&mut self, fetching: &Fetching, store: &KeyStore, now: Now) -> bool {
        self.take_wanted(now.monotonic);
        self.forget_lacking(now.monotonic);
        if let Some(url) = self.next(now.monotonic, &fetching.pace) {
            self.fetch(&url, fetching, store, now);
            return true;
        }
        let due = self.known.iter().find(|(_, known)| now.monotonic >= known.due).map(|(url, _)| url.clone());
        if let Some(url) = due {
            self.fetch(&url, fetching, store, now);
            return true;
        }
        false
    }

    fn take_wanted(&mut self, now: Duration) {
        for url in self.keys.take_wanted() {
            let is_new =
                !self.known.contains_key(&url) && !self.lacking.contains_key(&url) && !self.waiting.contains(&url);
            if is_new && self.waiting.len() < WAITING {
                // A rate that was not used up is not saved for longer than a burst.
                self.allowance.1 = if self.allowance.0 == BURST { now } else { self.allowance.1 };
                self.waiting.push_back(url);
            }
        }
    }

    fn forget_lacking(&mut self, now: Duration) {
        let before = self.lacking.len();
        self.lacking.retain(|_, until| *until > now);
        if self.lacking.len() != before {
            self.tell_lacking();
        }
    }

    fn tell_lacking(&self) {
        self.keys.lacking(self.lacking.keys().cloned().collect::<BTreeSet<_>>());
    }

    /// The next URL that a delivery has named, if another may be fetched.
    fn next(&mut self, now: Duration, pace: &FetchPace) -> Option<Box<str>> {
        let interval = pace.asked / 3;
        let (mut left, mut since) = self.allowance;
        while left < BURST && now >= since.saturating_add(interval) {
            (left, since) = (left + 1, since.saturating_add(interval));
        }
        if left == BURST {
            since = now;
        }
        self.allowance = (left, since);
        let url = if left > 0 { self.waiting.pop_front()? } else { return None };
        self.allowance.0 = left - 1;
        Some(url)
    }

    fn fetch(&mut self, url: &str, fetching: &Fetching, store: &KeyStore, now: Now) {
        let Fetching { client, pace, log, .. } = fetching;
        let credential = self.keys.credential();
        let fetched = credential.map_or_else(|| client.fetch(url), |credential| client.fetch_with(url, credential));
        match fetched {
            Ok(text) => match judged(&self.keys, client.chains(), &text, now).and_then(|key| self.put(url, &key)) {
                Ok(()) => self.keep(url, text, store, fetching, now),
                Err(why) => self.lacks(url, why, pace, log, now),
            },
            Err(FetchError::Status(status @ (401 | 403))) if credential.is_some() => {
                let why = format!("the sender does not accept the credential in key_credential_file (status {status})");
                self.failed(url, why, pace, log, now);
            }
            Err(error @ (FetchError::Status(400..=499) | FetchError::Redirect(_) | FetchError::TooLong(_))) => {
                self.lacks(url, error.to_string(), pace, log, now);
            }
            Err(error) => self.failed(url, error.to_string(), pace, log, now),
        }
    }

    fn put(&self, url: &str, key: &PinnedKey) -> Result<(), String> {
        self.keys.put(url, key).map_err(|error| error.to_string())
    }

    fn keep(&mut self, url: &str, text: Vec<u8>, store: &KeyStore, fetching: &Fetching, now: Now) {
        self.reading.succeeded += 1;
        self.reading.fetched = Some(now.unix.as_secs());
        self.complaint = None;
        let due = now.monotonic.saturating_add(fetching.pace.refresh);
        let before = self.known.insert(url.into(), PinnedUrl { text: text.clone(), due });
        if before.as_ref().is_some_and(|before| before.text == text) {
            return;
        }
        fetching.log.event(Level::Info, &format!("the key at {url} is in use"));
        let list = self.known.keys().map(|url| &**url).collect::<Vec<_>>().join("\n");
        let saved = store.save(url, &text).and_then(|()| store.save(&self.keys.locator().label(), list.as_bytes()));
        if let Err(error) = saved {
            fetching.log.event(Level::Warn, &format!("the key at {url} cannot be kept for the next start: {error}"));
        }
    }

    /// There is no key at the URL.
    fn lacks(&mut self, url: &str, why: String, pace: &FetchPace, log: &EventLog, now: Now) {
        if self.known.contains_key(url) {
            return self.failed(url, why, pace, log, now);
        }
        if self.lacking.len() >= LACKING {
            let first = self.lacking.iter().min_by_key(|(_, until)| **until).map(|(url, _)| url.clone());
            first.map(|first| self.lacking.remove(&first));
        }
        self.lacking.insert(url.into(), now.monotonic.saturating_add(pace.asked.saturating_mul(PAUSE)));
        self.tell_lacking();
        self.complain(url, why, log);
    }

    /// It cannot be had now. A key that is known stays in use as long as its certificate counts.
    fn failed(&mut self, url: &str, why: String, pace: &FetchPace, log: &EventLog, now: Now) {
        if let Some(known) = self.known.get_mut(url) {
            known.due = now.monotonic.saturating_add(pace.retry.saturating_mul(8).min(pace.refresh));
            if !known.text.is_empty() && self.keys.read(&known.text, now).is_err() {
                self.known.remove(url);
                self.keys.withdraw(url);
                log.event(Level::Warn, &format!("the key at {url} does not count any more, and is out of use"));
            }
        }
        self.complain(url, why, log);
    }

    fn complain(&mut self, url: &str, why: String, log: &EventLog) {
        self.reading.failed += 1;
        if self.complaint.as_ref() != Some(&why) {
            log.event(Level::Warn, &format!("the key at {url}, which a delivery names, cannot be had: {why}"));
            self.complaint = Some(why);
        }
    }

    pub(super) fn reading(&self) -> PublisherReading {
        PublisherReading { keys: self.known.len() as u64, error: self.complaint.clone(), ..self.reading.clone() }
    }
}

/// The key in a text, if all that the scheme asks of it is so.
fn judged(keys: &PinnedKeys, chains: &ChainJudge, text: &[u8], now: Now) -> Result<PinnedKey, String> {
    let key = keys.read(text, now).map_err(|error| error.to_string())?;
    match &keys.locator().certificate {
        Some(rule) if rule.chain => chains.judge(text, &rule.names, now.unix).map(|()| key),
        _ => Ok(key),
    }
}

/// Gives keys that are not in force yet what is known: from those that are, else from disk.
pub(super) fn fill(new: &PinnedKeys, followed: &[Arc<PinnedKeys>], store: &KeyStore, chains: &ChainJudge, now: Now) {
    if let Some(old) = followed.iter().find(|old| old.is_same_source(new)) {
        for url in old.urls() {
            let _ = old.at(&url).map(|key| new.put(&url, &key));
        }
        return;
    }
    let list = store.load(&new.locator().label()).and_then(|list| String::from_utf8(list).ok()).unwrap_or_default();
    for url in list.lines().filter(|url| new.locator().admits(url.as_bytes())) {
        let key = store.load(url).and_then(|text| judged(new, chains, &text, now).ok());
        let _ = key.map(|key| new.put(url, &key));
    }
}
