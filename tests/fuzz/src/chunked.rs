//! Chunked bodies: the same in whatever pieces they come, and never longer than allowed.

use countersign::wire::chunked::{ChunkDecoder, ChunkError};
use countersign::wire::encode::{LAST_CHUNK, chunk_header};

const MAX_BODY: u64 = 64;

/// The whole input is a chunked body and what follows it.
pub fn run(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1));
    for piece in [1, 2, 7] {
        assert_eq!(decode(bytes, piece), whole);
    }
    let mut compacted = bytes.to_vec();
    match (ChunkDecoder::new(MAX_BODY).compact(&mut compacted), whole) {
        (Ok(compact), Ok((payload, consumed, done))) => {
            assert_eq!((&compacted[..compact.data], compact.consumed, compact.done), (&payload[..], consumed, done));
            assert_eq!(compacted[consumed..], bytes[consumed..]);
            encoded_again(&payload);
        }
        (Err(one), Err(other)) => assert_eq!(one, other),
        (compact, whole) => panic!("{compact:?} and {whole:?}"),
    }
}

/// Payload, bytes consumed, and whether the body ended.
fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let mut decoder = ChunkDecoder::new(MAX_BODY);
    let (mut payload, mut at) = (Vec::new(), 0);
    while at < bytes.len() && !decoder.is_done() {
        let step = decoder.next(&bytes[at..bytes.len().min(at + piece)])?;
        assert!(step.skip + step.data > 0, "no progress");
        payload.extend_from_slice(&bytes[at + step.skip..at + step.skip + step.data]);
        at += step.skip + step.data;
    }
    assert!(decoder.received() == payload.len() as u64 && decoder.received() <= MAX_BODY);
    Ok((payload, at, decoder.is_done()))
}

fn encoded_again(payload: &[u8]) {
    let mut encoded = Vec::new();
    for chunk in payload.chunks(5) {
        chunk_header(&mut encoded, chunk.len());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(LAST_CHUNK);
    assert_eq!(decode(&encoded, 3), Ok((payload.to_vec(), encoded.len(), true)));
}
