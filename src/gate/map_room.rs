//! How much room a concurrent map (`dashmap`) is made with, so that it never grows: a map that grows rehashes a shard while
//! all who need the shard wait.
//!
//! A shard is made with room for twice (`ROOM`) what it will hold. hashbrown (0.14, `raw/mod.rs`, `reserve_rehash`)
//! allocates anew only when more than half of the room is in use; up to there it cleans up in place. Even that is needed
//! only when removed entries have left marks behind, which they do where sixteen places in a row are taken: hardly ever,
//! because a full map uses a quarter to half of its places.

/// How many times as much as its entries there is room for in a shard.
const ROOM: usize = 2;

/// Entries that there is room for in a map for `capacity` entries in so many shards.
#[must_use]
pub const fn room(capacity: usize, shards: usize) -> usize {
    let mean = capacity.div_ceil(shards);
    // Entries are spread by chance: no shard will be more than six standard deviations above the mean.
    (mean + 6 * (mean.isqrt() + 1)) * ROOM * shards
}

/// Bytes of such a map with entries of `entry` bytes.
#[must_use]
pub const fn memory(capacity: usize, shards: usize, entry: usize) -> usize {
    /// Control bytes that repeat the first ones.
    const GROUP: usize = 16;
    /// A shard of the map has cache lines to itself.
    const SHARD: usize = 128;
    shards * (places(room(capacity, shards) / shards) * (entry + 1) + GROUP + SHARD)
}

/// Places of a shard with this room: what hashbrown makes of it. An eighth stays free, and the number is a power of two.
#[must_use]
pub const fn places(room: usize) -> usize {
    let wanted = room * 8 / 7;
    if wanted < 8 { 8 } else { wanted.next_power_of_two() }
}
