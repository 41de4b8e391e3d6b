//! Whose certificates are accepted: those of the configured authorities, with a name that may call.
//!
//! Before a signature is checked, what the client has sent is bounded and brought in order ([`crate::gate::chain`]).

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::gate::chain::{self, Unfit};
use crate::gate::identity::{CallerList, Identity};
use crate::telemetry::handshake::RefusedCertificate;

/// Who may call a listener that asks for certificates.
#[derive(Clone, Debug)]
pub struct Callers {
    /// The authorities.
    pub roots: Arc<RootCertStore>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// The names that may call.
    pub names: CallerList,
}

thread_local! {
    /// The certificate that was refused last on this thread. rustls hands on why a verification has failed, and nothing of
    /// what was verified; a verification and its caller run on one thread, with no wait in between.
    static REFUSED: RefCell<Option<Box<RefusedCertificate>>> = const { RefCell::new(None) };
}

/// The certificate that the verification refused which has just failed on this thread.
pub(in crate::edge::door) fn take_refused() -> Option<Box<RefusedCertificate>> {
    REFUSED.take()
}

fn note_refused(end_entity: &CertificateDer<'_>, error: &Error) {
    let why = match error {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            "it has none of the names in client_names".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        Error::InvalidCertificate(error) => error.to_string(),
        error => error.to_string(),
    };
    let why = chain::reason(&why);
    REFUSED.set(Some(Box::new(RefusedCertificate { subject: chain::subject(end_entity), why })));
}

/// rustls's own verification of the chain, and then the names: a client that has none of them is told so in the
/// handshake (`access_denied`).
#[derive(Debug)]
pub struct CallerVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
    pub(super) names: CallerList,
}

impl CallerVerifier {
    pub(super) fn new(callers: &Callers, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&callers.roots), Arc::clone(provider));
        let builder = if callers.required { builder } else { builder.allow_unauthenticated() };
        let chains = builder.build().map_err(|error: VerifierBuilderError| Error::General(error.to_string()))?;
        Ok(Self { chains, roots: Arc::clone(&callers.roots), names: callers.names.clone() })
    }

    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let is_authority = |name: &[u8]| self.roots.roots.iter().any(|root| root.subject.as_ref() == name);
        let path = chain::path(end_entity, intermediates, is_authority).map_err(unfit)?;
        let path: Vec<CertificateDer<'_>> = path
            .into_iter()
            .filter_map(|at| intermediates.get(at))
            .map(|it| CertificateDer::from(it.as_ref()))
            .collect();
        let verified = self.chains.verify_client_cert(end_entity, &path, now)?;
        if self.names.admits(Identity::of_certificate(end_entity).as_ref()) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    /// Whether both let in the same clients.
    pub(super) fn asks_the_same_as(&self, other: &Self) -> bool {
        self.client_auth_mandatory() == other.client_auth_mandatory()
            && self.names == other.names
            && self.roots.roots == other.roots.roots
    }
}

impl ClientCertVerifier for CallerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.judge(end_entity, intermediates, now);
        verdict.inspect_err(|error| note_refused(end_entity, error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.chains.verify_tls12_signature(message, cert, dss);
        verdict.inspect_err(|error| note_refused(cert, error))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.chains.verify_tls13_signature(message, cert, dss);
        verdict.inspect_err(|error| note_refused(cert, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn unfit(unfit: Unfit) -> Error {
    CertificateError::Other(OtherError(Arc::new(unfit))).into()
}
