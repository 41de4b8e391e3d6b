//! Claims that replicas share.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use countersign::ledger::shared::EngineTrouble;
use countersign::telemetry::engine::{EngineAsk, EngineEnd};

use crate::support::*;

#[test]
fn a_thousand_copies_over_three_replicas_are_accepted_once() {
    for driver in DRIVERS {
        let Some(engine) = Engine::start(&[]) else { return };
        let application = application(true);
        let replicas: Vec<Replica> =
            (0..3).map(|_| Replica::of(&engine, &application, Terms { driver, ..USUAL })).collect();
        replicas.iter().for_each(Replica::await_engine);
        let counts = Mutex::new([0; 2]);
        thread::scope(|scope| {
            for client in 0..12 {
                let (replicas, counts) = (&replicas, &counts);
                scope.spawn(move || {
                    for number in 0..84 {
                        let status = deliver(replicas[(client + number) % 3].address(), "{\"once\":1}");
                        assert!(status == 200 || status == 409, "{status}");
                        counts.lock().unwrap()[usize::from(status == 409)] += 1;
                    }
                });
            }
        });
        assert_eq!(counts.lock().unwrap().iter().sum::<u32>(), 12 * 84);
        assert_eq!(application.bodies.try_iter().count(), 1, "{driver}");
        // What one has learnt of another costs no further question.
        let asked = |replica: &Replica| replica.counted(EngineAsk::Claim, EngineEnd::Duplicate);
        let before: Vec<u64> = replicas.iter().map(asked).collect();
        replicas.iter().for_each(|replica| assert_eq!(deliver(replica.address(), "{\"once\":1}"), 200));
        replicas.iter().for_each(|replica| assert_eq!(deliver(replica.address(), "{\"once\":1}"), 200));
        let more: u64 = replicas.iter().map(asked).zip(before).map(|(now, before)| now - before).sum();
        assert!(more <= 2, "{more}");
        // Other deliveries are not kept from anything.
        assert_eq!(deliver(replicas[1].address(), "{\"twice\":2}"), 200);
        assert_eq!(application.bodies.recv_timeout(PATIENCE).unwrap(), "{\"twice\":2}");
        // The engine has seen no id and no body.
        let keys = engine.ask(&["KEYS", "*"]);
        assert!(keys.contains("cs1:{") && !keys.contains("hook"), "{keys}");
    }
}

#[test]
fn keys_that_replicas_exchange_at_different_times_make_no_new_deliveries() {
    let Some(engine) = Engine::start(&[]) else { return };
    let application = application(true);
    let with = |keys: &[&str]| Replica::of(&engine, &application, Terms { keys, ..USUAL });
    let (before, between, after) = (with(&[SECRET]), with(&[OTHER_SECRET, SECRET]), with(&[SECRET, OTHER_SECRET]));
    for replica in [&before, &between, &after] {
        replica.await_engine();
    }
    for (number, order) in
        [[&before, &between, &after], [&after, &before, &between], [&between, &after, &before]].iter().enumerate()
    {
        let body = format!("{{\"number\":{number}}}");
        for replica in *order {
            eventually("an answer that is no conflict", || deliver(replica.address(), &body) == 200);
        }
        assert_eq!(application.bodies.recv_timeout(PATIENCE).unwrap(), body);
    }
    // One that has the other key alone by now names by both, as long as deliveries are remembered.
    assert_eq!(deliver_with(between.address(), OTHER_SECRET, "{\"other\":1}").0, 200);
    eventually("an acknowledged copy", || deliver_with(after.address(), OTHER_SECRET, "{\"other\":1}").0 == 200);
    assert_eq!(application.bodies.try_iter().count(), 1);
}

#[test]
fn a_process_that_dies_with_a_delivery_lets_go_of_it_after_its_lease() {
    let Some(engine) = Engine::start(&[]) else { return };
    let (hangs, works) = (application(false), application(true));
    // Its lease is fourteen seconds long.
    let terms = Terms { upstream: "connect_timeout = \"100ms\"\nresponse_timeout = \"4s\"", ..USUAL };
    let survivor = Replica::of(&engine, &works, terms);
    survivor.await_engine();
    let config = configure(&engine.address(), &hangs, terms);
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .arg("run")
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.ok()?;
        line.split("listening on ").nth(1).and_then(|address| address.trim().parse::<SocketAddr>().ok())
    });
    let address = address.expect("it listens");
    let ready = lines.any(|line| line.is_ok_and(|line| line.contains(" ready: ")));
    assert!(ready);
    let mut stream = TcpStream::connect(address).unwrap();
    let body = "{\"left\":1}";
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: {}\r\nContent-Length: {}\r\n\r\n{body}",
        signature(SECRET, body),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(hangs.bodies.recv_timeout(PATIENCE).unwrap(), body);
    // It has the delivery: it dies between claim and commit.
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(config.parent().unwrap()).unwrap();
    let begun = Instant::now();
    assert_eq!(deliver(survivor.address(), body), 409, "another process may still be at it");
    eventually("a lease that ends", || deliver(survivor.address(), body) == 200);
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(works.bodies.recv_timeout(PATIENCE).unwrap(), body);
    assert_eq!(works.bodies.try_iter().count(), 0);
}

