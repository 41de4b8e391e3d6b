//! What keeps a delivery refused whose mistake has been found: its age, or a key that does not count. An operator who
//! repairs the mistake alone would see the same delivery refused once more.

use core::time::Duration;

use super::case::TriedCase;
use super::finding::StillRefused;
use super::spans::shown_span;
use super::units::moment_in_other_unit;
use crate::gate::verify::inspect;

const NEW_ONE: &str = "then let the sender send a new one: this one is too old whatever is repaired";
const CAPTURED: &str =
    "and judge a capture by when it came (--at), or let the sender send a new one: this one is too old by now";
const CLOCKS: &str = "and compare the clocks of both machines";
const KEY: &str = "and let the key count (not_before, not_after), or let the sender sign with one that does";

/// What keeps a case refused whose signature matches.
pub(super) fn stays_refused(changed: TriedCase<'_>) -> Option<StillRefused> {
    of_age(changed).or_else(|| of_key(changed))
}

/// The age alone.
pub(super) fn of_age(changed: TriedCase<'_>) -> Option<StillRefused> {
    let known = changed.known;
    let tolerance = known.tolerance?;
    let in_body = known.scheme.timestamp.as_ref().is_some_and(|it| it.source.is_in_body());
    if in_body && !changed.pays(2) {
        return None;
    }
    let original = TriedCase { scheme: &known.scheme, ..changed };
    let read = |case: TriedCase<'_>| inspect::timestamp(case.scheme, &case.seen).ok().flatten();
    let moment = read(changed).or_else(|| read(original)).or_else(|| moment_in_other_unit(original))?;
    let age = known.now.unix_millis().saturating_sub(moment);
    let distance = Duration::from_millis(age.unsigned_abs());
    if distance <= tolerance {
        return None;
    }
    let (direction, advice) = match (age > 0, known.is_present) {
        (true, true) => ("old", CAPTURED),
        (true, false) => ("old", NEW_ONE),
        (false, _) => ("in the future", CLOCKS),
    };
    let why = format!("it is {} {direction}, and {} are allowed", shown_span(distance), shown_span(tolerance));
    Some(StillRefused { why, advice })
}

/// Only where the route's own keys are tried: another key has no times.
fn of_key(changed: TriedCase<'_>) -> Option<StillRefused> {
    let (now, keys) = (changed.known.now, changed.known.keys);
    if changed.key.is_some() || keys.iter().all(|key| key.validity().contains(now)) {
        return None;
    }
    if changed.matching_key(|key| key.validity().contains(now)).is_some() {
        return None;
    }
    let id = changed.matching_key(|key| !key.validity().contains(now))?;
    Some(StillRefused { why: format!("it is signed with the key `{id}`, which does not count now"), advice: KEY })
}
