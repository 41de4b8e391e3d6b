//! Paths that can be read in one way only.
//!
//! A path is compared and forwarded as it came. So nothing may stand in it that another reader takes for another path:
//! a server that resolves dots, merges slashes, cuts parameters off, decodes escapes once more than its neighbour, or
//! replaces characters by similar ones. What is left is its own normal form: neither RFC 3986 section 6.2.2 nor the URL
//! standard (url.spec.whatwg.org) changes it, except in the case of hexadecimal digits.

use core::fmt;
use core::ops::RangeInclusive;
use std::borrow::Cow;

use crate::wire::characters::{PATH, PLAIN, all_of, hex_digit, may_stand_in};

/// Why a path can be read in two ways, or is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFlaw {
    /// A byte that cannot stand in a path.
    Byte(u8),
    /// Two slashes in a row.
    EmptySegment,
    /// A segment that ends in a dot: `.` and `..`, and names that some systems read without it.
    Dot,
    /// A segment that ends in an escaped space, without which some systems read it.
    Space,
    /// A `;`, also escaped: some servers stop reading the segment there.
    Parameter,
    /// A `%` that begins no escape of two hexadecimal digits.
    Escape,
    /// An escaped slash, backslash or control byte.
    Separator(u8),
    /// An escaped letter, digit or one of `-._~`, which means the same unescaped (RFC 3986 section 6.2.2.2).
    Needless(u8),
    /// Escaped bytes that are not UTF-8, among them overlong forms such as `%c0%af`.
    NotUtf8,
    /// An escaped character that some systems replace by one of `/ \ . ; % ? #`.
    LookAlike(char),
}

impl fmt::Display for PathFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(byte) => write!(f, "\"{}\" cannot stand in a path", byte.escape_ascii()),
            Self::EmptySegment => f.write_str("two slashes in a row"),
            Self::Dot => f.write_str("a segment that ends in a dot"),
            Self::Space => f.write_str("a segment that ends in a space"),
            Self::Parameter => f.write_str("a \";\", behind which some servers read no more of a segment"),
            Self::Escape => f.write_str("a \"%\" that begins no escape of two hexadecimal digits"),
            Self::Separator(byte) => write!(f, "an escape of / \\ or a control byte (%{byte:02X})"),
            Self::Needless(byte) => {
                write!(f, "an escape of a character that needs none (%{byte:02X} is \"{}\")", byte.escape_ascii())
            }
            Self::NotUtf8 => f.write_str("escaped bytes that are not UTF-8"),
            Self::LookAlike(c) => write!(f, "an escaped {c:?}, which some systems take for one of / \\ . ; % ? #"),
        }
    }
}

/// Characters that some systems replace by ones with a meaning, or by several with one among them: the compatibility forms
/// of `/ \ . ; % ? #` (Unicode NFKC), the "best fit" tables of Windows code pages (a yen or won sign is a backslash there),
/// and the dots of internationalised names (UTS 46).
const LOOK_ALIKES: &[RangeInclusive<char>] = &[
    '\u{a5}'..='\u{a5}',
    '\u{37e}'..='\u{37e}',
    '\u{2024}'..='\u{2026}',
    '\u{2044}'..='\u{2044}',
    '\u{2047}'..='\u{2049}',
    '\u{20a9}'..='\u{20a9}',
    '\u{2100}'..='\u{2101}',
    '\u{2105}'..='\u{2106}',
    '\u{2215}'..='\u{2216}',
    '\u{2488}'..='\u{249b}',
    '\u{3002}'..='\u{3002}',
    '\u{33c2}'..='\u{33c2}',
    '\u{33c7}'..='\u{33c7}',
    '\u{33d8}'..='\u{33d8}',
    '\u{fe14}'..='\u{fe14}',
    '\u{fe16}'..='\u{fe16}',
    '\u{fe19}'..='\u{fe19}',
    '\u{fe30}'..='\u{fe30}',
    '\u{fe52}'..='\u{fe52}',
    '\u{fe54}'..='\u{fe54}',
    '\u{fe56}'..='\u{fe56}',
    '\u{fe5f}'..='\u{fe5f}',
    '\u{fe68}'..='\u{fe68}',
    '\u{fe6a}'..='\u{fe6a}',
    '\u{ff03}'..='\u{ff03}',
    '\u{ff05}'..='\u{ff05}',
    '\u{ff0e}'..='\u{ff0f}',
    '\u{ff1b}'..='\u{ff1b}',
    '\u{ff1f}'..='\u{ff1f}',
    '\u{ff3c}'..='\u{ff3c}',
    '\u{ff61}'..='\u{ff61}',
    '\u{1f100}'..='\u{1f100}',
];

