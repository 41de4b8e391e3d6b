//! Connections that have been quiet for a while hold next to nothing: their state is restored when they
//! send again, and a client whose connection must be closed gets an answer first.

use std::time::{Duration, Instant};

use crate::support::application::OK;
use crate::support::{Application, Client, Delivery, Driver, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    many_are_served_again_and_again,
    a_client_that_was_refused_may_send_again,
    half_a_line_end_is_not_forgotten,
    each_has_its_own_deadline,
}

/// A connection has been parked after a quarter of a second.
const PARKED: Duration = Duration::from_millis(400);

fn start(driver: Driver, limits: &[&str]) -> (Application, Proxy) {
    let application = Application::answering(OK);
    let plan = limits.iter().fold(Proxy::on(driver, &application), |plan, line| plan.limit(line));
    let proxy = plan.start();
    (application, proxy)
}

fn deliver(client: &mut Client) {
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
}

/// More than may stay warm for long, one after the other and at once.
fn many_are_served_again_and_again(driver: Driver) {
    const MANY: usize = 160;
    let (application, proxy) = start(driver, &["connections_per_client = 1000"]);
    let mut clients: Vec<Client> = (0..MANY).map(|_| proxy.connect()).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(deliver);
        std::thread::sleep(PARKED);
        // No more at once than the queue of the application's listener holds.
        for some in clients.chunks_mut(64) {
            for client in some.iter_mut() {
                client.send(&Delivery::of(b"x").bytes());
            }
            assert!(some.iter_mut().all(|client| client.answer().status == 200));
        }
    }
    assert_eq!(proxy.held().connections, MANY as u64);
    drop(clients);
    proxy.assert_nothing_held();
    application.assert_requests(MANY * 6);
}

fn a_client_that_was_refused_may_send_again(driver: Driver) {
    let (application, proxy) = start(driver, &[]);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(&Delivery::forged(b"x").bytes()).status, 401);
        std::thread::sleep(PARKED);
        deliver(&mut client);
    }
    application.assert_requests(2);
}

/// An empty line before a request may come in two pieces.
fn half_a_line_end_is_not_forgotten(driver: Driver) {
    let (application, proxy) = start(driver, &[]);
    let mut client = proxy.connect();
    for before in [&b"\r"[..], b"\r\n\r"] {
        client.send(before);
        std::thread::sleep(PARKED);
        assert_eq!(client.ask(&[b"\n", Delivery::of(b"x").bytes().as_slice()].concat()).status, 200);
    }
    application.assert_requests(2);
}

/// One that comes later may have the nearer one, and one that has been met may have been the nearest.
fn each_has_its_own_deadline(driver: Driver) {
    let (_application, proxy) = start(driver, &["idle_timeout = \"1200ms\"", "head_timeout = \"500ms\""]);
    let mut idle = proxy.connect();
    deliver(&mut idle);
    let begun = Instant::now();
    std::thread::sleep(PARKED);
    let (connected, silent) = (Instant::now(), proxy.connect());
    // Seen from within: a child that another test starts meanwhile inherits what io_uring has accepted, and keeps it open.
    assert!(eventually(|| proxy.held().connections == 2));
    assert!(eventually(|| proxy.held().connections == 1));
    assert!((450..1000).contains(&connected.elapsed().as_millis()), "{:?}", connected.elapsed());
    assert!(eventually(|| proxy.held().connections == 0));
    assert!((1100..2400).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    drop((silent, idle));
    proxy.assert_nothing_held();
}
