//! Several fields of a JSON body, found in one walk: what a signature is over, where a sender signs fields and not bytes.
//!
//! Nothing is built of what stands beside the paths. A body that is nested deeply, or has very many values, is refused: a
//! stranger has sent it, and nothing about it is known yet.

use core::fmt;
use std::borrow::Cow;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{DUPLICATE, EACH, JsonError, JsonPath, TOO_COMPLEX};

/// How deeply a body may be nested. Senders nest fewer than ten levels.
const NESTING_LIMIT: usize = 64;
/// The most values of one body, and of one path with `*`.
const VALUE_LIMIT: usize = 100_000;
const ITEM_LIMIT: usize = 1024;

/// The values at one path: none, one, or with `*` several.
pub(super) type Found<'de> = Vec<Cow<'de, [u8]>>;

/// The strings, numbers and booleans at the paths, in the order of these: strings decoded, everything else as it is written.
pub(super) fn read<'de>(paths: &[&JsonPath], body: &'de [u8]) -> Result<Vec<Found<'de>>, JsonError> {
    let wants: Vec<Want<'_>> =
        paths.iter().enumerate().map(|(slot, path)| Want { slot, rest: path.segments() }).collect();
    Ok(walk(wants, body)?.found)
}

/// The values at a path with `*`: none at all, or one of each item; malformed where only some items have one.
pub(super) fn each<'de>(path: &JsonPath, body: &'de [u8]) -> Result<Found<'de>, JsonError> {
    let mut state = walk(vec![Want { slot: 0, rest: path.segments() }], body)?;
    let found = state.found.pop().unwrap_or_default();
    if found.is_empty() || found.len() == state.items { Ok(found) } else { Err(JsonError::Malformed) }
}

fn walk<'de>(wants: Vec<Want<'_>>, body: &'de [u8]) -> Result<Walked<'de>, JsonError> {
    let mut state = Walked { found: vec![Vec::new(); wants.len()], values: 0, items: 0 };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Walk { wants, depth: 0, state: &mut state }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(state)
}

/// A path, or what is left of it, and where its values go.
#[derive(Clone, Copy)]
struct Want<'p> {
    slot: usize,
    rest: &'p [String],
}

struct Walked<'de> {
    found: Vec<Found<'de>>,
    values: usize,
    /// How many items there are for the last `*` of the paths.
    items: usize,
}

/// One value of the document, and what is wanted of it.
struct Walk<'p, 's, 'de> {
    wants: Vec<Want<'p>>,
    depth: usize,
    state: &'s mut Walked<'de>,
}

impl<'p, 'de> Walk<'p, '_, 'de> {
    /// What is wanted of the item at `index`.
    fn of_item(&self, index: usize) -> Vec<Want<'p>> {
        let of = |want: &Want<'p>| {
            let (segment, rest) = want.rest.split_first()?;
            let here = segment == EACH || segment.parse() == Ok(index);
            here.then_some(Want { slot: want.slot, rest })
        };
        self.wants.iter().filter_map(of).collect()
    }

    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.state.values += 1;
        if self.state.values > VALUE_LIMIT || self.depth > NESTING_LIMIT { Err(E::custom(TOO_COMPLEX)) } else { Ok(()) }
    }

    /// A value where a path ends.
    fn end<E: serde::de::Error>(&mut self, value: &'de RawValue) -> Result<(), E> {
        let Some(text) = scalar(value.get()).map_err(E::custom)? else { return Ok(()) };
        for want in self.wants.iter().filter(|want| want.rest.is_empty()) {
            let Some(found) = self.state.found.get_mut(want.slot) else { continue };
            if found.len() >= ITEM_LIMIT {
                return Err(E::custom(TOO_COMPLEX));
            }
            found.push(text.clone());
        }
        Ok(())
    }
}

