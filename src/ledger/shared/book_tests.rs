//! The book of leases, without a connection.
#![allow(clippy::unwrap_used)]

use core::task::{Poll, Waker};
use core::time::Duration;

use super::book::{LeaseBook, SILENCE};
use super::key::{EngineKey, EngineNames};
use super::lease::{LeaseId, LeaseTerms};
use super::{EngineAnswer, EngineResult, EngineTrouble};
use crate::wire::resp::{self, RespValue};

const TERMS: LeaseTerms = LeaseTerms { lease: Duration::from_secs(41), window: Duration::from_secs(601) };
const TIMEOUT: Duration = Duration::from_millis(50);

const YOURS: &[u8] = b"*1\r\n:0\r\n";
const DONE: &[u8] = b":1\r\n";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Side {
    book: LeaseBook,
    key: EngineKey,
}

impl Side {
    fn new() -> Self {
        let mut book = LeaseBook::new(1, 0, 1, TIMEOUT);
        assert_eq!(book.trouble(), Some(EngineTrouble::Starting));
        book.connected(0, ms(0));
        Self { book, key: EngineKey::new(&[7; 32], "t:") }
    }

    fn names(&self, number: u64) -> EngineNames {
        self.key.probe(number, 0)
    }

    fn claim(&mut self, number: u64, now: Duration) -> LeaseId {
        let names = self.names(number);
        self.book.claim(names, TERMS, now).unwrap()
    }

