//! How an answer is written. Everything that a client brings has passed its alphabet, and needs no escaping.

use core::fmt;

use zeroize::Zeroizing;

use super::call_proof::CallProof;
use crate::gate::verify::signature::Encoding;

/// What stands in an answer in the place of a token of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The value that the call has brought.
    Value,
    /// The MAC or digest ([`AnswerForm::computed`]).
    Computed,
    /// The id of the key that the MAC is made with.
    KeyId,
    /// The verify token.
    Token,
    /// The URL that the sender knows.
    Url,
}

impl Slot {
    const ALL: [(&'static str, Self); 5] = [
        ("{value}", Self::Value),
        ("{computed}", Self::Computed),
        ("{key_id}", Self::KeyId),
        ("{token}", Self::Token),
        ("{url}", Self::Url),
    ];
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Slot(Slot),
}

/// A text with slots. Braces that are no slot stand for themselves, so JSON can be written as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerText(Vec<Segment>);

impl AnswerText {
    /// Reads a text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        let mut rest = text;
        loop {
            let found = Slot::ALL.iter().filter_map(|(token, slot)| Some((rest.find(token)?, *token, *slot)));
            let Some((at, token, slot)) = found.min_by_key(|(at, ..)| *at) else { break };
            let (before, after) = rest.split_at(at);
            segments.extend((!before.is_empty()).then(|| Segment::Literal(before.to_owned())));
            segments.push(Segment::Slot(slot));
            rest = after.strip_prefix(token).unwrap_or_default();
        }
        segments.extend((!rest.is_empty()).then(|| Segment::Literal(rest.to_owned())));
        Self(segments)
    }

    /// Whether the slot is in it.
    #[must_use]
    pub fn uses(&self, slot: &Slot) -> bool {
        self.0.iter().any(|segment| matches!(segment, Segment::Slot(it) if it == slot))
    }

    pub(super) fn write(&self, mut slot: impl FnMut(Slot, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Slot(it) => slot(*it, &mut out),
            }
        }
        out
    }
}

impl fmt::Display for AnswerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => f.write_str(text)?,
                Segment::Slot(slot) => {
                    let token = Slot::ALL.iter().find(|(_, it)| it == slot).map_or("", |(token, _)| token);
                    f.write_str(token)?;
                }
            }
        }
        Ok(())
    }
}

/// What is computed from the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Computed {
    /// Its MAC with the scheme's algorithm, under the first key of the route that counts.
    Mac(Encoding),
    /// SHA-256 of a text.
    Sha256(AnswerText, Encoding),
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerForm {
    /// Status code: 200 or 204.
    pub status: u16,
    /// Header fields beside those that every answer has.
    pub fields: Vec<(String, AnswerText)>,
    /// The body, and whether it is JSON rather than text.
    pub body: Option<(bool, AnswerText)>,
    /// What `{computed}` stands for.
    pub computed: Option<Computed>,
}

impl AnswerForm {
    /// Whether the slot is in it.
    #[must_use]
    pub fn uses(&self, slot: &Slot) -> bool {
        let texts = self.fields.iter().map(|(_, text)| text).chain(self.body.iter().map(|(_, text)| text));
        let computed = match &self.computed {
            Some(Computed::Sha256(text, _)) => Some(text),
            _ => None,
        };
        texts.chain(computed).any(|text| text.uses(slot))
    }
}

/// An answer that is ready to be written.
#[derive(Clone)]
pub struct ChallengeReply {
    /// Status code.
    pub status: u16,
    /// Content type of the body, where there is one.
    pub media: Option<&'static str>,
    /// Header fields beside those that every answer has.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the call had to show.
    pub proof: CallProof,
    /// What is to be fetched from the sender before it is answered.
    pub confirm: Option<Box<str>>,
    /// The secret that it has brought, where it is a pairing.
    pub secret: Option<Zeroizing<Vec<u8>>>,
}

/// The body may be derived from a key.
impl fmt::Debug for ChallengeReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChallengeReply").field("status", &self.status).finish_non_exhaustive()
    }
}
