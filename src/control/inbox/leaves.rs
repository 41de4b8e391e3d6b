//! Pages that would make the database end the process.
//!
//! The database believes the offsets in a page: one that has changed on disk points out of the page, and the process ends
//! by a panic, again at every start. So a leaf is looked at when it is read from the disk. Its offsets, one
//! or two for each pair, must grow within the page. Which of both a page has is not known, since it does not say its table
//! (redb, file format 3, "leaf page").

/// How a leaf begins.
const LEAF: u8 = 1;

/// Type, a byte without meaning, number of pairs.
const HEAD: usize = 4;

const OFFSET: usize = 4;

/// Whether a page can be a leaf, or is none.
pub(super) fn is_sound(page: &[u8]) -> bool {
    let Some((&[LEAF, _, low, high], rest)) = page.split_first_chunk::<HEAD>() else { return true };
    let pairs = usize::from(u16::from_le_bytes([low, high]));
    if pairs == 0 {
        return true;
    }
    let fits = |offsets: usize| {
        let mut before = HEAD + offsets * OFFSET;
        let ends = rest.get(..offsets * OFFSET).unwrap_or_default();
        ends.len() == offsets * OFFSET
            && ends.as_chunks::<OFFSET>().0.iter().all(|end| {
                let end = usize::try_from(u32::from_le_bytes(*end)).unwrap_or(usize::MAX);
                let grows = end >= before && end <= page.len();
                before = end;
                grows
            })
    };
    fits(2 * pairs) || fits(pairs)
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

    #[test]
    fn offsets_grow_within_the_page() {
        assert!(is_sound(&leaf(&[200, 300, 4_096])));
        assert!(!is_sound(&leaf(&[200, 300, 4_097])));
        assert!(!is_sound(&leaf(&[200, 0x5a5a_5a5a, 300])));
        assert!(!is_sound(&leaf(&[200, 100, 300])));
        assert!(is_sound(&[2; 4_096]) && is_sound(&[]) && is_sound(&leaf(&[])));
    }
}
