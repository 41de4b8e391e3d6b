//! The bounds of the process, with small values: what is refused when they are met, that genuine deliveries of others
//! pass all the while, and that nothing is held when all is over.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::application::OK;
use crate::support::{Application, Client, Delivery, Driver, Proxy, eventually, noise, on_both_drivers};

on_both_drivers! {
    idle_connections_are_closed_oldest_first,
    silent_connections_make_room,
    busy_connections_are_not_closed,
    idle_connections_of_other_workers_make_room,
    connections_of_one_client,
    forged_requests_of_one_client,
    a_slow_head_is_judged_when_it_is_there,
    genuine_deliveries_cost_nothing,
    unverified_routes_count_everything,
    a_forged_flood_stops_no_other_client,
    those_who_were_refused_take_turns,
    the_rate_of_a_route,
    an_observed_rate,
    replayed_refusals_by_rate_keep_the_connection,
    body_memory_runs_out_and_recovers,
    body_memory_of_chunked_bodies,
    a_body_that_drips_is_too_slow,
    any_speed,
    requests_in_flight,
    media_types,
    nothing_is_held_after_aborted_exchanges,
    clients_that_never_pause_leave_others_their_turn,
}

/// A connection has gone idle after a quarter of a second.
const IDLE: Duration = Duration::from_millis(400);

const STRANGER: [u8; 4] = [127, 0, 0, 66];

/// Clients over their budgets are refused unseen.
const REFUSE: &str = "over_budget = \"refuse\"";

fn start(driver: Driver, limits: &[&str]) -> (Application, Proxy) {
    let application = Application::answering(OK);
    let plan = limits.iter().fold(Proxy::on(driver, &application), |plan, line| plan.limit(line));
    let proxy = plan.start();
    (application, proxy)
}

fn deliver(client: &mut Client) {
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
}

fn retry_after(answer: &crate::support::answer::Answer) -> u64 {
    answer.field("Retry-After").expect("Retry-After").parse().expect("seconds")
}

fn idle_connections_are_closed_oldest_first(driver: Driver) {
    let (application, proxy) = start(driver, &["connections = 3"]);
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    deliver(&mut second);
    // Which of two is older is not known to the millisecond.
    std::thread::sleep(Duration::from_millis(50));
    deliver(&mut first);
    std::thread::sleep(IDLE);
    let mut busy = proxy.connect();
    busy.send(&Delivery::of(b"x").head());
    let mut fourth = proxy.connect();
    deliver(&mut fourth);
    second.assert_closed();
    deliver(&mut first);
    deliver(busy.send(b"x"));
    assert_eq!(proxy.connection_ends(), ["idle_closed"]);
    assert_eq!(proxy.held().connections, 3);
    drop((first, busy, fourth));
    proxy.assert_nothing_held();
    application.assert_requests(6);
}

fn silent_connections_make_room(driver: Driver) {
    let (_application, proxy) = start(driver, &["connections = 2"]);
    let (mut first, _second) = (proxy.connect(), proxy.connect());
    assert!(eventually(|| proxy.held().connections == 2));
    std::thread::sleep(IDLE);
    deliver(&mut proxy.connect());
    first.assert_closed();
    assert_eq!(proxy.connection_ends(), ["idle_closed"]);
}

fn busy_connections_are_not_closed(driver: Driver) {
    let (_application, proxy) = start(driver, &["connections = 1"]);
    let mut busy = proxy.connect();
    busy.send(&Delivery::of(b"x").head());
    assert!(eventually(|| proxy.held().requests == 1));
    for _ in 0..3 {
        proxy.connect().assert_closed();
    }
    assert_eq!(proxy.connection_ends(), ["connections_full"; 3]);
    assert_eq!(busy.ask(b"x").status, 200);
    drop(busy);
    proxy.assert_nothing_held();
    deliver(&mut proxy.connect());
}

