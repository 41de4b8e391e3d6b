//! The names of headers that a signature itself says it covers (`{named_headers:KEY}`).

use super::guard::Guards;
use crate::outcome::Rejection;
use crate::wire::headers::Headers;

/// The most headers that one signature can name. Senders name three; each name costs a walk over the fields.
pub const NAMED_LIMIT: usize = 32;

/// A list of names, read once: distinct, at most [`NAMED_LIMIT`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NamedHeaders<'d> {
    names: [&'d [u8]; NAMED_LIMIT],
    count: usize,
}

impl<'d> NamedHeaders<'d> {
    /// Reads names that are separated by spaces. A name that stands twice is refused, and so is one with a dot, which
    /// is what values and the list itself end with in the signed content.
    pub(super) fn parse(list: &'d [u8]) -> Result<Self, Rejection> {
        let mut named = Self::default();
        for name in list.split(|byte| *byte == b' ').filter(|name| !name.is_empty()) {
            let sound = name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            let again = named.names().iter().any(|other| other.eq_ignore_ascii_case(name));
            let place = named.names.get_mut(named.count).filter(|_| sound && !again);
            *place.ok_or(Rejection::ContentUnavailable)? = name;
            named.count += 1;
        }
        Ok(named)
    }

    /// The names as they are written.
    pub(super) fn into_names(self) -> impl Iterator<Item = &'d [u8]> {
        self.names.into_iter().take(self.count)
    }

    fn names(&self) -> &[&'d [u8]] {
        self.names.get(..self.count).unwrap_or_default()
    }

    /// Writes the values joined by dots. None but one may contain a dot, so that each can be told from the next.
    pub(super) fn write(
        &self,
        headers: Headers<'_>,
        guards: &Guards,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Rejection> {
        for (index, name) in self.names().iter().enumerate() {
            let text = core::str::from_utf8(name).map_err(|_| Rejection::ContentUnavailable)?;
            let value = headers.unique(text).ok().flatten().ok_or(Rejection::ContentUnavailable)?;
            if memchr::memchr(b'.', value).is_some() && !guards.allows_dots(name) {
                return Err(Rejection::ContentAmbiguous);
            }
            if index > 0 {
                sink(b".");
            }
            sink(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(list: &str) -> Result<usize, Rejection> {
        NamedHeaders::parse(list.as_bytes()).map(|named| named.names().len())
    }

    #[test]
    fn names_are_distinct_and_bounded() {
        let names = |count: usize| (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(" ");
        assert_eq!(count(""), Ok(0));
        assert_eq!(count("content-type  x-event-id"), Ok(2));
        assert_eq!(count(&names(NAMED_LIMIT)), Ok(NAMED_LIMIT));
        for refused in [&names(NAMED_LIMIT + 1), "a a", "a b A", "a.b", "a,b", "\u{e9}"] {
            assert_eq!(count(refused), Err(Rejection::ContentUnavailable), "{refused}");
        }
    }
}
