//! Keys that a sender publishes at a URL, as they are known at a moment. They are fetched elsewhere, by a thread that waits;
//! here they are values that are replaced as a whole, and a bell with which a delivery says that it names a key that is
//! not among them. Nothing of a delivery reaches the one who fetches.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::Value;

use super::asymmetric::{PublicAlgorithm, PublicKey};
use super::key_form::KeyForm;

/// The longest text of a set, in bytes.
pub const KEY_SET_LIMIT: usize = 256 << 10;

/// The most keys of a set. Large publishers have a few dozen.
const KEY_LIMIT: usize = 128;

/// The most keys that are tried for a delivery that names none.
const TRIES: usize = 4;

/// The keys behind one URL.
pub struct PublishedKeys {
    url: Arc<str>,
    algorithm: PublicAlgorithm,
    /// The value of `alg` in keys for tokens; empty where it does not matter.
    token: &'static str,
    current: ArcSwapOption<KeySet>,
    asked: AtomicBool,
}

impl fmt::Debug for PublishedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedKeys").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Keys as they were published together.
#[derive(Debug)]
pub struct KeySet {
    keys: NamedKeys,
}

/// Keys, each with its name, where it has one.
type NamedKeys = Vec<(Option<Box<str>>, PublicKey)>;

/// Why a text is no set of keys. Says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySetError {
    /// Longer than it may be.
    TooLong,
    /// Neither a JWK Set, nor certificates by name, nor one key.
    Malformed,
    /// More keys than a sender needs.
    TooMany,
    /// No key of the algorithm of the scheme.
    NoKey,
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is longer than 256 KiB",
            Self::Malformed => "it is neither a JWK Set, nor certificates by name, nor one key",
            Self::TooMany => "it has more than 128 keys",
            Self::NoKey => "it has no key of the algorithm of the scheme",
        })
    }
}

impl core::error::Error for KeySetError {}

/// Whether a set has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It has it.
    Known,
    /// It does not.
    Unknown,
    /// Nothing has been fetched yet.
    Unavailable,
}

impl PublishedKeys {
    pub(super) fn new(url: &str, algorithm: PublicAlgorithm, token: &'static str) -> Self {
        Self { url: Arc::from(url), algorithm, token, current: ArcSwapOption::empty(), asked: AtomicBool::new(false) }
    }

    /// Where they are published.
    #[must_use]
    pub fn url(&self) -> &Arc<str> {
        &self.url
    }

    /// Whether both are the same keys for the same use.
    #[must_use]
    pub fn is_same_source(&self, other: &Self) -> bool {
        self.url == other.url && self.algorithm == other.algorithm && self.token == other.token
    }

    /// Reads a set: a JWK Set (RFC 7517, section 5), an object of certificates or keys in PEM by their names, or one key
    /// as an operator could configure it. Keys of other kinds and for other uses are left out.
    ///
    /// # Errors
    /// [`KeySetError`]; a set without a key is none.
    pub fn read(&self, text: &[u8]) -> Result<KeySet, KeySetError> {
        if text.len() > KEY_SET_LIMIT {
            return Err(KeySetError::TooLong);
        }
        let text = core::str::from_utf8(text).map_err(|_| KeySetError::Malformed)?;
        let keys = if text.trim_start().starts_with('{') {
            self.read_object(&serde_json::from_str(text).map_err(|_| KeySetError::Malformed)?)?
        } else {
            self.key(text).map(|key| (None, key)).into_iter().collect()
        };
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(KeySet { keys }) }
    }

    fn read_object(&self, object: &Value) -> Result<NamedKeys, KeySetError> {
        let name = |jwk: &Value| jwk.get("kid").and_then(Value::as_str).map(Box::from);
        let jwk = |jwk: &Value| Some((name(jwk), self.key(&jwk.to_string()).filter(|_| self.is_for_use(jwk))?));
        let members = object.as_object().ok_or(KeySetError::Malformed)?;
        let keys = match members.get("keys") {
            Some(keys) => {
                let keys = keys.as_array().ok_or(KeySetError::Malformed)?;
                within(keys.len())?;
                keys.iter().filter_map(jwk).collect()
            }
            None if members.contains_key("kty") => jwk(object).into_iter().collect(),
            None => {
                within(members.len())?;
                let named =
                    |(name, text): (&String, &Value)| Some((Some(name.as_str().into()), self.key(text.as_str()?)?));
                members.iter().filter_map(named).collect()
            }
        };
        Ok(keys)
    }

    /// RFC 7517, sections 4.2 to 4.4.
    fn is_for_use(&self, jwk: &Value) -> bool {
        let is = |name: &str, wanted: &str| jwk.get(name).and_then(Value::as_str).is_none_or(|text| text == wanted);
        let verifies = |operation: &Value| operation.as_str() == Some("verify");
        let operations = jwk.get("key_ops").and_then(Value::as_array);
        let is_able = operations.is_none_or(|operations| operations.iter().any(verifies));
        is("use", "sig") && is_able && (self.token.is_empty() || is("alg", self.token))
    }

    fn key(&self, text: &str) -> Option<PublicKey> {
        PublicKey::parse(self.algorithm, text, &KeyForm::default())
    }

    /// Replaces what is known.
    pub fn put(&self, set: Arc<KeySet>) {
        self.current.store(Some(set));
    }

    /// What is known; nothing before anything has been fetched.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Rings the bell: a delivery needs a key that is not known.
    pub(super) fn ask(&self) {
        // Mostly it has been rung already, and reading shares the line between cores.
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the bell has been rung since this was asked last.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed)
    }

    pub(super) fn look_up(&self, name: &str) -> Lookup {
        match &*self.current.load() {
            None => Lookup::Unavailable,
            // A key without a name may be the one.
            Some(set) if set.keys.iter().any(|(known, _)| known.as_deref().is_none_or(|known| known == name)) => {
                Lookup::Known
            }
            Some(_) => Lookup::Unknown,
        }
    }

    /// Whether nothing is known, and then rings the bell.
    pub(super) fn lacks_all(&self) -> bool {
        let lacks = self.current.load().is_none();
        if lacks {
            self.ask();
        }
        lacks
    }

    /// Whether a key of this name has made the signature, or, where none has the name, one of those that have none;
    /// without a name, one of the keys. Four keys are tried at most.
    pub(super) fn verifies(&self, name: Option<&str>, content: &[u8], signature: &[u8]) -> bool {
        let current = self.current.load();
        let keys = current.as_ref().map(|set| set.keys.as_slice()).unwrap_or_default();
        match name {
            Some(name) => {
                let is_named = |known: &Option<Box<str>>| known.as_deref() == Some(name);
                let has_it = keys.iter().any(|(known, _)| is_named(known));
                let tried = keys.iter().filter(|(known, _)| if has_it { is_named(known) } else { known.is_none() });
                tried.take(TRIES).any(|(_, key)| key.verifies(content, signature))
            }
            None => keys.iter().take(TRIES).any(|(_, key)| key.verifies(content, signature)),
        }
    }
}

