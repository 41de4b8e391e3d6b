//! Claims that several processes share, in an engine: Redis or Valkey.
//!
//! A process first claims a delivery in its own memory, and only what is new there asks the engine. So what is known here
//! costs no round trip, and of copies in one process one alone asks. Nothing is forwarded before the engine has said yes,
//! unless the route says `when_unavailable = "local"` and the engine is away.
//!
//! What is here decides and has no io: which names a delivery has in the engine ([`EngineKey`]), what it is asked
//! ([`script`]), what its answers mean ([`EngineAnswer`]), which servers are not fit ([`server`]), and what becomes of
//! each claim when answers are late or a connection ends ([`LeaseBook`]). The connection is `edge/shared`.
//!
//! # Names
//! The engine sees `HMAC(shared key, route ‖ name ‖ hash of the body)`: no id, and nothing by which someone who can read the
//! engine could test for one. A claim bears every name of its delivery, one for each key of the route that makes tags or
//! did so within the lifetime of an entry, and takes all of them in one script. All names of a route have one hash tag.
//!
//! # Clusters
//! All names of a route and its bucket have one hash tag, so a script asks one node. A worker has a lane for each node in use. What
//! a node says of slots that have moved, or are on their way, is followed within the time that a delivery waits.
//!
//! # Leases and fences
//! A claim is a lease: it ends by itself when its process dies. Each has a token of its own. Commit and release change
//! only what still has the token, so a process that comes too late changes nothing of another one's claim.
//!
//! # Rates
//! The bucket of a route whose rate is shared is in the engine. A worker takes tokens from it in batches ([`SharedRate`]) and
//! has some ready for what comes next, so that most deliveries wait for no answer.
//!
//! # What is not promised
//! The engine forgets claims when it is flushed, and may when it fails over or loses power. Within the window a delivery can
//! then be accepted once more by each process that has not seen it.

mod answer;
mod book;
#[cfg(test)]
mod book_tests;
mod cluster;
#[cfg(test)]
mod cluster_tests;
mod homes;
mod key;
mod lane;
mod lease;
pub mod script;
pub mod server;
mod slots;
mod tokens;
#[cfg(test)]
mod tokens_tests;
mod trouble;

pub use answer::{EngineAnswer, EngineResult};
pub use book::{LeaseBook, SILENCE};
pub use homes::ClusterErrand;
pub use key::{EngineKey, EngineNames, RateName};
pub use lease::{AnswerEvent, LeaseId, LeaseTerms, TokenWait, Unanswered};
pub use slots::{SlotMap, crc16};
pub use tokens::{SharedRate, TokenAnswer};
pub use trouble::EngineTrouble;
