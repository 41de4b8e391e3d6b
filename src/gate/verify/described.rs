//! What a verifier says about itself, and about the head of a delivery before anything is verified.

use core::time::Duration;
use std::borrow::Cow;

use super::Delivery;
use super::candidates::Work;
use super::engine::Verifier;
use super::jws;
use super::keyring::Key;
use super::named::NamedHeaders;
use super::reading;
use super::scheme::{Scheme, Source};
use super::tolerance::Tolerance;
use super::url::PublicUrl;

/// How many hashed bytes it takes to read a byte of a form or of JSON.
const INSIDE: usize = 4;

impl Verifier {
    /// The headers that the signature of this delivery itself names as covered; nothing for most schemes. They are read
    /// when this is called, at most [`super::NAMED_LIMIT`] of them, and not again while they are gone through.
    pub fn headers_named_by<'d, D: Delivery>(&self, delivery: &'d D) -> impl Iterator<Item = &'d [u8]> {
        let named = self.rule.as_ref().and_then(|rule| reading::named_headers(&rule.scheme, delivery));
        named.into_iter().flat_map(NamedHeaders::into_names)
    }

    /// The scheme; nothing for `scheme = "none"`.
    #[must_use]
    pub fn scheme(&self) -> Option<&Scheme> {
        self.rule.as_ref().map(|rule| &*rule.scheme)
    }

    /// The keys; empty for `scheme = "none"`.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        self.rule.as_ref().map(|rule| rule.keyring.keys()).unwrap_or_default()
    }

    /// The tolerance in force, where the scheme signs a timestamp.
    #[must_use]
    pub fn tolerance(&self) -> Option<Duration> {
        self.rule.as_ref()?.tolerance.map(Tolerance::distance)
    }

    /// The public URL, where the scheme signs it.
    #[must_use]
    pub fn public_url(&self) -> Option<&PublicUrl> {
        self.rule.as_ref()?.public_url.as_ref()
    }

    /// The URL that the sender may have signed instead of [`Verifier::public_url`].
    pub(crate) fn other_url(&self) -> Option<&PublicUrl> {
        self.rule.as_ref()?.other_url.as_ref()
    }

    /// What the arithmetic of one verification with a public key takes, as a number of hashed bytes.
    pub(crate) fn arithmetic(&self) -> usize {
        self.rule.as_ref().map_or(0, |rule| rule.keyring.arithmetic())
    }

    /// What it takes at most to judge this delivery when its body is whole, as a number of hashed bytes: with each key and
    /// URL, and with what is read inside of the body once for each of them.
    pub(crate) fn whole_work<D: Delivery>(&self, delivery: &D) -> usize {
        let Some(scheme) = self.scheme() else { return 0 };
        let Work { pieces, bytes } = self.work_left(delivery);
        let readings = 1 + INSIDE * scheme.readings_of_body();
        pieces.saturating_mul(bytes).saturating_add(self.arithmetic()).saturating_mul(readings)
    }

    /// The id of the delivery that the head names, as it came: signed or not, sound or not, and before anything was
    /// verified. For records only.
    pub fn stated_id<'d, D: Delivery>(&self, delivery: &'d D) -> Option<Cow<'d, [u8]>> {
        let scheme = self.scheme()?;
        let source = scheme.id.as_ref().filter(|source| !source.is_in_body())?;
        if let Source::Claim(claim) = source {
            return jws::claim(scheme, delivery, claim).ok().flatten().map(Cow::Owned);
        }
        reading::source(scheme, source, delivery, reading::ID).ok().flatten()
    }
}
