//! A new configuration for a proxy that runs: what changes from one request to the next, what outlives it, and that
//! clients that are not concerned do not notice.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use countersign::control::supervisor::StartError;

use crate::support::application::OK;
use crate::support::proxy::Plan;
use crate::support::{Application, Client, Delivery, Driver, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    a_policy_counts_from_the_next_request_on,
    an_exchange_ends_under_the_policy_that_it_began_with,
    listeners_come_and_go,
    a_closed_listener_finishes_what_it_has_begun,
    clients_that_have_connected_are_served_when_the_listener_goes,
    a_listener_keeps_its_door_wherever_it_stands,
    an_address_that_is_taken_changes_nothing,
    applications_are_exchanged_and_connections_kept,
    buckets_of_routes_outlive_a_policy,
    buckets_of_clients_outlive_a_policy,
    what_has_been_seen_outlives_a_policy,
    limits_may_be_lower_than_what_is_held,
    idle_connections_make_room_when_a_bound_is_lowered,
    parked_connections_hear_of_it,
    what_needs_a_restart_is_said_and_the_rest_is_applied,
    two_hundred_changes_under_load_harm_no_delivery,
}

const DENY: &str = "deny = [\"127.0.0.0/8\"]";

/// An address of loopback that no other test uses, with a port that was free a moment ago.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let host = [127, 77, std::process::id() as u8, NEXT.fetch_add(1, Ordering::Relaxed)];
    TcpListener::bind((std::net::Ipv4Addr::from(host), 0)).unwrap().local_addr().unwrap()
}

fn delivery() -> Vec<u8> {
    Delivery::of(b"x").bytes()
}

/// An application that answers when it is told to.
pub(crate) fn on_command() -> (Application, impl Fn()) {
    let (go, wait) = channel();
    let wait = Arc::new(Mutex::new(wait));
    let application = Application::following(move |visit| {
        while visit.request().is_some() {
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
            visit.say(OK);
        }
    });
    (application, move || go.send(()).unwrap_or_default())
}

/// The connection ends, and not with a reset.
#[track_caller]
fn assert_ends_politely(client: &mut Client) {
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("an end, and no reset");
    assert!(rest.is_empty(), "{:?}", rest.escape_ascii().to_string());
}

fn refuses(address: SocketAddr) -> bool {
    eventually(|| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_err())
}

fn a_policy_counts_from_the_next_request_on(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().start();
    let mut client = proxy.connect();
    for generation in [2, 4, 6] {
        assert_eq!(client.ask(&delivery()).status, 200);
        let applied = proxy.apply(&plan.clone().route_line(DENY));
        assert_eq!((applied.generation, applied.needs_restart.len()), (generation, 0));
        let answer = client.ask(&delivery());
        assert_eq!((answer.status, answer.closes()), (403, false));
        proxy.apply(&plan);
    }
    // A route that is new, and one that is gone.
    let second = "path = \"/second\"\nscheme = \"none\"";
    let to_second = Delivery::unsigned(b"x").line("POST /second HTTP/1.1").bytes();
    assert_eq!(client.ask(&to_second).status, 404);
    proxy.apply(&plan.clone().route(second));
    assert_eq!(client.ask(&to_second).status, 200);
    proxy.apply(&plan);
    assert_eq!(client.ask(&to_second).status, 404);
}

fn an_exchange_ends_under_the_policy_that_it_began_with(driver: Driver) {
    let ((application, answer), other) = (on_command(), Application::answering(OK));
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().start();
    let (mut waiting, mut sending) = (proxy.connect(), proxy.connect());
    let long = Delivery::of(&[b'x'; 5000]);
    waiting.send(&delivery());
    application.assert_requests(1);
    sending.send(&long.head());
    // The head has been read when a later request has been answered by the same worker.
    assert_eq!(proxy.connect().ask(&Delivery::forged(b"x").bytes()).status, 401);
    proxy.apply(&plan.clone().to(&other).route_line(DENY).route_line("body_size = \"1KiB\""));
    sending.send(&long.framed_body());
    application.assert_requests(2);
    answer();
    answer();
    for client in [&mut waiting, &mut sending] {
        let reply = client.answer();
        assert_eq!((reply.status, reply.closes()), (200, false));
        assert_eq!(client.ask(&delivery()).status, 403);
    }
    other.assert_saw_nothing("denied");
}

