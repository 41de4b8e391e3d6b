//! `replay` of a route: what it remembers of the deliveries that it has let through.

use core::fmt;
use core::time::Duration;

use crate::config::lines::line;
use crate::config::presets::preset;
use crate::config::reader::Reader;

use super::verification::Verification;
use crate::config::units::{show_duration, show_size_rounded};

use crate::gate::replay::{CAPACITY, DuplicateAnswer, LIFETIME, ReplayPolicy, WhenFull};
use crate::gate::verify::{EqualBytes, Scheme, ToldApart, Tolerance};
use crate::ledger;

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
    // Where equal bytes can be two events, only the operator can say that the second is not needed.
    let safe = verification.is_some_and(|it| it.scheme.told_apart().equal_is_the_same_event());
    let by_default = if safe { Mode::Enforce } else { Mode::Off };
    let Some(reader) = route.table("replay") else {
        verification.into_iter().for_each(|it| ask_for_a_choice(route, "replay", &it.scheme));
        return Replay { policy: safe.then_some(policy), observed: false };
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
    match verification {
        Some(it) if !reader.has("mode") => ask_for_a_choice(&reader, "mode", &it.scheme),
        Some(it) if mode == Mode::Enforce => warn_of_loss(&reader, &it.scheme, policy.lifetime),
        _ => {}
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

/// Asks for a decision where the configuration does not say whether a copy may be kept from the application, and the scheme
/// cannot tell.
fn ask_for_a_choice(reader: &Reader<'_>, key: &str, scheme: &Scheme) {
    let own = preset(&scheme.name).is_none();
    let (why, fix) = match scheme.told_apart() {
        ToldApart::Bytes(EqualBytes::TwoEvents) => (
            "two events of this sender can have equal bytes",
            "write replay.mode = \"off\" to keep it so, or \"enforce\" if the second of two equal events may be lost"
                .to_owned(),
        ),
        ToldApart::Bytes(EqualBytes::Unknown) => (
            "it is not known whether two events of this sender can have equal bytes",
            format!(
                "write {} if every body has an id or a time of its event, and replay.mode = \"off\" if not",
                if own {
                    format!("equal_bytes = \"one-event\" in [scheme.{}]", scheme.name)
                } else {
                    "replay.mode = \"enforce\"".to_owned()
                }
            ),
        ),
        _ => return,
    };
    let message = format!(
        "is off: neither an id nor a time is signed, and {why}; a captured delivery can be sent again at any time"
    );
    reader.warning(key, message, fix);
}

/// A genuine event that is taken for a copy never reaches the application.
fn warn_of_loss(reader: &Reader<'_>, scheme: &Scheme, lifetime: Duration) {
    if scheme.told_apart() != ToldApart::Bytes(EqualBytes::TwoEvents) {
        return;
    }
    let message = format!(
        "two events of this sender can have equal bytes: the second within {} never reaches the application",
        show_duration(lifetime)
    );
    reader.warning("mode", message, "write mode = \"off\", or know what you lose");
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
            let message = "nothing is verified here: an attacker could have a delivery of a sender refused by sending it \
                           first";
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

/// For `check`. `observed` is whether a copy is only counted.
pub(super) fn describe(
    out: &mut String,
    scheme: &Scheme,
    policy: Option<&ReplayPolicy>,
    observed: bool,
) -> fmt::Result {
    line(out, "replay key", scheme.replay_key().name())?;
    line(out, "", told_apart(scheme))?;
    let Some(policy) = policy else {
        return line(out, "replays", "off: a delivery that comes twice is forwarded twice, also one that was captured");
    };
    described(policy, observed).into_iter().try_for_each(|(label, text)| line(out, label, text))?;
    if !scheme.signs_timestamp() && !scheme.signs_id() {
        line(out, "", "what is equal within this time counts as one delivery")?;
    }
    if scheme.told_apart() == ToldApart::Bytes(EqualBytes::TwoEvents) && !observed {
        let lifetime = show_duration(policy.lifetime);
        line(out, "WARNING", format_args!("the second of two equal events is lost within {lifetime}"))?;
    }
    Ok(())
}

/// What the replay key of a scheme means for two deliveries that have the same.
fn told_apart(scheme: &Scheme) -> &'static str {
    match scheme.told_apart() {
        ToldApart::Id => "the id is signed: what has the same id is the same delivery",
        ToldApart::Time => "the time is signed, and no id: what is equal at another time is another delivery",
        ToldApart::Bytes(EqualBytes::OneEvent) => {
            "neither id nor time is signed; bodies of this sender name their event: equal bytes are one event"
        }
        ToldApart::Bytes(EqualBytes::TwoEvents) => {
            "neither id nor time is signed, and two events of this sender can have equal bytes"
        }
        ToldApart::Bytes(EqualBytes::Unknown) => {
            "neither id nor time is signed, and it is not known whether two events can have equal bytes"
        }
        ToldApart::Nothing if scheme.signs() => "what is signed is the same in every delivery",
        ToldApart::Nothing => "nothing is signed: equal bodies cannot be told apart",
    }
}

/// What a route remembers, for how long and in how much memory.
fn described(policy: &ReplayPolicy, observed: bool) -> [(&'static str, String); 3] {
    let observed = if observed { " (only counted)" } else { "" };
    let duplicates = match policy.duplicates {
        DuplicateAnswer::Acknowledge => "acknowledged (200) and not forwarded",
        DuplicateAnswer::Conflict => "refused (409)",
    };
    let full = match policy.when_full {
        WhenFull::Refuse => "new ones are refused (503)",
        WhenFull::EvictOldest => "the oldest are forgotten",
    };
    let memory = show_size_rounded(ledger::memory(policy.capacity) as u64);
    [
        ("replays", format!("duplicates of accepted deliveries are {duplicates}{observed}")),
        ("", format!("for {} after the application has accepted them", show_duration(policy.lifetime))),
        ("", format!("{} deliveries in at most {memory}; when there are more, {full}", policy.capacity)),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::presets::preset_names;
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
        let claims = preset.as_ref().map(|scheme| scheme.token.route_claims.clone()).unwrap_or_default();
        if !claims.is_empty() {
            let claims: Vec<String> = claims.iter().map(|claim| format!("{claim} = 'x'")).collect();
            text += &format!("claims = {{ {} }}\n", claims.join(", "));
        }
        let values = preset.as_ref().map(|scheme| scheme.values.clone()).unwrap_or_default();
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(|value| format!("{} = 'x'", value.name)).collect();
            text += &format!("values = {{ {} }}\n", values.join(", "));
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
            let safe = scheme.told_apart().equal_is_the_same_event();
            assert_eq!(policy.is_some(), safe, "{name}");
            let asks = warnings.iter().any(|warning| warning.contains("can have equal bytes"));
            assert_eq!((asks, warnings.len()), (scheme.signs() && !safe, usize::from(asks)), "{name}: {warnings:?}");
            assert_eq!(route(name, "replay.mode = 'off'"), (None, Vec::new()), "{name}");
            let Some(policy) = policy else { continue };
            let tolerance = scheme.timestamp.as_ref().map(|it| it.tolerance.distance()).unwrap_or_default();
            let lifetime = Duration::from_secs(600).max(tolerance * 2);
            assert_eq!(policy, ReplayPolicy { lifetime, ..ReplayPolicy::with_tolerance(Duration::ZERO) }, "{name}");
            remembered += 1;
        }
        assert!(remembered > 50, "{remembered}");
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
            shared: None,
        };
        assert_eq!(route("stripe", keys), (Some(expected), Vec::new()));
    }

    #[test]
    fn equal_bytes_are_remembered_only_where_they_are_one_event() {
        for name in ["github", "shopify", "square", "line", "notion", "coinbase-commerce"] {
            assert!(route(name, "").0.is_some(), "{name}");
        }
        for name in ["dropbox", "twilio", "clickup", "woocommerce", "hubspot-v2", "grafana-untimed"] {
            let (policy, warnings) = route(name, "");
            assert!(policy.is_none() && warnings[0].contains("two events of this sender can have"), "{warnings:?}");
            let (policy, warnings) = route(name, "replay.mode = 'enforce'");
            assert!(policy.is_some() && warnings[0].contains("within 10m never reaches"), "{name}: {warnings:?}");
            let (policy, warnings) = route(name, "replay.mode = 'observe'");
            assert!(policy.is_some() && warnings.is_empty(), "{name}: {warnings:?}");
        }
        for name in ["hmac-sha256-hex", "gitea", "meta"] {
            let (policy, warnings) = route(name, "");
            assert!(policy.is_none() && warnings[0].contains("it is not known"), "{name}: {warnings:?}");
            let (policy, warnings) = route(name, "replay.mode = 'enforce'");
            assert!(policy.is_some() && warnings.is_empty(), "{name}: {warnings:?}");
            let (policy, warnings) = route(name, "replay.lifetime = '1h'");
            assert!(policy.is_none() && warnings.len() == 2, "{name}: {warnings:?}");
        }
    }

    #[test]
    fn an_own_scheme_that_signs_neither_says_it_or_is_not_remembered() {
        let remembered = |lines: &str| {
            let text = format!(
                "[[listener]]\naddress = '127.0.0.1:1'\n[upstream]\naddress = '127.0.0.1:2'\n\
                 [scheme.mine]\nalgorithm = 'hmac-sha256'\n\
                 signature = {{ header = 'X-Signature', encoding = 'hex' }}\n{lines}\n\
                 [[route]]\npath = '/'\nscheme = 'mine'\nsecrets = [{{ id = '1', file = 'secret' }}]\n"
            );
            let (settings, warnings) = parse_str("test.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
            (settings.routes[0].replay.is_some(), warnings.to_string())
        };
        let (on, warnings) = remembered("content = '{body}'");
        assert!(!on && warnings.contains("equal_bytes = \"one-event\" in [scheme.mine]"), "{warnings}");
        let (on, warnings) = remembered("content = '{body}'\nequal_bytes = 'two-events'");
        assert!(!on && warnings.contains("can have equal bytes"), "{warnings}");
        assert_eq!(remembered("content = '{body}'\nequal_bytes = 'one-event'"), (true, String::new()));
        let timed = "content = '{timestamp}.{body}'\ntimestamp = { header = 'X-Time', unit = 's' }";
        assert_eq!(remembered(timed), (true, String::new()));
        let (on, warnings) = remembered(&format!("{timed}\nequal_bytes = 'two-events'"));
        assert!(on && warnings.contains("scheme.mine.equal_bytes") && warnings.contains("no effect"), "{warnings}");
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
