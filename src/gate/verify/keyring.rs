//! The keys of a route, and which of them count at a moment: that is all there is to rotation.

use core::fmt;
use std::sync::Arc;

use ring::hmac;
use zeroize::Zeroizing;

use super::asymmetric::{PublicKey, VERIFICATION};
use super::jws::JwsAlgorithm;
use super::key_form::KeyEncoding;
use super::mac::Fingerprint;
use super::pinned::PinnedKeys;
use super::public_key;
use super::published::PublishedKeys;
use super::scheme::{Kind, Scheme};
use crate::now::Now;
use crate::outcome::Rejection;

/// From when to when a key counts, in unix seconds. Without a bound there is none; the end is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first second in which the key counts.
    pub not_before: Option<i64>,
    /// The first second in which it no longer counts.
    pub not_after: Option<i64>,
}

impl Validity {
    /// Whether the key counts at `now`.
    #[must_use]
    pub fn contains(self, now: Now) -> bool {
        let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
        self.not_before.is_none_or(|start| seconds >= start) && self.not_after.is_none_or(|end| seconds < end)
    }

    /// Whether the key does not count any more at `now`.
    #[must_use]
    pub fn has_ended(self, now: Now) -> bool {
        let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
        self.not_after.is_some_and(|end| seconds >= end)
    }
}

/// One key, ready for use. The secret it came from is not kept where the scheme does not need it again; what is kept
/// is erased when the key is dropped, except the state that ring derives from it, which cannot be reached from
/// outside of ring.
#[derive(Clone)]
pub struct Key {
    id: Arc<str>,
    /// By which tokens may name it.
    name: Option<Arc<str>>,
    validity: Validity,
    material: Material,
    secret_length: Option<usize>,
    /// Of the secret, where it makes tags.
    fingerprint: Option<Fingerprint>,
}

#[derive(Clone)]
pub(super) enum Material {
    Mac(hmac::Key),
    Secret(Zeroizing<Vec<u8>>),
    Credential(Fingerprint),
    Public(PublicKey),
    Published(Arc<PublishedKeys>),
    Pinned(Arc<PinnedKeys>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// Why a secret or a public key cannot be used. Says nothing about its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing is left of it.
    Empty,
    /// The scheme wants another encoding, here named.
    Encoding(&'static str),
    /// Basic credentials without a colon between user and password.
    NotUserPassword,
    /// The scheme verifies with public keys.
    PublicKeyWanted,
    /// The scheme verifies with secrets.
    SecretWanted,
    /// Not a public key of the algorithm, here named.
    PublicKey(&'static str),
    /// A credential that cannot stand in a header.
    Credential,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the secret is empty"),
            Self::Encoding(name) => write!(
                f,
                "the secret is not valid {name}, which this scheme wants; paste it exactly as the provider shows it"
            ),
            Self::Credential => f.write_str("the credential must be one word of visible ASCII characters"),
            Self::NotUserPassword => f.write_str("the secret must be written as user:password"),
            Self::PublicKeyWanted => {
                f.write_str("this scheme verifies with a public key; use `public_keys` instead of `secrets`")
            }
            Self::SecretWanted => {
                f.write_str("this scheme verifies with a secret; use `secrets` instead of `public_keys`")
            }
            Self::PublicKey(name) => {
                write!(
                    f,
                    "this is not a public key for {name}; PEM (a key or a certificate), JWK, base64 and hexadecimal are \
                     understood, and RSA keys of 2048 to 8192 bits"
                )
            }
        }
    }
}

impl core::error::Error for KeyError {}

impl Key {
    /// Prepares a secret as the provider shows it (prefix and encoding as the scheme says).
    ///
    /// # Errors
    /// [`KeyError`] when the secret is empty or not in the scheme's form.
    pub fn from_secret(id: &str, scheme: &Scheme, secret: &[u8], validity: Validity) -> Result<Self, KeyError> {
        Self::of_bytes(id, scheme.kind, decode_secret(scheme, secret)?, validity)
    }

