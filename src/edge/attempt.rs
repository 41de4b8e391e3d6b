//! One attempt to deliver a stored request: sends it, and says how that ended.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use crate::inbox::judgement::{AttemptEnd, retry_after_seconds};
use crate::outcome::Fault;
use crate::wire::chunked::ChunkDecoder;
use crate::wire::framing::{self, ResponseFraming};
use crate::wire::head::{HeadLimits, ResponseHead, ResponseScan};

use super::policy::Upstream;
use super::runtime::net::Net;
use super::runtime::stream::{ByteStream, Duplex, Heard};
use super::upstream::{Checkout, Pool};

/// What is accepted as the head of an answer, as for deliveries that are forwarded at once.
const ANSWER_LIMITS: HeadLimits = HeadLimits { size: 64 << 10, fields: 200, target: 0 };

/// Interim answers that are read over.
const INTERIM_ANSWERS: usize = 8;

/// Of the body of an answer so much is read, so that the connection can be used again; nothing of it is kept.
const ANSWER_BODY: u64 = 64 << 10;

/// How an exchange over one connection has ended.
struct Exchanged {
    end: AttemptEnd,
    /// A byte of an answer has come.
    heard: bool,
}

/// Sends a whole request, and waits for the answer until `timeout` has passed. A connection that had been used before
/// and ends without a byte is not taken for an answer of the application: the request is sent once more over a new one.
pub async fn attempt<N: Net>(
    net: &N,
    pool: &Pool<N::Stream>,
    upstream: &Upstream,
    request: &[u8],
    timeout: Duration,
) -> AttemptEnd {
    let deadline = net.monotonic() + timeout;
    let checkout = match pool.checkout(net, upstream).await {
        Ok(checkout) => checkout,
        Err(fault) => return no_connection(fault),
    };
    let reused = checkout.reused;
    let first = exchange(net, pool, upstream, checkout, Sending { request, deadline }).await;
    if !reused || first.heard || first.end != AttemptEnd::Closed {
        return first.end;
    }
    match pool.connect(net, upstream).await {
        Ok(checkout) => exchange(net, pool, upstream, checkout, Sending { request, deadline }).await.end,
        Err(fault) => no_connection(fault),
    }
}

const fn no_connection(_fault: Fault) -> AttemptEnd {
    AttemptEnd::Unreachable
}

/// What is sent, and until when its answer is awaited.
#[derive(Clone, Copy)]
struct Sending<'r> {
    request: &'r [u8],
    deadline: Duration,
}

async fn exchange<N: Net>(
    net: &N,
    pool: &Pool<N::Stream>,
    upstream: &Upstream,
    mut checkout: Checkout<N::Stream>,
    sending: Sending<'_>,
) -> Exchanged {
    let stream = &mut checkout.stream;
    let mut sent = 0;
    while let Some(rest) = sending.request.get(sent..).filter(|rest| !rest.is_empty()) {
        let (count, heard) = stream.write_and_listen(rest, sending.deadline).await;
        sent += count;
        match heard {
            Heard::Nothing => {}
            // An application may answer before it has read everything.
            Heard::Something | Heard::Unwritable => break,
            Heard::Late => return Exchanged { end: AttemptEnd::TimedOut, heard: false },
        }
    }
    let mut answer = Answering { buf: Vec::with_capacity(4 << 10), head: ResponseHead::new(), origin: 0 };
    let found = answer.read_head(stream, sending.deadline).await;
    let heard = !answer.buf.is_empty();
    let (length, framing) = match found {
        Ok(found) => found,
        Err(end) => return Exchanged { end, heard },
    };
    let bytes = answer.buf.get(answer.origin..).unwrap_or_default();
    let headers = answer.head.headers(bytes);
    let value = headers.all("Retry-After").next();
    let retry_after = value.and_then(|value| retry_after_seconds(value).or_else(|| until_date(value, net.now().unix)));
    let end = AttemptEnd::Answered { status: answer.head.status, retry_after };
    let keeps = framing::keep_alive(answer.head.version, headers) && sent == sending.request.len();
    if keeps && answer.read_body(stream, length, framing, sending.deadline).await {
        pool.check_in(checkout, upstream, net.now());
    }
    Exchanged { end, heard }
}

/// Milliseconds until a date (RFC 9110 section 5.6.7).
fn until_date(value: &[u8], now: Duration) -> Option<u64> {
    let date = httpdate::parse_http_date(core::str::from_utf8(value).ok()?.trim()).ok()?;
    let left = date.duration_since(UNIX_EPOCH).ok()?.saturating_sub(now);
    u64::try_from(left.as_millis()).ok()
}

/// An answer that is being read.
struct Answering {
    buf: Vec<u8>,
    head: ResponseHead,
    /// Where the head begins in `buf`, behind interim answers.
    origin: usize,
}

impl Answering {
    async fn more<S: ByteStream>(&mut self, stream: &mut S, deadline: Duration) -> Result<(), AttemptEnd> {
        if self.buf.len() == self.buf.capacity() {
            self.buf.reserve(self.buf.len().max(4 << 10));
        }
        let (result, back) = stream.read(std::mem::take(&mut self.buf), deadline).await;
        self.buf = back;
        match result {
            Ok(count) if count > 0 => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(AttemptEnd::TimedOut),
            _ => Err(AttemptEnd::Closed),
        }
    }

    /// Reads up to the end of the head. Gives its length and how the body ends.
    async fn read_head<S: ByteStream>(
        &mut self,
        stream: &mut S,
        deadline: Duration,
    ) -> Result<(usize, ResponseFraming), AttemptEnd> {
        let (mut scan, mut interim) = (ResponseScan::new(), 0);
        loop {
            let received = self.buf.get(self.origin..).unwrap_or_default();
            let Some(length) = scan.scan(received, ANSWER_LIMITS).map_err(|_| AttemptEnd::Malformed)? else {
                self.more(stream, deadline).await?;
                continue;
            };
            let bytes = received.get(..length).unwrap_or_default();
            self.head.parse(bytes, ANSWER_LIMITS).map_err(|_| AttemptEnd::Malformed)?;
            match self.head.status {
                101 => return Err(AttemptEnd::Malformed),
                100..200 if interim < INTERIM_ANSWERS => {
                    interim += 1;
                    self.origin += length;
                    scan = ResponseScan::new();
                }
                100..200 => return Err(AttemptEnd::Malformed),
                _ => {
                    let framing = framing::of_response(&self.head, bytes, false).map_err(|_| AttemptEnd::Malformed)?;
                    return Ok((length, framing));
                }
            }
        }
    }

    /// Reads over the body. Gives whether the connection can be used again.
    async fn read_body<S: ByteStream>(
        &mut self,
        stream: &mut S,
        head: usize,
        framing: ResponseFraming,
        deadline: Duration,
    ) -> bool {
        self.buf.drain(..self.origin + head);
        let mut chunks = ChunkDecoder::new(ANSWER_BODY);
        let mut received = 0_u64;
        loop {
            match framing {
                ResponseFraming::UntilClose => return false,
                ResponseFraming::None => return self.buf.is_empty(),
                ResponseFraming::Length(length) => {
                    received += self.buf.len() as u64;
                    self.buf.clear();
                    if received >= length || length > ANSWER_BODY {
                        return received == length;
                    }
                }
                ResponseFraming::Chunked => match chunks.compact(&mut self.buf) {
                    Ok(step) if step.done => return step.consumed == self.buf.len(),
                    Ok(_) => self.buf.clear(),
                    Err(_) => return false,
                },
            }
            if self.more(stream, deadline).await.is_err() {
                return false;
            }
        }
    }
}