/// The text of a scalar; nothing for `null`.
fn scalar(raw: &str) -> Result<Option<Cow<'_, [u8]>>, &'static str> {
    match raw.as_bytes() {
        b"null" => Ok(None),
        [b'{' | b'[', ..] => Err("an object or an array"),
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Ok(Some(Cow::Borrowed(inner))),
        [b'"', ..] => {
            let text: String = serde_json::from_str(raw).map_err(|_| "no text")?;
            Ok(Some(Cow::Owned(text.into_bytes())))
        }
        other => Ok(Some(Cow::Borrowed(other))),
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.count()?;
        if self.wants.iter().any(|want| want.rest.is_empty()) {
            let value = <&RawValue>::deserialize(deserializer)?;
            return self.end(value);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let wants = self.of_item(index);
            let last = self.wants.iter().any(|want| want.rest.iter().filter(|segment| *segment == EACH).count() == 1);
            let starred = last && self.wants.iter().any(|want| want.rest.first().is_some_and(|first| first == EACH));
            let item = Walk { wants, depth: self.depth + 1, state: &mut *self.state };
            if items.next_element_seed(item)?.is_none() {
                break;
            }
            self.state.items += usize::from(starred);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen: Vec<usize> = Vec::new();
        while let Some(wants) = entries.next_key_seed(WantedKey(&self.wants))? {
            if wants.iter().any(|want| seen.contains(&want.slot)) {
                return Err(A::Error::custom(DUPLICATE));
            }
            seen.extend(wants.iter().map(|want| want.slot));
            entries.next_value_seed(Walk { wants, depth: self.depth + 1, state: &mut *self.state })?;
        }
        Ok(())
    }
}

/// Reads a key as what is wanted of its value.
struct WantedKey<'w, 'p>(&'w [Want<'p>]);

impl<'de, 'p> DeserializeSeed<'de> for WantedKey<'_, 'p> {
    type Value = Vec<Want<'p>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for WantedKey<'_, 'p> {
    type Value = Vec<Want<'p>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let of = |want: &Want<'p>| {
            let (segment, rest) = want.rest.split_first()?;
            (segment == key).then_some(Want { slot: want.slot, rest })
        };
        Ok(self.0.iter().filter_map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(paths: &[&str], body: &str) -> Result<Vec<Vec<String>>, JsonError> {
        let paths: Vec<JsonPath> = paths.iter().map(|path| JsonPath::parse(path).unwrap()).collect();
        let found = read(&paths.iter().collect::<Vec<_>>(), body.as_bytes())?;
        let text = |value: &Cow<'_, [u8]>| String::from_utf8(value.to_vec()).unwrap();
        Ok(found.iter().map(|values| values.iter().map(text).collect()).collect())
    }

    #[test]
    fn all_fields_are_found_in_one_walk_as_they_are_written() {
        let body =
            r#"{"x":[0,{"t":true}],"n":{"a":1.50,"b":-0,"c":"\u00e9"},"e":"","z":null,"big":12345678901234567890123}"#;
        let paths = ["n.a", "/n/b", "n.c", "x.1.t", "e", "z", "big", "absent"];
        let wanted: [&[&str]; 8] =
            [&["1.50"], &["-0"], &["\u{e9}"], &["true"], &[""], &[], &["12345678901234567890123"], &[]];
        assert_eq!(
            found(&paths, body).unwrap(),
            wanted.map(|values| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>())
        );
        let path = JsonPath::parse("v.*.s").unwrap();
        assert_eq!(each(&path, br#"{"v":[{"s":"a"},{"s":"b"}]}"#).map(|found| found.len()), Ok(2));
        assert_eq!(each(&path, br#"{"v":[{"s":"a"},{"x":1}]}"#), Err(JsonError::Malformed));
        assert_eq!(each(&path, br#"{"v":[]}"#), Ok(Vec::new()));
        assert_eq!(found(&["v.*.s"], r#"{"v":[{"s":"a"},{"x":1},{"s":"b"}]}"#), Ok(vec![vec!["a".into(), "b".into()]]));
    }

    #[test]
    fn what_is_no_single_scalar_is_refused() {
        assert_eq!(found(&["a", "b.c"], r#"{"b":{"c":1},"a":1,"b":{}}"#), Err(JsonError::Duplicate));
        assert_eq!(found(&["a"], r#"{"a":[1]}"#), Err(JsonError::Malformed));
        assert_eq!(found(&["a"], r#"{"a":1} x"#), Err(JsonError::Malformed));
        assert_eq!(found(&["a"], r#"{"a":"\ud800"}"#), Err(JsonError::Malformed));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":1,\"b\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(found(&["a"], &nested(NESTING_LIMIT - 1)), Ok(vec![vec!["1".into()]]));
        for depth in [NESTING_LIMIT + 1, 127, 200, 100_000] {
            assert_eq!(found(&["a"], &nested(depth)), Err(JsonError::TooComplex), "{depth}");
        }
        let many = format!("{{\"a\":1,\"b\":[{}0]}}", "0,".repeat(VALUE_LIMIT));
        assert_eq!(found(&["a"], &many), Err(JsonError::TooComplex));
        let items = format!("[{}0]", "0,".repeat(ITEM_LIMIT));
        assert_eq!(found(&["*"], &items), Err(JsonError::TooComplex));
    }
}
