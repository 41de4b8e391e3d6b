//! The audit trail: what became of every delivery, and every change of what deliveries are judged by, in lines that
//! cannot be changed, left out or put in another order without that being seen.
//!
//! A line is a JSON object. It begins with its number and the hash of the line before ([`chain`]), says what happened
//! ([`record`]) and ends with its own hash. Seals, HMACs under a key that is kept elsewhere, stand among them
//! ([`seal`]): whoever has no key cannot make the lines before a seal anew. [`examine`] proves a trail, or names the
//! first line that is not as it was written.
//!
//! What cannot be seen: that lines after the last seal are missing at the end, or have been made anew by somebody who
//! can write to the file. Whoever remembers the last number and hash elsewhere sees that, too.

pub mod chain;
pub mod examine;
pub mod record;
pub mod seal;
#[cfg(test)]
mod tests;

pub use chain::{Chain, Digest, Link};
pub use examine::{Examiner, Flaw, Summary};
pub use record::{Change, Step, Tally};
pub use seal::SealKey;
