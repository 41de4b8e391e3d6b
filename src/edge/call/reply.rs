//! The head of the application's answer: where it ends, what it says, and which rule it breaks.

use std::io;

use crate::outcome::Fault;
use crate::wire::framing::{self, ResponseFraming};
use crate::wire::head::{HeadLimits, ResponseError, ResponseHead, ResponseScan, status_of};

use super::inbound::Inbound;
use super::outgoing::OpenDelivery;
use crate::edge::policy::Upstream;
use crate::edge::runtime::buffer::HEADROOM;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::{ByteStream as _, Duplex};
use crate::edge::worker::Worker;

/// What we accept as the head of an answer. Applications are trusted with more than strangers are, not with anything.
/// README and [`ResponseError`] say these figures.
const REPLY_LIMITS: HeadLimits = HeadLimits { size: 64 << 10, fields: 200, target: 0 };

/// Interim answers (RFC 9110 section 15.2) that are read over before we lose patience.
const INTERIM_ANSWERS: usize = 8;

/// The application's answer, up to the end of its head. The head itself is in [`super::forward::Way::reply_head`].
pub struct Reply<S> {
    /// The connection it comes over.
    pub line: OpenDelivery<S>,
    /// Which application.
    pub upstream: usize,
    /// What has arrived, from [`HEADROOM`] on.
    pub buf: Vec<u8>,
    /// End of the head in `buf`.
    pub head_end: usize,
    /// How the body ends.
    pub framing: ResponseFraming,
    /// Bytes of the answer's body that the client has been sent.
    pub sent: u64,
    /// The rule that the body has broken.
    pub broken_rule: Option<ResponseError>,
}

/// An answer that cannot be passed on.
pub struct Unusable {
    /// What is wrong.
    pub fault: Fault,
    /// The rule that it breaks, if that is what is wrong.
    pub broken_rule: Option<ResponseError>,
    /// What its status line says, if that came.
    pub status: Option<u16>,
}

/// An answer of which nothing, or not the whole head, is known yet.
pub struct Unread<'l, S> {
    /// The connection it comes over.
    pub line: &'l mut OpenDelivery<S>,
    /// What has arrived.
    pub buf: Vec<u8>,
    /// Where the head begins that is being read.
    origin: usize,
    /// What the status line of that head says, once it has been looked for.
    status: Option<u16>,
}

/// Why there is no head.
pub enum Lost {
    /// It did not come.
    Fault(Fault),
    /// It breaks a rule.
    Broken(ResponseError),
}

impl From<ResponseError> for Lost {
    fn from(rule: ResponseError) -> Self {
        Self::Broken(rule)
    }
}

/// Where a head ends, and how the body behind it does.
pub type Found = (usize, ResponseFraming);

impl<'l, S: Duplex> Unread<'l, S> {
    /// The answer that will come over `line`.
    pub fn new<N: Net<Stream = S>>(worker: &Worker<N>, line: &'l mut OpenDelivery<S>) -> Self {
        Self { line, buf: worker.buffers.lease(16 << 10), origin: HEADROOM, status: None }
    }

    /// What [`Self::read_head`] has come to. A good head then stands at the beginning of the buffer.
    ///
    /// # Errors
    /// [`Unusable`], with what is known of the answer all the same.
    pub fn judge(&mut self, found: Result<Found, Lost>, head: &ResponseHead) -> Result<Found, Unusable> {
        match found {
            Ok((length, framing)) => {
                if !(200..300).contains(&head.status) {
                    self.line.stop_sending();
                }
                if self.origin > HEADROOM {
                    self.buf.drain(HEADROOM..self.origin);
                }
                Ok((HEADROOM + length, framing))
            }
            Err(lost) => {
                let (fault, broken_rule) = match lost {
                    Lost::Fault(fault) => (fault, None),
                    Lost::Broken(rule) if rule.is_over_limit() => (Fault::UpstreamHeadTooLarge, Some(rule)),
                    Lost::Broken(rule) => (Fault::UpstreamMalformed, Some(rule)),
                };
                Err(Unusable { fault, broken_rule, status: self.status })
            }
        }
    }

