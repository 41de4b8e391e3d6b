//! What has been delivered before: claim, then commit or release.
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
//! # Why a table of its own
//! A table is a number of shards, each behind a lock of its own that is held for a few dozen nanoseconds. A shard is
//! an array of slots: entries are found through an index by a keyed hash and grow old in a list from the oldest to the
//! youngest. A concurrent hash map beside a queue of what expires was the other choice. It would need a second lock,
//! because map and queue must change together; it grows by doubling, and it cleans up behind removed entries by
//! rehashing a whole shard. Here both live under one lock, nothing ever moves, and the memory of a table is a product
//! that `check` prints.
//!
//! - **Bounded.** Never more than [`ReplayPolicy::capacity`] entries. Memory is [`memory`]; the address space of a
//!   shard is reserved when its first entry comes, and pages are touched as entries fill them.
//! - **No sweep.** Each claim removes at most two entries that have expired.
//! - **Time** is the monotonic clock of the process. If it went backwards all the same, entries would live longer and
//!   never shorter.
//! - **Full is judged per shard.** Tables below 16384 entries have one shard and are exact; larger ones have sixteen,
//!   the first of which is full when the table is about 98 % full.

#[cfg(test)]
mod identity_tests;
mod index;
mod policy;
mod shard;
mod table;
mod tables;
#[cfg(test)]
mod tests;

pub use policy::{CAPACITY, DuplicateAnswer, LIFETIME, ReplayPolicy, WhenFull, accepted};
pub use table::{Claim, Claimed, LONGEST_WAIT, ReplayTable, memory};
pub use tables::{ReplaySeed, ReplayTables};
