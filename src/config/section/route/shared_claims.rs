//! `when_unavailable` of a route, and how it shares its claims.

use core::fmt;
use core::time::Duration;

use crate::config::lines::line;
use crate::config::reader::Reader;
use crate::config::section::shared::{SharedSettings, WHEN_UNAVAILABLE, when_away};
use crate::config::section::upstream::UpstreamSettings;
use crate::config::units::show_duration;
use crate::gate::replay::{ReplayPolicy, SharedClaims};

/// A lease is so much longer than an exchange may take: for what is not in its timeouts.
const MARGIN: Duration = Duration::from_secs(10);

/// A delivery that is stored waits so long for its commit at most.
const COMMIT: Duration = Duration::from_secs(30);

/// What of the other sections decides how claims are shared.
#[derive(Clone, Copy)]
pub(crate) struct Sharing<'s> {
    /// The engine, if there is one.
    pub(crate) shared: Option<&'s SharedSettings>,
    /// How long an exchange may take.
    pub(crate) upstream: &'s UpstreamSettings,
}

/// How the claims of a route are shared, of which `replay` says what it remembers. `stored`: whether its deliveries are.
pub(super) fn read(
    route: &Reader<'_>,
    sharing: Sharing<'_>,
    replay: Option<ReplayPolicy>,
    stored: bool,
) -> Option<SharedClaims> {
    const KEY: &str = "when_unavailable";
    let chosen = route.choice(KEY, &WHEN_UNAVAILABLE);
    let Some(shared) = sharing.shared else {
        if route.has(KEY) {
            route.error(KEY, "has no effect: claims are not shared", "add [shared] with an engine, or remove this");
        }
        return None;
    };
    if replay.is_none() {
        if route.has(KEY) {
            let fix = "write replay.mode = \"enforce\", or remove this";
            route.warning(KEY, "has no effect: nothing is remembered on this route", fix);
        }
        return None;
    }
    let exchange = if stored {
        COMMIT
    } else {
        sharing.upstream.connect_timeout.saturating_add(sharing.upstream.response_timeout)
    };
    let when_unavailable = chosen.unwrap_or(shared.when_unavailable);
    Some(SharedClaims { when_unavailable, lease: exchange.saturating_add(MARGIN) })
}

/// For `check`.
pub(super) fn describe(out: &mut String, replay: Option<&ReplayPolicy>) -> fmt::Result {
    let Some(shared) = replay.and_then(|replay| replay.shared) else { return Ok(()) };
    let lease = show_duration(shared.lease);
    line(out, "", format_args!("by all replicas; one that dies with a delivery lets go of it after {lease}"))?;
    line(out, "", format_args!("while the engine is away, {}", when_away(shared.when_unavailable)))
}
