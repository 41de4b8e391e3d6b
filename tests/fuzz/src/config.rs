//! Configuration: any text is either refused with a reason, or settings that hold together.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::config::parse_str;
use countersign::config::summary::summary;
use countersign::gate::route::RouteIndex;
use countersign::now::Now;

/// The input is the text of a file.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (settings, warnings) = match parse_str("fuzz.toml", text) {
        Ok(parsed) => parsed,
        Err(problems) => {
            assert!(problems.has_errors());
            assert!(problems.iter().all(|problem| !problem.message.is_empty() && !problem.fix.is_empty()));
            return;
        }
    };
    assert!(!warnings.has_errors());
    assert!(!settings.listeners.is_empty() && !settings.routes.is_empty());
    assert!(settings.limits.target_size < settings.limits.head_size);
    assert!(RouteIndex::new(settings.routes.iter().map(|route| &route.key)).is_ok());
    let names: BTreeSet<&str> = settings.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names.len(), settings.routes.len());
    for route in &settings.routes {
        assert!(route.upstream < settings.upstreams.len() && !route.key.methods.is_empty());
        let Some(verification) = &route.verification else { continue };
        assert!(verification.scheme.validate().is_empty() && !verification.keys.is_empty());
        assert_eq!(verification.tolerance.is_some(), verification.scheme.signs_timestamp());
        assert_eq!(verification.public_url.is_some(), verification.scheme.signs_url());
    }
    assert!(!summary(&settings, Now::at_unix(Duration::from_secs(1_800_000_000))).is_empty());
}