    /// A key made of these bytes as they are.
    ///
    /// # Errors
    /// [`KeyError`] when the kind of scheme cannot use them.
    pub(crate) fn of_bytes(
        id: &str,
        kind: Kind,
        secret: Zeroizing<Vec<u8>>,
        validity: Validity,
    ) -> Result<Self, KeyError> {
        let secret_length = Some(secret.len());
        let makes_tags = matches!(kind, Kind::Hmac(_) | Kind::Digest(_));
        let fingerprint = makes_tags.then(|| Fingerprint::of(&secret));
        let material = match kind {
            Kind::Hmac(algorithm) => Material::Mac(algorithm.key(&secret)),
            Kind::Digest(_) => Material::Secret(secret),
            Kind::Token => Material::Credential(Fingerprint::of(&secret)),
            Kind::Basic if secret.contains(&b':') => Material::Credential(Fingerprint::of(&secret)),
            Kind::Basic => return Err(KeyError::NotUserPassword),
            Kind::Jws(JwsAlgorithm::Mac(algorithm)) => Material::Mac(algorithm.key(&secret)),
            Kind::Public(_) | Kind::Jws(JwsAlgorithm::Public(_)) => return Err(KeyError::PublicKeyWanted),
        };
        Ok(Self { id: Arc::from(id), name: None, validity, material, secret_length, fingerprint })
    }

    /// Reads a public key: PEM (a key or a certificate, of which only the key counts), JWK, or the raw key or its DER in
    /// base64, base64url or hexadecimal.
    ///
    /// # Errors
    /// [`KeyError`] when it is none of these, or the scheme has no public keys.
    pub fn from_public(id: &str, scheme: &Scheme, text: &str, validity: Validity) -> Result<Self, KeyError> {
        let (Kind::Public(algorithm) | Kind::Jws(JwsAlgorithm::Public(algorithm))) = scheme.kind else {
            return Err(KeyError::SecretWanted);
        };
        let key = PublicKey::parse(algorithm, text, &scheme.secret).ok_or(KeyError::PublicKey(algorithm.name()))?;
        Ok(Self {
            id: Arc::from(id),
            name: public_key::name(text).map(Arc::from),
            validity,
            material: Material::Public(key),
            secret_length: None,
            fingerprint: None,
        })
    }

    /// Keys that the sender publishes at a URL, of which none is known yet.
    ///
    /// # Errors
    /// [`KeyError`] where the scheme has no public keys.
    pub fn from_url(id: &str, scheme: &Scheme, url: &str, validity: Validity) -> Result<Self, KeyError> {
        let (algorithm, token) = match scheme.kind {
            Kind::Public(algorithm) => (algorithm, ""),
            Kind::Jws(token @ JwsAlgorithm::Public(algorithm)) => (algorithm, token.name()),
            _ => return Err(KeyError::SecretWanted),
        };
        let material = Material::Published(Arc::new(PublishedKeys::new(url, algorithm, token)));
        Ok(Self { id: Arc::from(id), name: None, validity, material, secret_length: None, fingerprint: None })
    }

    /// The keys that deliveries name, of which none is known yet.
    ///
    /// # Errors
    /// [`KeyError`] where the scheme does not say how deliveries name them.
    pub fn named_by_deliveries(id: &str, scheme: &Scheme, validity: Validity) -> Result<Self, KeyError> {
        Self::named_with_credential(id, scheme, validity, None)
    }

    /// The same, which are fetched with this credential (a bearer token).
    ///
    /// # Errors
    /// [`KeyError`], also where the credential cannot stand in a header.
    pub fn named_with_credential(
        id: &str,
        scheme: &Scheme,
        validity: Validity,
        credential: Option<&[u8]>,
    ) -> Result<Self, KeyError> {
        let (Kind::Public(algorithm), Some(locator)) = (scheme.kind, &scheme.named_key) else {
            return Err(KeyError::SecretWanted);
        };
        let keys = PinnedKeys::new(locator.clone(), algorithm, scheme.secret.clone());
        let keys = match credential {
            Some(credential) => keys.with_credential(credential).ok_or(KeyError::Credential)?,
            None => keys,
        };
        let material = Material::Pinned(Arc::new(keys));
        Ok(Self { id: Arc::from(id), name: None, validity, material, secret_length: None, fingerprint: None })
    }

    /// The keys that deliveries name, where it is those.
    #[must_use]
    pub const fn pinned(&self) -> Option<&Arc<PinnedKeys>> {
        match &self.material {
            Material::Pinned(keys) => Some(keys),
            _ => None,
        }
    }

