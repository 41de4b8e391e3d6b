//! The policy in force: published by the control room, looked at by every worker through a copy of its own.
//!
//! An exchange starts with the newest snapshot and finishes under it. The policy itself is shared, and exchanges are not counted
//! on it: a worker holds one reference to it, and hands out references that only its own thread counts. What
//! an exchange costs is one look at a number that changes with a reload and lies in the cache of every core between.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::policy::{Policy, Target, Upstream};
use super::upstream::Pool;

/// The policy that exchanges start with from now on, and how many there have been.
#[derive(Debug)]
pub struct Published {
    policy: ArcSwap<Policy>,
    generation: AtomicU64,
}

impl Published {
    /// The first one.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy: ArcSwap::from_pointee(policy), generation: AtomicU64::new(1) }
    }

    /// Puts a policy in force; gives the one before, so that the thread that publishes also pays for dropping it.
    pub fn publish(&self, policy: Policy) -> Arc<Policy> {
        let before = self.policy.swap(Arc::new(policy));
        // After the policy: a worker that sees the new number finds the new policy, or a newer one.
        self.generation.fetch_add(1, Ordering::Release);
        before
    }

    /// The policy.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// 1 for the first policy, one more for each that followed.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// A policy, and this worker's connections to its applications.
pub struct Snapshot<S> {
    policy: Arc<Policy>,
    worker: usize,
    pools: Vec<Rc<Pool<S>>>,
}

impl<S> Deref for Snapshot<S> {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

impl<S> Snapshot<S> {
    /// The first one of the worker at this position: every pool is new.
    fn new(policy: Arc<Policy>, worker: usize) -> Self {
        let pools = (0..policy.upstreams.len()).map(|upstream| new_pool(&policy, upstream, worker)).collect();
        Self { policy, worker, pools }
    }

    /// The next one. An application that is still there keeps its pool, whatever its position, and the pool goes on
    /// counting where it did; the pools of those that are gone close with the last exchange that uses them.
    fn followed_by(&self, policy: Arc<Policy>) -> Self {
        let known = self.policy.upstreams.iter().zip(&self.pools);
        let known: BTreeMap<_, _> = known.map(|(upstream, pool)| (identity(upstream), pool)).collect();
        let pool = |(position, upstream): (usize, &Upstream)| {
            let known = known.get(&identity(upstream)).map(|pool| Rc::clone(pool));
            known.unwrap_or_else(|| new_pool(&policy, position, self.worker))
        };
        let pools = policy.upstreams.iter().enumerate().map(pool).collect();
        Self { policy, worker: self.worker, pools }
    }

    /// The connections to an application, by its position in [`Policy::upstreams`].
    #[must_use]
    pub fn pool(&self, upstream: usize) -> Option<&Rc<Pool<S>>> {
        self.pools.get(upstream)
    }

    /// All of them, in that order.
    #[must_use]
    pub fn pools(&self) -> &[Rc<Pool<S>>] {
        &self.pools
    }
}

fn new_pool<S>(policy: &Policy, upstream: usize, worker: usize) -> Rc<Pool<S>> {
    Rc::new(Pool::new(policy.live.meters.pool(upstream, worker)))
}

/// What makes two upstreams the same application, whose connections can be used again: where it is, and how it proves what it
/// is.
fn identity(upstream: &Upstream) -> (bool, &[u8], Option<&[u8; 32]>) {
    let digest = upstream.tls.as_ref().map(|tls| &tls.digest);
    match &upstream.target {
        Target::Unix(path) => (true, path.as_os_str().as_encoded_bytes(), digest),
        Target::Tcp(addresses) => (false, addresses.name.as_bytes(), digest),
    }
}

/// One worker's copy.
pub(super) struct Latest<S> {
    published: Arc<Published>,
    seen: RefCell<(u64, Rc<Snapshot<S>>)>,
}

impl<S> Latest<S> {
    pub(super) fn new(published: Arc<Published>, worker: usize) -> Self {
        let generation = published.generation();
        let snapshot = Rc::new(Snapshot::new(published.current(), worker));
        Self { published, seen: RefCell::new((generation, snapshot)) }
    }

    /// The newest snapshot.
    pub(super) fn get(&self) -> Rc<Snapshot<S>> {
        let generation = self.published.generation();
        let mut seen = self.seen.borrow_mut();
        if seen.0 != generation {
            let next = Rc::new(seen.1.followed_by(self.published.current()));
            *seen = (generation, next);
        }
        Rc::clone(&seen.1)
    }
}
