//! `[published_keys]`: how keys that senders publish at a URL are fetched and kept.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::{Path, PathBuf};

use crate::config::lines::line;
use crate::config::reader::{Reader, set};
use crate::config::units::show_duration;

/// More often is a burden for publishers, and less often misses what they withdraw.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 3600);

/// `[published_keys]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKeySettings {
    /// The directory in which what was fetched last is kept for the next start; nothing for nowhere.
    pub cache: Option<PathBuf>,
    /// A file with the authorities that publishers are trusted by, instead of the system's.
    pub authorities: Option<PathBuf>,
    /// How often keys are fetched anew.
    pub refresh: Duration,
}

impl Default for PublishedKeySettings {
    fn default() -> Self {
        Self { cache: None, authorities: None, refresh: Duration::from_secs(3600) }
    }
}

impl PublishedKeySettings {
    /// Makes the paths relative to the directory of the configuration file.
    pub(crate) fn resolve(&mut self, directory: &Path) {
        let paths = self.cache.iter_mut().chain(&mut self.authorities);
        paths.for_each(|path| *path = directory.join(&*path));
    }
}

pub(crate) fn read(root: &Reader<'_>) -> PublishedKeySettings {
    let mut settings = PublishedKeySettings::default();
    if !root.has("published_keys") {
        return settings;
    }
    let Some(reader) = root.table("published_keys") else { return settings };
    let path = |key: &str| reader.string(key).filter(|path| !path.is_empty()).map(PathBuf::from);
    settings.cache = path("cache");
    settings.authorities = path("authorities");
    set(&mut settings.refresh, reader.duration("refresh", REFRESH));
    reader.finish();
    settings
}

/// For `check`, where a route has such keys.
pub(crate) fn describe(out: &mut String, settings: &PublishedKeySettings) -> fmt::Result {
    let cache = settings.cache.as_ref().map_or_else(
        || "not kept for the next start ([published_keys] cache names a directory)".to_owned(),
        |path| format!("kept in {}", path.display()),
    );
    let refresh = show_duration(settings.refresh);
    line(out, "published keys", format_args!("fetched every {refresh}, and when a key is not known; {cache}"))
}
