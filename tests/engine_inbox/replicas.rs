//! Several processes with one inbox.

use std::collections::HashMap;

use crate::support::*;

#[test]
fn another_replica_delivers_what_a_dead_one_had_acknowledged() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    let upstream = away();
    let first = Process::start(&engine, upstream, USUAL);
    let second = Process::start(&engine, upstream, USUAL);
    let (address, other) = (first.open(), second.open());
    let mut ids: Vec<String> = (0..30)
        .map(|at| {
            let answer = send_until_acknowledged(if at % 3 == 0 { other } else { address }, &format!("{{\"n\":{at}}}"));
            assert_eq!(status(&answer), "202", "{answer}");
            field(&answer, "X-Countersign-Delivery").to_owned()
        })
        .collect();
    first.kill();
    second.await_line("20 deliveries are taken over from a replica that has ended or could not reach the engine");
    eventually("the count", || second.page("/metrics").contains("countersign_inbox_taken_over_total 20"));
    let application = application(&upstream.to_string(), &[]);
    let mut delivered: Vec<String> =
        (0..30).map(|_| field(&application.heard(), "X-Countersign-Delivery").to_owned()).collect();
    ids.sort_unstable();
    delivered.sort_unstable();
    assert_eq!(delivered, ids);
    assert!(application.is_quiet());
    assert_eq!(status(&send(other, "{\"n\":1}")), "200", "a copy of what the dead one had accepted");
    second.stop();
}

#[test]
fn a_replica_that_stops_passes_on_at_once_what_it_had() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    let upstream = away();
    let first = Process::start(&engine, upstream, USUAL);
    let address = first.open();
    (0..5).for_each(|at| _ = send_until_acknowledged(address, &format!("{{\"n\":{at}}}")));
    first.stop();
    let second = Process::start(&engine, upstream, USUAL);
    second.open();
    let begun = std::time::Instant::now();
    second.await_line("5 deliveries are taken over from a replica that has ended or could not reach the engine");
    assert!(begun.elapsed().as_secs() < 4, "before the lease has ended");
    let application = application(&upstream.to_string(), &[]);
    (0..5).for_each(|_| _ = application.heard());
    second.stop();
}

#[test]
fn a_key_is_delivered_in_order_whichever_replicas_accept() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    // Some attempts fail, so that a key has more than one delivery that waits.
    let statuses: Vec<u16> = (0..60).map(|at| if at % 4 == 0 { 503 } else { 200 }).collect();
    let application = application("127.0.0.1:0", &statuses);
    let ordered = Terms { delivery: ", order = \"json:/key\"", ..USUAL };
    let replicas: Vec<Process> = (0..3).map(|_| Process::start(&engine, application.address, ordered)).collect();
    let addresses: Vec<_> = replicas.iter().map(Process::open).collect();
    for number in 0..120 {
        let text = format!("{{\"key\":{},\"n\":{number}}}", number % 4);
        let answer = send_until_acknowledged(addresses[number % 3], &text);
        assert_eq!(status(&answer), "202", "{answer}");
    }
    let mut last: HashMap<usize, usize> = HashMap::new();
    let mut accepted = 0;
    while accepted < 120 {
        let request = application.heard();
        let value: serde_json::Value = serde_json::from_str(body(&request)).unwrap();
        let number = |name: &str| usize::try_from(value[name].as_u64().unwrap()).unwrap();
        let (key, n) = (number("key"), number("n"));
        // A delivery comes again until it is accepted, and never after a later one of its key.
        let before = last.insert(key, n);
        assert!(before.is_none_or(|before| n == before || n == before + 4), "{key}: {before:?} {n}");
        accepted += usize::from(before != Some(n));
    }
    for (at, replica) in replicas.iter().enumerate() {
        eventually("an empty inbox", || replica.page("/status").contains("\"waiting\":0"));
        let metrics = replica.page("/metrics");
        assert!(metrics.contains("countersign_inbox_taken_over_total 0"), "{at}");
    }
    replicas.into_iter().for_each(Process::stop);
}

#[test]
fn a_replica_that_was_stopped_for_longer_than_its_lease_settles_nothing_of_what_others_have() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    let upstream = away();
    let first = Process::start(&engine, upstream, USUAL);
    let second = Process::start(&engine, upstream, USUAL);
    let (address, other) = (first.open(), second.open());
    (0..10).for_each(|at| _ = send_until_acknowledged(address, &format!("{{\"n\":{at}}}")));
    first.signal("STOP");
    second.await_line("10 deliveries are taken over from a replica that has ended or could not reach the engine");
    first.signal("CONT");
    first.await_line("the engine does not have what this replica had");
    let application = application(&upstream.to_string(), &[]);
    let mut bodies: Vec<String> = (0..10).map(|_| body(&application.heard()).to_owned()).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 10);
    assert!(application.is_quiet(), "each was attempted by one replica");
    // It goes on with what it accepts from now on.
    assert_eq!(status(&send(address, "{\"n\":\"new\"}")), "202");
    assert_eq!(body(&application.heard()), "{\"n\":\"new\"}");
    assert_eq!(status(&send(other, "{\"n\":1}")), "200");
    first.stop();
    second.stop();
}

#[test]
fn operators_ask_any_replica() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    let application = application("127.0.0.1:0", &[400, 400]);
    let first = Process::start(&engine, application.address, USUAL);
    let second = Process::start(&engine, application.address, USUAL);
    let (address, _) = (first.open(), second.open());
    let ids: Vec<String> = (0..2)
        .map(|at| {
            field(&send_until_acknowledged(address, &format!("{{\"n\":{at}}}")), "X-Countersign-Delivery").to_owned()
        })
        .collect();
    (0..2).for_each(|_| _ = application.heard());
    eventually("dead letters", || second.inbox(&["stats", "--json"]).contains("\"dead\":2"));
    let listed = second.inbox(&["list", "--json"]);
    assert!(ids.iter().all(|id| listed.contains(id)), "{listed}");
    let shown = second.inbox(&["show", &ids[0], "--json"]);
    assert!(shown.contains("hooks.example"), "{shown}");
    second.inbox(&["redrive", &ids[0]]);
    let request = application.heard();
    assert_eq!(field(&request, "X-Countersign-Redriven"), "true");
    assert_eq!(field(&request, "X-Countersign-Delivery"), ids[0]);
    first.inbox(&["purge", &ids[1], "--yes"]);
    eventually("an empty inbox", || {
        let stats = second.inbox(&["stats", "--json"]);
        stats.contains("\"dead\":0") && stats.contains("\"waiting\":0")
    });
    // A route that is held at one replica is held at all.
    second.inbox(&["hold", "--route", "hook"]);
    eventually("a held route", || first.inbox(&["stats", "--json"]).contains("\"held_routes\":[\"hook\"]"));
    assert_eq!(status(&send(address, "{\"n\":9}")), "202");
    assert!(application.is_quiet());
    first.inbox(&["release", "--route", "hook"]);
    assert_eq!(body(&application.heard()), "{\"n\":9}");
    first.stop();
    second.stop();
}
