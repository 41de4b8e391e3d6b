//! What a listener shows and whom it trusts, kept for comparison with the next configuration: certificates by their
//! fingerprint and their end, which is what the log says when they change. Never anything of a key.

use std::path::Path;

use super::ListenerSettings;
use super::tls::{CertificateFacts, TlsSettings};
use crate::config::digest::{Digest, digest};
use crate::config::units::show_instant as shown;

/// So many authorities are named where they come or go; the rest is counted.
const NAMED: usize = 4;

/// A listener.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ListenerOutline {
    /// Whatever is not in the others.
    rest: Digest,
    certificates: Vec<KnownCertificate>,
    /// Authorities of clients; nothing where clients are not asked for a certificate.
    authorities: Option<Vec<KnownCertificate>>,
}

/// A certificate and the file that it is in.
#[derive(Clone, PartialEq, Eq)]
struct KnownCertificate {
    path: String,
    fingerprint: String,
    not_after: i64,
}

impl KnownCertificate {
    fn new(path: &Path, facts: &CertificateFacts) -> Self {
        let CertificateFacts { fingerprint, not_after, .. } = facts;
        Self { path: path.display().to_string(), fingerprint: fingerprint.clone(), not_after: *not_after }
    }

    fn is_among(&self, others: &[Self]) -> bool {
        others.iter().any(|other| other.fingerprint == self.fingerprint)
    }

    fn words(&self) -> String {
        format!("SHA-256 {} until {}", self.fingerprint, shown(self.not_after))
    }
}

impl ListenerOutline {
    pub(crate) fn of(listener: &ListenerSettings) -> Self {
        let ListenerSettings { address: _, proxy_protocol, trusted_proxies, tls, place: _ } = listener;
        let (mut certificates, mut authorities) = (Vec::new(), None);
        let mut asked = None;
        if let Some(TlsSettings { certificates: shown, callers, min_version, place: _ }) = tls {
            let facts = shown.iter().filter_map(|pair| Some((&pair.certificate.path, pair.facts.as_ref()?)));
            certificates = facts.map(|(path, facts)| KnownCertificate::new(path, facts)).collect();
            authorities = callers.as_ref().map(|callers| {
                callers.facts.iter().map(|facts| KnownCertificate::new(&callers.authorities.path, facts)).collect()
            });
            asked = Some((min_version, callers.as_ref().map(|callers| (callers.required, &callers.names))));
        }
        Self { rest: digest(&(proxy_protocol, trusted_proxies, asked)), certificates, authorities }
    }

    /// What is different in `newer`, one phrase each.
    pub(crate) fn changes(&self, newer: &Self, address: &str) -> Vec<String> {
        let mut words = Vec::new();
        if self.rest != newer.rest {
            words.push(format!("listener {address} changed"));
        }
        self.certificate_changes(newer, address, &mut words);
        match (&self.authorities, &newer.authorities) {
            (Some(older), Some(newer)) => words.extend(authority_changes(older, newer, address)),
            (None, Some(newer)) => words.extend(authority_changes(&[], newer, address)),
            (Some(_), None) => words.push(format!("listener {address} asks for no client certificate any more")),
            (None, None) => {}
        }
        words
    }

    fn certificate_changes(&self, newer: &Self, address: &str, words: &mut Vec<String>) {
        let before = words.len();
        let gone = self.certificates.iter().filter(|known| !known.is_among(&newer.certificates));
        let mut gone: Vec<&KnownCertificate> = gone.collect();
        for new in newer.certificates.iter().filter(|known| !known.is_among(&self.certificates)) {
            let phrase = match gone.iter().position(|old| old.path == new.path) {
                Some(at) => format!("changed from {} to {}", gone.remove(at).words(), new.words()),
                None => format!("added: {}", new.words()),
            };
            words.push(format!("certificate {} of listener {address} {phrase}", new.path));
        }
        words.extend(gone.iter().map(|old| {
            let KnownCertificate { path, .. } = old;
            format!("certificate {path} of listener {address} removed: {}", old.words())
        }));
        // The first one is shown to clients that ask for no name.
        let order = |outline: &Self| outline.certificates.iter().map(|it| it.fingerprint.clone()).collect::<Vec<_>>();
        if words.len() == before && order(self) != order(newer) {
            words.push(format!("certificates of listener {address} in another order"));
        }
    }
}

