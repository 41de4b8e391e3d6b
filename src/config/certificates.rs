//! From the bytes of certificates and keys to what a listener can show, or what is wrong with them.
//!
//! A certificate and its key are only ever taken together: a pair that does not match, because one of the two files has
//! been replaced and the other not yet, is refused as a whole.

use std::path::Path;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::crypto::ring as provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::config::section::listener::tls::{
    CallerSettings, CertificateFacts, CertificateSettings, FileSettings, MinVersion,
};
use crate::gate::chain::KeyKind;
use crate::gate::identity::NamePattern;

/// What one listener is to speak, ready to be used.
#[derive(Clone, Debug)]
pub struct TlsMaterial {
    /// Certificates with their keys, and the host names in each; at least one, the first is the default.
    pub certificates: Vec<(Arc<CertifiedKey>, Vec<NamePattern>)>,
    /// The authorities of clients, and what is asked of them.
    pub callers: Option<(Arc<RootCertStore>, CallerSettings)>,
    /// The oldest version.
    pub min_version: MinVersion,
}

/// A certificate with its key, and what is to be known of it. What is wrong is added to `problems`. Either file may be
/// missing because it could not be read; the other is looked at all the same.
pub(super) fn pair(
    settings: &CertificateSettings,
    (chain, key): (Option<&[u8]>, Option<&Secret>),
    problems: &mut Problems,
) -> Option<(Arc<CertifiedKey>, CertificateFacts)> {
    let chain = chain.and_then(|bytes| certificates(&settings.certificate, bytes, problems));
    let facts = chain.as_ref().and_then(|chain| {
        let facts = chain.first().and_then(|own| facts(own));
        if facts.is_none() {
            let message = format!("{} is not a certificate that can be read", settings.certificate.path.display());
            problems.error(settings.certificate.place.clone(), message, "is it X.509, version 3?");
        }
        facts
    });
    let key = key.and_then(|bytes| private_key(&settings.key, bytes.bytes(), problems));
    let (chain, facts, key) = (chain?, facts?, key?);
    let path = settings.key.path.display();
    let certificate = settings.certificate.path.display();
    let is_supported = provider::sign::any_supported_type(&key).is_ok();
    match CertifiedKey::from_der(chain, key, &provider::default_provider()) {
        Ok(certified) => Some((Arc::new(certified), facts)),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let message = format!("the key in {path} is not that of the certificate in {certificate}");
            let fix = "replace both files: they belong together, and the listener's own certificate comes first";
            problems.error(settings.key.place.clone(), message, fix);
            None
        }
        Err(_) if is_supported => {
            let message = format!("the certificate in {certificate} cannot be used");
            let fix = "is it X.509, version 3? openssl x509 -req makes that with -extfile, where the names stand, too";
            problems.error(settings.certificate.place.clone(), message, fix);
            None
        }
        Err(_) => {
            let message = format!("the key in {path} is of a kind that is not supported");
            let fix = "use ECDSA (P-256 or P-384), Ed25519, or RSA of 2048 to 8192 bits";
            problems.error(settings.key.place.clone(), message, fix);
            None
        }
    }
}

/// The authorities of clients, and what is to be known of each.
pub(super) fn authorities(
    settings: &FileSettings,
    bytes: &[u8],
    problems: &mut Problems,
) -> Option<(RootCertStore, Vec<CertificateFacts>)> {
    let (mut roots, mut known) = (RootCertStore::empty(), Vec::new());
    let certificates = certificates(settings, bytes, problems)?;
    let number = certificates.len();
    for (position, certificate) in certificates.into_iter().enumerate() {
        known.extend(facts(&certificate));
        if roots.add(certificate).is_err() {
            let path = settings.path.display();
            let message = format!("certificate {} of {number} in {path} cannot be an authority", position + 1);
            problems.error(
                settings.place.clone(),
                message,
                "put only certificates of authorities (X.509, version 3) there",
            );
            return None;
        }
    }
    Some((roots, known))
}

