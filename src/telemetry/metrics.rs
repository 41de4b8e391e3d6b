//! All that is counted in a process, and the handles through which a policy counts.
//!
//! [`Metrics`] belongs to the process and lives as long as it does. [`Meters`] belong to a policy: they are looked up
//! by name once, when the policy is made, and by position ever after. A route, key or upstream that was there before
//! goes on counting where it was; what is gone is no longer shown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cells::{KeySeries, PoolMeter, RouteSeries, UpstreamSeries, WorkerCells, each};
use super::exchange::Exchange;
use super::refusals::Refusal;
use super::tally::SharedTally;
use crate::outcome::ConnectionEnd;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[WorkerCells]>,
    unrouted: Arc<RouteSeries>,
    ends: [SharedTally; ConnectionEnd::ALL.len()],
    accept_pauses: SharedTally,
    registered: Mutex<Registered>,
}

/// What the policy in force counts, each once.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    /// The routes, in the order of the policy.
    pub routes: Vec<Arc<RouteSeries>>,
    /// The keys of all routes.
    pub keys: Vec<Arc<KeySeries>>,
    /// The applications.
    pub upstreams: Vec<Arc<UpstreamSeries>>,
}

/// What a policy wants to count.
#[derive(Clone, Debug)]
pub struct RouteLabels {
    /// The name of the route.
    pub name: String,
    /// The name of its scheme.
    pub scheme: String,
    /// The ids of its keys.
    pub keys: Vec<Arc<str>>,
}

/// The handles of one policy.
#[derive(Clone, Debug)]
pub struct Meters {
    metrics: Arc<Metrics>,
    routes: Vec<RouteMeter>,
    upstreams: Vec<Arc<UpstreamSeries>>,
}

#[derive(Clone, Debug)]
struct RouteMeter {
    series: Arc<RouteSeries>,
    keys: Vec<Arc<KeySeries>>,
}

