//! The content of a delivery, as it is stored: chunks that describe themselves, each with a seal of its own.
//!
//! The database does not verify what it reads, so that we do: a chunk is `CSR1`, flags, position, number of chunks,
//! length, id and name of the key (32 bytes), then content, then a seal of 16 bytes: the beginning of SHA-256 over what
//! is before it, or the tag of AES-256-GCM. An encrypted chunk has 16 bytes of salt between header and content; header
//! and salt are its associated data. Because a chunk says what it is, a delivery can be found in a file that the database
//! refuses ([`find_chunks`]).
//!
//! The content of all chunks together is: version, length of the route's name (1 byte each), two zeros, length of the
//! head (4 bytes) and of the body (8), time of acceptance (8), order key (16), key under which copies are recognised (32),
//! name of the route, head, body.

use core::ops::Range;

use crate::inbox::delivery::DeliveryId;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::row::Fields;
pub use crate::inbox::seal::{
    ChunkPlace, ChunkSalt, HEADER_SIZE, KeyCheck, KeyTag, SALT_SIZE, SEAL_SIZE, Sealer, key_tag,
};

/// How a chunk begins.
pub const MARK: &[u8; 4] = b"CSR1";

/// A plain chunk is at most so long, header and seal included; an encrypted one has its salt besides. The database keeps
/// both in 64 KiB.
pub const CHUNK_SIZE: usize = (64 << 10) - 64;

/// Content of a chunk.
const CHUNK_CONTENT: usize = CHUNK_SIZE - HEADER_SIZE - SEAL_SIZE;

/// Bytes of the content before the name of the route.
const PREAMBLE_SIZE: usize = 72;

const CONTENT_VERSION: u8 = 1;

/// Flag of an encrypted chunk.
const ENCRYPTED: u8 = 1;

/// Chunks that a delivery needs; nothing when it is too large.
#[must_use]
pub fn chunks_of(fresh: &FreshDelivery<'_>) -> Option<u16> {
    let length = PREAMBLE_SIZE + fresh.route.len() + fresh.head.len() + fresh.body.len();
    u16::try_from(length.div_ceil(CHUNK_CONTENT)).ok().filter(|_| fresh.route.len() <= 255)
}

/// Bytes that a delivery takes in plain chunks; encrypted ones have their salts besides.
#[must_use]
pub fn stored_size(fresh: &FreshDelivery<'_>) -> u64 {
    let length = PREAMBLE_SIZE + fresh.route.len() + fresh.head.len() + fresh.body.len();
    (length + length.div_ceil(CHUNK_CONTENT) * (HEADER_SIZE + SEAL_SIZE)) as u64
}

/// Writes the chunks of a delivery, one after the other, into `scratch`, and hands each to `each`.
///
/// # Errors
/// Those of `each`. A delivery that is too large, or cannot be sealed, has no chunks: [`chunks_of`] is asked before.
pub fn write_chunks<E>(
    fresh: &FreshDelivery<'_>,
    id: DeliveryId,
    sealer: &Sealer,
    scratch: &mut Vec<u8>,
    mut each: impl FnMut(ChunkPlace, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let Some(of) = chunks_of(fresh) else { return Ok(()) };
    let preamble = preamble(fresh);
    let mut parts = [&*preamble, fresh.route.as_bytes(), fresh.head, fresh.body];
    for chunk in 0..of {
        let place = ChunkPlace { id, chunk, of };
        scratch.clear();
        scratch.resize(HEADER_SIZE, 0);
        scratch.extend_from_slice(sealer.salt());
        let begin = scratch.len();
        for part in &mut parts {
            let room = (begin + CHUNK_CONTENT).saturating_sub(scratch.len()).min(part.len());
            let (now, later) = part.split_at(room);
            scratch.extend_from_slice(now);
            *part = later;
        }
        let header = header(place, scratch.len() - begin, sealer);
        scratch.iter_mut().zip(header).for_each(|(to, from)| *to = from);
        if sealer.seal(scratch, place).is_some() {
            each(place, scratch)?;
        }
    }
    Ok(())
}

fn preamble(fresh: &FreshDelivery<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREAMBLE_SIZE);
    out.extend([CONTENT_VERSION, u8::try_from(fresh.route.len()).unwrap_or(0), 0, 0]);
    out.extend(u32::try_from(fresh.head.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend((fresh.body.len() as u64).to_le_bytes());
    out.extend(fresh.accepted.to_le_bytes());
    out.extend(fresh.order_key);
    out.extend(fresh.seen_key);
    out
}

fn header(place: ChunkPlace, length: usize, sealer: &Sealer) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_SIZE);
    out.extend(MARK);
    out.extend([if sealer.key().is_some() { ENCRYPTED } else { 0 }, 0]);
    out.extend(place.chunk.to_le_bytes());
    out.extend(place.of.to_le_bytes());
    out.extend([0; 2]);
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(place.id.0.to_le_bytes());
    out.extend(sealer.key().unwrap_or_default());
    out
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Which chunk it says to be.
    pub place: ChunkPlace,
    /// The key that it was sealed with; nothing for a plain one.
    pub key: Option<KeyTag>,
    /// Bytes of the content.
    pub length: usize,
}

