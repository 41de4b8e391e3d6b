//! Connections to the engine and its sentinels, encrypted where the configuration says so.

use std::net::SocketAddr;

use super::EngineTerms;
use crate::edge::door::tls::outbound::{self, Outbound, SecureError};
use crate::edge::runtime::net::Net;
use crate::edge::runtime::target::{Addresses, Target};
use crate::edge::worker::Worker;
use crate::ledger::shared::EngineTrouble;

/// An engine, by the address that others know.
pub(super) fn at(address: SocketAddr) -> Target {
    Target::Tcp(Addresses::new(address.to_string(), vec![address]).into())
}

/// A connection to the engine or a sentinel, over which nothing has been said.
pub(super) async fn connect<N: Net>(
    worker: &Worker<N>,
    terms: &EngineTerms,
    target: &Target,
) -> Result<Outbound<N::Stream>, EngineTrouble> {
    let until = worker.net.monotonic() + terms.connect_timeout;
    let socket = worker.net.connect(target, until).await.map_err(|_| EngineTrouble::Unreachable)?;
    match &terms.tls {
        None => Ok(Outbound::plain(socket)),
        Some(tls) => outbound::secure(socket, tls, &worker.buffers.records, until).await.map_err(untrusted),
    }
}

const fn untrusted(error: SecureError) -> EngineTrouble {
    match error {
        SecureError::Certificate => EngineTrouble::CertificateRefused,
        SecureError::Protocol => EngineTrouble::TlsFailed,
        SecureError::Late => EngineTrouble::Silent,
        SecureError::Gone => EngineTrouble::Closed,
    }
}
