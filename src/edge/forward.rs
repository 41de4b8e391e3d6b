//! From a verified delivery to the first byte of the application's answer.

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::gate::believed::Said;
use crate::gate::identity::Caller;
use crate::gate::replay;
use crate::gate::route::Route;
use crate::gate::verify::Verified;
use crate::ledger::Claim;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::telemetry::exchange::Stage;
use crate::wire::encode;
use crate::wire::framing::{self, BodyFraming, ResponseFraming};
use crate::wire::head::{HeadLimits, Known, ResponseHead, ResponseScan};

use super::buffer::{BufferPool, HEADROOM};
use super::connection::Sender;
use super::exchange::Asked;
use super::forwarding::{self, Told};
use super::inbound::Inbound;
use super::net::Net;
use super::policy::{Policy, Upstream};
use super::snapshot::Snapshot;
use super::stream::ByteStream;
use super::upstream::{Checkout, Pool};
use super::worker::Worker;

/// What we accept as the head of an answer. Applications are trusted with more than strangers are, not with anything.
const REPLY_LIMITS: HeadLimits = HeadLimits { size: 64 << 10, fields: 200, target: 0 };

/// Interim answers (RFC 9110 section 15.2) that are read over before we lose patience.
const INTERIM_ANSWERS: usize = 8;

/// What of a connection is needed to forward its delivery.
pub struct Way<'c, S> {
    /// Whom the delivery came from.
    pub sender: Sender<'c>,
    /// Over what: the connection to the application is used by the same task.
    pub socket: &'c S,
    /// The head of the application's answer.
    pub reply_head: &'c mut ResponseHead,
}

/// The application's answer, up to the end of its head. The head itself is in [`Way::reply_head`].
pub struct Reply<S> {
    /// The connection it came over.
    pub checkout: Checkout<S>,
    /// Which application.
    pub upstream: usize,
    /// What has arrived, from [`HEADROOM`] on.
    pub buf: Vec<u8>,
    /// End of the head in `buf`.
    pub head_end: usize,
    /// How the body ends.
    pub framing: ResponseFraming,
    /// Whether the application got the whole request, so that the connection can be used again.
    pub request_sent: bool,
    /// Bytes of the answer's body that the client has been sent.
    pub sent: u64,
}

/// Sends a delivery that has been proven genuine, and reads the head of the answer. If that accepts the delivery, the
/// claim is committed; in every other case, whatever breaks or is given up, it is released. What becomes of the rest of
/// the answer does not matter: the application has the delivery.
///
/// # Errors
/// A [`Fault`] on the upstream's side; [`Rejection::LoopDetected`].
pub async fn forward<'p, N: Net>(
    worker: &Worker<N>,
    policy: &Snapshot<N::Stream>,
    way: Way<'_, N::Stream>,
    asked: &mut Asked<'p>,
    (route, verified, claim): (&Route, Verified<'p, &mut Inbound>, Claim<'_>),
) -> Result<Reply<N::Stream>, Outcome> {
    let Way { sender, socket, reply_head } = way;
    let outgoing = {
        let mut head = worker.scratch.borrow_mut();
        head.clear();
        let encoded = encode_head(&mut head, worker, sender, asked, (policy, route, &verified));
        let outgoing = encoded.map(|()| Outgoing::new(verified.into_delivery(), &head, &worker.buffers));
        // A loop is seen only here, and verification has taken its time all the same.
        asked.mark(Stage::Verified, worker.net.look().monotonic);
        outgoing?
    };
    let (Some(upstream), Some(pool)) = (policy.upstreams.get(route.upstream), policy.pool(route.upstream)) else {
        return Err(Fault::UpstreamConnect.into());
    };
    let sent = outgoing.send(worker, upstream, pool, socket).await;
    let (checkout, request_sent) = sent.map_err(|fault| draining_instead(worker, fault))?;
    let reused = checkout.reused;
    let unread = Unread { checkout, upstream: route.upstream, request_sent };
    let reply = unread.read_head(worker, upstream, asked, reply_head).await;
    if reused && matches!(reply, Err(Fault::UpstreamClosed)) {
        pool.distrust();
    }
    let reply = reply?;
    let now = worker.net.now();
    asked.mark(Stage::Answered, now.monotonic);
    if replay::accepted(reply_head.status) {
        claim.commit(now).await;
    }
    Ok(reply)
}

/// While we stop, an application that is gone already is no fault of its own: senders may try again elsewhere.
fn draining_instead<N: Net>(worker: &Worker<N>, fault: Fault) -> Outcome {
    match fault {
        Fault::UpstreamConnect | Fault::UpstreamConnectTimeout if worker.drain.has_begun() => Fault::Draining.into(),
        fault => fault.into(),
    }
}

