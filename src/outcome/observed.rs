//! What checks that only observe would have refused.

use crate::outcome::Rejection;

/// The refusals that a request would have met on a route that only observes the checks in question, each at most once.
/// A set in one word: the path of a request allocates nothing for it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// One bit for each rejection, by its position in the table.
    bits: u128,
}

// More rejections need a wider word.
const _: () = assert!(Rejection::ALL.len() <= u128::BITS as usize);

impl Observed {
    /// Nothing would have been refused.
    pub const NONE: Self = Self { bits: 0 };

    /// Notes what an observed check would have answered.
    pub const fn note(&mut self, rejection: Rejection) {
        self.bits |= 1 << rejection as u32;
    }

    /// Whether every check passed.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether this refusal was noted.
    #[must_use]
    pub const fn contains(self, rejection: Rejection) -> bool {
        self.bits & (1 << rejection as u32) != 0
    }

    /// Whether it was noted that the delivery had come before.
    #[must_use]
    pub const fn contains_copy(self) -> bool {
        self.contains(Rejection::Duplicate)
            || self.contains(Rejection::DuplicateConflict)
            || self.contains(Rejection::DuplicateInFlight)
    }

    /// What was noted, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Rejection> {
        Rejection::ALL.iter().copied().filter(move |rejection| self.contains(*rejection))
    }
}

impl core::fmt::Debug for Observed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The reason codes, separated by commas; nothing for the empty set.
impl core::fmt::Display for Observed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (position, rejection) in self.iter().enumerate() {
            f.write_str(if position == 0 { "" } else { "," })?;
            f.write_str(rejection.code())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observed_is_a_set_in_the_order_of_the_table() {
        let mut observed = Observed::NONE;
        assert!(observed.is_empty() && observed.to_string().is_empty());
        for rejection in [Rejection::TimestampStale, Rejection::HeadMalformed, Rejection::TimestampStale] {
            observed.note(rejection);
        }
        assert_eq!(observed.to_string(), "head_malformed,timestamp_stale");
        assert!(observed.contains(Rejection::HeadMalformed) && !observed.contains(Rejection::TimestampFuture));
        Rejection::ALL.iter().for_each(|rejection| observed.note(*rejection));
        assert!(observed.iter().eq(Rejection::ALL.iter().copied()));
    }
}