/// Where systems keep the authorities that they trust.
pub const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities of the system, of the first of its files that `read` gives; none where it has no such file: then no server
/// is trusted.
pub(super) fn system_authorities(read: impl Fn(&Path) -> Option<Zeroizing<Vec<u8>>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Some(bytes) = SYSTEM_AUTHORITIES.iter().find_map(|path| read(Path::new(path))) {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok));
    }
    roots
}

/// How we speak to servers as their client.
pub(super) fn client(roots: RootCertStore, shown: Option<Arc<CertifiedKey>>) -> Option<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?.with_root_certificates(roots);
    Some(Arc::new(match shown {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    }))
}

fn certificates(
    settings: &FileSettings,
    bytes: &[u8],
    problems: &mut Problems,
) -> Option<Vec<CertificateDer<'static>>> {
    let path = settings.path.display();
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(bytes).collect();
    let (message, fix) = match found {
        Ok(certificates) if !certificates.is_empty() => return Some(certificates),
        Ok(_) if bytes.trim_ascii().is_empty() => (format!("{path} is empty"), "put the certificate there, in PEM"),
        Ok(_) if !has_pem(bytes) => (format!("{path} is not PEM"), NOT_PEM),
        Ok(_) => (
            format!("there is no certificate in {path}"),
            "is it the right file? It must have -----BEGIN CERTIFICATE-----",
        ),
        Err(_) => (format!("{path} is not whole PEM"), "write the whole file again; is a line missing?"),
    };
    problems.error(settings.place.clone(), message, fix);
    None
}

const NOT_PEM: &str = "convert it: openssl x509 -inform DER -in FILE -out FILE.pem";

fn has_pem(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"-----BEGIN ").is_some()
}

fn private_key(settings: &FileSettings, bytes: &[u8], problems: &mut Problems) -> Option<PrivateKeyDer<'static>> {
    let path = settings.path.display();
    let encrypted = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"]
        .into_iter()
        .any(|mark| memchr::memmem::find(bytes, mark.as_bytes()).is_some());
    let (message, fix) = match PrivateKeyDer::from_pem_slice(bytes) {
        _ if encrypted => (
            format!("the key in {path} is encrypted"),
            "decrypt it (openssl pkey -in FILE -out FILE) and protect the file by its permissions",
        ),
        Ok(key) => return Some(key),
        Err(pem::Error::NoItemsFound) if bytes.trim_ascii().is_empty() => {
            (format!("{path} is empty"), "put the private key there, in PEM")
        }
        Err(pem::Error::NoItemsFound) if !has_pem(bytes) => {
            (format!("{path} is not PEM"), "convert it: openssl pkey -inform DER -in FILE -out FILE.pem")
        }
        Err(pem::Error::NoItemsFound) => (
            format!("there is no private key in {path}"),
            "is it the right file? It must have -----BEGIN PRIVATE KEY----- (or EC or RSA)",
        ),
        Err(_) => (format!("{path} is not whole PEM"), "write the whole file again; is a line missing?"),
    };
    problems.error(settings.place.clone(), message, fix);
    None
}

/// What stands in a certificate. `None` for what is not one.
fn facts(certificate: &[u8]) -> Option<CertificateFacts> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = Vec::new();
    for name in parsed.subject_alternative_name().ok()?.iter().flat_map(|it| &it.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(address) => names.extend(shown_address(address)),
            _ => {}
        }
    }
    let hash = digest(&SHA256, certificate);
    let fingerprint = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    Some(CertificateFacts {
        subject: parsed.subject().to_string(),
        names,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        fingerprint,
        key: KeyKind::of(parsed.public_key().raw),
    })
}

fn shown_address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(core::net::IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(core::net::IpAddr::from)).ok().map(|address| address.to_string())
}

/// Host names as patterns, for choosing a certificate by the name that a client asks for. Other names match no client.
pub(super) fn patterns(facts: &CertificateFacts) -> Vec<NamePattern> {
    facts.names.iter().filter_map(|name| NamePattern::parse(name).ok()).collect()
}
