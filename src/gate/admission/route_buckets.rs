//! The token buckets of all routes, by the name of their route: they outlive a configuration.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::token_bucket::SharedBucket;
use crate::gate::route::Route;

/// The buckets of a process.
#[derive(Debug, Default)]
pub struct RouteBuckets {
    by_name: Mutex<BTreeMap<String, Arc<SharedBucket>>>,
}

impl RouteBuckets {
    /// The bucket of each route, in their order; nothing for a route without a rate. A route that had a bucket under its
    /// name goes on with it, and so does one that comes back before its bucket would have been full.
    #[must_use]
    pub fn of(&self, routes: &[Route], now: Duration) -> Vec<Option<Arc<SharedBucket>>> {
        let mut known = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        let mut bucket = |route: &Route| {
            let rate = route.admission.rate?;
            let bucket = match known.remove(&route.name) {
                Some(bucket) if bucket.rate() == rate => bucket,
                Some(bucket) => bucket.followed_by(rate, now),
                None => Arc::new(SharedBucket::new(rate)),
            };
            kept.insert(route.name.clone(), Arc::clone(&bucket));
            Some(bucket)
        };
        let buckets = routes.iter().map(&mut bucket).collect();
        kept.extend(std::mem::take(&mut *known).into_iter().filter(|(_, bucket)| !bucket.is_full(now)));
        *known = kept;
        buckets
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::gate::admission::route_admission::RouteAdmission;
    use crate::gate::admission::token_bucket::Rate;
    use crate::gate::allowlist::AllowList;
    use crate::gate::believed::KeptFields;
    use crate::gate::identity::CallerList;
    use crate::gate::observe::Observe;
    use crate::gate::pattern::PathPattern;
    use crate::gate::route::RouteKey;
    use crate::gate::verify::Verifier;
    use proptest::prelude::*;

    fn route(name: &str, rate: Option<Rate>) -> Route {
        let key = RouteKey { host: None, path: PathPattern::parse("/").unwrap(), methods: Vec::new() };
        Route {
            name: name.to_owned(),
            key,
            verifier: Verifier::none(),
            body_limit: 1,
            upstream: 0,
            admission: RouteAdmission { rate, ..RouteAdmission::default() },
            clients: AllowList::default(),
            callers: CallerList::default(),
            kept: KeptFields::default(),
            observe: Observe::default(),
            replay: None,
            challenges: None,
        }
    }

    #[test]
    fn a_route_keeps_its_bucket_wherever_it_stands_and_whatever_happens() {
        let second = Duration::from_secs(1);
        let buckets = RouteBuckets::default();
        let slow = Some(Rate { tokens: 1, per: Duration::from_secs(60), burst: 3 });
        let take = |routes: &[Route], at: usize, now| {
            let buckets = buckets.of(routes, now);
            let bucket = buckets[at].as_ref().unwrap();
            (0..10).filter(|_| bucket.take(now).is_ok()).count()
        };
        assert_eq!(take(&[route("a", slow), route("b", None)], 0, second), 3);
        assert_eq!(take(&[route("c", slow), route("a", slow)], 1, second), 0, "moved");
        assert_eq!(take(&[route("c", slow)], 0, second), 3, "another route has its own");
        assert_eq!(take(&[route("a", None), route("d", slow)], 1, second), 3);
        let more = slow.map(|rate| Rate { burst: 5, ..rate });
        assert_eq!(take(&[route("a", more)], 0, second), 2, "gone and back, with a larger burst");
        assert_eq!(take(&[route("a", slow)], 0, 100 * second), 0, "five of three were missing, one has come");
        let _ = buckets.of(&[], 1000 * second);
        assert!(buckets.by_name.lock().unwrap().is_empty(), "what is full is forgotten");
    }

    const NAMES: [&str; 3] = ["a", "b", "c"];

    fn configuration() -> impl Strategy<Value = Vec<(usize, Option<Rate>)>> {
        let rate = (1..5_u32, prop_oneof![Just(1_u64), Just(60)], 1..8_u32);
        let rate = rate.prop_map(|(tokens, per, burst)| Rate { tokens, per: Duration::from_secs(per), burst });
        let routes = proptest::sample::subsequence(vec![0, 1, 2], 0..=3).prop_shuffle();
        routes.prop_flat_map(move |routes| {
            let rates = proptest::collection::vec(proptest::option::weighted(0.8, rate.clone()), routes.len());
            (Just(routes), rates).prop_map(|(routes, rates)| routes.into_iter().zip(rates).collect())
        })
    }

    proptest! {
        /// Routes come, go, move and change their rates; none is ever given more than its largest burst and what has come
        /// at the rate that it had last.
        #[test]
        fn no_sequence_of_configurations_gives_anybody_more(
            steps in proptest::collection::vec((0..5_000_u64, configuration(), 0..10_u32), 1..60),
        ) {
            let buckets = RouteBuckets::default();
            let mut now = Duration::ZERO;
            // Of each route: its last rate, its largest burst, and, in tokens, what has come and what has been taken.
            let mut model = [(None::<Rate>, 0_u32, 0.0_f64, 0_u32); 3];
            for (wait, configuration, takes) in steps {
                now += Duration::from_millis(wait);
                for (rate, _, come, _) in &mut model {
                    let rate = rate.map_or(0.0, |rate| f64::from(rate.tokens) / rate.per.as_secs_f64());
                    *come += rate * wait as f64 / 1e3;
                }
                let routes: Vec<Route> = configuration.iter().map(|(name, rate)| route(NAMES[*name], *rate)).collect();
                let found = buckets.of(&routes, now);
                prop_assert_eq!(found.len(), routes.len());
                for ((name, rate), bucket) in configuration.iter().zip(&found) {
                    prop_assert_eq!(rate.is_some(), bucket.is_some());
                    let (Some(rate), Some(bucket)) = (rate, bucket) else { continue };
                    let (last, most, come, taken) = &mut model[*name];
                    (*last, *most) = (Some(*rate), (*most).max(rate.burst));
                    *taken += (0..takes).filter(|_| bucket.take(now).is_ok()).count() as u32;
                    prop_assert!(f64::from(*taken) <= f64::from(*most) + *come + 1e-3, "{}: {}", NAMES[*name], taken);
                }
            }
        }
    }
}
