//! Every bound, at the bound and one beyond it. Deadlines are totals: what drips does not extend them.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::application::OK;
use crate::support::{Application, Client, Delivery, Driver, Proxy, noise, on_both_drivers};

on_both_drivers! {
    head_size,
    header_count,
    target_size,
    endless_heads_are_cut_short,
    body_size_by_content_length,
    body_size_by_chunks,
    a_refusal_can_be_read_by_a_client_that_is_still_sending,
    a_route_has_its_own_body_size,
    a_slow_head_is_late,
    a_slow_body_is_late,
    a_slow_chunked_body_is_late,
    body_time_begins_after_the_head,
    a_connection_that_says_nothing_is_closed,
    idle_connections_are_closed,
    idle_connections_in_time_are_served,
    empty_lines_between_requests_are_no_request,
    requests_per_connection,
    a_client_that_does_not_read_is_dropped,
    idle_upstream_connections_are_closed,
    no_idle_upstream_connections_at_all,
}

/// How soon something must have happened that is due after 300 ms.
const SOON: Duration = Duration::from_millis(2500);

/// The deadline of all tests of deadlines.
const LATE: Duration = Duration::from_millis(300);

fn start(driver: Driver, limits: &[&str]) -> (Application, Proxy) {
    let application = Application::answering(OK);
    let plan = limits.iter().fold(Proxy::on(driver, &application), |plan, line| plan.limit(line));
    let proxy = plan.start();
    (application, proxy)
}

/// A genuine delivery whose head has exactly `size` bytes.
fn with_head_of(size: usize) -> Delivery {
    let delivery = Delivery::of(b"x");
    let padding = size - delivery.clone().field("X", "").head().len();
    delivery.field("X", &"y".repeat(padding))
}

fn head_size(driver: Driver) {
    let (application, proxy) = start(driver, &["head_size = \"1KiB\"", "target_size = \"64B\""]);
    let exact = with_head_of(1024);
    assert_eq!(exact.head().len(), 1024);
    let mut client = proxy.connect();
    assert_eq!(client.ask(&exact.bytes()).status, 200);
    assert_eq!(client.ask(&[b"\r\n".as_slice(), &with_head_of(1022).bytes()].concat()).status, 200);
    for over in [with_head_of(1025).bytes(), with_head_of(60_000).bytes()] {
        let mut client = proxy.connect();
        let answer = client.ask(&over);
        assert_eq!((answer.status, answer.closes()), (431, true));
        client.assert_closed();
    }
    application.assert_requests(2);
}

fn header_count(driver: Driver) {
    let (application, proxy) = start(driver, &["headers = 8"]);
    let with_fields = |count: usize| (3..count).fold(Delivery::of(b"x"), |delivery, _| delivery.field("X", "y"));
    assert_eq!(proxy.connect().ask(&with_fields(8).bytes()).status, 200);
    let answer = proxy.connect().ask(&with_fields(9).bytes());
    assert_eq!((answer.status, answer.closes()), (431, true));
    application.assert_requests(1);
}

fn target_size(driver: Driver) {
    let (application, proxy) = start(driver, &["target_size = \"64B\""]);
    let with_target = |size: usize| Delivery::of(b"x").line(&format!("POST /hook?{} HTTP/1.1", "y".repeat(size - 6)));
    assert_eq!(proxy.connect().ask(&with_target(64).bytes()).status, 200);
    let answer = proxy.connect().ask(&with_target(65).bytes());
    assert_eq!((answer.status, answer.closes()), (414, true));
    application.assert_requests(1);
}

/// What can never become an acceptable head is refused at once, without waiting for its end.
fn endless_heads_are_cut_short(driver: Driver) {
    let (application, proxy) = start(driver, &["head_size = \"1KiB\"", "target_size = \"64B\""]);
    let begun = Instant::now();
    for (status, beginning) in [
        (414, format!("POST /{}", "y".repeat(64))),
        (431, format!("POST / HTTP/1.1\r\nX: {}", "y".repeat(1024))),
        (431, format!("POST / HTTP/1.1\r\n{}", "X: y\r\n".repeat(200))),
        (431, "P".repeat(1024)),
        (400, "\x16\x03\x01".to_owned()),
        (400, "(".to_owned()),
    ] {
        let mut client = proxy.connect();
        assert_eq!(client.ask(beginning.as_bytes()).status, status, "{beginning:.40}");
        client.assert_closed();
    }
    assert!(begun.elapsed() < SOON);
    application.assert_saw_nothing("no head");
}