/// Whether two readers may take `path` for two different paths.
#[must_use]
pub fn path_is_ambiguous(path: &str) -> bool {
    flaw(path.as_bytes()).is_some()
}

/// The first reason why `path`, which begins with a slash, is refused.
#[must_use]
pub fn flaw(path: &[u8]) -> Option<PathFlaw> {
    let doubled =
        path.iter().zip(path.get(1..).unwrap_or_default()).fold(false, |seen, pair| seen | (pair == (&b'/', &b'/')));
    // Nearly every path has nothing that needs a second look.
    if all_of(PLAIN, path) && !doubled { None } else { first_flaw(path) }
}

fn first_flaw(path: &[u8]) -> Option<PathFlaw> {
    if let Some(byte) = path.iter().find(|byte| !may_stand_in(PATH, **byte)) {
        return Some(PathFlaw::Byte(*byte));
    }
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Some(PathFlaw::EmptySegment);
        }
        if let Some(flaw) = flaw_of_segment(segment) {
            return Some(flaw);
        }
    }
    // "/" and "" are one empty segment; "//" is two, of which the first was doubled.
    None
}

fn flaw_of_segment(segment: &[u8]) -> Option<PathFlaw> {
    let mut rest = segment;
    let mut last = 0;
    while let [first, tail @ ..] = rest {
        (last, rest) = (*first, tail);
        if *first == b'%' {
            let (byte, behind) = match escaped(rest) {
                Ok(escaped) => escaped,
                Err(flaw) => return Some(flaw),
            };
            (last, rest) = (byte, behind);
        }
        if last == b';' {
            return Some(PathFlaw::Parameter);
        }
    }
    match last {
        b'.' => Some(PathFlaw::Dot),
        b' ' => Some(PathFlaw::Space),
        _ => None,
    }
}

/// What the escape behind a percent sign stands for, and what follows it. Of a character of several bytes, the last one.
fn escaped(digits: &[u8]) -> Result<(u8, &[u8]), PathFlaw> {
    let (byte, rest) = escape(digits).ok_or(PathFlaw::Escape)?;
    match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => Err(PathFlaw::Needless(byte)),
        b'/' | b'\\' | 0..=0x1f | 0x7f => Err(PathFlaw::Separator(byte)),
        0x80.. => escaped_character(byte, rest),
        _ => Ok((byte, rest)),
    }
}

/// The byte that the two digits after a percent sign stand for, and what follows them.
fn escape(digits: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = digits else { return None };
    Some((hex_digit(*high)? << 4 | hex_digit(*low)?, rest))
}

/// The rest of a character that is not ASCII: each of its bytes is an escape.
fn escaped_character(lead: u8, mut rest: &[u8]) -> Result<(u8, &[u8]), PathFlaw> {
    let mut bytes = [lead, 0, 0, 0];
    let length = match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(PathFlaw::NotUtf8),
    };
    for byte in bytes.iter_mut().take(length).skip(1) {
        (*byte, rest) = rest.strip_prefix(b"%").and_then(escape).ok_or(PathFlaw::NotUtf8)?;
    }
    let text = bytes.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok()).ok_or(PathFlaw::NotUtf8)?;
    match text.chars().next() {
        Some(c) if LOOK_ALIKES.iter().any(|range| range.contains(&c)) => Err(PathFlaw::LookAlike(c)),
        _ => Ok((0x80, rest)),
    }
}

