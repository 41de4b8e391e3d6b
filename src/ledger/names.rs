//! The names that a delivery bears, and the hash that tells bodies apart.

use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};

use super::naming::{FORMER, NamingKeys};
use crate::gate::verify::{Delivery, Name, Verified, Verifier};

/// Bytes by which a delivery is known to another process with the same seed.
pub const CLAIM_KEY: usize = Name::SIZE + 8;

/// Random numbers by which the ledgers of a process spread their entries and hash bodies. Clients cannot foresee them.
#[derive(Clone)]
pub struct Seed {
    names: u64,
    body: u64,
    bodies: SharedSeed,
}

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed")
    }
}

impl Seed {
    /// Bytes of randomness that a seed is made of.
    pub const LENGTH: usize = 24;

    /// A seed of random bytes. Any bytes are good for correctness and speed; unpredictable ones keep senders with a key
    /// from making bodies that are taken for one another.
    #[must_use]
    pub fn new(random: &[u8; Self::LENGTH]) -> Self {
        let [names, body, bodies] =
            core::array::from_fn(|at| random.as_chunks::<8>().0.get(at).map_or(0, |bytes| u64::from_ne_bytes(*bytes)));
        Self { names, body, bodies: SharedSeed::from_u64(bodies) }
    }

    /// How the entries of a table are spread.
    pub(super) fn spread(&self) -> SeedableRandomState {
        SeedableRandomState::with_seed(self.names, SharedSeed::global_fixed())
    }

    /// A hash by which two bodies under one id are told apart: not cryptographic, but its seed is secret, and the sender
    /// of each body has a key of the route.
    pub(super) fn hash_body(&self, body: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.body, &self.bodies);
        hasher.write(body);
        hasher.write_usize(body.len());
        hasher.finish()
    }
}

/// All names of one delivery: the name by which it is counted, and those that it has under former naming keys. No two
/// are equal.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    own: Name,
    /// Tells bodies apart where the name is made of an id alone; otherwise zero.
    body: u64,
    /// That of the naming keys.
    generation: u64,
    former: [Name; FORMER],
    /// How many of `former` there are.
    count: usize,
}

impl From<Name> for Names {
    fn from(own: Name) -> Self {
        Self { own, body: 0, generation: 0, former: [own; FORMER], count: 0 }
    }
}

impl Names {
    /// The names of a verified delivery. `None` where nothing is verified: it cannot be told apart.
    pub fn of<D: Delivery>(
        verifier: &Verifier,
        verified: &Verified<'_, D>,
        keys: &NamingKeys,
        seed: &Seed,
    ) -> Option<Self> {
        let own = || Some(Self { generation: keys.generation(), ..Self::from(verified.replay_key()?) });
        if verified.is_named_by_id() {
            return Some(own()?.with_body(verified.body_beside_id().map_or(0, |body| seed.hash_body(body))));
        }
        let current = keys.current().and_then(|key| verifier.name_under(verified, key));
        // Without tags there is but one name. A key of another scheme, which the route had before, makes no tags.
        let Some(current) = current else { return own() };
        let mut names = Self { generation: keys.generation(), ..Self::from(current) };
        keys.former().filter_map(|key| verifier.name_under(verified, key)).for_each(|name| names.add(name));
        Some(names)
    }

    /// The same, with the hash of a body: two deliveries with one name and different hashes are two.
    #[must_use]
    pub const fn with_body(self, hash: u64) -> Self {
        Self { body: hash, ..self }
    }

    /// The names of a delivery of which only this is known ([`Self::key`]).
    pub(super) fn restored(key: &[u8; CLAIM_KEY]) -> Self {
        let (name, body) = key.split_at(Name::SIZE);
        let own = Name::from_bytes(core::array::from_fn(|at| name.get(at).copied().unwrap_or(0)));
        Self::from(own).with_body(body.try_into().map_or(0, u64::from_le_bytes))
    }

    /// The name by which the delivery is counted and the hash of its body, as bytes.
    pub(super) fn key(&self) -> [u8; CLAIM_KEY] {
        self.key_of(self.own)
    }

    /// The same for each of its other names.
    pub(super) fn former_keys(&self) -> impl Iterator<Item = [u8; CLAIM_KEY]> {
        self.former().iter().map(|name| self.key_of(*name))
    }

    fn key_of(&self, name: Name) -> [u8; CLAIM_KEY] {
        let mut key = [0; CLAIM_KEY];
        let (start, body) = key.split_at_mut(Name::SIZE);
        start.copy_from_slice(name.bytes());
        body.copy_from_slice(&self.body.to_le_bytes());
        key
    }

    /// Adds a name under a former key; no more than there can be.
    pub(super) fn add(&mut self, name: Name) {
        if name != self.own
            && !self.former().contains(&name)
            && let Some(place) = self.former.get_mut(self.count)
        {
            *place = name;
            self.count += 1;
        }
    }

    /// The name by which the delivery is counted.
    #[must_use]
    pub const fn own(&self) -> Name {
        self.own
    }

    /// The names that it has under former naming keys.
    #[must_use]
    pub fn former(&self) -> &[Name] {
        self.former.get(..self.count).unwrap_or_default()
    }

    pub(super) const fn body(&self) -> u64 {
        self.body
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The same delivery by the name that is made of its id and its body.
    pub(super) fn told_apart_by_body(self) -> Self {
        Self { own: self.own.with_body(self.body), ..self }
    }
}
