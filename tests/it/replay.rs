//! Deliveries that come twice: what the application accepted it never sees again, and what it did not accept it does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::application::OK;
use crate::support::delivery::OLDER_SECRET;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    a_duplicate_is_acknowledged_and_not_forwarded,
    a_duplicate_is_a_conflict_where_the_route_says_so,
    what_was_not_accepted_is_forwarded_again,
    retries_get_through_until_one_is_accepted,
    a_thousand_copies_at_once_arrive_once,
    a_copy_in_flight_may_come_again_in_a_second,
    a_client_that_goes_in_flight_does_not_undo_the_delivery,
    an_exchange_that_is_cut_off_releases_its_claim,
    forged_copies_claim_nothing,
    a_full_table_refuses,
    a_full_table_evicts_the_oldest_where_the_route_says_so,
    observing_forwards_and_notes,
    nothing_is_remembered_where_the_route_says_so,
    routes_are_told_apart_and_keys_are_not,
    an_expired_entry_is_forgotten,
    the_log_shows_what_was_noted,
    keys_that_end_to_count_make_no_new_deliveries,
    keys_that_come_and_go_make_no_new_deliveries,
    what_is_accepted_before_it_was_read_is_accepted,
}

const ENFORCE: &str = "{ mode = \"enforce\" }";

fn answering(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// An application that answers the request with the number `n`, counted from 0, as `reply(n)` says.
fn counting(reply: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Application {
    let count = AtomicUsize::new(0);
    Application::following(move |visit| {
        while visit.request().is_some() {
            visit.say(&reply(count.fetch_add(1, Ordering::SeqCst)));
        }
    })
}

/// An application that answers each request when it is told to, and how it is told.
fn on_command() -> (Application, impl Fn(&[u8])) {
    let (go, wait) = channel::<Vec<u8>>();
    let wait = Arc::new(Mutex::new(wait));
    let application = Application::following(move |visit| {
        while visit.request().is_some() {
            let Ok(reply) = wait.lock().unwrap().recv() else { return };
            visit.say(&reply);
        }
    });
    (application, move |reply: &[u8]| go.send(reply.to_vec()).unwrap())
}

fn a_duplicate_is_acknowledged_and_not_forwarded(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).workers(2).replay(ENFORCE).start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&Delivery::of(b"one").bytes()).body, b"ok");
    for delivery in [Delivery::of(b"one"), Delivery::of(b"one").chunked(&[1]).field("X-GitHub-Delivery", "another")] {
        let answer = client.ask(&delivery.bytes());
        assert_eq!((answer.status, answer.closes(), answer.field("Retry-After")), (200, false, None));
        let id = answer.field("X-Request-Id").unwrap();
        let body = format!("{{\"status\":\"duplicate\",\"request_id\":\"{id}\"}}\n");
        assert_eq!(String::from_utf8_lossy(&answer.body), body);
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
    }
    // On another connection, perhaps to another worker, it is no different.
    assert_eq!(proxy.connect().ask(&Delivery::of(b"one").bytes()).status, 200);
    // An exchange is recorded after its answer, by its own worker.
    assert!(eventually(|| proxy.endings().len() == 4));
    assert_eq!(client.ask(&Delivery::of(b"two").bytes()).body, b"ok");
    let bodies: Vec<Vec<u8>> = application.assert_requests(2).into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"one", b"two"]);
    proxy.assert_endings(&["forwarded", "duplicate", "duplicate", "duplicate", "forwarded"]);
}

fn a_duplicate_is_a_conflict_where_the_route_says_so(driver: Driver) {
    let application = Application::answering(&answering("204 No Content"));
    let proxy = Proxy::on(driver, &application).replay("{ duplicates = \"conflict\" }").start();
    let mut client = proxy.connect();
    let delivery = Delivery::of(b"{}").bytes();
    assert_eq!(client.ask(&delivery).status, 204);
    for _ in 0..3 {
        let answer = client.ask(&delivery);
        assert_eq!((answer.status, answer.closes(), answer.field("Retry-After")), (409, false, None));
        assert!(answer.body.starts_with(b"{\"error\":\"duplicate\","));
    }
    application.assert_requests(1);
    proxy.assert_endings(&["forwarded", "duplicate_conflict", "duplicate_conflict", "duplicate_conflict"]);
}