fn idle_connections_of_other_workers_make_room(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).workers(4).limit("connections = 2").start();
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    deliver(&mut first);
    deliver(&mut second);
    // Wherever the new ones arrive: at the latest when all workers have looked after it, one of them gets in.
    assert!(eventually(|| {
        let mut newcomer = proxy.connect();
        newcomer.send(&Delivery::of(b"x").bytes());
        newcomer.try_answer().is_ok_and(|answer| answer.status == 200)
    }));
    assert!(proxy.connection_ends().contains(&"idle_closed"));
    assert!(proxy.held().connections <= 2);
}

/// The one that is of least use ends for a newcomer of the same client: never one on which a delivery was just proven
/// genuine, and never one that is with the application.
fn connections_of_one_client(driver: Driver) {
    let (_application, proxy) = start(driver, &["connections_per_client = 2"]);
    let (mut silent, mut proven) = (proxy.connect(), proxy.connect());
    deliver(&mut proven);
    std::thread::sleep(IDLE);
    let mut busy = proxy.connect();
    busy.send(&Delivery::of(b"x").head());
    silent.assert_closed();
    assert_eq!(proxy.connection_ends(), ["idle_closed"]);
    assert!(eventually(|| proxy.held().requests == 1));
    deliver(&mut proven);
    // Of the two, one is proven and the other makes us wait.
    deliver(&mut proxy.connect());
    deliver(&mut proven);
    deliver(&mut proxy.connect_from(STRANGER));
    drop((busy, proven));
    proxy.assert_nothing_held();
}

fn forged_requests_of_one_client(driver: Driver) {
    let (application, proxy) = start(driver, &["unverified_per_client = { rate = \"1/s\", burst = 2 }", REFUSE]);
    let mut client = proxy.connect_from(STRANGER);
    let forged = Delivery::forged(b"x").bytes();
    // Two at once; on a machine that takes a second for that, some more.
    let mut judged = 0;
    let refused = loop {
        match client.ask(&forged) {
            answer if answer.status == 429 => break answer,
            answer => assert_eq!(answer.status, 401),
        }
        judged += 1;
        assert!(judged < 50);
    };
    assert!(judged >= 2);
    assert_eq!((retry_after(&refused), refused.closes()), (1, false));
    // Others are not concerned, and the client is not once it has waited as long as it was told.
    deliver(&mut proxy.connect());
    std::thread::sleep(Duration::from_secs(retry_after(&refused)));
    deliver(&mut client);
    application.assert_requests(2);
    assert!(eventually(|| proxy.endings().ends_with(&["client_rate_limited", "forwarded", "forwarded"])));
}

fn a_slow_head_is_judged_when_it_is_there(driver: Driver) {
    let (_application, proxy) = start(driver, &["unverified_per_client = { rate = \"1/s\", burst = 1 }", REFUSE]);
    let (mut client, mut slow) = (proxy.connect(), proxy.connect());
    assert_eq!(client.ask(&Delivery::forged(b"x").bytes()).status, 401);
    let delivery = Delivery::of(b"x").bytes();
    slow.send(&delivery[..10]);
    // Meanwhile there is a token again.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(slow.ask(&delivery[10..]).status, 200);
}

fn genuine_deliveries_cost_nothing(driver: Driver) {
    let (application, proxy) = start(driver, &["unverified_per_client = { rate = \"1/h\", burst = 2 }", REFUSE]);
    let mut client = proxy.connect();
    assert_eq!(client.ask(&Delivery::forged(b"x").bytes()).status, 401);
    for _ in 0..30 {
        deliver(&mut client);
    }
    assert_eq!(client.ask(&Delivery::forged(b"x").bytes()).status, 401);
    let answer = client.ask(&Delivery::of(b"x").bytes());
    assert_eq!(answer.status, 429);
    assert!((3590..=3600).contains(&retry_after(&answer)));
    application.assert_requests(30);
}

fn unverified_routes_count_everything(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application)
        .limit("unverified_per_client = { rate = \"1/h\", burst = 2 }")
        .route("path = \"/open\"\nscheme = \"none\"")
        .start();
    let open = Delivery::unsigned(b"x").line("POST /open HTTP/1.1").bytes();
    let mut client = proxy.connect();
    let statuses: Vec<u16> = (0..3).map(|_| client.ask(&open).status).collect();
    assert_eq!(statuses, [200, 200, 429]);
}