#[test]
fn while_the_engine_hangs_deliveries_are_refused_within_a_second_and_pass_when_it_is_back() {
    for driver in DRIVERS {
        let Some(engine) = Engine::start(&[]) else { return };
        let application = application(true);
        let replica = Replica::of(&engine, &application, Terms { driver, ..USUAL });
        replica.await_engine();
        assert_eq!(deliver(replica.address(), "{\"before\":1}"), 200);
        engine.signal("STOP");
        for number in 0..20 {
            let begun = Instant::now();
            let (status, head) = deliver_with(replica.address(), SECRET, &format!("{{\"during\":{number}}}"));
            assert_eq!(status, 503, "{head}");
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            let wait = head.lines().find_map(|line| line.strip_prefix("Retry-After: ")).expect("a time");
            assert!((2..=5).contains(&wait.parse::<u32>().unwrap()), "{wait}");
        }
        // A copy of what is known here is no question.
        assert_eq!(deliver(replica.address(), "{\"before\":1}"), 200);
        eventually("a replica that knows", || replica.trouble().is_some());
        engine.signal("CONT");
        replica.await_engine();
        assert_eq!(application.bodies.try_iter().count(), 1);
        eventually("a delivery that passes", || deliver(replica.address(), "{\"during\":0}") == 200);
        let ends = replica.ends.0.lock().unwrap();
        assert!(ends.iter().filter(|(code, _)| *code == "shared_unavailable").count() >= 20);
    }
}

#[test]
fn each_replica_judges_alone_while_the_engine_is_away_if_the_configuration_says_so() {
    let Some(mut engine) = Engine::start(&[]) else { return };
    let application = application(true);
    let terms = Terms { shared: "when_unavailable = \"local\"", ..USUAL };
    let (one, other) = (Replica::of(&engine, &application, terms), Replica::of(&engine, &application, terms));
    one.await_engine();
    other.await_engine();
    engine.stop();
    eventually("replicas that know", || one.trouble().is_some() && other.trouble().is_some());
    for replica in [&one, &other, &one, &other] {
        assert_eq!(deliver(replica.address(), "{\"alone\":1}"), 200);
    }
    assert_eq!(application.bodies.try_iter().count(), 2, "once by each");
    // It is noted, and counted.
    let fallbacks = |replica: &Replica| -> usize {
        replica.ends.0.lock().unwrap().iter().filter(|(_, observed)| observed == "shared_unavailable").count()
    };
    eventually("what was noted", || fallbacks(&one) == 1 && fallbacks(&other) == 1);
    assert_eq!(deliver(one.address(), "{\"alone\":2}"), 200);
    engine.restart(&[]);
    one.await_engine();
    other.await_engine();
    // What one has accepted alone is told the engine when it is back.
    eventually("commits that are caught up", || one.counted(EngineAsk::Commit, EngineEnd::Done) >= 2);
    assert_eq!(deliver(other.address(), "{\"alone\":2}"), 200);
    assert_eq!(application.bodies.try_iter().count(), 1, "the copy was acknowledged");
}

#[test]
fn an_engine_that_forgets_everything_costs_one_delivery_for_each_replica_that_has_not_seen_it() {
    let Some(engine) = Engine::start(&[]) else { return };
    let application = application(true);
    let (one, other) = (Replica::of(&engine, &application, USUAL), Replica::of(&engine, &application, USUAL));
    one.await_engine();
    other.await_engine();
    assert_eq!(deliver(one.address(), "{\"kept\":1}"), 200);
    eventually("a commit", || one.counted(EngineAsk::Commit, EngineEnd::Done) == 1);
    assert_eq!(engine.ask(&["FLUSHALL"]), "+OK\r\n");
    assert_eq!(engine.ask(&["SCRIPT", "FLUSH"]), "+OK\r\n");
    assert_eq!(deliver(one.address(), "{\"kept\":1}"), 200, "it is known here");
    assert_eq!(application.bodies.try_iter().count(), 1);
    assert_eq!(deliver(other.address(), "{\"kept\":1}"), 200);
    assert_eq!(application.bodies.try_iter().count(), 1, "the case that the documentation names");
    // Scripts that are gone are sent again.
    assert_eq!(deliver(one.address(), "{\"kept\":2}"), 200);
    assert_eq!(application.bodies.try_iter().count(), 1);
}

#[test]
fn servers_that_cannot_hold_claims_are_named() {
    let application = application(true);
    for (options, trouble) in [
        (&["--maxmemory-policy", "allkeys-lru"][..], EngineTrouble::Evicts),
        (&["--replicaof", "127.0.0.1", "1"], EngineTrouble::IsReplica),
        (&["--requirepass", "a-password"], EngineTrouble::PasswordRefused),
        (&["--user", "default", "on", "nopass", "~other:*", "+@all"], EngineTrouble::NotPermitted),
    ] {
        let Some(engine) = Engine::start(options) else { return };
        let replica = Replica::of(&engine, &application, USUAL);
        eventually(trouble.code(), || replica.trouble() == Some(trouble));
        assert_eq!(deliver(replica.address(), "{\"wrong\":1}"), 503, "{options:?}");
    }
    // Another protocol, and nothing at all.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in other.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 8192]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut [0]);
        }
    });
    let replica = Replica::start(&configure(&address, &application, USUAL));
    eventually("malformed", || replica.trouble() == Some(EngineTrouble::Malformed));
    let replica = Replica::start(&configure("unix:/nonexistent/engine.sock", &application, USUAL));
    eventually("unreachable", || replica.trouble() == Some(EngineTrouble::Unreachable));
    assert_eq!(application.bodies.try_iter().count(), 0);
}

#[test]
fn a_connection_that_the_engine_closes_is_made_again() {
    let Some(engine) = Engine::start(&[]) else { return };
    let application = application(true);
    let replica = Replica::of(&engine, &application, USUAL);
    replica.await_engine();
    for round in 0..5 {
        assert!(engine.ask(&["CLIENT", "KILL", "TYPE", "normal"]).starts_with(':'));
        eventually("a delivery that passes", || deliver(replica.address(), &format!("{{\"round\":{round}}}")) == 200);
    }
    assert_eq!(application.bodies.try_iter().count(), 5);
}
