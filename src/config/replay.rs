//! Reads `replay` of a route: what it remembers of the deliveries that it has let through.

use core::time::Duration;

use crate::config::reader::Reader;
use crate::config::settings::Verification;
use crate::config::units::show_duration;
use crate::gate::replay::{CAPACITY, DuplicateAnswer, LIFETIME, ReplayMode, ReplayPolicy, WhenFull};
use crate::gate::verify::Tolerance;

/// What `mode` may say.
const MODES: [(&str, Option<ReplayMode>); 3] =
    [("enforce", Some(ReplayMode::Enforce)), ("observe", Some(ReplayMode::Observe)), ("off", None)];

/// The policy of a route; `None` where nothing is remembered. `read` is what is known of its verification: nothing where
/// it has errors, `Some(None)` where nothing is verified.
pub(super) fn read(route: &Reader<'_>, read: Option<Option<&Verification>>) -> Option<ReplayPolicy> {
    let verification = read.flatten();
    let tolerance = verification.and_then(|it| it.tolerance).map(Tolerance::distance).unwrap_or_default();
    let mut policy = ReplayPolicy::with_tolerance(tolerance);
    let by_default = verification.filter(|it| it.scheme.tells_deliveries_apart()).map(|_| ReplayMode::Enforce);
    let Some(reader) = route.table("replay") else {
        return by_default.map(|mode| ReplayPolicy { mode, ..policy });
    };
    let written = reader.choice("mode", &MODES);
    let mode = written.unwrap_or(by_default);
    if let Some(lifetime) = reader.duration("lifetime", LIFETIME) {
        policy.lifetime = lifetime;
        check_lifetime(&reader, lifetime, tolerance);
    }
    let capacity = u64::try_from(*CAPACITY.start()).unwrap_or(1)..=u64::try_from(*CAPACITY.end()).unwrap_or(u64::MAX);
    if let Some(capacity) = reader.integer("capacity", capacity).and_then(|number| usize::try_from(number).ok()) {
        policy.capacity = capacity;
    }
    let when_full = [("refuse", WhenFull::Refuse), ("evict_oldest", WhenFull::EvictOldest)];
    policy.when_full = reader.choice("when_full", &when_full).unwrap_or_default();
    let duplicates = [("acknowledge", DuplicateAnswer::Acknowledge), ("conflict", DuplicateAnswer::Conflict)];
    policy.duplicates = reader.choice("duplicates", &duplicates).unwrap_or_default();
    if read.is_some() {
        check_use(&reader, verification, mode, written.is_some());
    }
    if reader.failed() {
        route.mark_failed();
    }
    reader.finish();
    mode.map(|mode| ReplayPolicy { mode, ..policy })
}

/// An entry must outlive every moment at which a capture of its delivery could still be verified.
fn check_lifetime(reader: &Reader<'_>, lifetime: Duration, tolerance: Duration) {
    let window = tolerance.saturating_mul(2);
    if lifetime >= window {
        return;
    }
    let message = format!(
        "{} is shorter than the time for which a delivery stays valid: the tolerance of {} into the past and the future",
        show_duration(lifetime),
        show_duration(tolerance)
    );
    let fix = format!("write lifetime = \"{}\" or more, or a smaller tolerance", show_duration(window));
    reader.error("lifetime", message, fix);
}

/// What makes no sense with this scheme, or has no effect.
fn check_use(reader: &Reader<'_>, verification: Option<&Verification>, mode: Option<ReplayMode>, written: bool) {
    match (verification, mode) {
        (None, Some(_)) => {
            let message = "nothing is verified here, so that anybody could have a delivery of somebody else refused \
                           by sending it first";
            reader.error("mode", message, "name the scheme of the sender, or write mode = \"off\"");
        }
        (Some(it), Some(_)) if !it.scheme.signs() => {
            let message = "nothing is signed, so that a delivery is told by its body alone: two deliveries with the same \
                           body count as one";
            reader.warning("mode", message, "write mode = \"off\" unless bodies of the sender never repeat");
        }
        (Some(it), Some(_)) if !it.scheme.tells_deliveries_apart() => {
            let message = "what is signed is the same in every delivery: all but the first would count as duplicates";
            reader.error(
                "mode",
                message,
                "write mode = \"off\", or a scheme that signs the body, a timestamp or an id",
            );
        }
        (_, None) if !written => {
            let message = "has no effect: with this scheme nothing is remembered unless you ask for it";
            reader.warning("mode", message, "write mode = \"enforce\", or remove `replay`");
        }
        _ => {}
    }
}
