//! `[published_ranges]`: whether the networks that senders publish are fetched.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::config::lines::line;
use crate::config::reader::Reader;
use crate::config::units::show_duration;

/// More often is a burden for publishers, and less often misses what they announce a week ahead.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(7 * 24 * 3600);

/// `[published_ranges]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishedRangeSettings {
    /// How often the networks are fetched; nothing for never.
    pub refresh: Option<Duration>,
}

pub(crate) fn read(root: &Reader<'_>) -> PublishedRangeSettings {
    if !root.has("published_ranges") {
        return PublishedRangeSettings::default();
    }
    let Some(reader) = root.table("published_ranges") else { return PublishedRangeSettings::default() };
    let refresh = reader.duration("refresh", REFRESH);
    reader.finish();
    PublishedRangeSettings { refresh }
}

/// For `check`, where a route allows the networks of a sender.
pub(crate) fn describe(out: &mut String, settings: PublishedRangeSettings) -> fmt::Result {
    match settings.refresh {
        None => line(out, "ranges", "not fetched: the copies that are built in count ([published_ranges] refresh)"),
        Some(refresh) => {
            let kept = "kept and trusted as [published_keys] says";
            line(out, "ranges", format_args!("fetched every {}; {kept}", show_duration(refresh)))
        }
    }
}
