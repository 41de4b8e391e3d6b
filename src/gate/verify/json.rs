//! One field of a JSON body, found without building a tree.
//!
//! The body is walked once; everything beside the path is skipped. A key that stands twice on the path is refused:
//! parsers disagree about which one counts, and the application's may not be ours.

use core::fmt;
use std::borrow::Cow;

use serde::de::DeserializeSeed;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most segments of a path.
const DEPTH_LIMIT: usize = 8;

/// A path into a JSON document: dotted (`events.0.id`), or a JSON pointer (RFC 6901, `/events/0/id`), which can also name
/// what has a dot in its name. A segment of digits is an index in an array, and `*` stands for each of its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    segments: Vec<String>,
}

/// The segment for each item of an array.
pub(super) const EACH: &str = "*";

impl JsonPath {
    /// Reads a path; nothing when a segment is empty or there are more than eight.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let segments: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect(),
            None => text.split('.').map(str::to_owned).collect(),
        };
        if segments.len() > DEPTH_LIMIT || segments.iter().any(String::is_empty) {
            return None;
        }
        Some(Self { text: text.to_owned(), segments })
    }

    /// Whether it can lead to several values.
    #[must_use]
    pub fn has_each(&self) -> bool {
        self.segments.iter().any(|segment| segment == EACH)
    }

    pub(super) fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The path as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names on the path; what is an index in an array may be one too.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let is_index = |segment: &&String| segment.bytes().all(|byte| byte.is_ascii_digit());
        self.segments.iter().filter(move |segment| !is_index(segment)).map(String::as_str)
    }

    /// The string or the whole number at the path, as text; nothing when there is nothing at the path.
    pub(super) fn find<'de>(&self, body: &'de [u8]) -> Result<Option<Cow<'de, [u8]>>, JsonError> {
        if self.has_each() {
            return Err(JsonError::Malformed);
        }
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let found = Seek { segments: &self.segments }.deserialize(&mut deserializer).map_err(JsonError::from)?;
        deserializer.end().map_err(JsonError::from)?;
        Ok(found)
    }
}

/// Why a field cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// The body is not JSON, or the value at the path is neither a string nor a whole number.
    Malformed,
    /// A key stands twice on the path.
    Duplicate,
    /// The body is nested too deeply, or has too many values, to be read for the sake of a signature.
    TooComplex,
}

/// The text by which a duplicate is recognised among the errors of the parser.
pub(super) const DUPLICATE: &str = "duplicate key on the path";
/// The same for what is too deep or too much.
pub(super) const TOO_COMPLEX: &str = "too deep or too many values";

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        match error.to_string() {
            text if error.is_data() && text.starts_with(DUPLICATE) => Self::Duplicate,
            text if error.is_data() && text.starts_with(TOO_COMPLEX) => Self::TooComplex,
            _ => Self::Malformed,
        }
    }
}

type Found<'de> = Option<Cow<'de, [u8]>>;

/// Walks to the end of `segments` and reads the scalar there.
struct Seek<'p> {
    segments: &'p [String],
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a whole number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.segments.is_empty().then_some(Cow::Borrowed(text.as_bytes())))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.segments.is_empty().then(|| Cow::Owned(text.as_bytes().to_vec())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.segments.is_empty().then(|| Cow::Owned(number.to_string().into_bytes())))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Self::Value, E> {
        self.absent_or_wrong("a negative number")
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        self.absent_or_wrong("a fraction")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        self.absent_or_wrong("a boolean")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((segment, rest)) = self.segments.split_first() else { return self.absent_or_wrong("an array") };
        let wanted = segment.parse::<usize>().ok();
        let mut found = None;
        for index in 0.. {
            let more = if wanted == Some(index) {
                items.next_element_seed(Seek { segments: rest })?.map(|value| found = value)
            } else {
                items.next_element::<IgnoredAny>()?.map(|_| ())
            };
            if more.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let Some((segment, rest)) = self.segments.split_first() else { return self.absent_or_wrong("an object") };
        let mut seen = false;
        let mut found = None;
        while let Some(is_wanted) = entries.next_key_seed(KeyIs(segment))? {
            if !is_wanted {
                entries.next_value::<IgnoredAny>()?;
            } else if core::mem::replace(&mut seen, true) {
                return Err(A::Error::custom(DUPLICATE));
            } else {
                found = entries.next_value_seed(Seek { segments: rest })?;
            }
        }
        Ok(found)
    }
}

