//! Our own answers: short JSON with the request id, and nothing that helps an attacker.

use std::time::Duration;

use crate::gate::verify::ChallengeReply;
use crate::outcome::{AnswerRow, Fault, Outcome, Rejection};
use crate::wire::encode;
use crate::wire::head::Version;

use crate::edge::call::asked::Asked;
use crate::edge::call::carrier::OwnAnswer;
use crate::edge::runtime::buffer::HEADROOM;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::ByteStream;
use crate::edge::worker::Worker;

/// Seconds after which it makes sense to try again, told with 429 and 503 where no better number is known.
const RETRY_AFTER: u64 = 5;

/// The answer to a copy of a delivery whose fate is known in a moment.
const IN_FLIGHT: AnswerRow = Rejection::DuplicateInFlight.answer();
/// Seconds after which it makes sense to ask for that fate.
const RETRY_IN_FLIGHT_AFTER: u64 = 1;

/// Writes the answer to a request that the application has not answered.
///
/// # Errors
/// [`Fault::ResponseUnread`] or [`Fault::DownstreamClosed`]: the client does not take it.
pub(super) async fn write_answer<N: Net>(
    worker: &Worker<N>,
    stream: &mut impl ByteStream,
    asked: &mut Asked<'_>,
    own: OwnAnswer<'_>,
) -> Result<(), Outcome> {
    let OwnAnswer { answer, challenge, is_bare, allow, deadline } = own;
    let mut buf = worker.buffers.lease(0);
    let out = &mut buf;
    encode::status_line(out, answer.status);
    encode::field(out, b"Date", &worker.date.at(worker.net.now()));
    if let Some(reply) = challenge {
        encode_challenge(out, asked, reply);
        return write(worker, stream, buf, deadline).await;
    }
    if !is_bare {
        encode::field(out, b"Content-Type", b"application/json");
    }
    encode::field(out, b"Cache-Control", b"no-store");
    encode::field(out, b"X-Request-Id", asked.id.text());
    match answer.status {
        // RFC 9110 section 15.5.2 wants a challenge with every 401.
        401 => encode::field(out, b"WWW-Authenticate", b"Webhook-Signature"),
        405 => encode::field(out, b"Allow", allow.as_bytes()),
        409 if answer == IN_FLIGHT => encode::field_u64(out, b"Retry-After", RETRY_IN_FLIGHT_AFTER),
        _ => {}
    }
    if matches!(answer.status, 429 | 503) {
        encode::field_u64(out, b"Retry-After", asked.retry_after.unwrap_or(RETRY_AFTER));
    }
    encode_fate(out, asked);
    if is_bare {
        encode::field_u64(out, b"Content-Length", 0);
        encode::end(out);
        return write(worker, stream, buf, deadline).await;
    }
    let parts = if answer.status < 300 { SUCCESS } else { BODY };
    let body_length = parts.iter().map(|part| part.len()).sum::<usize>() + answer.error.len() + asked.id.text().len();
    encode::field_u64(out, b"Content-Length", body_length as u64);
    encode::end(out);
    if !asked.is_head {
        let [open, middle, close] = parts;
        for part in [open, answer.error.as_bytes(), middle, asked.id.text(), close] {
            out.extend_from_slice(part);
        }
        asked.sent = body_length as u64;
    }
    write(worker, stream, buf, deadline).await
}

/// The rest of the answer to a handshake. It is text or JSON: no browser takes it for a page.
fn encode_challenge(out: &mut Vec<u8>, asked: &mut Asked<'_>, reply: &ChallengeReply) {
    if let Some(media) = reply.media {
        encode::field(out, b"Content-Type", media.as_bytes());
    }
    encode::field(out, b"X-Content-Type-Options", b"nosniff");
    encode::field(out, b"Cache-Control", b"no-store");
    encode::field(out, b"X-Request-Id", asked.id.text());
    for (name, value) in &reply.fields {
        encode::field(out, name.as_bytes(), value);
    }
    encode_fate(out, asked);
    // RFC 9110 section 8.6: no length with 204.
    if reply.status != 204 {
        encode::field_u64(out, b"Content-Length", reply.body.len() as u64);
    }
    encode::end(out);
    if !asked.is_head {
        out.extend_from_slice(&reply.body);
        asked.sent = reply.body.len() as u64;
    }
}

const BODY: [&[u8]; 3] = [b"{\"error\":\"", b"\",\"request_id\":\"", b"\"}\n"];
const SUCCESS: [&[u8]; 3] = [b"{\"status\":\"", b"\",\"request_id\":\"", b"\"}\n"];

/// Writes `100 Continue` (RFC 9110 section 15.2.1).
///
/// # Errors
/// As [`write_answer`].
pub(super) async fn write_continue<N: Net>(
    worker: &Worker<N>,
    stream: &mut impl ByteStream,
    deadline: Duration,
) -> Result<(), Outcome> {
    let mut buf = worker.buffers.lease(0);
    buf.extend_from_slice(encode::CONTINUE);
    write(worker, stream, buf, deadline).await
}

async fn write<N: Net>(
    worker: &Worker<N>,
    stream: &mut impl ByteStream,
    buf: Vec<u8>,
    deadline: Duration,
) -> Result<(), Outcome> {
    let range = HEADROOM..buf.len();
    let (result, buf) = stream.write_all(buf, range, deadline).await;
    worker.buffers.give_back(buf);
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => Fault::ResponseUnread.into(),
        _ => Fault::DownstreamClosed.into(),
    })
}

/// Writes whether the connection goes on, where the client cannot know.
pub(super) fn encode_fate(out: &mut Vec<u8>, asked: &Asked<'_>) {
    match (asked.keep_alive, asked.version) {
        (false, _) => encode::field(out, b"Connection", b"close"),
        (true, Version::Http10) => encode::field(out, b"Connection", b"keep-alive"),
        (true, Version::Http11) => {}
    }
}
