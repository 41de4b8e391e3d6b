//! Letting connections in: where a limit is reached, a connection of less use is closed for the new one.

use std::time::Duration;

use crate::gate::admission::ConnectionPermit;
use crate::gate::eviction::{Bound, Owner};
use crate::gate::holding::IdleStanding;
use crate::gate::keyed_buckets::{Allowance, ClientKey};
use crate::outcome::ConnectionEnd;

use crate::edge::peer::PeerOrigin;
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;

/// A body of which more bytes have arrived is on its way: its connection ends only where the client has no other to spare.
const SMALL: u64 = 64 << 10;

impl<N: Net> Worker<N> {
    /// Lets a connection in, and closes an idle or a slow one for it where a limit is reached.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn open(&self, origin: PeerOrigin) -> Result<ConnectionPermit, ConnectionEnd> {
        let PeerOrigin { peer, listener } = origin;
        // A proxy in front of us brings the connections of many clients: they are not its own.
        let policy = self.policy();
        let door = policy.door(listener);
        let own = peer.filter(|peer| !door.is_some_and(|door| door.proxies.contains(peer.to_canonical())));
        let (client, now) = (own.map(|peer| ClientKey::of(Some(peer))), self.net.monotonic());
        let mut allowance = Allowance::Usual;
        loop {
            match self.admission.open(client, allowance, now) {
                // Once is enough, unless the bound has been lowered below what is held.
                Err(ConnectionEnd::ConnectionsFull) if self.make_room_for(client, now) => {}
                Err(ConnectionEnd::ConnectionsFull) => {
                    self.call_peers(Bound::Connections);
                    return Err(ConnectionEnd::ConnectionsFull);
                }
                Err(ConnectionEnd::ClientConnectionsFull)
                    if client.is_some_and(|client| self.make_room_of(client, &mut allowance)) => {}
                permit => return permit,
            }
        }
    }

    /// Counts a connection for the client that a proxy in front of us names.
    ///
    /// # Errors
    /// The client has too many, and each of them is of use.
    pub(in crate::edge) fn assign(
        &self,
        permit: &mut ConnectionPermit,
        client: ClientKey,
    ) -> Result<(), ConnectionEnd> {
        let (mut allowance, now) = (Allowance::Usual, self.net.monotonic());
        loop {
            match permit.assign(client, allowance, now) {
                Err(ConnectionEnd::ClientConnectionsFull) if self.make_room_of(client, &mut allowance) => {}
                assigned => return assigned,
            }
        }
    }

    /// Makes room among the connections of one client, which senders and attackers may share: the one that is of least use
    /// ends. It is one on which nothing was proven genuine: an idle one, or one that makes us wait, of which there are more;
    /// else the next one of whose requests is refused or that goes idle
    /// ([`crate::gate::admission::Admission::sheds`]). Connections that were proven genuine end only where most of the
    /// client's are such, and idle. One that has just come is about to send, and ends only where the reserve is used up. One that is
    /// with the application stays.
    fn make_room_of(&self, client: ClientKey, allowance: &mut Allowance) -> bool {
        // Where most make us wait, the idle ones are those that have just been accepted: their requests are about to be read.
        let waiting = self.slow.len_of(client);
        let waits = waiting > 0 && !self.idle.has(waiting, client, IdleStanding::Unproven);
        if waits && self.slow.evict_of(client, SMALL) || self.close_idle_of(client, IdleStanding::Unproven) {
            return true;
        }
        if std::mem::replace(allowance, Allowance::Beyond) == Allowance::Usual {
            return true;
        }
        // The others have just been accepted, unless most make us wait: a delivery that is on its way does not end for them.
        let most = self.admission.connections_per_client() as usize / 2 + 1;
        if waiting >= most && self.slow.evict_of(client, u64::MAX) || self.close_idle_of(client, IdleStanding::New) {
            return true;
        }
        self.idle.has(most, client, IdleStanding::Proven) && self.close_idle_of(client, IdleStanding::Proven)
    }

    fn close_idle_of(&self, client: ClientKey, standing: IdleStanding) -> bool {
        let closed = self.idle.close_oldest_of(client, standing);
        if closed {
            self.connection_ended(ConnectionEnd::IdleClosed, None);
        }
        closed
    }

    /// Makes room of which others had none.
    pub(in crate::edge) fn make_room(&self) {
        let now = self.net.monotonic();
        let candidates = self.idle.len() + self.slow.len();
        for _ in 0..self.admission.claim_shortage(Bound::Connections, candidates as u64) {
            self.make_room_for(None, now);
        }
        for bound in Bound::ALL.into_iter().filter(|bound| *bound != Bound::Connections) {
            for _ in 0..self.admission.claim_shortage(bound, self.slow.len() as u64) {
                self.evict_for(bound, (Owner::Alone(u64::MAX), 0), now);
            }
        }
    }

    /// Ends idle connections of clients that have too many because newcomers came to other workers.
    pub(in crate::edge) fn close_useless(&self) {
        if self.admission.has_excess() {
            let closed = self.idle.close_useless(|holding| self.admission.sheds(holding));
            (0..closed).for_each(|_| self.connection_ended(ConnectionEnd::IdleClosed, None));
        }
    }

    /// Ends a connection so that another can be let in: an idle one, unless one client alone makes us wait in more
    /// connections than are idle.
    pub(in crate::edge) fn make_room_for(&self, client: Option<ClientKey>, now: Duration) -> bool {
        let idle = self.idle.len();
        if (idle as u64) >= self.slow.largest(Bound::Connections) && self.idle.close_oldest() {
            self.connection_ended(ConnectionEnd::IdleClosed, None);
            return true;
        }
        let owner = client.map_or(Owner::Alone(u64::MAX), Owner::Client);
        self.evict_for(Bound::Connections, (owner, 1), now)
    }
}
