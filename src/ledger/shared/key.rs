//! The key that all processes share, and the names that deliveries have in the engine.

use core::fmt;

use ring::hmac;

use super::super::names::{CLAIM_KEY, Names, Seed};
use super::super::naming::FORMER;
use super::slots::slot_of;

/// Names of a delivery in the engine, at most.
const NAMES: usize = FORMER + 1;

/// Bytes of a name: as in the ledger, enough that two deliveries never have the same.
const NAME: usize = 16;

/// Bytes of the tag of a route.
const ROUTE: usize = 8;

/// Bytes of a key of the engine besides the prefix: the tag of the route in braces, a colon, the name; in base64url.
pub(super) const KEY_TEXT: usize = ROUTE_TEXT + 3 + NAME_TEXT;
/// Bytes of the key of a rate besides the prefix: the tag of the route in braces, a colon, [`RATE`].
pub(super) const RATE_TEXT: usize = ROUTE_TEXT + 3 + RATE.len();
/// What the key of a rate ends with; no name of a delivery is so short.
const RATE: &[u8] = b"rate";
const ROUTE_TEXT: usize = (ROUTE * 8).div_ceil(6);
const NAME_TEXT: usize = (NAME * 8).div_ceil(6);

/// The key by which deliveries are named in the engine, the same for all processes that share it.
#[derive(Clone)]
pub struct EngineKey {
    mac: hmac::Key,
    /// Bodies under one id are told apart by the same hash in all processes.
    bodies: Seed,
    prefix: String,
}

impl fmt::Debug for EngineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineKey").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// All names of a delivery in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineNames {
    route: [u8; ROUTE],
    names: [[u8; NAME]; NAMES],
    count: usize,
}

/// The name of a route in the engine, where its bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateName([u8; ROUTE]);

impl EngineNames {
    pub(super) fn list(&self) -> &[[u8; NAME]] {
        self.names.get(..self.count).unwrap_or_default()
    }

    /// The slot of a cluster in which all of them are.
    #[must_use]
    pub fn slot(&self) -> u16 {
        slot_of(base64(&self.route))
    }

    /// A number by which deliveries differ: for waiting times that are not the same for all.
    #[must_use]
    pub fn spread(&self) -> u64 {
        let [first, ..] = &self.names;
        first.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl RateName {
    /// The slot of a cluster in which the bucket is: that of the deliveries of the route.
    #[must_use]
    pub fn slot(&self) -> u16 {
        slot_of(base64(&self.0))
    }
}

impl EngineKey {
    /// A key of `secret` bytes. Keys of the engine begin with `prefix`.
    #[must_use]
    pub fn new(secret: &[u8], prefix: &str) -> Self {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&mac, b"countersign: bodies under one id, 1");
        let seed = derived.as_ref().first_chunk().copied().unwrap_or([0; Seed::LENGTH]);
        Self { mac, bodies: Seed::new(&seed), prefix: prefix.to_owned() }
    }

    /// What the keys of the engine begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The names in the engine of a delivery that has these names here. `body` is given where only that tells two
    /// deliveries of one id apart.
    pub(in crate::ledger) fn names(&self, route: &str, names: &Names, body: Option<&[u8]>) -> EngineNames {
        // The hash that a process uses for itself has a seed of its own.
        let names = names.with_body(body.map_or(0, |body| self.bodies.hash_body(body)));
        let tag = self.sign(&[b"route", route.as_bytes()]);
        let mut shared = EngineNames { route: cut(&tag), names: [[0; NAME]; NAMES], count: 1 + names.former().len() };
        let keys = core::iter::once(names.key()).chain(names.former_keys());
        for (place, key) in shared.names.iter_mut().zip(keys) {
            let key: [u8; CLAIM_KEY] = key;
            *place = cut(&self.sign(&[b"name", &shared.route, &key]));
        }
        shared
    }

    /// The hash tag of the keys of the inbox that all processes with this key share.
    #[must_use]
    pub fn inbox_tag(&self) -> String {
        let mut tag = Vec::new();
        write_base64(&mut tag, &cut::<ROUTE>(&self.sign(&[b"inbox"])));
        String::from_utf8(tag).unwrap_or_default()
    }

    /// What order keys of a route are called in the inbox of the engine: 32 hexadecimal digits.
    #[must_use]
    pub fn inbox_lane(&self, route: &str, key: &[u8; 16]) -> String {
        let name: [u8; NAME] = cut(&self.sign(&[b"inbox key", route.as_bytes(), key]));
        name.iter().fold(String::with_capacity(2 * NAME), |text, byte| text + &format!("{byte:02x}"))
    }

    /// By what ledgers spread their entries, where the names that they make are stored in the engine: the same in all
    /// processes.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.bodies.clone()
    }

    /// Where the bucket of a route is.
    #[must_use]
    pub fn rate(&self, route: &str) -> RateName {
        RateName(cut(&self.sign(&[b"route", route.as_bytes()])))
    }

    /// A bucket that no route has: for trying whether the engine does what it is asked.
    #[must_use]
    pub fn probe_rate(&self) -> RateName {
        RateName(cut(&self.sign(&[b"probe"])))
    }

