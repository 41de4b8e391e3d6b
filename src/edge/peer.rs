//! Who is at the other end of a connection.

use std::net::IpAddr;

use crate::gate::identity::Caller;

use super::door::listener::ListenerId;

/// The address of a peer, and its text: written once a connection, sent with every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    text: String,
}

impl Peer {
    /// A peer; an IPv4 address in IPv6 clothes is an IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, text: address.to_string() }
    }

    /// The address as `X-Forwarded-For` has it.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Whom a request came from, beside its head.
#[derive(Clone, Copy)]
pub struct Sender<'c> {
    /// The other end of the connection.
    pub peer: Option<&'c Peer>,
    /// Who that is by a certificate.
    pub caller: Option<&'c Caller>,
    /// Whether it came encrypted.
    pub encrypted: bool,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerOrigin {
    /// The address at the other end; `None` for Unix-domain peers.
    pub peer: Option<IpAddr>,
    /// The listener that accepted it.
    pub listener: ListenerId,
}
