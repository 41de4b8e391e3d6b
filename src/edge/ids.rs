//! Request ids: unique across workers, processes and restarts, and not guessable from one another by accident.

use std::cell::Cell;

/// 128 bits, written as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    fn new(high: u64, low: u64) -> Self {
        let mut text = [0; 32];
        let (left, right) = text.split_at_mut(16);
        left.copy_from_slice(&digits(high));
        right.copy_from_slice(&digits(low));
        Self(text)
    }

    /// The text that the client, the application and the log see.
    #[must_use]
    pub const fn text(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The hexadecimal digits of a number, the highest first.
fn digits(number: u64) -> [u8; 16] {
    // Each half byte becomes a byte of a 128-bit number, and all of them become digits at once.
    let mut wide = u128::from(number);
    for (shift, mask) in [
        (32, 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff),
        (16, 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f),
    ] {
        wide = (wide | (wide << shift)) & mask;
    }
    // Adding six carries into the high half where a digit is a letter.
    let letters = ((wide + EACH * 6) >> 4) & EACH;
    (wide + EACH * 0x30 + letters * u128::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// One in every byte.
const EACH: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;

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
        RequestId::new(self.prefix, (count ^ self.prefix).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_32_hex_digits() {
        let ids = RequestIds::new(0xfedc_ba98_7654_3210);
        let texts: HashSet<[u8; 32]> = (0..10_000).map(|_| *ids.next().text()).collect();
        assert_eq!(texts.len(), 10_000);
        assert!(texts.iter().all(|text| text.starts_with(b"fedcba9876543210")));
        assert!(texts.iter().flatten().all(u8::is_ascii_hexdigit));
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let mut number = 1_u64;
        for _ in 0..10_000 {
            assert_eq!(digits(number).as_slice(), format!("{number:016x}").as_bytes());
            number = number.wrapping_mul(0xd129_0d3b_9d4c_d7b5).wrapping_add(1);
        }
        assert_eq!(&digits(u64::MAX), b"ffffffffffffffff");
        assert_eq!(&digits(0), b"0000000000000000");
    }
}
