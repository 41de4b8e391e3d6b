//! The engine: one interpreter for every scheme.
//!
//! [`Verifier::begin`] refuses whatever can be refused before a body byte is read, [`Check::update`] hashes the body
//! as it lands, [`Verifier::finish`] compares and is the only maker of [`Verified`]. For schemes whose signed content
//! is made of headers and `{body}` nothing is allocated on the way and the body is hashed exactly once, unless the
//! first active key does not match and another one is tried.

use core::fmt;
use std::sync::Arc;

use super::Delivery;
use super::candidates::{Candidates, Trial, Work};
use super::content::Content;
use super::credential;
use super::decoded::{self, Decompressed, SignedBody};
use super::fit::misfits;
use super::jws::{Proven, TokenCheck, TokenRule};
use super::keyring::{Key, Keyring};
use super::mac::{self, Hasher, Tag};
use super::name::Name;
use super::pinned::{KeyPlace, PinnedKey};
use super::reading;
use super::rule::Rule;
use super::scheme::{Kind, Scheme, SchemeProblem, Source};
use super::signature::{Encoding, SIGNATURE_LIMIT, TAG_LIMIT};
use super::template::Part;
use super::tolerance::Tolerance;
use super::url::PublicUrl;
use super::verified::{Evidence, Proof, Verified};
use crate::now::Now;
use crate::outcome::Rejection;

/// What a route verifies with: a scheme and the route's own keys, tolerance and public URL.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    pub(super) rule: Option<Rule>,
}

/// How many passes of a hash the walk over a JSON body takes.
const JSON_COST: usize = 5;

/// A verification under way: between the head and the end of the body.
#[must_use]
pub struct Check {
    state: State,
}

enum State {
    /// Nothing is verified (`scheme = "none"`).
    Nothing,
    /// The body is hashed as it arrives, with the key at this place in the ring.
    Hashing { key: usize, hasher: Hasher, length: usize },
    /// Everything happens when the body is there.
    Waiting,
    /// The body is there, and public keys are being tried.
    Trying(Box<Trial>),
    /// A token is judged, and the body hashed as it arrives.
    Token(TokenCheck),
    /// The credential in the head has been recognised as that of the key at this place.
    Recognised { key: usize },
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").finish_non_exhaustive()
    }
}

impl Check {
    /// Takes the next bytes of the body, in order.
    pub fn update(&mut self, chunk: &[u8]) {
        match &mut self.state {
            State::Hashing { hasher, length, .. } => {
                hasher.update(chunk);
                *length = length.saturating_add(chunk.len());
            }
            State::Token(check) => check.update(chunk),
            _ => {}
        }
    }
}

