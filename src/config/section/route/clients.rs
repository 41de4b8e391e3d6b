//! `allow`, `allow_file` and `deny` of a route: the addresses that may call.

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::lines::{line, listed};
use crate::config::networks;
use crate::config::problem::Place;
use crate::config::ranges::{self, OwnRanges};
use crate::config::reader::Reader;
use crate::config::units::{show_duration, show_instant};
use crate::gate::networks::Network;
use crate::gate::ranges::RangeSource;
use crate::now::Now;

/// So old may a copy of a sender's networks be before it is warned about.
const OLD: Duration = Duration::from_secs(180 * 24 * 3600);

/// Who may call a route.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Who is let in; everyone, if there is neither a network nor a file. [`crate::config::load()`] adds what the file
    /// holds.
    pub allow: Vec<Network>,
    /// Senders whose networks are let in, too.
    pub senders: Vec<AllowedSender>,
    /// Further networks that are let in.
    pub allow_file: Option<ListFile>,
    /// Who is not let in, even so.
    pub deny: Vec<Network>,
}

impl ClientSettings {
    /// Whether no client is refused.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.is_restricted() && self.deny.is_empty()
    }

    /// Whether only those are let in that are named.
    #[must_use]
    pub const fn is_restricted(&self) -> bool {
        !self.allow.is_empty() || !self.senders.is_empty() || self.allow_file.is_some()
    }
}

/// A sender in `allow`.
#[derive(Clone, Debug)]
pub struct AllowedSender {
    /// Its networks.
    pub source: Arc<RangeSource>,
    /// Where it is written.
    pub place: Place,
}

/// A reference to a file with a list in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    /// Relative to the directory of the configuration file.
    pub path: PathBuf,
    /// Where it is written.
    pub place: Place,
}

/// Who may call a route.
pub(super) fn read(route: &Reader<'_>, own: &[OwnRanges]) -> ClientSettings {
    let mut senders: Vec<AllowedSender> = Vec::new();
    let allow = networks::list_beside(route, "allow", |text, place| {
        if !ranges::is_name(text) {
            return false;
        }
        if let Some(source) = ranges::find(route, own, text, place) {
            if senders.iter().any(|known| known.source.name == source.name) {
                route.warning_at(place.clone(), format!("{text} is given twice"), "remove one of the two");
            } else {
                senders.push(AllowedSender { source, place: place.clone() });
            }
        }
        true
    });
    let deny = networks::list(route, "deny");
    let allow_file = match route.string("allow_file") {
        Some("") => {
            route.error("allow_file", "is empty", "name the file, relative to the configuration file");
            None
        }
        path => path.map(|path| ListFile { path: PathBuf::from(path), place: route.place("allow_file") }),
    };
    ClientSettings { allow, senders, allow_file, deny }
}

/// For `check`. `observed` is whether they are only counted.
pub(super) fn describe(out: &mut String, clients: &ClientSettings, observed: bool, moment: RangeMoment) -> fmt::Result {
    let counts = if observed { " (only counted)" } else { "" };

    let mut label = "clients";
    match &clients.allow_file {
        None if clients.allow.is_empty() && clients.senders.is_empty() => line(out, "clients", "everyone")?,
        None if clients.allow.is_empty() => {}
        None => line(out, core::mem::take(&mut label), format_args!("{}{counts}", listed(&clients.allow)))?,
        Some(file) => {
            let (file, label) = (file.path.display(), core::mem::take(&mut label));
            line(out, label, format_args!("{}, with those in {file}{counts}", listed(&clients.allow)))?;
        }
    }
    for sender in &clients.senders {
        let told = describe_sender(&sender.source, moment.refresh);
        line(out, core::mem::take(&mut label), format_args!("{told}{counts}"))?;
        if let Some(age) = old(&sender.source, moment) {
            line(out, "WARNING", format_args!("{}: {age}", sender.source.name))?;
        }
    }
    if !clients.deny.is_empty() {
        line(out, "", format_args!("never {}{counts}", listed(&clients.deny)))?;
    }

    Ok(())
}

/// By what the networks of senders are judged.
#[derive(Clone, Copy)]
pub(crate) struct RangeMoment {
    /// How often they are fetched.
    pub(crate) refresh: Option<Duration>,
    /// Now.
    pub(crate) now: Now,
}

fn describe_sender(source: &RangeSource, refresh: Option<Duration>) -> String {
    let RangeSource { name, networks, as_of, feed } = source;
    let copy = match (networks.len(), as_of) {
        (0, _) => "no copy".to_owned(),
        (count, 0) => format!("{count} networks"),
        (count, as_of) => format!("{count} networks as of {}", day(*as_of)),
    };
    match (feed, refresh) {
        (Some(_), Some(refresh)) => format!("{name}: {copy}, fetched every {}", show_duration(refresh)),
        (Some(_), None) => format!("{name}: {copy}, not fetched"),
        (None, _) => format!("{name}: {copy}; the sender has no list for programs"),
    }
}

/// What to say of a copy that is old and stays so.
pub(super) fn old(source: &RangeSource, moment: RangeMoment) -> Option<String> {
    let age = moment.now.unix.saturating_sub(Duration::from_secs(source.as_of));
    let is_fetched = source.feed.is_some() && moment.refresh.is_some();
    if is_fetched || source.as_of == 0 || age < OLD {
        return None;
    }
    let since = day(source.as_of);
    Some(format!("its networks are those of {since}; deliveries from newer ones are refused (403 client_not_allowed)"))
}

fn day(unix: u64) -> String {
    show_instant(i64::try_from(unix).unwrap_or(i64::MAX)).chars().take(10).collect()
}