fn a_forged_flood_stops_no_other_client(driver: Driver) {
    let (application, proxy) = start(driver, &["unverified_per_client = { rate = \"1/h\", burst = 5 }", REFUSE]);
    let forged = Delivery::forged(b"x").bytes();
    let (mut stranger, mut client) = (proxy.connect_from(STRANGER), proxy.connect());
    for round in 0..50 {
        assert_eq!(stranger.ask(&forged).status, if round < 5 { 401 } else { 429 });
        deliver(&mut client);
    }
    application.assert_requests(50);
}

/// Many more than are served between two looks of a worker: all get their answers, in their order, and no other client
/// has to wait until they have.
fn those_who_were_refused_take_turns(driver: Driver) {
    let (_application, proxy) = start(driver, &["unverified_per_client = { rate = \"1000000/s\", burst = 1000000 }"]);
    let (forged, genuine) = (Delivery::forged(b"x").bytes(), Delivery::of(b"x").bytes());
    let mut strangers: Vec<_> = (0..40).map(|_| proxy.connect_from(STRANGER)).collect();
    // The head and its body come apart, so that each needs two turns.
    let (head, body) = forged.split_at(forged.len() - 1);
    for stranger in &mut strangers {
        assert_eq!(stranger.ask(&forged).status, 401);
        stranger.send(&forged.repeat(50));
        stranger.send(head);
    }
    let mut client = proxy.connect();
    deliver(&mut client);
    for stranger in &mut strangers {
        stranger.send(body);
        stranger.send(&genuine);
        (0..51).for_each(|_| assert_eq!(stranger.answer().status, 401));
        assert_eq!(stranger.answer().status, 200);
        deliver(stranger);
    }
}

fn the_rate_of_a_route(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route_line("rate = { rate = \"1/h\", burst = 2 }").start();
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.ask(&Delivery::forged(b"x").bytes()).status, 401, "forged requests do not use it up");
    }
    deliver(&mut client);
    deliver(&mut client);
    let answer = client.ask(&Delivery::of(b"x").bytes());
    assert_eq!((answer.status, answer.closes()), (429, false));
    assert!((3590..=3600).contains(&retry_after(&answer)));
    assert_eq!(client.ask(&Delivery::forged(b"x").bytes()).status, 401);
    application.assert_requests(2);
    assert!(eventually(|| proxy.endings().get(12) == Some(&"route_rate_limited")));
}

fn an_observed_rate(driver: Driver) {
    let application = Application::answering(OK);
    let rate = "rate = { rate = \"1/h\", burst = 1 }\nobserve = [\"rate\"]";
    let proxy = Proxy::on(driver, &application).route_line(rate).start();
    let mut client = proxy.connect();
    deliver(&mut client);
    deliver(&mut client);
    proxy.assert_endings(&["forwarded", "forwarded"]);
    assert_eq!(proxy.observed(), ["", "route_rate_limited"]);
    application.assert_requests(2);
}

fn replayed_refusals_by_rate_keep_the_connection(driver: Driver) {
    let (_application, proxy) = start(driver, &["unverified_per_client = { rate = \"1/h\", burst = 1 }", REFUSE]);
    let mut client = proxy.connect();
    let forged = Delivery::forged(&noise(500)).bytes();
    assert_eq!(client.ask(&forged).status, 401);
    for _ in 0..20 {
        // The body came along: it is stepped over without being hashed.
        let answer = client.ask(&forged);
        assert_eq!((answer.status, answer.closes()), (429, false));
    }
    // One that has not come yet is not waited for.
    let answer = client.ask(&Delivery::of(&noise(100_000)).head());
    assert_eq!((answer.status, answer.closes()), (429, true));
    client.assert_closed();
}