    /// Reads up to the end of the head, into `head`. Gives its length, and how the body behind it ends.
    ///
    /// # Errors
    /// [`Lost`]. [`Self::judge`] makes sense of either.
    pub async fn read_head<N: Net<Stream = S>>(
        &mut self,
        worker: &Worker<N>,
        upstream: &Upstream,
        inbound: &Inbound,
        head: &mut HeadOf<'_>,
    ) -> Result<Found, Lost> {
        let mut scan = ResponseScan::new();
        let mut interim = 0;
        let time_left = || worker.net.monotonic() + upstream.response_timeout;
        let mut deadline = self.line.sends_until().unwrap_or_else(time_left);
        loop {
            let received = self.buf.get(self.origin..).unwrap_or_default();
            let found = scan.scan(received, REPLY_LIMITS).map_err(Lost::from);
            let judged = found.and_then(|length| length.map(|length| head.judge(received, length)).transpose());
            match judged {
                Ok(Some((length, Some(framing)))) => return Ok((length, framing)),
                Ok(Some((length, None))) => {
                    interim += 1;
                    if interim > INTERIM_ANSWERS {
                        return Err(ResponseError::TooManyInterim.into());
                    }
                    self.origin += length;
                    self.status = None;
                    scan = ResponseScan::new();
                    continue;
                }
                Ok(None) => self.status = self.status.or_else(|| status_of(received)),
                Err(lost) => {
                    self.status = status_of(received);
                    return Err(lost);
                }
            }
            self.make_room(worker);
            let buf = std::mem::take(&mut self.buf);
            let (result, back) = match self.line.listening() {
                Some(stream) => stream.read(buf, deadline).await,
                None => match self.line.converse(inbound, buf, deadline).await {
                    (Ok(None), back) => {
                        deadline = time_left();
                        self.buf = back;
                        continue;
                    }
                    (result, back) => (result.map(Option::unwrap_or_default), back),
                },
            };
            self.buf = back;
            match result {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(Lost::Fault(Fault::UpstreamTimeout));
                }
                // An alert: with TLS 1.3 an application refuses a certificate when the handshake is over.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Lost::Fault(Fault::UpstreamTls));
                }
                _ => return Err(Lost::Fault(Fault::UpstreamClosed)),
            }
        }
    }

    fn make_room<N: Net<Stream = S>>(&mut self, worker: &Worker<N>) {
        if self.buf.len() == self.buf.capacity() {
            let mut larger = worker.buffers.lease(REPLY_LIMITS.size * 2);
            larger.extend_from_slice(self.buf.get(self.origin..).unwrap_or_default());
            self.origin = HEADROOM;
            worker.buffers.give_back(std::mem::replace(&mut self.buf, larger));
        }
    }
}

/// Where the head of an answer goes, and what its meaning depends on.
pub struct HeadOf<'c> {
    /// The head.
    pub reply: &'c mut ResponseHead,
    /// Whether the request was a `HEAD`.
    pub is_head: bool,
}

impl HeadOf<'_> {
    /// Parses the first `length` bytes. Gives no framing for an interim answer, which another one follows.
    fn judge(&mut self, received: &[u8], length: usize) -> Result<(usize, Option<ResponseFraming>), Lost> {
        let bytes = received.get(..length).unwrap_or_default();
        self.reply.parse(bytes, REPLY_LIMITS)?;
        match self.reply.status {
            // We never ask for an upgrade, so 101 answers a question that was not put.
            101 => Err(ResponseError::UpgradeUnasked.into()),
            100..200 => Ok((length, None)),
            _ => Ok((length, Some(framing::of_response(self.reply, bytes, self.is_head)?))),
        }
    }
}