impl Verifier {
    /// A verifier for `scheme`. `tolerance` replaces the scheme's own where a route sets one.
    ///
    /// # Errors
    /// All reasons why scheme, keys, tolerance and URL do not fit together.
    pub fn new(
        scheme: Arc<Scheme>,
        keyring: Keyring,
        tolerance: Option<Tolerance>,
        public_url: Option<PublicUrl>,
    ) -> Result<Self, Vec<SchemeProblem>> {
        let problems = misfits(&scheme, &keyring, tolerance, public_url.is_some());
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { rule: Some(Rule::new(scheme, keyring, tolerance, public_url)) })
    }

    /// The same verifier, which only notes ([`Verified::untimely`]) what the tolerance would have refused.
    #[must_use]
    pub fn observing_tolerance(mut self) -> Self {
        self.rule.iter_mut().for_each(|rule| rule.observes_tolerance = true);
        self
    }

    /// The same verifier for a route whose bodies have at most `bytes` bytes, decompressed or not.
    #[must_use]
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.rule.iter_mut().for_each(|rule| rule.body_limit = bytes);
        self
    }

    /// A verifier that lets everything through, for a route that says so in so many words (`scheme = "none"`).
    #[must_use]
    pub const fn none() -> Self {
        Self { rule: None }
    }

    /// Whether anything is verified.
    #[must_use]
    pub const fn verifies(&self) -> bool {
        self.rule.is_some()
    }

    /// What may be left to be computed for this delivery when its body is whole, beyond what has been hashed while it
    /// arrived. Known before any of it is computed: a client decides about it by the length of its body and, with public
    /// keys, by the number of its signatures.
    pub fn work_left<D: Delivery>(&self, delivery: &D) -> Work {
        let Some(rule) = self.rule.as_ref().filter(|rule| !rule.leaves_nothing) else { return Work::default() };
        let (length, keys) = (rule.length_to_hash(delivery), rule.keyring.keys().len());
        let urls = if rule.other_url.is_some() { 2 } else { 1 };
        let digests = usize::from(rule.scheme.body_digest.is_some());
        match rule.scheme.kind {
            Kind::Token | Kind::Basic => Work::default(),
            Kind::Jws(_) => rule.token().work(length),
            Kind::Public(_) => {
                let candidates = Candidates::of(&rule.scheme, delivery).map_or(0, |candidates| candidates.count());
                let fields = if rule.scheme.signs_json() { JSON_COST } else { 1 };
                let bytes = length.saturating_mul(fields).saturating_add(rule.keyring.arithmetic());
                Work { pieces: candidates * keys, bytes }
            }
            Kind::Hmac(_) | Kind::Digest(_) => {
                let fields = if rule.scheme.signs_json() { JSON_COST } else { 1 };
                let passes = (keys * urls).saturating_sub(usize::from(rule.streams)) * fields + digests;
                Work { pieces: 1, bytes: passes.saturating_mul(length) }
            }
        }
    }

    /// Computes one piece of what is left when the body is whole, where it has pieces ([`Verifier::work_left`]); whether
    /// there are more. [`Verifier::finish`] does what is left over.
    pub fn advance<D: Delivery>(&self, check: &mut Check, delivery: &D, now: Now) -> bool {
        let Some(rule) = self.rule.as_ref().filter(|rule| rule.scheme.wants_public_key()) else { return false };
        if let State::Token(check) = &mut check.state {
            return rule.token().step(check, delivery, now);
        }
        if let State::Waiting = check.state {
            let Ok(trial) = rule.trial(delivery, now) else { return false };
            check.state = State::Trying(Box::new(trial));
        }
        match &mut check.state {
            State::Trying(trial) => trial.step(&rule.keyring, now),
            _ => false,
        }
    }

    /// A verifier that explains what would have matched, never one that verifies: nothing is asked of the scheme, and no
    /// timestamp is judged. The body is read only when it is whole.
    pub(crate) fn for_explanation(scheme: Arc<Scheme>, keyring: Keyring, public_url: Option<PublicUrl>) -> Self {
        Self { rule: Some(Rule::for_explanation(scheme, keyring, public_url)) }
    }

    /// Starts a check on the head of a delivery; does not look at the body.
    ///
    /// # Errors
    /// Every [`Rejection`] that can be known without the body: required headers, the form of the signature, the
    /// timestamp and its tolerance, the delivery id, the absence of an active key, a wrong credential.
    pub fn begin<D: Delivery>(&self, delivery: &D, now: Now) -> Result<Check, Rejection> {
        match &self.rule {
            Some(rule) => rule.begin(delivery, now).map(|state| Check { state }),
            None => Ok(Check { state: State::Nothing }),
        }
    }

    /// Ends a check when the body is whole. `delivery.body()` must be what was given to [`Check::update`].
    ///
    /// # Errors
    /// The [`Rejection`], and the delivery back.
    pub fn finish<D: Delivery>(&self, check: Check, delivery: D, now: Now) -> Result<Verified<'_, D>, (Rejection, D)> {
        let Some(rule) = &self.rule else { return Ok(Verified::new(delivery, None)) };
        match rule.finish(check, &delivery, now) {
            Ok(evidence) => Ok(Verified::new(delivery, Some(evidence))),
            Err(rejection) => Err((rejection, delivery)),
        }
    }
}

impl Verifier {
    /// The name of a delivery that this verifier has verified, by its tag under `key`, which need not be a key of the
    /// route any more. The content is hashed again only for a key that was not tried to verify it. `None` where the tag
    /// is not what tells deliveries apart ([`Verified::is_named_by_tag`]), or the key is one of another scheme.
    pub fn name_under<D: Delivery>(&self, verified: &Verified<'_, D>, key: &Key) -> Option<Name> {
        if !verified.is_named_by_tag() {
            return None;
        }
        let proof = verified.evidence()?.proof.as_ref()?;
        self.rule.as_ref()?.name_under(verified.delivery(), proof, key)
    }
}

