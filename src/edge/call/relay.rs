//! The application's answer on its way to the client: streamed through one buffer, never collected.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::outcome::{Fault, Outcome};
use crate::wire::chunked::ChunkDecoder;
use crate::wire::encode;
use crate::wire::framing::{self, ResponseFraming};
use crate::wire::head::{ResponseError, ResponseHead, Version};

use super::asked::Asked;
use super::inbound::Inbound;
use super::reply::Reply;
use crate::edge::connection::Connection;
use crate::edge::runtime::buffer::HEADROOM;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::snapshot::Snapshot;
use crate::edge::wait::waiting::{GaveWay, Patience};
use crate::edge::worker::Worker;

/// How the body is framed towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    /// As long as `Content-Length` says, or nothing at all.
    Exact,
    /// Chunked, by us.
    Chunked,
    /// Until the connection closes: for HTTP/1.0 clients.
    UntilClose,
}

/// What is left to come from the application.
enum Source {
    Length(u64),
    Chunked(ChunkDecoder),
    UntilClose,
}

/// Passes the answer on. Gives its status.
///
/// # Errors
/// [`Fault::UpstreamTruncated`] when it breaks off, [`Fault::ResponseUnread`] and [`Fault::DownstreamClosed`] when
/// nobody takes it.
pub async fn relay<N: Net>(
    worker: &Worker<N>,
    policy: &Snapshot<N::Stream>,
    connection: &mut Connection<N::Stream>,
    asked: &mut Asked<'_>,
    mut reply: Reply<N::Stream>,
) -> Result<u16, Outcome> {
    let sink = match (reply.framing, asked.version) {
        (ResponseFraming::None | ResponseFraming::Length(_), _) => Sink::Exact,
        (_, Version::Http11) => Sink::Chunked,
        (_, Version::Http10) => Sink::UntilClose,
    };
    asked.keep_alive &= sink != Sink::UntilClose && !connection.parts(worker);
    let bytes = reply.buf.get(HEADROOM..reply.head_end).unwrap_or_default();
    let upstream_keeps = framing::keep_alive(connection.reply_head.version, connection.reply_head.headers(bytes));
    // Placed before anything is awaited.
    {
        let mut head = worker.scratch.borrow_mut();
        head.clear();
        encode_head(&mut head, &connection.reply_head, bytes, asked, (sink, reply.framing));
    }
    let status = connection.reply_head.status;
    let patience = Rc::clone(&connection.patience);
    let timeout = policy.upstreams.get(reply.upstream).map_or(Duration::ZERO, |upstream| upstream.response_timeout);
    let passage = Passage { sink, timeout, write_timeout: policy.limits.write_timeout, patience };
    let streamed = passage.stream(worker, connection, &mut reply).await;
    asked.sent = reply.sent;
    asked.broken_rule = reply.broken_rule;
    // Whatever has become of the answer: an application that has accepted the delivery is to have all of it.
    if reply.line.sends_until().is_some() {
        reply.line.finish(worker, &connection.inbound, timeout).await;
    }
    let end = streamed?;
    worker.buffers.give_back(std::mem::take(&mut reply.buf));
    if let (Some(upstream), Some(pool)) = (policy.upstreams.get(reply.upstream), policy.pool(reply.upstream)) {
        match end {
            End::Exact if upstream_keeps => {
                let reusable = reply.line.into_reusable();
                reusable.into_iter().for_each(|stream| pool.check_in(stream, upstream, worker.net.now()));
            }
            End::Exact | End::Closed => {}
            End::Beyond => pool.note_stray(),
        }
    }
    Ok(status)
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

fn encode_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    bytes: &[u8],
    asked: &Asked<'_>,
    (sink, framing): (Sink, ResponseFraming),
) {
    encode::status_line(out, head.status);
    encode::copy_end_to_end(out, head.headers(bytes), |_, _, _| false);
    match (sink, framing) {
        (Sink::Chunked, _) => encode::field(out, b"Transfer-Encoding", b"chunked"),
        (Sink::Exact, ResponseFraming::Length(length)) => encode::field_u64(out, b"Content-Length", length),
        // The length that a GET would have had is end-to-end information in the answer to HEAD and in 304.
        (Sink::Exact, _) => {
            if let Ok(Some(length)) = framing::declared_length(head, bytes) {
                encode::field_u64(out, b"Content-Length", length);
            }
        }
        (Sink::UntilClose, _) => {}
    }
    match (asked.keep_alive, asked.version) {
        (false, _) => encode::field(out, b"Connection", b"close"),
        (true, Version::Http10) => encode::field(out, b"Connection", b"keep-alive"),
        (true, Version::Http11) => {}
    }
    encode::end(out);
}

