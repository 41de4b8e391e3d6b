//! What one listener speaks, as an immutable value: swapping it swaps certificates and authorities for new connections,
//! and leaves the others as they are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring as cryptography};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, UnbufferedServerConnection};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, CipherSuite, Error, HandshakeKind, ServerConfig, SupportedProtocolVersion};

use crate::gate::chain::Unfit;
use crate::gate::identity::{Caller, Identity};
use crate::outcome::ConnectionEnd;
use crate::telemetry::readings::{AuthorityReading, CertificateReading};

use super::admitted_by::AdmittedBy;
use super::certificates::{Certificates, Shown};
use super::verifier::{CallerVerifier, Callers};

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldestVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// What a listener is to speak.
#[derive(Clone, Debug)]
pub struct TlsSetup {
    /// The certificates, at least one.
    pub certificates: Vec<Shown>,
    /// Who may call, where clients are asked for a certificate.
    pub callers: Option<Callers>,
    /// The oldest version.
    pub oldest: OldestVersion,
    /// What is to be told of the certificates, in their order.
    pub readings: Arc<[CertificateReading]>,
    /// What is to be told of the authorities of clients, in their order.
    pub authorities: Arc<[AuthorityReading]>,
}

/// What a listener speaks.
#[derive(Clone)]
pub struct TlsDoor {
    config: Arc<ServerConfig>,
    callers: Option<Arc<CallerVerifier>>,
    cost: u32,
    readings: Arc<[CertificateReading]>,
    authorities: Arc<[AuthorityReading]>,
}

impl fmt::Debug for TlsDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsDoor").field("callers", &self.callers).finish_non_exhaustive()
    }
}

/// The cryptography of ring. AES-128 goes first: nothing is within reach of breaking it, and its handshakes hash with
/// SHA-256, for which processors have instructions, and not with SHA-384, for which they have none.
fn provider() -> CryptoProvider {
    let mut provider = cryptography::default_provider();
    provider.cipher_suites.sort_by_key(|suite| (suite.tls13().is_none(), !is_aes_128(suite.suite())));
    provider
}

const fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

impl TlsDoor {
    pub(super) fn new(setup: &TlsSetup, tickets: &Arc<dyn ProducesTickets>) -> Result<Self, Error> {
        let provider = Arc::new(provider());
        let versions: &[&SupportedProtocolVersion] = match setup.oldest {
            OldestVersion::Tls12 => &[&TLS13, &TLS12],
            OldestVersion::Tls13 => &[&TLS13],
        };
        let callers = setup.callers.as_ref().map(|callers| CallerVerifier::new(callers, &provider)).transpose()?;
        let callers = callers.map(Arc::new);
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
        let builder = match &callers {
            Some(callers) => builder.with_client_cert_verifier(Arc::<CallerVerifier>::clone(callers)),
            None => builder.with_no_client_auth(),
        };
        let certificates = Certificates(setup.certificates.clone());
        let cost = certificates.handshake_cost();
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Our order counts: what a client prefers may be what an attacker has made it prefer.
        config.ignore_client_order = true;
        // A ticket stands for the certificate that its client showed then. Where that would be refused by now, rustls
        // leaves no way to ask for another: the client would come back with its ticket and be sent away each time.
        if callers.is_some() {
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = Arc::clone(tickets);
            // Each connection brings one for the next: a client that opens several at once has had as many.
            config.send_tls13_tickets = 1;
        }
        // Tickets are enough; a store would be a lock that all workers share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let (readings, authorities) = (Arc::clone(&setup.readings), Arc::clone(&setup.authorities));
        Ok(Self { config: Arc::new(config), callers, cost, readings, authorities })
    }