/// The path as a generous reader may understand it: letters in lower case, no slash at the end, and no escape of a
/// character that can stand in a path itself (`%3A`, `%40`). `path` has no flaw.
#[must_use]
pub fn generously(path: &str) -> Cow<'_, str> {
    let slash = path.len() > 1 && path.ends_with('/');
    if !slash && !path.bytes().any(|byte| byte == b'%' || byte.is_ascii_uppercase()) {
        return Cow::Borrowed(path);
    }
    let mut read = String::with_capacity(path.len());
    let mut rest = if slash { path.get(..path.len() - 1).unwrap_or(path) } else { path };
    while let Some((before, digits)) = rest.split_once('%') {
        read.push_str(before);
        match escape(digits.as_bytes()) {
            Some((byte, _)) if byte != b'%' && byte != b'/' && may_stand_in(PATH, byte) => {
                read.push(char::from(byte));
                rest = digits.get(2..).unwrap_or_default();
            }
            _ => {
                read.push('%');
                rest = digits;
            }
        }
    }
    read.push_str(rest);
    read.make_ascii_lowercase();
    Cow::Owned(read)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_can_be_read_twice_are_ambiguous() {
        #[rustfmt::skip]
        let table = [
            "//", "/a//b", "//a", "/a//", "/.", "/..", "/./a", "/a/..", "/a/../b", "/%2e", "/%2E%2e/a", "/.%2E",
            "/..;", "/..;a=b/c", "/.;/c", "/%2e%2e%3bx/", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", "/a%00", "/a%",
            "/a%2", "/a%zz", "/a%2g", "/%%32e", "/a\\b", "/a\0", "/a.//b", "/a./b",
            "/...", "/a.", "/a..", "/.../a", "/a;..", "/;", "/a;b/c", "/a%3Bb", "/%20", "/a%20/b", "/..%20",
            "/%2e.a", "/%2e%2e%2e", "/%67ithub", "/a%2Db", "/a%7e", "/a%09", "/a%7f", "/a b", "/caf\u{e9}", "/a?b",
            // Not UTF-8: overlong, cut short, a surrogate, beyond the last character, a lone continuation, Latin-1.
            "/%c0%af", "/%e0%80%af", "/a%c3", "/a%c3/%bc", "/a%c3b", "/%ed%a0%80", "/%f4%90%80%80", "/%80", "/%ff", "/m%fcller",
            "/%C0%AE%C0%AE/a", "/%f8%80%80%80%af",
            // Similar to slashes, backslashes and dots; to semicolons, percent and question marks, and number signs.
            "/%ef%bc%8f", "/a%EF%BC%8Fb", "/%ef%bc%8e%ef%bc%8e/a", "/%ef%bc%bc", "/%e2%80%a4", "/%e2%88%95", "/%e2%81%84",
            "/%e3%80%82", "/%e2%80%a6", "/%c2%a5", "/%e2%84%80", "/%e2%92%88", "/%cd%be", "/a%EF%BC%9Bb", "/%ef%bc%852e", "/a%ef%b9%96b",
            "/a%ef%bc%83", "/%f0%9f%84%80",
        ];
        for path in table {
            assert!(path_is_ambiguous(path), "{path:?}");
        }
    }

    #[test]
    fn near_misses_are_plain_paths() {
        #[rustfmt::skip]
        let table = [
            "/", "/a", "/a/", "/a/b", "/.a", "/..a", "/a%20b", "/%2525", "/a.b", "/.well-known/a", "*", "", "/a.b/c.d/",
            "/%252e%252e", "/%c3%bc", "/%C3%BC", "/a%2Bb", "/a%3Ab", "/a%40b", "/a,b=c", "/%e2%82%ac", "/%f0%9f%98%80", "/%ef%bc%a1",
            "/%c2%a3", "/%e2%82%a8", "/%e3%81%82",
        ];
        for path in table {
            assert_eq!(flaw(path.as_bytes()), None, "{path:?}");
        }
    }

    #[test]
    fn a_generous_reader() {
        for (path, read) in [
            ("/", "/"),
            ("/a/", "/a"),
            ("/A/b", "/a/b"),
            ("/a%3Ab", "/a:b"),
            ("/a%40%2b", "/a@+"),
            ("/%C3%BC", "/%c3%bc"),
            ("/a%20b", "/a%20b"),
            ("/%2540", "/%2540"),
            ("/a%3D%3D/", "/a=="),
            ("/a", "/a"),
        ] {
            assert_eq!(generously(path), read, "{path}");
        }
    }

    /// RFC 3986 section 5.2.4, word by word.
    fn remove_dot_segments(path: &str) -> String {
        let (mut input, mut output) = (path.to_owned(), String::new());
        while !input.is_empty() {
            if let Some(rest) = input.strip_prefix("../").or_else(|| input.strip_prefix("./")) {
                input = rest.to_owned();
            } else if input.starts_with("/./") || input == "/." {
                input = format!("/{}", input.get(3..).unwrap_or_default());
            } else if input.starts_with("/../") || input == "/.." {
                input = format!("/{}", input.get(4..).unwrap_or_default());
                output.truncate(output.rfind('/').unwrap_or(0));
            } else if input == "." || input == ".." {
                input.clear();
            } else {
                let end = input.get(1..).and_then(|rest| rest.find('/')).map_or(input.len(), |at| at + 1);
                output.push_str(&input[..end]);
                input.drain(..end);
            }
        }
        output
    }

    /// The path of a URL after the parser of url.spec.whatwg.org (special schemes): backslashes are slashes, and the
    /// segments `.` and `..` go, also where a dot is written `%2e`.
    fn as_browsers_read(path: &str) -> String {
        let path = path.replace('\\', "/");
        let mut segments: Vec<&str> = Vec::new();
        let all: Vec<&str> = path.strip_prefix('/').unwrap_or(&path).split('/').collect();
        for (at, segment) in all.iter().enumerate() {
            let plain = segment.to_ascii_lowercase().replace("%2e", ".");
            let last = at + 1 == all.len();
            match plain.as_str() {
                "." if last => segments.push(""),
                "." => {}
                ".." => {
                    segments.pop();
                    if last {
                        segments.push("");
                    }
                }
                _ => segments.push(segment),
            }
        }
        format!("/{}", segments.join("/"))
    }

    fn paths() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/",
            "/",
            "/",
            ".",
            "..",
            "a",
            "B",
            "%2e",
            "%2E",
            "%2f",
            "%5c",
            "\\",
            ";",
            "%3b",
            ":",
            "%3A",
            "%40",
            "%20",
            "%c3%bc",
            "%c0",
            "%af",
            "%ef%bc%8f",
            "%",
            "%25",
            "2e",
            "=",
            "~",
            "%7E",
            "\u{e9}",
        ]);
        prop::collection::vec(piece, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        /// Whatever passes means the same to readers who normalise, and decodes to characters.
        #[test]
        fn no_path_that_passes_is_changed_by_a_reader(path in paths()) {
            if flaw(path.as_bytes()).is_none() {
                prop_assert_eq!(&remove_dot_segments(&path), &path);
                prop_assert_eq!(&as_browsers_read(&path), &path);
                let mut decoded = Vec::new();
                let mut rest = path.as_bytes();
                while let [first, tail @ ..] = rest {
                    (rest, _) = match escape(tail).filter(|_| *first == b'%') {
                        Some((byte, behind)) => (behind, decoded.push(byte)),
                        None => (tail, decoded.push(*first)),
                    };
                }
                let decoded = String::from_utf8(decoded).unwrap();
                // Decoding moves no boundary of a segment, and makes none of dots.
                prop_assert_eq!(decoded.split('/').count(), path.split('/').count());
                prop_assert!(decoded.split('/').all(|segment| !matches!(segment, "." | "..")));
            }
        }

        #[test]
        fn to_read_generously_twice_changes_nothing(path in paths()) {
            if flaw(path.as_bytes()).is_none() {
                let once = generously(&path).into_owned();
                let twice = generously(&once).into_owned();
                prop_assert_eq!(twice, once);
            }
        }

        #[test]
        fn the_quick_look_agrees_with_the_slow_one(path in paths()) {
            prop_assert_eq!(flaw(path.as_bytes()), first_flaw(path.as_bytes()));
        }
    }
}
