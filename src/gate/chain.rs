//! What a client shows as its certificate, before anything in it is verified: the bounds of it, and which of the
//! certificates beside it can lie between it and an authority.
//!
//! A verifier looks for a path through the certificates that were sent, and checks signatures on the way.
//! The sender chooses these certificates, so the search must cost little whatever they are: eight intermediates that
//! could each have signed each other have 28,960 paths. Here the number of certificates, their size and their names are
//! bounded, and of intermediates with one subject only one is kept, so that there is one path.

use core::fmt;

use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

/// Intermediate certificates that a client may send. Chains in use have one to three.
pub const INTERMEDIATES: usize = 8;

/// Bytes of all certificates that a client may send.
pub const CHAIN_SIZE: usize = 32 << 10;

/// Names that may stand in a certificate of a client: each may be compared with each of `client_names`.
pub const NAMES: usize = 256;

/// Characters of a subject that a log has room for.
const SUBJECT: usize = 128;

/// Characters of a reason.
const REASON: usize = 384;

/// Why a chain is refused before a signature in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// More than [`INTERMEDIATES`].
    ChainTooLong,
    /// More than [`CHAIN_SIZE`], or more than [`NAMES`].
    TooLarge,
    /// Not a certificate.
    Malformed,
    /// X.509, version 1 or 2: without extensions, which say what a certificate is for.
    OldVersion,
    /// It is the certificate of an authority (basicConstraints, RFC 5280, section 4.2.1.9).
    OfAuthority {
        /// Whether it names itself as its issuer.
        own: bool,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChainTooLong => write!(f, "more than {INTERMEDIATES} intermediate certificates"),
            Self::TooLarge => write!(f, "more than {CHAIN_SIZE} bytes of certificates, or more than {NAMES} names"),
            Self::Malformed => f.write_str("not an X.509 certificate"),
            Self::OldVersion => f.write_str(
                "X.509 version 1 or 2; openssl x509 -req makes version 3 with -extfile, where extendedKeyUsage stands, too",
            ),
            Self::OfAuthority { own: false } => f.write_str("the certificate of an authority (CA:TRUE)"),
            Self::OfAuthority { own: true } => f.write_str(
                "self-signed, and the certificate of an authority (CA:TRUE): sign another certificate with it for the \
                 client, or make it with -addext basicConstraints=critical,CA:FALSE",
            ),
        }
    }
}

impl core::error::Error for Unfit {}

/// The positions of the intermediates between a certificate and an authority, the nearest to the certificate first.
/// Each is one that the certificate before it names as its issuer; where several have that subject, the first that an
/// authority has issued by its name, else the first that has not issued itself. Certificates beside the path, and bytes that are no
/// certificate, are left out. `is_authority` is asked with the content of a name (the RDNSequence without its header).
///
/// # Errors
/// [`Unfit`]
pub fn path<C: AsRef<[u8]>>(
    end_entity: &[u8],
    intermediates: &[C],
    is_authority: impl Fn(&[u8]) -> bool,
) -> Result<Vec<usize>, Unfit> {
    if intermediates.len() > INTERMEDIATES {
        return Err(Unfit::ChainTooLong);
    }
    if intermediates.iter().fold(end_entity.len(), |sum, it| sum.saturating_add(it.as_ref().len())) > CHAIN_SIZE {
        return Err(Unfit::TooLarge);
    }
    let (_, certificate) = X509Certificate::from_der(end_entity).map_err(|_| Unfit::Malformed)?;
    judge(&certificate)?;
    let between: Vec<Option<X509Certificate<'_>>> = intermediates.iter().map(|it| shallow(it.as_ref())).collect();
    let mut path: Vec<usize> = Vec::with_capacity(between.len());
    let mut issuer = certificate.issuer().as_raw();
    while let Some((position, next)) = issuer_among(&between, issuer, &is_authority) {
        if path.iter().any(|taken| between.get(*taken).is_some_and(|it| subject_is(it.as_ref(), issuer))) {
            break;
        }
        path.push(position);
        issuer = next;
    }
    Ok(path)
}

fn judge(certificate: &X509Certificate<'_>) -> Result<(), Unfit> {
    if certificate.version() != X509Version::V3 {
        return Err(Unfit::OldVersion);
    }
    let constraints = certificate.basic_constraints().map_err(|_| Unfit::Malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        let own = certificate.subject().as_raw() == certificate.issuer().as_raw();
        return Err(Unfit::OfAuthority { own });
    }
    let names = certificate.subject_alternative_name().map_err(|_| Unfit::Malformed)?;
    if names.is_some_and(|names| names.value.general_names.len() > NAMES) {
        return Err(Unfit::TooLarge);
    }
    Ok(())
}

