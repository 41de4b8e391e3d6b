//! `when_unavailable` of a route, and how it shares its claims and its rate.

use core::fmt;
use core::time::Duration;

use crate::config::lines::line;
use crate::config::reader::Reader;
use crate::config::section::shared::{SharedSettings, WHEN_UNAVAILABLE, when_away};
use crate::config::section::upstream::UpstreamSettings;
use crate::config::units::show_duration;
use crate::gate::replay::{ReplayPolicy, SharedClaims, WhenUnavailable};

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

/// What a route does that can be shared.
#[derive(Clone, Copy)]
pub(super) struct Shareable {
    /// What it remembers.
    pub(super) replay: Option<ReplayPolicy>,
    /// Whether its deliveries are stored.
    pub(super) stored: bool,
    /// Whether its rate is to be shared.
    pub(super) rate: bool,
}

/// How a route shares its claims; and what becomes of a delivery while the engine is away, where its rate is shared.
pub(super) fn read(
    route: &Reader<'_>,
    sharing: Sharing<'_>,
    what: Shareable,
) -> (Option<SharedClaims>, Option<WhenUnavailable>) {
    const KEY: &str = "when_unavailable";
    let chosen = route.choice(KEY, &WHEN_UNAVAILABLE);
    let Some(shared) = sharing.shared else {
        if route.has(KEY) {
            route.error(KEY, "has no effect: claims are not shared", "add [shared] with an engine, or remove this");
        }
        if what.rate {
            let fix = "add [shared] with an engine, or remove `shared`";
            route.error("rate", "cannot be shared: there is no engine", fix);
        }
        return (None, None);
    };
    let when_unavailable = chosen.unwrap_or(shared.when_unavailable);
    let rate = what.rate.then_some(when_unavailable);
    if what.replay.is_none() {
        if route.has(KEY) && !what.rate {
            let fix = "write replay.mode = \"enforce\", or remove this";
            route.warning(KEY, "has no effect: nothing is remembered on this route", fix);
        }
        return (None, rate);
    }
    let exchange = if what.stored {
        COMMIT
    } else {
        sharing.upstream.connect_timeout.saturating_add(sharing.upstream.response_timeout)
    };
    (Some(SharedClaims { when_unavailable, lease: exchange.saturating_add(MARGIN) }), rate)
}

/// For `check`.
pub(super) fn describe(out: &mut String, replay: Option<&ReplayPolicy>) -> fmt::Result {
    let Some(shared) = replay.and_then(|replay| replay.shared) else { return Ok(()) };
    let lease = show_duration(shared.lease);
    line(out, "", format_args!("by all replicas; one that dies with a delivery lets go of it after {lease}"))?;
    line(out, "", format_args!("while the engine is away, {}", when_away(shared.when_unavailable)))
}
