//! Why a delivery is genuine or not, in plain words, for the commands `explain` and `verify`. No verdict rests on what is
//! found here: it only says what would have matched.
//!
//! [`explain`] gives the verdict of the engine with what led to it. [`mistakes`] tries the usual mistakes around a signature
//! that does not match. Every trial is paid for out of a [`TrialBudget`], since an attacker may have made the request.

mod budget;
mod json_spelling;
mod keys;
pub mod mistakes;
mod other_bodies;
mod report;
mod spans;
#[cfg(test)]
mod tests;
mod tokens;
mod trial;

pub use budget::TrialBudget;
pub use report::{Explanation, MismatchCause, explain, explain_head, explain_within};
pub use spans::shown_span;
