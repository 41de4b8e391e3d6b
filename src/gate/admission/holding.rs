//! What one connection holds of the limits of the process: its own permit, and what its exchange was granted. All of it can
//! be taken back at once when the connection is evicted, while its task still waits.

use core::cell::Cell;
use core::time::Duration;
use std::sync::Arc;

use crate::gate::admission::eviction::{Bound, Owner};
use crate::gate::admission::handshakes::HandshakeStanding;
use crate::gate::admission::keyed_buckets::Lender;
use crate::gate::admission::live::Admission;
use crate::gate::client_key::ClientKey;

/// How useful an idle connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdleStanding {
    /// Requests came, and the last one was no accepted delivery.
    Unproven,
    /// No request was admitted yet: the first may be on its way.
    New,
    /// The last delivery was genuine and accepted.
    Proven,
}

/// What a connection holds.
#[derive(Debug)]
pub struct Holding {
    admission: Arc<Admission>,
    /// Whether the connection counts.
    connected: Cell<bool>,
    /// The client that it is counted for.
    owner: Cell<Option<(ClientKey, Lender)>>,
    /// The client of the exchange.
    client: Cell<Option<ClientKey>>,
    /// Whether an exchange counts.
    requesting: Cell<bool>,
    /// Bytes of a body that are charged.
    body: Cell<u64>,
    /// Where its TLS handshake has taken a token, until the client has proven to be worth it.
    handshake: Cell<Option<(ClientKey, Lender)>>,
    /// Whether exchange and body count as a suspect's, too.
    suspect: Cell<bool>,
    /// Whether the last delivery on the connection was genuine and accepted.
    proven: Cell<bool>,
    /// Whether its client had more than half of the connections that it may have when this one was counted.
    among_many: Cell<bool>,
}

impl Holding {
    /// A connection that has been counted.
    pub(super) const fn new(admission: Arc<Admission>, owner: Option<(ClientKey, Lender)>) -> Self {
        let (client, requesting, body) = (Cell::new(None), Cell::new(false), Cell::new(0));
        let (suspect, proven, among_many) = (Cell::new(false), Cell::new(false), Cell::new(false));
        Self {
            admission,
            connected: Cell::new(true),
            owner: Cell::new(owner),
            client,
            requesting,
            body,
            handshake: Cell::new(None),
            suspect,
            proven,
            among_many,
        }
    }

    /// What a connection holds that is not counted itself: for tests and benches that admit exchanges without connections.
    #[must_use]
    pub fn uncounted(admission: Arc<Admission>) -> Self {
        let holding = Self::new(admission, None);
        holding.connected.set(false);
        holding
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Counts the connection for another client from now on. Returns the client that it was counted for.
    pub(super) fn reassign(&self, owner: (ClientKey, Lender)) -> Option<(ClientKey, Lender)> {
        self.owner.replace(Some(owner))
    }

    /// An exchange has been counted, and is this client's.
    pub(super) fn begin_request(&self, client: ClientKey) {
        self.client.set(Some(client));
        self.requesting.set(true);
    }

    /// The exchange has been counted as a suspect's.
    pub(super) fn begin_suspicion(&self) {
        self.suspect.set(true);
    }

    /// The exchange is proven genuine: what it holds counts for the process alone.
    pub(super) fn end_suspicion(&self) {
        if self.suspect.take() {
            self.admission.release_suspect(self.requesting.get(), self.body.get());
        }
    }

    pub(super) const fn is_suspect(&self) -> bool {
        self.suspect.get()
    }

    /// Notes whether the last delivery on the connection was genuine and accepted.
    pub fn prove(&self, proven: bool) {
        self.proven.set(proven);
    }

    /// Whether it was.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.proven.get()
    }

    /// Notes whether the client has many connections.
    pub(super) fn note_company(&self, among_many: bool) {
        self.among_many.set(among_many);
    }