fn body_size_by_content_length(driver: Driver) {
    let (application, proxy) = start(driver, &["body_size = \"1000B\""]);
    assert_eq!(proxy.connect().ask(&Delivery::of(&noise(1000)).bytes()).status, 200);
    // Refused by the head alone: no byte of the body has been sent.
    let mut client = proxy.connect();
    let answer = client.ask(&Delivery::of(&noise(1001)).head());
    assert_eq!((answer.status, answer.closes()), (413, true));
    client.assert_closed();
    application.assert_requests(1);
}

fn body_size_by_chunks(driver: Driver) {
    let (application, proxy) = start(driver, &["body_size = \"1000B\""]);
    let delivery = |size: usize, chunks: &[usize]| Delivery::of(&noise(size)).chunked(chunks);
    assert_eq!(proxy.connect().ask(&delivery(1000, &[1]).bytes()).status, 200);
    // Refused by the size line that goes beyond the limit, before the chunk comes.
    let head = delivery(0, &[]).head();
    let first = [b"258\r\n".as_slice(), &noise(600), b"\r\n"].concat();
    for body in [
        b"3e9\r\n".to_vec(),
        [&first, b"191\r\n".as_slice()].concat(),
        [&first, b"fffffffffffffff".as_slice()].concat(),
    ] {
        let mut client = proxy.connect();
        let answer = client.send(&head).ask(&body);
        assert_eq!((answer.status, answer.closes()), (413, true));
        client.assert_closed();
    }
    application.assert_requests(1);
}

/// The proxy has answered and wants no more, but a reset now might cost the client the answer: some is read over.
fn a_refusal_can_be_read_by_a_client_that_is_still_sending(driver: Driver) {
    let (application, proxy) = start(driver, &["body_size = \"1000B\""]);
    let delivery = Delivery::of(&noise(200_000));
    for delivery in [delivery.clone(), delivery.chunked(&[5000]), Delivery::unsigned(&noise(200_000))] {
        let mut client = proxy.connect();
        let body = delivery.framed_body();
        let (first, second) = body.split_at(100_000);
        let status = client.send(&delivery.head()).ask(first).status;
        assert!(matches!(status, 401 | 413), "{status}");
        client.stream.write_all(second).unwrap();
        assert_eq!(client.stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    application.assert_saw_nothing("too large");
}

fn a_route_has_its_own_body_size(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).limit("body_size = \"10B\"").route_line("body_size = \"2MiB\"").start();
    let mut client = proxy.connect();
    for body in [noise(11), noise(2 << 20)] {
        assert_eq!(client.ask(&Delivery::of(&body).bytes()).status, 200);
        assert_eq!(client.ask(&Delivery::of(&body).chunked(&[5]).bytes()).status, 200);
    }
    assert_eq!(proxy.connect().ask(&Delivery::of(&noise((2 << 20) + 1)).head()).status, 413);
}

/// Sends `bytes` one at a time, with pauses, until the proxy answers; the answer's status and when it came.
/// Sends byte by byte until there is an answer: its status, and how long after `begun` it came.
fn drip(client: &mut Client, bytes: &[u8], begun: Instant) -> (u16, Duration) {
    client.stream.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
    for byte in bytes {
        client.send(&[*byte]);
        if client.stream.peek(&mut [0]).is_ok() {
            break;
        }
    }
    client.stream.set_read_timeout(Some(SOON)).unwrap();
    (client.answer().status, begun.elapsed())
}

fn assert_late((status, after): (u16, Duration)) {
    assert_eq!(status, 408);
    assert!((LATE..LATE + SOON).contains(&after), "{after:?}");
}

fn a_slow_head_is_late(driver: Driver) {
    let (application, proxy) = start(driver, &["head_timeout = \"300ms\""]);
    let bytes = Delivery::of(b"x").bytes();
    // The first request of a connection, and a later one.
    let mut client = proxy.connect();
    assert_late(drip(&mut client, &bytes, Instant::now()));
    client.assert_closed();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&bytes).status, 200);
    assert_late(drip(&mut client, &bytes, Instant::now()));
    client.assert_closed();
    proxy.assert_endings(&["head_timeout", "forwarded", "head_timeout"]);
    application.assert_requests(1);
}

fn a_slow_body_is_late(driver: Driver) {
    let (application, proxy) = start(driver, &["body_timeout = \"300ms\"", "body_rate_min = \"0B/s\""]);
    let delivery = Delivery::of(&noise(5000));
    let mut client = proxy.connect();
    // The time of the body begins when the proxy has the head, which may be before this thread goes on.
    let begun = Instant::now();
    client.send(&delivery.head());
    assert_late(drip(&mut client, &delivery.framed_body(), begun));
    client.assert_closed();
    proxy.assert_endings(&["body_timeout"]);
    application.assert_saw_nothing("late");
}

