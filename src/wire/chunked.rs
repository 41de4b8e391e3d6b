//! Decoding a chunked body while it arrives (RFC 9112 section 7.1).
//!
//! The decoder keeps no bytes: it says which of the caller's bytes are syntax and which are payload, so that a request
//! body can be compacted where it lies and a response streamed through. Everything a sender can make long is bounded:
//! digits, extensions, trailers, payload. Extensions and trailers are checked by grammar and dropped; the only line
//! end is CRLF.

use crate::outcome::Rejection;
use crate::wire::characters::{hex_digit, is_token_byte};

/// Digits of one size, leading zeros included.
const MAX_DIGITS: u8 = 16;
/// Bytes of all extensions of a body, white space and leading zeros included.
const MAX_EXTENSIONS: u32 = 16 * 1024;
/// Bytes of the trailer section.
const MAX_TRAILERS: u32 = 8 * 1024;
/// Fields of the trailer section.
const MAX_TRAILER_FIELDS: u32 = 32;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkError {
    /// It breaks the grammar, or one of the bounds on its syntax.
    Malformed,
    /// It is, or says that it will be, longer than the limit.
    TooLarge,
}

impl From<ChunkError> for Rejection {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Malformed => Self::ChunkMalformed,
            ChunkError::TooLarge => Self::BodyTooLarge,
        }
    }
}

/// What the next bytes are: `skip` bytes of syntax, then `data` bytes of payload. Both count as consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decoded {
    /// Bytes of syntax at the front of the input.
    pub skip: usize,
    /// Bytes of payload after them.
    pub data: usize,
    /// The body has ended after these bytes; what follows is not of this message.
    pub done: bool,
}

/// What [`ChunkDecoder::compact`] has made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Compacted {
    /// Bytes of payload, now at the front.
    pub data: usize,
    /// Bytes of the input that have been looked at. Fewer than all only when the body has ended.
    pub consumed: usize,
    /// The body has ended.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// The digits of a size.
    Size { digits: u8, value: u64 },
    /// Between a size and the end of its line.
    Extension { value: u64, at: Extension },
    /// The line feed of a size line.
    SizeLf { value: u64 },
    /// Payload; never empty.
    Data { left: u64 },
    /// The carriage return behind payload.
    DataCr,
    /// The line feed behind payload.
    DataLf,
    /// After the last chunk.
    Trailer(Trailer),
    /// The body has ended.
    Done,
    /// The body is refused.
    Refused(ChunkError),
}

/// chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
}

/// trailer-section = *( field-line CRLF ), and then an empty line
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailer {
    LineStart,
    Name,
    Value,
    LineFeed,
    LastLineFeed,
}

/// Decodes one chunked body.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: ChunkState,
    max_body: u64,
    received: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailer_fields: u32,
}

impl Default for ChunkDecoder {
    /// Without a limit on the payload: for a body that is streamed and not kept.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl ChunkDecoder {
    /// A decoder of a body of at most `max_body` bytes of payload.
    #[must_use]
    pub const fn new(max_body: u64) -> Self {
        let state = ChunkState::Size { digits: 0, value: 0 };
        Self { state, max_body, received: 0, extension_bytes: 0, trailer_bytes: 0, trailer_fields: 0 }
    }

    /// Bytes of payload so far.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Whether the body has ended.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }

    /// Says what the first bytes of `input` are; the next call is given what follows `skip + data`. At least one byte
    /// is consumed while there is one and the body has not ended. How the input is split changes nothing.
    ///
    /// # Errors
    /// [`ChunkError`], and the same one again on every later call.
    pub fn next(&mut self, input: &[u8]) -> Result<Decoded, ChunkError> {
        let mut skip = 0;
        for byte in input {
            if matches!(self.state, ChunkState::Data { .. } | ChunkState::Done) {
                break;
            }
            self.state = self.after(*byte).unwrap_or_else(ChunkState::Refused);
            skip += 1;
        }
        match self.state {
            ChunkState::Refused(error) => Err(error),
            ChunkState::Data { left } => {
                let available = input.len() - skip;
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(available);
                let taken = data as u64;
                self.received += taken;
                self.state = if taken == left { ChunkState::DataCr } else { ChunkState::Data { left: left - taken } };
                Ok(Decoded { skip, data, done: false })
            }
            ChunkState::Done => Ok(Decoded { skip, data: 0, done: true }),
            _ => Ok(Decoded { skip, data: 0, done: false }),
        }
    }