fn listeners_come_and_go(driver: Driver) {
    let application = Application::answering(OK);
    let (a, b) = (free_address(), free_address());
    let plan = Proxy::on(driver, &application).workers(2);
    let mut proxy = plan.clone().listening_on(&[a]).start();
    let mut early = Client::connect(a);
    assert_eq!(early.ask(&delivery()).status, 200);
    let applied = proxy.apply(&plan.clone().listening_on(&[b, a]));
    assert_eq!((applied.added, applied.removed), (vec![b], vec![]));
    assert_eq!(proxy.addresses(), [b, a]);
    let mut late = Client::connect(b);
    for client in [&mut early, &mut late] {
        let answer = client.ask(&delivery());
        assert_eq!((answer.status, answer.closes()), (200, false));
    }
    let mut silent = Client::connect(a);
    let applied = proxy.apply(&plan.clone().listening_on(&[b]));
    assert_eq!((applied.added, applied.removed), (vec![], vec![a]));
    assert_ends_politely(&mut early);
    assert_ends_politely(&mut silent);
    assert!(refuses(a));
    assert_eq!(late.ask(&delivery()).status, 200);
    // And it may come back.
    let applied = proxy.apply(&plan.clone().listening_on(&[a, b]));
    assert_eq!((applied.added, applied.removed), (vec![a], vec![]));
    assert_eq!(proxy.shared(), [], "the sockets that are on their way out are our own");
    assert_eq!(Client::connect(a).ask(&delivery()).status, 200);
    assert_eq!(late.ask(&delivery()).status, 200);
}

fn a_closed_listener_finishes_what_it_has_begun(driver: Driver) {
    let (application, answer) = on_command();
    let (a, b) = (free_address(), free_address());
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().listening_on(&[a]).start();
    let (mut waiting, mut sending) = (Client::connect(a), Client::connect(a));
    waiting.send(&delivery());
    application.assert_requests(1);
    sending.send(&Delivery::of(b"x").head());
    assert_eq!(proxy.connect().ask(&Delivery::forged(b"x").bytes()).status, 401);
    proxy.apply(&plan.clone().listening_on(&[b]));
    sending.send(b"x");
    application.assert_requests(2);
    answer();
    answer();
    for client in [&mut waiting, &mut sending] {
        let reply = client.answer();
        assert_eq!((reply.status, reply.closes()), (200, true));
        client.assert_closed();
    }
    assert!(refuses(a));
}

fn clients_that_have_connected_are_served_when_the_listener_goes(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application).workers(2);
    let other = free_address();
    for _ in 0..5 {
        let address = free_address();
        let mut proxy = plan.clone().listening_on(&[address]).start();
        let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(address)).collect();
        proxy.apply(&plan.clone().listening_on(&[other]));
        for client in &mut clients {
            client.send(&delivery());
        }
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!((answer.status, answer.closes()), (200, true));
        }
    }
}

