//! Reads `replay` of a route: what it remembers of the deliveries that it has let through.

use core::time::Duration;

use crate::config::reader::Reader;
use crate::config::settings::Verification;
use crate::config::units::show_duration;
use crate::gate::replay::{CAPACITY, DuplicateAnswer, LIFETIME, ReplayPolicy, WhenFull};
use crate::gate::verify::Tolerance;

/// What `mode` may say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Enforce,
    Observe,
    Off,
}

const MODES: [(&str, Mode); 3] = [("enforce", Mode::Enforce), ("observe", Mode::Observe), ("off", Mode::Off)];

/// What a route says of replays.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replay {
    /// `None` where nothing is remembered.
    pub(super) policy: Option<ReplayPolicy>,
    /// Whether the verdict only counts.
    pub(super) observed: bool,
}

/// Reads `replay`. `read` is what is known of the route's verification: nothing where it has errors, `Some(None)` where
/// nothing is verified.
pub(super) fn read(route: &Reader<'_>, read: Option<Option<&Verification>>) -> Replay {
    let verification = read.flatten();
    let tolerance = verification.and_then(|it| it.tolerance).map(Tolerance::distance).unwrap_or_default();
    let mut policy = ReplayPolicy::with_tolerance(tolerance);
    let told_apart = verification.is_some_and(|it| it.scheme.tells_deliveries_apart());
    let by_default = if told_apart { Mode::Enforce } else { Mode::Off };
    let Some(reader) = route.table("replay") else {
        return Replay { policy: told_apart.then_some(policy), observed: false };
    };
    let mode = reader.choice("mode", &MODES).unwrap_or(by_default);
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
        check_use(&reader, verification, mode);
    }
    if reader.failed() {
        route.mark_failed();
    }
    reader.finish();
    Replay { policy: (mode != Mode::Off).then_some(policy), observed: mode == Mode::Observe }
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
fn check_use(reader: &Reader<'_>, verification: Option<&Verification>, mode: Mode) {
    let idle = ["lifetime", "capacity", "when_full", "duplicates"].into_iter().find(|key| reader.has(key));
    match (verification, mode) {
        (_, Mode::Off) => {
            if let Some(key) = idle {
                let message = "has no effect: nothing is remembered on this route";
                reader.warning(key, message, "write mode = \"enforce\", or remove this");
            }
        }
        (None, _) => {
            let message = "nothing is verified here, so that anybody could have a delivery of somebody else refused \
                           by sending it first";
            reader.error("mode", message, "name the scheme of the sender, or write mode = \"off\"");
        }
        (Some(it), _) if !it.scheme.signs() => {
            let message = "nothing is signed, so that a delivery is told by its body alone: two deliveries with the same \
                           body count as one";
            reader.warning("mode", message, "write mode = \"off\" unless bodies of the sender never repeat");
        }
        (Some(it), _) if !it.scheme.tells_deliveries_apart() => {
            let message = "what is signed is the same in every delivery: all but the first would count as duplicates";
            reader.error(
                "mode",
                message,
                "write mode = \"off\", or a scheme that signs the body, a timestamp or an id",
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::scheme::{preset, preset_names};
    use crate::config::settings::parse_str;

    fn route(scheme: &str, lines: &str) -> (Option<ReplayPolicy>, Vec<String>) {
        let preset = preset(scheme);
        let mut text = format!(
            "[[listener]]\naddress = '127.0.0.1:1'\n[upstream]\naddress = '127.0.0.1:2'\n\
             [[route]]\npath = '/'\nscheme = '{scheme}'\n{lines}\n"
        );
        if let Some(scheme) = &preset {
            let keys = if scheme.wants_public_key() { "public_keys" } else { "secrets" };
            text += &format!("{keys} = [{{ id = '1', file = 'secret' }}]\n");
        }
        if preset.is_some_and(|scheme| scheme.signs_url()) {
            text += "public_url = 'https://example.com/'\n";
        }
        let (settings, warnings) = parse_str("test.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        let ours = warnings.iter().filter(|problem| problem.place.key_path.contains("replay"));
        assert!(!settings.routes[0].observe.replay || lines.contains("observe"));
        (settings.routes[0].replay, ours.map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_signed_is_remembered_unless_told_otherwise() {
        let mut remembered = 0;
        for name in preset_names() {
            let scheme = preset(name).unwrap();
            let (policy, warnings) = route(name, "");
            assert_eq!(policy.is_some(), scheme.signs(), "{name}");
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
            assert_eq!(route(name, "replay.mode = 'off'"), (None, Vec::new()), "{name}");
            let Some(policy) = policy else { continue };
            let tolerance = scheme.timestamp.as_ref().map(|it| it.tolerance.distance()).unwrap_or_default();
            let lifetime = Duration::from_secs(600).max(tolerance * 2);
            assert_eq!(policy, ReplayPolicy { lifetime, ..ReplayPolicy::with_tolerance(Duration::ZERO) }, "{name}");
            remembered += 1;
        }
        assert!(remembered > 70, "{remembered}");
        assert_eq!(route("none", ""), (None, Vec::new()));
        let (policy, _) = route("stripe", "tolerance = '1h'");
        assert_eq!(policy.unwrap().lifetime, Duration::from_secs(7200));
    }

    #[test]
    fn every_key_has_its_effect() {
        let keys = "replay = { mode = 'observe', lifetime = '11m', capacity = 5, when_full = 'evict_oldest', \
                    duplicates = 'conflict' }";
        let expected = ReplayPolicy {
            lifetime: Duration::from_secs(660),
            capacity: 5,
            when_full: WhenFull::EvictOldest,
            duplicates: DuplicateAnswer::Conflict,
            table: 0,
        };
        assert_eq!(route("stripe", keys), (Some(expected), Vec::new()));
    }

    #[test]
    fn credentials_are_remembered_only_on_demand() {
        let token = preset_names().into_iter().find(|name| preset(name).is_some_and(|scheme| !scheme.signs())).unwrap();
        let (policy, warnings) = route(token, "replay.mode = 'enforce'");
        assert!(policy.is_some());
        assert!(warnings[0].contains("the same body count as one"), "{warnings:?}");
        let (policy, warnings) = route(token, "replay.capacity = 5");
        assert!(policy.is_none() && warnings[0].contains("has no effect"), "{warnings:?}");
    }
}