impl ChunkHeader {
    /// Bytes of the chunk.
    #[must_use]
    pub const fn size(self) -> usize {
        let salt = if self.key.is_some() { SALT_SIZE } else { 0 };
        HEADER_SIZE + salt + self.length + SEAL_SIZE
    }

    /// The header at the beginning of these bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..HEADER_SIZE)?);
        if fields.take::<4>()? != *MARK {
            return None;
        }
        let [flags, zero] = fields.take()?;
        let (chunk, of) = (u16::from_le_bytes(fields.take()?), u16::from_le_bytes(fields.take()?));
        let zeros = fields.take::<2>()?;
        let length = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
        let id = DeliveryId(u64::from_le_bytes(fields.take()?));
        let key = fields.take()?;
        let sound = flags <= ENCRYPTED && zero == 0 && zeros == [0; 2] && chunk < of && length <= CHUNK_CONTENT;
        let key = (flags & ENCRYPTED != 0).then_some(key);
        sound.then_some(Self { place: ChunkPlace { id, chunk, of }, key, length })
    }
}

/// Opens a chunk that should be this one, and appends its content. Nothing when anything of it has changed.
#[must_use]
pub fn open_chunk(chunk: &mut [u8], place: ChunkPlace, sealer: &Sealer, content: &mut Vec<u8>) -> Option<()> {
    let header = ChunkHeader::read(chunk)?;
    if header.place != place || header.size() != chunk.len() || header.key != sealer.key() {
        return None;
    }
    content.extend_from_slice(sealer.open(chunk, place)?);
    Some(())
}

/// Where the parts of a record are in its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordParts {
    /// The name of the route.
    pub route: Range<usize>,
    /// The head.
    pub head: Range<usize>,
    /// The body.
    pub body: Range<usize>,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted: u64,
    /// The key that orders it.
    pub order_key: [u8; 16],
    /// The key under which copies are recognised.
    pub seen_key: [u8; 32],
}

impl RecordParts {
    /// Finds the parts in the content of all chunks. Nothing when the lengths do not add up.
    #[must_use]
    pub fn of(content: &[u8]) -> Option<Self> {
        let mut fields = Fields(content);
        let [version, route, ..] = fields.take::<4>()?;
        if version != CONTENT_VERSION {
            return None;
        }
        let head = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
        let body = usize::try_from(u64::from_le_bytes(fields.take()?)).ok()?;
        let accepted = u64::from_le_bytes(fields.take()?);
        let (order_key, seen_key) = (fields.take()?, fields.take()?);
        let route = PREAMBLE_SIZE..PREAMBLE_SIZE + usize::from(route);
        let head = route.end..route.end.checked_add(head)?;
        let body = head.end..head.end.checked_add(body)?;
        (body.end == content.len()).then_some(Self { route, head, body, accepted, order_key, seen_key })
    }
}