/// The connection goes on being one of the listener that accepted it, also when that has been closed.
fn a_listener_keeps_its_door_wherever_it_stands(driver: Driver) {
    let application = Application::answering(OK);
    let (a, b, c) = (free_address(), free_address(), free_address());
    let plan = Proxy::on(driver, &application);
    // The line belongs to the last listener.
    let trusting = plan.clone().listener_line("trusted_proxies = [\"127.0.0.0/8\"]");
    let mut proxy = trusting.clone().listening_on(&[b, a]).start();
    let mut client = Client::connect(a);
    let said = Delivery::of(b"x").field("X-Forwarded-For", "192.0.2.7");
    let mut ask = |proxy: &Proxy, part: &[u8]| {
        let before = proxy.clients().len();
        assert_eq!(client.ask(part).status, 200);
        assert!(eventually(|| proxy.clients().len() > before));
        proxy.clients().pop().unwrap()
    };
    assert_eq!(ask(&proxy, &said.bytes()), "192.0.2.7");
    proxy.apply(&trusting.clone().listening_on(&[a]));
    assert_eq!(ask(&proxy, &said.bytes()), "192.0.2.7");
    proxy.apply(&trusting.clone().listening_on(&[a, c]));
    assert_eq!(ask(&proxy, &said.bytes()), "127.0.0.1", "another trusts now");
    proxy.apply(&trusting.clone().listening_on(&[c, a]));
    assert_eq!(ask(&proxy, &said.bytes()), "192.0.2.7");
    // A newcomer, whose first request comes when the listener is gone.
    let mut newcomer = Client::connect(a);
    proxy.apply(&plan.clone().listening_on(&[c]));
    let before = proxy.clients().len();
    assert_eq!(newcomer.ask(&said.bytes()).status, 200);
    assert!(eventually(|| proxy.clients().len() > before));
    assert_eq!(proxy.clients().pop().unwrap(), "192.0.2.7");
}

fn an_address_that_is_taken_changes_nothing(driver: Driver) {
    let application = Application::answering(OK);
    let (a, b) = (free_address(), free_address());
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().listening_on(&[a]).start();
    let mut client = Client::connect(a);
    assert_eq!(client.ask(&delivery()).status, 200);
    let taken = TcpListener::bind(free_address()).unwrap();
    let taken = (taken.local_addr().unwrap(), taken);
    let refused = proxy.try_apply(&plan.clone().route_line(DENY).listening_on(&[b, taken.0]));
    assert!(matches!(refused, Err(StartError::Listen(address, _)) if address == taken.0), "{refused:?}");
    assert_eq!(client.ask(&delivery()).status, 200);
    assert_eq!(Client::connect(a).ask(&delivery()).status, 200);
    assert_eq!(proxy.addresses(), [a]);
    assert!(TcpStream::connect(b).is_err(), "what was bound before has been let go of");
    drop(taken);
    let applied = proxy.apply(&plan.clone().listening_on(&[b, a]));
    assert_eq!((applied.added, applied.generation), (vec![b], 2));
    assert_eq!(client.ask(&delivery()).status, 200);
}

fn applications_are_exchanged_and_connections_kept(driver: Driver) {
    let (first, second) = (Application::answering(OK), Application::answering(OK));
    let plan = Proxy::on(driver, &first);
    let mut proxy = plan.clone().start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&delivery()).status, 200);
    // The same application, in another position and with another timeout: its connection is used again.
    let extra = format!("path = \"/a\"\nscheme = \"none\"\nupstream = \"{}\"", second.address());
    proxy.apply(&plan.clone().route(&extra).upstream("response_timeout = \"20s\""));
    assert_eq!(client.ask(&delivery()).status, 200);
    first.assert_requests(2);
    assert_eq!(first.connections(), 1);
    proxy.apply(&plan.clone().to(&second));
    assert_eq!(client.ask(&delivery()).status, 200);
    second.assert_requests(1);
    first.assert_requests(2);
    assert!(first.sees_closed(0), "the connection is not needed any more");
    // A shorter idle time counts for connections that are there.
    proxy.apply(&plan.clone().to(&second).upstream("idle_timeout = \"1ms\""));
    assert!(second.sees_closed(0));
}

fn statuses(client: &mut Client, delivery: &[u8], count: usize) -> Vec<u16> {
    (0..count).map(|_| client.ask(delivery).status).collect()
}

