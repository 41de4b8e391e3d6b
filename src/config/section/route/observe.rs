//! `observe` of a route: the checks that only count.

use crate::config::reader::Reader;
use crate::config::suggest::did_you_mean;
use crate::config::suggest::quoted_list;
use crate::config::units::shorten;
use crate::gate::observe::Observe;

/// A check that can be observed.
#[derive(Clone, Copy)]
pub(super) enum Observable {
    Allow,
    Rate,
    Replay,
    Tolerance,
}

/// Every one of them: its name, its switch, and what to say where the route has nothing that could be observed.
const CHECKS: &[(Observable, &str, Switch, Needless)] = &[
    (
        Observable::Allow,
        "allow",
        |observe| &mut observe.allow,
        ("everyone may call", "add allow = [\"…\"], or remove it here"),
    ),
    (
        Observable::Rate,
        "rate",
        |observe| &mut observe.rate,
        ("the route has no rate", "give the route a rate, or remove it here"),
    ),
    (
        Observable::Replay,
        "replay",
        |observe| &mut observe.replay,
        ("nothing is remembered on this route", "write replay = { mode = \"enforce\" }, or remove it here"),
    ),
    (
        Observable::Tolerance,
        "tolerance",
        |observe| &mut observe.tolerance,
        ("the scheme of this route signs no timestamp", "remove it here"),
    ),
];

/// Finds the switch of a check.
type Switch = fn(&mut Observe) -> &mut bool;

/// Why it has no effect, and the fix.
type Needless = (&'static str, &'static str);

/// Which checks the route only observes. `is_there` tells whether the route has the check at all.
pub(super) fn read(route: &Reader<'_>, is_there: impl Fn(Observable) -> bool) -> Observe {
    let mut observe = Observe::default();
    let names: Vec<&str> = CHECKS.iter().map(|(_, name, ..)| *name).collect();
    for (name, place) in route.placed_strings("observe").unwrap_or_default() {
        match CHECKS.iter().find(|(_, known, ..)| *known == name) {
            Some((_, _, switch, _)) if *switch(&mut observe) => {
                route.warning_at(place, format!("\"{name}\" is given twice"), "remove one of the two");
            }
            Some((check, _, switch, (why, fix))) => {
                *switch(&mut observe) = true;
                if !is_there(*check) {
                    route.error_at(place, format!("\"{name}\" has no effect: {why}"), *fix);
                }
            }
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
