//! Ranges of bytes in a head: its parts are not copied.

/// A range of bytes in a head. Offsets are relative to the first byte of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// A span from `start` to `end` (exclusive). Heads are far below 4 GiB; larger offsets saturate.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    /// The bytes of the span, empty when it lies outside of `bytes`.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The span of `part`, which is a slice of `bytes`. An empty or foreign slice has the empty span.
    pub(super) fn within(part: &[u8], bytes: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
        match start.checked_add(part.len()) {
            Some(end) if end <= bytes.len() && !part.is_empty() => Self::new(start, end),
            _ => Self::default(),
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn length(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Offset of the first byte.
    #[must_use]
    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// Offset after the last byte.
    #[must_use]
    pub const fn end(self) -> usize {
        self.end as usize
    }
}