fn buckets_of_routes_outlive_a_policy(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application);
    let rated = |burst: u32| plan.clone().route_line(&format!("rate = {{ rate = \"1/h\", burst = {burst} }}"));
    let mut proxy = rated(2).start();
    let mut client = proxy.connect();
    assert_eq!(statuses(&mut client, &delivery(), 3), [200, 200, 429]);
    proxy.apply(&rated(2));
    assert_eq!(statuses(&mut client, &delivery(), 1), [429]);
    proxy.apply(&rated(4));
    assert_eq!(statuses(&mut client, &delivery(), 3), [200, 200, 429]);
    // A rate that is gone for a while, and one that is lower for a while, bring nothing either.
    proxy.apply(&plan);
    assert_eq!(statuses(&mut client, &delivery(), 1), [200]);
    proxy.apply(&rated(1));
    assert_eq!(statuses(&mut client, &delivery(), 1), [429]);
    proxy.apply(&rated(5));
    assert_eq!(statuses(&mut client, &delivery(), 2), [200, 429]);
}

fn buckets_of_clients_outlive_a_policy(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application);
    let limited = |burst: u32| {
        plan.clone()
            .limit("over_budget = \"refuse\"")
            .limit(&format!("unverified_per_client = {{ rate = \"1/h\", burst = {burst} }}"))
    };
    let mut proxy = limited(2).start();
    let mut client = proxy.connect();
    let forged = Delivery::forged(b"x").bytes();
    assert_eq!(statuses(&mut client, &forged, 3), [401, 401, 429]);
    proxy.apply(&limited(2));
    assert_eq!(statuses(&mut client, &forged, 1), [429]);
    proxy.apply(&limited(3));
    assert_eq!(statuses(&mut client, &forged, 2), [401, 429]);
    let mut other = proxy.connect_from([127, 0, 0, 9]);
    assert_eq!(statuses(&mut other, &forged, 1), [401], "another client has its own");
    proxy.apply(&limited(1));
    assert_eq!(statuses(&mut other, &forged, 1), [429]);
    assert_eq!(statuses(&mut client, &forged, 1), [429]);
}

fn what_has_been_seen_outlives_a_policy(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application);
    let remembering =
        |capacity: usize| plan.clone().replay(&format!("{{ mode = \"enforce\", capacity = {capacity} }}"));
    let mut proxy = remembering(100).start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&delivery()).status, 200);
    application.assert_requests(1);
    let first = "path = \"/first\"\nscheme = \"none\"";
    proxy.apply(&remembering(100).route(first));
    client.ask(&delivery());
    let applied = proxy.apply(&remembering(200));
    client.ask(&delivery());
    let [line] = &applied.needs_restart[..] else { panic!("{applied:?}") };
    assert!(line.contains("capacity") && line.contains("hook") && line.contains("100"), "{line}");
    // Nothing is remembered for a while, and what was seen before still is.
    proxy.apply(&plan);
    proxy.apply(&remembering(100));
    client.ask(&delivery());
    proxy.assert_endings(&["forwarded", "duplicate", "duplicate", "duplicate"]);
    application.assert_requests(1);
}

fn limits_may_be_lower_than_what_is_held(driver: Driver) {
    let (application, answer) = on_command();
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().start();
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(&delivery());
    }
    application.assert_requests(3);
    let low = plan.clone().limit("connections = 2").limit("requests_in_flight = 1").limit("connections_per_client = 1");
    proxy.apply(&low);
    assert_eq!((proxy.held().connections, proxy.held().requests), (3, 3));
    proxy.connect().assert_closed();
    clients.iter().for_each(|_| answer());
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    // No connection is cut off, and open ones may go on.
    answer();
    assert_eq!(clients[0].ask(&delivery()).status, 200);
    clients.truncate(1);
    assert!(eventually(|| proxy.held().connections == 1));
    proxy.connect().assert_closed();
    proxy.apply(&plan);
    answer();
    assert_eq!(proxy.connect().ask(&delivery()).status, 200);
    drop(clients);
    proxy.assert_nothing_held();
}

/// Long enough to be idle, without a buffer.
fn parked_connections_hear_of_it(driver: Driver) {
    let application = Application::answering(OK);
    let (stays, goes) = (free_address(), free_address());
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().listening_on(&[stays, goes]).start();
    let (mut staying, mut going) = (Client::connect(stays), Client::connect(goes));
    for client in [&mut staying, &mut going] {
        assert_eq!(client.ask(&delivery()).status, 200);
    }
    thread::sleep(Duration::from_millis(400));
    for _ in 0..2 {
        proxy.apply(&plan.clone().listening_on(&[stays]));
    }
    assert_ends_politely(&mut going);
    assert_eq!(staying.ask(&delivery()).status, 200);
    application.assert_requests(3);
}

