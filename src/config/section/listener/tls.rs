//! `[listener.tls]`: what a listener shows, and what it asks of its clients.

use std::path::PathBuf;

use crate::config::caller_names;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::gate::chain::KeyKind;
use crate::gate::identity::CallerList;

/// `[listener.tls]`: what the listener shows, and what it asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// What it can show; the first is the default.
    pub certificates: Vec<CertificateSettings>,
    /// What it asks of clients; `None` where they are not asked for a certificate.
    pub callers: Option<CallerSettings>,
    /// The oldest version.
    pub min_version: MinVersion,
    /// Where it begins.
    pub place: Place,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// The chain, in PEM.
    pub certificate: FileSettings,
    /// The private key, in PEM.
    pub key: FileSettings,
    /// What stands in the certificate; [`crate::config::load()`] fills it in.
    pub facts: Option<CertificateFacts>,
}

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whom it is for.
    pub subject: String,
    /// Host names and addresses in it (subject alternative names).
    pub names: Vec<String>,
    /// Seconds since 1970, from which it holds.
    pub not_before: i64,
    /// And until which.
    pub not_after: i64,
    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` shows it.
    pub fingerprint: String,
    /// What kind of key it is for.
    pub key: KeyKind,
}

/// Which clients a listener lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSettings {
    /// The authorities, in PEM.
    pub authorities: FileSettings,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// The names that may call; empty for any that the authorities have signed.
    pub names: CallerList,
    /// What stands in the certificates of the authorities; [`crate::config::load()`] fills it in.
    pub facts: Vec<CertificateFacts>,
}

/// A reference to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Relative to the directory of the configuration file.
    pub path: PathBuf,
    /// Where it is written.
    pub place: Place,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl MinVersion {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// More certificates than this are not one listener.
const CERTIFICATE_LIMIT: usize = 256;

/// `[listener.tls]`, if it is there.
pub(super) fn read(listener: &Reader<'_>) -> Option<TlsSettings> {
    let reader = listener.table("tls")?;
    let mut certificates: Vec<CertificateSettings> = certificate(&reader).into_iter().collect();
    let more = reader.tables_like("certificates", "certificates = [{ certificate = \"…\", key = \"…\" }]");
    if more.as_ref().is_some_and(|more| more.len() >= CERTIFICATE_LIMIT) {
        reader.error("certificates", format!("has more than {} entries", CERTIFICATE_LIMIT - 1), "remove some");
    }
    for entry in more.into_iter().flatten().take(CERTIFICATE_LIMIT) {
        certificates.extend(certificate(&entry));
        if entry.failed() {
            reader.mark_failed();
        }
        entry.finish();
    }
    let callers = callers(&reader);
    let versions = [MinVersion::Tls12, MinVersion::Tls13].map(|version| (version.name(), version));
    let min_version = reader.choice("min_version", &versions).unwrap_or_default();
    let place = reader.here();
    if reader.failed() {
        listener.mark_failed();
    }
    reader.finish();
    Some(TlsSettings { certificates, callers, min_version, place })
}

fn certificate(reader: &Reader<'_>) -> Option<CertificateSettings> {
    reader.require("certificate", "add certificate = \"tls/tls.crt\": the chain in PEM, the listener's own first");
    reader.require("key", "add key = \"tls/tls.key\": the private key in PEM");
    let (certificate, key) = (file(reader, "certificate"), file(reader, "key"));
    Some(CertificateSettings { certificate: certificate?, key: key?, facts: None })
}

fn file(reader: &Reader<'_>, key: &str) -> Option<FileSettings> {
    match reader.string(key)? {
        "" => {
            reader.error(key, "is empty", "name the file, relative to the configuration file");
            None
        }
        path => Some(FileSettings { path: PathBuf::from(path), place: reader.place(key) }),
    }
}

fn callers(reader: &Reader<'_>) -> Option<CallerSettings> {
    const FIX: &str = "add client_ca = \"tls/ca.crt\": the authorities whose certificates clients may show";
    let authorities = file(reader, "client_ca");
    let required = reader.choice("client_auth", &[("require", true), ("request", false)]);
    let names = caller_names::read(reader);
    if !reader.has("client_ca") {
        for key in ["client_auth", "client_names"].into_iter().filter(|key| reader.has(key)) {
            reader.error(key, "there is no client_ca: clients are not asked for a certificate", FIX);
        }
    }
    Some(CallerSettings { authorities: authorities?, required: required.unwrap_or(true), names, facts: Vec::new() })
}