/// A certificate whose extensions are not read.
fn shallow(der: &[u8]) -> Option<X509Certificate<'_>> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    parser.parse(der).ok().map(|(_, certificate)| certificate)
}

fn subject_is(certificate: Option<&X509Certificate<'_>>, name: &[u8]) -> bool {
    certificate.is_some_and(|certificate| certificate.subject().as_raw() == name)
}

/// The certificate with this subject, and the name of its issuer.
fn issuer_among<'c>(
    certificates: &'c [Option<X509Certificate<'_>>],
    name: &[u8],
    is_authority: impl Fn(&[u8]) -> bool,
) -> Option<(usize, &'c [u8])> {
    let named = certificates.iter().enumerate().filter_map(|(position, it)| Some((position, it.as_ref()?)));
    let named = named.filter(|(_, it)| it.subject().as_raw() == name);
    let worth = |issuer: &[u8]| (is_authority(content(issuer)), issuer != name);
    // Of equals, `max_by_key` takes the last: seen from the end, that is the first.
    let issuers = named.map(|(position, it)| (position, it.issuer().as_raw()));
    issuers.collect::<Vec<_>>().into_iter().rev().max_by_key(|(_, issuer)| worth(issuer))
}

/// What stands behind tag and length (X.690, section 8.1.3).
fn content(name: &[u8]) -> &[u8] {
    let header = match name.get(1) {
        Some(length) if length & 0x80 != 0 => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    name.get(header..).unwrap_or_default()
}

/// Whom a certificate is for, as a log may have it: printable ASCII without quotes, and not long. Empty if the bytes
/// are no certificate.
#[must_use]
pub fn subject(der: &[u8]) -> String {
    if der.len() > CHAIN_SIZE {
        return String::new();
    }
    shallow(der).map(|certificate| excerpt(&certificate.subject().to_string(), SUBJECT)).unwrap_or_default()
}

/// Why a certificate was refused, as a log may have it.
#[must_use]
pub fn reason(text: &str) -> String {
    excerpt(text, REASON)
}

/// The beginning of a text that a client may have chosen, as printable ASCII.
fn excerpt(text: &str, limit: usize) -> String {
    let mut excerpt = String::new();
    for c in text.chars() {
        if excerpt.len() >= limit {
            excerpt.push_str("...");
            break;
        }
        excerpt.extend(c.escape_default());
    }
    excerpt
}

/// What kind of key a certificate has, as far as it makes a difference in cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with a modulus of so many bits.
    Rsa(usize),
    /// ECDSA over P-256, or Ed25519.
    Small,
    /// ECDSA over a larger curve.
    Large,
}

impl KeyKind {
    /// The kind of a public key (SubjectPublicKeyInfo, DER).
    #[must_use]
    pub fn of(spki: &[u8]) -> Self {
        /// Bytes of a point on P-256, uncompressed.
        const P256: usize = 65;
        match SubjectPublicKeyInfo::from_der(spki).map(|(_, key)| key.parsed().map(|key| kind(&key))) {
            Ok(Ok(kind)) => kind,
            _ if spki.len() > 2 * P256 => Self::Large,
            _ => Self::Small,
        }
    }

    /// What our part of a full handshake costs with it, in units of about 20 µs of a core of a current server. With RSA
    /// it grows with the third power of the length.
    #[must_use]
    pub const fn handshake_cost(self) -> u32 {
        match self {
            Self::Small => 8,
            Self::Large => 32,
            Self::Rsa(bits) => {
                let kibibits = if bits > 16 << 10 { 16 } else { bits.div_ceil(1024) as u32 };
                5 + 5 * kibibits.pow(3)
            }
        }
    }
}

const fn kind_of_point(bits: usize) -> KeyKind {
    if bits > 256 { KeyKind::Large } else { KeyKind::Small }
}

