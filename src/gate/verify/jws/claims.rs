//! One JSON object, walked once: header and claims of a token. Nothing is built of it, depth and number of its members
//! are bounded, and each member is shown as it comes.

use core::fmt;
use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::outcome::Rejection;

/// The most members of the object.
const MEMBER_LIMIT: usize = 256;

/// How deep values may be nested. Claims of senders are flat, or have one or two levels.
const DEPTH_LIMIT: usize = 16;

/// The value of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ClaimValue<'v> {
    Text(&'v str),
    Whole(i64),
    Fraction(f64),
    Truth(bool),
    /// A list begins; its texts follow, each as an [`ClaimValue::Item`] of the same name.
    List,
    Item(&'v str),
    /// An object, `null`, or a number that is out of range.
    Other,
}

impl ClaimValue<'_> {
    /// Whether it is the value that is written as this text.
    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            Self::Text(own) | Self::Item(own) => *own == text,
            Self::Whole(number) => text.parse() == Ok(*number),
            Self::Truth(truth) => text.parse() == Ok(*truth),
            Self::Fraction(_) | Self::List | Self::Other => false,
        }
    }
}

/// Shows each member of the object to `visit`.
///
/// # Errors
/// [`Rejection::TokenMalformed`] where it is no such object, or what `visit` refuses.
pub(super) fn walk(
    json: &[u8],
    visit: &mut dyn FnMut(&str, ClaimValue<'_>) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let mut refused = None;
    let mut visit = |name: &str, value: ClaimValue<'_>| match visit(name, value) {
        Ok(()) => true,
        Err(rejection) => {
            refused = Some(rejection);
            false
        }
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let walked = deserializer.deserialize_map(ClaimMembers(&mut visit)).and_then(|()| deserializer.end());
    match refused {
        Some(rejection) => Err(rejection),
        None => walked.map_err(|_| Rejection::TokenMalformed),
    }
}

type Visit<'f> = dyn FnMut(&str, ClaimValue<'_>) -> bool + 'f;

struct ClaimMembers<'f, 'v>(&'v mut Visit<'f>);

impl<'de> Visitor<'de> for ClaimMembers<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(ClaimName(name)) = members.next_key()? {
            count += 1;
            if count > MEMBER_LIMIT {
                return Err(A::Error::custom("too many members"));
            }
            members.next_value_seed(ClaimMember { name: &name, visit: self.0, depth: 1 })?;
        }
        Ok(())
    }
}

/// The name of a member, without a copy where it has no escapes.
struct ClaimName<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for ClaimName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(ClaimNameVisitor)
    }
}

struct ClaimNameVisitor;

impl<'de> Visitor<'de> for ClaimNameVisitor {
    type Value = ClaimName<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(ClaimName(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(ClaimName(Cow::Owned(text.to_owned())))
    }
}

/// A value at a depth. That of depth 1 is shown, and the texts of a list at depth 2.
struct ClaimMember<'f, 'v> {
    name: &'v str,
    visit: &'v mut Visit<'f>,
    depth: usize,
}

impl ClaimMember<'_, '_> {
    fn show<E: serde::de::Error>(&mut self, value: ClaimValue<'_>) -> Result<(), E> {
        if self.depth > 1 || (self.visit)(self.name, value) { Ok(()) } else { Err(E::custom("refused")) }
    }

    fn inner(&mut self) -> ClaimMember<'_, '_> {
        // The two lifetimes of the closure are one in here.
        ClaimMember { name: self.name, visit: &mut *self.visit, depth: self.depth + 1 }
    }

    fn descend<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth >= DEPTH_LIMIT { Err(E::custom("too deep")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for ClaimMember<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// An item of a list: its text is shown.
struct ListItem<'f, 'v>(ClaimMember<'f, 'v>);

impl<'de> DeserializeSeed<'de> for ListItem<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListItem<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let ClaimMember { name, visit, depth } = self.0;
        if depth > 2 || visit(name, ClaimValue::Item(text)) { Ok(()) } else { Err(E::custom("refused")) }
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.0.visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        self.0.visit_map(members)
    }
}

impl<'de> Visitor<'de> for ClaimMember<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        self.show(ClaimValue::Text(text))
    }

    fn visit_i64<E: serde::de::Error>(mut self, number: i64) -> Result<(), E> {
        self.show(ClaimValue::Whole(number))
    }

    fn visit_u64<E: serde::de::Error>(mut self, number: u64) -> Result<(), E> {
        self.show(i64::try_from(number).map_or(ClaimValue::Other, ClaimValue::Whole))
    }

    fn visit_f64<E: serde::de::Error>(mut self, number: f64) -> Result<(), E> {
        self.show(ClaimValue::Fraction(number))
    }

    fn visit_bool<E: serde::de::Error>(mut self, truth: bool) -> Result<(), E> {
        self.show(ClaimValue::Truth(truth))
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.show(ClaimValue::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.descend()?;
        self.show(ClaimValue::List)?;
        while items.next_element_seed(ListItem(self.inner()))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.descend()?;
        self.show(ClaimValue::Other)?;
        while members.next_key::<serde::de::IgnoredAny>()?.is_some() {
            members.next_value_seed(self.inner())?;
        }
        Ok(())
    }
}
