//! Bytes of a request, or of a file, as a line of an explanation shows them: the one place where they are escaped.

use core::fmt::Write as _;

/// No more characters of one text are shown: a URL fits, a body does not.
const MOST: usize = 2048;

/// The text in printable ASCII: an attacker may have made it. Control characters, a backslash, a backtick (which ends what
/// is quoted) and all beyond ASCII are escapes: letters that are written from the right to the left would turn the line
/// around, others look like those of ASCII. What is longer than 2048 characters is cut, and its length is said.
#[must_use]
pub fn quoted(text: impl AsRef<[u8]>) -> String {
    quoted_start(text, MOST)
}

/// The same of the first `most` characters.
#[must_use]
pub fn quoted_start(text: impl AsRef<[u8]>, most: usize) -> String {
    let text = text.as_ref();
    let mut out = String::with_capacity(text.len().min(most) + 16);
    let mut left = most;
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if left == 0 {
                return cut(out, text.len());
            }
            left -= 1;
            match character {
                '`' => out.push_str("\\x60"),
                '\\' => out.push_str("\\\\"),
                ' '..='~' => out.push(character),
                _ => out.extend(character.escape_default()),
            }
        }
        for byte in chunk.invalid() {
            if left == 0 {
                return cut(out, text.len());
            }
            left -= 1;
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The text with escapes for what [`quoted`] escapes, but for backslashes and backticks: of a text that has quotes in it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' '..='~' => out.push(character),
            _ => out.extend(character.escape_default()),
        }
    }
    out
}

fn cut(shown: String, length: usize) -> String {
    format!("{shown}... ({length} bytes)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_printable_ascii() {
        for (text, shown) in [
            (&b"a-Z 09 \"'"[..], "a-Z 09 \"'"),
            (b"\x1b[2J\r\n\t\0\x7f", r"\u{1b}[2J\r\n\t\u{0}\u{7f}"),
            (
                "\u{202e}\u{5d0}\u{627}\u{200b}\u{85}\u{feff}".as_bytes(),
                r"\u{202e}\u{5d0}\u{627}\u{200b}\u{85}\u{feff}",
            ),
            (b"\x9b1m\xff\xc3", r"\x9b1m\xff\xc3"),
            (br"`\x60", r"\x60\\x60"),
        ] {
            assert_eq!(quoted(text), shown);
        }
        let all: Vec<u8> = (0..=u8::MAX).cycle().take(5000).collect();
        let shown = quoted(&all);
        assert!(
            shown.bytes().all(|byte| matches!(byte, b' '..=b'~')) && shown.ends_with("... (5000 bytes)"),
            "{shown}"
        );
        assert_eq!(quoted_start("abcdef", 3), "abc... (6 bytes)");
    }
}
