//! The URLs at which senders publish their keys: whether they can be fetched now, and are keys.

use crate::config::load::Loaded;
use crate::control::publishers::{KeyClient, KeySources};

use super::finding::{Finding, Grade};

/// Asks each of them once.
pub(super) fn examine(loaded: &Loaded) -> Vec<Finding> {
    let mut keys = KeySources::of(&loaded.gate).sets;
    keys.sort_by(|one, other| one.url().cmp(other.url()));
    keys.dedup_by(|one, other| one.is_same_source(other));
    if keys.is_empty() {
        return Vec::new();
    }
    let client = KeyClient::new(loaded.settings.published_keys.authorities.as_deref());
    let mut findings = Vec::with_capacity(keys.len());
    for keys in keys {
        let url = keys.url();
        let read = client.get(url).and_then(|text| keys.read(&text).map_err(|error| error.to_string()));
        findings.push(match read {
            Ok(set) => Finding::good("keys", format!("{url} has {} keys", set.count())),
            Err(why) => Finding::bad(
                "keys",
                Grade::Fault,
                format!("the keys at {url} cannot be fetched: {why}"),
                "let this host reach the URL, and correct it if it is another one; until then deliveries with new keys are \
                 refused (docs/tokens.md)",
            ),
        });
    }
    findings
}
