//! Why a delivery is genuine or not, in plain words, for the commands `explain` and `verify`. No verdict rests on what is
//! found here: it only says what would have matched.
//!
//! [`explain`] gives the verdict of the engine with its cause: one of the [`Mistake`]s, in words of the case a [`NamedMistake`].
//! Every trial is judged by the engine and paid for out of a [`TrialBudget`], since an attacker may have made the request.

mod bodies;
mod body_end;
mod budget;
mod case;
mod contents;
mod credentials;
mod encodings;
mod ends;
mod facts;
mod finding;
mod form_params;
mod forms;
mod given;
mod json_keys;
mod json_numbers;
mod json_spelling;
mod late;
mod looks;
mod mistake;
mod opened;
mod pairs;
mod parts;
mod places;
mod python;
mod quoted;
mod report;
mod search;
mod secrets;
mod seen;
mod signatures;
mod spans;
#[cfg(test)]
mod tests;
mod text;
mod times;
mod tokens;
mod trial;
mod units;
#[cfg(test)]
mod untouched;
mod urls;
mod wrapped;

pub use body_end::BodyEnd;
pub use budget::TrialBudget;
pub use case::NamedSecret;
pub use finding::{NamedMistake, StillRefused};
pub use given::Given;
pub use mistake::{Certainty, Mistake};
pub use quoted::{quoted, quoted_start};
pub use report::{Explanation, explain, explain_head};
pub use spans::shown_span;
pub use text::blank as blank_secret;