fn a_slow_chunked_body_is_late(driver: Driver) {
    let (application, proxy) = start(driver, &["body_timeout = \"300ms\"", "body_rate_min = \"0B/s\""]);
    let delivery = Delivery::of(&noise(500)).chunked(&[1; 500]);
    let mut client = proxy.connect();
    // The time of the body begins when the proxy has the head, which may be before this thread goes on.
    let begun = Instant::now();
    client.send(&delivery.head());
    assert_late(drip(&mut client, &delivery.framed_body(), begun));
    client.assert_closed();
    application.assert_saw_nothing("late");
}

fn body_time_begins_after_the_head(driver: Driver) {
    let (_application, proxy) = start(driver, &["head_timeout = \"300ms\"", "body_timeout = \"5s\""]);
    let delivery = Delivery::of(b"hello");
    let mut client = proxy.connect();
    client.send(&delivery.head());
    std::thread::sleep(2 * LATE);
    assert_eq!(client.ask(&delivery.framed_body()).status, 200);
}

fn a_connection_that_says_nothing_is_closed(driver: Driver) {
    let (_application, proxy) = start(driver, &["head_timeout = \"300ms\""]);
    let begun = Instant::now();
    let mut client = proxy.connect();
    client.assert_closed();
    assert!((LATE..LATE + SOON).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    proxy.assert_endings(&[]);
}

fn idle_connections_are_closed(driver: Driver) {
    let (_application, proxy) = start(driver, &["idle_timeout = \"300ms\""]);
    let mut client = proxy.connect();
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    let begun = Instant::now();
    client.assert_closed();
    // Well before the second for which a connection keeps its buffer.
    assert!((LATE / 2..3 * LATE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

fn idle_connections_in_time_are_served(driver: Driver) {
    let (application, proxy) = start(driver, &["idle_timeout = \"5s\"", "head_timeout = \"300ms\""]);
    let mut client = proxy.connect();
    for pause in [0, 50, 600, 1500] {
        std::thread::sleep(Duration::from_millis(pause));
        assert_eq!(client.ask(&Delivery::of(&noise(3000)).bytes()).status, 200, "after {pause} ms");
    }
    application.assert_requests(4);
}

/// Some clients send an empty line after a body (RFC 9112 section 2.2): the connection is idle all the same.
fn empty_lines_between_requests_are_no_request(driver: Driver) {
    let (application, proxy) = start(driver, &["head_timeout = \"300ms\"", "idle_timeout = \"5s\""]);
    let delivery = Delivery::of(b"x").bytes();
    let mut client = proxy.connect();
    for pause in [0, 500, 1200] {
        assert_eq!(client.ask(&delivery).status, 200, "after {pause} ms");
        client.send(b"\r\n");
        std::thread::sleep(Duration::from_millis(pause));
    }
    assert_eq!(client.ask(&delivery).status, 200);
    client.send(b"\r\n\r\n").stop_talking().assert_closed();
    proxy.assert_endings(&["forwarded"; 4]);
    application.assert_requests(4);
}

fn requests_per_connection(driver: Driver) {
    let (application, proxy) = start(driver, &["requests_per_connection = 3"]);
    let mut client = proxy.connect();
    let bytes = Delivery::of(b"x").bytes();
    client.send(&bytes.repeat(4));
    let closes: Vec<_> = (0..3).map(|_| client.answer()).map(|answer| (answer.status, answer.closes())).collect();
    assert_eq!(closes, [(200, false), (200, false), (200, true)]);
    client.assert_closed();
    application.assert_requests(3);
}

fn a_client_that_does_not_read_is_dropped(driver: Driver) {
    let application = Application::following(|visit| {
        if visit.request().is_some() {
            visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
            let piece = vec![b'x'; 64 << 10];
            (0..1024).for_each(|_| visit.say(&piece));
            visit.wait_for_end();
        }
    });
    let proxy = Proxy::on(driver, &application).limit("write_timeout = \"300ms\"").start();
    let mut client = proxy.connect();
    client.send(&Delivery::of(b"x").bytes());
    let begun = Instant::now();
    proxy.assert_endings(&["response_unread"]);
    assert!(begun.elapsed() < LATE + SOON);
    assert!(application.sees_closed(0));
    let answer = client.answer();
    assert!(!answer.whole && answer.body.len() < 64 << 20);
}

fn idle_upstream_connections_are_closed(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).upstream("idle_timeout = \"300ms\"").start();
    let mut client = proxy.connect();
    for round in 0..2 {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
        assert!(application.sees_closed(round));
    }
    assert_eq!(application.connections(), 2);
}

fn no_idle_upstream_connections_at_all(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).upstream("idle_connections = 0").start();
    let mut client = proxy.connect();
    for round in 1..4 {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
        assert!(application.sees_closed(round - 1));
        assert_eq!(application.connections(), round);
    }
}
