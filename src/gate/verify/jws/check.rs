//! A token under verification: read once, tried with the keys that count, and bound to the body that came with it.

use super::super::Delivery;
use super::super::candidates::Work;
use super::super::keyring::{Key, Keyring, Material};
use super::super::mac::{BodyHash, FixedDigest, Hasher, Tag, digest_tag};
use super::super::published::{Lookup, PublishedKeys};
use super::super::scheme::{Kind, Scheme, SignatureSource};
use super::super::signature::{Encoding, SIGNATURE_LIMIT, Signature};
use super::super::tolerance::Tolerance;
use super::super::url::PublicUrl;
use super::algorithm::JwsAlgorithm;
use super::compact::{CompactToken, TOKEN_LIMIT};
use super::judge::{Judge, Judged};
use super::place;
use crate::now::Now;
use crate::outcome::Rejection;

/// What tokens are verified by: a view of the rule of a route.
#[derive(Clone, Copy)]
pub(in super::super) struct TokenRule<'r> {
    pub(in super::super) scheme: &'r Scheme,
    pub(in super::super) keyring: &'r Keyring,
    pub(in super::super) tolerance: Option<Tolerance>,
    pub(in super::super) observes_tolerance: bool,
    /// Whether times do not count: for explanations.
    pub(in super::super) anytime: bool,
    pub(in super::super) public_url: Option<&'r PublicUrl>,
}

/// A token under verification.
pub(in super::super) struct TokenCheck {
    /// Nothing until the token has been read.
    opened: Option<OpenedToken>,
    /// Of the body; nothing where the body is the token.
    body: Option<BodyHash>,
}

struct OpenedToken {
    judged: Judged,
    choice: KeyChoice,
    /// The name of a published key.
    name: Option<Box<str>>,
    /// The place of the key that is tried next.
    next: usize,
    verified: Option<usize>,
}

/// Which keys are tried.
#[derive(Clone, Copy)]
enum KeyChoice {
    /// The one at this place: the token names it.
    One(usize),
    /// Those without a name, because the token names none of the others.
    Nameless,
    /// All of them: the token names none.
    All,
}

/// What a token proves.
pub(in super::super) struct Proven {
    /// The place of the key in the ring.
    pub(in super::super) key: usize,
    /// The timestamp in unix milliseconds.
    pub(in super::super) timestamp: Option<i64>,
    /// What an observed tolerance would have refused.
    pub(in super::super) untimely: Option<Rejection>,
    /// The delivery id.
    pub(in super::super) id: Option<Box<[u8]>>,
    /// A digest of the token and the body.
    pub(in super::super) tag: Tag,
}

impl TokenCheck {
    /// Takes the next bytes of the body.
    pub(in super::super) fn update(&mut self, chunk: &[u8]) {
        if let Some(body) = &mut self.body {
            body.update(chunk);
        }
    }
}

