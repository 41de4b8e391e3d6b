//! The task that keeps a worker's connection to the engine, or to a node of a cluster.

use std::future::{Future as _, poll_fn};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::greeting::{self, trouble_of};
use super::link::EngineLink;
use super::{EnginePlace, dial, sentinel};
use crate::edge::door::tls::outbound::Outbound;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::{ByteStream, Lent};
use crate::edge::worker::Worker;
use crate::ledger::shared::script::EngineOperation;
use crate::ledger::shared::{AnswerEvent, EngineResult, EngineTrouble, SILENCE, Unanswered};
use crate::telemetry::engine::{EngineAsk, EngineEnd};
use crate::wire::resp;

/// Until the engine is tried again, when it was there before, when it was not, and when an operator has to change
/// something. Up to as much again is added, by chance: not all workers of all replicas come back at once.
const RESTS: [Duration; 3] = [Duration::from_millis(25), Duration::from_millis(250), Duration::from_secs(1)];

/// A connection that is quiet for so long is tried.
const QUIET: Duration = Duration::from_secs(1);

/// So often those are looked after who wait for a connection that is being made.
const TICK: Duration = Duration::from_millis(5);

/// The rest of a record is awaited for so long at a time.
const PARTIAL: Duration = Duration::from_millis(1);

/// A buffer is not kept larger than this.
const BUFFER: usize = 64 << 10;

/// A lane of the book, and where it leads.
#[derive(Clone, Copy, Debug, Default)]
pub struct LanePlace {
    /// Its position in the book.
    pub lane: usize,
    /// The node of a cluster; nothing where there is one engine.
    pub node: Option<SocketAddr>,
}

/// What came of a try to connect.
pub type Opened<S> = Result<Outbound<S>, EngineTrouble>;

/// Keeps the connection of a lane of a worker; ends only where that leads to a node of a cluster that has no slots any more.
/// `opened` is what came of the first try, if there was one.
pub async fn keep<N: Net>(
    worker: Rc<Worker<N>>,
    link: Rc<EngineLink>,
    place: LanePlace,
    opened: Option<Opened<N::Stream>>,
) {
    let LanePlace { lane, node } = place;
    let mut turn = link.terms.process ^ link.worker as u64 ^ (lane as u64) << 32;
    let mut opened = match opened {
        Some(opened) => opened,
        None => open_watched(&worker, &link, place).await,
    };
    loop {
        let was_there = opened.is_ok();
        let trouble = match opened {
            Ok(stream) => {
                link.book.borrow_mut().connected(lane, worker.net.monotonic());
                link.ring();
                stand(&worker, &link);
                converse(&worker, &link, lane, stream).await
            }
            Err(trouble) => trouble,
        };
        let failed = link.book.borrow_mut().lost(lane, trouble);
        count_unanswered(&worker, EngineEnd::Failed, failed);
        if node.is_some() {
            link.book.borrow_mut().want_map();
        }
        stand(&worker, &link);
        turn = mixed(turn);
        let rest = rest_after(trouble, was_there, &link.terms.place);
        monoio::time::sleep(rest + rest.mul_f64((turn >> 11) as f64 / (1_u64 << 53) as f64)).await;
        if link.book.borrow_mut().end_lane(lane) {
            return stand(&worker, &link);
        }
        opened = open(&worker, &link, node).await;
    }
}

/// Until the engine is tried again, at least.
const fn rest_after(trouble: EngineTrouble, was_there: bool, place: &EnginePlace) -> Duration {
    let [soon, later, seldom] = RESTS;
    match trouble {
        _ if was_there => soon,
        // Sentinels name one that is none any more until they have agreed on another, and so does a cluster.
        EngineTrouble::IsReplica if !matches!(place, EnginePlace::Direct(_)) => later,
        trouble if trouble.is_of_configuration() => seldom,
        _ => later,
    }
}

/// Tries to connect while deliveries wait for it already: each as long as it would wait for an answer.
async fn open_watched<N: Net>(worker: &Worker<N>, link: &EngineLink, place: LanePlace) -> Opened<N::Stream> {
    let mut opening = pin!(open(worker, link, place.node));
    loop {
        let mut tick = pin!(monoio::time::sleep(TICK));
        let opened = poll_fn(|cx| match opening.as_mut().poll(cx) {
            Poll::Ready(opened) => Poll::Ready(Some(opened)),
            Poll::Pending => tick.as_mut().poll(cx).map(|()| None),
        });
        if let Some(opened) = opened.await {
            return opened;
        }
        let late = link.book.borrow_mut().look(place.lane, worker.net.monotonic()).unwrap_or_default();
        count_unanswered(worker, EngineEnd::Late, late);
    }
}

/// A number that looks like chance (splitmix64).
pub(super) const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Tries to connect to an engine that is fit, or to this node of a cluster.
///
/// # Errors
/// Why it cannot be used.
pub async fn open<N: Net>(worker: &Worker<N>, link: &EngineLink, node: Option<SocketAddr>) -> Opened<N::Stream> {
    let terms = &link.terms;
    let now = || worker.net.monotonic();
    let mut stream = match &terms.place {
        EnginePlace::Direct(target) => dial::connect(worker, terms, target).await?,
        EnginePlace::Sentinels(of) => {
            let target = sentinel::find(worker, terms, of, link.worker).await?;
            dial::connect(worker, terms, &target).await?
        }
        EnginePlace::Cluster(_) => {
            let node = node.ok_or(EngineTrouble::ClusterDown)?;
            dial::connect(worker, terms, &dial::at(node)).await?
        }
    };
    let deadline = now() + terms.response_timeout.max(SILENCE);
    let server = greeting::greet(&mut stream, terms, link.worker, deadline).await?;
    terms.standing.note_server(&server.name);
    Ok(stream)
}