fn what_was_not_accepted_is_forwarded_again(driver: Driver) {
    let replies = ["500 Oops", "404 Not Found", "429 Too Many", "302 Found", "503 Later", "200 OK", "200 OK"];
    let application = counting(move |count| answering(replies[count]));
    let proxy = Proxy::on(driver, &application).replay(ENFORCE).start();
    let mut client = proxy.connect();
    let delivery = Delivery::of(b"{}").bytes();
    let statuses: Vec<u16> = (0..8).map(|_| client.ask(&delivery).status).collect();
    assert_eq!(statuses, [500, 404, 429, 302, 503, 200, 200, 200]);
    application.assert_requests(6);

    // Faults are no acceptance either: no answer, no application, an answer that is not HTTP.
    let broken = Application::following(|visit| {
        visit.request();
        if visit.connection == 1 {
            visit.say(b"nonsense\r\n\r\n");
        } else if visit.connection == 2 {
            visit.say(OK);
        }
    });
    let proxy = Proxy::on(driver, &broken).replay(ENFORCE).start();
    let mut client = proxy.connect();
    let statuses: Vec<u16> = (0..5).map(|_| client.ask(&delivery).status).collect();
    assert_eq!(statuses, [502, 502, 200, 200, 200]);
    proxy.assert_endings(&["upstream_closed", "upstream_malformed", "forwarded", "duplicate", "duplicate"]);
    broken.assert_requests(3);
}

/// Sends the same delivery `copies` times over `connections` connections, all at once; the statuses.
fn flood(proxy: &Proxy, connections: usize, copies: usize) -> Vec<u16> {
    let delivery = Delivery::of(b"the same").bytes();
    let statuses = Mutex::new(Vec::new());
    let left = AtomicUsize::new(copies);
    let take = |left: usize| left.checked_sub(1);
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    let status = client.ask(&delivery).status;
                    statuses.lock().unwrap().push(status);
                }
            });
        }
    });
    statuses.into_inner().unwrap()
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|found| **found == status).count()
}

fn a_thousand_copies_at_once_arrive_once(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).workers(2).replay(ENFORCE).start();
    let statuses = flood(&proxy, 64, 1000);
    assert_eq!(statuses.len(), 1000);
    assert_eq!(count(&statuses, 200) + count(&statuses, 409), 1000);
    application.assert_requests(1);
    eventually(|| proxy.endings().len() == 1000);
    let endings = proxy.endings();
    assert_eq!(endings.iter().filter(|code| **code == "forwarded").count(), 1);
    assert_eq!(endings.iter().filter(|code| **code == "duplicate").count(), count(&statuses, 200) - 1);
    assert_eq!(endings.iter().filter(|code| **code == "duplicate_in_flight").count(), count(&statuses, 409));
}

fn retries_get_through_until_one_is_accepted(driver: Driver) {
    let delivery = Delivery::of(b"the same").bytes();
    for failures in [1, 20] {
        let application =
            counting(move |count| answering(if count < failures { "500 Not Yet" } else { "202 Accepted" }));
        let proxy = Proxy::on(driver, &application).workers(2).replay(ENFORCE).start();
        // As senders do, but without patience: until it is accepted, and some copies more.
        let send = || {
            let mut client = proxy.connect();
            let mut statuses = Vec::new();
            while statuses.last().is_none_or(|status| *status >= 300) {
                statuses.push(client.ask(&delivery).status);
            }
            statuses.extend((0..10).map(|_| client.ask(&delivery).status));
            statuses
        };
        let statuses: Vec<u16> = thread::scope(|scope| {
            let senders: Vec<_> = (0..64).map(|_| scope.spawn(send)).collect();
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
        });
        assert_eq!((count(&statuses, 500), count(&statuses, 202)), (failures, 1));
        assert_eq!(count(&statuses, 200) + count(&statuses, 409), statuses.len() - failures - 1);
        application.assert_requests(failures + 1);
    }
}

fn a_copy_in_flight_may_come_again_in_a_second(driver: Driver) {
    let (application, answer_with) = on_command();
    let proxy = Proxy::on(driver, &application).replay(ENFORCE).start();
    let delivery = Delivery::of(b"{}").bytes();
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    first.send(&delivery);
    application.assert_requests(1);
    let answer = second.ask(&delivery);
    assert_eq!((answer.status, answer.closes(), answer.field("Retry-After")), (409, false, Some("1")));
    assert!(answer.body.starts_with(b"{\"error\":\"in_progress\","));
    // The first fails, so the second may try; it succeeds, so the first need not.
    answer_with(&answering("500 Oops"));
    assert_eq!(first.answer().status, 500);
    second.send(&delivery);
    application.assert_requests(2);
    answer_with(OK);
    assert_eq!(second.answer().body, b"ok");
    assert_eq!(first.ask(&delivery).status, 200);
    application.assert_requests(2);
    proxy.assert_endings(&["duplicate_in_flight", "forwarded", "forwarded", "duplicate"]);
}

