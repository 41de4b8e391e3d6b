//! Where an application listens.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Where an application listens.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Unix-domain socket.
    Unix(PathBuf),
    /// TCP addresses, in order of preference. For a host name they are kept fresh by the resolver; the workers only
    /// ever read them.
    Tcp(Arc<Addresses>),
}

/// The addresses behind a name, replaced as a whole when they change.
#[derive(Debug)]
pub struct Addresses {
    /// As it was written in the configuration, for messages.
    pub name: String,
    list: arc_swap::ArcSwap<Vec<SocketAddr>>,
}

impl Addresses {
    /// Addresses of `name`, as known so far.
    #[must_use]
    pub fn new(name: String, list: Vec<SocketAddr>) -> Self {
        Self { name, list: arc_swap::ArcSwap::from_pointee(list) }
    }

    /// The current addresses.
    #[must_use]
    pub fn current(&self) -> Arc<Vec<SocketAddr>> {
        self.list.load_full()
    }

    /// Replaces them.
    pub fn replace(&self, list: Vec<SocketAddr>) {
        self.list.store(Arc::new(list));
    }
}
