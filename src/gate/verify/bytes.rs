//! Sets of bytes: what may stand in a value that is signed.

use core::fmt;

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    /// No byte.
    pub const NONE: Self = Self([0; 4]);
    /// Every byte.
    pub const ALL: Self = Self([u64::MAX; 4]);
    /// The decimal digits.
    pub(super) const DIGITS: Self = Self::range(b'0', b'9');
    /// What is visible of ASCII.
    pub(super) const VISIBLE: Self = Self::range(b'!', b'~');
    /// What a field value has (RFC 9110, section 5.5).
    pub(super) const FIELD_VALUE: Self = Self::range(b' ', b'~').or(Self::range(0x80, 0xff)).or(Self::of(b"\t"));

    /// The bytes of `members`.
    #[must_use]
    pub const fn of(members: &[u8]) -> Self {
        let mut set = Self::NONE;
        let mut at = 0;
        while at < members.len() {
            set = set.with(members[at]);
            at += 1;
        }
        set
    }

    /// The bytes from `first` to `last`, both included.
    pub(super) const fn range(first: u8, last: u8) -> Self {
        let mut set = Self::NONE;
        let mut byte = first;
        while byte < last {
            set = set.with(byte);
            byte += 1;
        }
        set.with(last)
    }

    const fn with(mut self, byte: u8) -> Self {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
        self
    }

    /// Whether `byte` is in the set.
    #[must_use]
    pub const fn has(self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] & 1 << (byte & 63) != 0
    }

    /// What is in either.
    pub(super) const fn or(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a | e, b | f, c | g, d | h])
    }

    /// What is in both.
    pub(super) const fn and(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a & e, b & f, c & g, d & h])
    }

    /// Every byte that is not in the set.
    pub(super) const fn others(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([!a, !b, !c, !d])
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self.0, [0, 0, 0, 0])
    }

    /// Whether all of the set is in `other`.
    pub(super) const fn is_within(self, other: Self) -> bool {
        self.and(other.others()).is_empty()
    }

    /// Whether one of `bytes` is in the set.
    pub(super) fn has_any_of(self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| self.has(*byte))
    }

    /// The bytes of the set in order.
    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |byte| self.has(*byte))
    }
}

impl fmt::Display for ByteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_its_members_and_no_others() {
        for byte in 0..=u8::MAX {
            assert_eq!(ByteSet::of(b"a\0\xff").has(byte), b"a\0\xff".contains(&byte));
            assert_eq!(ByteSet::DIGITS.has(byte), byte.is_ascii_digit());
            assert_eq!(ByteSet::VISIBLE.others().has(byte), !byte.is_ascii_graphic());
            assert!(ByteSet::ALL.has(byte) && !ByteSet::NONE.has(byte));
        }
        assert!(ByteSet::of(b"05").is_within(ByteSet::DIGITS) && !ByteSet::of(b"0a").is_within(ByteSet::DIGITS));
        assert_eq!(ByteSet::of(b".\n{").to_string(), "\\n.{");
    }
}
