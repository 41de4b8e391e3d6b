//! The names and the dates of a certificate that a sender signs with.

use core::ops::RangeInclusive;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate says of itself.
pub(super) struct SigningCertificate {
    /// Its DNS names, in small letters: the subject alternative names (RFC 9525, section 6.3).
    pub(super) names: Vec<String>,
    /// From when to when it counts, in unix seconds.
    pub(super) validity: RangeInclusive<i64>,
}

/// Reads a certificate in DER; nothing for anything else, and for a certificate of an authority.
pub(super) fn read(der: &[u8]) -> Option<SigningCertificate> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() || certificate.is_ca() {
        return None;
    }
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(text) => Some(text.to_ascii_lowercase()),
        _ => None,
    });
    let validity = certificate.validity();
    Some(SigningCertificate {
        names: names.collect(),
        validity: validity.not_before.timestamp()..=validity.not_after.timestamp(),
    })
}