    /// What is to be told of the certificates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateReading] {
        &self.readings
    }

    /// What is to be told of the authorities of clients.
    #[must_use]
    pub fn authorities(&self) -> &[AuthorityReading] {
        &self.authorities
    }

    /// What a full handshake costs until the client has to say something again ([`crate::gate::chain::KeyKind::handshake_cost`]).
    pub(super) const fn handshake_cost(&self) -> u32 {
        self.cost
    }

    /// Whether clients are asked for certificates, which cost something to verify.
    pub(super) const fn asks_for_certificates(&self) -> bool {
        self.callers.is_some()
    }

    /// A connection of which nothing has been read.
    pub(super) fn open(&self) -> Result<UnbufferedServerConnection, Error> {
        UnbufferedServerConnection::new(Arc::clone(&self.config))
    }

    /// Returns the client of a connection whose handshake is done; `None` where clients are not asked for certificates, or
    /// none was shown.
    ///
    /// Where clients are asked for certificates no session is resumed. If one were, the certificate that it brings would
    /// be verified again, as if it had been shown now.
    ///
    /// # Errors
    /// Why that certificate would be refused.
    pub(super) fn identify(
        &self,
        connection: &UnbufferedServerConnection,
        unix: Duration,
    ) -> Result<Option<Caller>, ConnectionEnd> {
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            return self.identify_again(connection, unix);
        }
        self.caller(connection)
    }

    /// Like [`Self::identify`], for a certificate that another verifier has accepted: it is verified as if it had been shown
    /// now.
    ///
    /// # Errors
    /// Why it would be refused.
    pub(in crate::edge::door) fn identify_again(
        &self,
        connection: &UnbufferedServerConnection,
        unix: Duration,
    ) -> Result<Option<Caller>, ConnectionEnd> {
        let shown = connection.peer_certificates().and_then(<[_]>::split_first);
        if let (Some(callers), Some((end_entity, intermediates))) = (&self.callers, shown) {
            let now = UnixTime::since_unix_epoch(unix);
            callers.verify_client_cert(end_entity, intermediates, now).map_err(|error| end_of(&error))?;
        }
        self.caller(connection)
    }

    fn caller(&self, connection: &UnbufferedServerConnection) -> Result<Option<Caller>, ConnectionEnd> {
        let Some(callers) = &self.callers else { return Ok(None) };
        let Some(end_entity) = connection.peer_certificates().and_then(<[_]>::first) else {
            let missing = callers.client_auth_mandatory();
            return if missing { Err(ConnectionEnd::TlsCertificateMissing) } else { Ok(None) };
        };
        let identity = Identity::of_certificate(end_entity).ok_or(ConnectionEnd::TlsCertificateMalformed)?;
        Ok(Some(Caller::new(identity, &callers.names)))
    }

    /// Takes the place of another door of the same listener. Gives whether both ask the same of clients: those that the
    /// other has let in need not be judged again then.
    pub fn follow(&mut self, previous: &Self) -> bool {
        match (&mut self.callers, &previous.callers) {
            (None, None) => true,
            (Some(own), Some(previous)) if own.asks_the_same_as(previous) => {
                *own = Arc::clone(previous);
                true
            }
            _ => false,
        }
    }

    /// How a client stands that has been let in here.
    pub(in crate::edge::door) fn admitted_by(&self) -> AdmittedBy {
        AdmittedBy::By(self.callers.clone())
    }

    /// Whether clients that this verifier has let in would be let in here.
    pub(in crate::edge::door) fn is_kept_by(&self, verifier: Option<&Arc<CallerVerifier>>) -> bool {
        match (&self.callers, verifier) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

/// What an error of the handshake means to an operator.
pub(super) fn end_of(error: &Error) -> ConnectionEnd {
    match error {
        Error::NoCertificatesPresented => ConnectionEnd::TlsCertificateMissing,
        Error::InvalidCertificate(error) => end_of_certificate(error),
        Error::AlertReceived(_) => ConnectionEnd::TlsRefusedByClient,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => ConnectionEnd::TlsNothingInCommon,
        _ => ConnectionEnd::TlsHandshakeFailed,
    }
}

fn end_of_certificate(error: &CertificateError) -> ConnectionEnd {
    use CertificateError as Wrong;
    match error {
        Wrong::ApplicationVerificationFailure => ConnectionEnd::TlsNameRefused,
        Wrong::Expired | Wrong::ExpiredContext { .. } => ConnectionEnd::TlsCertificateExpired,
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => ConnectionEnd::TlsCertificateNotYetValid,
        Wrong::UnknownIssuer => ConnectionEnd::TlsCertificateUnknownAuthority,
        Wrong::BadSignature => ConnectionEnd::TlsCertificateBadSignature,
        Wrong::UnsupportedSignatureAlgorithmContext { .. }
        | Wrong::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            ConnectionEnd::TlsCertificateAlgorithmUnsupported
        }
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => ConnectionEnd::TlsCertificateWrongPurpose,
        Wrong::BadEncoding => ConnectionEnd::TlsCertificateMalformed,
        Wrong::Other(other) => match other.0.downcast_ref::<Unfit>() {
            Some(Unfit::ChainTooLong) => ConnectionEnd::TlsCertificateChainTooLong,
            Some(Unfit::TooLarge) => ConnectionEnd::TlsCertificateTooLarge,
            Some(Unfit::Malformed) => ConnectionEnd::TlsCertificateMalformed,
            Some(Unfit::OldVersion) => ConnectionEnd::TlsCertificateOldVersion,
            Some(Unfit::OfAuthority { .. }) => ConnectionEnd::TlsCertificateOfAuthority,
            None => ConnectionEnd::TlsCertificateRefused,
        },
        _ => ConnectionEnd::TlsCertificateRefused,
    }
}