impl Metrics {
    /// Nothing has been counted yet.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: each(workers),
            unrouted: Arc::new(RouteSeries::new(Arc::from(""), "", workers)),
            ends: core::array::from_fn(|_| SharedTally::default()),
            accept_pauses: SharedTally::default(),
            registered: Mutex::default(),
        })
    }

    /// The handles of a policy with these routes and upstreams, in its order. It is shown from now on.
    #[must_use]
    pub fn register(self: &Arc<Self>, routes: &[RouteLabels], upstreams: &[String]) -> Meters {
        let mut registered = self.lock();
        let mut now = Registered::default();
        let mut meters = Vec::with_capacity(routes.len());
        for labels in routes {
            let known = registered.routes.iter().find(|it| *it.name == *labels.name && it.scheme == labels.scheme);
            let series = known.map(Arc::clone).unwrap_or_else(|| {
                Arc::new(RouteSeries::new(Arc::from(labels.name.as_str()), &labels.scheme, self.workers.len()))
            });
            let key = |id: &Arc<str>| {
                let known = registered.keys.iter().find(|it| *it.route == *labels.name && it.key == *id);
                let new = || KeySeries::new(Arc::clone(&series.name), Arc::clone(id), self.workers.len());
                known.map(Arc::clone).unwrap_or_else(|| Arc::new(new()))
            };
            let keys: Vec<Arc<KeySeries>> = labels.keys.iter().map(key).collect();
            now.routes.push(Arc::clone(&series));
            now.keys.extend(keys.iter().map(Arc::clone));
            meters.push(RouteMeter { series, keys });
        }
        for name in upstreams {
            let known = registered.upstreams.iter().find(|it| it.name == *name);
            let new = || Arc::new(UpstreamSeries::new(name.clone(), self.workers.len()));
            now.upstreams.push(known.map(Arc::clone).unwrap_or_else(new));
        }
        let upstreams = now.upstreams.clone();
        *registered = now;
        Meters { metrics: Arc::clone(self), routes: meters, upstreams }
    }

    /// What the policy in force counts.
    #[must_use]
    pub fn registered(&self) -> Registered {
        self.lock().clone()
    }

    /// Requests that fell under no route.
    #[must_use]
    pub fn unrouted(&self) -> &RouteSeries {
        &self.unrouted
    }

    /// What each worker says of itself.
    #[must_use]
    pub fn workers(&self) -> &[WorkerCells] {
        &self.workers
    }

    /// Counts a connection that was refused or closed at a bound.
    pub fn connection_ended(&self, end: ConnectionEnd) {
        if let Some(tally) = self.ends.get(end as usize) {
            tally.add(1);
        }
    }

    /// How many connections ended so.
    #[must_use]
    pub fn connections_ended(&self, end: ConnectionEnd) -> u64 {
        self.ends.get(end as usize).map_or(0, SharedTally::get)
    }

    /// Counts a pause of accepting.
    pub fn accept_failed(&self) {
        self.accept_pauses.add(1);
    }

    /// How often accepting has paused.
    #[must_use]
    pub fn accept_pauses(&self) -> u64 {
        self.accept_pauses.get()
    }

    /// The last refusals of all workers, the youngest first, at most `limit`.
    #[must_use]
    pub fn refusals(&self, limit: usize) -> Vec<Refusal> {
        // What was refused within one turn of a worker has the same time: its own order counts.
        let of_worker = |cells: &WorkerCells| cells.refusals.snapshot().into_iter().rev();
        let mut all: Vec<Refusal> = self.workers.iter().flat_map(of_worker).collect();
        all.sort_by_key(|refusal| core::cmp::Reverse(refusal.at));
        all.truncate(limit);
        all
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts nothing: for a policy that is put together by hand.
impl Default for Meters {
    fn default() -> Self {
        Metrics::new(0).register(&[], &[])
    }
}

impl Meters {
    /// Counts an exchange. Called on the thread of the worker that served it, which alone writes its cells: a few dozen
    /// plain stores, no allocation, nothing that another core writes.
    pub fn record(&self, exchange: &Exchange<'_>) {
        let meter = exchange.route.and_then(|tag| self.routes.get(tag.position));
        meter.map_or(&self.metrics.unrouted, |meter| &meter.series).count(exchange);
        if let (Some(meter), Some(id)) = (meter, exchange.key_id)
            && let Some(key) = meter.keys.iter().find(|key| *key.key == *id)
        {
            key.count(exchange);
        }
        if exchange.outcome.answer().is_some()
            && let Some(cells) = self.metrics.workers.get(exchange.worker)
        {
            cells.refusals.note(exchange, meter.map(|meter| &meter.series.name));
        }
    }

    /// The process that this counts for.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where a worker counts its connections to an application of the policy.
    #[must_use]
    pub fn pool(&self, upstream: usize, worker: usize) -> Option<PoolMeter> {
        self.upstreams.get(upstream).map(|series| PoolMeter::new(Arc::clone(series), worker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str, scheme: &str, keys: &[&str]) -> RouteLabels {
        let keys = keys.iter().copied().map(Arc::from).collect();
        RouteLabels { name: name.to_owned(), scheme: scheme.to_owned(), keys }
    }

    #[test]
    fn every_end_of_a_connection_is_counted_on_its_own() {
        let metrics = Metrics::new(1);
        // Not all of them by their list alone: one that is missing there would be missed here, too.
        let named = [ConnectionEnd::IdleClosed, ConnectionEnd::TlsPlaintext, ConnectionEnd::TlsHandshakeFailed];
        for end in ConnectionEnd::ALL.iter().copied().chain(named) {
            let before: Vec<u64> = ConnectionEnd::ALL.iter().map(|end| metrics.connections_ended(*end)).collect();
            metrics.connection_ended(end);
            for (other, count) in ConnectionEnd::ALL.iter().zip(before) {
                assert_eq!(metrics.connections_ended(*other), count + u64::from(*other == end), "{}", end.code());
            }
            assert!(metrics.connections_ended(end) > 0, "{}", end.code());
        }
    }

    #[test]
    fn of_refusals_at_the_same_time_the_last_is_the_youngest() {
        use crate::outcome::Rejection;
        let metrics = Metrics::new(1);
        for (rejection, at) in
            [(Rejection::RouteUnknown, 1), (Rejection::BodyTooLarge, 2), (Rejection::SignatureMismatch, 2)]
        {
            super::super::refusals::tests::refuse(&metrics.workers[0].refusals, rejection, at);
        }
        let reasons: Vec<&str> = metrics.refusals(9).iter().map(|refusal| refusal.reason).collect();
        assert_eq!(reasons, ["signature_mismatch", "body_too_large", "route_unknown"]);
    }

    #[test]
    fn what_stays_under_its_name_goes_on_counting_and_what_is_gone_is_not_shown() {
        let metrics = Metrics::new(1);
        let before = metrics.register(&[labels("a", "github", &["1", "2"]), labels("b", "stripe", &[])], &[]);
        let after = metrics.register(&[labels("c", "slack", &[]), labels("a", "github", &["2", "3"])], &[]);
        assert!(Arc::ptr_eq(&before.routes[0].series, &after.routes[1].series));
        assert!(Arc::ptr_eq(&before.routes[0].keys[1], &after.routes[1].keys[0]));
        let shown: Vec<String> = metrics.registered().routes.iter().map(|route| route.name.to_string()).collect();
        assert_eq!(shown, ["c", "a"]);
        assert_eq!(metrics.registered().keys.len(), 2);
        // Another scheme is another series: its label is another one.
        let changed = metrics.register(&[labels("a", "stripe", &[])], &[]);
        assert!(!Arc::ptr_eq(&changed.routes[0].series, &after.routes[1].series));
    }
}
