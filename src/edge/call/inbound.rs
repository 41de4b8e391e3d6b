//! One request as it arrives: the bytes, and what has been understood of them so far.
//!
//! Head and body lie one behind the other in one buffer, as they came from the socket. A body that does not fit moves
//! once, together with the head, into a buffer of the size it needs; from then on everything lands in place. A
//! chunked body is compacted in place: the syntax between the chunks is closed up as it arrives.

use crate::gate::verify::Delivery;
use crate::outcome::Rejection;
use crate::wire::chunked::{ChunkDecoder, ChunkError};
use crate::wire::head::{HeadLimits, HeadScan, RequestHead};
use crate::wire::headers::Headers;

use crate::edge::runtime::buffer::{BufferPool, HEADROOM, SMALLEST, UNCHARGED};

/// The request that a connection is receiving.
#[derive(Debug)]
pub struct Inbound {
    buf: Vec<u8>,
    /// First byte of this request.
    origin: usize,
    scan: HeadScan,
    head: RequestHead,
    /// End of the head, start of the body.
    body_start: usize,
    /// End of the body, as far as it has arrived.
    body_end: usize,
    /// First byte that has not been looked at as part of this request.
    unread: usize,
    /// How large a buffer the last request needed; the next one starts with as much.
    usual: usize,
}

/// A buffer that a body needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Its capacity in bytes.
    capacity: usize,
    /// Bytes of the body memory that have to be granted for it first.
    pub charge: usize,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            buf: Vec::new(),
            origin: HEADROOM,
            scan: HeadScan::default(),
            head: RequestHead::default(),
            body_start: HEADROOM,
            body_end: HEADROOM,
            unread: HEADROOM,
            usual: 0,
        }
    }
}

impl Inbound {
    /// Makes sure that there is a buffer, as large as the connection's requests usually are.
    pub fn hold_buffer(&mut self, pool: &BufferPool) {
        if self.buf.is_empty() {
            self.buf = pool.lease(self.usual.max(SMALLEST - HEADROOM));
        }
    }

    /// Lets the buffer go, if nothing in it is needed.
    pub fn release_buffer(&mut self, pool: &BufferPool) {
        if self.has_received() {
            return;
        }
        pool.give_back(std::mem::take(&mut self.buf));
    }

    /// Lets the buffer go, whatever is in it.
    pub fn forget(&mut self, pool: &BufferPool) {
        pool.give_back(std::mem::take(&mut self.buf));
    }

    /// Between two requests: gives a buffer back that is larger than the connection needs. What has come of the next
    /// request moves to one that fits: one byte of it must not hold the memory of a body that is no longer charged.
    pub fn settle(&mut self, pool: &BufferPool) {
        if self.buf.capacity() <= USUAL_LIMIT + 2 * HEADROOM {
            return;
        }
        let received = self.received().len();
        if received == 0 {
            self.release_buffer(pool);
        } else if BufferPool::capacity_for(received) <= self.buf.capacity() / 2 {
            self.move_to(pool, received);
        }
    }

    /// Whether bytes of the next request are here already.
    pub fn has_received(&self) -> bool {
        self.buf.len() > self.origin
    }

    /// What has arrived since the last request.
    pub fn received(&self) -> &[u8] {
        self.buf.get(self.origin..).unwrap_or_default()
    }

    /// Steps over bytes that belong to no request.
    pub fn step_over(&mut self, length: usize) {
        self.unread = self.origin + length;
        self.advance();
    }

    /// Whether a request has begun: empty lines before one (RFC 9112 section 2.2) leave a connection idle.
    pub fn has_begun(&self) -> bool {
        !b"\r\n\r\n".starts_with(self.buf.get(self.origin..).unwrap_or_default())
    }

    /// Whether what has arrived ends in the middle of a line end, of which the other half belongs to it.
    pub fn is_torn(&self) -> bool {
        self.received().ends_with(b"\r")
    }

