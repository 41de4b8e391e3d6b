//! `tls` in `[upstream]`: how connections to applications are encrypted.

use core::fmt;
use std::path::Path;

use rustls_pki_types::ServerName;

use crate::config::lines::line;
use crate::config::reader::Reader;
use crate::config::section::listener::tls::{CertificateSettings, FileSettings};
use crate::config::section::shared_tls::{self, LoadedTls};
use crate::config::units::show_instant as shown;
use crate::gate::upstream::UpstreamAddress;

const KEY: &str = "tls";

/// How applications are spoken to over TLS: all of them that are reached over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The authorities of their certificates, in PEM; those of the system without it.
    pub ca: Option<FileSettings>,
    /// The certificate that is shown to them, and its key.
    pub pair: Option<CertificateSettings>,
    /// The name that must be in their certificates; without it the host of each address.
    pub server_name: Option<ServerName<'static>>,
    /// What the files make. [`crate::config::load()`] fills it in.
    pub loaded: Option<LoadedTls>,
}

impl UpstreamTls {
    /// Makes the paths ones that do not depend on where the process was started.
    pub(crate) fn resolve(&mut self, directory: &Path) {
        shared_tls::resolve(self.ca.as_mut(), self.pair.as_mut(), directory);
    }

    /// The name that must be in the certificate of this application; nothing for one that is not reached over TCP.
    #[must_use]
    pub fn name_of(&self, address: &UpstreamAddress) -> Option<ServerName<'static>> {
        let UpstreamAddress::Tcp { host, .. } = address else { return None };
        self.server_name.clone().or_else(|| ServerName::try_from(host.clone()).ok())
    }
}

/// Reads `tls`.
pub(super) fn read(upstream: &Reader<'_>) -> Option<UpstreamTls> {
    let table = upstream.table(KEY)?;
    let (ca, pair) = shared_tls::read_files(&table, "app");
    let server_name = table.string("server_name").map(str::to_owned).and_then(|name| {
        let parsed = ServerName::try_from(name).ok();
        if parsed.is_none() {
            let fix = "write the host name or the IP address that is in the certificate of the application";
            table.error("server_name", "is no name of a server", fix);
        }
        parsed
    });
    if table.failed() {
        upstream.mark_failed();
    }
    table.finish();
    Some(UpstreamTls { ca, pair, server_name, loaded: None })
}

/// Whether what is reached can be encrypted.
pub(crate) fn check(root: &Reader<'_>, tls: Option<&UpstreamTls>, addresses: &[UpstreamAddress]) {
    let (Some(tls), Some(upstream)) = (tls, root.table("upstream")) else { return };
    let is_socket = |address: &UpstreamAddress| matches!(address, UpstreamAddress::Unix(_));
    if !addresses.is_empty() && addresses.iter().all(is_socket) {
        upstream.error(KEY, "a Unix socket is not encrypted", "remove it, or write the address of a port");
    }
    for address in addresses.iter().filter(|address| !is_socket(address)) {
        if tls.name_of(address).is_none() {
            let message = format!("the host of {address} is no name that a certificate can have");
            upstream.error(KEY, message, "add server_name: the name in the certificate of the application");
        }
    }
}

/// For `check`.
pub(super) fn describe(out: &mut String, tls: Option<&UpstreamTls>, addresses: &[UpstreamAddress]) -> fmt::Result {
    let Some(tls) = tls else { return Ok(()) };
    let trusted = tls.ca.as_ref().map_or_else(|| "the system".to_owned(), |ca| ca.path.display().to_string());
    let own = if tls.pair.is_some() { ", with a certificate of its own" } else { "" };
    for address in addresses {
        let Some(name) = tls.name_of(address) else { continue };
        let name = name.to_str();
        line(out, "", format_args!("{address} over TLS: for {name} and of an authority of {trusted}{own}"))?;
    }
    if let Some(end) = tls.pair.as_ref().and_then(|pair| pair.facts.as_ref()) {
        line(out, "", format_args!("the certificate that is shown ends {}", shown(end.not_after)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::document::Document;
    use crate::config::section::upstream;

    fn read_text(text: &str) -> (Option<UpstreamTls>, Vec<UpstreamAddress>, String) {
        let document = Document::parse("test.toml", text).unwrap();
        let root = Reader::root(&document);
        let (settings, address) = upstream::read(&root);
        let addresses: Vec<UpstreamAddress> = address.into_iter().collect();
        check(&root, settings.tls.as_ref(), &addresses);
        root.finish();
        let problems = document.into_problems();
        (settings.tls, addresses, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_name_is_that_of_the_host_unless_another_is_written() {
        for (text, name) in [
            ("[upstream]\naddress = 'app.internal:8443'\ntls = {}\n", "app.internal"),
            ("[upstream]\naddress = '[2001:db8::1]:8443'\ntls = { ca = 'c' }\n", "2001:db8::1"),
            ("[upstream]\naddress = '127.0.0.1:8443'\ntls = { server_name = 'app' }\n", "app"),
        ] {
            let (tls, addresses, problems) = read_text(text);
            assert_eq!(problems, "", "{text}");
            let tls = tls.unwrap();
            assert_eq!(tls.name_of(addresses.first().unwrap()).unwrap().to_str(), name);
            let mut out = String::new();
            describe(&mut out, Some(&tls), &addresses).unwrap();
            assert!(out.contains(&format!("for {name} and of an authority of")), "{out}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("[upstream]\naddress = 'unix:/run/app.sock'\ntls = {}\n", "not encrypted"),
            ("[upstream]\naddress = 'a:1'\ntls = { certificate = 'c' }\n", "stands alone"),
            ("[upstream]\naddress = 'a:1'\ntls = { ca = '' }\n", "is empty"),
            ("[upstream]\naddress = 'a:1'\ntls = { server_name = 'a b' }\n", "no name of a server"),
            ("[upstream]\naddress = 'a:1'\ntls = { verify = false }\n", "verify"),
        ] {
            let (_, _, problems) = read_text(text);
            assert!(problems.contains(expected), "{text}\n{problems}");
        }
    }
}
