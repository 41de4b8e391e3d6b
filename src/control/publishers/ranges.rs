//! One sender's list of networks: when it is fetched next, and what the answers come to.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::networks::Network;
use crate::gate::range_feed::RANGE_TEXT_LIMIT;
use crate::gate::ranges::{PublishedRanges, RangeChanges, RangeSet};
use crate::now::Now;
use crate::telemetry::readings::RangeReading;

use super::super::event_log::Level;
use super::fetching::Fetching;
use super::store::KeyStore;

/// How many times the first pause a pause after failures becomes.
const LONGEST: u32 = 20;

/// So many networks of a change are named in the log.
const NAMED: usize = 20;

/// Why a list that was fetched does not count.
enum RangeFailure {
    /// It could not be fetched.
    Gone(String),
    /// It was fetched, and is not plausible.
    Refused(String),
}

/// The networks of one sender, of the policy in force.
pub(super) struct WatchedRanges {
    ranges: Arc<PublishedRanges>,
    due: Duration,
    failures: u32,
    complaint: Option<String>,
    reading: RangeReading,
}

/// Those that `ranges` names. One that was watched before goes on as it was.
pub(super) fn after(
    mut before: Vec<WatchedRanges>,
    ranges: Vec<Arc<PublishedRanges>>,
    now: Duration,
) -> Vec<WatchedRanges> {
    let watch = |new: Arc<PublishedRanges>| {
        let known = before.iter().position(|old| old.ranges.is_same_source(&new)).map(|at| before.swap_remove(at));
        match known {
            Some(old) => {
                // What became known since the new ones were filled.
                new.put(old.ranges.current());
                WatchedRanges { ranges: new, ..old }
            }
            None => WatchedRanges::new(new, now),
        }
    };
    ranges.into_iter().map(watch).collect()
}

/// Gives networks that are not in force yet what is known: from those that are, else from disk. A copy that is newer than
/// what is on disk stays.
pub(super) fn fill(new: &PublishedRanges, followed: &[Arc<PublishedRanges>], store: &KeyStore) {
    if new.refresh().is_none() {
        return;
    }
    if let Some(old) = followed.iter().find(|old| old.is_same_source(new)) {
        return new.put(old.current());
    }
    let kept = store.load(&label(new)).and_then(|text| RangeSet::from_text(&text));
    if let Some(kept) = kept.filter(|kept| kept.as_of() > new.current().as_of()) {
        new.put(Arc::new(kept));
    }
}

/// Under which a list is kept.
fn label(ranges: &PublishedRanges) -> String {
    let source = ranges.source();
    format!("ranges {} {}", source.name, source.feed.as_ref().map_or("", |feed| feed.url.as_str()))
}

impl WatchedRanges {
    fn new(ranges: Arc<PublishedRanges>, now: Duration) -> Self {
        let reading = RangeReading { sender: ranges.source().name.clone(), ..RangeReading::default() };
        Self { ranges, due: now, failures: 0, complaint: None, reading }
    }

    /// When the list is to be fetched, if it ever is.
    pub(super) fn due(&self) -> Option<Duration> {
        self.ranges.refresh().map(|_| self.due)
    }

    /// Fetches the list if it is time, and says whether it did.
    pub(super) fn attend(&mut self, fetching: &Fetching, store: &KeyStore, now: impl Fn() -> Now) -> bool {
        let Some(refresh) = self.ranges.refresh().filter(|_| now().monotonic >= self.due) else { return false };
        let Some(url) = self.ranges.source().feed.as_ref().map(|feed| feed.url.clone()) else { return false };
        let fetched = fetching.client.fetch_within(&url, RANGE_TEXT_LIMIT);
        let now = now();
        let outcome = fetched.map_err(|error| RangeFailure::Gone(error.to_string())).and_then(|text| {
            self.ranges.read(&text, now.unix.as_secs()).map_err(|error| RangeFailure::Refused(error.to_string()))
        });
        match outcome {
            Ok(set) => {
                self.take(set, fetching, store);
                self.due = now.monotonic.saturating_add(refresh);
            }
            Err(failure) => {
                let pause = fetching.pace.retry.saturating_mul(2_u32.saturating_pow(self.failures).min(LONGEST));
                self.failures = self.failures.saturating_add(1);
                self.due = now.monotonic.saturating_add(pause.min(refresh));
                self.complain(failure, &url, fetching);
            }
        }
        true
    }

    fn take(&mut self, set: RangeSet, fetching: &Fetching, store: &KeyStore) {
        let name = &self.ranges.source().name;
        self.failures = 0;
        self.reading.succeeded += 1;
        let changes = self.ranges.current().changes(&set);
        let count = set.networks().len();
        if changes != RangeChanges::default() {
            let message = format!("the networks of {name} changed: {}; {count} in all", told(&changes));
            fetching.log.event(Level::Warn, &message);
        } else if self.complaint.is_some() || self.reading.succeeded == 1 {
            fetching.log.event(Level::Info, &format!("the networks of {name} are as they were ({count})"));
        }
        self.complaint = None;
        let text = set.to_text();
        self.ranges.put(Arc::new(set));
        if let Err(error) = store.save(&label(&self.ranges), text.as_bytes()) {
            let message = format!("the networks of {name} cannot be kept for the next start: {error}");
            if self.reading.succeeded == 1 {
                fetching.log.event(Level::Warn, &message);
            }
        }
    }

    fn complain(&mut self, failure: RangeFailure, url: &str, fetching: &Fetching) {
        let name = &self.ranges.source().name;
        let count = self.ranges.current().networks().len();
        let why = match failure {
            RangeFailure::Gone(why) => {
                self.reading.failed += 1;
                format!("the networks of {name} cannot be fetched from {url}: {why}")
            }
            RangeFailure::Refused(why) => {
                self.reading.refused += 1;
                format!("the list at {url} does not become the networks of {name}: {why}")
            }
        };
        if self.complaint.as_ref() != Some(&why) {
            fetching.log.event(Level::Warn, &format!("{why}; {count} that are known stay in use"));
            self.complaint = Some(why);
        }
    }

    pub(super) fn reading(&self) -> RangeReading {
        let current = self.ranges.current();
        let networks = current.networks().len() as u64;
        RangeReading { networks, as_of: current.as_of(), error: self.complaint.clone(), ..self.reading.clone() }
    }
}

/// What changed, as far as a line can hold it.
fn told(changes: &RangeChanges) -> String {
    let list = |word: &str, networks: &[Network]| {
        let named: Vec<String> = networks.iter().take(NAMED).map(ToString::to_string).collect();
        let more = networks.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!networks.is_empty()).then(|| format!("{word} {}{more}", named.join(", ")))
    };
    let parts = [list("added", &changes.added), list("removed", &changes.removed)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_change_is_told_network_by_network_up_to_a_bound() {
        let network = |text: &str| Network::parse(text).unwrap();
        let one = RangeChanges { added: vec![network("1.2.3.4")], removed: vec![network("5.6.0.0/16")] };
        assert_eq!(told(&one), "added 1.2.3.4/32; removed 5.6.0.0/16");
        let many = (0..25).map(|last| network(&format!("1.2.3.{last}"))).collect();
        let text = told(&RangeChanges { added: many, removed: Vec::new() });
        assert!(text.starts_with("added 1.2.3.0/32, ") && text.ends_with(" and 5 more"), "{text}");
    }
}
