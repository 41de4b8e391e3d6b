//! Asks publishers over TLS: no redirect is followed, and size and time are bounded.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use crate::config::certificates::SYSTEM_AUTHORITIES;
use crate::gate::verify::published::KEY_SET_LIMIT;

use super::chains::ChainJudge;

/// From the first byte of the request to the last one of the answer, the name and the handshake with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest head of an answer, in bytes.
const HEAD_LIMIT: usize = 16 << 10;

/// Why nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The answer is a redirect, which is not followed.
    Redirect(u16),
    /// The answer has this status.
    Status(u16),
    /// The answer is longer than it may be, in bytes.
    TooLong(usize),
    /// There is no answer that can be used, in words.
    Other(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect(status) => write!(f, "the answer is a redirect ({status}), which is not followed"),
            Self::Status(status) => write!(f, "the answer has the status {status}"),
            Self::TooLong(limit) => write!(f, "the answer is larger than {} KiB", limit >> 10),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for FetchError {}

/// Asks for keys.
#[derive(Debug)]
pub struct KeyClient {
    agent: Agent,
    chains: ChainJudge,
    /// Why no publisher can be trusted.
    untrusting: Option<String>,
}

impl KeyClient {
    /// A client that trusts the authorities in this file, or those of the system.
    #[must_use]
    pub fn new(authorities: Option<&Path>) -> Self {
        Self::with_patience(authorities, PATIENCE)
    }

    /// The same with another bound on the time that an answer may take.
    #[must_use]
    pub fn with_patience(authorities: Option<&Path>, patience: Duration) -> Self {
        let (roots, untrusting) = match trusted(authorities) {
            Ok(roots) => (roots, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let chains = ChainJudge::new(roots.iter().map(|root| root.der().to_vec()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(HEAD_LIMIT)
            .max_idle_connections(0)
            .timeout_global(Some(patience))
            .user_agent("countersign")
            .build();
        Self { agent: config.new_agent(), chains, untrusting }
    }

    /// What stands at `url`.
    ///
    /// # Errors
    /// Why it cannot be had, in words for the operator.
    pub fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        self.fetch(url).map_err(|error| error.to_string())
    }

    /// Judges certificates by the same authorities.
    pub(super) const fn chains(&self) -> &ChainJudge {
        &self.chains
    }

    /// What stands at `url`.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.fetch_within(url, KEY_SET_LIMIT)
    }

    /// What stands at `url`, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch_within(&self, url: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
        self.ask(url, limit, None)
    }

    /// What stands at `url`, shown to those who bring `credential` (a bearer token, RFC 6750).
    ///
    /// # Errors
    /// [`FetchError`]; none of them has the credential in its text.
    pub fn fetch_with(&self, url: &str, credential: &str) -> Result<Vec<u8>, FetchError> {
        self.ask(url, KEY_SET_LIMIT, Some(credential))
    }

    fn ask(&self, url: &str, limit: usize, credential: Option<&str>) -> Result<Vec<u8>, FetchError> {
        if let Some(why) = &self.untrusting {
            return Err(FetchError::Other(why.clone()));
        }
        let other = |error: ureq::Error| FetchError::Other(error.to_string());
        let request = self.agent.get(url);
        let request = match credential {
            Some(credential) => {
                let value = Zeroizing::new(format!("Bearer {credential}"));
                request.header("Authorization", value.as_str())
            }
            None => request,
        };
        let mut response = request.call().map_err(other)?;
        match response.status().as_u16() {
            200 => {}
            status @ 300..=399 => return Err(FetchError::Redirect(status)),
            status => return Err(FetchError::Status(status)),
        }
        let body = response.body_mut().with_config().limit(limit as u64);
        body.read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => FetchError::TooLong(limit),
            error => other(error),
        })
    }
}

/// The authorities of a file, or of the system.
fn trusted(authorities: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    let path = match authorities {
        Some(path) => path,
        None => SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
            "the system has no file of trusted authorities: name one in [published_keys] authorities".to_owned()
        })?,
    };
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let certificates = parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() { Err(format!("{} has no certificate", path.display())) } else { Ok(certificates) }
}
