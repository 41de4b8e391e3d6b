//! Pooled buffers, one pool per worker.
//!
//! Every buffer begins with [`HEADROOM`] bytes that are never received into. What is sent onward has another head
//! than what arrived; it is written into that room, directly before the body, so that head and body leave in one
//! piece without the body ever being moved.

use std::cell::RefCell;
use std::rc::Rc;

use crate::edge::door::tls::records::RecordBuffers;

/// Bytes in front of what is received: how much longer a head that we send may be than the one that came.
pub const HEADROOM: usize = 1024;

/// Capacities, and how many idle buffers of each a worker keeps. The smallest holds the head of a usual delivery and
/// a small body; the others leave room for a head beside a body of 16 KiB, 64 KiB, 256 KiB, 1 MiB.
const CLASSES: [(usize, usize); 5] = [(4 << 10, 256), (20 << 10, 64), (72 << 10, 32), (272 << 10, 8), (1040 << 10, 4)];

/// The smallest capacity that is handed out.
pub const SMALLEST: usize = CLASSES[0].0;

/// The largest capacity that any connection may have without being charged for it: the worst case of memory counts
/// as much for each.
pub const UNCHARGED: usize = CLASSES[1].0;

/// Buffers that wait for their next use.
#[derive(Debug, Default)]
pub struct BufferPool {
    idle: [RefCell<Vec<Vec<u8>>>; CLASSES.len()],
    /// Those of encrypted connections.
    pub records: Rc<RecordBuffers>,
}

impl BufferPool {
    /// The capacity of a buffer that can receive at least `room` bytes.
    #[must_use]
    pub fn capacity_for(room: usize) -> usize {
        let wanted = HEADROOM.saturating_add(room);
        CLASSES.iter().map(|(capacity, _)| *capacity).find(|capacity| *capacity >= wanted).unwrap_or(wanted)
    }

    /// A buffer that can receive at least `room` bytes. Its length is [`HEADROOM`].
    #[must_use]
    pub fn lease(&self, room: usize) -> Vec<u8> {
        self.lease_of(Self::capacity_for(room))
    }

    /// A buffer of exactly this capacity, whether the pool keeps such or not. Its length is [`HEADROOM`].
    #[must_use]
    pub fn lease_of(&self, capacity: usize) -> Vec<u8> {
        let class = CLASSES.iter().zip(&self.idle).find(|((kind, _), _)| *kind == capacity);
        if let Some(buffer) = class.and_then(|(_, idle)| idle.borrow_mut().pop()) {
            return buffer;
        }
        let mut buffer = Vec::with_capacity(capacity.max(HEADROOM));
        buffer.resize(HEADROOM, 0);
        buffer
    }

    /// Takes a buffer back, or lets it go when its kind is plentiful.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let class = CLASSES.iter().zip(&self.idle).find(|((capacity, _), _)| *capacity == buffer.capacity());
        if let Some(((_, keep), idle)) = class {
            let mut idle = idle.borrow_mut();
            if idle.len() < *keep && buffer.len() >= HEADROOM {
                buffer.truncate(HEADROOM);
                idle.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_large_enough() {
        let pool = BufferPool::default();
        let mut buffer = pool.lease(10_000);
        let address = buffer.as_ptr();
        assert_eq!(buffer.len(), HEADROOM);
        assert!(buffer.capacity() - buffer.len() >= 10_000);
        buffer.extend_from_slice(&[7; 9_000]);
        pool.give_back(buffer);
        let again = pool.lease(10_000);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), HEADROOM);
    }

    #[test]
    fn oversized_and_foreign_buffers_are_not_kept() {
        let pool = BufferPool::default();
        let huge = pool.lease(8 << 20);
        assert!(huge.capacity() >= (8 << 20) + HEADROOM);
        pool.give_back(huge);
        pool.give_back(Vec::new());
        assert!(pool.idle.iter().all(|idle| idle.borrow().is_empty()));
    }
}