/// Calls `each` with every place in `bytes` at which a chunk seems to begin.
pub fn find_chunks(bytes: &[u8], mut each: impl FnMut(usize, ChunkHeader)) {
    for at in memchr::memmem::find_iter(bytes, MARK) {
        if let Some(header) = bytes.get(at..).and_then(ChunkHeader::read)
            && at + header.size() <= bytes.len()
        {
            each(at, header);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn fresh<'a>(head: &'a [u8], body: &'a [u8]) -> FreshDelivery<'a> {
        FreshDelivery {
            route: "orders",
            head,
            body,
            accepted: 1_795_478_400_123,
            order_key: [1; 16],
            seen_key: [2; 32],
            seen_also: &[],
            seen_until: 0,
        }
    }

    fn written(fresh: &FreshDelivery<'_>, sealer: &Sealer) -> Vec<(ChunkPlace, Vec<u8>)> {
        let mut out = Vec::new();
        let each = |place, chunk: &[u8]| {
            out.push((place, chunk.to_vec()));
            Ok::<(), ()>(())
        };
        write_chunks(fresh, DeliveryId(77), sealer, &mut Vec::new(), each).unwrap();
        out
    }

    fn read(chunks: &[(ChunkPlace, Vec<u8>)], sealer: &Sealer) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        for (place, chunk) in chunks {
            open_chunk(&mut chunk.clone(), *place, sealer, &mut content)?;
        }
        Some(content)
    }

    fn sealers() -> [Sealer; 2] {
        [Sealer::Plain, Sealer::encrypted("2026-11", &[7; 32], &[9; 16]).unwrap()]
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        for sealer in sealers() {
            for length in [0, 1, 2_000, CHUNK_CONTENT - PREAMBLE_SIZE - 6 - 4, CHUNK_CONTENT, 200_000] {
                let body: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
                let fresh = fresh(b"HEAD", &body);
                let chunks = written(&fresh, &sealer);
                assert_eq!(chunks.len(), usize::from(chunks_of(&fresh).unwrap()));
                let salts = chunks.len() * sealer.salt().len();
                assert_eq!(
                    chunks.iter().map(|(_, it)| it.len()).sum::<usize>() as u64,
                    stored_size(&fresh) + salts as u64
                );
                assert!(chunks.iter().all(|(_, chunk)| chunk.len() <= CHUNK_SIZE + sealer.salt().len()));
                let content = read(&chunks, &sealer).unwrap();
                let parts = RecordParts::of(&content).unwrap();
                assert_eq!(&content[parts.route], b"orders");
                assert_eq!(&content[parts.head], b"HEAD");
                assert_eq!(&content[parts.body], body);
                assert_eq!((parts.accepted, parts.order_key, parts.seen_key), (fresh.accepted, [1; 16], [2; 32]));
            }
        }
    }

    #[test]
    fn every_changed_bit_of_a_chunk_is_found() {
        for sealer in sealers() {
            let chunks = written(&fresh(b"HEAD", b"body"), &sealer);
            for bit in 0..chunks[0].1.len() * 8 {
                let mut chunks = chunks.clone();
                chunks[0].1[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(read(&chunks, &sealer), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_chunk_is_not_taken_for_another_one() {
        let [plain, encrypted] = sealers();
        let body = vec![5; 100_000];
        let mut chunks = written(&fresh(b"", &body), &encrypted);
        assert_eq!(read(&chunks, &plain), None);
        assert_eq!(read(&chunks, &Sealer::encrypted("2026-11", &[8; 32], &[9; 16]).unwrap()), None, "another key");
        assert_eq!(read(&chunks, &Sealer::encrypted("2026-10", &[7; 32], &[9; 16]).unwrap()), None, "another name");
        let (first, second) = (chunks[0].1.clone(), chunks[1].1.clone());
        (chunks[0].1, chunks[1].1) = (second, first);
        assert_eq!(read(&chunks, &encrypted), None);
        assert!(Sealer::encrypted("short", &[7; 31], &[0; 16]).is_none());
    }

    #[test]
    fn bodies_are_not_in_the_clear_when_they_are_encrypted() {
        let [plain, encrypted] = sealers();
        let holds = |sealer| {
            let chunks = written(&fresh(b"HEAD", b"a body to look for"), sealer);
            memchr::memmem::find(&chunks[0].1, b"a body to look for").is_some()
        };
        assert!(holds(&plain) && !holds(&encrypted));
    }

    #[test]
    fn what_one_opening_wrote_every_other_one_reads_and_none_encrypts_alike() {
        let sealers = [[9; 16], [8; 16]].map(|salt| Sealer::encrypted("2026-11", &[7; 32], &salt).unwrap());
        let body = vec![5; 100_000];
        let [first, second] = [0, 1].map(|at: usize| written(&fresh(b"HEAD", &body), &sealers[at]));
        assert_eq!(read(&first, &sealers[1]), read(&second, &sealers[0]));
        assert!(read(&first, &sealers[1]).is_some());
        // Under the same nonce: equal ciphertexts would say that the key is the same, and their difference what is in them.
        let alike = first[0].1[HEADER_SIZE + SALT_SIZE..].iter().zip(&second[0].1[HEADER_SIZE + SALT_SIZE..]);
        let alike = alike.filter(|(one, other)| one == other).count();
        assert!(alike < first[0].1.len() / 128, "{alike} bytes");
        let check = |key| Sealer::encrypted("any", &[key; 32], &[1; 16]).unwrap().check();
        assert_eq!(sealers[0].check(), check(7));
        assert_ne!(sealers[0].check(), check(8));
        assert_eq!(Sealer::Plain.check(), None);
    }

    #[test]
    fn chunks_are_found_between_other_bytes() {
        let body = vec![5; 100_000];
        let chunks = written(&fresh(b"", &body), &Sealer::Plain);
        let mut file = b"CSRCSR1CSR1 and no chunk".to_vec();
        chunks.iter().for_each(|(_, chunk)| file.extend([&b"page"[..], chunk].concat()));
        file.extend(&chunks[0].1[..500]);
        let mut found = Vec::new();
        find_chunks(&file, |at, header| found.push((header.place, file[at..at + header.size()].to_vec())));
        assert_eq!(found, chunks);
    }

    proptest! {
        #[test]
        fn anything_can_be_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = RecordParts::of(&bytes);
            let place = ChunkPlace { id: DeliveryId(1), chunk: 0, of: 1 };
            let mut marked = [&MARK[..], &bytes].concat();
            let _ = open_chunk(&mut marked, place, &Sealer::Plain, &mut Vec::new());
            find_chunks(&marked, |_, _| {});
        }
    }
}
