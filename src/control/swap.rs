//! A new plan for workers that run: all that can fail happens before the one swap, and nothing that lives is made anew.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::channel;

use crate::edge::driver::DriverChoice;
use crate::edge::listener::Entrance;
use crate::edge::orders::Order;
use crate::edge::policy::{ListenerId, Live, Policy, Target};
use crate::edge::tls::door::TlsDoor;
use crate::gate::admission::Admission;

use super::listeners::{Listener, ListenerPlace};
use super::meters::meters;
use super::supervisor::{self, AdminPlan, Applied, Plan, Running, StartError};

impl Running {
    /// Puts a new plan in force. Exchanges in flight finish under the policy that they started with; what has been seen
    /// and spent, and connections to applications that stay, are kept. A listener is known by its address: connections
    /// of one that is gone are closed after the exchange in flight.
    ///
    /// # Errors
    /// [`StartError`]: nothing has changed.
    pub fn apply(&mut self, plan: Plan) -> Result<Applied, StartError> {
        let Plan { mut policy, tls, admission, listeners: wanted, admin, workers, driver, drain, .. } = plan;
        let mut tls = self.tickets.doors(&tls).map_err(StartError::Tls)?;
        let (places, gone) = self.listeners.compare(&wanted);
        let missing: Vec<SocketAddr> = places.iter().filter_map(ListenerPlace::missing).collect();
        let (opened, shared, entrances) = supervisor::bind(&mut self.listeners, &missing, self.workers.len())?;
        if !opened.is_empty() {
            self.prepare(entrances)?;
        }
        // From here on nothing can fail.
        let before = self.policy.current();
        let added = opened.iter().map(|listener| listener.bound).collect();
        let mut opened = opened.into_iter();
        let open = places.into_iter().filter_map(|place| place.kept().or_else(|| opened.next())).collect();
        let moment = self.clock.now();
        let now = moment.monotonic;
        self.listeners.replace(open, &before, now);
        let listeners = self.listeners.ids();
        let judges_anew = follow(&before, &listeners, &mut tls);
        let routes = policy.gate.routes.routes();
        policy.live = Live {
            ledgers: self.ledgers.of(routes, moment),
            route_buckets: self.buckets.of(routes, now),
            listeners,
            retired: self.listeners.retired(),
            tls,
            judges_anew,
            meters: meters(&self.metrics, &policy.gate),
        };
        keep_addresses(&before, &policy);
        drop(before);
        let mut needs_restart = self.needs_restart(workers, driver);
        needs_restart.extend(too_few_clients(&self.admission, admission.clients_tracked));
        needs_restart.extend(resized(&policy));
        needs_restart.extend(other_port(self.admin.as_ref(), admin.as_ref()));
        self.admission.set_limits(admission, now);
        let before = self.policy.publish(policy);
        self.enforce();
        // Here, and not on a worker, unless an exchange still needs it.
        drop(before);
        self.drain = drain;
        self.addresses = self.listeners.addresses();
        self.shared.retain(|address| self.addresses.contains(address));
        self.shared.extend(shared.into_iter().filter(|address| !self.listeners.closed_lately(*address, now)));
        Ok(Applied {
            added,
            removed: gone.iter().map(|listener| listener.bound).collect(),
            needs_restart,
            generation: self.policy.generation(),
        })
    }

    /// Gives every worker its sockets. Either all of them take theirs, or none does.
    fn prepare(&self, entrances: Vec<Vec<Entrance>>) -> Result<(), StartError> {
        let (done, answers) = channel();
        for (worker, entrances) in self.workers.iter().zip(entrances) {
            worker.orders.send(Order::Prepare(entrances, done.clone()));
        }
        drop(done);
        // A worker that is gone does not answer.
        let answers: Vec<io::Result<()>> = answers.iter().collect();
        let taken = answers.len() == self.workers.len();
        let refused = answers.into_iter().find_map(Result::err);
        if taken && refused.is_none() {
            return Ok(());
        }
        self.workers.iter().for_each(|worker| worker.orders.send(Order::Abandon));
        let why = refused.map_or_else(|| "a worker has ended".to_owned(), |error| error.to_string());
        Err(StartError::Worker(why))
    }

