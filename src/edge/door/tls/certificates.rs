//! Which certificate a client is shown.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::gate::chain::KeyKind;
use crate::gate::identity::NamePattern;

/// A certificate that a listener can show, and the host names in it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The chain and its key.
    pub key: Arc<CertifiedKey>,
    /// The names.
    pub names: Vec<NamePattern>,
}

/// All certificates of a listener. The first is shown to clients that send no name
/// (RFC 6066, section 3), or another one.
#[derive(Debug)]
pub(super) struct Certificates(pub(super) Vec<Shown>);

impl Certificates {
    /// What a full handshake costs at most: a client chooses by the name that it asks for, and the algorithms that it knows.
    pub(super) fn handshake_cost(&self) -> u32 {
        let cost = |shown: &Shown| shown.key.key.public_key().map(|key| KeyKind::of(&key).handshake_cost());
        self.0.iter().filter_map(cost).max().unwrap_or_default()
    }

    /// A certificate that names the host exactly, before one with a wildcard; among those one whose key the client can
    /// verify with; else the first of the list.
    fn choose(&self, host: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<&Shown> {
        let exact = |pattern: &NamePattern| matches!(pattern, NamePattern::Dns(_));
        let names = |shown: &Shown, exactly: bool| {
            let host = host.unwrap_or_default();
            shown.names.iter().any(|pattern| exact(pattern) == exactly && pattern.matches_host(host))
        };
        let named = |exactly: bool| self.0.iter().filter(move |shown| names(shown, exactly));
        let candidates = || named(true).chain(named(false)).chain(&self.0);
        candidates().find(|shown| usable(&shown.key)).or_else(|| candidates().next())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &CertifiedKey| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.choose(hello.server_name(), usable).map(|shown| Arc::clone(&shown.key))
    }
}
