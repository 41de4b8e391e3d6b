//! Whether a connection that has been let in would be let in still: a new policy may know other authorities, or other
//! names. A connection is judged again when what its listener asks of clients has changed, and only then.

use std::sync::Arc;

use crate::edge::connection::Connection;
use crate::edge::policy::Policy;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::worker::Worker;

use super::verifier::{self, CallerVerifier};

/// What a connection was let in by.
#[derive(Debug, Default)]
pub struct Standing(Judged);

#[derive(Debug, Default)]
enum Judged {
    /// It has not been let in yet.
    #[default]
    NotYet,
    /// It speaks plain text, which is asked nothing.
    Plainly,
    /// By this verifier, or without being asked for a certificate.
    By(Option<Arc<CallerVerifier>>),
    /// It would be let in no more.
    Refused,
}

impl Standing {
    /// Let in, in plain text.
    pub const PLAIN: Self = Self(Judged::Plainly);

    pub(super) const fn by(verifier: Option<Arc<CallerVerifier>>) -> Self {
        Self(Judged::By(verifier))
    }
}

impl<S: ByteStream> Connection<S> {
    /// Whether its listener would let it in under this policy. If it would, its client is who the policy says it is; if
    /// not, that has been told to the observer, and the connection is to be closed after the exchange in flight.
    pub fn is_welcome<N: Net<Stream = S>>(&mut self, worker: &Worker<N>, policy: &Policy) -> bool {
        let door = policy.tls(self.listener);
        let verdict = match (&self.standing.0, door) {
            (Judged::NotYet, _) | (Judged::Plainly, None) => return true,
            (Judged::By(before), Some(door)) if door.is_kept_by(before.as_ref()) => return true,
            (Judged::Refused, _) => return false,
            // The listener has changed between plain text and TLS.
            (Judged::Plainly, Some(_)) | (Judged::By(_), None) => Err(None),
            (Judged::By(_), Some(door)) => match self.stream.session() {
                Some(session) => door.identify_again(session.connection(), worker.net.now().unix).map_err(Some),
                None => Err(None),
            },
        };
        match verdict {
            Ok(caller) => {
                self.caller = caller;
                self.standing = door.map(super::door::TlsDoor::standing).unwrap_or_default();
                true
            }
            Err(end) => {
                let peer = self.peer.as_ref().map(|peer| peer.address);
                if let Some(end) = end {
                    worker.certificate_refused(end, peer, verifier::take_refused().as_deref());
                }
                self.standing = Standing(Judged::Refused);
                false
            }
        }
    }
}
