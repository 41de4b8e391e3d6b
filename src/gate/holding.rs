//! What one connection holds of the bounds of the process: its own place, and what its exchange was granted. All of it
//! can be taken back at once, by whoever makes room for others, while the connection still waits and does not know.

use core::cell::Cell;
use std::sync::Arc;

use crate::gate::admission::Admission;
use crate::gate::crowd::Party;
use crate::gate::keyed_buckets::{ClientKey, Lender};

/// What a connection holds.
#[derive(Debug)]
pub struct Holding {
    admission: Arc<Admission>,
    /// Whether the connection counts.
    connected: Cell<bool>,
    /// Whom it is counted for.
    owner: Cell<Option<(ClientKey, Lender)>>,
    /// Whose exchange it is.
    client: Cell<Option<ClientKey>>,
    /// Whether an exchange counts.
    requesting: Cell<bool>,
    /// Bytes of a body that are charged.
    body: Cell<u64>,
    /// Where its TLS handshake has taken a token, until the client has proven to be worth it.
    handshake: Cell<Option<(ClientKey, Lender)>>,
}

impl Holding {
    /// A connection that has been counted.
    pub(super) const fn new(admission: Arc<Admission>, owner: Option<(ClientKey, Lender)>) -> Self {
        let (client, requesting, body) = (Cell::new(None), Cell::new(false), Cell::new(0));
        let handshake = Cell::new(None);
        Self { admission, connected: Cell::new(true), owner: Cell::new(owner), client, requesting, body, handshake }
    }

    /// What a connection holds that is not counted itself: for whoever admits exchanges without connections.
    #[must_use]
    pub fn uncounted(admission: Arc<Admission>) -> Self {
        let holding = Self::new(admission, None);
        holding.connected.set(false);
        holding
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Who else the connection is counted for from now on; whom it was counted for.
    pub(super) fn reassign(&self, owner: (ClientKey, Lender)) -> Option<(ClientKey, Lender)> {
        self.owner.replace(Some(owner))
    }

    /// An exchange has been counted, and is this client's.
    pub(super) fn begin_request(&self, client: ClientKey) {
        self.client.set(Some(client));
        self.requesting.set(true);
    }

    pub(super) fn add_body(&self, bytes: u64) {
        self.body.set(self.body.get() + bytes);
    }

    /// The exchange no longer counts as one in flight.
    pub(super) fn end_request(&self) {
        self.admission.release_requests(u64::from(self.requesting.take()));
    }

    /// Its body is no longer charged.
    pub(super) fn release_body(&self) {
        self.admission.release_body(self.body.take());
    }

    /// Gives everything back. What has been given back is not given back again.
    pub fn surrender(&self) {
        self.end_request();
        self.release_body();
        if self.connected.take() {
            self.admission.close(self.owner.take());
        }
    }

    /// Its TLS handshake has taken this token.
    pub(super) fn owe_handshake(&self, token: (ClientKey, Lender)) {
        self.handshake.set(Some(token));
    }

    /// The client has proven who it is, or has sent a genuine delivery: its handshake does not count against it.
    pub fn prove_handshake(&self) {
        if self.handshake.get().is_some()
            && let Some((client, lender)) = self.handshake.take()
        {
            self.admission.handshake_pace().give_back(client, lender);
        }
    }

    /// Who answers for the connection; `number` is nobody else's.
    #[must_use]
    pub fn owner(&self, number: u64) -> Party {
        self.owner.get().map_or(Party::Alone(number), |(client, _)| Party::Client(client))
    }

    /// Who answers for the exchange.
    #[must_use]
    pub fn client(&self, number: u64) -> Party {
        self.client.get().map_or_else(|| self.owner(number), Party::Client)
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