    /// Decodes all of `bytes` and moves the payload to the front of it. What follows the end of the body is left
    /// where it is, from `consumed` on.
    ///
    /// # Errors
    /// [`ChunkError`]; the contents of `bytes` are then of no use.
    pub fn compact(&mut self, bytes: &mut [u8]) -> Result<Compacted, ChunkError> {
        let (mut data, mut consumed) = (0, 0);
        loop {
            let step = self.next(bytes.get(consumed..).unwrap_or_default())?;
            let start = consumed + step.skip;
            if data != start {
                bytes.copy_within(start..start + step.data, data);
            }
            data += step.data;
            consumed = start + step.data;
            if step.done || consumed >= bytes.len() {
                return Ok(Compacted { data, consumed, done: self.is_done() });
            }
        }
    }

    /// The state after a byte of syntax.
    fn after(&mut self, byte: u8) -> Result<ChunkState, ChunkError> {
        match (self.state, byte) {
            (ChunkState::Size { digits, value }, _) => self.after_size(digits, value, byte),
            (ChunkState::Extension { value, at }, _) => self.after_extension(value, at, byte),
            (ChunkState::SizeLf { value: 0 }, b'\n') => Ok(ChunkState::Trailer(Trailer::LineStart)),
            (ChunkState::SizeLf { value }, b'\n') => Ok(ChunkState::Data { left: value }),
            (ChunkState::DataCr, b'\r') => Ok(ChunkState::DataLf),
            (ChunkState::DataLf, b'\n') => Ok(ChunkState::Size { digits: 0, value: 0 }),
            (ChunkState::Trailer(at), _) => self.after_trailer(at, byte),
            (ChunkState::Refused(error), _) => Err(error),
            _ => Err(ChunkError::Malformed),
        }
    }

    fn after_size(&mut self, digits: u8, value: u64, byte: u8) -> Result<ChunkState, ChunkError> {
        match (hex_digit(byte), byte) {
            (Some(_), _) if digits >= MAX_DIGITS => Err(ChunkError::Malformed),
            (Some(digit), _) => {
                if digits > 0 && value == 0 {
                    self.count_extension_byte()?;
                }
                // 16 digits are 64 bits: the shift loses nothing.
                let value = value << 4 | u64::from(digit);
                if value > self.max_body - self.received {
                    return Err(ChunkError::TooLarge);
                }
                Ok(ChunkState::Size { digits: digits + 1, value })
            }
            _ if digits == 0 => Err(ChunkError::Malformed),
            (None, b'\r') => Ok(ChunkState::SizeLf { value }),
            (None, _) => self.after_extension(value, Extension::BeforeSemicolon, byte),
        }
    }

    fn after_extension(&mut self, value: u64, at: Extension, byte: u8) -> Result<ChunkState, ChunkError> {
        use Extension as E;
        self.count_extension_byte()?;
        let next = match (at, byte) {
            (E::BeforeSemicolon | E::AfterName | E::Name | E::Token | E::AfterQuoted, b';') => E::BeforeName,
            (E::Name | E::AfterName, b'=') => E::BeforeValue,
            // White space may stand around the separators, not before the end of the line.
            (E::BeforeSemicolon | E::BeforeName | E::AfterName | E::BeforeValue, b' ' | b'\t') => at,
            (E::Name, b' ' | b'\t') => E::AfterName,
            (E::Token | E::AfterQuoted, b' ' | b'\t') => E::BeforeSemicolon,
            (E::Name | E::Token | E::AfterQuoted, b'\r') => return Ok(ChunkState::SizeLf { value }),
            (E::BeforeValue, b'"') => E::Quoted,
            (E::Quoted, b'"') => E::AfterQuoted,
            (E::Quoted, b'\\') => E::Escaped,
            (E::Quoted | E::Escaped, b'\t' | b' '..=b'~' | 0x80..) => E::Quoted,
            (E::BeforeName | E::Name, _) if is_token_byte(byte) => E::Name,
            (E::BeforeValue | E::Token, _) if is_token_byte(byte) => E::Token,
            _ => return Err(ChunkError::Malformed),
        };
        Ok(ChunkState::Extension { value, at: next })
    }

