//! Keys that a delivery names: by the URL of a certificate, or by an identifier that belongs into a URL. The scheme pins what
//! the URL may be. Nothing is fetched here: a delivery whose key is not known leaves its URL in a short list and is refused
//! for now; a thread that waits fetches what is in the list, at a bounded rate, and the sender's next attempt passes.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::asymmetric::{PublicAlgorithm, PublicKey};
use super::json::JsonPath;
use super::key_form::KeyForm;
use super::pin::{UrlPin, is_filled};
use super::published::KEY_SET_LIMIT;
use crate::now::Now;
use crate::outcome::Rejection;

/// The most keys of one scheme and route that are known at a time. A sender has one for each of its regions.
pub const PINNED_LIMIT: usize = 64;

/// The most URLs that wait to be fetched.
const WANTED_LIMIT: usize = 8;

/// What a delivery says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brings {
    /// The whole URL.
    Url,
    /// What belongs into the gap of the pin.
    Name,
}

/// What must be true of a certificate beside its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// The names, one of which it must have (subject alternative names; `*` stands for a label).
    pub names: Vec<String>,
    /// Whether what stands at the URL must lead to an authority that is trusted. Where it need not, the certificate is
    /// believed because it came from the pinned host over TLS.
    pub chain: bool,
}

/// Where a delivery names its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a header.
    Header(String),
    /// In a field of the JSON body.
    Json(JsonPath),
}

/// How a delivery names its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLocator {
    /// Where the delivery says it.
    pub place: KeyPlace,
    /// What it says.
    pub brings: Brings,
    /// What the URL may be.
    pub pins: Vec<UrlPin>,
    /// Where the key is that of a certificate.
    pub certificate: Option<CertificateRule>,
    /// Where the key stands in the answer, if that is JSON.
    pub answer: Option<JsonPath>,
    /// Whether the sender shows the key only to those who bring a credential of theirs (a bearer token, RFC 6750).
    pub credential: bool,
}

impl KeyLocator {
    /// The URL that this value leads to, if it may be fetched.
    #[must_use]
    pub fn url(&self, value: &[u8]) -> Option<String> {
        match self.brings {
            Brings::Url if self.admits(value) => core::str::from_utf8(value).ok().map(str::to_owned),
            Brings::Url => None,
            Brings::Name => self.pins.first().and_then(|pin| pin.filled(value)),
        }
    }

    /// Whether this URL is one of those that may be fetched.
    #[must_use]
    pub fn admits(&self, url: &[u8]) -> bool {
        self.pins.iter().any(|pin| pin.admits(url))
    }

    /// The pins, for people and as a name that no request can change.
    #[must_use]
    pub fn label(&self) -> String {
        self.pins.iter().map(UrlPin::text).collect::<Vec<_>>().join(" ")
    }
}

/// Why a text is not the key at a URL. Says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedKeyError {
    /// Longer than it may be.
    TooLong,
    /// No certificate where the scheme wants one.
    NoCertificate,
    /// A certificate for other names.
    OtherName,
    /// A certificate that does not count now.
    Untimely,
    /// No key of the algorithm of the scheme.
    NoKey,
}

impl fmt::Display for PinnedKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is longer than 256 KiB",
            Self::NoCertificate => "it is no certificate in PEM",
            Self::OtherName => "the certificate has none of the names of the sender",
            Self::Untimely => "the certificate has expired, or does not count yet",
            Self::NoKey => "it has no key of the algorithm of the scheme",
        })
    }
}

impl core::error::Error for PinnedKeyError {}

/// A key that stands at a URL.
#[derive(Clone, Debug)]
pub struct PinnedKey(Arc<PublicKey>);

impl PinnedKey {
    pub(super) fn verifies(&self, content: &[u8], signature: &[u8]) -> bool {
        self.0.verifies(content, signature)
    }
}

/// What is known of URLs at a moment.
#[derive(Debug, Default)]
struct PinnedSet {
    keys: BTreeMap<Box<str>, PinnedKey>,
    /// URLs at which there was no key a short time ago.
    lacking: BTreeSet<Box<str>>,
}

/// The keys that deliveries of a route may name.
pub struct PinnedKeys {
    locator: KeyLocator,
    algorithm: PublicAlgorithm,
    form: KeyForm,
    /// Sent to the pinned URLs alone.
    credential: Option<Zeroizing<String>>,
    current: ArcSwap<PinnedSet>,
    /// What deliveries have named and is not known. Locked only for such deliveries, and never waited for.
    wanted: Mutex<Vec<Box<str>>>,
}

impl fmt::Debug for PinnedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedKeys").field("pins", &self.locator.label()).finish_non_exhaustive()
    }
}

impl PinnedKeys {
    pub(super) fn new(locator: KeyLocator, algorithm: PublicAlgorithm, form: KeyForm) -> Self {
        Self { locator, algorithm, form, credential: None, current: ArcSwap::default(), wanted: Mutex::default() }
    }

