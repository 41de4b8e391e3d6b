//! The shared engine (Redis or Valkey), as a worker talks to it: one connection, on the worker's own runtime, over which
//! what many exchanges ask goes at once.
//!
//! `link` is the book of a worker ([`LeaseBook`](crate::ledger::shared::LeaseBook)) and a bell; `line` keeps the connection;
//! `dial` makes one, and `sentinel` finds out where the engine is, where that changes; `greeting` begins a connection and finds
//! out whether the server is fit; `cluster` finds out which node of a cluster has what, and begins a connection to each in use;
//! `claim` and `rate` are stages of an exchange; `standing` is what the process knows of all
//! its workers.
//!
//! An exchange waits for its answer in the book, and the task of the connection wakes it: when the answer comes, when its
//! time is over, or when the connection ends.

pub mod claim;
pub mod cluster;
mod dial;
mod greeting;
pub mod line;
pub mod link;
pub mod rate;
mod sentinel;
pub mod standing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::door::tls::outbound::ClientTls;
use super::runtime::target::Target;
use crate::ledger::shared::EngineKey;
use cluster::ClusterTerms;
use standing::EngineStanding;

/// Where the engine is.
#[derive(Clone, Debug)]
pub enum EnginePlace {
    /// It listens there.
    Direct(Target),
    /// Sentinels know.
    Sentinels(SentinelTerms),
    /// Nodes of a cluster say which of them has what.
    Cluster(ClusterTerms),
}

impl EnginePlace {
    /// Whether it is a cluster.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// Whom to ask where the engine is.
#[derive(Clone)]
pub struct SentinelTerms {
    /// The sentinels.
    pub sentinels: Vec<Target>,
    /// By what they know the engine.
    pub service: String,
    /// What they want first.
    pub password: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for SentinelTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SentinelTerms");
        shown.field("sentinels", &self.sentinels).field("service", &self.service).finish_non_exhaustive()
    }
}

/// How the engine is talked to.
#[derive(Clone)]
pub struct EngineTerms {
    /// Where it is.
    pub place: EnginePlace,
    /// How the connection is encrypted; nothing for plain text.
    pub tls: Option<ClientTls>,
    /// Who we are there, where that is not the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// By what deliveries are named there.
    pub key: EngineKey,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For an exchange to be told whether a delivery is its own.
    pub response_timeout: Duration,
    /// A random number: no two processes have the same tokens.
    pub process: u64,
    /// How the workers stand with it.
    pub standing: Arc<EngineStanding>,
}

impl fmt::Debug for EngineTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineTerms").field("place", &self.place).finish_non_exhaustive()
    }
}