impl TokenRule<'_> {
    /// Reads and judges a token in the head, and verifies it where a keyed hash does it.
    pub(in super::super) fn begin<D: Delivery>(&self, delivery: &D, now: Now) -> Result<TokenCheck, Rejection> {
        self.keyring.check(now)?;
        if self.scheme.signature == SignatureSource::Body {
            return Ok(TokenCheck { opened: None, body: None });
        }
        if self.needs_body() {
            return Ok(TokenCheck { opened: None, body: Some(BodyHash::new()) });
        }
        let mut check = TokenCheck { opened: None, body: Some(BodyHash::new()) };
        let opened = self.open(delivery, now)?;
        let opened = check.opened.insert(opened);
        if !self.is_public() {
            self.try_rest(opened, delivery, now)?;
        }
        Ok(check)
    }

    /// Tries one key; whether there are more.
    pub(in super::super) fn step<D: Delivery>(&self, check: &mut TokenCheck, delivery: &D, now: Now) -> bool {
        if check.opened.is_none() {
            let Ok(opened) = self.open(delivery, now) else { return false };
            check.opened = Some(opened);
        }
        let Some(opened) = &mut check.opened else { return false };
        let Ok(text) = place::text(self.scheme, delivery) else { return false };
        CompactToken::parse(&text).is_ok_and(|token| self.try_next(opened, &token, now))
    }

    /// What the token proves about the delivery whose body is whole.
    pub(in super::super) fn finish<D: Delivery>(
        &self,
        check: TokenCheck,
        delivery: &D,
        now: Now,
    ) -> Result<Proven, Rejection> {
        let mut opened = match check.opened {
            Some(opened) => opened,
            None => self.open(delivery, now)?,
        };
        let text = place::text(self.scheme, delivery)?;
        let token = CompactToken::parse(&text)?;
        while self.try_next(&mut opened, &token, now) {}
        let key = opened.verified.ok_or(Rejection::SignatureMismatch)?;
        let Judged { digest, timestamp, untimely, id, .. } = opened.judged;
        let tag = match check.body {
            None => digest_tag(token.signed),
            Some(body) => {
                // A body that did not come through this check has not been hashed.
                let body = body.finish(delivery.body().len()).ok_or(Rejection::SignatureMismatch)?;
                self.check_body(digest.as_ref(), &body, delivery.body().is_empty())?;
                FixedDigest::of(token.signed).with(&body)
            }
        };
        Ok(Proven { key, timestamp, untimely, id, tag })
    }

    /// What is left when the body is whole. A keyed hash over a token in the head has been made before it came.
    pub(in super::super) fn work(&self, body: usize) -> Work {
        let bytes = match self.scheme.signature {
            SignatureSource::Body | SignatureSource::Json(_) | SignatureSource::Form(_) => body,
            SignatureSource::Headers(_) | SignatureSource::Query(_) if !self.is_public() => 0,
            SignatureSource::Headers(_) | SignatureSource::Query(_) => TOKEN_LIMIT,
        };
        let bytes = bytes.saturating_add(self.keyring.arithmetic());
        if bytes == 0 { Work::default() } else { Work { pieces: self.keyring.keys().len(), bytes } }
    }

    fn check_body(&self, claimed: Option<&FixedDigest>, body: &FixedDigest, empty: bool) -> Result<(), Rejection> {
        let Some(rule) = &self.scheme.token.body_digest else { return Ok(()) };
        match claimed {
            Some(claimed) if claimed.is(body) => Ok(()),
            None if rule.unless_empty && empty => Ok(()),
            _ => Err(Rejection::DigestMismatch),
        }
    }

    fn open<D: Delivery>(&self, delivery: &D, now: Now) -> Result<OpenedToken, Rejection> {
        let Kind::Jws(algorithm) = self.scheme.kind else { return Err(Rejection::KeyInactive) };
        let text = place::text(self.scheme, delivery)?;
        let token = CompactToken::parse(&text)?;
        let by_claim = self.scheme.token.key_claim.is_some();
        let mut named = None;
        let chosen = token.judge_header(algorithm.name(), |name| match by_claim {
            true => Ok(KeyChoice::All),
            false => {
                named = self.published().next().and(name).map(Box::from);
                self.choose(name, now)
            }
        })?;
        let judge = Judge {
            scheme: self.scheme,
            tolerance: self.tolerance,
            observes_tolerance: self.observes_tolerance,
            anytime: self.anytime,
            public_url: self.public_url,
        };
        let judged = judge.judge(&token, delivery, now)?;
        let choice = if by_claim { self.choose(judged.key.as_deref(), now)? } else { chosen };
        Ok(OpenedToken { judged, choice, name: named, next: 0, verified: None })
    }

    /// The keys that a token may be tried with. A name selects among those that are configured, and nothing else.
    fn choose(&self, name: Option<&str>, now: Now) -> Result<KeyChoice, Rejection> {
        let Some(name) = name else { return Ok(KeyChoice::All) };
        let mut active = self.keyring.active(now);
        if let Some((place, _)) = active.find(|(_, key)| key.name() == Some(name)) {
            return Ok(KeyChoice::One(place));
        }
        let has = |key: &Key| key.published().is_some_and(|keys| keys.look_up(name) == Lookup::Known);
        if let Some((place, _)) = self.keyring.active(now).find(|(_, key)| has(key)) {
            return Ok(KeyChoice::One(place));
        }
        // It may have been published meanwhile: the sender's next attempt finds it.
        self.published().for_each(|keys| keys.ask());
        let nameless = self.keyring.active(now).any(|(_, key)| is_nameless(key));
        if nameless { Ok(KeyChoice::Nameless) } else { Err(Rejection::KeyUnknown) }
    }

    fn published(&self) -> impl Iterator<Item = &PublishedKeys> {
        self.keyring.keys().iter().filter_map(Key::published).map(|keys| &**keys)
    }

    fn try_rest<D: Delivery>(&self, opened: &mut OpenedToken, delivery: &D, now: Now) -> Result<(), Rejection> {
        let text = place::text(self.scheme, delivery)?;
        let token = CompactToken::parse(&text)?;
        while self.try_next(opened, &token, now) {}
        opened.verified.map(|_| ()).ok_or(Rejection::SignatureMismatch)
    }

    /// Tries the next key that counts, if the token has not been verified; whether there are more.
    fn try_next(&self, opened: &mut OpenedToken, token: &CompactToken<'_>, now: Now) -> bool {
        if opened.verified.is_some() {
            return false;
        }
        let (choice, next) = (opened.choice, opened.next);
        let mut left = self.keyring.active(now).filter(|(place, key)| {
            *place >= next
                && match choice {
                    KeyChoice::One(one) => *place == one,
                    KeyChoice::Nameless => is_nameless(key),
                    KeyChoice::All => true,
                }
        });
        let Some((place, key)) = left.next() else { return false };
        opened.next = place + 1;
        opened.verified = verifies(key, opened.name.as_deref(), token).then_some(place);
        opened.verified.is_none() && left.next().is_some()
    }

    fn is_public(&self) -> bool {
        matches!(self.scheme.kind, Kind::Jws(JwsAlgorithm::Public(_)))
    }

    /// Whether the token itself stands in the body.
    fn needs_body(&self) -> bool {
        matches!(self.scheme.signature, SignatureSource::Json(_) | SignatureSource::Form(_))
    }
}

/// Whether tokens that name another key may be of this one.
fn is_nameless(key: &Key) -> bool {
    key.name().is_none() && key.published().is_none()
}

fn verifies(key: &Key, name: Option<&str>, token: &CompactToken<'_>) -> bool {
    match key.material() {
        Material::Mac(key) => {
            let Some(signature) = Encoding::Base64Url.decode(token.signature) else { return false };
            let mut hasher = Hasher::mac(key);
            hasher.update(token.signed);
            hasher.finish().matches(&signature)
        }
        Material::Public(key) => {
            let mut signature = Signature::<SIGNATURE_LIMIT>::EMPTY;
            Encoding::Base64Url.read(token.signature, &mut signature) && key.verifies(token.signed, signature.bytes())
        }
        Material::Published(keys) => {
            let mut signature = Signature::<SIGNATURE_LIMIT>::EMPTY;
            Encoding::Base64Url.read(token.signature, &mut signature)
                && keys.verifies(name, token.signed, signature.bytes())
        }
        Material::Secret(_) | Material::Credential(_) | Material::Pinned(_) => false,
    }
}
