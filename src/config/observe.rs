//! Reads `observe` of a route: the checks that only count.

use crate::config::reader::{Reader, did_you_mean};
use crate::config::suggest::quoted_list;
use crate::config::units::shorten;
use crate::gate::observe::Observe;

/// Finds the switch of a check.
type Switch = fn(&mut Observe) -> &mut bool;

/// Every check that can be observed, and its switch.
const CHECKS: &[(&str, Switch)] = &[("allow", |observe| &mut observe.allow)];

/// Which checks the route only observes.
pub(super) fn read(route: &Reader<'_>) -> Observe {
    let mut observe = Observe::default();
    let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    for (name, place) in route.placed_strings("observe").unwrap_or_default() {
        match CHECKS.iter().find(|(known, _)| *known == name) {
            Some((_, switch)) if *switch(&mut observe) => {
                route.warning_at(place, format!("\"{name}\" is given twice"), "remove one of the two");
            }
            Some((_, switch)) => *switch(&mut observe) = true,
            None => {
                let message = format!("\"{}\" is not a check that can be observed", shorten(name));
                let fix = format!(
                    "{}choose among {}; verification cannot be observed away",
                    did_you_mean(name, &names),
                    quoted_list(&names)
                );
                route.error_at(place, message, fix);
            }
        }
    }
    observe
}
