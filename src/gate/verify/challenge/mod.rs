//! Handshakes: what a sender asks a new endpoint, and the answer that it wants. Values only: a handshake is data, read by
//! the code that reads those of a configuration, and no sender has a function.
//!
//! A [`HandshakeScheme`] has calls. A [`HandshakeCall`] says which request it is, which value the request brings,
//! what has to be shown before it is answered ([`CallProof`]), and how the answer is written ([`AnswerForm`]). [`Challenges`] joins the handshake
//! with what a route has of its own, and judges requests. The answers are text or JSON and never HTML: a value with
//! markup, quotes or control characters is refused, so nothing of a client's has to be escaped.

mod alphabet;
mod answer;
mod call_proof;
mod judge;
mod matching;
mod shape;
mod verify_token;

pub use alphabet::Alphabet;
pub use answer::{AnswerForm, AnswerText, ChallengeReply, Computed, Slot};
pub use call_proof::CallProof;
pub use judge::{Challenges, Question};
pub use shape::{
    CHALLENGE_BODY_LIMIT, CHALLENGE_LIMIT, Condition, ConfirmRule, HandshakeCall, HandshakeScheme, Spot, ValueSource,
};
pub use verify_token::VerifyToken;
