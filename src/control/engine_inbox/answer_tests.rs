//! Answers of the engine that never come: between the store and a real engine is what cuts connections.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::store::{EngineInboxTerms, LeaseTime};
use super::store_tests::{Engine, list, now, opened, taken};
use crate::edge::policy::Target;
use crate::edge::shared::EnginePlace;
use crate::inbox::contract_tests::{fresh, put};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::fresh::FreshDelivery;
use crate::inbox::store::{Committed, DeliveryStore, StoreOrder, StoreRefusal};

/// Cuts the connection in place of the next answer, once that is asked for.
struct Cutter {
    cuts: Arc<AtomicBool>,
    socket: PathBuf,
}

impl Cutter {
    /// `then` is done to the engine when an answer has been cut off.
    fn start(engine: &Engine, then: &'static [&'static [&'static str]]) -> Self {
        let socket = engine.folder.join("cutter.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (cuts, behind) = (Arc::new(AtomicBool::new(false)), engine.folder.join("engine.sock"));
        let shared = Arc::clone(&cuts);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = UnixStream::connect(&behind) else { return };
                let (mut up, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut up, &mut to));
                let (cuts, behind) = (Arc::clone(&shared), behind.clone());
                thread::spawn(move || answers(far, near, &cuts, || then.iter().for_each(|words| ask(&behind, words))));
            }
        });
        Self { cuts, socket }
    }
}

fn answers(mut far: UnixStream, mut near: UnixStream, cuts: &AtomicBool, then: impl Fn()) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count) = far.read(&mut bytes) {
        let cut = count > 0 && cuts.swap(false, Ordering::SeqCst);
        if cut {
            then();
        }
        if cut || count == 0 || near.write_all(&bytes[..count]).is_err() {
            let _ = near.shutdown(std::net::Shutdown::Both);
            let _ = far.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// Asks the engine as the user that may do everything.
fn ask(socket: &Path, words: &[&str]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut text = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| text += &format!("${}\r\n{word}\r\n", word.len()));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n", "{words:?}");
}

#[test]
fn what_a_lost_answer_had_told_of_is_found_with_the_next_connection() {
    let Some(engine) = Engine::start() else { return };
    let (cutter, prefix) = (Cutter::start(&engine, &[]), engine.prefix());
    let mut store = opened(terms(&engine, &cutter, &prefix));
    let mut other =
        opened(EngineInboxTerms { lease: LeaseTime::new(Duration::from_secs(60)), ..engine.terms(&prefix) });
    let keyed = |body| FreshDelivery { order_key: [1; 16], ..fresh("orders", body) };
    let first = put(&mut store, &[keyed(b"1")]);
    let second = put(&mut other, &[keyed(b"2")]);
    // The engine has told of the second one, and taken it off the list of what is to be told.
    cutter.cuts.store(true, Ordering::SeqCst);
    store.mend_at_once(now());
    assert!(!cutter.cuts.load(Ordering::SeqCst), "an answer was cut off");
    let third = put(&mut other, &[keyed(b"3")]);
    assert_eq!(taken(&mut store, 2), [second[0], third[0]], "in their order");
    // The same of what has gone.
    cutter.cuts.store(true, Ordering::SeqCst);
    let all = DeliveryFilter { ids: first.clone(), ..DeliveryFilter::default() };
    other.order(&StoreOrder::Purge(all, 10), now()).unwrap();
    store.mend_at_once(now());
    let mut gone = Vec::new();
    for _ in 0..200 {
        store.mend_at_once(now());
        store.take_gone(&mut gone);
        thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(gone, first);
}

/// Nothing that connects from now on may run scripts: the engine refuses them before it does anything.
const NO_SCRIPTS: &[&[&str]] = &[&["ACL", "SETUSER", "default", "-eval", "-evalsha"]];
const SCRIPTS: &[&str] = &["ACL", "SETUSER", "default", "+@all"];

fn terms(engine: &Engine, cutter: &Cutter, prefix: &str) -> EngineInboxTerms {
    let mut terms = EngineInboxTerms { lease: LeaseTime::new(Duration::from_secs(3_600)), ..engine.terms(prefix) };
    terms.engine.place = EnginePlace::Direct(Target::Unix(cutter.socket.clone()));
    terms
}

#[test]
fn a_put_whose_answer_is_lost_is_done_once() {
    let Some(engine) = Engine::start() else { return };
    let cutter = Cutter::start(&engine, &[]);
    let mut store = opened(terms(&engine, &cutter, &engine.prefix()));
    let first = put(&mut store, &[fresh("orders", b"1")]);
    cutter.cuts.store(true, Ordering::SeqCst);
    let second = put(&mut store, &[fresh("orders", b"2"), fresh("orders", b"3")]);
    assert!(!cutter.cuts.load(Ordering::SeqCst), "an answer was cut off");
    assert_eq!(list(&mut store, None), [first, second].concat());
}

#[test]
fn a_refusal_that_follows_a_lost_answer_says_nothing_of_what_was_done_before() {
    let Some(engine) = Engine::start() else { return };
    let cutter = Cutter::start(&engine, NO_SCRIPTS);
    let mut store = opened(terms(&engine, &cutter, &engine.prefix()));
    let first = put(&mut store, &[fresh("orders", b"1")]);
    cutter.cuts.store(true, Ordering::SeqCst);
    let socket = engine.folder.join("engine.sock");
    let mut done = Committed::default();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            thread::park_timeout(Duration::from_millis(1_000));
            ask(&socket, SCRIPTS);
        });
        store.commit(&[fresh("orders", b"2")], &[], now(), &mut done)
    });
    assert_eq!(result, Ok(()));
    assert_eq!(list(&mut store, None), [first[0], done.accepted[0].id], "stored once, and not refused");
    assert_eq!(taken(&mut store, 1), done.elsewhere, "it was found with the new connection");
    // Where the engine does not say in time, the sender is left without an answer, and the delivery is attempted.
    cutter.cuts.store(true, Ordering::SeqCst);
    let result = store.commit(&[fresh("orders", b"3")], &[], now(), &mut Committed::default());
    assert_eq!(result, Err(StoreRefusal::Unknown));
    ask(&socket, SCRIPTS);
    let found = taken(&mut store, 1);
    assert_eq!(list(&mut store, None)[2..], found);
    assert_eq!(put(&mut store, &[fresh("orders", b"4")]).len(), 1);
}
