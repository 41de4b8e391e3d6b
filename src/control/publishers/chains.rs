//! Whether the certificate that a sender signs with leads to an authority that is trusted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// The most certificates behind the first one.
const CHAIN_LIMIT: usize = 8;

/// Trusted authorities, and the judgement about chains.
#[derive(Clone, Default)]
pub(super) struct ChainJudge {
    /// Nothing where no authority is trusted.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl fmt::Debug for ChainJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainJudge").finish_non_exhaustive()
    }
}

impl ChainJudge {
    /// With these authorities; those that are none are left out.
    pub(super) fn new(authorities: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.into_iter().map(CertificateDer::from));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { verifier: WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok() }
    }

    /// The first certificate of `text` has one of `names` and leads, over those behind it, to an authority that is trusted.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub(super) fn judge(&self, text: &[u8], names: &[String], now: Duration) -> Result<(), String> {
        let verifier = self.verifier.as_ref().ok_or("no authority is trusted")?;
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(text)
            .take(CHAIN_LIMIT + 2)
            .collect::<Result<_, _>>()
            .map_err(|_| "it is no PEM")?;
        let (first, behind) = chain.split_first().ok_or("it has no certificate")?;
        if behind.len() > CHAIN_LIMIT {
            return Err(format!("its chain has more than {CHAIN_LIMIT} certificates"));
        }
        let mut why = "it has none of the names of the sender".to_owned();
        for name in names {
            let Ok(name) = ServerName::try_from(name.as_str()) else { continue };
            match verifier.verify_server_cert(first, behind, &name, &[], UnixTime::since_unix_epoch(now)) {
                Ok(_) => return Ok(()),
                Err(error) => why = format!("its chain is not trusted: {error}"),
            }
        }
        Err(why)
    }
}
