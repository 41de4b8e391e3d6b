//! The application's answer on its way to the client: streamed through one buffer, never collected.

use std::time::Duration;

use crate::edge::runtime::buffer::HEADROOM;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::snapshot::Snapshot;
use crate::edge::worker::Worker;
use crate::outcome::{Fault, Outcome};
use crate::wire::chunked::ChunkDecoder;
use crate::wire::framing::{self, ResponseFraming};
use crate::wire::head::ResponseError;

use super::carrier::{BodyPiece, Carrier, ReplyHead};
use super::inbound::Inbound;
use super::reply::Reply;
use super::request::Call;

/// What is left to come from the application.
enum BodySource {
    Length(u64),
    Chunked(ChunkDecoder),
    UntilClose,
}

/// Passes the answer on. Gives its status.
///
/// # Errors
/// [`Fault::UpstreamTruncated`] when it breaks off, [`Fault::ResponseUnread`] and [`Fault::DownstreamClosed`] when the
/// client does not take it.
pub async fn relay<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    policy: &Snapshot<N::Stream>,
    call: &mut Call<'_, '_>,
    carrier: &mut C,
    mut reply: Reply<N::Stream>,
) -> Result<u16, Outcome> {
    let Call { inbound, asked, reply_head, .. } = call;
    let bytes = reply.buf.get(HEADROOM..reply.head_end).unwrap_or_default();
    let upstream_keeps = framing::keep_alive(reply_head.version, reply_head.headers(bytes));
    carrier.begin(worker, asked, ReplyHead { head: reply_head, bytes, framing: reply.framing });
    let timeout = policy.upstreams.get(reply.upstream).map_or(Duration::ZERO, |upstream| upstream.response_timeout);
    let streamed = stream(worker, inbound, carrier, &mut reply, timeout).await;
    asked.sent = reply.sent;
    asked.broken_rule = reply.broken_rule;
    // Whatever has become of the answer: an application that has accepted the delivery is to have all of it.
    if reply.line.sends_until().is_some() {
        reply.line.finish(worker, inbound, timeout).await;
    }
    let end = streamed?;
    worker.buffers.give_back(std::mem::take(&mut reply.buf));
    if let (Some(upstream), Some(pool)) = (policy.upstreams.get(reply.upstream), policy.pool(reply.upstream)) {
        match end {
            End::Exact if upstream_keeps => {
                let reusable = reply.line.into_reusable();
                reusable.into_iter().for_each(|checkout| pool.check_in(checkout, upstream, worker.net.now()));
            }
            End::Exact | End::Closed => {}
            End::Beyond => pool.note_stray(),
        }
    }
    Ok(reply_head.status)
}

/// Where the connection to the application stands behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Exactly behind it.
    Exact,
    /// More bytes have come than belong to it.
    Beyond,
    /// At its end, which is that of the answer.
    Closed,
}

/// Moves the body, piece by piece; the first piece carries the head.
async fn stream<N: Net, C: Carrier<N>>(
    worker: &Worker<N>,
    inbound: &Inbound,
    carrier: &mut C,
    reply: &mut Reply<N::Stream>,
    timeout: Duration,
) -> Result<End, Outcome> {
    let mut source = match reply.framing {
        ResponseFraming::None => BodySource::Length(0),
        ResponseFraming::Length(length) => BodySource::Length(length),
        ResponseFraming::Chunked => BodySource::Chunked(ChunkDecoder::new(u64::MAX)),
        ResponseFraming::UntilClose => BodySource::UntilClose,
    };
    let mut start = reply.head_end;
    let mut ended = false;
    loop {
        let piece = source.take(&mut reply.buf, start, ended).map_err(|BrokenOff(rule)| {
            reply.broken_rule = rule;
            // As long as the client has seen nothing, it can still be told.
            if carrier.has_begun() { Fault::UpstreamTruncated } else { Fault::UpstreamMalformed }
        })?;
        let body = BodyPiece { start, length: piece.length, is_last: piece.done };
        reply.buf = carrier.piece(worker, std::mem::take(&mut reply.buf), body).await?;
        reply.sent += piece.length as u64;
        if piece.done {
            return Ok(if ended { End::Closed } else { piece.end });
        }
        start = HEADROOM;
        reply.buf.truncate(start);
        ended = read_more(worker, inbound, reply, timeout).await? == 0;
    }
}

/// Reads the next piece of the answer into its buffer.
async fn read_more<N: Net>(
    worker: &Worker<N>,
    inbound: &Inbound,
    reply: &mut Reply<N::Stream>,
    timeout: Duration,
) -> Result<usize, Fault> {
    loop {
        let deadline = worker.net.monotonic() + timeout;
        let buf = std::mem::take(&mut reply.buf);
        let (result, buf) = match reply.line.listening() {
            Some(stream) => {
                let (result, buf) = stream.read(buf, deadline).await;
                (result.map(Some), buf)
            }
            None => reply.line.converse(inbound, buf, deadline).await,
        };
        reply.buf = buf;
        if let Some(count) = result.map_err(|_| Fault::UpstreamTruncated)? {
            return Ok(count);
        }
    }
}

/// Payload at the start of a buffer.
#[derive(Clone, Copy)]
struct Piece {
    length: usize,
    /// Nothing follows.
    done: bool,
    /// Where the connection then stands, as long as it has not ended.
    end: End,
}

/// The answer ends before its end, perhaps because it breaks a rule.
struct BrokenOff(Option<ResponseError>);

impl Piece {
    /// A piece of `length` bytes, of `taken` out of `arrived`.
    const fn new(length: usize, done: bool, (taken, arrived): (usize, usize)) -> Self {
        Self { length, done, end: if taken == arrived { End::Exact } else { End::Beyond } }
    }
}

impl BodySource {
    /// Takes the payload out of what has arrived (`buf` from `start`), moving it to `start`.
    fn take(&mut self, buf: &mut [u8], start: usize, ended: bool) -> Result<Piece, BrokenOff> {
        let arrived = buf.len().saturating_sub(start);
        match self {
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived);
                *left -= length as u64;
                match (*left, ended) {
                    (0, _) => Ok(Piece::new(length, true, (length, arrived))),
                    (_, true) => Err(BrokenOff(None)),
                    (_, false) => Ok(Piece::new(length, false, (length, arrived))),
                }
            }
            Self::UntilClose => Ok(Piece::new(arrived, ended, (arrived, arrived))),
            Self::Chunked(_) if ended => Err(BrokenOff(None)),
            Self::Chunked(decoder) => {
                let arrived = buf.get_mut(start..).unwrap_or_default();
                let step = decoder.compact(arrived).map_err(|_| BrokenOff(Some(ResponseError::ChunkMalformed)))?;
                Ok(Piece::new(step.data, step.done, (step.consumed, arrived.len())))
            }
        }
    }
}