    /// Takes the buffer for a read; [`Self::returned`] brings it back.
    pub fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buf)
    }

    /// The buffer after a read. An empty one means that the read failed and the connection with it.
    pub fn returned(&mut self, buf: Vec<u8>) {
        self.buf = buf;
    }

    /// Whether the buffer is here. An operation that missed its deadline keeps it, and with it whatever the client has
    /// sent behind this request: such a connection cannot go on.
    pub fn is_intact(&self) -> bool {
        !self.buf.is_empty()
    }

    /// Looks for the end of the head in what has arrived and parses it.
    ///
    /// # Errors
    /// What [`HeadScan`] and [`RequestHead`] refuse.
    pub fn parse_head(&mut self, limits: HeadLimits) -> Result<bool, Rejection> {
        let received = self.buf.get(self.origin..).unwrap_or_default();
        let Some(length) = self.scan.scan(received, limits)? else { return Ok(false) };
        self.body_start = self.origin + length;
        self.body_end = self.body_start;
        self.unread = self.body_start;
        let bytes = self.buf.get(self.origin..self.body_start).unwrap_or_default();
        self.head.parse(bytes, limits)?;
        Ok(true)
    }

    /// Makes room for more of the head, up to `limit` bytes.
    pub fn make_room_for_head(&mut self, pool: &BufferPool, limit: usize) {
        if self.buf.len() == self.buf.capacity() {
            let received = self.buf.len() - self.origin;
            self.move_to(pool, (received * 4).min(limit).max(received + 1));
        }
    }

    /// The buffer that is needed before more of a body of `length` bytes can be received; `None` while there is room.
    /// As long as memory is plentiful, the first one holds the whole body. When it is scarce, a buffer grows with what
    /// has arrived: memory that is only announced is not held.
    pub fn growth_for_body(&mut self, length: usize, plentiful: impl Fn(usize) -> bool) -> Option<Growth> {
        let needed = self.body_start.saturating_add(length);
        self.usual = (needed - self.origin).min(USUAL_LIMIT);
        let capacity = self.buf.capacity();
        if capacity >= needed {
            return None;
        }
        let whole = self.growth(needed, length, &plentiful);
        if whole.charge == 0 || plentiful(whole.charge) {
            return Some(whole);
        }
        if capacity >= UNCHARGED && self.buf.len() < capacity {
            return None;
        }
        let step = if capacity < UNCHARGED { UNCHARGED } else { self.buf.len().saturating_mul(4) };
        Some(self.growth(needed.min(step), length, &plentiful))
    }

    /// Like [`Self::growth_for_body`], for more of a chunked body of at most `limit` bytes, whose length is not known.
    pub fn growth_for_chunks(&self, limit: usize, plentiful: impl Fn(usize) -> bool) -> Option<Growth> {
        let received = self.buf.len();
        if received < self.buf.capacity() {
            return None;
        }
        let most = self.body_start.saturating_add(limit).saturating_add(CHUNK_ROOM);
        let wanted = received.saturating_mul(2).min(most).max(received + CHUNK_ROOM);
        Some(self.growth(wanted, limit, &plentiful))
    }

    /// A buffer for `wanted` bytes, headroom and head among them: of a pooled kind where memory is plentiful, otherwise
    /// not larger than it has to be.
    fn growth(&self, wanted: usize, limit: usize, plentiful: &impl Fn(usize) -> bool) -> Growth {
        let pooled = BufferPool::capacity_for(wanted - HEADROOM);
        let charge = pooled - self.body_start.min(pooled);
        if pooled <= UNCHARGED {
            Growth { capacity: pooled, charge: 0 }
        } else if plentiful(charge) {
            Growth { capacity: pooled, charge }
        } else {
            Growth { capacity: wanted, charge: (wanted - self.body_start).min(limit) }
        }
    }

    /// Moves what has arrived into such a buffer.
    pub fn grow(&mut self, pool: &BufferPool, growth: Growth) {
        self.move_into(pool, pool.lease_of(growth.capacity));
    }

    /// The part of a body of `length` bytes that has arrived since the last call, as a range of the buffer.
    pub fn take_arrived(&mut self, length: usize) -> &[u8] {
        let from = self.body_end;
        let end = self.buf.len().min(self.body_start + length);
        self.body_end = end;
        self.unread = end;
        self.buf.get(from..end).unwrap_or_default()
    }

    /// Decodes what has arrived of a chunked body, closes it up behind the payload that is there, and gives the new
    /// payload to `each`. `Ok(true)` when the body is complete.
    ///
    /// # Errors
    /// [`ChunkError`] of the decoder.
    pub fn take_chunks(&mut self, decoder: &mut ChunkDecoder, each: impl FnOnce(&[u8])) -> Result<bool, ChunkError> {
        let from = self.body_end;
        let step = decoder.compact(self.buf.get_mut(from..).unwrap_or_default())?;
        self.body_end = from + step.data;
        each(self.buf.get(from..self.body_end).unwrap_or_default());
        if step.done {
            self.unread = from + step.consumed;
        } else {
            // Everything that came has been looked at: only payload stays.
            self.buf.truncate(self.body_end);
            self.unread = self.body_end;
        }
        Ok(step.done)
    }

    /// Whether the body lies in a buffer that is larger than any connection may have without being charged for it.
    pub fn has_charged_buffer(&self) -> bool {
        self.buf.capacity() > UNCHARGED
    }

    /// Whether a part of the body has come along with the head.
    pub fn has_body_bytes(&self) -> bool {
        self.buf.len() > self.body_start
    }

    /// Whether nothing is in the buffer behind the request.
    pub fn is_all_read(&self) -> bool {
        self.is_intact() && self.unread >= self.buf.len()
    }

    /// Whether the whole of a body of `length` bytes is in the buffer.
    pub fn has_body_of(&self, length: u64) -> bool {
        (self.buf.len().saturating_sub(self.body_start) as u64) >= length
    }

    /// Whether the whole of a body of `length` bytes is in the buffer, so that it can be stepped over.
    pub fn skip_body(&mut self, length: usize) -> bool {
        let end = self.body_start.saturating_add(length);
        let whole = end <= self.buf.len();
        if whole {
            self.body_end = end;
            self.unread = end;
        }
        whole
    }

    /// The head, and the bytes that its spans refer to.
    pub fn head(&self) -> (&RequestHead, &[u8]) {
        (&self.head, self.buf.get(self.origin..self.body_start).unwrap_or_default())
    }

    /// The head as it came, and what has arrived of the body; nothing where the head is not whole, or gone.
    pub fn raw(&self) -> (&[u8], &[u8]) {
        let part = |range: std::ops::Range<usize>| self.buf.get(range).unwrap_or_default();
        (part(self.origin..self.body_start), part(self.body_start..self.body_end))
    }

    /// Bytes of the body that have arrived.
    pub fn body_length(&self) -> usize {
        self.body_end - self.body_start
    }

    /// Writes `head` directly before the body, over the head that came. The range covers both; `None` when the new
    /// head does not fit, which takes a head that grew by more than the headroom.
    pub fn replace_head(&mut self, head: &[u8]) -> Option<std::ops::Range<usize>> {
        let start = self.body_start.checked_sub(head.len())?;
        self.buf.get_mut(start..self.body_start)?.copy_from_slice(head);
        Some(start..self.body_end)
    }

    /// A part of the buffer, as [`Self::replace_head`] and [`Self::body_range`] give them.
    pub fn part(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.buf.get(range).unwrap_or_default()
    }

    /// Where the body lies in the buffer.
    pub fn body_range(&self) -> std::ops::Range<usize> {
        self.body_start..self.body_end
    }

    /// Steps to the next request: what has arrived of it moves to the front.
    pub fn advance(&mut self) {
        let from = self.unread.min(self.buf.len());
        let left = self.buf.len() - from;
        if !self.buf.is_empty() {
            self.buf.copy_within(from.., HEADROOM);
            self.buf.truncate(HEADROOM + left);
        }
        self.origin = HEADROOM;
        self.scan = HeadScan::default();
        self.body_start = HEADROOM;
        self.body_end = HEADROOM;
        self.unread = HEADROOM;
    }

    /// Moves everything from the first byte of the request into a buffer that holds `room` bytes.
    fn move_to(&mut self, pool: &BufferPool, room: usize) {
        self.move_into(pool, pool.lease(room));
    }

    fn move_into(&mut self, pool: &BufferPool, mut larger: Vec<u8>) {
        larger.extend_from_slice(self.buf.get(self.origin..).unwrap_or_default());
        pool.give_back(std::mem::replace(&mut self.buf, larger));
        let shift = self.origin - HEADROOM;
        self.origin = HEADROOM;
        self.body_start -= shift.min(self.body_start - HEADROOM);
        self.body_end -= shift.min(self.body_end - HEADROOM);
        self.unread -= shift.min(self.unread - HEADROOM);
    }
}