fn authority_changes(older: &[KnownCertificate], newer: &[KnownCertificate], address: &str) -> Option<String> {
    let parts = [("added", newer, older), ("removed", older, newer)].map(|(word, ours, theirs)| {
        let different: Vec<String> =
            ours.iter().filter(|it| !it.is_among(theirs)).map(KnownCertificate::words).collect();
        let more = different.len().saturating_sub(NAMED);
        let mut text = different.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            text = format!("{text} and {more} more");
        }
        if text.is_empty() { None } else { Some(format!("{word} {text}")) }
    });
    let path = &newer.first().or(older.first())?.path;
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("client_ca {path} of listener {address} changed: {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::settings::parse_str;
    use crate::gate::chain::KeyKind;

    const TEXT: &str = r#"
[[listener]]
address = "127.0.0.1:8443"
[listener.tls]
certificate = "a.crt"
key = "a.key"
certificates = [{ certificate = "b.crt", key = "b.key" }]
client_ca = "ca.crt"
[upstream]
address = "127.0.0.1:9000"
[[route]]
path = "/"
scheme = "none"
"#;

    /// Every certificate has the fingerprint that is given for it.
    fn outline(text: &str, shown: &[&str], authorities: &[&str]) -> ListenerOutline {
        let (mut settings, _) = parse_str("test.toml", text).unwrap();
        let facts = |fingerprint: &&str| CertificateFacts {
            subject: String::new(),
            names: Vec::new(),
            not_before: 0,
            not_after: 86_400,
            fingerprint: (*fingerprint).to_owned(),
            key: KeyKind::Small,
        };
        if let Some(tls) = &mut settings.listeners[0].tls {
            tls.certificates.iter_mut().zip(shown).for_each(|(pair, it)| pair.facts = Some(facts(it)));
            tls.callers.iter_mut().for_each(|callers| callers.facts = authorities.iter().map(facts).collect());
        }
        ListenerOutline::of(&settings.listeners[0])
    }

    fn changes(text: &str, shown: &[&str], authorities: &[&str]) -> Vec<String> {
        outline(TEXT, &["A", "B"], &["X", "Y"]).changes(&outline(text, shown, authorities), "it")
    }

    #[test]
    fn certificates_are_known_by_their_fingerprints() {
        const END: &str = "until 1970-01-02T00:00:00Z";
        assert_eq!(changes(TEXT, &["A", "B"], &["X", "Y"]), Vec::<String>::new());
        assert_eq!(changes(&TEXT.replace("a.crt", "c.crt"), &["A", "B"], &["Y", "X"]), Vec::<String>::new());
        assert_eq!(
            changes(TEXT, &["C", "B"], &["X", "Y"]),
            [format!("certificate a.crt of listener it changed from SHA-256 A {END} to SHA-256 C {END}")]
        );
        assert_eq!(changes(TEXT, &["B", "A"], &["X", "Y"]), ["certificates of listener it in another order"]);
        assert_eq!(
            changes(&TEXT.replace("b.crt", "c.crt"), &["A", "C"], &["X", "Y"]),
            [
                format!("certificate c.crt of listener it added: SHA-256 C {END}"),
                format!("certificate b.crt of listener it removed: SHA-256 B {END}"),
            ]
        );
        assert_eq!(
            changes(TEXT, &["A", "B"], &["Y", "Z"]),
            [format!("client_ca ca.crt of listener it changed: added SHA-256 Z {END}, removed SHA-256 X {END}")]
        );
        let many = ["1", "2", "3", "4", "5", "6", "X", "Y"];
        assert!(changes(TEXT, &["A", "B"], &many)[0].ends_with(&format!("SHA-256 4 {END} and 2 more")));
    }

    #[test]
    fn what_is_asked_is_a_change_of_the_listener() {
        let changed = ["listener it changed"];
        assert_eq!(
            changes(&TEXT.replace("ca.crt\"", "ca.crt\"\nclient_auth = \"request\""), &["A", "B"], &["X", "Y"]),
            changed
        );
        let none = changes(&TEXT.replace("client_ca = \"ca.crt\"\n", ""), &["A", "B"], &[]);
        assert_eq!(none, ["listener it changed", "listener it asks for no client certificate any more"]);
    }
}