fn within(count: usize) -> Result<(), KeySetError> {
    if count > KEY_LIMIT { Err(KeySetError::TooMany) } else { Ok(()) }
}

impl KeySet {
    /// How many keys it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The names of its keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|(name, _)| name.as_deref())
    }

    /// Whether one of its names is one of the other's; also where either has none.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let nameless = self.names().next().is_none() || other.names().next().is_none();
        nameless || self.names().any(|name| other.names().any(|other| other == name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn keys() -> PublishedKeys {
        PublishedKeys::new("https://keys.example/jwks", PublicAlgorithm::Ed25519, "EdDSA")
    }

    #[test]
    fn sets_are_read_in_each_form_and_what_is_none_is_refused() {
        let keys = keys();
        let read = |text: &str| keys.read(text.as_bytes()).map(|set| set.count());
        assert_eq!(read(&format!(r#"{{"keys":[{JWK}]}}"#)), Ok(1));
        assert_eq!(read(JWK), Ok(1));
        assert_eq!(read("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"), Ok(1));
        let by_name = r#"{"k":"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}"#;
        assert_eq!(keys.read(by_name.as_bytes()).unwrap().names().collect::<Vec<_>>(), ["k"]);
        for (use_or_alg, count) in [("\"use\":\"sig\"", Ok(1)), ("\"alg\":\"EdDSA\"", Ok(1))].into_iter().chain([
            ("\"use\":\"enc\"", Err(KeySetError::NoKey)),
            ("\"key_ops\":[\"encrypt\"]", Err(KeySetError::NoKey)),
            ("\"key_ops\":[\"verify\"]", Ok(1)),
            ("\"alg\":\"ES256\"", Err(KeySetError::NoKey)),
        ]) {
            assert_eq!(read(&JWK.replacen('{', &format!("{{{use_or_alg},"), 1)), count, "{use_or_alg}");
        }
        for text in [r#"{"keys":[]}"#, "{}", r#"{"keys":[{"kty":"RSA"}]}"#, "", "x"] {
            assert_eq!(read(text), Err(KeySetError::NoKey), "{text}");
        }
        for text in ["{", r#"{"keys":{}}"#, &format!("{{\"keys\":{}1{}}}", "[".repeat(1000), "]".repeat(1000))] {
            assert_eq!(read(text), Err(KeySetError::Malformed), "{text}");
        }
        assert_eq!(read(&format!(r#"{{"keys":[{}1]}}"#, "1,".repeat(200))), Err(KeySetError::TooMany));
        assert_eq!(read(&" ".repeat(KEY_SET_LIMIT + 1)), Err(KeySetError::TooLong));
    }

    #[test]
    fn what_is_known_is_replaced_as_a_whole_and_the_bell_rings_once() {
        let keys = keys();
        assert_eq!(keys.look_up("a"), Lookup::Unavailable);
        keys.put(Arc::new(keys.read(JWK.as_bytes()).unwrap()));
        assert_eq!(keys.look_up("a"), Lookup::Known);
        keys.put(Arc::new(keys.read(JWK.replace("\"a\"", "\"b\"").as_bytes()).unwrap()));
        assert_eq!((keys.look_up("a"), keys.look_up("b")), (Lookup::Unknown, Lookup::Known));
        assert!(!keys.was_asked());
        keys.ask();
        keys.ask();
        assert!(keys.was_asked() && !keys.was_asked());
    }
}
