//! The networks from which senders say that they call, as they are known at a moment. They are fetched elsewhere, by a thread
//! that waits; here they are values that are replaced as a whole.

use core::fmt::{self, Write as _};
use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::networks::{Network, Networks};
use super::range_feed::{self, RangeError, RangeForm};

/// Before the networks of a list that is kept on disk.
const AS_OF: &str = "# as of ";

/// Where a sender publishes its networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeFeed {
    /// `https://` and a fixed place.
    pub url: String,
    /// How the text is written.
    pub form: RangeForm,
}

/// What is known of the networks of one sender without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSource {
    /// The name under which routes allow them.
    pub name: String,
    /// A copy of the sender's list; empty where there is none.
    pub networks: Vec<Network>,
    /// Unix seconds of the day of the copy; 0 where there is none.
    pub as_of: u64,
    /// Where the list can be fetched by a program, if it can.
    pub feed: Option<RangeFeed>,
}

/// The networks of a sender as they were published together.
#[derive(Debug, PartialEq, Eq)]
pub struct RangeSet {
    networks: Vec<Network>,
    index: Networks,
    as_of: u64,
}

/// What is different in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeChanges {
    /// Networks that were not there before.
    pub added: Vec<Network>,
    /// Networks that are not there any more.
    pub removed: Vec<Network>,
}

/// The networks of one sender that count at present.
pub struct PublishedRanges {
    source: Arc<RangeSource>,
    refresh: Option<Duration>,
    current: ArcSwap<RangeSet>,
}

impl RangeSet {
    /// `as_of`: unix seconds at which it was what the sender published.
    #[must_use]
    pub fn new(mut networks: Vec<Network>, as_of: u64) -> Self {
        networks.sort_unstable();
        networks.dedup();
        let index = networks.iter().copied().collect();
        Self { networks, index, as_of }
    }

    /// Sorted, each once.
    #[must_use]
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Unix seconds at which it was what the sender published; 0 where that is not known.
    #[must_use]
    pub const fn as_of(&self) -> u64 {
        self.as_of
    }

    /// What is different in `newer`.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> RangeChanges {
        let without = |these: &[Network], those: &[Network]| {
            these.iter().filter(|it| those.binary_search(it).is_err()).copied().collect()
        };
        RangeChanges {
            added: without(&newer.networks, &self.networks),
            removed: without(&self.networks, &newer.networks),
        }
    }

    /// For the next start.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{AS_OF}{}\n", self.as_of);
        for network in &self.networks {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{network}");
        }
        text
    }

    /// What [`RangeSet::to_text`] has written; nothing for any other text, and for a list that may not be used.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let first = core::str::from_utf8(text).ok()?.lines().next()?;
        let as_of = first.strip_prefix(AS_OF)?.parse().ok()?;
        let networks = RangeForm::Lines.read(text).ok()?;
        let index = range_feed::judge(&networks).ok()?;
        Some(Self { networks, index, as_of })
    }
}

impl fmt::Debug for PublishedRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedRanges").field("name", &self.source.name).finish_non_exhaustive()
    }
}

impl PublishedRanges {
    /// With the copy that the source has. `refresh`: how often the list is to be fetched; `None` for never.
    #[must_use]
    pub fn new(source: Arc<RangeSource>, refresh: Option<Duration>) -> Self {
        let current = ArcSwap::from_pointee(RangeSet::new(source.networks.clone(), source.as_of));
        let refresh = refresh.filter(|_| source.feed.is_some());
        Self { source, refresh, current }
    }

    /// Whose they are, and where they are published.
    #[must_use]
    pub fn source(&self) -> &RangeSource {
        &self.source
    }

    /// How often they are to be fetched, where they are.
    #[must_use]
    pub const fn refresh(&self) -> Option<Duration> {
        self.refresh
    }

    /// Whether both are the same networks for the same use.
    #[must_use]
    pub fn is_same_source(&self, other: &Self) -> bool {
        self.source == other.source && self.refresh == other.refresh
    }

    /// Whether the address is one of them. Allocates nothing and waits for nothing.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.current.load().index.contains(address)
    }

    /// What counts at present.
    #[must_use]
    pub fn current(&self) -> Arc<RangeSet> {
        self.current.load_full()
    }

    /// Replaces what counts.
    pub fn put(&self, set: Arc<RangeSet>) {
        self.current.store(set);
    }

    /// Reads a text that stood where the sender publishes its networks at this moment, and judges it beside what is known.
    ///
    /// # Errors
    /// [`RangeError`]; then what is known stays.
    pub fn read(&self, text: &[u8], unix: u64) -> Result<RangeSet, RangeError> {
        let form = self.source.feed.as_ref().map_or(&RangeForm::Lines, |feed| &feed.form);
        let networks = form.read(text)?;
        let index = range_feed::judge(&networks)?;
        range_feed::compare(&self.current.load().networks, &index)?;
        Ok(RangeSet { networks, index, as_of: unix })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn ranges(texts: &[&str]) -> PublishedRanges {
        let feed = RangeFeed { url: "https://ranges.example/list".into(), form: RangeForm::Lines };
        let source = RangeSource { name: "s".into(), networks: networks(texts), as_of: 7, feed: Some(feed) };
        PublishedRanges::new(Arc::new(source), Some(Duration::from_secs(60)))
    }

    #[test]
    fn a_list_takes_the_place_of_another_only_if_it_is_plausible() {
        let ranges = ranges(&["140.82.112.0/20", "192.30.252.0/22"]);
        assert!(ranges.contains("140.82.112.1".parse().unwrap()));
        assert_eq!(ranges.read(b"9.9.9.9", 9), Err(RangeError::Collapsed { left: 0, known: 2 }));
        assert_eq!(ranges.read(b"", 9), Err(RangeError::Empty));
        let next = ranges.read(b"140.82.112.0/20\n143.55.64.0/20\n", 9).unwrap();
        let changes = ranges.current().changes(&next);
        assert_eq!((changes.added, changes.removed), (networks(&["143.55.64.0/20"]), networks(&["192.30.252.0/22"])));
        ranges.put(Arc::new(next));
        assert!(ranges.contains("143.55.64.1".parse().unwrap()) && !ranges.contains("192.30.252.1".parse().unwrap()));
        assert_eq!(ranges.current().as_of(), 9);
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_is_broken_is_not() {
        let set = RangeSet::new(networks(&["140.82.112.0/20", "2606:50c0::/32"]), 1_760_000_000);
        assert_eq!(RangeSet::from_text(set.to_text().as_bytes()), Some(set));
        for text in ["", "140.82.112.0/20\n", "# as of x\n140.82.112.0/20\n", "# as of 1\n", "# as of 1\n0.0.0.0/0\n"] {
            assert_eq!(RangeSet::from_text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn without_a_place_to_fetch_from_nothing_is_fetched() {
        let source = RangeSource { name: "s".into(), networks: networks(&["1.2.3.4"]), as_of: 7, feed: None };
        assert_eq!(PublishedRanges::new(Arc::new(source), Some(Duration::from_secs(60))).refresh(), None);
    }
}
