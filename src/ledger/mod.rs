//! What has been delivered before, and which exchange has what is being delivered: claim, then commit or release.
//!
//! A delivery is *claimed* when it has been verified, *committed* when the application has accepted it (2xx), and
//! *released* when it has not, whatever the reason: a [`Claim`] releases itself when it is dropped. So a sender's retry
//! is never refused as a replay of a delivery that failed, and of two copies at most one is with the application.
//!
//! A copy that arrives while the first one is still with the application is told to come again in a second (409 with
//! `Retry-After`). It does not wait for the fate of the first: waiting would hold its body in memory for as long as the
//! application takes, so that copies of one captured delivery could buy memory and connections, and the answer would be
//! no better: senders try again anyhow, and learn the fate then.
//!
//! # Names
//! A claim bears every name of its delivery ([`Names`]): the name of the signed id, or that of its tag under each naming
//! key ([`NamingKeys`]). Two copies always share a name, whichever keys counted when they were verified.
//!
//! The same id with another body is a delivery of its own: the entry of an id keeps a hash of the body, and another body is
//! claimed by a name made of both. A retry that differs only in its timestamp has the same id and the same body.
//!
//! # Where it is kept
//! In this process: a concurrent map (`dashmap`) whose entries say who has a name, and beside it accounts of how many there
//! are and which is the oldest (`local`, `stripe`). Claiming and committing complete at once, and allocate nothing for a
//! claim. Where several processes are to refuse each other's copies, what is new here is claimed in an engine, too
//! ([`shared`]).
//!
//! - **Bounded.** Never more than [`ReplayPolicy::capacity`](crate::gate::replay::ReplayPolicy::capacity) deliveries.
//!   Memory is [`memory`]; it is taken with the first claim and does not grow.
//! - **No sweep.** Each claim removes at most two entries that have expired.
//! - **Time** is the monotonic clock of the process. If it went backwards all the same, entries would live longer and
//!   never shorter.
//! - **Full is judged per stripe.** Tables below 16384 entries have one stripe and are exact; larger ones have sixteen,
//!   the first of which is full when the table is about 98 % full.
//! - **While keys are exchanged** a delivery has one more name for each former naming key, and on a durable route with
//!   several keys always one for the next key. These have room of their own:
//!   as many as the capacity. With two former keys or more, a table can be full when it has half of its deliveries.
//! - **Locks.** No entry of the map is held across a call or a wait: dashmap would deadlock.

mod claim;
#[cfg(test)]
mod interleaving_tests;
mod local;
mod names;
mod naming;
#[cfg(test)]
mod naming_tests;
mod routes;
pub mod shared;
mod stripe;
#[cfg(test)]
mod tests;

pub use claim::{Claim, Claimed, KnownName, LONGEST_WAIT, Ledger, at_once, memory};
pub use names::{CLAIM_KEY, Names, Seed};
pub use naming::{FORMER, NamingKeys};
pub use routes::Ledgers;
pub use stripe::MARGIN;
