//! What is granted: connections, TLS handshakes and exchanges. Each is a value that gives back what it holds when it is
//! dropped.

use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use super::eviction::{Bound, Owner};
use super::holding::Holding;
use super::keyed_buckets::{Allowance, Lender};
use super::live::{Admission, Counted};
use super::refused::Refused;
use super::token_bucket::SharedBucket;
use crate::gate::client_key::ClientKey;
use crate::gate::route::Route;
use crate::gate::verify::Verified;
use crate::outcome::{ConnectionEnd, Rejection};
use crate::wire::headers::Headers;

impl Admission {
    /// Grants a connection: the client's own bound first, so that a client that has reached it takes nothing from others.
    /// Without a client, which may become known later, only the bound of the process is asked.
    ///
    /// # Errors
    /// Which bound was met.
    pub fn open(
        self: &Arc<Self>,
        client: Option<ClientKey>,
        allowance: Allowance,
        now: Duration,
    ) -> Result<ConnectionPermit, ConnectionEnd> {
        let counted = client.map(|client| self.count(client, allowance, now)).transpose()?;
        let owner = counted.map(|counted| counted.owner);
        if self.connections.take(1) {
            let holding = Holding::new(Arc::clone(self), owner);
            holding.note_company(counted.is_some_and(|counted| counted.among_many));
            return Ok(ConnectionPermit { holding: Rc::new(holding) });
        }
        self.discount(owner);
        Err(ConnectionEnd::ConnectionsFull)
    }

    /// Whether this connection has to end for another one of its client, which has more than it may have. It no longer
    /// counts for the client then. To be asked of connections that are of little use.
    #[must_use]
    pub fn sheds(&self, holding: &Holding) -> bool {
        if !self.has_excess() {
            return false;
        }
        let Some(owner @ (client, Lender::Own)) = holding.owned_by() else { return false };
        if self.clients.connections(client) <= self.connections_per_client() {
            return false;
        }
        let _ = holding.reassign((client, Lender::Shared));
        self.discount(Some(owner));
        true
    }

    /// Grants a TLS handshake.
    ///
    /// # Errors
    /// [`ConnectionEnd::TlsHandshakesFull`]
    pub fn begin_handshake(&self) -> Result<HandshakePermit<'_>, ConnectionEnd> {
        if self.handshakes.take(1) { Ok(HandshakePermit(self)) } else { Err(ConnectionEnd::TlsHandshakesFull) }
    }

    /// Grants an exchange, which `holding` holds.
    ///
    /// # Errors
    /// The first bound that was met, of: media type, exchanges of the process, and, where the client has no token left,
    /// the share of suspects.
    pub fn admit(
        &self,
        request: AdmissionRequest<'_>,
        client: ClientKey,
        now: Duration,
        holding: &Rc<Holding>,
    ) -> Result<Admitted<'_>, Refused> {
        request.route.admission.check_content_type(request.headers, request.has_body)?;
        if !self.requests.take(1) {
            return Err(Refused::full(Bound::Requests));
        }
        holding.begin_request(client);
        let mut admitted =
            Admitted { admission: self, client, lender: None, began_as_suspect: false, holding: Rc::clone(holding) };
        // Where nothing is verified the budget is all that there is.
        let queues = request.route.verifier.verifies() && self.suspects.exist();
        match self.clients.take(client, now) {
            Ok(lender) => admitted.lender = Some(lender),
            Err(_) if queues && request.is_proven => {}
            Err(_) if queues && self.suspects.enter() => {
                holding.begin_suspicion();
                admitted.began_as_suspect = true;
            }
            Err(empty) => {
                let bound = queues.then_some(Bound::SuspectRequests);
                return Err(Refused { bound, ..Refused::empty(Rejection::ClientRateLimited, empty) });
            }
        }
        Ok(admitted)
    }
}

/// What admission looks at.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRequest<'a> {
    /// The route.
    pub route: &'a Route,
    /// The header fields.
    pub headers: Headers<'a>,
    /// Whether a body follows.
    pub has_body: bool,
    /// Whether the last request on the connection was a delivery of the same client, genuine and accepted.
    pub is_proven: bool,
}

/// A connection that was granted; it counts until this is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    holding: Rc<Holding>,
}