fn kind(key: &PublicKey<'_>) -> KeyKind {
    match key {
        PublicKey::RSA(key) => KeyKind::Rsa(key.key_size()),
        PublicKey::EC(point) => kind_of_point(point.key_size()),
        _ => KeyKind::Small,
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Small => f.write_str("ECDSA P-256 or Ed25519"),
            Self::Large => f.write_str("ECDSA P-384"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::OnceLock;

    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData, SanType,
    };

    use super::*;

    const PARTIES: usize = 5;

    fn params(subject: usize, authority: bool) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("party {subject}"));
        params.is_ca = if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params
    }

    fn issue(subject: usize, issuer: usize, authority: bool) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(params(issuer, true), KeyPair::generate().unwrap());
        params(subject, authority).signed_by(&key, &issuer).unwrap().der().to_vec()
    }

    /// A certificate for a client by party 0, and for every two parties one of the first by the second.
    fn pool() -> &'static (Vec<u8>, Vec<Vec<u8>>) {
        static POOL: OnceLock<(Vec<u8>, Vec<Vec<u8>>)> = OnceLock::new();
        POOL.get_or_init(|| {
            let pairs = (0..PARTIES).flat_map(|one| (0..PARTIES).map(move |other| (one, other)));
            (issue(99, 0, false), pairs.map(|(one, other)| issue(one, other, true)).collect())
        })
    }

    fn is_party(number: usize) -> impl Fn(&[u8]) -> bool {
        move |name| name.ends_with(format!("party {number}").as_bytes())
    }

    fn with_names(count: usize) -> Vec<u8> {
        let mut params = params(1, false);
        params.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap()); count];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    proptest! {
        /// Whatever is sent: no certificate twice, none of a subject that was there, each the issuer of the one before.
        #[test]
        fn there_is_one_path_whatever_is_sent(
            picked in prop::collection::vec(0..PARTIES * PARTIES, 0..=INTERMEDIATES),
            authority in 0..PARTIES,
        ) {
            let (own, all) = pool();
            let sent: Vec<&[u8]> = picked.iter().map(|at| all[*at].as_slice()).collect();
            let path = path(own, &sent, is_party(authority)).unwrap();
            prop_assert!(path.len() <= PARTIES);
            let mut wanted = 0;
            let mut seen = Vec::new();
            for position in path {
                let (subject, issuer) = (picked[position] / PARTIES, picked[position] % PARTIES);
                prop_assert_eq!(subject, wanted);
                prop_assert!(!seen.contains(&subject));
                seen.push(subject);
                // One that leads to an authority goes before one that does not.
                let better = picked.iter().any(|at| at / PARTIES == subject && at % PARTIES == authority);
                prop_assert!(!better || issuer == authority);
                wanted = issuer;
            }
            prop_assert!(seen.contains(&wanted) || !picked.iter().any(|at| at / PARTIES == wanted));
        }

        #[test]
        fn no_bytes_panic(own in prop::collection::vec(any::<u8>(), 0..300), other in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = path(&own, &[other.as_slice()], |_| true);
            prop_assert!(subject(&own).is_ascii());
            let _ = KeyKind::of(&own).handshake_cost();
        }

        #[test]
        fn a_spoiled_certificate_does_not_panic(at in 0_usize..600, byte: u8) {
            let (own, all) = pool();
            let mut spoiled = own.clone();
            let at = at % spoiled.len();
            spoiled[at] = byte;
            let _ = path(&spoiled, &all[..8], is_party(3));
            let _ = path(own, &[&spoiled], is_party(3));
            prop_assert!(subject(&spoiled).is_ascii());
        }

        #[test]
        fn excerpts_are_short_and_printable(text in ".*") {
            let excerpt = reason(&text);
            prop_assert!(excerpt.len() < REASON + 16);
            prop_assert!(excerpt.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", excerpt);
        }
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_read() {
        let (own, all) = pool();
        let none = |_: &[u8]| false;
        assert_eq!(path(b"", &[b"".as_slice(); INTERMEDIATES + 1], none), Err(Unfit::ChainTooLong));
        assert_eq!(path(own, &[&all[0]; INTERMEDIATES], is_party(0)).map(|path| path.len()), Ok(1));
        assert_eq!(path(&[0; CHAIN_SIZE + 1], &[b""], none), Err(Unfit::TooLarge));
        assert_eq!(path(own, &[vec![0; CHAIN_SIZE]], none), Err(Unfit::TooLarge));
        assert_eq!(path(b"\x30\x00", &[b""], none), Err(Unfit::Malformed));
        assert_eq!(path(&with_names(NAMES), &[b""], none), Ok(Vec::new()));
        assert_eq!(path(&with_names(NAMES + 1), &[b""], none), Err(Unfit::TooLarge));
        assert_eq!(path(&all[0], &[b""], none), Err(Unfit::OfAuthority { own: true }));
        assert_eq!(path(&all[1], &[b""], none), Err(Unfit::OfAuthority { own: false }));
    }

    #[test]
    fn keys_cost_what_signing_with_them_does() {
        let spki = |algorithm| KeyKind::of(&KeyPair::generate_for(algorithm).unwrap().subject_public_key_info());
        assert_eq!(spki(&rcgen::PKCS_ECDSA_P256_SHA256), KeyKind::Small);
        assert_eq!(spki(&rcgen::PKCS_ED25519), KeyKind::Small);
        assert_eq!(spki(&rcgen::PKCS_ECDSA_P384_SHA384), KeyKind::Large);
        assert_eq!([2048, 3072, 4096, 8192].map(|bits| KeyKind::Rsa(bits).handshake_cost()), [45, 140, 325, 2565]);
        assert!(KeyKind::Rsa(usize::MAX).handshake_cost() > KeyKind::Large.handshake_cost());
    }
}
