//! The URLs at which senders publish their keys and their networks: whether they can be fetched now, and are what they should be.

use std::sync::Arc;

use crate::config::load::Loaded;
use crate::control::publishers::{KeyClient, KeySources};
use crate::gate::range_feed::RANGE_TEXT_LIMIT;
use crate::gate::ranges::PublishedRanges;
use crate::gate::verify::published::PublishedKeys;

use super::finding::{Finding, Grade};

/// Asks each of them once.
pub(super) fn examine(loaded: &Loaded) -> Vec<Finding> {
    let KeySources { sets: mut keys, mut ranges, .. } = KeySources::of(&loaded.gate);
    keys.sort_by(|one, other| one.url().cmp(other.url()));
    keys.dedup_by(|one, other| one.is_same_source(other));
    ranges.retain(|ranges| ranges.refresh().is_some());
    if keys.is_empty() && ranges.is_empty() {
        return Vec::new();
    }
    let client = KeyClient::new(loaded.settings.published_keys.authorities.as_deref());
    let of_keys = keys.iter().map(|keys| examine_keys(keys, &client));
    of_keys.chain(ranges.iter().map(|ranges| examine_ranges(ranges, &client))).collect()
}

fn examine_keys(keys: &Arc<PublishedKeys>, client: &KeyClient) -> Finding {
    let url = keys.url();
    let read = client.get(url).and_then(|text| keys.read(&text).map_err(|error| error.to_string()));
    match read {
        Ok(set) => Finding::good("keys", format!("{url} has {} keys", set.count())),
        Err(why) => Finding::bad(
            "keys",
            Grade::Fault,
            format!("the keys at {url} cannot be fetched: {why}"),
            "let this host reach the URL, and correct it if it is another one; until then deliveries with new keys are \
             refused (docs/tokens.md)",
        ),
    }
}

fn examine_ranges(ranges: &Arc<PublishedRanges>, client: &KeyClient) -> Finding {
    let (name, feed) = (&ranges.source().name, ranges.source().feed.as_ref());
    let url = feed.map_or("", |feed| feed.url.as_str());
    let fetched = client.fetch_within(url, RANGE_TEXT_LIMIT).map_err(|error| error.to_string());
    match fetched.and_then(|text| ranges.read(&text, 0).map_err(|error| error.to_string())) {
        Ok(set) => Finding::good("networks", format!("{url} has {} networks of {name}", set.networks().len())),
        Err(why) => Finding::bad(
            "networks",
            Grade::Fault,
            format!("the networks of {name} cannot be had from {url}: {why}"),
            "let this host reach the URL; until then those that are known count (docs/ranges.md)",
        ),
    }
}
