//! Where the slots of a shard are found: by a hash, in lines of a cache.
//!
//! Memory that is looked at by hash is memory that is in no cache. So what is asked of it is one line: a line has places
//! for fifteen slots, of which eight are used on an average when the shard is full, and of each it has the position and
//! some more bits of the hash. A slot is looked at only when these are the same, which they are in one of two hundred
//! lines by chance. What a full line has no place for is in the next one that has, and each line on the way says so.

/// Words of a line: what it has, and its places.
const WORDS: usize = 16;

/// Places of a line.
const PLACES: u32 = WORDS as u32 - 1;

/// Slots for each line.
const SLOTS: usize = 8;

/// The bits of a place that are the position of a slot, plus one; the others are of its hash.
const POSITION: u32 = (1 << 21) - 1;

/// The first word of a line: how many places are taken, from the first on; and above them how many entries passed the line
/// by because it was full.
const TAKEN: u32 = 0xff;
const PASSED: u32 = TAKEN + 1;

/// Positions of slots by their hash. It neither grows nor knows what it points to.
#[derive(Debug)]
pub(super) struct Index {
    /// Zeroed memory is an empty index, and costs nothing until it is used.
    words: Vec<u32>,
    /// The first word that a line of the cache begins with.
    start: usize,
    /// Lines, less one; their number is a power of two.
    mask: usize,
}

impl Index {
    /// Without lines: there is nothing in it, and nothing can be put in.
    pub(super) const fn absent() -> Self {
        Self { words: Vec::new(), start: 0, mask: 0 }
    }

    /// Empty, for so many slots; at most 2²¹ − 1.
    pub(super) fn new(slots: usize) -> Self {
        let lines = lines(slots);
        let words = vec![0; (lines + 1) * WORDS];
        let start = words.as_ptr().align_offset(WORDS * size_of::<u32>()).min(WORDS);
        Self { words, start, mask: lines - 1 }
    }

    /// Bytes of an index for so many slots.
    pub(super) const fn memory(slots: usize) -> usize {
        (lines(slots) + 1) * WORDS * size_of::<u32>()
    }

    pub(super) const fn is_absent(&self) -> bool {
        self.words.is_empty()
    }

    /// The slot of this hash that is the one.
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        for further in 0..=self.mask {
            let line = self.line(hash as usize + further)?;
            // All places at once, with vector instructions; seldom is there more than one to look at.
            let mut alike = (0..)
                .zip(line)
                .fold(0_u32, |alike, (place, word)| alike | u32::from(word & !POSITION == tag(hash)) << place);
            // What was taken away is still there behind what is taken.
            alike &= (2 << (line[0] & TAKEN)) - 2;
            while alike != 0 {
                let position = (line[alike.trailing_zeros() as usize] & POSITION) - 1;
                if is_it(position) {
                    return Some(position);
                }
                alike &= alike - 1;
            }
            if line[0] < PASSED {
                return None;
            }
        }
        None
    }

    /// Puts a slot in. There must be fewer than the index is for.
    pub(super) fn insert(&mut self, hash: u32, position: u32) {
        let mut at = hash as usize;
        while let Some(line) = self.line_mut(at) {
            let taken = line[0] & TAKEN;
            if taken < PLACES {
                line[0] += 1;
                line[taken as usize + 1] = tag(hash) | (position + 1);
                return;
            }
            line[0] += PASSED;
            at += 1;
        }
    }

    /// Takes a slot out that is in.
    pub(super) fn remove(&mut self, hash: u32, position: u32) {
        let mut at = hash as usize;
        while let Some(line) = self.line_mut(at) {
            let taken = (line[0] & TAKEN) as usize;
            let places = &mut line[1..=taken];
            if let Some(place) = places.iter().position(|place| place & POSITION == position + 1) {
                places[place] = places[taken - 1];
                line[0] -= 1;
                return;
            }
            line[0] -= PASSED;
            at += 1;
        }
    }

    fn line(&self, at: usize) -> Option<&[u32; WORDS]> {
        let first = self.start + (at & self.mask) * WORDS;
        self.words.get(first..)?.first_chunk()
    }

    fn line_mut(&mut self, at: usize) -> Option<&mut [u32; WORDS]> {
        let first = self.start + (at & self.mask) * WORDS;
        self.words.get_mut(first..)?.first_chunk_mut()
    }
}

const fn lines(slots: usize) -> usize {
    slots.div_ceil(SLOTS).next_power_of_two()
}

/// Bits of a hash that choose neither the shard nor, in tables of a usual size, the line.
const fn tag(hash: u32) -> u32 {
    (hash >> 13 & 0x7ff) << 21
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few different hashes, so that lines overflow into one another, and around the end.
        #[test]
        fn an_index_finds_what_is_in_it(
            slots in 1_u32..60,
            steps in proptest::collection::vec((any::<bool>(), 0_u32..60, 0_u32..4, 0_u32..3), 1..300),
        ) {
            let mut index = Index::new(slots as usize);
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (inserts, position, line, bits) in steps {
                let position = position % slots;
                match model.remove(&position) {
                    Some(hash) => index.remove(hash, position),
                    None if inserts => {
                        let hash = bits << 13 | line;
                        index.insert(hash, position);
                        model.insert(position, hash);
                    }
                    None => {}
                }
                for position in 0..slots {
                    let hashes = (0..3).flat_map(|bits| (0..4).map(move |line| bits << 13 | line));
                    let found: Vec<u32> =
                        hashes.filter(|hash| index.find(*hash, |found| found == position) == Some(position)).collect();
                    // Those that share a line and the bits that are kept of them are told apart by their slots.
                    prop_assert!(model.get(&position).is_none_or(|hash| found.contains(hash)), "{position} {found:?}");
                    prop_assert!(model.contains_key(&position) || found.is_empty(), "{position} {found:?}");
                }
            }
            for (position, hash) in model {
                index.remove(hash, position);
            }
            let lines = index.words.get(index.start..).unwrap_or_default().chunks(WORDS).take(index.mask + 1);
            prop_assert!(lines.into_iter().all(|line| line[0] == 0), "nothing is left behind");
        }
    }

    #[test]
    fn lines_are_those_of_the_cache() {
        for slots in [1, 8, 9, 100, 16_384] {
            let index = Index::new(slots);
            assert_eq!(index.words.as_ptr().wrapping_add(index.start) as usize % 64, 0);
            assert!(size_of_val(index.words.as_slice()) <= Index::memory(slots));
            assert!((index.mask + 1) * SLOTS >= slots);
        }
    }
}