impl Rule {
    fn begin<D: Delivery>(&self, delivery: &D, now: Now) -> Result<State, Rejection> {
        for (name, value) in &self.scheme.require {
            if delivery.headers().unique(name) != Ok(Some(value.as_bytes())) {
                return Err(Rejection::HeaderRequired);
            }
        }
        if let Kind::Jws(_) = self.scheme.kind {
            return self.token().begin(delivery, now).map(State::Token);
        }
        if !self.scheme.signs() {
            return self.begin_credential(delivery, now);
        }
        if reading::signature_is_in_head(&self.scheme) {
            self.check_signatures(delivery)?;
        }
        if !self.timestamp_is_in_body {
            self.judge_timestamp(delivery, now)?;
        }
        if self.needs_id {
            reading::id(&self.scheme, delivery)?.ok_or(Rejection::IdMissing)?;
        }
        if self.scheme.wants_public_key() {
            self.keyring.check(now)?;
            if self.scheme.named_key.as_ref().is_some_and(|it| matches!(it.place, KeyPlace::Header(_))) {
                self.named_key(delivery, now)?;
            }
        }
        let (index, key) = self.keyring.active(now).next().ok_or(Rejection::KeyInactive)?;
        if !self.streams {
            return Ok(State::Waiting);
        }
        let mut hasher = self.hasher(key)?;
        let before = self.scheme.content.around_body().0;
        self.content(delivery, key).write(before, &mut |piece| hasher.update(piece))?;
        Ok(State::Hashing { key: index, hasher, length: 0 })
    }

    /// Refuses what has no signature, too many, or none of a length that fits.
    fn check_signatures<D: Delivery>(&self, delivery: &D) -> Result<(), Rejection> {
        if self.scheme.wants_public_key() {
            return reading::signatures::<D, SIGNATURE_LIMIT>(&self.scheme, delivery, |_| {});
        }
        reading::signatures::<D, TAG_LIMIT>(&self.scheme, delivery, |_| {})
    }

    fn begin_credential<D: Delivery>(&self, delivery: &D, now: Now) -> Result<State, Rejection> {
        self.keyring.active(now).next().ok_or(Rejection::KeyInactive)?;
        if !reading::signature_is_in_head(&self.scheme) {
            return Ok(State::Waiting);
        }
        Ok(State::Recognised { key: credential::recognise(&self.scheme, &self.keyring, delivery, now)? })
    }