/// Writes the head that the application gets: what came, without what is not end-to-end, and what we vouch for.
fn encode_head<N: Net>(
    out: &mut Vec<u8>,
    worker: &Worker<N>,
    sender: Sender<'_>,
    asked: &Asked<'_>,
    (policy, route, verified): (&Policy, &Route, &Verified<'_, &mut Inbound>),
) -> Result<(), Rejection> {
    let inbound = verified.delivery();
    let (head, bytes) = inbound.head();
    let headers = head.headers(bytes);
    if headers.of_kind(Known::Via).any(|via| contains(via, &worker.pseudonym)) {
        return Err(Rejection::LoopDetected);
    }
    encode::request_line(out, head.method.of(bytes), head.path_and_query(bytes));
    let host = head.host(bytes);
    match host.name {
        // RFC 9112 section 3.3: HTTP/1.0 may leave the host to us. It is then that of the application.
        [] => encode::field(
            out,
            b"Host",
            policy.upstreams.get(route.upstream).map(Upstream::authority).unwrap_or_default(),
        ),
        _ => encode::host(out, b"Host", host),
    }
    let drops = |kind, name: &[u8], value: &[u8]| route.drops(inbound, asked.client, Said { kind, name, value });
    encode::copy_end_to_end(out, headers, drops);
    let passes = |kind| {
        let mut fields = headers.with_kind(kind);
        fields.any(|(name, value)| !drops(kind, name, value))
    };
    forwarding::encode(out, headers, host, Told { client: asked.client, sender, passes });
    for via in headers.of_kind(Known::Via) {
        encode::field(out, b"Via", via);
    }
    encode::via(out, head.version, &worker.pseudonym);
    // A sender that identifies deliveries by this header is not overruled.
    if !passes(Known::XRequestId) {
        encode::field(out, b"X-Request-Id", asked.id.text());
    }
    encode_verdict(out, policy.gate.routes.verdict(route), verified);
    if asked.observed.contains(Rejection::IdReused) {
        encode::field(out, b"X-Countersign-Id-Reused", b"true");
    }
    encode_caller(out, route, sender.caller);
    if asked.framing != BodyFraming::None {
        encode::field_u64(out, b"Content-Length", inbound.body_length() as u64);
    }
    encode::end(out);
    Ok(())
}

/// The verdict headers. Only what the signature covers is passed on as fact.
fn encode_verdict(out: &mut Vec<u8>, of_route: &[u8], verified: &Verified<'_, &mut Inbound>) {
    out.extend_from_slice(of_route);
    if let Some(key) = verified.key_id() {
        encode::field(out, b"X-Countersign-Key-Id", key.as_bytes());
    }
    if let Some(id) = verified.signed_delivery_id().filter(|id| is_plain(id)) {
        encode::field(out, b"X-Countersign-Delivery-Id", id);
    }
    if let Some(millis) = verified.timestamp() {
        encode::field_u64(out, b"X-Countersign-Timestamp", u64::try_from(millis / 1000).unwrap_or(0));
    }
}

/// The name that the client has proven: the one by which the route knows it, or the listener.
fn encode_caller(out: &mut Vec<u8>, route: &Route, caller: Option<&Caller>) {
    let Some(caller) = caller else { return };
    let by_route = if route.callers.is_empty() { None } else { route.callers.find(caller.identity()) };
    if let Some(name) = by_route.or_else(|| caller.name()) {
        encode::field(out, b"X-Countersign-Client-Name", name.as_bytes());
    }
}

/// An id that can stand in a header as it is.
fn is_plain(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= 256 && id.iter().all(u8::is_ascii_graphic)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// A request on its way out.
struct Outgoing<'a> {
    inbound: &'a mut Inbound,
    /// Head and body in the request's own buffer, where the head fits in front of the body.
    whole: Option<Range<usize>>,
    /// The head, where it does not.
    apart: Vec<u8>,
}

impl<'a> Outgoing<'a> {
    fn new(inbound: &'a mut Inbound, head: &[u8], buffers: &BufferPool) -> Self {
        let whole = inbound.replace_head(head);
        let mut apart = Vec::new();
        if whole.is_none() {
            apart = buffers.lease(head.len());
            apart.extend_from_slice(head);
        }
        Self { inbound, whole, apart }
    }

    /// Writes the request to an idle connection or a new one. A connection that fails before it has taken a byte is
    /// replaced once; after the first byte nothing is ever sent again, because a delivery must not happen twice.
    async fn send<N: Net>(
        mut self,
        worker: &Worker<N>,
        upstream: &Upstream,
        pool: &Pool<N::Stream>,
        downstream: &N::Stream,
    ) -> Result<(Checkout<N::Stream>, bool), Fault> {
        let mut checkout = pool.checkout(&worker.net, upstream).await?;
        loop {
            checkout.stream.join_task_of(downstream);
            let deadline = worker.net.monotonic() + upstream.response_timeout;
            let written = match self.whole.clone() {
                Some(range) => self.write(&mut checkout.stream, range, deadline).await,
                None => self.write_apart(worker, &mut checkout.stream, deadline).await,
            };
            match written {
                Ok(()) => return Ok((checkout, true)),
                Err(Unsent { count: 0, .. }) if checkout.reused => {
                    pool.distrust();
                    checkout = pool.connect(&worker.net, upstream).await?
                }
                Err(unsent) if unsent.error.kind() == io::ErrorKind::TimedOut => return Err(Fault::UpstreamTimeout),
                // An application may refuse a body before it has read it, and close: its answer may be there.
                Err(unsent) if unsent.count > 0 => return Ok((checkout, false)),
                Err(_) => return Err(Fault::UpstreamClosed),
            }
        }
    }

    /// Head and body in one piece, from the connection's own buffer.
    async fn write<S: ByteStream>(
        &mut self,
        stream: &mut S,
        range: Range<usize>,
        deadline: Duration,
    ) -> Result<(), Unsent> {
        let mut from = range.start;
        while from < range.end {
            let (result, buf) = stream.write(self.inbound.lend(), from..range.end, deadline).await;
            self.inbound.returned(buf);
            match result {
                Ok(count) if count > 0 => from += count,
                Ok(_) => return Err(Unsent { count: from - range.start, error: io::ErrorKind::WriteZero.into() }),
                Err(error) => return Err(Unsent { count: from - range.start, error }),
            }
        }
        Ok(())
    }

    /// A head that does not fit in front of the body goes first, from a buffer of its own.
    async fn write_apart<N: Net>(
        &mut self,
        worker: &Worker<N>,
        stream: &mut N::Stream,
        deadline: Duration,
    ) -> Result<(), Unsent> {
        let range = HEADROOM..self.apart.len();
        let (result, buf) = stream.write_all(std::mem::take(&mut self.apart), range, deadline).await;
        worker.buffers.give_back(buf);
        // How much of the head was taken is not known: as good as some of it.
        result.map_err(|error| Unsent { count: 1, error })?;
        let body = self.inbound.body_range();
        self.write(stream, body, deadline).await.map_err(|unsent| Unsent { count: unsent.count + 1, ..unsent })
    }
}

/// A write that failed after `count` bytes.
struct Unsent {
    count: usize,
    error: io::Error,
}

/// An answer of which nothing is known yet.
struct Unread<S> {
    checkout: Checkout<S>,
    upstream: usize,
    request_sent: bool,
}

impl<S: ByteStream> Unread<S> {
    async fn read_head<N: Net<Stream = S>>(
        mut self,
        worker: &Worker<N>,
        upstream: &Upstream,
        asked: &Asked<'_>,
        head: &mut ResponseHead,
    ) -> Result<Reply<S>, Fault> {
        let mut buf = worker.buffers.lease(16 << 10);
        let mut scan = ResponseScan::new();
        let mut origin = HEADROOM;
        let mut interim = 0;
        let deadline = worker.net.monotonic() + upstream.response_timeout;
        loop {
            let received = buf.get(origin..).unwrap_or_default();
            if let Some(length) = scan.scan(received, REPLY_LIMITS).map_err(|_| Fault::UpstreamMalformed)? {
                let bytes = received.get(..length).unwrap_or_default();
                head.parse(bytes, REPLY_LIMITS).map_err(|_| Fault::UpstreamMalformed)?;
                if !(100..200).contains(&head.status) {
                    let framing = framing::of_response(head, bytes, asked.is_head);
                    let framing = framing.map_err(|_| Fault::UpstreamMalformed)?;
                    let Self { checkout, upstream, request_sent } = self;
                    if origin > HEADROOM {
                        buf.drain(HEADROOM..origin);
                    }
                    let head_end = HEADROOM + length;
                    return Ok(Reply { checkout, upstream, buf, head_end, framing, request_sent, sent: 0 });
                }
                interim += 1;
                // We never ask for an upgrade, so 101 answers a question that was not put.
                if head.status == 101 || interim > INTERIM_ANSWERS {
                    return Err(Fault::UpstreamMalformed);
                }
                origin += length;
                scan = ResponseScan::new();
                continue;
            }
            if buf.len() == buf.capacity() {
                let mut larger = worker.buffers.lease(REPLY_LIMITS.size * 2);
                larger.extend_from_slice(buf.get(origin..).unwrap_or_default());
                origin = HEADROOM;
                worker.buffers.give_back(std::mem::replace(&mut buf, larger));
            }
            let (result, back) = self.checkout.stream.read(buf, deadline).await;
            buf = back;
            match result {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Fault::UpstreamTimeout),
                _ => return Err(Fault::UpstreamClosed),
            }
        }
    }
}