fn body_memory_runs_out_and_recovers(driver: Driver) {
    let (application, proxy) = start(driver, &["body_memory = \"64KiB\"", "body_size = \"48KiB\""]);
    let body = noise(40_000);
    let whole = Delivery::of(&body).bytes();
    let (most, last) = whole.split_at(whole.len() - 1);
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    first.send(most);
    assert!(eventually(|| proxy.held().body_memory == 40_000), "the buffer is charged");
    let answer = second.ask(&whole);
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(retry_after(&answer) > 0);
    proxy.assert_endings(&["body_memory_full"]);
    assert!(eventually(|| proxy.held().body_memory == 40_000), "what was refused is released");
    // A small one still fits.
    deliver(&mut proxy.connect());
    assert_eq!(first.ask(last).status, 200);
    let mut third = proxy.connect();
    assert_eq!(third.ask(&whole).status, 200);
    application.assert_requests(3);
    drop((first, second, third));
    proxy.assert_nothing_held();
}

fn body_memory_of_chunked_bodies(driver: Driver) {
    let (application, proxy) = start(driver, &["body_memory = \"64KiB\"", "body_size = \"48KiB\""]);
    let whole = Delivery::of(&noise(40_000)).chunked(&[7000; 5]).bytes();
    let (most, last) = whole.split_at(whole.len() - 1);
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    first.send(most);
    // A chunked body does not say how long it is: its buffer has room for the largest that may come.
    assert!(eventually(|| proxy.held().body_memory == 48 << 10));
    assert_eq!(second.ask(&whole).status, 503);
    // An exchange is recorded after its answer.
    assert!(eventually(|| proxy.endings().len() == 1));
    assert_eq!(first.ask(last).status, 200);
    assert!(eventually(|| proxy.endings().len() == 2));
    assert_eq!(proxy.connect().ask(&whole).status, 200);
    application.assert_requests(2);
    proxy.assert_endings(&["body_memory_full", "forwarded", "forwarded"]);
    drop((first, second));
    proxy.assert_nothing_held();
}

