//! The bytes that a value of a client may have to be answered.

use crate::gate::verify::bytes::ByteSet;

/// The bytes that a value may have. None of them is markup, a quote, a backslash or a control character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Printable ASCII without `<`, `>`, `&`, quotes, backquote and backslash.
    Text,
    /// Letters, digits and `-._~+/=`.
    Token,
    /// Letters, digits and `-._~`.
    Word,
    /// Hexadecimal digits in lower case.
    Hex,
    /// Decimal digits.
    Digits,
}

impl Alphabet {
    /// The names in a table, and what they mean.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("text", Self::Text),
        ("token", Self::Token),
        ("word", Self::Word),
        ("hex", Self::Hex),
        ("digits", Self::Digits),
    ];

    pub(super) fn has(self, byte: u8) -> bool {
        match self {
            Self::Text => matches!(byte, b' '..=b'~') && !b"<>&\"'`\\".contains(&byte),
            Self::Token => byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte),
            Self::Word => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Digits => byte.is_ascii_digit(),
        }
    }

    pub(super) fn bytes(self) -> ByteSet {
        let all: Vec<u8> = (0..=u8::MAX).filter(|byte| self.has(*byte)).collect();
        ByteSet::of(&all)
    }
}
