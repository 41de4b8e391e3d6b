//! Names of applications to addresses, off the workers: resolving blocks, and a worker must not.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::edge::policy::Addresses;

use super::event_log::{EventLog, Level};

/// How often a name that resolves is resolved again.
const REFRESH: Duration = Duration::from_secs(30);

/// How often a name that does not resolve is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Resolves `host` and `port`; for a literal address nothing is asked of anyone.
///
/// # Errors
/// Of the system's resolver.
#[expect(clippy::disallowed_methods, reason = "the one place that resolves, on a thread of its own")]
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// A name that is kept fresh.
#[derive(Clone, Debug)]
pub struct Name {
    /// The host name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Where the workers look.
    pub addresses: Arc<Addresses>,
}

/// Keeps names fresh until it is dropped.
#[derive(Debug)]
pub struct Resolver {
    _running: Sender<()>,
}

impl Resolver {
    /// Starts the thread.
    #[must_use]
    pub fn start(names: Vec<Name>, log: Arc<EventLog>) -> Self {
        let (running, stopped) = channel();
        if !names.is_empty() {
            thread::spawn(move || keep_fresh(&names, &log, &stopped));
        }
        Self { _running: running }
    }
}

fn keep_fresh(names: &[Name], log: &EventLog, stopped: &Receiver<()>) {
    loop {
        let failed = names.iter().filter(|name| !refresh(name, log)).count();
        let pause = if failed > 0 { RETRY } else { REFRESH };
        if stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// False when the name does not resolve; the addresses known so far stay in use.
fn refresh(name: &Name, log: &EventLog) -> bool {
    let known = name.addresses.current();
    match resolve(&name.host, name.port) {
        Ok(found) if !found.is_empty() => {
            if *known != found {
                log.event(Level::Info, &format!("upstream {} is at {found:?}", name.addresses.name));
                name.addresses.replace(found);
            }
            true
        }
        outcome => {
            let why = outcome.err().map_or_else(|| "no address".to_owned(), |error| error.to_string());
            log.event(Level::Warn, &format!("upstream {} does not resolve: {why}", name.addresses.name));
            false
        }
    }
}