fn a_client_that_goes_in_flight_does_not_undo_the_delivery(driver: Driver) {
    let (application, answer_with) = on_command();
    let proxy = Proxy::on(driver, &application).replay(ENFORCE).start();
    let delivery = Delivery::of(b"{}").bytes();
    let mut client = proxy.connect();
    client.send(&delivery);
    application.assert_requests(1);
    drop(client);
    // The application is still at it: no copy may be forwarded.
    assert_eq!(proxy.connect().ask(&delivery).status, 409);
    answer_with(OK);
    let mut client = proxy.connect();
    assert!(eventually(|| client.ask(&delivery).status == 200));
    application.assert_requests(1);
    assert!(eventually(|| proxy.endings().contains(&"duplicate")));

    // One that goes before the whole delivery is there has claimed nothing.
    let other = Delivery::of(b"another").bytes();
    let mut client = proxy.connect();
    client.send(&other[..other.len() - 1]);
    drop(client);
    answer_with(OK);
    assert_eq!(proxy.connect().ask(&other).body, b"ok");
}

fn an_exchange_that_is_cut_off_releases_its_claim(driver: Driver) {
    // An answer that says nothing until the proxy gives up: the claim lives no longer than the exchange.
    let application = Application::following(|visit| {
        let request = visit.request();
        match visit.connection {
            0 if request.is_some() => visit.say_nothing(),
            _ => visit.say(OK),
        }
    });
    let plan = Proxy::on(driver, &application).upstream("response_timeout = \"200ms\"");
    let proxy = plan.replay(ENFORCE).start();
    let mut client = proxy.connect();
    let delivery = Delivery::of(b"{}").bytes();
    assert_eq!(client.ask(&delivery).status, 504);
    assert_eq!(client.ask(&delivery).body, b"ok");
    assert_eq!(client.ask(&delivery).status, 200);
    proxy.assert_endings(&["upstream_timeout", "forwarded", "duplicate"]);
}

fn forged_copies_claim_nothing(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).replay("{ capacity = 2 }").start();
    let mut client = proxy.connect();
    for number in 0..50 {
        let body = format!("forged {number}");
        assert_eq!(client.ask(&Delivery::forged(body.as_bytes()).bytes()).status, 401);
    }
    for body in [b"one", b"two"] {
        assert_eq!(client.ask(&Delivery::of(body).bytes()).body, b"ok");
        // A client without the secret does not learn what has been delivered.
        assert_eq!(client.ask(&Delivery::unsigned(body).bytes()).status, 401);
    }
    application.assert_requests(2);
}

fn a_full_table_refuses(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).replay("{ capacity = 3, lifetime = \"40s\" }").start();
    let mut client = proxy.connect();
    let mut ask = |body: &str| client.ask(&Delivery::of(body.as_bytes()).bytes());
    for body in ["1", "2", "3"] {
        assert_eq!(ask(body).body, b"ok");
    }
    for body in ["4", "5", "4"] {
        let answer = ask(body);
        assert_eq!((answer.status, answer.closes()), (503, false));
        // Until the first of them expires.
        let after: u64 = answer.field("Retry-After").unwrap().parse().unwrap();
        assert!((30..=41).contains(&after), "{after}");
    }
    // What is known stays known.
    assert!(["1", "2", "3"].into_iter().all(|body| ask(body).status == 200));
    application.assert_requests(3);
    let full = ["replay_table_full"; 3];
    proxy.assert_endings(&[&["forwarded"; 3][..], &full, &["duplicate"; 3]].concat());
}

