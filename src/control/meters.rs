//! Where what happens under a policy is counted.

use std::sync::Arc;

use crate::gate::Gate;
use crate::gate::route::Route;
use crate::telemetry::metrics::{Meters, Metrics, RouteLabels};

/// The handles of a gate's routes and upstreams. They are shown from now on: not for a policy that may still be refused.
#[must_use]
pub fn meters(metrics: &Arc<Metrics>, gate: &Gate) -> Meters {
    let labels = |route: &Route| RouteLabels {
        name: route.name.clone(),
        scheme: route.scheme_name().to_owned(),
        keys: route.verifier.keys().iter().map(|key| Arc::from(key.id())).collect(),
    };
    let routes: Vec<RouteLabels> = gate.routes.routes().iter().map(labels).collect();
    let upstreams: Vec<String> = gate.upstreams.iter().map(ToString::to_string).collect();
    metrics.register(&routes, &upstreams)
}