    fn after_trailer(&mut self, at: Trailer, byte: u8) -> Result<ChunkState, ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILERS {
            return Err(ChunkError::Malformed);
        }
        let next = match (at, byte) {
            (Trailer::LineStart, b'\r') => Trailer::LastLineFeed,
            (Trailer::LastLineFeed, b'\n') => return Ok(ChunkState::Done),
            (Trailer::LineStart, _) if is_token_byte(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > MAX_TRAILER_FIELDS {
                    return Err(ChunkError::Malformed);
                }
                Trailer::Name
            }
            (Trailer::Name, b':') => Trailer::Value,
            (Trailer::Name, _) if is_token_byte(byte) => Trailer::Name,
            (Trailer::Value, b'\r') => Trailer::LineFeed,
            (Trailer::Value, b'\t' | b' '..=b'~' | 0x80..) => Trailer::Value,
            (Trailer::LineFeed, b'\n') => Trailer::LineStart,
            _ => return Err(ChunkError::Malformed),
        };
        Ok(ChunkState::Trailer(next))
    }

    fn count_extension_byte(&mut self) -> Result<(), ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSIONS { Err(ChunkError::Malformed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::wire::encode::{LAST_CHUNK, chunk_header};

    /// Payload, bytes left over and whether the body ended, fed in pieces of at most `piece` bytes.
    fn decode(input: &[u8], piece: usize, max_body: u64) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut decoder = ChunkDecoder::new(max_body);
        let (mut payload, mut at) = (Vec::new(), 0);
        while at < input.len() && !decoder.is_done() {
            let end = (at + piece).min(input.len());
            let step = decoder.next(&input[at..end])?;
            assert!(step.done || step.skip + step.data > 0, "progress");
            payload.extend_from_slice(&input[at + step.skip..at + step.skip + step.data]);
            at += step.skip + step.data;
        }
        assert_eq!(decoder.received(), payload.len() as u64);
        Ok((payload, input.len() - at, decoder.is_done()))
    }

    fn whole(input: &[u8]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        decode(input, usize::MAX / 2, u64::MAX)
    }

    #[test]
    fn a_body_ends_with_its_last_chunk_and_leaves_the_rest() {
        let (payload, left, done) = whole(b"5\r\nhello\r\n00A;a=b\r\n0123456789\r\n0\r\n\r\nGET /").unwrap();
        assert_eq!((payload.as_slice(), left, done), (&b"hello0123456789"[..], 5, true));
        let mut decoder = ChunkDecoder::default();
        assert_eq!(decoder.next(LAST_CHUNK), Ok(Decoded { skip: 5, data: 0, done: true }));
        assert_eq!(decoder.next(b"5\r\n"), Ok(Decoded { skip: 0, data: 0, done: true }));
    }

    #[test]
    fn good_syntax_passes() {
        for good in [
            "0\r\n\r\n",
            "0000000000000000\r\n\r\n",
            "0;a\r\n\r\n",
            "0 ; a = b ;c\t=\t\"d \\\" ; e\" ; f\r\n\r\n",
            "0;a=\"\"\r\n\r\n",
            "0\r\nA: b\r\nX-Y:\r\n\r\n",
            "0\r\nA: caf\u{e9}\tb\r\n\r\n",
            "aB\r\n",
        ] {
            let (payload, left, done) = whole(good.as_bytes()).unwrap_or_else(|e| panic!("{good:?}: {e:?}"));
            assert_eq!((payload.len(), left, done), (0, 0, good != "aB\r\n"), "{good:?}");
        }
    }

    #[test]
    fn broken_syntax_is_malformed() {
        #[rustfmt::skip]
        let broken = [
            "\r\n", "\n", ";a\r\n", " 5\r\n", "+5\r\n", "-5\r\n", "0x5\r\n", "5_0\r\n", "G\r\n", "5\n", "5\r5",
            "5\r\r", "5 \r\n", "5;\r\n", "5; \r\n", "5;a \r\n", "5;a=\r\n", "5;a= \r\n", "5;a==b\r\n", "5;=b\r\n",
            "5;a=b c\r\n", "5;a=\"b\r\n", "5;a=\"b\"c\r\n", "5;a=\"\x01\"\r\n", "5;a=\"\x7f\"\r\n", "5;a\n",
            "5;a\0\r\n", "5;a=b\rc\r\n", "5;a=\"\\\r\n", "00000000000000000\r\n", "1\r\nab", "1\r\na\n",
            "1\r\na\r\r", "1\r\na\r\n\r\n", "0\r\n\n", "0\r\n\r\r", "0\r\n a: b\r\n", "0\r\na b: c\r\n",
            "0\r\na : c\r\n", "0\r\n: c\r\n", "0\r\na\r\n", "0\r\na: b\n", "0\r\na: \0\r\n", "0\r\na: b\rc\r\n",
            "0\r\na: b\r\n c\r\n", "0\r\na: \x7f\r\n", "5,5\r\n", "5\t\r\n", "5\x0b;a\r\n",
        ];
        for bad in broken {
            assert_eq!(whole(bad.as_bytes()), Err(ChunkError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = ChunkDecoder::default();
        assert_eq!(decoder.next(b"\n"), Err(ChunkError::Malformed));
        assert_eq!(decoder.next(b"0\r\n\r\n"), Err(ChunkError::Malformed));
        assert_eq!(decoder.next(b""), Err(ChunkError::Malformed));
    }

    #[test]
    fn the_payload_is_bounded_before_it_arrives() {
        assert_eq!(decode(b"5\r\nhello\r\n0\r\n\r\n", 99, 5).unwrap().0, b"hello");
        assert_eq!(decode(b"6", 99, 5), Err(ChunkError::TooLarge));
        assert_eq!(decode(b"5\r\nhello\r\n1", 99, 5), Err(ChunkError::TooLarge));
        assert!(decode(b"0\r\n\r\n", 99, 0).unwrap().2);
        assert_eq!(decode(b"ffffffffffffffff", 99, u64::MAX - 1), Err(ChunkError::TooLarge));
        assert_eq!(decode(b"1\r\na\r\nffffffffffffffff", 99, u64::MAX), Err(ChunkError::TooLarge));
        assert_eq!(decode(b"ffffffffffffffff\r\nabc", 99, u64::MAX).unwrap().0, b"abc");
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_body() {
        let body = |len: usize| format!("1;{}\r\na\r\n0;a\r\n\r\n", "x".repeat(len)).into_bytes();
        // Both semicolons, both carriage returns and the second name count.
        let room = MAX_EXTENSIONS as usize - 5;
        assert!(whole(&body(room)).unwrap().2);
        assert_eq!(whole(&body(room + 1)), Err(ChunkError::Malformed));
        let zeros = b"000000000000001\r\na\r\n".repeat(MAX_EXTENSIONS as usize / 13);
        assert_eq!(whole(&zeros), Err(ChunkError::Malformed));
    }

    #[test]
    fn trailers_are_bounded() {
        let body = |fields: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(fields)).into_bytes();
        assert!(whole(&body(MAX_TRAILER_FIELDS as usize)).unwrap().2);
        assert_eq!(whole(&body(MAX_TRAILER_FIELDS as usize + 1)), Err(ChunkError::Malformed));
        let body = |len: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(len)).into_bytes();
        let room = MAX_TRAILERS as usize - 6;
        assert!(whole(&body(room)).unwrap().2);
        assert_eq!(whole(&body(room + 1)), Err(ChunkError::Malformed));
    }

    #[test]
    fn compacting_leaves_what_follows() {
        let mut bytes = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nrest".to_vec();
        let compacted = ChunkDecoder::default().compact(&mut bytes).unwrap();
        assert_eq!(compacted, Compacted { data: 5, consumed: 20, done: true });
        assert_eq!((&bytes[..5], &bytes[20..]), (&b"abcde"[..], &b"rest"[..]));
    }

    fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            chunk_header(&mut out, chunk.len());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(LAST_CHUNK);
        out
    }

    /// Bytes that are likely to be chunk syntax.
    fn syntax() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "0",
            "1",
            "5",
            "a",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            ";",
            "a=b",
            "=",
            "\"",
            "\\",
            " ",
            "hello",
            ": ",
            "\0",
            "1\r\na\r\n",
            "0\r\n",
            "é",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6), piece in 1_usize..50) {
            let encoded = encode(&chunks);
            let (payload, left, done) = decode(&encoded, piece, u64::MAX).unwrap();
            prop_assert_eq!(&payload, &chunks.concat());
            prop_assert_eq!((left, done), (0, true));
            let mut bytes = encoded.clone();
            let compacted = ChunkDecoder::default().compact(&mut bytes).unwrap();
            prop_assert_eq!(&bytes[..compacted.data], payload.as_slice());
        }

        #[test]
        fn splitting_changes_nothing(input in syntax(), piece in 1_usize..8) {
            prop_assert_eq!(decode(&input, piece, 8), decode(&input, 4096, 8));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&input, 3, 100);
        }
    }
}
