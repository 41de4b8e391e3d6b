//! From a verified delivery to the first byte of the application's answer.

use crate::gate::believed::Said;
use crate::gate::client::Account;
use crate::gate::identity::Caller;
use crate::gate::replay;
use crate::gate::route::Route;
use crate::gate::verify::Verified;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::telemetry::WorkerCells;
use crate::telemetry::exchange::Stage;
use crate::wire::encode;
use crate::wire::framing::BodyFraming;
use crate::wire::head::{Known, ResponseHead};

use super::asked::Asked;
use super::forwarded_headers::{self, Told};
use super::inbound::Inbound;
use super::outgoing::Outgoing;
use super::reply::{HeadOf, Reply, Unread, Unusable};
use super::request::Genuine;
use crate::edge::peer::Sender;
use crate::edge::policy::{Policy, Upstream};
use crate::edge::runtime::net::Net;
use crate::edge::snapshot::Snapshot;
use crate::edge::worker::Worker;

/// What of a connection is needed to forward its delivery.
pub struct Way<'c, S> {
    /// Whom the delivery came from.
    pub sender: Sender<'c>,
    /// Over what: the connection to the application is used by the same task.
    pub socket: &'c S,
    /// The head of the application's answer.
    pub reply_head: &'c mut ResponseHead,
    /// Position of the application in [`Policy::upstreams`].
    pub upstream: usize,
}

/// Sends a delivery that has been proven genuine, and reads the head of the answer. A status line of 2xx commits the
/// claim, whatever becomes of the rest of the answer: the application has the delivery. In every other case, whatever
/// breaks or is given up, the claim is released.
///
/// # Errors
/// A [`Fault`] on the upstream's side, of which [`Asked`] notes the rule that was broken and whether the delivery was
/// accepted all the same; [`Rejection::LoopDetected`].
pub async fn forward<'p, N: Net>(
    worker: &Worker<N>,
    policy: &Snapshot<N::Stream>,
    way: Way<'_, N::Stream>,
    asked: &mut Asked<'p>,
    genuine: Genuine<'p, '_>,
) -> Result<Reply<N::Stream>, Outcome> {
    let Way { sender, socket, reply_head, upstream: position } = way;
    let Genuine { route, verified, claim } = genuine;
    if asked.client.account == Account::Stranger && names_a_client(verified.delivery()) {
        worker.cells(WorkerCells::forwarded_for_unheard);
    }
    let outgoing = {
        let mut head = worker.scratch.borrow_mut();
        head.clear();
        let onward = OnwardHead { policy, route, verified: &verified, sender, asked };
        let encoded = onward.encode(&mut head, &worker.pseudonym);
        let outgoing = encoded.map(|()| Outgoing::new(verified.into_delivery(), &head, &worker.buffers));
        // A loop is seen only here, and verification has taken its time all the same.
        asked.mark(Stage::Verified, worker.net.look().monotonic);
        outgoing?
    };
    let mut outgoing = outgoing;
    let (Some(upstream), Some(pool)) = (policy.upstreams.get(position), policy.pool(position)) else {
        return Err(Fault::UpstreamConnect.into());
    };
    let sent = outgoing.send(worker, upstream, pool, socket).await;
    let mut line = sent.map_err(|fault| draining_instead(worker, fault))?;
    let Outgoing { inbound, .. } = outgoing;
    let mut head = HeadOf { reply: reply_head, is_head: asked.is_head };
    let mut unread = Unread::new(worker, &mut line);
    let found = unread.read_head(worker, upstream, inbound, &mut head).await;
    let answer = unread.judge(found, head.reply);
    let buf = unread.buf;
    let status = answer.as_ref().map_or_else(|unusable| unusable.status, |_| Some(head.reply.status));
    let now = worker.net.now();
    asked.accepted = status.filter(|status| replay::accepted(*status));
    if asked.accepted.is_some() {
        claim.commit(now).await;
    }
    if answer.is_ok() || asked.accepted.is_some() {
        asked.mark(Stage::Answered, now.monotonic);
    }
    match answer {
        Ok((head_end, framing)) => {
            Ok(Reply { line, upstream: position, buf, head_end, framing, sent: 0, broken_rule: None })
        }
        Err(Unusable { fault, broken_rule, .. }) => {
            asked.broken_rule = broken_rule;
            worker.buffers.give_back(buf);
            if asked.accepted.is_some() {
                line.finish(worker, inbound, upstream.response_timeout).await;
            }
            Err(fault.into())
        }
    }
}

/// While we stop, an application that is gone already is no fault of its own: senders may try again elsewhere.
fn draining_instead<N: Net>(worker: &Worker<N>, fault: Fault) -> Outcome {
    match fault {
        Fault::UpstreamConnect | Fault::UpstreamConnectTimeout if worker.drain.has_begun() => Fault::Draining.into(),
        fault => fault.into(),
    }
}

/// The head that the application gets: what came, without what is not end-to-end, and what we vouch for.
pub(super) struct OnwardHead<'a, 'p, 'c> {
    pub(super) policy: &'a Policy,
    pub(super) route: &'a Route,
    pub(super) verified: &'a Verified<'p, &'c mut Inbound>,
    pub(super) sender: Sender<'a>,
    pub(super) asked: &'a Asked<'p>,
}

impl OnwardHead<'_, '_, '_> {
    /// Writes it.
    ///
    /// # Errors
    /// [`Rejection::LoopDetected`]: the request has come through this process before.
    fn encode(&self, out: &mut Vec<u8>, pseudonym: &[u8]) -> Result<(), Rejection> {
        self.encode_fields(out, pseudonym)?;
        encode::end(out);
        Ok(())
    }

    /// The same without the empty line at its end.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub(super) fn encode_fields(&self, out: &mut Vec<u8>, pseudonym: &[u8]) -> Result<(), Rejection> {
        let Self { policy, route, verified, sender, asked } = *self;
        let inbound = verified.delivery();
        let (head, bytes) = inbound.head();
        let headers = head.headers(bytes);
        if headers.of_kind(Known::Via).any(|via| contains(via, pseudonym)) {
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
        forwarded_headers::encode(out, headers, host, Told { client: asked.client, sender, passes });
        for via in headers.of_kind(Known::Via) {
            encode::field(out, b"Via", via);
        }
        encode::via(out, head.version, pseudonym);
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
        Ok(())
    }
}

/// Whether a request says for whom it came (`X-Forwarded-For`).
fn names_a_client(inbound: &Inbound) -> bool {
    let (head, bytes) = inbound.head();
    head.headers(bytes).of_kind(Known::XForwardedFor).next().is_some()
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