    /// What is sent: the last argument of each command, which is its time, behind a letter for what it asks.
    fn sent(&mut self, now: Duration) -> Vec<String> {
        let mut out = Vec::new();
        self.book.send(0, &mut out, &self.key, now);
        let mut sent = Vec::new();
        let mut rest = &out[..];
        while let Ok(Some(length)) = resp::reply_length(rest) {
            let parts: Vec<&[u8]> = resp::values(&rest[..length])
                .filter_map(|it| if let RespValue::Text(text) = it { Some(text) } else { None })
                .collect();
            let claims = |part: &&[u8]| part.starts_with(b"local taken");
            let last = String::from_utf8_lossy(parts.last().unwrap());
            sent.push(match parts.len() {
                1 => "ping".to_owned(),
                5 => "release".to_owned(),
                _ if parts.get(1).is_some_and(claims) => format!("text {last}"),
                _ => last.into_owned(),
            });
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        sent
    }

    fn poll(&mut self, id: LeaseId) -> Poll<EngineAnswer> {
        self.book.poll(id, Waker::noop())
    }
}

#[test]
fn a_claim_is_asked_held_committed_and_forgotten() {
    let mut side = Side::new();
    let id = side.claim(1, ms(0));
    assert_eq!(side.sent(ms(0)), ["41000"]);
    assert_eq!(side.poll(id), Poll::Pending);
    let event = side.book.answered(0, YOURS, ms(3)).unwrap().unwrap();
    assert_eq!((event.result, event.took), (EngineResult::Done, ms(3)));
    assert_eq!(side.poll(id), Poll::Ready(EngineAnswer::Yours));
    side.book.commit(id, ms(100));
    assert_eq!(side.sent(ms(101)), ["600999"]);
    side.book.answered(0, DONE, ms(102)).unwrap();
    assert_eq!(side.book.held(), 0);
    assert_eq!(side.book.next_look(0), None);
}

#[test]
fn what_is_not_committed_is_given_back() {
    let mut side = Side::new();
    let (held, waiting) = (side.claim(1, ms(0)), side.claim(2, ms(0)));
    assert_eq!(side.sent(ms(0)).len(), 2);
    side.book.answered(0, YOURS, ms(1)).unwrap();
    assert!(side.poll(held).is_ready());
    side.book.release(held);
    // Its exchange is gone before the answer: the claim that comes all the same is given back.
    side.book.release(waiting);
    assert_eq!(side.sent(ms(2)), ["release"]);
    side.book.answered(0, YOURS, ms(3)).unwrap();
    assert_eq!(side.sent(ms(3)), ["release"]);
    side.book.answered(0, DONE, ms(4)).unwrap();
    side.book.answered(0, DONE, ms(4)).unwrap();
    assert_eq!(side.book.held(), 0);
}

#[test]
fn copies_are_told_what_they_are_and_hold_nothing() {
    let mut side = Side::new();
    let (committed, taken) = (side.claim(1, ms(0)), side.claim(2, ms(0)));
    side.sent(ms(0));
    side.book.answered(0, b"*2\r\n:1\r\n:5000\r\n", ms(1)).unwrap();
    side.book.answered(0, b"*2\r\n:2\r\n:5000\r\n", ms(1)).unwrap();
    assert_eq!(side.poll(committed), Poll::Ready(EngineAnswer::Committed { left: ms(5000) }));
    assert_eq!(side.poll(taken), Poll::Ready(EngineAnswer::Taken));
    side.book.release(committed);
    side.book.release(taken);
    assert_eq!(side.sent(ms(2)), Vec::<String>::new(), "what was never ours is not given back");
    assert_eq!(side.book.held(), 0);
}

#[test]
fn an_engine_that_hangs_costs_one_timeout_and_then_nothing_until_it_speaks() {
    let mut side = Side::new();
    let id = side.claim(1, ms(0));
    side.sent(ms(0));
    assert_eq!(side.book.next_look(0), Some(TIMEOUT));
    assert_eq!(side.book.look(0, ms(49)).map(|it| it.claims), Ok(0));
    assert_eq!(side.poll(id), Poll::Pending);
    assert_eq!(side.book.look(0, ms(50)).map(|it| it.claims), Ok(1));
    assert_eq!(side.poll(id), Poll::Ready(EngineAnswer::Failed(EngineTrouble::Silent)));
    let names = side.names(2);
    assert_eq!(side.book.claim(names, TERMS, ms(60)), Err(EngineTrouble::Silent));
    side.book.release(id);
    // It speaks: what it had done is undone, and it is asked again.
    side.book.answered(0, YOURS, ms(400)).unwrap();
    assert_eq!(side.book.trouble(), None);
    assert_eq!(side.sent(ms(400)), ["release"]);
    side.book.answered(0, DONE, ms(401)).unwrap();
    assert_eq!(side.book.held(), 0);
    let id = side.claim(3, ms(500));
    side.sent(ms(500));
    assert_eq!(side.book.look(0, ms(550)).map(|it| it.claims), Ok(1));
    assert_eq!(side.book.next_look(0), Some(ms(500) + SILENCE));
    assert_eq!(side.book.look(0, ms(500) + SILENCE), Err(EngineTrouble::Silent));
    assert_eq!(side.book.lost(0, EngineTrouble::Silent).claims, 0, "it had failed before");
    side.book.release(id);
    // The engine may have it all the same.
    side.book.connected(0, ms(3000));
    assert_eq!(side.sent(ms(3000)), ["release"]);
    side.book.answered(0, DONE, ms(3001)).unwrap();
    assert_eq!(side.book.held(), 0);
}

#[test]
fn a_commit_is_said_again_over_the_next_connection_with_what_is_left_of_its_time() {
    let mut side = Side::new();
    let (known, late) = (side.claim(1, ms(0)), side.claim(2, ms(0)));
    side.sent(ms(0));
    side.book.answered(0, YOURS, ms(1)).unwrap();
    assert!(side.poll(known).is_ready());
    side.book.commit(known, ms(1000));
    assert_eq!(side.sent(ms(1000)), ["601000"]);
    // One was asked and is not answered: its exchange goes on without the engine.
    assert_eq!(side.book.lost(0, EngineTrouble::Closed).claims, 1);
    assert_eq!(side.poll(late), Poll::Ready(EngineAnswer::Failed(EngineTrouble::Closed)));
    side.book.hold(late);
    // So does one that was never asked.
    let names = side.names(3);
    assert_eq!(side.book.claim(names, TERMS, ms(1500)), Err(EngineTrouble::Closed));
    let adopted = side.book.adopt(names, TERMS).unwrap();
    side.book.commit(late, ms(2000));
    side.book.commit(adopted, ms(3000));
    assert_eq!(side.sent(ms(3000)), Vec::<String>::new());
    side.book.connected(0, ms(11_000));
    assert_eq!(side.sent(ms(11_000)), ["591000", "592000", "593000"]);
    // Another process had it meanwhile.
    assert_eq!(side.book.answered(0, b":0\r\n", ms(11_001)).unwrap().unwrap().result, EngineResult::Fenced);
    side.book.answered(0, DONE, ms(11_001)).unwrap();
    side.book.answered(0, b":2\r\n", ms(11_001)).unwrap();
    assert_eq!(side.book.held(), 0);
}

#[test]
fn what_is_forgotten_is_not_said_again() {
    let mut side = Side::new();
    side.book.lost(0, EngineTrouble::Closed);
    let names = side.names(1);
    let id = side.book.adopt(names, TERMS).unwrap();
    side.book.commit(id, ms(0));
    side.book.connected(0, TERMS.window);
    assert_eq!(side.sent(TERMS.window), Vec::<String>::new());
    assert_eq!(side.book.held(), 0);
}

#[test]
fn a_script_that_the_engine_lacks_is_sent_once() {
    let mut side = Side::new();
    let id = side.claim(1, ms(0));
    side.sent(ms(0));
    assert_eq!(side.book.answered(0, b"-NOSCRIPT No matching script.\r\n", ms(1)), Ok(None));
    assert_eq!(side.poll(id), Poll::Pending);
    assert_eq!(side.sent(ms(1)), ["text 41000"]);
    assert!(side.book.answered(0, b"-NOSCRIPT No matching script.\r\n", ms(2)).is_err());
    assert!(matches!(side.poll(id), Poll::Ready(EngineAnswer::Failed(_))));
}

#[test]
fn an_error_of_the_engine_ends_the_connection() {
    let mut side = Side::new();
    let id = side.claim(1, ms(0));
    side.sent(ms(0));
    let refused = side.book.answered(0, b"-READONLY You can't write against a read only replica.\r\n", ms(1));
    assert_eq!(refused, Err(EngineTrouble::IsReplica));
    assert_eq!(side.poll(id), Poll::Ready(EngineAnswer::Failed(EngineTrouble::IsReplica)));
    assert_eq!(side.book.answered(0, YOURS, ms(1)), Err(EngineTrouble::Malformed), "an answer to nothing");
}

#[test]
fn a_quiet_connection_is_tried() {
    let mut side = Side::new();
    assert_eq!(side.book.keep_alive(0, ms(1000), ms(400)), Some(ms(1000)));
    assert_eq!(side.book.keep_alive(0, ms(1000), ms(1000)), None);
    assert_eq!(side.sent(ms(1000)), ["ping"]);
    assert_eq!(side.book.next_look(0), Some(ms(1000) + SILENCE));
    assert_eq!(side.book.answered(0, b"+PONG\r\n", ms(1001)), Ok(None));
    assert_eq!(side.book.keep_alive(0, ms(1000), ms(1001)), Some(ms(2001)));
}

#[test]
fn claims_are_bounded() {
    let mut side = Side::new();
    let mut count = 0;
    loop {
        let names = side.names(count);
        match side.book.claim(names, TERMS, ms(0)) {
            Ok(_) => count += 1,
            Err(trouble) => break assert_eq!(trouble, EngineTrouble::Full),
        }
    }
    assert_eq!(count, 1024);
    side.book.lost(0, EngineTrouble::Closed);
    let names = side.names(1);
    let adopted = core::iter::from_fn(|| side.book.adopt(names, TERMS)).take(100_000).count();
    assert_eq!(adopted, 16 * 1024 - 1024);
}