/// Tells the process when it stands otherwise than before.
pub(super) fn stand<N: Net>(worker: &Worker<N>, link: &EngineLink) {
    let trouble = link.book.borrow().standing();
    if link.terms.standing.set(link.worker, trouble) {
        worker.engine_changed(&link.terms.standing);
    }
}

/// Sends what is asked and hands out what is answered, until the connection is of no use.
async fn converse<N: Net>(
    worker: &Worker<N>,
    link: &EngineLink,
    lane: usize,
    mut stream: Outbound<N::Stream>,
) -> EngineTrouble {
    let (mut out, mut buf) = (Vec::new(), Vec::new());
    loop {
        let now = worker.net.monotonic();
        let until = {
            let mut book = link.book.borrow_mut();
            match book.look(lane, now) {
                Ok(late) => count_unanswered(worker, EngineEnd::Late, late),
                Err(trouble) => return trouble,
            }
            let quiet = book.keep_alive(lane, QUIET, now);
            book.send(lane, &mut out, &link.terms.key, now);
            quiet.into_iter().chain(book.next_look(lane)).min().unwrap_or(now + QUIET)
        };
        if !out.is_empty() {
            let (length, deadline) = (out.len(), now + link.terms.response_timeout);
            let (written, back) = stream.write_all(std::mem::take(&mut out), 0..length, deadline).await;
            if let Err(error) = written {
                return trouble_of(&error);
            }
            out = emptied(back);
        }
        if let Err(error) = stream.flush(worker.net.monotonic() + SILENCE).await {
            return trouble_of(&error);
        }
        if !wait(link, lane, &mut stream, until).await {
            continue;
        }
        buf.reserve(4 << 10);
        let (read, back) = receive(&mut stream, std::mem::take(&mut buf), worker.net.monotonic()).await;
        buf = back;
        match read {
            Ok(Some(0)) => return EngineTrouble::Closed,
            Ok(Some(_)) => {}
            Ok(None) => continue,
            Err(error) => return trouble_of(&error),
        }
        match hear(worker, link, lane, &buf) {
            Ok(used) if used == buf.len() => buf = emptied(buf),
            Ok(used) => drop(buf.drain(..used)),
            Err(trouble) => return trouble,
        }
    }
}

/// Reads from a connection that has something. Where it is encrypted, that may be a part of a record, or what the protocol has
/// to say itself: the rest is not waited for long, for others have something to send.
async fn receive<S: ByteStream>(stream: &mut Outbound<S>, buf: Vec<u8>, now: Duration) -> Lent<Option<usize>> {
    if stream.is_encrypted() {
        return stream.read_patiently(buf, now + PARTIAL).await;
    }
    let (read, buf) = stream.read(buf, now + SILENCE).await;
    (read.map(Some), buf)
}

/// A buffer for its next use; one that had to be large is not kept.
fn emptied(mut buf: Vec<u8>) -> Vec<u8> {
    buf.clear();
    if buf.capacity() > BUFFER { Vec::new() } else { buf }
}

/// Waits until there is something to read (`true`), or something to send, or the time has come.
async fn wait<S: ByteStream>(link: &EngineLink, lane: usize, stream: &mut S, until: Duration) -> bool {
    let mut readable = pin!(stream.readable(until));
    poll_fn(|cx| {
        if link.book.borrow_mut().was_rung(lane, cx.waker()) {
            return Poll::Ready(false);
        }
        // An error is met again by the reader.
        readable.as_mut().poll(cx).map(|ready| !matches!(ready, Err(error) if error.kind() == ErrorKind::TimedOut))
    })
    .await
}

/// Hands out the replies in `buf`. Gives the length of those that are whole.
fn hear<N: Net>(worker: &Worker<N>, link: &EngineLink, lane: usize, buf: &[u8]) -> Result<usize, EngineTrouble> {
    let now = worker.net.monotonic();
    let mut at = 0;
    loop {
        let rest = buf.get(at..).unwrap_or_default();
        let length = resp::reply_length(rest).map_err(|_| EngineTrouble::Malformed)?;
        let Some(length) = length else { return Ok(at) };
        at += length;
        let heard = link.book.borrow_mut().answered(lane, rest.get(..length).unwrap_or_default(), now)?;
        if let Some(AnswerEvent { operation, result, took }) = heard {
            count(worker, operation, result, took);
        }
        // An answer may have given something to send.
        if link.book.borrow().has_more() {
            link.ring();
        }
    }
}

fn count_unanswered<N: Net>(worker: &Worker<N>, end: EngineEnd, unanswered: Unanswered) {
    worker.cells(|cells| {
        cells.engine.ended(EngineAsk::Claim, end, unanswered.claims);
        cells.engine.ended(EngineAsk::Take, end, unanswered.tokens);
    });
}

fn count<N: Net>(worker: &Worker<N>, operation: EngineOperation, result: EngineResult, took: Duration) {
    let ask = match operation {
        EngineOperation::Claim => EngineAsk::Claim,
        EngineOperation::Commit => EngineAsk::Commit,
        EngineOperation::Release => EngineAsk::Release,
        EngineOperation::Take => EngineAsk::Take,
        EngineOperation::Ping | EngineOperation::Asking => return,
    };
    let end = match result {
        EngineResult::Done => EngineEnd::Done,
        EngineResult::Duplicate => EngineEnd::Duplicate,
        EngineResult::InFlight => EngineEnd::InFlight,
        EngineResult::Fenced => EngineEnd::Fenced,
        EngineResult::Empty => EngineEnd::Empty,
        EngineResult::Failed => EngineEnd::Failed,
    };
    worker.cells(|cells| {
        cells.engine.ended(ask, end, 1);
        cells.engine.took(ask, took);
    });
}