struct Passage {
    sink: Sink,
    /// For each piece of the answer to come.
    timeout: Duration,
    /// For each piece to be taken.
    write_timeout: Duration,
    patience: Rc<Patience>,
}

impl Passage {
    /// Moves the body, piece by piece; the first piece carries the head, which lies in the worker's scratch.
    async fn stream<N: Net>(
        &self,
        worker: &Worker<N>,
        connection: &mut Connection<N::Stream>,
        reply: &mut Reply<N::Stream>,
    ) -> Result<End, Outcome> {
        let mut source = match reply.framing {
            ResponseFraming::None => Source::Length(0),
            ResponseFraming::Length(length) => Source::Length(length),
            ResponseFraming::Chunked => Source::Chunked(ChunkDecoder::new(u64::MAX)),
            ResponseFraming::UntilClose => Source::UntilClose,
        };
        let mut start = reply.head_end;
        let mut ended = false;
        // What ends the chunk before; nothing as long as the client has seen nothing.
        let mut before: Option<&[u8]> = None;
        loop {
            let piece = source.take(&mut reply.buf, start, ended).map_err(|BrokenOff(rule)| {
                reply.broken_rule = rule;
                // As long as the client has seen nothing, it can still be told.
                if before.is_some() { Fault::UpstreamTruncated } else { Fault::UpstreamMalformed }
            })?;
            let range = {
                let mut prefix = worker.scratch.borrow_mut();
                if let Some(before) = before {
                    prefix.clear();
                    prefix.extend_from_slice(before);
                }
                self.frame(&mut reply.buf, start, piece, &mut prefix);
                place(&mut reply.buf, start, &prefix)
            };
            if !range.is_empty() {
                let deadline = worker.net.monotonic() + self.write_timeout;
                let writing = pin!(connection.stream.write_all(std::mem::take(&mut reply.buf), range, deadline));
                let written = self.patience.during_write(|| worker.net.monotonic(), writing).await;
                let (result, buf) = written.map_err(|GaveWay| Fault::ResponseGaveWay)?;
                reply.buf = buf;
                result.map_err(unread)?;
                reply.sent += piece.length as u64;
            }
            if piece.done {
                return Ok(if ended { End::Closed } else { piece.end });
            }
            before = Some(if self.sink == Sink::Chunked && piece.length > 0 { b"\r\n" } else { b"" });
            start = HEADROOM;
            reply.buf.truncate(start);
            ended = self.read_more(worker, &connection.inbound, reply).await? == 0;
        }
    }

    /// Reads the next piece of the answer into its buffer.
    async fn read_more<N: Net>(
        &self,
        worker: &Worker<N>,
        inbound: &Inbound,
        reply: &mut Reply<N::Stream>,
    ) -> Result<usize, Fault> {
        loop {
            let deadline = worker.net.monotonic() + self.timeout;
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

    /// Adds to `prefix` what stands before the piece, and to the buffer what stands behind it.
    fn frame(&self, buf: &mut Vec<u8>, start: usize, piece: Piece, prefix: &mut Vec<u8>) {
        buf.truncate(start + piece.length);
        if self.sink != Sink::Chunked {
            return;
        }
        encode::chunk_header(prefix, piece.length);
        if piece.done {
            if piece.length > 0 {
                buf.extend_from_slice(b"\r\n");
            }
            buf.extend_from_slice(encode::LAST_CHUNK);
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

impl Source {
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

/// Puts `prefix` directly before `start`; the range covers it and all that follows.
fn place(buf: &mut Vec<u8>, start: usize, prefix: &[u8]) -> std::ops::Range<usize> {
    let Some(from) = start.checked_sub(prefix.len()) else {
        // A head that grew by more than the headroom: rare enough to move the rest.
        buf.splice(..start, prefix.iter().copied());
        return 0..buf.len();
    };
    if let Some(room) = buf.get_mut(from..start) {
        room.copy_from_slice(prefix);
    }
    from..buf.len()
}

fn unread(error: io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::TimedOut => Fault::ResponseUnread.into(),
        _ => Fault::DownstreamClosed.into(),
    }
}