/// A connection starts its next request with a buffer of the last one's size, up to this many bytes.
const USUAL_LIMIT: usize = 18 << 10;

/// The least that a buffer for a chunked body grows by.
const CHUNK_ROOM: usize = 4 << 10;

impl Delivery for Inbound {
    fn method(&self) -> &[u8] {
        let (head, bytes) = self.head();
        head.method.of(bytes)
    }

    fn target(&self) -> &[u8] {
        let (head, bytes) = self.head();
        head.path_and_query(bytes)
    }

    fn headers(&self) -> Headers<'_> {
        let (head, bytes) = self.head();
        head.headers(bytes)
    }

    fn body(&self) -> &[u8] {
        self.buf.get(self.body_start..self.body_end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const BODY: usize = 1 << 20;

    /// A request with a large body that has been read to its end, and `more` behind it.
    fn read(pool: &BufferPool, more: &[u8]) -> Inbound {
        let mut inbound = Inbound::default();
        inbound.hold_buffer(pool);
        let receive = |inbound: &mut Inbound, bytes: &[u8]| {
            let mut buf = inbound.lend();
            assert!(buf.capacity() - buf.len() >= bytes.len());
            buf.extend_from_slice(bytes);
            inbound.returned(buf);
        };
        receive(&mut inbound, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(inbound.parse_head(HeadLimits { size: 1 << 14, fields: 10, target: 100 }).unwrap());
        let growth = inbound.growth_for_body(BODY, |_| true).unwrap();
        inbound.grow(pool, growth);
        receive(&mut inbound, &vec![b'x'; BODY]);
        receive(&mut inbound, more);
        assert_eq!(inbound.take_arrived(BODY).len(), BODY);
        inbound
    }

    #[test]
    fn a_body_has_one_buffer_while_memory_is_plentiful() {
        let pool = BufferPool::default();
        let inbound = &mut read(&pool, b"");
        assert_eq!(inbound.growth_for_body(BODY, |_| true), None);
    }

    #[test]
    fn where_memory_is_scarce_what_is_charged_grows_with_what_arrives() {
        let pool = BufferPool::default();
        let mut inbound = Inbound::default();
        inbound.hold_buffer(&pool);
        let mut buf = inbound.lend();
        buf.extend_from_slice(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        inbound.returned(buf);
        assert!(inbound.parse_head(HeadLimits { size: 1 << 14, fields: 10, target: 100 }).unwrap());
        let (mut moves, mut charged) = (0, 0);
        while inbound.body_length() < BODY {
            if let Some(growth) = inbound.growth_for_body(BODY, |_| false) {
                assert!(growth.charge <= BODY && growth.charge <= 5 * inbound.body_length());
                inbound.grow(&pool, growth);
                (moves, charged) = (moves + 1, growth.charge);
            }
            let held = inbound.buf.capacity() - inbound.body_start;
            assert!(held <= charged.max(UNCHARGED));
            let mut buf = inbound.lend();
            let room = (buf.capacity() - buf.len()).min(5000);
            assert!(room > 0);
            buf.resize(buf.len() + room, b'x');
            inbound.returned(buf);
            inbound.take_arrived(BODY);
        }
        assert_eq!((moves, charged), (4, BODY));
    }

    #[test]
    fn a_body_goes_with_its_request_whatever_follows_it() {
        let pool = BufferPool::default();
        for more in [&b""[..], b"P", &[b'P'; 3000]] {
            let mut inbound = read(&pool, more);
            inbound.advance();
            inbound.settle(&pool);
            assert!(inbound.buf.capacity() <= USUAL_LIMIT + 2 * HEADROOM, "{}", inbound.buf.capacity());
            assert_eq!(inbound.received(), more);
        }
    }
}
