//! What is around the lines of a text that was written on another system: a byte order mark, and line ends of two characters.
//! The text is edited without them, and gets them back.

use std::borrow::Cow;

const MARK: char = '\u{feff}';

/// What was taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    has_mark: bool,
    /// All line ends are CR LF. Where only some are, they stay as they are.
    is_crlf: bool,
}

impl Frame {
    /// The frame of a text, and what is in it.
    pub(super) fn of(text: &str) -> (Self, Cow<'_, str>) {
        let bare = text.strip_prefix(MARK);
        let (has_mark, text) = (bare.is_some(), bare.unwrap_or(text));
        let ends = text.matches('\n').count();
        let is_crlf = ends > 0 && text.matches("\r\n").count() == ends;
        let text = if is_crlf { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) };
        (Self { has_mark, is_crlf }, text)
    }

    /// A text in this frame.
    pub(super) fn around(self, text: &str) -> String {
        let mut out = if self.has_mark { MARK.to_string() } else { String::new() };
        out.push_str(&if self.is_crlf { Cow::Owned(text.replace('\n', "\r\n")) } else { Cow::Borrowed(text) });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_off_is_put_on_again() {
        for (text, inside) in [
            ("a: 1\nb: 2\n", "a: 1\nb: 2\n"),
            ("\u{feff}a: 1\r\nb: 2", "a: 1\nb: 2"),
            ("a: 1\r\nb: 2\n", "a: 1\r\nb: 2\n"),
            ("", ""),
        ] {
            let (frame, found) = Frame::of(text);
            assert_eq!(found, inside);
            assert_eq!(frame.around(&found), text);
        }
    }
}
