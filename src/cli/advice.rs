//! What to do about a verdict, in a sentence, where more than its reason code is known.

use crate::explain::MismatchCause;
use crate::outcome::Rejection;
use crate::telemetry::advice;

/// What helps where it is known what would have to be otherwise.
pub(super) const fn of_cause(cause: MismatchCause) -> &'static str {
    match cause {
        MismatchCause::Key => "let the key count (not_before, not_after), or sign with one that does",
        MismatchCause::Body => {
            "the sender signed other bytes than have come: find what reads the body and writes it again on the way, or \
             in the tool that sends it"
        }
        MismatchCause::Url => "give the route the public_url that is set at the sender, byte for byte",
        MismatchCause::Head => "let what is in front pass on the method, the path and the query as they came",
    }
}

/// What helps where the usual mistakes have been tried, and none of them was it.
pub(super) fn after_all(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::SignatureMismatch => {
            "none of the usual mistakes explains it: is the key the one that the sender has, and is the body (its \
             length and SHA-256 are above) the one that it signed?"
        }
        rejection => advice::of(rejection.code()),
    }
}