fn a_full_table_evicts_the_oldest_where_the_route_says_so(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).replay("{ capacity = 3, when_full = \"evict_oldest\" }").start();
    let mut client = proxy.connect();
    let bodies = ["1", "2", "3", "4", "2", "3", "4", "1", "2"];
    for body in bodies {
        assert_eq!(client.ask(&Delivery::of(body.as_bytes()).bytes()).status, 200);
    }
    // The fourth takes the place of the first, which then takes that of the second.
    let seen: Vec<Vec<u8>> = application.assert_requests(6).into_iter().map(|request| request.body).collect();
    assert_eq!(seen, [b"1", b"2", b"3", b"4", b"1", b"2"]);
    proxy.assert_endings(&[&["forwarded"; 4][..], &["duplicate"; 3], &["forwarded"; 2]].concat());
    let observed: Vec<String> = proxy.observed().into_iter().filter(|codes| !codes.is_empty()).collect();
    assert_eq!(observed, ["replay_table_full"; 3]);
}

fn observing_forwards_and_notes(driver: Driver) {
    let application = Application::answering(OK);
    let in_two_ways = [
        ("{ mode = \"observe\", capacity = 1 }", ""),
        ("{ mode = \"enforce\", capacity = 1 }", "observe = [\"replay\"]"),
    ];
    for (replay, observe) in in_two_ways {
        let proxy = Proxy::on(driver, &application).replay(replay).route_line(observe).start();
        let mut client = proxy.connect();
        for body in ["1", "1", "2", "1"] {
            assert_eq!(client.ask(&Delivery::of(body.as_bytes()).bytes()).body, b"ok");
        }
        proxy.assert_endings(&["forwarded"; 4]);
        assert_eq!(proxy.observed(), ["", "duplicate", "replay_table_full", "duplicate"]);
    }
    application.assert_requests(8);
}

fn nothing_is_remembered_where_the_route_says_so(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).replay("{ mode = \"off\" }").start();
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).body, b"ok");
    }
    application.assert_requests(5);
}

fn routes_are_told_apart_and_keys_are_not(driver: Driver) {
    let application = Application::answering(OK);
    let other = format!(
        "path = \"/other\"\nscheme = \"github\"\nreplay.mode = \"enforce\"\nsecrets = [{{ id = \"1\", value = \"{}\" }}]",
        crate::support::delivery::SECRET
    );
    let proxy = Proxy::on(driver, &application).replay(ENFORCE).route(&other).start();
    let mut client = proxy.connect();
    let delivery = Delivery::of(b"{}");
    let deliveries = [delivery.clone(), delivery.line("POST /other HTTP/1.1")];
    for delivery in &deliveries {
        assert_eq!(client.ask(&delivery.bytes()).body, b"ok");
    }
    // What is signed makes a delivery, not with which of the keys it was signed.
    for delivery in deliveries.iter().chain([&Delivery::signed_with(OLDER_SECRET, b"{}")]) {
        assert!(client.ask(&delivery.bytes()).body.starts_with(b"{\"status\":\"duplicate\""));
    }
    application.assert_requests(2);
}

fn an_expired_entry_is_forgotten(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).replay("{ lifetime = \"1s\", capacity = 1 }").start();
    let mut client = proxy.connect();
    let mut ask = |body: &[u8]| client.ask(&Delivery::of(body).bytes());
    assert_eq!(ask(b"1").body, b"ok");
    assert_eq!(ask(b"2").status, 503);
    // A second, and the margin for clocks that disagree.
    assert!(eventually(|| ask(b"2").status == 200));
    assert!(ask(b"2").body.starts_with(b"{\"status\""));
    let requests = application.assert_requests(2);
    assert_eq!(requests[1].body, b"2");
}

fn the_log_shows_what_was_noted(driver: Driver) {
    let application = Application::answering(OK);
    let folder = Folder::new();
    for (mode, ending) in [
        (
            "{ mode = \"observe\" }",
            "\"outcome\":\"passed\",\"reason\":\"forwarded\",\"status\":200,\"key_id\":\"current\",",
        ),
        (
            "{ mode = \"enforce\" }",
            "\"outcome\":\"acknowledged\",\"reason\":\"duplicate\",\"status\":200,\"key_id\":\"current\",",
        ),
    ] {
        let text = Proxy::on(driver, &application).replay(mode).text();
        let program = Program::run(&folder.write("countersign.toml", &text));
        let mut client = program.connect();
        for _ in 0..2 {
            assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
        }
        assert!(eventually(|| program.output().len() == 2), "{:#?}", program.output());
        let second = program.output().pop().unwrap();
        assert!(second.contains(ending), "{second}");
        assert_eq!(second.contains("\"observed\":[\"duplicate\"]"), mode.contains("observe"), "{second}");
    }
}

