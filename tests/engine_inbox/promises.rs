//! What an acknowledgement means, and what happens when the engine is away.

use std::fs;

use crate::support::*;

#[test]
fn a_delivery_is_acknowledged_when_the_engine_has_it_and_delivered_until_it_is_accepted() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    for driver in DRIVERS {
        engine.ask(&["FLUSHALL"]);
        let application = application("127.0.0.1:0", &[503, 500]);
        let process = Process::start(&engine, application.address, Terms { driver, ..USUAL });
        let address = process.open();
        let answer = send(address, "{\"n\":1}");
        assert_eq!(status(&answer), "202", "{answer}");
        let id = field(&answer, "X-Countersign-Delivery").to_owned();
        for attempt in ["1", "2", "3"] {
            let request = application.heard();
            assert!(request.starts_with("POST /hook HTTP/1.1\r\nHost: hooks.example\r\n"), "{request}");
            assert_eq!(body(&request), "{\"n\":1}");
            assert_eq!(field(&request, "X-Countersign-Delivery"), id);
            assert_eq!(field(&request, "X-Countersign-Attempt"), attempt);
        }
        assert_eq!(status(&send(address, "{\"n\":1}")), "200", "a copy");
        assert!(application.is_quiet());
        eventually("an empty inbox", || process.page("/status").contains("\"waiting\":0"));
        let status = process.page("/status");
        assert!(status.contains("appendonly yes, appendfsync always"), "{status}");
        process.stop();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_of_the_process_and_of_the_engine() {
    let Some(mut engine) = Engine::start(&KEEPS) else { return };
    let upstream = away();
    let process = Process::start(&engine, upstream, USUAL);
    let address = process.open();
    let mut ids: Vec<String> = (0..20)
        .map(|at| {
            let answer = send_until_acknowledged(address, &format!("{{\"n\":{at}}}"));
            assert_eq!(status(&answer), "202", "{answer}");
            field(&answer, "X-Countersign-Delivery").to_owned()
        })
        .collect();
    process.kill();
    engine.restart(&KEEPS);
    let process = Process::start(&engine, upstream, USUAL);
    let address = process.open();
    assert_eq!(status(&send(address, "{\"n\":3}")), "200", "a copy");
    process.await_line("20 deliveries are taken over from a replica that has ended or could not reach the engine");
    let application = application(&upstream.to_string(), &[]);
    let mut delivered: Vec<String> =
        (0..20).map(|_| field(&application.heard(), "X-Countersign-Delivery").to_owned()).collect();
    ids.sort_unstable();
    delivered.sort_unstable();
    assert_eq!(delivered, ids);
    assert!(application.is_quiet());
    process.stop();
}

#[test]
fn an_engine_that_is_away_costs_503_and_no_restart() {
    let Some(mut engine) = Engine::start(&KEEPS) else { return };
    let application = application("127.0.0.1:0", &[]);
    // Without memory of copies: the inbox alone needs the engine.
    let process = Process::start(&engine, application.address, USUAL);
    let address = process.open();
    assert_eq!(status(&send(address, "{\"n\":1}")), "202");
    assert_eq!(body(&application.heard()), "{\"n\":1}");
    engine.stop();
    eventually("a refusal", || status(&send(address, "{\"n\":2}")) == "503");
    let answer = send(address, "{\"n\":2}");
    assert_eq!(status(&answer), "503", "{answer}");
    assert!(answer.contains("Retry-After: "), "{answer}");
    process.await_line("the engine does not keep deliveries");
    eventually("the metric", || process.page("/metrics").contains("countersign_inbox_failing 1"));
    engine.restart(&KEEPS);
    send_until_acknowledged(address, "{\"n\":3}");
    assert_eq!(body(&application.heard()), "{\"n\":3}", "what was refused is not delivered");
    process.await_line("deliveries are stored again");
    eventually("the end of the failure", || process.page("/metrics").contains("countersign_inbox_failing 0"));
    assert!(application.is_quiet());
    process.stop();
}

#[test]
fn an_engine_that_hangs_costs_senders_no_time() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    let application = application("127.0.0.1:0", &[]);
    // Claims are not asked for: the inbox alone needs the engine.
    let process = Process::start(&engine, application.address, Terms { route: "replay = { mode = \"off\" }", ..USUAL });
    let address = process.open();
    assert_eq!(status(&send(address, "{\"n\":1}")), "202");
    assert_eq!(body(&application.heard()), "{\"n\":1}");
    engine.signal("STOP");
    // One may be on its way when that is found out.
    let first = std::thread::spawn(move || send(address, "{\"n\":2}"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    for number in 3..6 {
        let begun = std::time::Instant::now();
        let answer = send(address, &format!("{{\"n\":{number}}}"));
        assert_eq!(status(&answer), "503", "{answer}");
        assert!(begun.elapsed().as_millis() < 1_500, "{:?}", begun.elapsed());
    }
    let answer = first.join().unwrap();
    assert!(["503", ""].contains(&status(&answer)), "{answer}");
    engine.signal("CONT");
    send_until_acknowledged(address, "{\"n\":6}");
    let mut bodies = vec![body(&application.heard()).to_owned()];
    while !bodies.contains(&"{\"n\":6}".to_owned()) {
        bodies.push(body(&application.heard()).to_owned());
    }
    // What was not answered may have been stored; what was refused was not.
    let unanswered = answer.is_empty().then_some("{\"n\":2}");
    bodies.retain(|body| unanswered != Some(body));
    assert_eq!(bodies, ["{\"n\":6}"]);
    process.stop();
}

#[test]
fn a_202_that_would_be_a_lie_is_not_given() {
    let Some(mut engine) = Engine::start(&["--appendonly", "no"]) else { return };
    let application = application("127.0.0.1:0", &[]);
    let process = Process::start(&engine, application.address, USUAL);
    let line = process.await_line("the inbox in the engine cannot be opened");
    assert!(line.contains("appendonly no") && line.contains("durability"), "{line}");
    let answer = send(process.address(), "{\"n\":1}");
    assert_eq!(status(&answer), "503", "{answer}");
    // The engine is corrected while the process runs; and later it is made worse.
    engine.ask(&["CONFIG", "SET", "appendfsync", "always"]);
    engine.ask(&["CONFIG", "SET", "appendonly", "yes"]);
    let address = process.open();
    send_until_acknowledged(address, "{\"n\":2}");
    assert_eq!(body(&application.heard()), "{\"n\":2}");
    engine.ask(&["CONFIG", "SET", "appendfsync", "everysec"]);
    let mut number = 10;
    eventually("a refusal", || {
        number += 1;
        status(&send(address, &format!("{{\"n\":{number}}}"))) == "503"
    });
    process.await_line("appendfsync everysec");
    process.stop();
    let in_memory = Terms { inbox: "durability = \"memory\"", ..USUAL };
    engine.restart(&["--appendonly", "no"]);
    let process = Process::start(&engine, application.address, in_memory);
    let address = process.open();
    assert!(process.page("/status").contains("lost when the engine ends"));
    send_until_acknowledged(address, "{\"n\":4}");
    process.stop();
}

#[test]
fn the_user_of_the_documentation_may_do_what_the_inbox_needs() {
    let Some(engine) = Engine::start(&KEEPS) else { return };
    let page = fs::read_to_string("docs/inbox-engine.md").unwrap();
    let line = page.lines().find(|line| line.starts_with("user countersign on ")).expect("an ACL line");
    let rule = line.replace(">PASSWORD", ">sesame");
    let words: Vec<&str> = ["ACL", "SETUSER", "countersign"].into_iter().chain(rule.split(' ').skip(2)).collect();
    assert_eq!(engine.ask(&words), "+OK\r\n");
    fs::write(engine.folder.join("password"), "sesame").unwrap();
    let shared =
        format!("username = \"countersign\"\npassword_file = \"{}\"", engine.folder.join("password").display());
    let application = application("127.0.0.1:0", &[400]);
    let ordered = Terms { shared: &shared, delivery: ", order = \"id\"", ..USUAL };
    let process = Process::start(&engine, application.address, ordered);
    let address = process.open();
    assert_eq!(status(&send(address, "{\"n\":1}")), "202");
    application.heard();
    eventually("a dead letter", || process.inbox(&["stats", "--json"]).contains("\"dead\":1"));
    for (words, said) in [
        (&["list", "--json"][..], "refused_by_application"),
        (&["hold", "--route", "hook"], "hook"),
        (&["release", "--route", "hook"], "hook"),
        (&["redrive", "--route", "hook"], "1"),
    ] {
        let answer = process.inbox(words);
        assert!(answer.contains(said), "{words:?}: {answer}");
    }
    assert_eq!(body(&application.heard()), "{\"n\":1}");
    eventually("an empty inbox", || process.inbox(&["stats", "--json"]).contains("\"waiting\":0"));
    process.stop();
}
