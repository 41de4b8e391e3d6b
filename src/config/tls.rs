//! Reads `[listener.tls]`, and the names of callers that routes ask for.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::config::reader::Reader;
use crate::config::settings::{
    CallerSettings, CertificateSettings, FileSettings, Listener, MinVersion, RouteSettings, TlsSettings,
};
use crate::config::units::shorten;
use crate::gate::identity::{CallerList, NamePattern, NotAPattern};

/// More certificates than this are not one listener.
const CERTIFICATE_LIMIT: usize = 256;

const NAME_LIMIT: usize = 1024;

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
    let names = names(reader);
    if !reader.has("client_ca") {
        for key in ["client_auth", "client_names"].into_iter().filter(|key| reader.has(key)) {
            reader.error(key, "there is no client_ca: clients are not asked for a certificate", FIX);
        }
    }
    Some(CallerSettings { authorities: authorities?, required: required.unwrap_or(true), names })
}

/// `client_names`, of a listener or of a route.
pub(super) fn names(reader: &Reader<'_>) -> CallerList {
    let Some(written) = reader.placed_strings("client_names") else { return CallerList::default() };
    if written.is_empty() || written.len() > NAME_LIMIT {
        let fix =
            format!("name 1 to {NAME_LIMIT} of them, or leave it out: then every certificate of client_ca will do");
        reader.error("client_names", format!("has {} names", written.len()), fix);
    }
    let mut seen = HashSet::new();
    let mut patterns = Vec::with_capacity(written.len());
    for (text, place) in written.into_iter().take(NAME_LIMIT) {
        match NamePattern::parse(text) {
            Ok(pattern) if seen.insert(pattern.to_string()) => patterns.push(pattern),
            Ok(pattern) => reader.warning_at(place, format!("{pattern} is given twice"), "remove one of the two"),
            Err(NotAPattern::Wildcard) => {
                let message = format!("\"{}\" has a wildcard where none is understood", shorten(text));
                reader.error_at(
                    place,
                    message,
                    "\"*.\" in front of a domain stands for one label; URIs are written out",
                );
            }
            Err(NotAPattern::Form) => {
                let message = format!("\"{}\" is neither a host name nor a URI", shorten(text));
                let fix = "write \"hooks.example.com\", \"*.hooks.example.com\" or \"spiffe://example.com/sender\"";
                reader.error_at(place, message, fix);
            }
        }
    }
    CallerList::new(patterns)
}

/// A route that asks for a name needs a listener that asks for a certificate.
pub(super) fn check_routes(root: &Reader<'_>, listeners: &[Listener], routes: &[RouteSettings]) {
    if listeners.iter().any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.callers.is_some())) {
        return;
    }
    for route in routes.iter().filter(|route| !route.callers.is_empty()) {
        let place = route.callers_place.clone().unwrap_or_else(|| route.place.child("client_names"));
        let message = "nobody could call: no listener asks its clients for a certificate";
        root.error_at(place, message, "add client_ca to the [listener.tls] that this route is called through");
    }
}
