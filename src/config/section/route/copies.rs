//! The copies of senders' networks that routes rely on: those that are old, and those that are missing.

use core::time::Duration;

use super::RouteSettings;
use super::clients::{AllowedSender, RangeMoment, old};
use crate::config::reader::Reader;

/// The senders in `allow` of which the copy is old: route, sender, and what to say.
pub(crate) fn old_copies(
    routes: &[RouteSettings],
    moment: RangeMoment,
) -> impl Iterator<Item = (&RouteSettings, &AllowedSender, String)> {
    let named = routes.iter().flat_map(|route| route.clients.senders.iter().map(move |sender| (route, sender)));
    named.filter_map(move |(route, sender)| Some((route, sender, old(&sender.source, moment)?)))
}

/// Networks that are only known when they have been fetched need that they are.
pub(crate) fn check_copies(root: &Reader<'_>, routes: &[RouteSettings], refresh: Option<Duration>) {
    let named = routes.iter().flat_map(|route| &route.clients.senders);
    for sender in named.filter(|sender| sender.source.networks.is_empty() && refresh.is_none()) {
        let message =
            format!("no copy of the networks of {} is built in, and they are not fetched", sender.source.name);
        let fix = "add [published_ranges] with refresh = \"24h\", or write the networks themselves";
        root.error_at(sender.place.clone(), message, fix);
    }
}

/// What to do about an old copy.
pub(crate) const FIX_OLD: &str = "let them be fetched where the sender has a list for programs ([published_ranges] refresh = \"24h\"), or \
     compare them with the sender's page and write newer ones into allow; observe = [\"allow\"] only counts";
