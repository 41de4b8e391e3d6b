//! The inbox in an engine that replicas share: what it is asked, and what its answers mean. No io.
//!
//! # Who has a delivery
//! Each replica has a *holding* in the engine, under a name of its own that is new with each start: the deliveries that it
//! attempts. A delivery is put into the holding of the replica that accepts it; where another holding has deliveries of the
//! same order key, it is put there, so that one replica alone attempts the deliveries of a key. A holding is leased: its
//! replica prolongs the lease several times a second. When a lease has run out, the first replica that looks takes the
//! holding over, all of it, and moves what is in it to its own.
//!
//! # Fences
//! Whatever a replica changes, the script first looks whether the holding is still in the engine. A replica whose holding was
//! taken over changes nothing, forgets its deliveries, and begins a new holding. It begins no attempt that may still run
//! when its lease ends, so that no delivery is with two replicas at a time.
//!
//! # Requests that are repeated
//! A put has a number. The engine keeps the number of the last put of each holding with its result: a put that is sent again
//! because its answer was lost is not done twice, and one that comes later than its successor is not done at all.
//!
//! # Keys
//! All keys begin with the prefix of `[shared]` and one hash tag, which is made with the key of `[shared]`: replicas with
//! another key have another inbox.

pub mod answers;
pub mod promise;
pub mod scripts;
