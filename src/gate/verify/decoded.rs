//! Bodies that a sender has signed before it compressed them (`content_encoding = "decoded"`): verified as what they
//! decompress to, and forwarded as they came.
//!
//! Everything is bounded before it is known whether the delivery is genuine: how large the result becomes, how many times
//! the body it is, and thereby how long it takes. Only one member or stream is read, and nothing may follow it: a receiver
//! that reads on would read what no signature covers.

use std::borrow::Cow;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use super::{Delivery, crc32};
use crate::outcome::Rejection;
use crate::wire::headers::Headers;

/// Whether the sender signs the body as it is sent, or before it compresses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignedBody {
    /// As it is sent.
    #[default]
    AsReceived,
    /// As it is behind its `Content-Encoding`.
    Decoded,
}

/// How many times its own length a body may become. Events that repeat themselves are compressed to a fiftieth.
const RATIO_LIMIT: usize = 100;
/// What every body may become, however short it is.
const FREE: usize = 64 << 10;
/// How much is decompressed at a time.
const STEP: usize = 32 << 10;

/// The most bytes that a body of this length may become, where a route takes bodies of `limit` bytes.
pub(super) fn bound(length: usize, limit: usize) -> usize {
    length.saturating_mul(RATIO_LIMIT).saturating_add(FREE).min(limit)
}

/// The body behind its `Content-Encoding`; as it is without one.
pub(super) fn body<'d, D: Delivery>(delivery: &'d D, limit: usize) -> Result<Cow<'d, [u8]>, Rejection> {
    let body = delivery.body();
    let coding = delivery.headers().unique("content-encoding").map_err(|_| Rejection::CompressionUnreadable)?;
    let bound = bound(body.len(), limit);
    let is = |name: &[u8]| coding.is_some_and(|coding| coding.eq_ignore_ascii_case(name));
    match coding {
        None => Ok(Cow::Borrowed(body)),
        Some(b"") => Ok(Cow::Borrowed(body)),
        Some(_) if is(b"identity") => Ok(Cow::Borrowed(body)),
        Some(_) if is(b"gzip") || is(b"x-gzip") => {
            let (stream, trailer) = gzip_stream(body).ok_or(Rejection::CompressionUnreadable)?;
            let text = decompress(stream, DataFormat::Raw, bound)?;
            if trailer != trailer_of(&text) {
                return Err(Rejection::CompressionUnreadable);
            }
            Ok(Cow::Owned(text))
        }
        Some(_) if is(b"deflate") => decompress(body, DataFormat::Zlib, bound).map(Cow::Owned),
        Some(_) => Err(Rejection::CompressionUnreadable),
    }
}

/// Checksum and length, as a gzip member ends with (RFC 1952, section 2.3.1). A receiver refuses a member with others: then
/// a copy with another end would take the place of the genuine delivery.
fn trailer_of(text: &[u8]) -> [u8; 8] {
    let length = u32::try_from(text.len() & 0xffff_ffff).unwrap_or_default();
    let [a, b, c, d] = crc32::of(text).to_le_bytes();
    let [e, f, g, h] = length.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// What stands between the header and the trailer of a gzip member (RFC 1952, section 2.3), and the trailer.
fn gzip_stream(body: &[u8]) -> Option<(&[u8], [u8; 8])> {
    const EXTRA: u8 = 4;
    const TEXTS: [u8; 2] = [8, 16];
    const CHECKSUM: u8 = 2;
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, rest @ ..] = body else { return None };
    let mut rest = rest;
    if flags & EXTRA != 0 {
        let [low, high, behind @ ..] = rest else { return None };
        rest = behind.get(usize::from(u16::from_le_bytes([*low, *high]))..)?;
    }
    for _ in TEXTS.iter().filter(|flag| flags & **flag != 0) {
        rest = rest.get(memchr::memchr(0, rest)? + 1..)?;
    }
    if flags & CHECKSUM != 0 {
        rest = rest.get(2..)?;
    }
    let (stream, trailer) = rest.split_last_chunk()?;
    Some((stream, *trailer))
}

