//! Buffers for records on their way, one pool per worker. A connection has one only while it needs it.

use std::cell::RefCell;

/// What the client sends at most in one record: 16 KiB, and what encryption adds (RFC 5246, section 6.2.3), with its
/// header. A buffer holds one whole record and the beginning of the next.
pub const RECORD: usize = 5 + (16 << 10) + 2048;

/// Bytes of a buffer.
pub const CAPACITY: usize = 21 << 10;

/// How much is encrypted into one buffer at most: one full record and a part of another.
pub const PIECE: usize = 20 << 10;

/// Idle buffers that a worker keeps.
const KEPT: usize = 64;

const _: () = assert!(CAPACITY > RECORD && CAPACITY > PIECE + 512);

/// Buffers that wait for their next use.
#[derive(Debug, Default)]
pub struct RecordBuffers {
    idle: RefCell<Vec<Vec<u8>>>,
}

impl RecordBuffers {
    /// An empty buffer.
    #[must_use]
    pub fn lease(&self) -> Vec<u8> {
        self.idle.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(CAPACITY))
    }

    /// Takes a buffer back, or lets it go if it is of another size or there are plenty.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let mut idle = self.idle.borrow_mut();
        if buffer.capacity() == CAPACITY && idle.len() < KEPT {
            buffer.clear();
            idle.push(buffer);
        }
    }
}
