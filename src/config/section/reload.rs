//! `[reload]`: how changes of files are noticed.

use core::fmt;
use core::time::Duration;

use crate::config::lines::line;
use crate::config::reader::Reader;
use crate::config::units::show_duration;

/// `[reload]`: how changes of files are noticed. Beside this, SIGHUP always reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Whether the kernel tells about changes in the directories of the configuration and of every file it names.
    pub watch: bool,
    /// How often the files are looked at in any case; `None` for never.
    pub poll: Option<Duration>,
}

impl Default for ReloadSettings {
    fn default() -> Self {
        Self { watch: true, poll: Some(Duration::from_secs(30)) }
    }
}

/// More often than this is of no use, and less often no safety net.
const POLL: core::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

pub(crate) fn read(root: &Reader<'_>) -> ReloadSettings {
    let mut reload = ReloadSettings::default();
    let Some(reader) = root.table("reload") else { return reload };
    if let Some(watch) = reader.bool("watch") {
        reload.watch = watch;
    }
    if let Some(poll) = reader.duration("poll", Duration::ZERO..=Duration::MAX) {
        if poll.is_zero() || POLL.contains(&poll) {
            reload.poll = Some(poll).filter(|poll| !poll.is_zero());
        } else {
            let fix = format!(
                "choose from {} to {}, or 0s for never",
                show_duration(*POLL.start()),
                show_duration(*POLL.end())
            );
            reader.error("poll", format!("{} is out of range", show_duration(poll)), fix);
        }
    }
    reader.finish();
    reload
}

/// For `check`.
pub(crate) fn describe(out: &mut String, reload: ReloadSettings) -> fmt::Result {
    line(out, "reload", described(reload))
}

fn described(reload: ReloadSettings) -> String {
    let ReloadSettings { watch, poll } = reload;
    match (watch, poll.map(show_duration)) {
        (true, Some(poll)) => format!("when a file changes (watched, and looked at every {poll}), and on SIGHUP"),
        (true, None) => "when a file changes (watched), and on SIGHUP".to_owned(),
        (false, Some(poll)) => format!("when a file changes (looked at every {poll}), and on SIGHUP"),
        (false, None) => "on SIGHUP alone".to_owned(),
    }
}
