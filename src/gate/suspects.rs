//! Suspects: requests of a client whose budget ([`unverified_per_client`]) is empty, until they are proven genuine.
//!
//! An address is not an attacker: senders share addresses with strangers. So an empty budget says nothing about one
//! request, and refusing it unseen costs nearly as much as verifying it. A suspect is verified with what others leave. All
//! suspects together hold at most a share of what may be held; only where that share is full one is refused.
//!
//! [`unverified_per_client`]: super::admission::AdmissionLimits::unverified_per_client

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::gate::admission::AdmissionLimits;
use crate::gate::crowd::Bound;
use crate::gate::gauge::Gauge;

/// What becomes of a request of a client whose budget is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverBudget {
    /// It is a suspect: it is verified when its turn comes.
    #[default]
    Queue,
    /// It is refused before it is verified.
    Refuse,
}

impl OverBudget {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Refuse => "refuse",
        }
    }
}

/// What suspects hold, and the share that they may hold.
#[derive(Debug)]
pub struct Suspects {
    queue: AtomicBool,
    percent: AtomicU32,
    requests: Gauge,
    body_memory: Gauge,
}

impl Suspects {
    pub(super) fn new(limits: AdmissionLimits) -> Self {
        let (requests, body_memory) = (Gauge::default(), Gauge::default());
        let suspects = Self { queue: AtomicBool::default(), percent: AtomicU32::default(), requests, body_memory };
        suspects.set_limits(limits);
        suspects
    }

    pub(super) fn set_limits(&self, limits: AdmissionLimits) {
        self.queue.store(limits.over_budget == OverBudget::Queue, Ordering::Relaxed);
        self.percent.store(limits.over_budget_percent, Ordering::Relaxed);
        self.requests.set_limit(limits.suspect_requests());
        self.body_memory.set_limit(limits.suspect_body_memory());
    }

    /// Whether there are any: whether a client's empty budget is no reason to refuse.
    pub(super) fn exist(&self) -> bool {
        self.queue.load(Ordering::Relaxed)
    }

    /// The share of a worker's time that they may have, in percent. Where they are refused unseen, there is none.
    #[must_use]
    pub fn percent(&self) -> u32 {
        if self.exist() { self.percent.load(Ordering::Relaxed) } else { 100 }
    }

    pub(super) fn enter(&self) -> bool {
        self.requests.take(1)
    }

    pub(super) fn leave(&self) {
        self.requests.release(1);
    }

    /// Charges so many bytes more of a body of which `own` are charged.
    pub(super) fn hold(&self, bytes: u64, own: u64) -> bool {
        self.body_memory.take_share(bytes, own)
    }

    pub(super) fn let_go(&self, bytes: u64) {
        self.body_memory.release(bytes);
    }

    /// Whether so many bytes more would leave half of their share free.
    pub(super) fn have_plenty(&self, bytes: u64) -> bool {
        self.body_memory.has_plenty(bytes)
    }

    pub(super) const fn gauge(&self, of: Share) -> &Gauge {
        match of {
            Share::Requests => &self.requests,
            Share::BodyMemory => &self.body_memory,
        }
    }
}

/// Of what suspects have a share, beside time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Exchanges at a time.
    Requests,
    /// Bytes of bodies.
    BodyMemory,
}

impl Share {
    /// The bound that its members give way for.
    #[must_use]
    pub const fn bound(self) -> Bound {
        match self {
            Self::Requests => Bound::SuspectRequests,
            Self::BodyMemory => Bound::SuspectMemory,
        }
    }
}
