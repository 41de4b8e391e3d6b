//! How the process leaves: it says so first, serves every client that has connected, and resets no connection.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use countersign::admin::desk::Phase;

use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    everything_is_served_until_the_delay_is_over,
    an_application_that_is_gone_means_try_again,
    idle_connections_are_closed_politely,
    clients_that_have_connected_are_served,
    a_proxy_that_has_only_connected_does_not_delay_the_end,
    sigint_leaves_the_delay_out,
    clients_that_have_been_answered_are_not_cut_off,
}

fn delivery() -> Vec<u8> {
    Delivery::of(b"x").bytes()
}

fn everything_is_served_until_the_delay_is_over(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).workers(2).drain("400ms", "10s").start();
    let address = proxy.addresses()[0];
    let mut kept = proxy.connect();
    let answer = kept.ask(&delivery());
    assert_eq!((answer.status, answer.closes()), (200, false));
    let running = proxy.into_running();
    let phases = running.phases.clone();
    assert!(phases.is_ready());
    let begun = Instant::now();
    let drained = thread::spawn(move || running.drain());
    assert!(eventually(|| phases.current() == Phase::Draining) && !phases.is_ready());
    let mut refused = Client::connect(address);
    let mut unknown = Client::connect(address);
    let mut fresh = Client::connect(address);
    // The workers have been told when one of their answers says so.
    assert!(eventually(|| Client::connect(address).ask(&delivery()).closes()));
    for (client, delivery, status) in [
        (&mut kept, Delivery::of(b"x"), 200),
        (&mut fresh, Delivery::of(b"x"), 200),
        (&mut refused, Delivery::forged(b"x"), 401),
        (&mut unknown, Delivery::of(b"x").line("POST /unknown HTTP/1.1"), 404),
    ] {
        let answer = client.ask(&delivery.bytes());
        assert_eq!((answer.status, answer.closes()), (status, true));
        client.assert_closed();
    }
    assert_eq!(phases.current(), Phase::Draining);
    assert_eq!(drained.join().unwrap(), 0);
    assert_eq!(phases.current(), Phase::Stopping);
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn an_application_that_is_gone_means_try_again(driver: Driver) {
    let unused = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().to_string();
    let proxy = Proxy::towards(driver, &unused).drain("300ms", "10s").start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&delivery()).status, 503);
    let running = proxy.into_running();
    let phases = running.phases.clone();
    let drained = thread::spawn(move || running.drain());
    assert!(eventually(|| phases.current() == Phase::Draining));
    // One worker: it has been told before it reads what was sent after.
    thread::sleep(Duration::from_millis(20));
    let answer = client.ask(&delivery());
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(answer.field("Retry-After").is_some_and(|value| value.parse::<u64>().is_ok()));
    drop(client);
    assert_eq!(drained.join().unwrap(), 0);
}

fn idle_connections_are_closed_politely(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).workers(2).drain("0s", "10s").start();
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.connect()).collect();
    for client in clients.iter_mut().take(10) {
        assert_eq!(client.ask(&delivery()).status, 200);
    }
    // Some are parked by now, and some are not.
    thread::sleep(Duration::from_millis(300));
    for client in clients.iter_mut().take(5) {
        assert_eq!(client.ask(&delivery()).status, 200);
    }
    assert_eq!(proxy.into_running().stop(), 0);
    for client in &mut clients {
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).expect("an end, and no reset");
        assert!(rest.is_empty());
    }
}

/// Connects and sends until the port is closed: every client that got a connection must get an answer.
fn knock(address: SocketAddr) -> (usize, Vec<String>) {
    let (mut served, mut failures) = (0, Vec::new());
    loop {
        let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(3)) else {
            return (served, failures);
        };
        match Client::over(stream).send(&delivery()).try_answer() {
            Ok(answer) if answer.status == 200 && answer.whole => served += 1,
            Ok(answer) => failures.push(format!("{answer:?}")),
            Err(error) => failures.push(error.to_string()),
        }
    }
}

/// The kernel completes connections while the sockets are being closed: none of them is lost.
fn clients_that_have_connected_are_served(driver: Driver) {
    let application = Application::answering(OK);
    for _ in 0..5 {
        let proxy = Proxy::on(driver, &application).workers(2).drain("50ms", "10s").start();
        let address = proxy.addresses()[0];
        let knocking: Vec<_> = (0..4).map(|_| thread::spawn(move || knock(address))).collect();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(proxy.into_running().drain(), 0);
        for thread in knocking {
            let (served, failures) = thread.join().unwrap();
            assert!(failures.is_empty(), "{served} served, and {failures:#?}");
            assert!(served > 0);
        }
    }
}

/// Health checks of load balancers connect and say nothing.
fn a_proxy_that_has_only_connected_does_not_delay_the_end(driver: Driver) {
    let application = Application::answering(OK);
    let lines = "proxy_protocol = \"v1v2\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let proxy = Proxy::on(driver, &application).listener_line(lines).drain("0s", "10s").start();
    let mut silent = proxy.connect();
    let mut kept = proxy.connect();
    let header: &[u8] = b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 80\r\n";
    assert_eq!(kept.ask(&[header, &delivery()].concat()).status, 200);
    let begun = Instant::now();
    assert_eq!(proxy.into_running().stop(), 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    silent.assert_closed();
    kept.assert_closed();
}

fn sigint_leaves_the_delay_out(driver: Driver) {
    let application = Application::answering(OK);
    for (signal, delay, least, most) in [("INT", "20s", 0, 5000), ("TERM", "700ms", 700, 5700)] {
        let folder = Folder::new();
        let text = Proxy::on(driver, &application).drain(delay, "20s").text();
        let mut program = Program::run(&folder.write("countersign.toml", &text));
        let mut client = program.connect();
        assert_eq!(client.ask(&delivery()).status, 200);
        let begun = Instant::now();
        program.signal(signal);
        let (status, _) = program.end();
        let took = begun.elapsed();
        assert_eq!(status.code(), Some(0), "{:#?}", program.log());
        assert!((Duration::from_millis(least)..Duration::from_millis(most)).contains(&took), "{signal}: {took:?}");
        client.assert_closed();
    }
}

fn clients_that_have_been_answered_are_not_cut_off(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).drain("0s", "300ms").start();
    let mut client = proxy.connect();
    let long = Delivery::of(&[b'x'; 5000]);
    client.send(&long.head());
    eventually(|| proxy.held().requests > 0);
    let running = proxy.into_running();
    let phases = running.phases.clone();
    let drained = thread::spawn(move || running.drain());
    assert!(eventually(|| phases.current() == Phase::Stopping));
    thread::sleep(Duration::from_millis(20));
    let answer = client.ask(&long.framed_body());
    assert_eq!((answer.status, answer.closes()), (200, true));
    // The client does not go: it is not waited for longer than the grace period, and nothing of its is lost.
    assert_eq!(drained.join().unwrap(), 0);
}