    /// Appends the key of a bucket.
    pub(super) fn write_rate(&self, out: &mut Vec<u8>, RateName(route): &RateName) {
        out.extend_from_slice(self.prefix.as_bytes());
        out.push(b'{');
        write_base64(out, route);
        out.extend_from_slice(b"}:");
        out.extend_from_slice(RATE);
    }

    /// A name by which no delivery is known: for trying whether the engine does what it is asked.
    #[must_use]
    pub fn probe(&self, process: u64, worker: usize) -> EngineNames {
        let worker = u64::try_from(worker).unwrap_or(u64::MAX);
        let mut names = [[0; NAME]; NAMES];
        let [first, ..] = &mut names;
        *first = cut(&self.sign(&[b"probe", &process.to_le_bytes(), &worker.to_le_bytes()]));
        EngineNames { route: cut(&self.sign(&[b"probe"])), names, count: 1 }
    }

    /// Appends a key of the engine.
    pub(super) fn write(&self, out: &mut Vec<u8>, names: &EngineNames, name: &[u8; NAME]) {
        out.extend_from_slice(self.prefix.as_bytes());
        out.push(b'{');
        write_base64(out, &names.route);
        out.extend_from_slice(b"}:");
        write_base64(out, name);
    }

    fn sign(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.mac);
        // Each part behind its length: no two lists of parts are the same bytes.
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign()
    }
}

fn cut<const N: usize>(tag: &hmac::Tag) -> [u8; N] {
    tag.as_ref().first_chunk().copied().unwrap_or([0; N])
}

/// Base64url without padding (RFC 4648 section 5).
fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(base64(bytes));
}

fn base64(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    bytes.chunks(3).flat_map(|three| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        (0..=three.len()).filter_map(move |at| ALPHABET.get((bits >> (18 - 6 * at) & 63) as usize).copied())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::verify::Name;

    fn text(key: &EngineKey, names: &EngineNames) -> Vec<String> {
        let one = |name| {
            let mut out = Vec::new();
            key.write(&mut out, names, name);
            assert_eq!(out.len(), key.prefix().len() + KEY_TEXT);
            String::from_utf8(out).unwrap_or_default()
        };
        names.list().iter().map(one).collect()
    }

    #[test]
    fn base64url_is_that_of_the_rfc() {
        for (bytes, expected) in [(&b"f"[..], "Zg"), (b"fo", "Zm8"), (b"foobar", "Zm9vYmFy"), (&[0xfb, 0xff], "-_8")] {
            let mut out = Vec::new();
            write_base64(&mut out, bytes);
            assert_eq!(out, expected.as_bytes());
        }
    }

    /// All processes must find the same names, whatever they were built for and with: this fails where they would not.
    #[test]
    fn names_are_the_same_in_every_build() {
        let key = EngineKey::new(&[7; 32], "cs1:");
        let names = Names::from(Name::from([3; 16]));
        let by_id = key.names("orders", &names, Some(b"{\"id\":1}"));
        let other_body = key.names("orders", &names, Some(b"{\"id\":2}"));
        let by_tag = key.names("orders", &names, None);
        let other_route = key.names("payments", &names, None);
        let all: Vec<String> = [by_id, other_body, by_tag, other_route].iter().flat_map(|it| text(&key, it)).collect();
        assert_eq!(all, EXPECTED);
        let other_key = EngineKey::new(&[8; 32], "cs1:");
        assert_ne!(text(&other_key, &other_key.names("orders", &names, None)), text(&key, &by_tag));
    }

    const EXPECTED: [&str; 4] = [
        "cs1:{QYDJ-sTB6CA}:QyynzTAX1YJGEgsKBRXHaA",
        "cs1:{QYDJ-sTB6CA}:jloduObGi8QS5zfz-0wRaQ",
        "cs1:{QYDJ-sTB6CA}:ECCZrX93abmHFlaFjstmLg",
        "cs1:{hP8a6qUEHk0}:ATByP_gxI2TQjDt23O82IA",
    ];

    #[test]
    fn every_name_of_a_delivery_has_one_in_the_engine_in_one_slot() {
        let key = EngineKey::new(&[7; 32], "cs1:");
        let mut names = Names::from(Name::from([3; 16]));
        names.add(Name::from([4; 16]));
        names.add(Name::from([5; 16]));
        let all = text(&key, &key.names("orders", &names, None));
        assert_eq!(all.len(), 3);
        let tag = |key: &String| key.split_inclusive('}').next().map(str::to_owned);
        assert!(all.iter().all(|it| tag(it) == tag(&all[0])));
        let mut alone = Names::from(Name::from([5; 16]));
        alone.add(Name::from([3; 16]));
        let other = text(&key, &key.names("orders", &alone, None));
        assert_eq!((&other[0], &other[1]), (&all[2], &all[0]), "the order of the keys of a route changes no name");
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        assert_eq!(format!("{:?}", EngineKey::new(&[7; 32], "cs1:")), "EngineKey { prefix: \"cs1:\", .. }");
    }
}
