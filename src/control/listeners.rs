//! Which listeners there are, and who is who when a new configuration comes: a listener is known by the address that
//! is configured for it, wherever it stands in the file.

use std::net::SocketAddr;
use std::time::Duration;

use crate::edge::policy::{ListenerId, Policy, Retired};

/// How long the door of a closed listener is kept: a connection that came through it may begin one more exchange, as
/// late as a head may take, which is an hour at most.
const KEPT: Duration = Duration::from_secs(3600);

/// More than it takes to close a listening socket.
const LEAVING: Duration = Duration::from_secs(5);

/// A listener that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// Its number.
    pub(super) id: ListenerId,
    /// As it is configured; port 0 leaves the choice to the system.
    pub(super) configured: SocketAddr,
    /// Where it is bound.
    pub(super) bound: SocketAddr,
}

/// All of them, and those that have been.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: Vec<Listener>,
    retired: Vec<Gone>,
    next: u32,
}

/// A listener that has been closed.
#[derive(Debug)]
struct Gone {
    since: Duration,
    bound: SocketAddr,
    retired: Retired,
}

/// One place of a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenerPlace {
    /// A listener that is there already.
    Kept(Listener),
    /// One that must be bound.
    New(SocketAddr),
}

impl Listeners {
    /// Who is meant by the addresses of a new configuration, in its order, and who is left over. Of several listeners on
    /// one address (port 0) the first is meant by the first.
    pub(super) fn compare(&self, wanted: &[SocketAddr]) -> (Vec<ListenerPlace>, Vec<Listener>) {
        let mut left = self.open.clone();
        let mut place = |address: &SocketAddr| match left.iter().position(|open| open.configured == *address) {
            Some(at) => ListenerPlace::Kept(left.remove(at)),
            None => ListenerPlace::New(*address),
        };
        let places = wanted.iter().map(&mut place).collect();
        (places, left)
    }

    /// Those that are open.
    pub(super) fn open(&self) -> &[Listener] {
        &self.open
    }

    /// A new listener, which is not open yet.
    pub(super) const fn introduce(&mut self, configured: SocketAddr, bound: SocketAddr) -> Listener {
        let id = ListenerId(self.next);
        self.next += 1;
        Listener { id, configured, bound }
    }

    /// These are open now, in the order of the configuration. The doors of all others are taken from the policy `before`,
    /// and kept for a while.
    pub(super) fn replace(&mut self, open: Vec<Listener>, before: &Policy, now: Duration) {
        self.retired.retain(|gone| now < gone.since + KEPT);
        for gone in self.open.iter().filter(|known| open.iter().all(|listener| listener.id != known.id)) {
            if let Some(door) = before.door(gone.id) {
                let retired = Retired { id: gone.id, door: door.clone(), tls: before.tls(gone.id).cloned() };
                self.retired.push(Gone { since: now, bound: gone.bound, retired });
            }
        }
        self.open = open;
    }

    /// The numbers of those that are open, in the order of the configuration.
    pub(super) fn ids(&self) -> Vec<ListenerId> {
        self.open.iter().map(|listener| listener.id).collect()
    }

    /// Where they are bound, in that order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.iter().map(|listener| listener.bound).collect()
    }

    /// Those whose last connections may still be there.
    pub(super) fn retired(&self) -> Vec<Retired> {
        self.retired.iter().map(|gone| gone.retired.clone()).collect()
    }

    /// Whether sockets of our own may still be there on this address, on their way out.
    pub(super) fn closed_lately(&self, address: SocketAddr, now: Duration) -> bool {
        self.retired.iter().any(|gone| gone.bound == address && now < gone.since + LEAVING)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn open(listeners: &mut Listeners, wanted: &[&str]) -> Vec<u32> {
        let wanted: Vec<SocketAddr> = wanted.iter().map(|text| address(text)).collect();
        let (places, _) = listeners.compare(&wanted);
        let resolve = |place: &ListenerPlace| match place {
            ListenerPlace::Kept(listener) => *listener,
            ListenerPlace::New(configured) => listeners.introduce(*configured, *configured),
        };
        listeners.open = places.iter().map(resolve).collect();
        listeners.ids().iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_listener_is_known_by_its_address() {
        let mut listeners = Listeners::default();
        assert_eq!(open(&mut listeners, &["127.0.0.1:1", "127.0.0.1:2"]), [0, 1]);
        assert_eq!(open(&mut listeners, &["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:1"]), [1, 2, 0]);
        assert_eq!(open(&mut listeners, &["127.0.0.1:3"]), [2]);
        assert_eq!(open(&mut listeners, &["127.0.0.1:1", "127.0.0.1:3"]), [3, 2], "numbers are not used again");
        assert_eq!(open(&mut listeners, &["127.0.0.1:0", "127.0.0.1:0"]), [4, 5]);
        assert_eq!(open(&mut listeners, &["127.0.0.1:0", "127.0.0.1:1"]), [4, 6]);
    }
}
