//! What is different between two lists of named things.

use std::collections::BTreeMap;

use crate::config::digest::Digest;

/// The names of the parts that are not the same.
pub(super) fn changed<'a>(
    older: &'a [(&'static str, Digest)],
    newer: &'a [(&'static str, Digest)],
) -> impl Iterator<Item = &'static str> {
    older.iter().zip(newer).filter(|(older, newer)| older.1 != newer.1).map(|(_, newer)| newer.0)
}

/// How two maps differ in one name.
pub(super) enum Difference<'a, T> {
    Added,
    Removed,
    Other(&'a T, &'a T),
}

impl<T> Difference<'_, T> {
    /// What has happened.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Other(..) => "changed",
        }
    }
}

/// What only one of two maps has, and what is not the same in both; in the order of the names.
pub(super) fn differences<'a, T>(
    older: &'a BTreeMap<String, T>,
    newer: &'a BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<(&'a str, Difference<'a, T>)> {
    let gone = older.keys().filter(|name| !newer.contains_key(*name)).map(|name| (name.as_str(), Difference::Removed));
    let others = newer.iter().filter_map(|(name, new)| match older.get(name) {
        None => Some((name.as_str(), Difference::Added)),
        Some(old) if same(old, new) => None,
        Some(old) => Some((name.as_str(), Difference::Other(old, new))),
    });
    let mut found: Vec<_> = gone.chain(others).collect();
    found.sort_by_key(|(name, _)| *name);
    found
}