/// Sends a body byte by byte; the answer, and how long it took.
fn drip(proxy: &Proxy) -> (u16, Duration) {
    let delivery = Delivery::of(&noise(1000));
    let mut client = proxy.connect();
    let begun = Instant::now();
    client.send(&delivery.head());
    let mut sender = client.stream.try_clone().expect("a second end");
    let dripping = std::thread::spawn(move || {
        for byte in delivery.framed_body() {
            if std::io::Write::write_all(&mut sender, &[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let answer = client.answer();
    let took = begun.elapsed();
    let _ = client.stream.shutdown(std::net::Shutdown::Both);
    dripping.join().expect("the client ends");
    assert!(answer.closes());
    (answer.status, took)
}

fn a_body_that_drips_is_too_slow(driver: Driver) {
    let (application, proxy) = start(driver, &["body_timeout = \"2s\"", "body_rate_min = \"1KiB/s\""]);
    let (status, took) = drip(&proxy);
    assert_eq!(status, 408);
    assert!((Duration::from_millis(950)..Duration::from_secs(5)).contains(&took), "{took:?}");
    proxy.assert_endings(&["body_too_slow"]);
    proxy.assert_nothing_held();
    application.assert_saw_nothing("the body never came");
}

fn any_speed(driver: Driver) {
    let (application, proxy) = start(driver, &["body_timeout = \"600ms\"", "body_rate_min = \"0B/s\""]);
    let (status, took) = drip(&proxy);
    assert_eq!(status, 408);
    assert!(took > Duration::from_millis(550), "{took:?}");
    proxy.assert_endings(&["body_timeout"]);
    application.assert_saw_nothing("the body never came");
}

fn requests_in_flight(driver: Driver) {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let application = Application::following(move |visit| {
        while visit.request().is_some() {
            let _ = gone.lock().expect("the gate").recv();
            visit.say(OK);
        }
    });
    let proxy = Proxy::on(driver, &application).limit("requests_in_flight = 1").start();
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    first.send(&Delivery::of(b"x").bytes());
    assert!(eventually(|| application.requests().len() == 1));
    let answer = second.ask(&Delivery::of(b"x").bytes());
    assert_eq!((answer.status, answer.closes()), (503, false));
    assert!(retry_after(&answer) > 0);
    go.send(()).expect("the application waits");
    assert_eq!(first.answer().status, 200);
    proxy.assert_endings(&["requests_full", "forwarded"]);
    go.send(()).expect("the application waits");
    deliver(&mut second);
    drop((first, second));
    proxy.assert_nothing_held();
}

fn media_types(driver: Driver) {
    let application = Application::answering(OK);
    let line =
        "content_types = [\"application/json\", \"application/x-www-form-urlencoded\"]\nmethods = [\"POST\", \"GET\"]";
    let proxy = Proxy::on(driver, &application).route_line(line).start();
    let mut client = proxy.connect();
    let typed = |value: &str| Delivery::of(b"{}").field("Content-Type", value);
    for good in ["application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded ;x=y"] {
        assert_eq!(client.ask(&typed(good).bytes()).status, 200, "{good}");
    }
    for bad in ["text/plain", "application/json2", "application", "application/jso", "; application/json", ""] {
        let answer = client.ask(&typed(bad).bytes());
        assert_eq!((answer.status, answer.closes()), (415, false), "{bad}");
    }
    assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 415, "a body of which nothing is known");
    assert_eq!(client.ask(&typed("application/json").field("Content-Type", "text/plain").bytes()).status, 415);
    let bodiless = Delivery::of(b"").without_framing().line("GET /hook HTTP/1.1");
    assert_eq!(client.ask(&bodiless.bytes()).status, 200);
    // Refused before the body is asked for.
    let waiting = Delivery::of(&noise(90_000)).field("Content-Type", "text/plain").field("Expect", "100-continue");
    let answer = client.ask(&waiting.head());
    assert_eq!((answer.status, answer.closes()), (415, true));
    application.assert_requests(4);
    assert_eq!(proxy.endings()[3], "content_type_refused");
}

fn nothing_is_held_after_aborted_exchanges(driver: Driver) {
    let application = Application::following(|visit| {
        if visit.request().is_some() {
            visit.reset();
        }
    });
    let proxy = Proxy::on(driver, &application).limit("body_timeout = \"300ms\"").start();
    let whole = Delivery::of(&noise(30_000)).bytes();
    for round in 0..20 {
        let mut client = proxy.connect();
        match round % 4 {
            0 => drop(client.send(&whole[..20_000])),
            1 => drop(client.send(&whole[..50])),
            2 => assert!(client.ask(&whole).status >= 500),
            _ => assert_eq!(client.ask(&Delivery::forged(&noise(30_000)).bytes()).status, 401),
        }
    }
    let mut late = proxy.connect();
    assert_eq!(late.ask(&whole[..20_000]).status, 408);
    drop(late);
    proxy.assert_nothing_held();
}

/// Sends cheap requests without an end and reads what comes back; the returned closure ends it.
fn pipelining(proxy: &Proxy, source: [u8; 4]) -> impl FnOnce() + use<> {
    let client = proxy.connect_from(source);
    let (mut reader, mut writer) = (client.stream.try_clone().expect("a second end"), client.stream);
    let end = reader.try_clone().expect("a third end");
    let requests = b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200);
    let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let writing = std::thread::spawn(move || while std::io::Write::write_all(&mut writer, &requests).is_ok() {});
    move || {
        let _ = end.shutdown(std::net::Shutdown::Both);
        let _ = (reading.join(), writing.join());
    }
}

fn clients_that_never_pause_leave_others_their_turn(driver: Driver) {
    let (application, proxy) =
        start(driver, &["head_timeout = \"500ms\"", "requests_per_connection = 1000000000", "idle_timeout = \"60s\""]);
    let endless: Vec<_> = (0..4).map(|number| pipelining(&proxy, [127, 0, 0, 70 + number])).collect();
    let begun = Instant::now();
    let mut client = proxy.connect();
    for _ in 0..10 {
        deliver(&mut client);
    }
    // Deadlines are kept, too.
    assert_eq!(proxy.connect().ask(b"POST /hook").status, 408);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    endless.into_iter().for_each(|end| end());
    application.assert_requests(10);
    drop(client);
    proxy.assert_nothing_held();
}
