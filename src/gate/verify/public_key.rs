//! Public keys as senders publish them: PEM (a key or a certificate), JWK, and DER or the raw key in base64, base64url or
//! hexadecimal.

use serde_json::Value;

use super::der;
use super::signature::Encoding;

/// The longest text of a key, in bytes: a certificate chain is none.
const TEXT_LIMIT: usize = 32 << 10;
/// Sizes of RSA keys that ring verifies with, in bits.
const MODULUS: core::ops::RangeInclusive<usize> = 2048..=8192;

/// id-Ed25519 (RFC 8410, section 3).
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// rsaEncryption (RFC 8017, appendix A.1).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-ecPublicKey, secp256r1 and secp384r1 (RFC 5480, section 2.1.1).
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// The kinds of keys, each with one form that ring takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublicKeyKind {
    /// 32 bytes.
    Ed25519,
    /// An uncompressed point, 65 bytes.
    P256,
    /// An uncompressed point, 97 bytes.
    P384,
    /// PKCS#1 in DER.
    Rsa,
}

impl PublicKeyKind {
    fn of(wrapped: &der::Wrapped<'_>) -> Option<Self> {
        match (wrapped.algorithm, wrapped.curve) {
            (ED25519, _) => Some(Self::Ed25519),
            (RSA, _) => Some(Self::Rsa),
            (EC, Some(P256)) => Some(Self::P256),
            (EC, Some(P384)) => Some(Self::P384),
            _ => None,
        }
    }

    fn is_key(self, bytes: &[u8]) -> bool {
        match self {
            Self::Ed25519 => bytes.len() == 32,
            Self::P256 => bytes.len() == 65 && bytes.first() == Some(&4),
            Self::P384 => bytes.len() == 97 && bytes.first() == Some(&4),
            Self::Rsa => der::modulus_bits(bytes).is_some_and(|bits| MODULUS.contains(&bits)),
        }
    }
}

/// The key in the form that ring takes, if `text` is a key of this kind.
pub(super) fn read(kind: PublicKeyKind, text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.len() > TEXT_LIMIT {
        return None;
    }
    let bytes = if text.starts_with('{') {
        jwk(kind, text)?
    } else if text.starts_with("-----BEGIN ") {
        bare(kind, &pem(text)?)?
    } else {
        bare(kind, &decode_any(text)?)?
    };
    kind.is_key(&bytes).then_some(bytes)
}

/// The key inside of its wrapping, or the bytes themselves where there is none.
fn bare(kind: PublicKeyKind, bytes: &[u8]) -> Option<Vec<u8>> {
    match der::unwrap(bytes) {
        Some(wrapped) => (PublicKeyKind::of(&wrapped) == Some(kind)).then(|| wrapped.key.to_vec()),
        None => Some(bytes.to_vec()),
    }
}

/// The bytes of a certificate in PEM, if `text` is one and nothing else.
pub(super) fn certificate(text: &str) -> Option<Vec<u8>> {
    if text.starts_with("-----BEGIN CERTIFICATE-----") { pem(text) } else { None }
}

/// The bytes between the lines of the first and only block (RFC 7468).
fn pem(text: &str) -> Option<Vec<u8>> {
    const LABELS: [&str; 3] = ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"];
    LABELS.iter().find_map(|label| {
        let rest = text.strip_prefix(&format!("-----BEGIN {label}-----"))?;
        let body: String = rest.strip_suffix(&format!("-----END {label}-----"))?.split_ascii_whitespace().collect();
        decode(Encoding::Base64, &body)
    })
}

/// A JSON Web Key (RFC 7517; RFC 7518, section 6; RFC 8037, section 2). Keys of other kinds and private keys are none.
fn jwk(kind: PublicKeyKind, text: &str) -> Option<Vec<u8>> {
    let key: Value = serde_json::from_str(text).ok()?;
    let word = |name: &str| key.get(name).and_then(Value::as_str);
    let number = |name: &str| decode(Encoding::Base64Url, word(name)?);
    if key.get("d").is_some() {
        return None;
    }
    let point = |length: usize| {
        let (x, y) = (number("x")?, number("y")?);
        (x.len() == length && y.len() == length).then(|| [&[4], x.as_slice(), &y].concat())
    };
    match (kind, word("kty")?, word("crv")) {
        (PublicKeyKind::Rsa, "RSA", _) => Some(der::pkcs1(&number("n")?, &number("e")?)),
        (PublicKeyKind::P256, "EC", Some("P-256")) => point(32),
        (PublicKeyKind::P384, "EC", Some("P-384")) => point(48),
        (PublicKeyKind::Ed25519, "OKP", Some("Ed25519")) => number("x"),
        _ => None,
    }
}

/// The name that a JSON Web Key has (`kid`).
pub(super) fn name(text: &str) -> Option<String> {
    let text = text.trim();
    if !text.starts_with('{') || text.len() > TEXT_LIMIT {
        return None;
    }
    let key: Value = serde_json::from_str(text).ok()?;
    key.get("kid").and_then(Value::as_str).map(str::to_owned)
}

/// Hexadecimal where every character is a digit, base64url where it has characters of its own, base64 otherwise.
fn decode_any(text: &str) -> Option<Vec<u8>> {
    let encoding = match text.as_bytes() {
        bytes if bytes.iter().all(u8::is_ascii_hexdigit) => Encoding::Hex,
        bytes if bytes.contains(&b'-') || bytes.contains(&b'_') => Encoding::Base64Url,
        _ => Encoding::Base64,
    };
    decode(encoding, &text.split_ascii_whitespace().collect::<String>())
}

fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    let mut out = vec![0; text.len() + 3];
    let length = encoding.decode_key_into(text.as_bytes(), &mut out)?;
    out.truncate(length);
    Some(out)
}
