//! The task that keeps a worker's connection to the engine.

use std::future::{Future as _, poll_fn};
use std::io::ErrorKind;
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

/// The rest of a record is awaited for so long at a time.
const PARTIAL: Duration = Duration::from_millis(1);

/// A buffer is not kept larger than this.
const BUFFER: usize = 64 << 10;

/// Keeps the connection of a worker; does not end. `opened` is what came of the first try.
pub async fn keep<N: Net>(
    worker: Rc<Worker<N>>,
    link: Rc<EngineLink>,
    opened: Result<Outbound<N::Stream>, EngineTrouble>,
) {
    let (mut opened, mut turn) = (opened, link.terms.process ^ link.worker as u64);
    loop {
        let was_there = opened.is_ok();
        let trouble = match opened {
            Ok(stream) => {
                link.book.borrow_mut().connected(worker.net.monotonic());
                stand(&worker, &link, None);
                converse(&worker, &link, stream).await
            }
            Err(trouble) => trouble,
        };
        let failed = link.book.borrow_mut().lost(trouble);
        count_unanswered(&worker, EngineEnd::Failed, failed);
        stand(&worker, &link, Some(trouble));
        let [soon, later, seldom] = RESTS;
        let rest = match trouble {
            _ if was_there => soon,
            // Sentinels name one that is none any more until they have agreed on another.
            EngineTrouble::IsReplica if matches!(link.terms.place, EnginePlace::Sentinels(_)) => later,
            trouble if trouble.is_of_configuration() => seldom,
            _ => later,
        };
        turn = mixed(turn);
        monoio::time::sleep(rest + rest.mul_f64((turn >> 11) as f64 / (1_u64 << 53) as f64)).await;
        opened = open(&worker, &link).await;
    }
}

/// A number that looks like chance (splitmix64).
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Tries to connect to an engine that is fit.
///
/// # Errors
/// Why it cannot be used.
pub async fn open<N: Net>(worker: &Worker<N>, link: &EngineLink) -> Result<Outbound<N::Stream>, EngineTrouble> {
    let terms = &link.terms;
    let now = || worker.net.monotonic();
    let mut stream = match &terms.place {
        EnginePlace::Direct(target) => dial::connect(worker, terms, target).await?,
        EnginePlace::Sentinels(of) => {
            let target = sentinel::find(worker, terms, of, link.worker).await?;
            dial::connect(worker, terms, &target).await?
        }
    };
    let deadline = now() + terms.response_timeout.max(SILENCE);
    let server = greeting::greet(&mut stream, terms, link.worker, deadline).await?;
    terms.standing.note_server(&server.name);
    Ok(stream)
}

/// Tells the process when it stands otherwise than before.
fn stand<N: Net>(worker: &Worker<N>, link: &EngineLink, trouble: Option<EngineTrouble>) {
    if link.terms.standing.set(link.worker, trouble) {
        worker.engine_changed(&link.terms.standing);
    }
}

/// Sends what is asked and hands out what is answered, until the connection is of no use.
async fn converse<N: Net>(worker: &Worker<N>, link: &EngineLink, mut stream: Outbound<N::Stream>) -> EngineTrouble {
    let (mut out, mut buf) = (Vec::new(), Vec::new());
    loop {
        let now = worker.net.monotonic();
        let until = {
            let mut book = link.book.borrow_mut();
            match book.look(now) {
                Ok(late) => count_unanswered(worker, EngineEnd::Late, late),
                Err(trouble) => return trouble,
            }
            let quiet = book.keep_alive(QUIET, now);
            book.send(&mut out, &link.terms.key, now);
            quiet.into_iter().chain(book.next_look()).min().unwrap_or(now + QUIET)
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
        if !wait(link, &mut stream, until).await {
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
        match hear(worker, link, &buf) {
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
async fn wait<S: ByteStream>(link: &EngineLink, stream: &mut S, until: Duration) -> bool {
    let mut readable = pin!(stream.readable(until));
    poll_fn(|cx| {
        if link.was_rung(cx.waker()) {
            return Poll::Ready(false);
        }
        // An error is met again by the reader.
        readable.as_mut().poll(cx).map(|ready| !matches!(ready, Err(error) if error.kind() == ErrorKind::TimedOut))
    })
    .await
}

/// Hands out the replies in `buf`. Gives the length of those that are whole.
fn hear<N: Net>(worker: &Worker<N>, link: &EngineLink, buf: &[u8]) -> Result<usize, EngineTrouble> {
    let now = worker.net.monotonic();
    let mut at = 0;
    loop {
        let rest = buf.get(at..).unwrap_or_default();
        let length = resp::reply_length(rest).map_err(|_| EngineTrouble::Malformed)?;
        let Some(length) = length else { return Ok(at) };
        at += length;
        let heard = link.book.borrow_mut().answered(rest.get(..length).unwrap_or_default(), now)?;
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
        EngineOperation::Ping => return,
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