impl ConnectionPermit {
    /// Counts the connection for this client from now on: where a proxy in front of us says whose it is.
    ///
    /// # Errors
    /// [`ConnectionEnd::ClientConnectionsFull`]
    pub fn assign(&mut self, client: ClientKey, allowance: Allowance, now: Duration) -> Result<(), ConnectionEnd> {
        let admission = self.holding.admission();
        let Counted { owner, among_many } = admission.count(client, allowance, now)?;
        admission.discount(self.holding.reassign(owner));
        self.holding.note_company(among_many);
        Ok(())
    }

    /// What the connection holds.
    #[must_use]
    pub const fn holding(&self) -> &Rc<Holding> {
        &self.holding
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.holding.surrender();
    }
}

/// A TLS handshake that was granted; it counts until this is dropped.
#[derive(Debug)]
pub struct HandshakePermit<'a>(&'a Admission);

impl Drop for HandshakePermit<'_> {
    fn drop(&mut self) {
        self.0.handshakes.release(1);
    }
}

/// The right to spend work on an exchange. Only [`Admission::admit`] makes one; what it holds is released when it is
/// dropped, however the exchange ends.
#[derive(Debug)]
pub struct Admitted<'a> {
    admission: &'a Admission,
    client: ClientKey,
    /// Where the token came from that is given back when the delivery is genuine.
    lender: Option<Lender>,
    /// Whether the client was over its budget.
    began_as_suspect: bool,
    /// What has been granted.
    holding: Rc<Holding>,
}

impl Admitted<'_> {
    /// What answers for it.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        Owner::Client(self.client)
    }

    /// Charges the body: as far as it has arrived, or as its buffer reaches.
    ///
    /// # Errors
    /// [`Rejection::BodyMemoryFull`]; [`Rejection::ClientRateLimited`]: the share of suspects is full.
    pub fn hold_body(&mut self, length: usize) -> Result<(), Refused> {
        let own = self.holding.body();
        let more = (length as u64).saturating_sub(own);
        if more > 0 {
            let suspect = self.is_suspect();
            if suspect && !self.admission.suspects.hold(more, own) {
                return Err(Refused::full(Bound::SuspectMemory));
            }
            if !self.admission.body_memory.take(more) {
                self.admission.release_suspect(false, if suspect { more } else { 0 });
                return Err(Refused::full(Bound::BodyMemory));
            }
            self.holding.add_body(more);
        }
        Ok(())
    }

    /// Whether so many bytes more would leave half of what this request may take from free: enough to grant what is only
    /// announced.
    #[must_use]
    pub fn has_plenty(&self, bytes: u64) -> bool {
        let share = !self.is_suspect() || self.admission.suspects.have_plenty(bytes);
        share && self.admission.body_memory.has_plenty(bytes)
    }

    /// Whether its client is over its budget, and it has not been proven genuine.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.holding.is_suspect()
    }

    /// Whether its client was over its budget when it came.
    #[must_use]
    pub const fn began_as_suspect(&self) -> bool {
        self.began_as_suspect
    }

    /// Whose request it is.
    #[must_use]
    pub const fn client(&self) -> ClientKey {
        self.client
    }

    /// The exchange no longer counts as one in flight; its body does, as long as this is held.
    pub fn end_request(&mut self) {
        self.holding.end_request();
    }

    /// The delivery is genuine and no copy: it does not count as one that is not, and is no suspect any more. Copies
    /// count: a stranger who has captured one delivery can send any number of them. Where nothing is verified nothing is
    /// known to be genuine, and everything counts.
    pub fn vouch<D>(&mut self, verified: &Verified<'_, D>) {
        if verified.key_id().is_none() {
            return;
        }
        self.holding.end_suspicion();
        if let Some(lender) = self.lender.take() {
            self.admission.clients.give_back(self.client, lender);
            self.holding.prove_handshake();
        }
    }

    /// Takes a token of the route, which only a verified delivery can, from its bucket, if it has one.
    ///
    /// # Errors
    /// [`Rejection::RouteRateLimited`]; where it is only observed the request goes on.
    pub fn spend<D>(&self, bucket: Option<&SharedBucket>, _: &Verified<'_, D>, now: Duration) -> Result<(), Refused> {
        let Some(bucket) = bucket else { return Ok(()) };
        bucket.take(now).map_err(|empty| Refused::empty(Rejection::RouteRateLimited, empty))
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.holding.end_request();
        self.holding.release_body();
    }
}
