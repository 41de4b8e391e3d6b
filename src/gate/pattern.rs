//! Which paths a route stands for: a literal path, `{name}` segments, and a trailing `{*rest}`.

use core::fmt;

use crate::wire::path::{self, PathFlaw};

/// A path is bound to at most so many parameters: the router keeps three without allocating.
const MAX_PARAMETERS: usize = 3;

/// A path as a route writes it, checked.
///
/// Two patterns that match the same paths are equal, whatever their parameters are called.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: String,
    /// The same pattern with parameters numbered instead of named.
    key: String,
    exact: bool,
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for PathPattern {}

impl PathPattern {
    /// Checks a pattern. It is compared with the path of a request byte by byte, without decoding, so it is written
    /// as senders write it: percent-encoded where that is needed, a trailing slash only if they send one.
    ///
    /// # Errors
    /// [`PatternError`] for a pattern that is malformed or that no accepted request could match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(path) = text.strip_prefix('/') else { return Err(PatternError::NoSlash) };
        let mut key = String::with_capacity(text.len());
        let mut parameters = 0;
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            key.push('/');
            let Some(name) = segment.strip_prefix('{') else {
                check_literal(segment, last)?;
                key.push_str(segment);
                continue;
            };
            let name = name.strip_suffix('}').ok_or(PatternError::PartOfSegment)?;
            let rest = name.starts_with('*');
            if rest && !last {
                return Err(PatternError::RestNotLast);
            }
            let name = name.strip_prefix('*').unwrap_or(name);
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(PatternError::ParameterName);
            }
            key.push_str(if rest { "{*p" } else { "{p" });
            key.push_str(&parameters.to_string());
            key.push('}');
            parameters += 1;
        }
        if parameters > MAX_PARAMETERS {
            return Err(PatternError::TooManyParameters);
        }
        Ok(Self { text: text.to_owned(), key, exact: parameters == 0 })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands for one path only.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.exact
    }

    /// The form that the router takes and that decides equality.
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// A literal segment must be one that the parser of request heads lets through, or the route would never match.
fn check_literal(segment: &str, last: bool) -> Result<(), PatternError> {
    if segment.is_empty() && !last {
        return Err(PatternError::EmptySegment);
    }
    if let Some(character) = segment.chars().find(|c| !c.is_ascii_graphic() || "\"#<>?[]\\^`{|}".contains(*c)) {
        let inside = matches!(character, '{' | '}');
        return Err(if inside { PatternError::PartOfSegment } else { PatternError::Character(character) });
    }
    path::flaw(segment.as_bytes()).map_or(Ok(()), |flaw| Err(PatternError::Flaw(flaw)))
}

/// Why a text is not a path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It does not begin with `/`.
    NoSlash,
    /// Two slashes in a row.
    EmptySegment,
    /// A character that a path cannot contain.
    Character(char),
    /// Something for which such requests are refused.
    Flaw(PathFlaw),
    /// A parameter that is not a whole segment.
    PartOfSegment,
    /// A parameter name that is empty or not made of letters, digits and `_`.
    ParameterName,
    /// `{*rest}` before the end.
    RestNotLast,
    /// More than three parameters.
    TooManyParameters,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash => f.write_str("a path begins with \"/\""),
            Self::EmptySegment => f.write_str("two slashes in a row: such requests are refused"),
            Self::Character('?' | '#') => f.write_str("a path ends before \"?\" and \"#\": the query is not routed"),
            Self::Character(character) => write!(f, "{character:?} cannot stand in a path"),
            Self::Flaw(flaw) => write!(f, "{flaw}: such requests are refused"),
            Self::PartOfSegment => f.write_str("a parameter must be a whole segment"),
            Self::ParameterName => f.write_str("a parameter needs a name of letters, digits and \"_\""),
            Self::RestNotLast => f.write_str("{*…} can only be the last segment"),
            Self::TooManyParameters => write!(f, "more than {MAX_PARAMETERS} parameters"),
        }
    }
}

impl core::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn patterns_are_checked() {
        for good in
            ["/", "/a", "/a/", "/webhooks/github", "/h/{tenant}", "/h/{tenant}/x", "/h/{*rest}", "/a%20b", "/..a"]
        {
            assert!(PathPattern::parse(good).is_ok(), "{good}");
        }
        let bad = [
            ("", PatternError::NoSlash),
            ("a", PatternError::NoSlash),
            ("//", PatternError::EmptySegment),
            ("/a//b", PatternError::EmptySegment),
            ("/a/../b", PatternError::Flaw(PathFlaw::Dot)),
            ("/a./b", PatternError::Flaw(PathFlaw::Dot)),
            ("/a/%2e%2E", PatternError::Flaw(PathFlaw::Needless(b'.'))),
            ("/%41", PatternError::Flaw(PathFlaw::Needless(b'A'))),
            ("/a;b", PatternError::Flaw(PathFlaw::Parameter)),
            ("/a%3bb", PatternError::Flaw(PathFlaw::Parameter)),
            ("/a%20", PatternError::Flaw(PathFlaw::Space)),
            ("/a%FC", PatternError::Flaw(PathFlaw::NotUtf8)),
            ("/a%EF%BC%8F", PatternError::Flaw(PathFlaw::LookAlike('\u{ff0f}'))),
            ("/a?b", PatternError::Character('?')),
            ("/a b", PatternError::Character(' ')),
            ("/ä", PatternError::Character('ä')),
            ("/a%2Fb", PatternError::Flaw(PathFlaw::Separator(b'/'))),
            ("/a%", PatternError::Flaw(PathFlaw::Escape)),
            ("/a%4", PatternError::Flaw(PathFlaw::Escape)),
            ("/a{b}", PatternError::PartOfSegment),
            ("/{a}b", PatternError::PartOfSegment),
            ("/{a", PatternError::PartOfSegment),
            ("/{}", PatternError::ParameterName),
            ("/{*}", PatternError::ParameterName),
            ("/{a-b}", PatternError::ParameterName),
            ("/{*a}/b", PatternError::RestNotLast),
            ("/{a}/{b}/{c}/{d}", PatternError::TooManyParameters),
        ];
        for (text, error) in bad {
            assert_eq!(PathPattern::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn names_of_parameters_do_not_make_a_difference() {
        let parse = |text| PathPattern::parse(text).unwrap();
        assert_eq!(parse("/a/{x}"), parse("/a/{y}"));
        assert_ne!(parse("/a/{x}"), parse("/a/{*y}"));
        assert_ne!(parse("/a"), parse("/a/"));
        assert!(parse("/a/p0").is_exact() && !parse("/a/{x}").is_exact());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[/{}*%a2.eF-]*") {
            let _ = PathPattern::parse(&text);
        }

        /// Where a path stands in a configuration, a request may have it: each pattern without parameters passes as a path,
        /// and each path that passes is a pattern.
        #[test]
        fn exact_patterns_are_the_paths_of_requests(text in "/([/.;:%@aZ~=-]|%3A|%2e|%c3%bc|%41|%20|%2F){0,6}") {
            let pattern = PathPattern::parse(&text);
            proptest::prop_assert_eq!(pattern.is_ok(), path::flaw(text.as_bytes()).is_none(), "{:?}", pattern);
        }
    }
}
