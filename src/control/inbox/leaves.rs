//! Pages that would make the database end the process.
//!
//! The database believes what is in a page: an offset that has changed on disk points out of it, and the process ends by a
//! panic, again at every start. So a page is looked at when it is read from the disk (redb, file format 3, "branch page" and
//! "leaf page"). What is in keys and values is not looked at: records have seals of their own.

/// How pages begin.
const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// Type, a byte without meaning, number of pairs or keys.
const HEAD: usize = 4;

/// The end of a key or a value.
const OFFSET: usize = 4;

/// Head and four bytes without meaning; then for each child a checksum and a number.
const BRANCH_HEAD: usize = 8;
const CHECKSUM: usize = 16;
const NUMBER: usize = 8;

/// The smallest unit of pages, in bytes.
pub(super) const PAGE: u64 = 4_096;

/// Whether a page of a file of this length can be what it says.
pub(super) fn is_sound(page: &[u8], file: u64) -> bool {
    let Some((&[kind, _, low, high], rest)) = page.split_first_chunk::<HEAD>() else { return false };
    let count = usize::from(u16::from_le_bytes([low, high]));
    match kind {
        // Offsets, one or two for each pair: which, a page does not say.
        LEAF => count > 0 && (offsets_grow(page, rest, 2 * count) || offsets_grow(page, rest, count)),
        BRANCH => count > 0 && has_children(page, count + 1, file),
        _ => false,
    }
}

fn offsets_grow(page: &[u8], rest: &[u8], count: usize) -> bool {
    let Some(ends) = rest.get(..count * OFFSET) else { return false };
    let mut before = HEAD + count * OFFSET;
    ends.as_chunks::<OFFSET>().0.iter().all(|end| {
        let end = usize::try_from(u32::from_le_bytes(*end)).unwrap_or(usize::MAX);
        let grows = end >= before && end <= page.len();
        before = end;
        grows
    })
}

/// A child is within the file: 20 bits of position, 20 bits of region, of which these files have one, and 5 bits that say
/// how large it is.
fn has_children(page: &[u8], count: usize, file: u64) -> bool {
    let from = BRANCH_HEAD + count * CHECKSUM;
    let Some(numbers) = page.get(from..from + count * NUMBER) else { return false };
    numbers.as_chunks::<NUMBER>().0.iter().all(|number| {
        let number = u64::from_le_bytes(*number);
        let (position, region, order) = (number & 0xf_ffff, number >> 20 & 0xf_ffff, number >> 59);
        region == 0 && (position + 1) << order <= file / PAGE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(ends: &[u32]) -> Vec<u8> {
        let mut page = vec![LEAF, 0, u8::try_from(ends.len()).unwrap_or(0), 0];
        ends.iter().for_each(|end| page.extend(end.to_le_bytes()));
        page.resize(4_096, 7);
        page
    }

    fn branch(numbers: [u64; 2]) -> Vec<u8> {
        let mut page = vec![BRANCH, 0, 1, 0, 0, 0, 0, 0];
        page.extend([9; 32]);
        numbers.iter().for_each(|number| page.extend(number.to_le_bytes()));
        page.resize(4_096, 7);
        page
    }

    #[test]
    fn what_points_out_of_its_page_or_its_file_is_found() {
        let sound = |page: &[u8]| is_sound(page, 1 << 20);
        assert!(sound(&leaf(&[200, 300, 4_096])));
        for ends in [&[200, 300, 4_097][..], &[200, 0x5a5a_5a5a, 300], &[200, 100, 300], &[]] {
            assert!(!sound(&leaf(ends)), "{ends:?}");
        }
        assert!(sound(&branch([3, 200 | 1 << 59])) == ((201 << 1) <= 256));
        assert!(sound(&branch([3, 100 | 1 << 59])) && sound(&branch([3, 255])));
        for numbers in [[3, 256], [3, 1 << 20], [3, 31 << 59], [u64::MAX, 3]] {
            assert!(!sound(&branch(numbers)), "{numbers:?}");
        }
        assert!(!sound(&[7; 4_096]) && !sound(&[]));
    }
}
