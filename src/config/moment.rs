//! What is wrong with a configuration at a moment although it holds: keys that do not count, certificates that do not.

use crate::config::problem::{Place, Problems};
use crate::config::section::listener::described::moment_warnings;
use crate::config::section::route::copies::{FIX_OLD, old_copies};
use crate::config::section::route::{NO_KEY, lacks_key};
use crate::config::settings::Settings;
use crate::config::units::show_instant as shown;
use crate::now::Now;

/// The same as [`crate::config::summary::moment_warnings`], each with its place and what to do.
#[must_use]
pub fn moment_problems(settings: &Settings, now: Now) -> Problems {
    let mut problems = Problems::default();
    let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    for route in settings.routes.iter().filter(|route| lacks_key(route, now)) {
        let keys = route.verification.as_ref().map(|it| it.keys.as_slice()).unwrap_or_default();
        let place = keys.first().map_or_else(|| route.place.clone(), |key| key.place.clone());
        let next = keys.iter().filter_map(|key| key.validity.not_before).filter(|start| *start > seconds).min();
        let fix = match next {
            Some(start) => {
                format!("the first one counts from {}: move its not_before, or add one that counts now", shown(start))
            }
            None => "add the key with which the sender signs today, or move not_after of the last one".to_owned(),
        };
        problems.warning(place, format!("the route has {NO_KEY}"), fix);
    }
    let all_tls = settings.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    for warning in moment_warnings(all_tls.clone(), now) {
        let place = all_tls.clone().next().map_or_else(|| Place::file(""), |tls| tls.place.clone());
        problems.warning(place, warning, "put the new certificate into the file: it takes effect without a restart");
    }
    for (_, sender, why) in old_copies(&settings.routes, settings.range_moment(now)) {
        problems.warning(sender.place.clone(), format!("{}: {why}", sender.source.name), FIX_OLD);
    }
    problems
}
