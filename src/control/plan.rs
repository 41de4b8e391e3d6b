//! From settings to a plan that the supervisor can carry out.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use crate::admin::request::Access;
use crate::admin::server::AdminAddress;
use crate::config::load::Loaded;
use crate::config::settings::{self, Settings};
use crate::edge::clock::Clock;
use crate::edge::driver::DriverChoice;
use crate::edge::policy::{Addresses, Limits, Policy, Target, Upstream};
use crate::gate::Gate;
use crate::gate::route::Route;
use crate::gate::upstream::UpstreamAddress;
use crate::telemetry::metrics::{Meters, Metrics, RouteLabels};
use crate::wire::head::HeadLimits;

use super::resolver::{self, Name};
use super::supervisor::{AdminPlan, Plan};

/// A plan, and the names that must be kept fresh while it is carried out.
#[must_use]
pub fn plan(loaded: Loaded) -> (Plan, Vec<Name>) {
    let Loaded { settings, gate, .. } = loaded;
    let mut names = Vec::new();
    let upstreams = gate.upstreams.iter().map(|address| upstream(address, &settings.upstream, &mut names)).collect();
    let workers = worker_count(settings.server.workers);
    let metrics = Metrics::new(workers);
    let meters = meters(&metrics, &gate);
    let plan = Plan {
        policy: Policy { gate, limits: limits(&settings), upstreams, replay_tables: Vec::new(), meters },
        admission: settings.limits.admission,
        listeners: settings.listeners.iter().map(|listener| listener.address).collect(),
        workers,
        metrics,
        clock: Clock::start(),
        admin: settings.admin.as_ref().map(admin),
        driver: match settings.server.driver {
            settings::Driver::Auto => DriverChoice::Auto,
            settings::Driver::IoUring => DriverChoice::IoUring,
            settings::Driver::Epoll => DriverChoice::Epoll,
        },
        grace: settings.server.shutdown_grace,
    };
    (plan, names)
}

/// How many workers a configured number means: 0 stands for the cores that affinity and cgroup quota grant.
#[must_use]
pub fn worker_count(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        count => count,
    }
}

/// The handles of a gate's routes and upstreams.
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

fn admin(settings: &settings::Admin) -> AdminPlan {
    let address = match &settings.address {
        settings::AdminAddress::Tcp(address) => AdminAddress::Tcp(*address),
        settings::AdminAddress::Unix(path) => AdminAddress::Unix(path.clone()),
    };
    let access = Access { hosts: settings.hosts.clone(), remote_control: settings.remote_control };
    AdminPlan { address, access }
}

fn limits(settings: &Settings) -> Limits {
    let limits = &settings.limits;
    Limits {
        head: HeadLimits { size: limits.head_size, fields: limits.headers, target: limits.target_size },
        head_timeout: limits.head_timeout,
        body_timeout: limits.body_timeout,
        idle_timeout: limits.idle_timeout,
        write_timeout: limits.write_timeout,
        requests_per_connection: u64::from(limits.requests_per_connection),
        body_rate_min: limits.body_rate_min,
    }
}

fn upstream(address: &UpstreamAddress, settings: &settings::Upstream, names: &mut Vec<Name>) -> Upstream {
    let target = match address {
        UpstreamAddress::Unix(path) => Target::Unix(path.clone()),
        UpstreamAddress::Tcp { host, port } => {
            // Resolving here, before anything runs, is the one time that waiting harms nobody. A name that does not
            // resolve yet is no reason not to start: the application may come up later.
            let found = resolver::resolve(host, *port).unwrap_or_default();
            let addresses = Arc::new(Addresses::new(address.to_string(), found));
            if host.parse::<std::net::IpAddr>().is_err() {
                names.push(Name { host: host.clone(), port: *port, addresses: Arc::clone(&addresses) });
            }
            Target::Tcp(addresses)
        }
    };
    Upstream {
        target,
        connect_timeout: settings.connect_timeout,
        response_timeout: settings.response_timeout,
        idle_timeout: settings.idle_timeout,
        idle_connections: settings.idle_connections,
    }
}