    /// The keys that the sender publishes, where it is those.
    #[must_use]
    pub const fn published(&self) -> Option<&Arc<PublishedKeys>> {
        match &self.material {
            Material::Published(keys) => Some(keys),
            _ => None,
        }
    }

    /// The name by which metrics and logs tell keys apart.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same key under the name that tokens have for it (`kid`). A JWK brings its own.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(Arc::from(name)), ..self }
    }

    /// The name that tokens have for it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// From when to when it counts.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// How many bytes the decoded secret had; nothing for a public key. Enough to notice a wrong file.
    pub(crate) const fn secret_length(&self) -> Option<usize> {
        self.secret_length
    }

    /// The same key at any time: to explain what it would have matched, never to verify.
    pub(crate) fn without_times(&self) -> Self {
        Self { validity: Validity::default(), ..self.clone() }
    }

    /// Whether its tags tell deliveries apart.
    #[must_use]
    pub const fn makes_tags(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// Whether both are copies of one key: they were read from the configuration together.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.id, &other.id)
    }

    /// Whether both make the same tags.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        // The usual case, without a comparison in constant time.
        if self.is_copy_of(other) {
            return self.makes_tags();
        }
        let alike = match (&self.material, &other.material) {
            (Material::Mac(own), Material::Mac(other)) => own.algorithm() == other.algorithm(),
            (Material::Secret(_), Material::Secret(_)) => true,
            _ => false,
        };
        match (&self.fingerprint, &other.fingerprint) {
            (Some(own), Some(other)) => alike && own.matches(other),
            _ => false,
        }
    }

    pub(super) const fn material(&self) -> &Material {
        &self.material
    }
}

/// The key bytes behind a secret as the provider shows it.
pub(super) fn decode_secret(scheme: &Scheme, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bare = scheme.secret.without_prefix(secret);
    let mut decoded = match scheme.secret.encoding {
        KeyEncoding::Raw => Zeroizing::new(bare.to_vec()),
        KeyEncoding::Encoded(encoding) => {
            let mut out = Zeroizing::new(vec![0; bare.len() + 3]);
            let length = encoding.decode_key_into(bare, &mut out).ok_or(KeyError::Encoding(encoding.name()))?;
            out.truncate(length);
            out
        }
    };
    if decoded.is_empty() {
        return Err(KeyError::Empty);
    }
    decoded.extend_from_slice(scheme.secret.append.as_bytes());
    match scheme.secret.hashed {
        Some(algorithm) => Ok(Zeroizing::new(algorithm.of(&decoded).as_ref().to_vec())),
        None => Ok(decoded),
    }
}

/// The keys of a route in order of preference.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// The keys, most used first: the first active one hashes the body as it streams.
    #[must_use]
    pub const fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// What the arithmetic of the most costly verification takes, as a number of hashed bytes; zero without public keys.
    pub(super) fn arithmetic(&self) -> usize {
        let cost = |key: &Key| match key.material() {
            Material::Public(key) => key.cost(),
            Material::Published(_) | Material::Pinned(_) => VERIFICATION,
            _ => 0,
        };
        self.keys.iter().map(cost).max().unwrap_or(0)
    }

    /// Refuses where no key counts at `now`, or none of those that count has been fetched yet.
    pub(super) fn check(&self, now: Now) -> Result<(), Rejection> {
        let mut active = self.active(now).peekable();
        if active.peek().is_none() {
            return Err(Rejection::KeyInactive);
        }
        let lacking = |(_, key): (usize, &Key)| key.published().is_some_and(|keys| keys.lacks_all());
        if active.all(lacking) { Err(Rejection::KeysUnavailable) } else { Ok(()) }
    }

    /// The keys that count at `now`, with their places in the ring.
    pub(super) fn active(&self, now: Now) -> impl Iterator<Item = (usize, &Key)> {
        self.keys.iter().enumerate().filter(move |(_, key)| key.validity.contains(now))
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn validity_is_half_open() {
        let validity = Validity { not_before: Some(100), not_after: Some(200) };
        let at = |seconds| validity.contains(Now::at_unix(Duration::from_secs(seconds)));
        assert!(!at(99));
        assert!(at(100));
        assert!(at(199));
        assert!(!at(200));
        assert!(Validity::default().contains(Now::at_unix(Duration::ZERO)));
    }
}