    fn finish<D: Delivery>(&self, check: Check, delivery: &D, now: Now) -> Result<Evidence<'_>, Rejection> {
        if self.scheme.signed_body == SignedBody::AsReceived {
            return self.finish_with(check, delivery, now);
        }
        let body = decoded::body(delivery, self.body_limit)?;
        self.finish_with(check, &Decompressed { delivery, body }, now)
    }

    fn finish_with<D: Delivery>(&self, check: Check, delivery: &D, now: Now) -> Result<Evidence<'_>, Rejection> {
        let (index, proof) = match check.state {
            State::Token(check) => return self.finish_token(check, delivery, now),
            State::Recognised { key } if !self.scheme.signs() => (key, None),
            State::Waiting if !self.scheme.signs() => {
                (credential::recognise(&self.scheme, &self.keyring, delivery, now)?, None)
            }
            State::Hashing { key, hasher, length } if length == delivery.body().len() => {
                let (key, proof) = self.finish_hashing(key, hasher, delivery, now)?;
                (key, Some(proof))
            }
            State::Trying(trial) if trial.is_of(delivery.body().len()) => {
                let (key, proof) = self.finish_trying(*trial, now)?;
                (key, Some(proof))
            }
            State::Waiting => {
                let (key, proof) = self.finish_waiting(delivery, now)?;
                (key, Some(proof))
            }
            State::Hashing { .. } | State::Trying(_) | State::Recognised { .. } | State::Nothing => {
                return Err(Rejection::SignatureMismatch);
            }
        };
        // After the signature: a body that was changed on the way is a mismatch, whatever it begins or ends with.
        self.scheme.guards.check_body(delivery.body())?;
        self.check_body_digest(delivery)?;
        let (timestamp, untimely) = self.judge_timestamp(delivery, now)?;
        let id = self.read_body_id(delivery)?;
        let key = self.keyring.keys().get(index).ok_or(Rejection::KeyInactive)?;
        Ok(Evidence { scheme: &self.scheme, key_id: key.id(), timestamp, untimely, id, proof, signs_id: self.signs_id })
    }

    fn finish_token<D: Delivery>(&self, check: TokenCheck, delivery: &D, now: Now) -> Result<Evidence<'_>, Rejection> {
        let Proven { key, timestamp, untimely, mut id, tag } = self.token().finish(check, delivery, now)?;
        let key = self.keyring.keys().get(key).ok_or(Rejection::KeyInactive)?;
        if id.is_none() {
            id = self.read_body_id(delivery)?;
        }
        let proof = Some(Proof { tag, key: None, matched: None });
        Ok(Evidence { scheme: &self.scheme, key_id: key.id(), timestamp, untimely, id, proof, signs_id: self.signs_id })
    }

    fn token(&self) -> TokenRule<'_> {
        TokenRule {
            scheme: &self.scheme,
            keyring: &self.keyring,
            tolerance: self.tolerance,
            observes_tolerance: self.observes_tolerance,
            anytime: self.anytime,
            public_url: self.public_url.as_ref(),
        }
    }

    /// The rest of the content under the key that streamed; on a mismatch the other active keys over everything.
    fn finish_hashing<D: Delivery>(
        &self,
        first: usize,
        mut hasher: Hasher,
        delivery: &D,
        now: Now,
    ) -> Result<(usize, Proof), Rejection> {
        let key = self.keyring.keys().get(first).ok_or(Rejection::KeyInactive)?;
        let after = self.scheme.content.around_body().1;
        self.content(delivery, key).write(after, &mut |piece| hasher.update(piece))?;
        let tag = hasher.finish();
        let proof = Proof { tag, key: Some(first), matched: None };
        if self.any_signature_is(&tag, delivery)? {
            return Ok((first, proof));
        }
        if self.leaves_nothing {
            return Err(Rejection::SignatureMismatch);
        }
        self.hash_with_keys(delivery, now, Some(proof))
    }

    fn finish_waiting<D: Delivery>(&self, delivery: &D, now: Now) -> Result<(usize, Proof), Rejection> {
        if self.scheme.wants_public_key() {
            return self.finish_trying(self.trial(delivery, now)?, now);
        }
        self.hash_with_keys(delivery, now, None)
    }

    fn finish_trying(&self, mut trial: Trial, now: Now) -> Result<(usize, Proof), Rejection> {
        while trial.step(&self.keyring, now) {}
        let Some((key, tag)) = trial.result() else {
            // It may have been made with a key that has been published meanwhile.
            self.keyring.keys().iter().filter_map(Key::published).for_each(|keys| keys.ask());
            return Err(Rejection::SignatureMismatch);
        };
        Ok((key, Proof { tag, key: None, matched: None }))
    }

    /// The signed content, put together once, and what is to be tried on it.
    fn trial<D: Delivery>(&self, delivery: &D, now: Now) -> Result<Trial, Rejection> {
        let named = self.named_key(delivery, now)?;
        let candidates = Candidates::of(&self.scheme, delivery)?;
        let length = delivery.body().len();
        let mut signed = Vec::with_capacity(length + 128);
        let content = Content { scheme: &self.scheme, delivery, public_url: self.public_url.as_ref(), secret: &[] };
        content.write(self.scheme.content.parts(), &mut |piece| signed.extend_from_slice(piece))?;
        Ok(Trial::new(signed, length, candidates).with(named))
    }

    /// The key that the delivery names, where the route takes it from there.
    fn named_key<D: Delivery>(&self, delivery: &D, now: Now) -> Result<Option<PinnedKey>, Rejection> {
        let Some(keys) = self.keyring.active(now).find_map(|(_, key)| key.pinned()) else { return Ok(None) };
        let value = reading::key_name(&self.scheme, &keys.locator().place, delivery)?;
        keys.named(&value).map(Some)
    }

    /// Hashes the whole content with every active key and URL, except the first where that has been done, until a
    /// signature matches. What tells the delivery apart is always made with the URL as it is configured.
    fn hash_with_keys<D: Delivery>(
        &self,
        delivery: &D,
        now: Now,
        mut first: Option<Proof>,
    ) -> Result<(usize, Proof), Rejection> {
        let done = first.and_then(|first| first.key);
        for (index, key) in self.keyring.active(now) {
            if Some(index) != done {
                let tag = self.tag(delivery, key, self.public_url.as_ref())?;
                let proof = *first.get_or_insert(Proof { tag, key: Some(index), matched: None });
                if self.any_signature_is(&tag, delivery)? {
                    return Ok((index, Proof { matched: Some((index, tag)), ..proof }));
                }
            }
            if let (Some(url), Some(proof)) = (&self.other_url, first)
                && self.any_signature_is(&self.tag(delivery, key, Some(url))?, delivery)?
            {
                return Ok((index, proof));
            }
        }
        Err(Rejection::SignatureMismatch)
    }

    /// The tag of the whole content under a key.
    fn tag<D: Delivery>(&self, delivery: &D, key: &Key, url: Option<&PublicUrl>) -> Result<Tag, Rejection> {
        let mut hasher = self.hasher(key)?;
        let parts = self.scheme.content.parts();
        let content = Content { public_url: url, ..self.content(delivery, key) };
        content.write(parts, &mut |piece| hasher.update(piece))?;
        Ok(hasher.finish())
    }

    /// The name that the content has under a key; a tag that has been computed already is used.
    fn name_under<D: Delivery>(&self, delivery: &D, proof: &Proof, key: &Key) -> Option<Name> {
        let computed = proof.key.map(|key| (key, proof.tag)).into_iter().chain(proof.matched);
        let mut computed = computed.filter_map(|(key, tag)| Some((self.keyring.keys().get(key)?, tag)));
        match computed.find(|(tried, _)| tried.is_same(key)) {
            Some((_, tag)) => Some(Name::of_tag(&tag)),
            None if self.scheme.signed_body == SignedBody::Decoded => {
                let body = decoded::body(delivery, self.body_limit).ok()?;
                let tag = self.tag(&Decompressed { delivery, body }, key, self.public_url.as_ref()).ok()?;
                Some(Name::of_tag(&tag))
            }
            None => self.tag(delivery, key, self.public_url.as_ref()).ok().map(|tag| Name::of_tag(&tag)),
        }
    }

    /// How many bytes one pass hashes.
    fn length_to_hash<D: Delivery>(&self, delivery: &D) -> usize {
        let length = delivery.body().len();
        match self.scheme.signed_body {
            SignedBody::AsReceived => length,
            // Decompressing a byte takes about as long as hashing two.
            SignedBody::Decoded => decoded::bound(length, self.body_limit).saturating_mul(3),
        }
    }

    fn any_signature_is<D: Delivery>(&self, tag: &Tag, delivery: &D) -> Result<bool, Rejection> {
        let mut matched = false;
        reading::signatures(&self.scheme, delivery, |signature| matched |= tag.matches(signature))?;
        Ok(matched)
    }

    fn check_body_digest<D: Delivery>(&self, delivery: &D) -> Result<(), Rejection> {
        let Some(digest) = &self.scheme.body_digest else { return Ok(()) };
        let text = reading::query_parameter(delivery, &digest.query, reading::CONTENT)?;
        let text = text.ok_or(Rejection::ContentUnavailable)?;
        let claimed = Encoding::Hex.decode(&text).ok_or(Rejection::DigestMismatch)?;
        if mac::is_sha256_of(&claimed, delivery.body()) { Ok(()) } else { Err(Rejection::DigestMismatch) }
    }

    /// The timestamp, and what an observed tolerance would have refused.
    fn judge_timestamp<D: Delivery>(
        &self,
        delivery: &D,
        now: Now,
    ) -> Result<(Option<i64>, Option<Rejection>), Rejection> {
        let timestamp = reading::timestamp(&self.scheme, delivery)?;
        let (Some(moment), Some(tolerance)) = (timestamp, self.tolerance) else { return Ok((timestamp, None)) };
        match tolerance.judge(moment, now) {
            Err(rejection) if !self.observes_tolerance => Err(rejection),
            judged => Ok((timestamp, judged.err())),
        }
    }

    /// A signed id in the body. Where it is not a part of the content on its own, a delivery may lack it (test calls
    /// often do): the replay key is then the tag.
    fn read_body_id<D: Delivery>(&self, delivery: &D) -> Result<Option<Box<[u8]>>, Rejection> {
        let kept = self.scheme.id.as_ref().is_some_and(|id| id.is_in_body() || matches!(id, Source::Query(_)));
        if !kept || !self.signs_id {
            return Ok(None);
        }
        match reading::id(&self.scheme, delivery) {
            Ok(id) => Ok(id.map(|id| Box::from(id.as_ref()))),
            Err(Rejection::IdMalformed) if !self.scheme.content.contains(&Part::Id) => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }
}
