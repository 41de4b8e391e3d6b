//! A connection of HTTP/1.1 that carries one call at a time.

use std::io;
use std::pin::pin;
use std::time::Duration;

use crate::edge::call::asked::Asked;
use crate::edge::call::carrier::{BodyPiece, Carrier, Next, OwnAnswer, ReplyHead};
use crate::edge::call::request::Call;
use crate::edge::connection::Connection;
use crate::edge::door::access::ClientAccess;
use crate::edge::door::listener::ListenerId;
use crate::edge::door::tls::downstream::Downstream;
use crate::edge::peer::Sender;
use crate::edge::policy::{Limits, Policy};
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::{ByteStream, Lent};
use crate::edge::wait::slow_set::{Evicted, Occupancy};
use crate::edge::worker::Worker;
use crate::outcome::{Fault, Outcome};
use crate::wire::encode;
use crate::wire::framing::{self, ResponseFraming};
use crate::wire::head::Version;

use super::respond;

/// The socket of a connection, and the answer that is being written to it.
pub struct H1Carrier<'c, S> {
    stream: &'c mut Downstream<S>,
    access: &'c mut ClientAccess,
    occupancy: &'c Occupancy,
    /// Requests of the connection so far, this one included.
    served: u64,
    /// For each piece of the answer to be taken.
    write_timeout: Duration,
    framing: AnswerFraming,
    /// What ends the chunk before; `None` as long as the client has seen nothing.
    before: Option<&'static [u8]>,
}

/// How the body of an answer is framed towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerFraming {
    /// As long as `Content-Length` says, or nothing at all.
    Exact,
    /// Chunked, by us.
    Chunked,
    /// Until the connection closes: for HTTP/1.0 clients.
    UntilClose,
}

impl<'c, S: ByteStream> H1Carrier<'c, S> {
    /// Takes a connection apart: into the call whose bytes are arriving, of which nothing is known yet, and what carries it.
    pub fn split<'p, N: Net<Stream = S>>(
        worker: &Worker<N>,
        policy: &Policy,
        connection: &'c mut Connection<S>,
    ) -> (Call<'c, 'p>, Self) {
        let Connection { stream, access, inbound, reply_head, served, turn_slot, occupancy, .. } = connection;
        let asked = Asked::new(worker.ids.next(), worker.net.now(), access.peer.as_ref());
        let carrier = Self {
            stream,
            access,
            occupancy,
            served: *served,
            write_timeout: policy.limits.write_timeout,
            framing: AnswerFraming::Exact,
            before: None,
        };
        (Call { inbound, asked, turn_slot, occupancy, reply_head }, carrier)
    }

    fn encode_head(&self, out: &mut Vec<u8>, asked: &Asked<'_>, reply: ReplyHead<'_>) {
        let ReplyHead { head, bytes, framing } = reply;
        encode::status_line(out, head.status);
        encode::copy_end_to_end(out, head.headers(bytes), |_, _, _| false);
        match (self.framing, framing) {
            (AnswerFraming::Chunked, _) => encode::field(out, b"Transfer-Encoding", b"chunked"),
            (AnswerFraming::Exact, ResponseFraming::Length(length)) => {
                encode::field_u64(out, b"Content-Length", length);
            }
            // The length that a GET would have had is end-to-end information in the answer to HEAD and in 304.
            (AnswerFraming::Exact, _) => {
                if let Ok(Some(length)) = framing::declared_length(head, bytes) {
                    encode::field_u64(out, b"Content-Length", length);
                }
            }
            (AnswerFraming::UntilClose, _) => {}
        }
        respond::encode_fate(out, asked);
        encode::end(out);
    }

    /// Adds to `prefix` what stands before the piece, and to the buffer what stands behind it.
    fn frame(&self, buf: &mut Vec<u8>, piece: BodyPiece, prefix: &mut Vec<u8>) {
        buf.truncate(piece.start + piece.length);
        if self.framing != AnswerFraming::Chunked {
            return;
        }
        encode::chunk_header(prefix, piece.length);
        if piece.is_last {
            if piece.length > 0 {
                buf.extend_from_slice(b"\r\n");
            }
            buf.extend_from_slice(encode::LAST_CHUNK);
        }
    }
}

