//! The book of leases of a cluster, without connections.
#![allow(clippy::unwrap_used)]

use core::net::SocketAddr;
use core::task::{Poll, Waker};
use core::time::Duration;
use std::sync::Arc;

use super::book::LeaseBook;
use super::key::EngineKey;
use super::lease::{LeaseId, LeaseTerms};
use super::slots::SlotMap;
use super::{ClusterErrand, EngineAnswer, EngineTrouble};
use crate::wire::resp;

const TERMS: LeaseTerms = LeaseTerms { lease: Duration::from_secs(41), window: Duration::from_secs(601) };
const YOURS: &[u8] = b"*1\r\n:0\r\n";
const MAP: &[u8] = b"*2\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n*3\r\n:8192\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:7001\r\n";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn node(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

struct Side {
    book: LeaseBook,
    key: EngineKey,
}

impl Side {
    fn new() -> Self {
        let mut book = LeaseBook::new(1, 0, 1, ms(50)).of_cluster();
        assert_eq!(book.trouble(), Some(EngineTrouble::Starting));
        assert_eq!(book.errand(Waker::noop()), Poll::Ready(ClusterErrand::Map));
        book.adopt_map(Ok(Arc::new(SlotMap::of(MAP, None).unwrap())), ms(0));
        Self { book, key: EngineKey::new(&[7; 32], "t:") }
    }

    fn claim(&mut self, now: Duration) -> LeaseId {
        self.book.claim(self.key.probe(1, 0), TERMS, now).unwrap()
    }

    /// Makes the connection that the book asks for.
    fn connect(&mut self, lane: usize, port: u16, now: Duration) {
        assert_eq!(self.book.errand(Waker::noop()), Poll::Ready(ClusterErrand::Keep(lane, node(port))));
        self.book.connected(lane, now);
    }

    /// The first word of each command.
    fn sent(&mut self, lane: usize, now: Duration) -> Vec<String> {
        let mut out = Vec::new();
        self.book.send(lane, &mut out, &self.key, now);
        let (mut rest, mut words) = (&out[..], Vec::new());
        while let Ok(Some(length)) = resp::reply_length(rest) {
            let word = resp::values(&rest[..length]).nth(1);
            let Some(resp::RespValue::Text(word)) = word else { return words };
            words.push(String::from_utf8_lossy(word).into_owned());
            rest = &rest[length..];
        }
        words
    }

    fn home(&self) -> u16 {
        if self.key.probe(1, 0).slot() < 8192 { 7000 } else { 7001 }
    }
}

#[test]
fn a_claim_waits_for_the_connection_to_its_node_and_follows_the_slot() {
    let mut side = Side::new();
    let (home, other) = (side.home(), 14_001 - side.home());
    let id = side.claim(ms(0));
    side.connect(0, home, ms(5));
    assert_eq!(side.sent(0, ms(5)), ["EVALSHA"]);
    let moved = format!("-MOVED 1 127.0.0.1:{other}\r\n");
    assert_eq!(side.book.answered(0, moved.as_bytes(), ms(6)), Ok(None));
    side.connect(1, other, ms(8));
    assert_eq!(side.book.errand(Waker::noop()), Poll::Ready(ClusterErrand::Map), "the map is old");
    assert_eq!(side.sent(1, ms(8)), ["EVALSHA"]);
    assert_eq!(side.book.poll(id, Waker::noop()), Poll::Pending);
    side.book.answered(1, YOURS, ms(9)).unwrap().unwrap();
    assert_eq!(side.book.poll(id, Waker::noop()), Poll::Ready(EngineAnswer::Yours));
    // What follows goes there at once.
    side.book.commit(id, ms(10));
    assert_eq!((side.sent(0, ms(10)).len(), side.sent(1, ms(10)).len()), (0, 1));
}

#[test]
fn a_slot_on_its_way_is_asked_for_where_it_goes_this_once() {
    let mut side = Side::new();
    let (home, other) = (side.home(), 14_001 - side.home());
    let id = side.claim(ms(0));
    side.connect(0, home, ms(1));
    assert_eq!(side.sent(0, ms(1)), ["EVALSHA"]);
    let ask = format!("-ASK 1 127.0.0.1:{other}\r\n");
    assert_eq!(side.book.answered(0, ask.as_bytes(), ms(2)), Ok(None));
    side.connect(1, other, ms(3));
    assert_eq!(side.sent(1, ms(3)), ["ASKING", "EVALSHA"]);
    assert_eq!(side.book.answered(1, b"+OK\r\n", ms(4)), Ok(None));
    // A script that is not there is sent whole, and the node is told again why.
    assert_eq!(side.book.answered(1, b"-NOSCRIPT No\r\n", ms(4)), Ok(None));
    assert_eq!(side.sent(1, ms(4)), ["ASKING", "EVAL"]);
    assert_eq!(side.book.answered(1, b"+OK\r\n", ms(5)), Ok(None));
    // With some of the names here and some there, a little later.
    assert_eq!(side.book.answered(1, b"-TRYAGAIN Multiple keys\r\n", ms(5)), Ok(None));
    assert!(side.sent(1, ms(6)).is_empty());
    let due = side.book.next_look(1).unwrap();
    assert!(due > ms(6) && due < ms(50), "{due:?}");
    assert_eq!(side.sent(1, due), ["ASKING", "EVAL"]);
    assert_eq!(side.book.answered(1, b"+OK\r\n", due), Ok(None));
    side.book.answered(1, YOURS, due).unwrap().unwrap();
    assert_eq!(side.book.poll(id, Waker::noop()), Poll::Ready(EngineAnswer::Yours));
    // The next one begins at the node that still has the slot.
    side.book.commit(id, ms(20));
    assert_eq!((side.sent(0, ms(20)).len(), side.sent(1, ms(20)).len()), (1, 0));
}

#[test]
fn what_was_accepted_is_told_the_node_that_takes_the_place_of_one_that_died() {
    let mut side = Side::new();
    let home = side.home();
    let id = side.claim(ms(0));
    side.connect(0, home, ms(1));
    assert_eq!(side.sent(0, ms(1)), ["EVALSHA"]);
    side.book.answered(0, YOURS, ms(2)).unwrap().unwrap();
    assert!(side.book.poll(id, Waker::noop()).is_ready());
    side.book.lost(0, EngineTrouble::Closed);
    side.book.commit(id, ms(3));
    assert_eq!(side.book.claim(side.key.probe(1, 0), TERMS, ms(4)), Err(EngineTrouble::Closed));
    assert!(!side.book.end_lane(0), "the map still has it");
    let map = String::from_utf8_lossy(MAP).replace(&home.to_string(), "7002");
    side.book.adopt_map(Ok(Arc::new(SlotMap::of(map.as_bytes(), None).unwrap())), ms(5));
    side.connect(1, 7002, ms(6));
    assert_eq!(side.sent(1, ms(6)), ["EVALSHA"], "the commit");
    side.book.answered(1, b":1\r\n", ms(7)).unwrap();
    assert_eq!(side.book.held(), 0);
    assert!(side.book.end_lane(0), "no slot is there any more");
    assert_eq!(side.book.standing(), None);
}

#[test]
fn a_claim_of_a_node_that_is_not_reached_fails_in_its_time() {
    let mut side = Side::new();
    let id = side.claim(ms(0));
    assert_eq!(side.book.next_look(0), Some(ms(50)));
    assert_eq!(side.book.look(0, ms(50)).unwrap().claims, 1);
    assert_eq!(side.book.poll(id, Waker::noop()), Poll::Ready(EngineAnswer::Failed(EngineTrouble::Silent)));
    // Those that follow are told at once.
    assert_eq!(side.book.claim(side.key.probe(1, 0), TERMS, ms(51)), Err(EngineTrouble::Silent));
}

#[test]
fn the_bucket_of_a_route_is_where_its_deliveries_are() {
    let key = EngineKey::new(&[7; 32], "t:");
    let names = super::super::names::Names::from(crate::gate::verify::Name::from([3; 16]));
    for route in ["orders", "payments", "hook"] {
        assert_eq!(key.names(route, &names, None).slot(), key.rate(route).slot());
    }
}
