//! Names of applications to addresses, off the workers: resolving blocks, and a worker must not.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::edge::clock::Clock;
use crate::edge::policy::Addresses;

use super::event_log::{EventLog, Level};

/// How often a name that resolves is resolved again.
const REFRESH: Duration = Duration::from_secs(30);

/// How often a name that does not resolve is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Addresses of several hosts with their ports, in the same order; they are all asked about at the same time. A literal
/// address stands for itself. What does not resolve within `patience` has no addresses.
#[must_use]
pub fn resolve_all(hosts: &[(String, u16)], patience: Duration) -> Vec<Vec<SocketAddr>> {
    let literal = |(host, port): &(String, u16)| {
        host.parse::<IpAddr>().map(|address| SocketAddr::new(address, *port)).into_iter().collect()
    };
    let mut found: Vec<Vec<SocketAddr>> = hosts.iter().map(literal).collect();
    let (tell, told) = channel();
    for (position, (host, port)) in hosts.iter().enumerate().filter(|(_, (host, _))| host.parse::<IpAddr>().is_err()) {
        let (host, port, tell) = (host.clone(), *port, tell.clone());
        // The system's resolver cannot be interrupted: what a thread finds too late is dropped. Where there
        // can be no thread the name has no addresses for now, and those that are kept fresh are tried again.
        let ask = move || drop(tell.send((position, resolve(&host, port).unwrap_or_default())));
        let _ = thread::Builder::new().name("resolve".to_owned()).spawn(ask);
    }
    drop(tell);
    let clock = Clock::start();
    while let Ok((position, addresses)) = told.recv_timeout(patience.saturating_sub(clock.monotonic())) {
        found.get_mut(position).into_iter().for_each(|place| place.clone_from(&addresses));
    }
    found
}

/// # Errors
/// Of the system's resolver.
#[expect(clippy::disallowed_methods, reason = "the one place that resolves, on a thread of its own")]
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// A name that is kept fresh.
#[derive(Clone, Debug)]
pub struct ResolvedName {
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
    names: Mutex<Vec<ResolvedName>>,
    follow: Sender<Vec<ResolvedName>>,
}

impl Resolver {
    /// Starts the thread.
    #[must_use]
    pub fn start(names: Vec<ResolvedName>, log: Arc<EventLog>) -> Self {
        let (follow, followed) = channel();
        let first = names.clone();
        thread::spawn(move || keep_fresh(first, &log, &followed));
        Self { names: Mutex::new(names), follow }
    }

    /// The names that are kept fresh.
    #[must_use]
    pub fn names(&self) -> Vec<ResolvedName> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on keeps these names fresh, and no others.
    pub fn follow(&self, names: Vec<ResolvedName>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&names);
        // The thread ends only after this end of the channel does.
        let _ = self.follow.send(names);
    }
}

fn keep_fresh(mut names: Vec<ResolvedName>, log: &EventLog, followed: &Receiver<Vec<ResolvedName>>) {
    let clock = Clock::start();
    let mut due = Duration::ZERO;
    let mut complaints = Complaints::new();
    loop {
        if clock.monotonic() >= due {
            let failed = names.iter().filter(|name| !refresh(name, log, &mut complaints)).count();
            due = clock.monotonic() + if failed > 0 { RETRY } else { REFRESH };
        }
        match followed.recv_timeout(due.saturating_sub(clock.monotonic())) {
            Ok(others) => {
                names = others;
                complaints.clear();
                if names.iter().any(|name| name.addresses.current().is_empty()) {
                    due = due.min(clock.monotonic() + RETRY);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Why names do not resolve, as the log has it: it is said once, and again when the reason is another one.
type Complaints = HashMap<String, String>;

/// False when the name does not resolve; the addresses known so far stay in use.
fn refresh(name: &ResolvedName, log: &EventLog, complaints: &mut Complaints) -> bool {
    let (known, called) = (name.addresses.current(), &name.addresses.name);
    match resolve(&name.host, name.port) {
        Ok(found) if !found.is_empty() => {
            let recovered = complaints.remove(called).is_some();
            if *known != found {
                log.event(Level::Info, &format!("upstream {called} is at {found:?}"));
                name.addresses.replace(found);
            } else if recovered {
                log.event(Level::Info, &format!("upstream {called} resolves again"));
            }
            true
        }
        outcome => {
            let why = outcome.err().map_or_else(|| "no address".to_owned(), |error| error.to_string());
            if complaints.get(called) != Some(&why) {
                log.event(Level::Warn, &format!("upstream {called} does not resolve: {why}"));
                complaints.insert(called.to_string(), why);
            }
            false
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn hosts_resolve_in_order_and_one_that_does_not_delays_no_other() {
        let hosts = [("192.0.2.1", 1), ("no-such-name.invalid", 2), ("localhost", 3), ("::1", 4)];
        let hosts = hosts.map(|(host, port)| (host.to_owned(), port));
        let found = resolve_all(&hosts, Duration::from_secs(5));
        assert_eq!(found[0], ["192.0.2.1:1".parse().unwrap()]);
        assert_eq!(found[1], []);
        assert!(found[2].iter().any(|address| address.ip().is_loopback() && address.port() == 3), "{found:?}");
        assert_eq!(found[3], ["[::1]:4".parse().unwrap()]);
        // Without patience no answer is waited for.
        assert_eq!(resolve_all(&hosts, Duration::ZERO)[0], found[0]);
    }
}
