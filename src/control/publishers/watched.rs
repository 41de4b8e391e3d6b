//! One publisher: when it is asked next, and what its answers come to.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::verify::published::PublishedKeys;
use crate::gate::verify::sha256;
use crate::now::Now;
use crate::telemetry::readings::PublisherReading;

use super::super::event_log::{EventLog, Level};
use super::fetching::{FetchPace, Fetching};

/// How many times the first pause a pause after failures becomes.
const LONGEST: u32 = 20;

/// A publisher, and the keys of the policy in force that are its.
pub(super) struct WatchedPublisher {
    url: Arc<str>,
    keys: Vec<Arc<PublishedKeys>>,
    due: Duration,
    tried: Option<Duration>,
    rung: bool,
    failures: u32,
    text: Option<[u8; 32]>,
    complaint: Option<String>,
    disk: bool,
    reading: PublisherReading,
}

/// The publishers of `keys`, each once. One that was watched before goes on as it was.
pub(super) fn after(
    mut before: Vec<WatchedPublisher>,
    keys: Vec<Arc<PublishedKeys>>,
    now: Duration,
) -> Vec<WatchedPublisher> {
    let mut watched: Vec<WatchedPublisher> = Vec::new();
    for new in keys {
        if let Some(one) = watched.iter_mut().find(|one| one.url() == new.url()) {
            one.due = if new.current().is_none() { now } else { one.due };
            one.keys.push(new);
            continue;
        }
        let known = before.iter().position(|one| one.url() == new.url()).map(|at| before.swap_remove(at));
        watched.push(match known {
            Some(one) => {
                let same = one.keys.iter().any(|old| old.is_same_source(&new));
                let due = if same && new.current().is_some() { one.due } else { now };
                // Another use of the same text needs it again.
                let text = one.text.filter(|_| same);
                WatchedPublisher { keys: vec![new], due, text, ..one }
            }
            None => WatchedPublisher::new(new, now),
        });
    }
    watched
}

impl WatchedPublisher {
    fn new(keys: Arc<PublishedKeys>, now: Duration) -> Self {
        let reading = PublisherReading { url: keys.url().to_string(), ..PublisherReading::default() };
        Self {
            url: Arc::clone(keys.url()),
            keys: vec![keys],
            due: now,
            tried: None,
            rung: false,
            failures: 0,
            text: None,
            complaint: None,
            disk: false,
            reading,
        }
    }

    pub(super) const fn url(&self) -> &Arc<str> {
        &self.url
    }

    pub(super) const fn due(&self) -> Duration {
        self.due
    }

    /// Whether it is to be asked now. Takes note of the bells.
    pub(super) fn is_due(&mut self, now: Duration, pace: &FetchPace) -> bool {
        for keys in &self.keys {
            self.rung |= keys.was_asked();
        }
        let spaced = self.tried.is_none_or(|tried| now >= tried.saturating_add(pace.asked));
        let due = now >= self.due || self.rung && spaced;
        if due {
            self.tried = Some(now);
            self.rung = false;
        }
        due
    }

    /// What was fetched takes the place of what was known, or nothing changes. Gives the text where it is another one.
    pub(super) fn take(&mut self, fetched: Result<Vec<u8>, String>, now: Now, fetching: &Fetching) -> Option<Vec<u8>> {
        let Fetching { pace, log, .. } = fetching;
        let outcome = fetched.and_then(|text| self.put(text, log));
        match outcome {
            Ok(text) => {
                self.failures = 0;
                self.due = now.monotonic.saturating_add(pace.refresh);
                self.reading.succeeded += 1;
                self.reading.fetched = Some(now.unix.as_secs());
                if self.complaint.take().is_some() {
                    log.event(Level::Info, &format!("the keys at {} can be fetched again", self.url()));
                }
                text
            }
            Err(why) => {
                self.reading.failed += 1;
                let pause = pace.retry.saturating_mul(2_u32.saturating_pow(self.failures).min(LONGEST));
                self.failures = self.failures.saturating_add(1);
                self.due = now.monotonic.saturating_add(pause.min(pace.refresh));
                if self.complaint.as_ref() != Some(&why) {
                    let known = match self.count() {
                        0 => "none is known, and deliveries are refused".to_owned(),
                        count => format!("{count} that are known stay in use"),
                    };
                    log.event(Level::Warn, &format!("the keys at {} cannot be fetched: {why}; {known}", self.url()));
                    self.complaint = Some(why);
                }
                None
            }
        }
    }

    /// Either every use of the text has keys in it, or nothing changes.
    fn put(&mut self, text: Vec<u8>, log: &EventLog) -> Result<Option<Vec<u8>>, String> {
        let digest = sha256(&text);
        if self.text == Some(digest) && self.keys.iter().all(|keys| keys.current().is_some()) {
            return Ok(None);
        }
        let read = |keys: &Arc<PublishedKeys>| keys.read(&text).map(Arc::new).map_err(|error| error.to_string());
        let sets = self.keys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let differs = self.keys.iter().zip(&sets).any(|(keys, new)| {
            let before = keys.current();
            before.is_some_and(|before| !before.overlaps(new))
        });
        for (keys, set) in self.keys.iter().zip(sets) {
            keys.put(set);
        }
        let (url, count) = (self.url(), self.count());
        if differs {
            let message =
                format!("the keys at {url} are all others than before ({count}): is that what the sender meant?");
            log.event(Level::Warn, &message);
        } else {
            log.event(Level::Info, &format!("the keys at {url} are in use ({count})"));
        }
        self.text = Some(digest);
        Ok(Some(text))
    }

    pub(super) fn complain_about_disk(&mut self, error: &std::io::Error, log: &EventLog) {
        if !core::mem::replace(&mut self.disk, true) {
            log.event(Level::Warn, &format!("the keys at {} cannot be kept for the next start: {error}", self.url()));
        }
    }

    fn count(&self) -> usize {
        self.keys.iter().filter_map(|keys| keys.current()).map(|set| set.count()).max().unwrap_or(0)
    }

    pub(super) fn reading(&self) -> PublisherReading {
        PublisherReading { keys: self.count() as u64, error: self.complaint.clone(), ..self.reading.clone() }
    }
}