fn idle_connections_make_room_when_a_bound_is_lowered(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().start();
    let mut idle: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.ask(&delivery()).status, 200);
    }
    // Connections that have just answered stay warm for a moment.
    thread::sleep(Duration::from_millis(600));
    proxy.apply(&plan.limit("connections = 2"));
    assert_eq!(proxy.connect().ask(&delivery()).status, 200);
    // Which of them is the youngest is not for us to say: they fell silent within milliseconds.
    let asked =
        |client: &mut Client| client.try_send(&delivery()) && client.try_answer().is_ok_and(|it| it.status == 200);
    assert_eq!(idle.iter_mut().map(asked).filter(|answered| *answered).count(), 1);
}

fn what_needs_a_restart_is_said_and_the_rest_is_applied(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().start();
    let other = if driver == Driver::Epoll { Driver::IoUring } else { Driver::Epoll };
    let wanted = Proxy::on(other, &application).workers(3).limit("clients_tracked = 1000").route_line(DENY);
    let applied = proxy.apply(&wanted);
    let lines = applied.needs_restart.join("\n");
    for (key, now, then) in [
        ("server.workers", "1", "3"),
        ("server.driver", driver.name(), other.name()),
        ("limits.clients_tracked", "65536", "1000"),
    ] {
        let told =
            applied.needs_restart.iter().any(|line| line.contains(key) && line.contains(now) && line.contains(then));
        assert!(told, "{key}: {lines}");
    }
    assert_eq!(applied.needs_restart.len(), 3, "{lines}");
    assert_eq!(proxy.connect().ask(&delivery()).status, 403);
    assert!(proxy.apply(&plan).needs_restart.is_empty());
}

/// Sends deliveries until it is told to stop; how many were answered with 200, and what else happened.
fn send(address: SocketAddr, keep: bool, stop: &AtomicBool, sent: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    let mut client = Client::connect(address);
    while !stop.load(Ordering::Relaxed) {
        if !keep {
            client = Client::connect(address);
        }
        match client.send(&delivery()).try_answer() {
            Ok(answer) if answer.status == 200 && answer.whole && !answer.closes() => {}
            Ok(answer) => failures.push(format!("{answer:?}")),
            Err(error) => {
                failures.push(error.to_string());
                client = Client::connect(address);
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

fn two_hundred_changes_under_load_harm_no_delivery(driver: Driver) {
    let (first, second) = (Application::answering(OK), Application::answering(OK));
    let (stays, comes) = (free_address(), free_address());
    let plan = |round: usize| -> Plan {
        let application = if round % 4 < 2 { &first } else { &second };
        let listeners = [vec![stays], vec![comes, stays], vec![stays, comes]];
        let plan = Proxy::on(driver, application).workers(2).listening_on(&listeners[round % 3]);
        plan.route_line(&format!("rate = {{ rate = \"{}/s\", burst = 100000 }}", 100_000 + round % 5))
            .limit(&format!("unverified_per_client = {{ rate = \"{}/s\", burst = 200 }}", 100 + round % 3))
            .route(&format!("path = \"/{round}\"\nscheme = \"none\""))
    };
    let mut proxy = plan(0).start();
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures: Vec<String> = thread::scope(|scope| {
        let (stop, sent) = (&stop, &sent);
        let senders = [true, true, false].map(|keep| scope.spawn(move || send(stays, keep, stop, sent)));
        for round in 1..=200 {
            let applied = proxy.apply(&plan(round));
            assert_eq!(applied.generation, round as u64 + 1);
            let before = sent.load(Ordering::Relaxed);
            assert!(eventually(|| sent.load(Ordering::Relaxed) > before));
        }
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), sent.into_inner());
    proxy.assert_nothing_held();
}
