//! `tls` in `[shared]`: how the connection to the engine is encrypted.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::config::digest::Digest;
use crate::config::reader::Reader;
use crate::config::section::engine_address::EngineAddress;
use crate::config::section::listener::tls::{CertificateSettings, FileSettings};
use crate::gate::upstream::UpstreamAddress;

/// How the engine is spoken to over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedTls {
    /// The authorities of its certificate, in PEM; those of the system without it.
    pub ca: Option<FileSettings>,
    /// The certificate that is shown to it, and its key.
    pub pair: Option<CertificateSettings>,
    /// The name that must be in its certificate.
    pub server_name: ServerName<'static>,
    /// What the files make. [`crate::config::load()`] fills it in.
    pub loaded: Option<LoadedTls>,
}

/// What a connection begins with.
#[derive(Clone)]
pub struct LoadedTls {
    /// Whom we trust, and what we show.
    pub config: Arc<ClientConfig>,
    /// Of the files, for comparison.
    pub(crate) digest: Digest,
}

impl LoadedTls {
    /// SHA-256 of the files.
    #[must_use]
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl fmt::Debug for LoadedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedTls").finish_non_exhaustive()
    }
}

impl PartialEq for LoadedTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for LoadedTls {}

impl SharedTls {
    /// Makes the paths ones that do not depend on where the process was started.
    pub(super) fn resolve(&mut self, directory: &Path) {
        resolve(self.ca.as_mut(), self.pair.as_mut(), directory);
    }
}

/// Makes the paths of these files ones that do not depend on where the process was started.
pub(super) fn resolve(ca: Option<&mut FileSettings>, pair: Option<&mut CertificateSettings>, directory: &Path) {
    let pair = pair.into_iter().flat_map(|pair| [&mut pair.certificate, &mut pair.key]);
    for file in ca.into_iter().chain(pair) {
        file.path = directory.join(&file.path);
    }
}

/// Reads `ca`, and `certificate` with `key`. `example` is the name of files in what is suggested.
pub(super) fn read_files(table: &Reader<'_>, example: &str) -> (Option<FileSettings>, Option<CertificateSettings>) {
    let ca = file(table, "ca");
    let (certificate, key) = (file(table, "certificate"), file(table, "key"));
    if table.has("certificate") != table.has("key") {
        let present = if table.has("key") { "key" } else { "certificate" };
        let fix = format!("write both: certificate = \"tls/{example}.crt\", key = \"tls/{example}.key\"");
        table.error(present, "stands alone", fix);
    }
    (ca, certificate.zip(key).map(|(certificate, key)| CertificateSettings { certificate, key, facts: None }))
}

/// Reads `tls`. `rediss`: the address asks for it, and the table may be left out. Without `address` that is wrong already.
pub(super) fn read(reader: &Reader<'_>, address: Option<&EngineAddress>, rediss: bool) -> Option<SharedTls> {
    const KEY: &str = "tls";
    let table = reader.table(KEY);
    if table.is_none() && !rediss {
        return None;
    }
    let host = match address? {
        EngineAddress::Direct(UpstreamAddress::Tcp { host, .. }) => host.clone(),
        EngineAddress::Sentinels { .. } | EngineAddress::Cluster { .. } => {
            let fix =
                "add server_name: the name in the certificates of all engines, and of the sentinels if there are any";
            match &table {
                Some(table) => drop(table.require("server_name", fix)),
                None => reader.error(KEY, "is missing: engines are found by their IP addresses", fix),
            }
            String::new()
        }
        EngineAddress::Direct(UpstreamAddress::Unix(_)) => {
            reader.error(KEY, "a Unix socket is not encrypted", "remove it, or write the address of a port");
            return None;
        }
    };
    let (mut ca, mut pair, mut name) = (None, None, host);
    if let Some(table) = table {
        (ca, pair) = read_files(&table, "engine");
        if let Some(written) = table.string("server_name") {
            written.clone_into(&mut name);
        }
        if ServerName::try_from(name.as_str()).is_err() && table.has("server_name") {
            let fix = "write the host name or the IP address that is in the certificate of the engine";
            table.error("server_name", "is no name of a server", fix);
        }
        if table.failed() {
            reader.mark_failed();
        }
        table.finish();
    }
    let server_name = ServerName::try_from(name).ok()?;
    Some(SharedTls { ca, pair, server_name, loaded: None })
}

fn file(reader: &Reader<'_>, key: &str) -> Option<FileSettings> {
    let path = reader.string(key)?;
    if path.is_empty() {
        reader.error(key, "is empty", "name the file, relative to the configuration file");
        return None;
    }
    Some(FileSettings { path: PathBuf::from(path), place: reader.place(key) })
}

/// For `check`.
pub(super) fn describe(tls: &SharedTls) -> String {
    let trusted = tls.ca.as_ref().map_or_else(|| "the system".to_owned(), |ca| ca.path.display().to_string());
    let shown = if tls.pair.is_some() { ", with a certificate of its own" } else { "" };
    format!("TLS: its certificate must be for {} and of an authority of {trusted}{shown}", tls.server_name.to_str())
}
