//! The audit trail: what became of every delivery, and every change of what deliveries are judged by, in lines that
//! cannot be changed, left out or put in another order without that being seen.
//!
//! A line is a JSON object. It begins with its number and the hash of the line before ([`chain`]), says what happened
//! ([`record`]) and ends with its own hash. Seals, HMACs under a key that is kept elsewhere, stand among them
//! ([`seal`]): without the key the lines before a seal cannot be made anew. [`examine`] proves a trail, names the lines
//! that no seal proves, or the first line that is not as it was written.
//!
//! What cannot be seen: that lines after the last seal are missing at the end, or that few of them (at most
//! [`SEAL_RECORDS`]) have been made anew. The last number and hash, kept elsewhere, show that, too.

pub mod chain;
pub mod examine;
pub mod inbox_change;
pub mod record;
pub mod seal;
#[cfg(test)]
mod tests;

pub use chain::{Chain, Digest, Link, RecordTime};
pub use examine::{Doubt, Examiner, Flaw, Summary, Unproven};
pub use record::{Change, Transition, UnrecordedTally};
pub use seal::{SEAL_RECORDS, SealKey};
