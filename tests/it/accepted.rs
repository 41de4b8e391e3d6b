//! What counts is the application's word: a status line of 2xx accepts a delivery, whatever becomes of the rest of the
//! answer, and however much of the delivery had been written when it came. A copy is then a duplicate.

use std::time::{Duration, Instant};

use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::{Application, Delivery, Driver, Proxy, Visit, noise, on_both_drivers};

on_both_drivers! {
    an_answer_that_cannot_be_passed_on_accepts_all_the_same,
    a_refusal_that_cannot_be_passed_on_accepts_nothing,
    an_answer_that_breaks_off_accepts_once_its_status_line_is_there,
    an_answer_before_the_body_was_read_accepts,
    a_refusal_before_the_body_was_read_arrives,
    what_is_accepted_before_it_was_read_still_arrives,
    an_application_that_answers_while_it_reads_gets_everything,
    interim_answers_do_not_stop_a_delivery,
    an_early_answer_that_cannot_be_passed_on_accepts,
    a_delivery_behind_one_that_was_not_read_is_served,
}

const ENFORCE: &str = "{ mode = \"enforce\" }";

/// Answers with this status that break a rule, and the rule.
fn broken(status: &str) -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let with = |rest: &str| format!("HTTP/1.1 {status}{rest}").into_bytes();
    let malformed = "upstream_malformed";
    let over_limit = "upstream_head_too_large";
    let fields = "X: y\r\n".repeat(201);
    let large = format!("X: {}\r\n", "y".repeat(70 << 10));
    vec![
        (with("\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"), malformed, "content_length_twice"),
        (with("\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), malformed, "both_framings"),
        (with("\r\nTransfer-Encoding: gzip\r\n\r\nok"), malformed, "unknown_coding"),
        (
            with("\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            malformed,
            "transfer_encoding_twice",
        ),
        (with("\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), malformed, "chunk_malformed"),
        (with("\nContent-Length: 2\n\nok"), malformed, "line_end"),
        (with("\r\nX : y\r\n\r\n"), malformed, "field_malformed"),
        (with(&format!("\r\n{fields}\r\n")), over_limit, "too_many_fields"),
        (with(&format!("\r\n{large}\r\n")), over_limit, "head_too_large"),
    ]
}

fn an_answer_that_cannot_be_passed_on_accepts_all_the_same(driver: Driver) {
    for status in ["200 OK", "204"] {
        for (reply, code, rule) in broken(status) {
            // A 204 has no body that could be malformed.
            let code = if status == "204" && !matches!(rule, "line_end" | "field_malformed") && !over_limit(code) {
                "forwarded"
            } else {
                code
            };
            let application = Application::answering(&reply);
            let proxy = Proxy::on(driver, &application).replay(ENFORCE).start();
            let mut client = proxy.connect();
            let delivery = Delivery::of(b"{}").bytes();
            let first = client.ask(&delivery).status;
            assert_eq!(first, if code == "forwarded" { 204 } else { 502 }, "{rule}");
            for _ in 0..2 {
                let copy = client.ask(&delivery);
                assert_eq!(copy.status, 200, "{rule}");
                assert!(copy.body.starts_with(b"{\"status\":\"duplicate\""), "{rule}");
            }
            proxy.assert_endings(&[code, "duplicate", "duplicate"]);
            if code != "forwarded" {
                assert_eq!(proxy.broken_rules(), [Some(rule), None, None]);
            }
            application.assert_requests(1);
        }
    }
}

fn over_limit(code: &str) -> bool {
    code == "upstream_head_too_large"
}

fn a_refusal_that_cannot_be_passed_on_accepts_nothing(driver: Driver) {
    for (reply, code, rule) in broken("500 Oops") {
        let application = Application::answering(&reply);
        let proxy = Proxy::on(driver, &application).replay(ENFORCE).start();
        let mut client = proxy.connect();
        for _ in 0..2 {
            assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 502, "{rule}");
        }
        proxy.assert_endings(&[code; 2]);
        application.assert_requests(2);
    }
}

/// The connection closes, or nothing more comes.
fn an_answer_that_breaks_off_accepts_once_its_status_line_is_there(driver: Driver) {
    for (said, accepted) in [
        ("HTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Le", true),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", true),
        ("HTTP/1.1 200 O", false),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", false),
        ("HTTP/1.1 500 Oops\r\nContent-Le", false),
        ("", false),
    ] {
        for stalls in [false, true] {
            let application = Application::following(move |visit| {
                visit.request();
                visit.say(said.as_bytes());
                if stalls {
                    visit.say_nothing();
                }
            });
            let proxy =
                Proxy::on(driver, &application).upstream("response_timeout = \"150ms\"").replay(ENFORCE).start();
            let delivery = Delivery::of(b"{}").bytes();
            // The client may see an answer that has begun and breaks off.
            let mut client = proxy.connect();
            client.send(&delivery);
            let _ = std::io::Read::read(&mut client.stream, &mut [0; 4096]);
            drop(client);
            assert!(crate::support::eventually(|| proxy.endings().len() == 1));
            let copy = proxy.connect().ask(&delivery).status;
            assert_eq!(copy == 200, accepted, "{said:?}, stalls: {stalls}");
            application.assert_requests(if accepted { 1 } else { 2 });
        }
    }
}

/// An application on either kind of socket, and a delivery that is too large to be taken at once.
fn unread(
    driver: Driver,
    folder: &Folder,
    script: impl Fn(&mut Visit) + Send + Sync + Copy + 'static,
) -> Vec<(Application, Plan, Vec<u8>)> {
    let on_unix = Application::following_on_unix_socket(&folder.path("app.sock"), script);
    [(on_unix, 1 << 20), (Application::following(script), 12 << 20)]
        .into_iter()
        .map(|(application, size)| {
            let plan = Proxy::on(driver, &application).limit("body_size = \"16MiB\"").replay(ENFORCE);
            (application, plan, noise(size))
        })
        .collect()
}

/// What an application does that has said its word and does not read on.
const ENDS: [fn(&mut Visit); 3] = [
    |_| std::thread::sleep(Duration::from_secs(9)),
    // With a reset, because there is something to read.
    |_| {},
    |visit| {
        visit.stop_talking();
        std::thread::sleep(Duration::from_secs(9));
    },
];

fn an_answer_before_the_body_was_read_accepts(driver: Driver) {
    for end in ENDS {
        let folder = Folder::new();
        for (application, plan, body) in unread(driver, &folder, move |visit| {
            visit.head();
            visit.say(OK);
            end(visit);
        }) {
            let proxy = plan.start();
            let mut client = proxy.connect();
            let begun = Instant::now();
            let delivery = Delivery::of(&body).bytes();
            let answer = client.ask(&delivery);
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
            let copy = client.ask(&delivery);
            assert!(copy.status == 200 && copy.body.starts_with(b"{\"status\":\"duplicate\""));
            assert!(
                begun.elapsed() < Duration::from_secs(8),
                "neither waits for the application: {:?}",
                begun.elapsed()
            );
            proxy.assert_endings(&["forwarded", "duplicate"]);
            assert_eq!(application.connections(), 1);
        }
    }
}

fn a_refusal_before_the_body_was_read_arrives(driver: Driver) {
    for end in ENDS {
        let folder = Folder::new();
        for (application, plan, body) in unread(driver, &folder, move |visit| {
            visit.head();
            visit.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
            end(visit);
        }) {
            let proxy = plan.start();
            let mut client = proxy.connect();
            let delivery = Delivery::of(&body).bytes();
            for round in 1..3 {
                let answer = client.ask(&delivery);
                assert_eq!((answer.status, answer.body.as_slice(), answer.closes()), (413, &b"no"[..], false));
                assert_eq!(
                    application.connections(),
                    round,
                    "it accepts nothing, and its connection is not used again"
                );
            }
            proxy.assert_endings(&["forwarded"; 2]);
        }
    }
}

/// The application says its word first and reads afterwards, after a while.
fn what_is_accepted_before_it_was_read_still_arrives(driver: Driver) {
    let folder = Folder::new();
    for (application, plan, body) in unread(driver, &folder, |visit| {
        let head = visit.head().unwrap();
        visit.say(OK);
        std::thread::sleep(Duration::from_millis(200));
        visit.body_of(&head);
    }) {
        let proxy = plan.start();
        let mut client = proxy.connect();
        assert_eq!(client.ask(&Delivery::of(&body).bytes()).body, b"ok");
        assert!(application.assert_requests(1)[0].body == body, "all of it, and unchanged");
        assert_eq!(client.ask(&Delivery::of(b"small").bytes()).status, 200);
        assert_eq!(application.connections(), 2, "a connection that was answered early is not used again");
    }
}

/// Both directions are full at the same time: a task that waited for one of them would wait forever.
fn an_application_that_answers_while_it_reads_gets_everything(driver: Driver) {
    const ANSWER: usize = 12 << 20;
    let folder = Folder::new();
    for (application, plan, body) in unread(driver, &folder, |visit| {
        let head = visit.head().unwrap();
        visit.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER}\r\n\r\n").as_bytes());
        visit.say(&noise(ANSWER));
        visit.body_of(&head);
    }) {
        let proxy = plan.start();
        let answer = proxy.connect().ask(&Delivery::of(&body).bytes());
        assert!(answer.status == 200 && answer.body == noise(ANSWER));
        assert!(application.assert_requests(1)[0].body == body);
        proxy.assert_endings(&["forwarded"]);
    }
}

fn interim_answers_do_not_stop_a_delivery(driver: Driver) {
    let folder = Folder::new();
    for (application, plan, body) in unread(driver, &folder, |visit| {
        let head = visit.head().unwrap();
        for _ in 0..4 {
            visit.say(b"HTTP/1.1 102 Processing\r\n\r\n");
            std::thread::sleep(Duration::from_millis(10));
        }
        visit.body_of(&head);
        visit.say(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno");
        visit.wait_for_end();
    }) {
        let proxy = plan.start();
        assert_eq!(proxy.connect().ask(&Delivery::of(&body).bytes()).status, 500);
        assert!(application.assert_requests(1)[0].body == body);
    }
}

fn an_early_answer_that_cannot_be_passed_on_accepts(driver: Driver) {
    let folder = Folder::new();
    for (application, plan, body) in unread(driver, &folder, |visit| {
        let head = visit.head().unwrap();
        visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok");
        visit.body_of(&head);
        visit.wait_for_end();
    }) {
        let proxy = plan.start();
        let mut client = proxy.connect();
        let delivery = Delivery::of(&body).bytes();
        assert_eq!(client.ask(&delivery).status, 502);
        assert_eq!(client.ask(&delivery).status, 200);
        proxy.assert_endings(&["upstream_malformed", "duplicate"]);
        assert!(application.assert_requests(1)[0].body == body, "what is accepted arrives whole");
    }
}

/// What was not written is given up, and its buffer with it; the next delivery of the same client lies in that buffer.
fn a_delivery_behind_one_that_was_not_read_is_served(driver: Driver) {
    let folder = Folder::new();
    for (application, plan, body) in unread(driver, &folder, |visit| {
        let head = visit.head().unwrap();
        if visit.connection > 0 {
            visit.body_of(&head);
        }
        visit.say(OK);
        if visit.connection == 0 {
            std::thread::sleep(Duration::from_secs(9));
        }
    }) {
        let proxy = plan.start();
        let mut client = proxy.connect();
        client.send(&[Delivery::of(&body).bytes(), Delivery::of(b"next").bytes()].concat());
        assert_eq!((client.answer().status, client.answer().status), (200, 200));
        assert_eq!(application.assert_requests(1)[0].body, b"next");
        proxy.assert_endings(&["forwarded"; 2]);
    }
}