    /// The same, asked for with this credential; nothing where it cannot stand in a header.
    pub(super) fn with_credential(self, credential: &[u8]) -> Option<Self> {
        let text =
            core::str::from_utf8(credential).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))?;
        (!text.is_empty()).then(|| Self { credential: Some(Zeroizing::new(text.to_owned())), ..self })
    }

    /// What the one who fetches the keys shows the sender.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        self.credential.as_ref().map(|credential| credential.as_str())
    }

    /// How deliveries name them.
    #[must_use]
    pub const fn locator(&self) -> &KeyLocator {
        &self.locator
    }

    /// Whether both are the same keys for the same use. What is known of a URL does not depend on the credential.
    #[must_use]
    pub fn is_same_source(&self, other: &Self) -> bool {
        self.locator == other.locator && self.algorithm == other.algorithm && self.form == other.form
    }

    /// The key that `value` of a delivery names.
    ///
    /// # Errors
    /// [`Rejection::KeyUrlRefused`] where it may not be fetched, [`Rejection::KeyUnknown`] where there was none a short time
    /// ago, and [`Rejection::KeysUnavailable`] where it is not known yet: then it is put on the list of those that are
    /// fetched, unless that is full.
    pub(super) fn named(&self, value: &[u8]) -> Result<PinnedKey, Rejection> {
        let url = self.locator.url(value).ok_or(Rejection::KeyUrlRefused)?;
        let current = self.current.load();
        if let Some(key) = current.keys.get(url.as_str()) {
            return Ok(key.clone());
        }
        if current.lacking.contains(url.as_str()) {
            return Err(Rejection::KeyUnknown);
        }
        // If another thread has the list, the sender's next attempt puts it there.
        if let Ok(mut wanted) = self.wanted.try_lock()
            && wanted.len() < WANTED_LIMIT
            && !wanted.iter().any(|other| **other == *url)
        {
            wanted.push(url.into());
        }
        Err(Rejection::KeysUnavailable)
    }

    /// Takes what deliveries have named and is not known, at most eight URLs.
    #[must_use]
    pub fn take_wanted(&self) -> Vec<Box<str>> {
        core::mem::take(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anything has been named that is not known.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.wanted.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Reads what stands at a URL: a certificate in PEM, of which the first one counts and of whose chain nothing is
    /// judged here, or a key.
    ///
    /// # Errors
    /// [`PinnedKeyError`].
    pub fn read(&self, text: &[u8], now: Now) -> Result<PinnedKey, PinnedKeyError> {
        if text.len() > KEY_SET_LIMIT {
            return Err(PinnedKeyError::TooLong);
        }
        let text = core::str::from_utf8(text).map_err(|_| PinnedKeyError::NoKey)?;
        let found;
        let text = match (&self.locator.certificate, &self.locator.answer) {
            (Some(rule), _) => {
                let first = first_certificate(text).ok_or(PinnedKeyError::NoCertificate)?;
                judge_certificate(rule, first, now)?;
                first
            }
            (None, Some(path)) => {
                let value = path.find(text.as_bytes()).ok().flatten().ok_or(PinnedKeyError::NoKey)?;
                found = String::from_utf8(value.into_owned()).map_err(|_| PinnedKeyError::NoKey)?;
                found.as_str()
            }
            (None, None) => text,
        };
        let key = PublicKey::parse(self.algorithm, text, &self.form).ok_or(PinnedKeyError::NoKey)?;
        Ok(PinnedKey(Arc::new(key)))
    }

    /// Puts a key in force, unless there are as many as there may be.
    ///
    /// # Errors
    /// There are.
    pub fn put(&self, url: &str, key: &PinnedKey) -> Result<(), TooManyPinned> {
        self.change(|set| {
            if set.keys.len() >= PINNED_LIMIT && !set.keys.contains_key(url) {
                return Err(TooManyPinned);
            }
            set.lacking.remove(url);
            set.keys.insert(url.into(), key.clone());
            Ok(())
        })
    }

    /// Takes a key out of force.
    pub fn withdraw(&self, url: &str) {
        self.change(|set| {
            set.keys.remove(url);
        });
    }

    /// Says at which URLs there was no key a short time ago.
    pub fn lacking(&self, urls: BTreeSet<Box<str>>) {
        self.change(|set| set.lacking = urls);
    }

    /// The URLs whose keys are in force.
    #[must_use]
    pub fn urls(&self) -> Vec<Box<str>> {
        self.current.load().keys.keys().cloned().collect()
    }

    /// The key at a URL, if it is in force.
    #[must_use]
    pub fn at(&self, url: &str) -> Option<PinnedKey> {
        self.current.load().keys.get(url).cloned()
    }

    /// One thread changes it.
    fn change<T>(&self, change: impl FnOnce(&mut PinnedSet) -> T) -> T {
        let current = self.current.load();
        let mut next = PinnedSet { keys: current.keys.clone(), lacking: current.lacking.clone() };
        let result = change(&mut next);
        self.current.store(Arc::new(next));
        result
    }
}

/// As many keys are known as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyPinned;

impl fmt::Display for TooManyPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PINNED_LIMIT} keys are known already")
    }
}

impl core::error::Error for TooManyPinned {}

/// The first certificate of a text (RFC 7468); what stands behind it is its chain.
fn first_certificate(text: &str) -> Option<&str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = text.trim_start();
    let end = text.strip_prefix(BEGIN)?.find(END)?;
    text.get(..BEGIN.len() + end + END.len())
}

fn judge_certificate(rule: &CertificateRule, pem: &str, now: Now) -> Result<(), PinnedKeyError> {
    let der = super::public_key::certificate(pem).ok_or(PinnedKeyError::NoCertificate)?;
    let facts = super::der_names::read(&der).ok_or(PinnedKeyError::NoCertificate)?;
    let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    if !facts.validity.contains(&seconds) {
        return Err(PinnedKeyError::Untimely);
    }
    let is_named = |name: &String| rule.names.iter().any(|wanted| is_filled(wanted, name.as_bytes()));
    if facts.names.iter().any(is_named) { Ok(()) } else { Err(PinnedKeyError::OtherName) }
}
