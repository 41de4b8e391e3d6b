//! Rates that replicas share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::telemetry::engine::{EngineAsk, EngineEnd};

use crate::support::*;

/// A hundred a second and forty at once: a process takes five at a time.
const RATED: &str = "rate = { rate = \"100/s\", burst = 40, shared = true }";
const RATE: f64 = 100.0;
const BURST: f64 = 40.0;
const BATCH: f64 = 5.0;

/// On a machine that does other things, too, an answer may take longer than the usual time.
const PATIENT: &str = "response_timeout = \"1s\"";

/// Bodies of one test that are all different.
static NUMBERS: AtomicUsize = AtomicUsize::new(0);

fn deliver_new(replica: &Replica) -> (u16, String) {
    deliver_with(replica.address(), SECRET, &format!("{{\"new\":{}}}", NUMBERS.fetch_add(1, Ordering::Relaxed)))
}

/// Sends more than the rate to all replicas for a while. Gives for each delivery that passed when it was sent and answered.
fn flood(replicas: &[Replica], time: Duration) -> Vec<(Duration, Duration)> {
    let (begun, passed) = (Instant::now(), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for client in 0..6 {
            let passed = &passed;
            scope.spawn(move || {
                for number in 0.. {
                    let sent = begun.elapsed();
                    if sent >= time {
                        return;
                    }
                    let (status, head) = deliver_new(&replicas[(client + number) % replicas.len()]);
                    match status {
                        200 => passed.lock().unwrap().push((sent, begun.elapsed())),
                        429 => assert!(head.contains("Retry-After: 1\r\n"), "{head}"),
                        _ => panic!("{head}"),
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
    });
    passed.into_inner().unwrap()
}

/// No interval has more than the bound that the documentation states, and three quarters of the rate pass at least.
#[track_caller]
fn assert_within_bound(passed: &[(Duration, Duration)], replicas: f64, time: Duration) {
    let allowed = |span: Duration| BURST + RATE * span.as_secs_f64() + replicas * BATCH;
    for (from, _) in passed {
        let mut ends: Vec<Duration> = passed.iter().filter(|(sent, _)| sent >= from).map(|(_, end)| *end).collect();
        ends.sort_unstable();
        for (at, until) in ends.iter().enumerate() {
            let count = (at + 1) as f64;
            let most = allowed(*until - *from);
            assert!(count <= most, "{count} between {from:?} and {until:?}, at most {most}");
        }
    }
    let least = 0.75 * (BURST + RATE * time.as_secs_f64());
    assert!(passed.len() as f64 >= least, "{} passed, at least {least}", passed.len());
}

#[test]
fn three_replicas_together_take_no_more_than_the_rate_in_ten_runs() {
    let Some(engine) = Engine::start(&[]) else { return };
    let application = application(true);
    let terms = Terms { shared: PATIENT, route: RATED, ..USUAL };
    let replicas: Vec<Replica> = (0..3).map(|_| Replica::of(&engine, &application, terms)).collect();
    replicas.iter().for_each(Replica::await_engine);
    let time = Duration::from_millis(1200);
    for _ in 0..10 {
        assert_eq!(engine.ask(&["FLUSHALL"]), "+OK\r\n");
        // What is left of the batches of the run before ends in a second.
        thread::sleep(Duration::from_millis(1100));
        assert_within_bound(&flood(&replicas, time), 3.0, time);
    }
    // What is known to be over the rate is no question. At the moment at which that becomes known, some are asked already.
    let sum = |ask: EngineAsk, end: EngineEnd| replicas.iter().map(|it| it.counted(ask, end)).sum::<u64>();
    let (claims, passed) = (sum(EngineAsk::Claim, EngineEnd::Done), application.bodies.try_iter().count() as u64);
    let refused = ends(&replicas, "route_rate_limited");
    assert!(refused > 2 * passed, "{refused} refused, {passed} passed");
    assert!(
        claims < passed + refused - refused / 8,
        "{claims} claims for {passed} that passed and {refused} that did not"
    );
}

/// Exchanges that have ended so.
fn ends(replicas: &[Replica], code: &str) -> u64 {
    let of = |it: &Replica| it.ends.0.lock().unwrap().iter().filter(|(end, _)| *end == code).count() as u64;
    replicas.iter().map(of).sum()
}

#[test]
fn one_process_alone_is_given_the_rate_and_asks_seldom() {
    for driver in DRIVERS {
        let Some(engine) = Engine::start(&[]) else { return };
        let application = application(true);
        let route = format!("{RATED}\nreplay = {{ mode = \"off\" }}");
        let replicas = [Replica::of(&engine, &application, Terms { shared: PATIENT, route: &route, driver, ..USUAL })];
        replicas[0].await_engine();
        let time = Duration::from_secs(2);
        assert_within_bound(&flood(&replicas, time), 1.0, time);
        let asked: u64 = EngineEnd::ALL.iter().map(|end| replicas[0].counted(EngineAsk::Take, *end)).sum();
        assert!(replicas[0].counted(EngineAsk::Take, EngineEnd::Done) > 0);
        assert!(asked <= 500, "{asked} questions, {driver}");
    }
}

#[test]
fn while_the_engine_is_away_a_shared_rate_is_that_of_each_replica_or_refuses() {
    let Some(mut engine) = Engine::start(&[]) else { return };
    let application = application(true);
    let local = format!("{RATED}\nreplay = {{ mode = \"off\" }}\nwhen_unavailable = \"local\"");
    let refuse = format!("{RATED}\nreplay = {{ mode = \"off\" }}");
    let local = Replica::of(&engine, &application, Terms { route: &local, ..USUAL });
    let refuse = Replica::of(&engine, &application, Terms { route: &refuse, ..USUAL });
    local.await_engine();
    refuse.await_engine();
    engine.stop();
    eventually("replicas that know", || local.trouble().is_some() && refuse.trouble().is_some());
    let begun = Instant::now();
    let passed = (0..120).filter(|_| deliver_new(&local).0 == 200).count() as f64;
    let most = BURST + RATE * begun.elapsed().as_secs_f64() + 1.0;
    assert!(passed >= BURST && passed <= most, "{passed}, at most {most}");
    let noted = local.ends.0.lock().unwrap().iter().filter(|(_, observed)| observed == "shared_unavailable").count();
    assert!(noted as f64 >= BURST - 2.0, "each is counted: {noted}");
    let (status, head) = deliver_new(&refuse);
    assert_eq!(status, 503, "{head}");
    let wait = head.lines().find_map(|line| line.strip_prefix("Retry-After: ")).expect("a time");
    assert!((2..=5).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    engine.restart(&[]);
    local.await_engine();
    refuse.await_engine();
    assert_eq!(deliver_new(&refuse).0, 200);
}

#[test]
fn an_engine_that_hangs_costs_a_rated_delivery_less_than_a_second() {
    let Some(engine) = Engine::start(&[]) else { return };
    let application = application(true);
    let route = format!("{RATED}\nreplay = {{ mode = \"off\" }}");
    let replica = Replica::of(&engine, &application, Terms { route: &route, workers: 1, ..USUAL });
    replica.await_engine();
    assert_eq!(deliver_new(&replica).0, 200);
    engine.signal("STOP");
    let statuses: Vec<u16> = (0..12)
        .map(|_| {
            let begun = Instant::now();
            let status = deliver_new(&replica).0;
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            status
        })
        .collect();
    engine.signal("CONT");
    // What the worker had ready is spent first.
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&503), "{statuses:?}");
    eventually("a delivery that passes", || deliver_new(&replica).0 == 200);
}