    /// Lets every worker look at the policy, and waits until all have.
    fn enforce(&self) {
        let (done, answers) = channel();
        self.workers.iter().for_each(|worker| worker.orders.send(Order::Enforce(done.clone())));
        drop(done);
        answers.iter().for_each(drop);
    }

    fn needs_restart(&self, workers: usize, wanted: DriverChoice) -> Vec<String> {
        let mut lines = Vec::new();
        if workers != self.workers.len() {
            lines.push(stays("server.workers", self.workers.len(), workers));
        }
        if wanted != self.driver {
            lines.push(stays("server.driver", self.driver.name(), wanted.name()));
        }
        lines
    }
}

impl ListenerPlace {
    const fn missing(&self) -> Option<SocketAddr> {
        match self {
            Self::New(address) => Some(*address),
            Self::Kept(_) => None,
        }
    }

    const fn kept(self) -> Option<Listener> {
        match self {
            Self::Kept(listener) => Some(listener),
            Self::New(_) => None,
        }
    }
}

fn stays(key: &str, now: impl std::fmt::Display, wanted: impl std::fmt::Display) -> String {
    format!("{key} stays {now} until the process is restarted; {wanted} is wanted")
}

/// The table of clients is made once: a smaller one would forget who has spent what.
fn too_few_clients(admission: &Admission, wanted: usize) -> Option<String> {
    let tracked = admission.clients_tracked();
    (tracked != wanted).then(|| stays("limits.clients_tracked", tracked, wanted))
}

/// So is that of what a route has seen.
fn resized(policy: &Policy) -> impl Iterator<Item = String> {
    let routes = policy.gate.routes.routes().iter().zip(&policy.live.ledgers);
    routes.filter_map(|(route, ledger)| {
        let (wanted, capacity) = (route.replay?.capacity, ledger.as_ref()?.capacity());
        let key = format!("replay.capacity of the route {}", route.name);
        (wanted != capacity).then(|| stays(&key, capacity, wanted))
    })
}

/// The port over which the process is watched is opened once.
fn other_port(now: Option<&AdminPlan>, wanted: Option<&AdminPlan>) -> Option<String> {
    let address = |admin: Option<&AdminPlan>| admin.map_or_else(|| "none".to_owned(), |it| it.address.to_string());
    match (now, wanted) {
        _ if now == wanted => None,
        _ if address(now) == address(wanted) => {
            Some("admin.hosts and admin.remote_control stay as they are until the process is restarted".to_owned())
        }
        _ => Some(stays("admin.address", address(now), address(wanted))),
    }
}

/// Lets each door follow that of the same listener. Gives whether one of them lets in other clients than before.
fn follow(before: &Policy, listeners: &[ListenerId], doors: &mut [Option<TlsDoor>]) -> bool {
    let mut differs = false;
    for (id, door) in listeners.iter().zip(doors).filter(|(id, _)| before.listens(**id)) {
        differs |= match (door, before.tls(*id)) {
            (Some(door), Some(previous)) => !door.follow(previous),
            (door, previous) => door.is_some() != previous.is_some(),
        };
    }
    differs
}

/// A name that does not resolve at this moment keeps the addresses that are known.
fn keep_addresses(before: &Policy, after: &Policy) {
    for upstream in &after.upstreams {
        let Target::Tcp(new) = &upstream.target else { continue };
        let known = before.upstreams.iter().find_map(|upstream| match &upstream.target {
            Target::Tcp(old) if old.name == new.name => Some(old.current()),
            _ => None,
        });
        if let Some(known) = known.filter(|_| new.current().is_empty()) {
            new.replace(known.to_vec());
        }
    }
}
