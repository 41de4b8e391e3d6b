//! Bodies that were compressed on their way.

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};

use super::budget::TrialBudget;

/// What a byte costs that is read or written.
const COST: usize = 4;

/// What a compressed body was before, with the name of the format; nothing where that costs more than half of what
/// `budget` has left.
pub(super) fn decompressed(body: &[u8], budget: &TrialBudget) -> Option<(Vec<u8>, &'static str)> {
    let limit = budget.bound() / (2 * COST);
    if limit < body.len() {
        if let [0x1f, 0x8b, 8, ..] = body {
            budget.refuse();
        }
        return None;
    }
    let (opened, how) = match body {
        [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, rest @ ..] => {
            (decompress_to_vec_with_limit(behind_names(*flags, rest)?, limit), "gzip")
        }
        [first, ..] if first & 0xf == 8 => (decompress_to_vec_zlib_with_limit(body, limit), "zlib (deflate)"),
        _ => return None,
    };
    // What was written before it failed has been paid for as well, and it may have read much and written little.
    let written = opened.as_ref().map_or_else(|failed| failed.output.len(), Vec::len);
    let paid = budget.charge(body.len().saturating_add(written).saturating_mul(COST));
    let too_long = opened.as_ref().is_err_and(|failed| failed.status == TINFLStatus::HasMoreOutput);
    if too_long {
        budget.refuse();
    }
    let before = opened.ok().filter(|_| paid)?;
    Some((before, how))
}

/// RFC 1952 section 2.3: extra field, name and comment may stand in front of the compressed bytes.
fn behind_names(flags: u8, rest: &[u8]) -> Option<&[u8]> {
    let mut rest = rest;
    if flags & 4 != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            rest = rest.get(memchr::memchr(0, rest)? + 1..)?;
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Little that would be 64 MiB.
    #[test]
    fn what_is_opened_is_paid_for() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'['; 64 << 20], 9);
        let budget = TrialBudget::of(bomb.len());
        assert!(decompressed(&bomb, &budget).is_none() && budget.takes_refusal());
        assert!(budget.spent() <= (64 << 20) / 2 + 512 * bomb.len() as u64, "{}", budget.spent());
    }

    #[test]
    fn compressed_bodies_are_opened() {
        let deflated = miniz_oxide::deflate::compress_to_vec(b"hello hello", 6);
        let head = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
        let gzip = [&head[..], b"name\0", &deflated, &[0; 8]].concat();
        assert_eq!(decompressed(&gzip, &TrialBudget::of(0)).unwrap().0, b"hello hello");
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(b"hello", 6);
        assert_eq!(decompressed(&zlib, &TrialBudget::of(0)).unwrap().0, b"hello");
        for nothing in [&b"{}"[..], &head] {
            assert!(decompressed(nothing, &TrialBudget::of(0)).is_none());
        }
    }
}
