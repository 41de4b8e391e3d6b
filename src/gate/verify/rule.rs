//! What a route verifies with, and what of it is known before the first delivery comes.

use std::sync::Arc;

use super::Delivery;
use super::content::Content;
use super::decoded::SignedBody;
use super::keyring::{Key, Keyring, Material};
use super::mac::Hasher;
use super::scheme::{Kind, Scheme};
use super::template::Part;
use super::tolerance::Tolerance;
use super::url::{PublicUrl, UrlPort};
use crate::outcome::Rejection;

/// How long a body may become where no route says how long its bodies are, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// A scheme and a route's own keys, tolerance and public URL.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) scheme: Arc<Scheme>,
    pub(super) keyring: Keyring,
    pub(super) tolerance: Option<Tolerance>,
    /// Whether a timestamp outside of the tolerance is only noted.
    pub(super) observes_tolerance: bool,
    pub(super) public_url: Option<PublicUrl>,
    /// The URL that the sender may have signed instead ([`UrlPort::Either`]).
    pub(super) other_url: Option<PublicUrl>,
    /// Whether the body can be hashed while it arrives.
    pub(super) streams: bool,
    /// Whether nothing of it is left to be hashed then.
    pub(super) leaves_nothing: bool,
    /// Whether the delivery id is signed.
    pub(super) signs_id: bool,
    /// Whether it is a part of the signed content, and stands in the head: a delivery without it is refused.
    pub(super) needs_id: bool,
    /// Whether the timestamp stands in the body.
    pub(super) timestamp_is_in_body: bool,
    /// Whether times of tokens do not count: for explanations.
    pub(super) anytime: bool,
    /// The longest body of the route, in bytes: also of what a body becomes when it is decompressed.
    pub(super) body_limit: usize,
}

impl Rule {
    /// A rule. `tolerance` replaces the scheme's own.
    pub(super) fn new(
        scheme: Arc<Scheme>,
        keyring: Keyring,
        tolerance: Option<Tolerance>,
        public_url: Option<PublicUrl>,
    ) -> Self {
        let own = scheme.timestamp.as_ref().map(|timestamp| timestamp.tolerance);
        let streams = matches!(scheme.kind, Kind::Hmac(_) | Kind::Digest(_))
            && scheme.signed_body == SignedBody::AsReceived
            && scheme.content.contains(&Part::Body)
            && !scheme.content_needs_body(scheme.content.around_body().0);
        let other_url = public_url.as_ref().filter(|_| scheme.url_port == UrlPort::Either);
        let other_url = other_url.map(PublicUrl::with_other_port);
        let has_single_key = keyring.keys().len() == 1;
        let is_in_body = scheme.id.as_ref().is_none_or(|source| source.is_in_body());
        Self {
            tolerance: tolerance.or(own),
            observes_tolerance: false,
            public_url,
            streams,
            leaves_nothing: streams && has_single_key && other_url.is_none() && scheme.body_digest.is_none(),
            other_url,
            signs_id: scheme.signs_id(),
            needs_id: scheme.content.contains(&Part::Id) && !is_in_body,
            timestamp_is_in_body: scheme.timestamp.as_ref().is_some_and(|it| it.source.is_in_body()),
            anytime: false,
            body_limit: BODY_LIMIT,
            scheme,
            keyring,
        }
    }

    /// A rule that judges no timestamp, and reads the body only when it is whole.
    pub(super) fn for_explanation(scheme: Arc<Scheme>, keyring: Keyring, public_url: Option<PublicUrl>) -> Self {
        let rule = Self::new(scheme, keyring, None, public_url);
        Self { tolerance: None, streams: false, leaves_nothing: false, anytime: true, ..rule }
    }

    /// What hashes the content under this key.
    ///
    /// # Errors
    /// [`Rejection::KeyInactive`]: the key is none of this scheme.
    pub(super) fn hasher(&self, key: &Key) -> Result<Hasher, Rejection> {
        match (self.scheme.kind, key.material()) {
            (Kind::Hmac(_), Material::Mac(key)) => Ok(Hasher::mac(key)),
            (Kind::Digest(algorithm), Material::Secret(_)) => Ok(Hasher::digest(algorithm)),
            _ => Err(Rejection::KeyInactive),
        }
    }

    /// What is signed of this delivery.
    pub(super) fn content<'a, D: Delivery>(&'a self, delivery: &'a D, key: &'a Key) -> Content<'a, D> {
        let secret = match key.material() {
            Material::Secret(secret) => secret.as_slice(),
            _ => &[],
        };
        Content { scheme: &self.scheme, delivery, public_url: self.public_url.as_ref(), secret }
    }
}
