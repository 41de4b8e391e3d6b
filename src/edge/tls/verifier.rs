//! Whose certificates are accepted: those of the configured authorities, with a name that may call.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::gate::identity::{CallerList, Identity};

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

/// rustls's own verification of the chain, and then the names: whoever has none of them is told so in the handshake
/// (`access_denied`).
#[derive(Debug)]
pub(super) struct CallerVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    pub(super) names: CallerList,
}

impl CallerVerifier {
    pub(super) fn new(callers: &Callers, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&callers.roots), Arc::clone(provider));
        let builder = if callers.required { builder } else { builder.allow_unauthenticated() };
        let chains = builder.build().map_err(|error: VerifierBuilderError| Error::General(error.to_string()))?;
        Ok(Self { chains, names: callers.names.clone() })
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
        let verified = self.chains.verify_client_cert(end_entity, intermediates, now)?;
        if self.names.admits(Identity::of_certificate(end_entity).as_ref()) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
