//! Guards: what a scheme says about values that are signed, so that neighbours can be told apart although the sender
//! writes nothing between them that neither can contain. A delivery that breaks a guard is refused.

use core::fmt;

use super::bytes::ByteSet;
use super::template::Part;
use crate::outcome::Rejection;

/// Bytes that a part of the signed content never contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Without {
    /// The part.
    pub part: Part,
    /// The bytes.
    pub bytes: ByteSet,
}

/// How many bytes a part of the signed content has in every delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exactly {
    /// The part.
    pub part: Part,
    /// How many bytes it has.
    pub length: usize,
}

/// The guards of a scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// What parts never contain. Of a URL it is about what the request brings: the origin and the path that the
    /// configuration has are the same in every delivery.
    pub without: Vec<Without>,
    /// The body is empty or begins with one of these.
    pub begins: Option<ByteSet>,
    /// The body is empty or ends with one of these.
    pub ends: Option<ByteSet>,
    /// The only header of `{named_headers:KEY}` whose value may contain the dots by which values are joined.
    pub dotted: Option<String>,
    /// Parts that have one length.
    pub exactly: Vec<Exactly>,
}

impl Guards {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `part` never contains.
    pub(super) fn excluded(&self, part: &Part) -> ByteSet {
        let of_part = self.without.iter().filter(|guard| guard.part == *part);
        of_part.fold(ByteSet::NONE, |all, guard| all.or(guard.bytes))
    }

    /// How many bytes `part` always has.
    pub(super) fn length_of(&self, part: &Part) -> Option<usize> {
        self.exactly.iter().find(|guard| guard.part == *part).map(|guard| guard.length)
    }

    /// Refuses a value of `part`, or a piece of one, that it must not have.
    pub(super) fn check(&self, part: &Part, value: &[u8]) -> Result<(), Rejection> {
        let fits = self.exactly.is_empty() || self.length_of(part).is_none_or(|length| length == value.len());
        if fits && (self.without.is_empty() || !self.excluded(part).has_any_of(value)) {
            return Ok(());
        }
        Err(if *part == Part::Id { Rejection::IdMalformed } else { Rejection::ContentAmbiguous })
    }

    /// Refuses a body that does not begin and end as it must.
    pub(super) fn check_body(&self, body: &[u8]) -> Result<(), Rejection> {
        let holds = |guard: Option<ByteSet>, byte: Option<&u8>| match (guard, byte) {
            (Some(bytes), Some(byte)) => bytes.has(*byte),
            _ => true,
        };
        if holds(self.begins, body.first()) && holds(self.ends, body.last()) {
            Ok(())
        } else {
            Err(Rejection::ContentAmbiguous)
        }
    }

    /// Whether the value of a header of `{named_headers:KEY}` may contain dots.
    pub(super) fn allows_dots(&self, name: &[u8]) -> bool {
        self.dotted.as_ref().is_some_and(|dotted| name.eq_ignore_ascii_case(dotted.as_bytes()))
    }
}

impl fmt::Display for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules = Vec::new();
        rules.extend(self.without.iter().map(|guard| format!("{} without `{}`", guard.part, guard.bytes)));
        rules.extend(self.exactly.iter().map(|guard| format!("{} has {} bytes", guard.part, guard.length)));
        rules.extend(self.begins.map(|bytes| format!("{{body}} begins with one of `{bytes}`")));
        rules.extend(self.ends.map(|bytes| format!("{{body}} ends with one of `{bytes}`")));
        rules.extend(self.dotted.iter().map(|name| format!("of the headers that are named only {name} contains `.`")));
        f.write_str(&rules.join(", "))
    }
}
