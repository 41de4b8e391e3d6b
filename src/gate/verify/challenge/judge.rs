//! What a route answers: a handshake, with the tokens and the URL of the route.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::answer::{AnswerText, ChallengeReply, Computed, Slot};
use super::call_proof::CallProof;
use super::matching::Read;
use super::shape::{CHALLENGE_BODY_LIMIT, HandshakeCall, HandshakeScheme};
use super::verify_token::VerifyToken;
use crate::gate::confirming::Confirmations;
use crate::gate::verify::Delivery;
use crate::gate::verify::engine::Verifier;
use crate::gate::verify::keyring::{Key, Material};
use crate::gate::verify::mac::{self, Hasher};
use crate::now::Now;
use crate::outcome::Rejection;

/// The handshake of a route.
#[derive(Clone, Debug)]
pub struct Challenges {
    /// What is asked.
    pub handshake: Arc<HandshakeScheme>,
    /// The verify tokens, of which each that counts is right. An answer that is made with one is made with the first.
    pub tokens: Vec<VerifyToken>,
    /// The URL that the sender knows.
    pub url: Option<String>,
    /// Whether unsigned first calls are answered.
    pub first_calls: bool,
    /// What waits to be confirmed.
    pub confirmations: Arc<Confirmations>,
}

/// A request, and what is known of it.
#[derive(Debug)]
pub struct Question<'a, D> {
    /// The request.
    pub delivery: &'a D,
    /// Whether it has been verified.
    pub is_verified: bool,
    /// The present.
    pub now: Now,
}

impl Challenges {
    /// Whether the head of a request that has shown nothing can be that of a call.
    pub fn may_be_asked<D: Delivery>(&self, delivery: &D) -> bool {
        self.unproven().any(|call| call.fits_head(delivery))
    }

    /// Whether a body of this length can be that of a call.
    #[must_use]
    pub const fn takes_body(length: u64) -> bool {
        length <= CHALLENGE_BODY_LIMIT as u64
    }

    /// The answer to a request that is a call; nothing for any other. `verifier` is that of the route.
    ///
    /// # Errors
    /// [`Rejection::ChallengeTooLong`], [`Rejection::ChallengeMalformed`], [`Rejection::ChallengeTokenMismatch`],
    /// [`Rejection::KeyInactive`].
    pub fn judge<D: Delivery>(
        &self,
        question: Question<'_, D>,
        verifier: &Verifier,
    ) -> Result<Option<ChallengeReply>, Rejection> {
        let mut verified = self.handshake.calls.iter().filter(|call| self.answers_verified(call));
        let fits = |call: &&HandshakeCall| call.fits(question.delivery);
        let call = if question.is_verified { verified.find(fits) } else { self.unproven().find(fits) };
        call.map(|call| self.answer(call, question, verifier)).transpose()
    }

    /// The calls of clients that have shown nothing.
    fn unproven(&self) -> impl Iterator<Item = &HandshakeCall> {
        self.handshake.calls.iter().filter(|call| match call.proof {
            CallProof::Signature => false,
            CallProof::Nothing | CallProof::Pairing => true,
            CallProof::FirstCall => self.first_calls,
        })
    }

    /// A delivery that is verified never brings a secret.
    fn answers_verified(&self, call: &HandshakeCall) -> bool {
        match call.proof {
            CallProof::Signature | CallProof::Nothing => true,
            CallProof::FirstCall => self.first_calls,
            CallProof::Pairing => false,
        }
    }

    fn answer<D: Delivery>(
        &self,
        call: &HandshakeCall,
        question: Question<'_, D>,
        verifier: &Verifier,
    ) -> Result<ChallengeReply, Rejection> {
        let Question { delivery, now, .. } = question;
        let value = call.value.as_ref().map(|value| value.take(delivery)).transpose()?.unwrap_or_default();
        self.check_token(call, delivery, now)?;
        let confirm = call.confirm.as_ref().map(|rule| rule.take(delivery)).transpose()?;
        let mut material = Parts {
            value: &value,
            computed: String::new(),
            key_id: "",
            token: self.tokens.iter().find(|token| token.counts(now)).map(VerifyToken::reveal).unwrap_or_default(),
            url: self.url.as_deref().unwrap_or_default(),
        };
        match &call.answer.computed {
            None => {}
            Some(Computed::Sha256(text, encoding)) => {
                material.computed = encoding.encode(&mac::sha256(&material.fill(text)));
            }
            Some(Computed::Mac(encoding)) => {
                let key = verifier.keys().iter().find(|key| key.validity().contains(now));
                let (tag, key) = key.and_then(|key| Some((tag(key, &value)?, key))).ok_or(Rejection::KeyInactive)?;
                material.computed = encoding.encode(tag.reveal());
                material.key_id = key.id();
            }
        }
        let (media, body) = match &call.answer.body {
            None => (None, Vec::new()),
            Some((true, text)) => (Some("application/json"), material.fill(text)),
            Some((false, text)) => (Some("text/plain"), material.fill(text)),
        };
        Ok(ChallengeReply {
            status: call.answer.status,
            media,
            fields: call.answer.fields.iter().map(|(name, text)| (name.clone(), material.fill(text))).collect(),
            body,
            proof: call.proof,
            confirm,
            secret: (call.proof == CallProof::Pairing).then(|| Zeroizing::new(value.to_vec())),
        })
    }

    fn check_token<D: Delivery>(&self, call: &HandshakeCall, delivery: &D, now: Now) -> Result<(), Rejection> {
        let Some(spot) = &call.token else { return Ok(()) };
        let Read::Value(shown) = spot.read(delivery) else {
            return Err(Rejection::ChallengeTokenMismatch);
        };
        // Every token is compared: the time says nothing about which one it was.
        let counting = self.tokens.iter().filter(|token| token.counts(now));
        let right = counting.fold(false, |right, token| right | token.is(&shown));
        if right { Ok(()) } else { Err(Rejection::ChallengeTokenMismatch) }
    }
}

/// What slots are filled with.
struct Parts<'a> {
    value: &'a [u8],
    computed: String,
    key_id: &'a str,
    token: &'a [u8],
    url: &'a str,
}

impl Parts<'_> {
    fn fill(&self, text: &AnswerText) -> Vec<u8> {
        text.write(|slot, out| {
            out.extend_from_slice(match slot {
                Slot::Value => self.value,
                Slot::Computed => self.computed.as_bytes(),
                Slot::KeyId => self.key_id.as_bytes(),
                Slot::Token => self.token,
                Slot::Url => self.url.as_bytes(),
            });
        })
    }
}

/// The MAC of a value under a key of the route.
fn tag(key: &Key, value: &[u8]) -> Option<mac::Tag> {
    let Material::Mac(key) = key.material() else { return None };
    let mut hasher = Hasher::mac(key);
    hasher.update(value);
    Some(hasher.finish())
}