/// Decompresses all of `stream`, to at most `bound` bytes.
fn decompress(stream: &[u8], format: DataFormat, bound: usize) -> Result<Vec<u8>, Rejection> {
    let mut state = InflateState::new_boxed(format);
    let mut out: Vec<u8> = Vec::new();
    let mut rest = stream;
    loop {
        let start = out.len();
        // One byte more than allowed shows that there is more.
        let room = STEP.min(bound.saturating_add(1).saturating_sub(start));
        if room == 0 {
            return Err(Rejection::CompressionBomb);
        }
        out.resize(start + room, 0);
        let result = inflate(&mut state, rest, out.get_mut(start..).unwrap_or_default(), MZFlush::None);
        out.truncate(start + result.bytes_written);
        rest = rest.get(result.bytes_consumed..).unwrap_or_default();
        match result.status {
            _ if out.len() > bound => return Err(Rejection::CompressionBomb),
            Ok(MZStatus::StreamEnd) if rest.is_empty() => return Ok(out),
            Ok(MZStatus::Ok) if result.bytes_written > 0 || result.bytes_consumed > 0 => {}
            _ => return Err(Rejection::CompressionUnreadable),
        }
    }
}

/// A delivery with what its body decompresses to.
pub(super) struct Decompressed<'d, D> {
    pub(super) delivery: &'d D,
    pub(super) body: Cow<'d, [u8]>,
}

impl<D: Delivery> Delivery for Decompressed<'_, D> {
    fn method(&self) -> &[u8] {
        self.delivery.method()
    }

    fn target(&self) -> &[u8] {
        self.delivery.target()
    }

    fn headers(&self) -> Headers<'_> {
        self.delivery.headers()
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::for_tests::Request;
    use super::*;
    use crate::wire::headers::HeaderBuf;

    const LIMIT: usize = 1 << 20;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let deflated = miniz_oxide::deflate::compress_to_vec(text, 9);
        [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], b"name\0", &deflated, &trailer_of(text)].concat()
    }

    fn read(coding: &str, body: Vec<u8>) -> Result<Vec<u8>, Rejection> {
        let mut headers = HeaderBuf::default();
        if !coding.is_empty() {
            headers.push("Content-Encoding", coding.as_bytes());
        }
        let request = Request { method: "POST".into(), target: "/".into(), headers, body };
        super::body(&request, LIMIT).map(Cow::into_owned)
    }

    #[test]
    fn what_is_compressed_is_read() {
        let text = b"{\"a\":1}".repeat(5000);
        assert_eq!(read("gzip", gzip(&text)), Ok(text.clone()));
        assert_eq!(read("X-GZIP", gzip(b"")), Ok(Vec::new()));
        assert_eq!(read("deflate", miniz_oxide::deflate::compress_to_vec_zlib(&text, 6)), Ok(text.clone()));
        assert_eq!(read("identity", text.clone()), Ok(text.clone()));
        assert_eq!(read("", text.clone()), Ok(text));
    }

    #[test]
    fn bombs_are_stopped_by_size_and_by_ratio() {
        for length in [LIMIT + 1, 64 << 20] {
            assert_eq!(read("gzip", gzip(&vec![b'['; length])), Err(Rejection::CompressionBomb), "{length}");
        }
        // Far below the limit, and three hundred times as long as what was sent.
        let zeros = vec![0; 300 << 10];
        assert!(gzip(&zeros).len() < 1024);
        assert_eq!(read("gzip", gzip(&zeros)), Err(Rejection::CompressionBomb));
        assert_eq!(read("gzip", gzip(&zeros[..FREE])).map(|out| out.len()), Ok(FREE));
    }

    #[test]
    fn what_is_broken_or_followed_by_more_is_refused() {
        let good = gzip(b"{}");
        let twice = [good.clone(), good.clone()].concat();
        let trailing = [miniz_oxide::deflate::compress_to_vec_zlib(b"{}", 6), b"x".to_vec()].concat();
        for (coding, body) in [
            ("gzip", b"{}".to_vec()),
            ("gzip", Vec::new()),
            ("gzip", good[..good.len() - 9].to_vec()),
            ("gzip", good[..12].to_vec()),
            ("gzip", twice),
            ("gzip", [&good[..good.len() - 8], &[0; 8]].concat()),
            ("gzip", [&good[..good.len() - 1], &[1]].concat()),
            ("gzip", [&good[..], b"x"].concat()),
            ("deflate", trailing),
            ("br", b"{}".to_vec()),
            ("gzip, gzip", good.clone()),
        ] {
            assert_eq!(read(coding, body.clone()), Err(Rejection::CompressionUnreadable), "{coding} {body:?}");
        }
    }
}
