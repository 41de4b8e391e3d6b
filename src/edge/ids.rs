//! Request ids: unique across workers, processes and restarts, and not guessable from one another by accident.

use std::cell::Cell;

/// 128 bits, written as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    high: u64,
    low: u64,
}

impl RequestId {
    /// The text that the client, the application and the log see.
    #[must_use]
    pub fn text(self) -> [u8; 32] {
        let mut text = [0; 32];
        let bits = (u128::from(self.high) << 64) | u128::from(self.low);
        for (place, digit) in text.iter_mut().enumerate() {
            let nibble = (bits >> (124 - 4 * place)) & 0xf;
            *digit = b"0123456789abcdef".get(nibble as usize).copied().unwrap_or(b'0');
        }
        text
    }
}

/// The ids of one worker: a random prefix, and a counter that is scrambled so that ids do not look alike.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    counter: Cell<u64>,
}

impl RequestIds {
    /// Ids under `prefix`, which must be random per worker and process.
    #[must_use]
    pub fn new(prefix: u64) -> Self {
        Self { prefix, counter: Cell::new(0) }
    }

    /// The next id.
    #[must_use]
    pub fn next(&self) -> RequestId {
        let count = self.counter.get().wrapping_add(1);
        self.counter.set(count);
        // An odd multiplier is a bijection on 64 bits: no two counts give the same id.
        RequestId { high: self.prefix, low: (count ^ self.prefix).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_32_hex_digits() {
        let ids = RequestIds::new(0xfedc_ba98_7654_3210);
        let texts: HashSet<[u8; 32]> = (0..10_000).map(|_| ids.next().text()).collect();
        assert_eq!(texts.len(), 10_000);
        assert!(texts.iter().all(|text| text.starts_with(b"fedcba9876543210")));
        assert!(texts.iter().flatten().all(u8::is_ascii_hexdigit));
    }
}
