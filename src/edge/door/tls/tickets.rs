//! The keys under which clients resume their sessions: one set for the process, shared by all its workers and all its
//! listeners, and kept when the configuration changes. rustls makes a new key every six hours and accepts the one before
//! it, so that a ticket is good for at most twelve; nothing is stored for a session.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring as cryptography;
use rustls::server::ProducesTickets;

use super::door::{TlsDoor, TlsSetup};

/// The keys of the process.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

/// TLS cannot be had.
#[derive(Debug)]
pub struct UnusableKeys(rustls::Error);

impl fmt::Display for UnusableKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS cannot be set up: {}", self.0)
    }
}

impl std::error::Error for UnusableKeys {}

impl From<rustls::Error> for UnusableKeys {
    fn from(error: rustls::Error) -> Self {
        Self(error)
    }
}

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, UnusableKeys> {
        Ok(Self(cryptography::Ticketer::new()?))
    }

    /// What the listeners speak under one configuration, in their order; nothing for those that speak plain text.
    /// Everything that can fail has failed after this: swapping the result in cannot.
    ///
    /// # Errors
    /// What rustls says of a setup. None that has been loaded by `config` comes to this.
    pub fn doors(&self, setups: &[Option<TlsSetup>]) -> Result<Vec<Option<TlsDoor>>, UnusableKeys> {
        let door = |setup: &Option<TlsSetup>| setup.as_ref().map(|it| TlsDoor::new(it, &self.0)).transpose();
        setups.iter().map(|setup| door(setup).map_err(UnusableKeys)).collect()
    }
}
