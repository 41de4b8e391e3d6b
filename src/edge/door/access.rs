//! How a connection was let in, and whether it would be let in still: a new policy may know other authorities, or other
//! names. A connection is judged again when what its listener asks of clients has changed, and only then.

use crate::edge::peer::{Peer, Sender};
use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::worker::Worker;
use crate::gate::identity::Caller;

use super::listener::ListenerId;
use super::tls::admitted_by::AdmittedBy;
use super::tls::door::TlsDoor;
use super::tls::downstream::Downstream;
use super::tls::verifier;

/// How a connection was let in, and who its client is.
#[derive(Debug)]
pub struct ClientAccess {
    /// Which listener accepted it.
    pub listener: ListenerId,
    /// Who is at the other end; `None` for Unix-domain peers.
    pub peer: Option<Peer>,
    /// Who that is by a certificate, if one was shown.
    pub caller: Option<Caller>,
    /// By what it was let in.
    pub admitted_by: AdmittedBy,
}

impl ClientAccess {
    /// Whom the requests of the connection come from.
    #[must_use]
    pub const fn sender(&self, encrypted: bool) -> Sender<'_> {
        Sender { peer: self.peer.as_ref(), caller: self.caller.as_ref(), encrypted }
    }

    /// Whether the listener would let the connection in under this policy. If it would, its client is who the policy says
    /// it is; if not, that has been told to the observer, and the connection is to be closed after the exchange in flight.
    pub fn is_welcome<N: Net>(&mut self, stream: &Downstream<N::Stream>, worker: &Worker<N>, policy: &Policy) -> bool {
        let door = policy.tls(self.listener);
        let verdict = match (&self.admitted_by, door) {
            (AdmittedBy::NotYet, _) | (AdmittedBy::Plain, None) => return true,
            (AdmittedBy::By(before), Some(door)) if door.is_kept_by(before.as_ref()) => return true,
            (AdmittedBy::Refused, _) => return false,
            // The listener has changed between plain text and TLS.
            (AdmittedBy::Plain, Some(_)) | (AdmittedBy::By(_), None) => Err(None),
            (AdmittedBy::By(_), Some(door)) => match stream.session() {
                Some(session) => door.identify_again(session.connection(), worker.net.now().unix).map_err(Some),
                None => Err(None),
            },
        };
        match verdict {
            Ok(caller) => {
                self.caller = caller;
                self.admitted_by = door.map(TlsDoor::admitted_by).unwrap_or_default();
                true
            }
            Err(end) => {
                let peer = self.peer.as_ref().map(|peer| peer.address);
                if let Some(end) = end {
                    worker.certificate_refused(end, peer, verifier::take_refused().as_deref());
                }
                self.admitted_by = AdmittedBy::Refused;
                false
            }
        }
    }
}