/// A route `/ring` that has these secrets, as the configuration has them.
fn with_ring(driver: Driver, application: &Application, secrets: &str) -> crate::support::proxy::Plan {
    let lines = format!(
        "path = \"/ring\"\nname = \"ring\"\nscheme = \"github\"\nsecrets = [{secrets}]\nreplay.mode = \"enforce\""
    );
    Proxy::on(driver, application).route(&lines)
}

fn to_ring(secret: &str, body: &[u8]) -> Vec<u8> {
    Delivery::signed_with(secret, body).line("POST /ring HTTP/1.1").bytes()
}

const FIRST: &str = "the-first-secret-of-the-ring-0123456789";
const SECOND: &str = "the-second-secret-of-the-ring-0123456789";
const THIRD: &str = "the-third-secret-of-the-ring-01234567890";

fn keys_that_end_to_count_make_no_new_deliveries(driver: Driver) {
    let application = Application::answering(OK);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let end = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(now + 3));
    // Such as `Sun, 06 Nov 1994 08:49:37 GMT`; the configuration has RFC 3339.
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = 1 + months.iter().position(|name| *name == &end[8..11]).unwrap();
    let end = format!("{}-{month:02}-{}T{}Z", &end[12..16], &end[5..7], &end[17..25]);
    let secrets =
        format!("{{ id = \"1\", value = \"{FIRST}\", not_after = \"{end}\" }}, {{ id = \"2\", value = \"{SECOND}\" }}");
    let proxy = with_ring(driver, &application, &secrets).start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&to_ring(SECOND, b"x")).body, b"ok");
    assert!(eventually(|| client.ask(&to_ring(FIRST, b"y")).status == 401));
    // The first key does not count any more, and makes no other delivery of it.
    let answer = client.ask(&to_ring(SECOND, b"x"));
    assert!(answer.status == 200 && answer.body != b"ok");
    assert!(eventually(|| proxy.endings().last() == Some(&"duplicate")));
}

fn keys_that_come_and_go_make_no_new_deliveries(driver: Driver) {
    let application = Application::answering(OK);
    let key = |secret: &str| format!("{{ id = \"{}\", value = \"{secret}\" }}", &secret[4..7]);
    let ring = |secrets: &[&str]| {
        let keys: Vec<String> = secrets.iter().map(|secret| key(secret)).collect();
        with_ring(driver, &application, &keys.join(", "))
    };
    let mut proxy = ring(&[FIRST]).start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&to_ring(FIRST, b"x")).body, b"ok");
    for secrets in [&[SECOND, FIRST][..], &[FIRST, SECOND], &[SECOND, THIRD, FIRST]] {
        proxy.apply(&ring(secrets));
        assert_ne!(client.ask(&to_ring(FIRST, b"x")).body, b"ok", "{secrets:?}");
        assert_ne!(client.ask(&to_ring(SECOND, b"x")).body, b"ok", "the same content is the same delivery");
    }
    // The key by which it is remembered is removed: it verifies nothing any more, and still tells deliveries apart.
    proxy.apply(&ring(&[SECOND]));
    assert_eq!(client.ask(&to_ring(FIRST, b"x")).status, 401);
    assert_ne!(client.ask(&to_ring(SECOND, b"x")).body, b"ok");
    assert_eq!(client.ask(&to_ring(SECOND, b"y")).body, b"ok");
    proxy.apply(&ring(&[THIRD, SECOND]));
    assert_ne!(client.ask(&to_ring(THIRD, b"y")).body, b"ok");
    application.assert_requests(2);
}

/// The status is the word of the application, whatever it has read.
fn what_is_accepted_before_it_was_read_is_accepted(driver: Driver) {
    for (reply, copies_reach_it) in [(OK.to_vec(), false), (answering("500 Internal Server Error"), true)] {
        let application = Application::following(move |visit| {
            visit.head();
            visit.say(&reply);
            visit.stop_talking();
            visit.wait_for_end();
        });
        let proxy = Proxy::on(driver, &application).limit("body_size = \"16MiB\"").replay(ENFORCE).start();
        let mut client = proxy.connect();
        let delivery = Delivery::of(&vec![b'x'; 12 << 20]).bytes();
        let first = client.ask(&delivery).status;
        assert_eq!(client.ask(&delivery).status, first);
        let endings = if copies_reach_it { ["forwarded"; 2] } else { ["forwarded", "duplicate"] };
        proxy.assert_endings(&endings);
        assert_eq!(application.connections(), 1 + usize::from(copies_reach_it));
    }
}