    /// How useful the connection is while it is idle.
    #[must_use]
    pub const fn standing(&self) -> IdleStanding {
        match (self.proven.get(), self.client.get()) {
            (true, _) => IdleStanding::Proven,
            (false, Some(_)) => IdleStanding::Unproven,
            (false, None) => IdleStanding::New,
        }
    }

    /// Whether the connection may have to end for another one of its client, whose bound is near: its client had more than
    /// half of the connections that it may have when this one was counted, and nothing was proven genuine on it.
    #[must_use]
    pub const fn is_replaceable(&self) -> bool {
        self.among_many.get() && !self.proven.get()
    }

    /// The client that the connection is counted for, and where.
    pub(super) const fn owned_by(&self) -> Option<(ClientKey, Lender)> {
        self.owner.get()
    }

    pub(super) fn add_body(&self, bytes: u64) {
        self.body.set(self.body.get() + bytes);
    }

    /// The exchange no longer counts as one in flight.
    pub(super) fn end_request(&self) {
        let requesting = self.requesting.take();
        self.admission.release_requests(u64::from(requesting));
        self.admission.release_suspect(requesting && self.suspect.get(), 0);
    }

    /// Its body is no longer charged.
    pub(super) fn release_body(&self) {
        let body = self.body.take();
        self.admission.release_suspect(false, if self.suspect.take() { body } else { 0 });
        self.admission.release_body(body);
    }

    /// Gives everything back. What has been given back is not given back again.
    pub fn surrender(&self) {
        self.end_request();
        self.release_body();
        if self.connected.take() {
            self.admission.close(self.owner.take());
        }
    }

    /// Its TLS handshake begins: takes a token of the client that the connection is counted for.
    #[must_use]
    pub fn begin_handshake(&self, now: Duration) -> HandshakeStanding {
        let Some((client, _)) = self.owner.get() else { return HandshakeStanding::Within };
        match self.admission.handshake_pace().take(client, now) {
            Some(lender) => {
                self.handshake.set(Some((client, lender)));
                HandshakeStanding::Within
            }
            None => HandshakeStanding::OverRate,
        }
    }

    /// The client has proven who it is, or has sent a genuine delivery: its handshake does not count against it.
    pub fn prove_handshake(&self) {
        if self.handshake.get().is_some()
            && let Some((client, lender)) = self.handshake.take()
        {
            self.admission.handshake_pace().give_back(client, lender);
        }
    }

    /// What answers for the connection; `number` is that of no other connection.
    #[must_use]
    pub fn owner(&self, number: u64) -> Owner {
        self.owner.get().map_or(Owner::Alone(number), |(client, _)| Owner::Client(client))
    }

    /// What answers for the exchange.
    #[must_use]
    pub fn client(&self, number: u64) -> Owner {
        self.client.get().map_or_else(|| self.owner(number), Owner::Client)
    }

    /// The client that answers for the connection, where it is known.
    #[must_use]
    pub fn owning_client(&self) -> Option<ClientKey> {
        self.owner.get().map(|(client, _)| client)
    }

    /// How much of a bound is held.
    #[must_use]
    pub fn held(&self, bound: Bound) -> u64 {
        let suspect = self.suspect.get();
        match bound {
            Bound::Connections => self.connections(),
            Bound::Requests => self.requests(),
            Bound::BodyMemory => self.body(),
            Bound::SuspectRequests => {
                if suspect {
                    self.requests()
                } else {
                    0
                }
            }
            Bound::SuspectMemory => {
                if suspect {
                    self.body()
                } else {
                    0
                }
            }
        }
    }

    /// Connections held: one, or none any more.
    #[must_use]
    pub fn connections(&self) -> u64 {
        u64::from(self.connected.get())
    }

    /// Exchanges held.
    #[must_use]
    pub fn requests(&self) -> u64 {
        u64::from(self.requesting.get())
    }

    /// Bytes of a body held.
    #[must_use]
    pub const fn body(&self) -> u64 {
        self.body.get()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.surrender();
    }
}