impl<N: Net> Carrier<N> for H1Carrier<'_, N::Stream> {
    fn sender(&self) -> Sender<'_> {
        self.access.sender(self.stream.is_encrypted())
    }

    fn listener(&self) -> ListenerId {
        self.access.listener
    }

    fn socket(&self) -> &N::Stream {
        self.stream.socket()
    }

    fn may_carry_another(&self, limits: &Limits) -> bool {
        self.served < limits.requests_per_connection
    }

    fn is_closing(&mut self, worker: &Worker<N>) -> bool {
        worker.parts_from(self.access.listener) || !self.access.is_welcome(self.stream, worker, &worker.policy())
    }

    async fn read(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<usize> {
        self.stream.read(buf, deadline).await
    }

    async fn readable(&mut self, deadline: Duration) -> io::Result<()> {
        self.stream.readable(deadline).await
    }

    async fn invite(&mut self, worker: &Worker<N>, deadline: Duration) -> Result<(), Outcome> {
        respond::write_continue(worker, self.stream, deadline).await
    }

    fn begin(&mut self, worker: &Worker<N>, asked: &mut Asked<'_>, reply: ReplyHead<'_>) {
        self.framing = match (reply.framing, asked.version) {
            (ResponseFraming::None | ResponseFraming::Length(_), _) => AnswerFraming::Exact,
            (_, Version::Http11) => AnswerFraming::Chunked,
            (_, Version::Http10) => AnswerFraming::UntilClose,
        };
        asked.keep_alive &= self.framing != AnswerFraming::UntilClose && !self.is_closing(worker);
        let mut head = worker.scratch.borrow_mut();
        head.clear();
        self.encode_head(&mut head, asked, reply);
    }

    fn has_begun(&self) -> bool {
        self.before.is_some()
    }

    async fn piece(&mut self, worker: &Worker<N>, mut buf: Vec<u8>, piece: BodyPiece) -> Result<Vec<u8>, Outcome> {
        let range = {
            // Before the first piece the head is there.
            let mut prefix = worker.scratch.borrow_mut();
            if let Some(before) = self.before {
                prefix.clear();
                prefix.extend_from_slice(before);
            }
            self.frame(&mut buf, piece, &mut prefix);
            place(&mut buf, piece.start, &prefix)
        };
        if !range.is_empty() {
            let deadline = worker.net.monotonic() + self.write_timeout;
            let writing = pin!(self.stream.write_all(buf, range, deadline));
            let written = self.occupancy.during_write(|| worker.net.monotonic(), writing).await;
            let (result, back) = written.map_err(|Evicted| Fault::ResponseGaveWay)?;
            buf = back;
            result.map_err(unread)?;
        }
        let in_chunk = self.framing == AnswerFraming::Chunked && piece.length > 0;
        self.before = Some(if in_chunk { b"\r\n" } else { b"" });
        Ok(buf)
    }

    async fn answer(&mut self, worker: &Worker<N>, asked: &mut Asked<'_>, own: OwnAnswer<'_>) -> Result<(), Outcome> {
        respond::write_answer(worker, self.stream, asked, own).await
    }

    /// A connection whose client has sent all of its last request has nothing to say that closing could cut off, and need
    /// not linger.
    fn settle(&mut self, call: &Call<'_, '_>) -> Next {
        let asked = &call.asked;
        if asked.keep_alive {
            Next::Again
        } else if asked.is_last && asked.body_read && call.inbound.is_all_read() && self.stream.is_quiet() {
            self.stream.say_goodbye();
            Next::Close
        } else {
            Next::Linger
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
