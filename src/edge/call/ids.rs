//! Request ids: unique across workers, processes and restarts. They are told to strangers, so nothing can be read from
//! them, neither how many there were nor which worker made them.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

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

/// The ids of one worker: a counter, encrypted.
///
/// With a keyed function F, count c becomes `F(c)`, `c xor F(F(c))`: two rounds of a Feistel network whose other half is
/// constant. No two counts give the same id, because both halves together say which one it was to those who know the key.
/// Without the key both look like random numbers. Ids of others are as far away as those of 128 random bits. F is the
/// SipHash-1-3 of the standard library, keyed by the system's randomness for each thread. Ids have no order: lines of logs
/// are ordered by their times.
#[derive(Debug, Default)]
pub struct RequestIds {
    key: RandomState,
    counter: Cell<u64>,
}

impl RequestIds {
    /// Ids under a key of their own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next id.
    #[must_use]
    pub fn next(&self) -> RequestId {
        let count = self.counter.get();
        self.counter.set(count.wrapping_add(1));
        let high = self.key.hash_one(count);
        RequestId::new(high, count ^ self.key.hash_one(high))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_32_hex_digits() {
        let workers = [RequestIds::new(), RequestIds::new(), RequestIds::new()];
        let texts: HashSet<[u8; 32]> = (0..30_000).map(|n| *workers[n % 3].next().text()).collect();
        assert_eq!(texts.len(), 30_000);
        assert!(texts.iter().flatten().all(u8::is_ascii_hexdigit));
    }

    fn number(digits: &[u8]) -> u64 {
        let text = core::str::from_utf8(digits).unwrap_or_default();
        u64::from_str_radix(text, 16).unwrap_or_default()
    }

    /// What undoes the scrambling of before, a multiplication by a constant, and everything else that is as simple, does
    /// not give away how many ids there were in between.
    #[test]
    fn ids_do_not_count_requests() {
        let ids = RequestIds::new();
        let halves = |id: RequestId| (number(&id.text()[..16]), number(&id.text()[16..]));
        let inverse = 0xf1de_83e1_9937_733d_u64;
        assert_eq!(inverse.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1);
        let mut close = 0;
        let mut last = halves(ids.next());
        for _ in 0..1000 {
            let next = halves(ids.next());
            let unscrambled = |(high, low): (u64, u64)| low.wrapping_mul(inverse) ^ high;
            let differences = [
                unscrambled(next).abs_diff(unscrambled(last)),
                next.0.abs_diff(last.0),
                next.1.abs_diff(last.1),
                (next.0 ^ next.1).abs_diff(last.0 ^ last.1),
            ];
            close += differences.iter().filter(|difference| **difference < 1 << 40).count();
            last = next;
        }
        assert_eq!(close, 0);
        // Nor do two workers, or two starts, have anything in common.
        let (one, other) = (halves(RequestIds::new().next()), halves(RequestIds::new().next()));
        assert!(one.0 != other.0 && one.1 != other.1);
    }

    /// Each bit is set in about half of all ids.
    #[test]
    fn all_bits_are_random() {
        const COUNT: u32 = 4096;
        let ids = RequestIds::new();
        let mut set = [0_u32; 128];
        for _ in 0..COUNT {
            let id = ids.next();
            let wide = u128::from(number(&id.text()[..16])) << 64 | u128::from(number(&id.text()[16..]));
            set.iter_mut().enumerate().for_each(|(bit, count)| *count += u32::from(wide >> bit & 1 == 1));
        }
        // Eight times the standard deviation.
        assert!(set.iter().all(|count| count.abs_diff(COUNT / 2) < 256), "{set:?}");
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
