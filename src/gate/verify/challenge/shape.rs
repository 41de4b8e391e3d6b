//! The description of a handshake: its calls, and what tells them from other requests.

use super::alphabet::Alphabet;
use super::answer::{AnswerForm, Computed, Slot};
use super::call_proof::CallProof;
use crate::gate::verify::bytes::ByteSet;
use crate::gate::verify::json::JsonPath;
use crate::gate::verify::pin::QueryPin;
use crate::gate::verify::scheme::{Kind, Scheme};
use crate::gate::verify::template::Part;

/// The longest value that is answered, in bytes. Senders use up to 200.
pub const CHALLENGE_LIMIT: usize = 2048;

/// The longest body that can be that of a handshake, in bytes. A longer one is not looked at.
pub const CHALLENGE_BODY_LIMIT: usize = 16 << 10;

/// What a sender asks a new endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeScheme {
    /// The name by which routes refer to it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// What confirms the facts, in the words of a scheme's status.
    pub status: String,
    /// The presets whose routes answer it with `challenge = true`.
    pub senders: Vec<String>,
    /// Whether such routes answer it without being told.
    pub default: bool,
    /// Whether the body of a 401 must be empty.
    pub bare_refusals: bool,
    /// The requests that are answered. The first that fits counts.
    pub calls: Vec<HandshakeCall>,
}

/// A request that is answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeCall {
    /// What has to be shown before it is answered.
    pub proof: CallProof,
    /// Its method.
    pub method: String,
    /// What else is true of it.
    pub when: Vec<Condition>,
    /// The names that its body may have, whether form or JSON object; any where there are none.
    pub members: Vec<String>,
    /// The value that it brings.
    pub value: Option<ValueSource>,
    /// Where the verify token stands, which is known to the sender and the operator.
    pub token: Option<Spot>,
    /// What is fetched from the sender before it is answered.
    pub confirm: Option<ConfirmRule>,
    /// The answer.
    pub answer: AnswerForm,
}

/// A URL that a call brings, and that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmRule {
    /// Where it stands.
    pub spot: Spot,
    /// What it may be: pins, behind which a query begins with the text behind their question marks.
    pub pins: Vec<QueryPin>,
}

/// Where something stands in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// In a query parameter.
    Query(String),
    /// In a header.
    Header(String),
    /// In a field of the JSON body.
    Json(JsonPath),
    /// In a field of a form body.
    Form(String),
}

impl Spot {
    /// Whether it can be read before the body is there.
    #[must_use]
    pub const fn is_in_head(&self) -> bool {
        matches!(self, Self::Query(_) | Self::Header(_))
    }
}

/// The value that a call brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueSource {
    /// Where it stands.
    pub spot: Spot,
    /// The bytes that it may have.
    pub alphabet: Alphabet,
    /// The longest that it may be, in bytes; at most [`CHALLENGE_LIMIT`].
    pub limit: usize,
}

/// Something that is true of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// This stands there.
    Is(Spot, String),
    /// Something stands there.
    Present(Spot),
    /// Nothing stands there.
    Absent(Spot),
    /// The body is this text, or JSON that means the same.
    Body(String),
}

impl HandshakeCall {
    /// Whether the answer contains the value under the route's key.
    #[must_use]
    pub const fn needs_mac(&self) -> bool {
        matches!(self.answer.computed, Some(Computed::Mac(_)))
    }

    /// Whether the answer is made with a verify token, or given only for one.
    #[must_use]
    pub fn needs_token(&self) -> bool {
        self.token.is_some() || self.answer.uses(&Slot::Token)
    }

    /// Whether the answer is made with the URL that the sender knows.
    #[must_use]
    pub fn needs_url(&self) -> bool {
        self.answer.uses(&Slot::Url)
    }

    /// Whether a client that has shown nothing could be given the signature of a delivery: the answer is a MAC of its
    /// value, under the key and in the place of the scheme's own.
    #[must_use]
    pub fn may_sign_for_strangers(&self, scheme: &Scheme) -> bool {
        let Some(value) = self.value.as_ref().filter(|_| self.needs_mac() && self.proof != CallProof::Signature) else {
            return false;
        };
        let taken = value.alphabet.bytes();
        let foreign = |part: &Part| match part {
            Part::Literal(bytes) => !bytes.iter().all(|byte| taken.has(*byte)),
            Part::Body => scheme.guards.begins.is_some_and(|begins| disjoint(begins, taken)),
            _ => false,
        };
        !scheme.content.any(foreign)
    }
}

impl HandshakeScheme {
    /// Whether a scheme has what the answers are made of.
    #[must_use]
    pub fn fits(&self, scheme: Option<&Scheme>) -> bool {
        let signs = scheme.is_some_and(|scheme| matches!(scheme.kind, Kind::Hmac(_)));
        signs || !self.calls.iter().any(HandshakeCall::needs_mac)
    }

    /// Whether one of its calls has this proof.
    #[must_use]
    pub fn has(&self, proof: CallProof) -> bool {
        self.calls.iter().any(|call| call.proof == proof)
    }
}

fn disjoint(one: ByteSet, other: ByteSet) -> bool {
    !(0..=u8::MAX).any(|byte| one.has(byte) && other.has(byte))
}