impl Seek<'_> {
    /// In the middle of a path a value of another type means that there is nothing there; at its end it is wrong.
    fn absent_or_wrong<'de, E: serde::de::Error>(&self, what: &str) -> Result<Found<'de>, E> {
        if self.segments.is_empty() { Err(E::custom(what)) } else { Ok(None) }
    }
}

/// Compares a key without keeping it.
struct KeyIs<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn find(path: &str, body: &str) -> Result<Option<String>, JsonError> {
        let found = JsonPath::parse(path).unwrap().find(body.as_bytes())?;
        Ok(found.map(|value| String::from_utf8(value.into_owned()).unwrap()))
    }

    #[test]
    fn strings_and_numbers_are_found_at_any_depth() {
        assert_eq!(find("a", r#"{"x":[1,{"a":2}],"a":"b"}"#), Ok(Some("b".to_owned())));
        assert_eq!(find("a.b.c", r#"{"a":{"b":{"c":1760000000000}}}"#), Ok(Some("1760000000000".to_owned())));
        assert_eq!(find("events.1.id", r#"{"events":[{"id":"x"},{"id":"y"},{"id":"z"}]}"#), Ok(Some("y".to_owned())));
        assert_eq!(find("a", r#"{"\u0061":"\u00e9"}"#), Ok(Some("é".to_owned())));
    }

    #[test]
    fn a_pointer_names_what_has_a_dot_in_its_name() {
        assert_eq!(find("/a.b/0/c", r#"{"a.b":[{"c":"x"}]}"#), Ok(Some("x".to_owned())));
        assert_eq!(find("/a~1b/m~0n", r#"{"a/b":{"m~n":7}}"#), Ok(Some("7".to_owned())));
        assert!(
            JsonPath::parse("value.*.clientState").unwrap().has_each() && !JsonPath::parse("a*").unwrap().has_each()
        );
    }

    #[test]
    fn absence_is_not_an_error() {
        for body in ["{}", r#"{"a":null}"#, r#"{"a":1}"#, r#"{"a":[]}"#, "[]", "7", r#"{"a":{"c":1}}"#] {
            assert_eq!(find("a.b", body), Ok(None), "{body}");
        }
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        assert_eq!(find("a.b", r#"{"a":{"b":1},"a":{"b":2}}"#), Err(JsonError::Duplicate));
        assert_eq!(find("a.b", r#"{"a":{"b":1,"\u0062":2}}"#), Err(JsonError::Duplicate));
        assert_eq!(find("a", r#"{"x":1,"x":2,"a":3}"#), Ok(Some("3".to_owned())));
        for body in [r#"{"a":1.5}"#, r#"{"a":-1}"#, r#"{"a":{}}"#, r#"{"a":true}"#, r#"{"a":1"#, r#"{"a":1} x"#, ""] {
            assert_eq!(find("a", body), Err(JsonError::Malformed), "{body}");
        }
    }

    #[test]
    fn paths_are_bounded() {
        assert!(JsonPath::parse("a..b").is_none());
        assert!(JsonPath::parse("/").is_none() && JsonPath::parse("/a//b").is_none());
        assert!(JsonPath::parse("").is_none());
        assert!(JsonPath::parse("a.b.c.d.e.f.g.h.i").is_none());
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(find("a", &deep), Ok(None));
    }
}
