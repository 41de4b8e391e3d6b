//! A client that makes the process wait gives way when a bound is met: attackers who take all of one keep no client out,
//! and a slow sender does not pay for them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use socket2::SockRef;

use crate::support::application::OK;
use crate::support::child::{BINARY, Program};
use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Driver, Proxy, eventually, noise, on_both_drivers};

on_both_drivers! {
    unfinished_bodies_do_not_keep_memory,
    unfinished_chunked_bodies_do_not_keep_memory,
    unfinished_bodies_do_not_keep_others_from_being_asked,
    unfinished_heads_do_not_keep_connections,
    unread_refusals_do_not_keep_connections,
    unread_answers_do_not_keep_others_from_being_asked,
    a_slow_sender_outlives_those_who_hold_more,
    a_client_that_holds_as_much_waits_for_the_grace,
    a_client_that_comes_and_goes_does_not_push_a_slow_sender_out,
    unfinished_bodies_take_no_more_memory_than_check_adds_up,
}

const STRANGER: [u8; 4] = [127, 0, 0, 66];

/// How long anybody may make us wait, and some.
const GRACE: Duration = Duration::from_millis(650);

fn start(driver: Driver, limits: &[&str]) -> (Application, Proxy) {
    let application = Application::answering(OK);
    let plan = limits.iter().fold(Proxy::on(driver, &application), |plan, line| plan.limit(line));
    let proxy = plan.start();
    (application, proxy)
}

/// `count` connections of a stranger that have sent this.
fn strangers(proxy: &Proxy, count: usize, bytes: &[u8]) -> Vec<Client> {
    let send = |_| {
        let mut client = proxy.connect_from(STRANGER);
        client.send(bytes);
        client
    };
    (0..count).map(send).collect()
}

/// How many of them have been told to go.
fn told_to_go(clients: &mut [Client]) -> usize {
    clients.iter().for_each(|client| client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap());
    let mut told = 0;
    for client in clients {
        if let Ok(answer) = client.try_answer() {
            assert_eq!((answer.status, answer.closes()), (503, true));
            // It is closed after the answer; how soon is not asked.
            client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.assert_closed();
            told += 1;
        }
    }
    told
}

fn gave_way(proxy: &Proxy) -> usize {
    proxy.endings().iter().filter(|code| **code == "gave_way").count()
}

/// Whether a delivery passes over this connection.
fn passes(mut client: Client, delivery: &Delivery) -> bool {
    client.send(&delivery.bytes());
    client.try_answer().is_ok_and(|answer| answer.status == 200)
}

fn but_one(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() - 1]
}

fn unfinished_bodies(driver: Driver, unfinished: &Delivery, genuine: &Delivery) {
    let (application, proxy) = start(driver, &["body_memory = \"64KiB\"", "body_size = \"48KiB\""]);
    let mut takers = strangers(&proxy, 4, but_one(&unfinished.bytes()));
    assert!(eventually(|| proxy.held().body_memory >= 4 * 15_999));
    // While they hold less than he asks for, they have a grace.
    let mut attempts = 0;
    assert!(eventually(|| {
        attempts += 1;
        passes(proxy.connect(), genuine)
    }));
    for _ in 0..2 {
        assert_eq!(proxy.connect().ask(&genuine.bytes()).status, 200);
    }
    let told = told_to_go(&mut takers);
    // What a refused attempt had sent counts until its connection has ended.
    let most = if attempts > 1 { 4 } else { 3 };
    assert!((3..=most).contains(&told), "no more of them than there was need for: {told} after {attempts} attempts");
    assert!(eventually(|| gave_way(&proxy) == told));
    drop(takers);
    proxy.assert_nothing_held();
    application.assert_requests(3);
}

fn unfinished_bodies_do_not_keep_memory(driver: Driver) {
    unfinished_bodies(driver, &Delivery::forged(&noise(16_000)), &Delivery::of(&noise(40_000)));
}

fn unfinished_chunked_bodies_do_not_keep_memory(driver: Driver) {
    let chunked = |delivery: Delivery| delivery.chunked(&[5000; 8]);
    unfinished_bodies(driver, &chunked(Delivery::forged(&noise(16_000))), &chunked(Delivery::of(&noise(40_000))));
}

fn unfinished_bodies_do_not_keep_others_from_being_asked(driver: Driver) {
    let (application, proxy) = start(driver, &["requests_in_flight = 4"]);
    let mut takers = strangers(&proxy, 4, but_one(&Delivery::forged(&noise(150)).bytes()));
    assert!(eventually(|| proxy.held().requests == 4));
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    }
    assert_eq!(told_to_go(&mut takers), 1, "one place is enough for one after the other");
    drop((takers, client));
    proxy.assert_nothing_held();
    application.assert_requests(20);
}

fn unfinished_heads_do_not_keep_connections(driver: Driver) {
    let (_application, proxy) = start(driver, &["connections = 4"]);
    let mut takers = strangers(&proxy, 4, b"P");
    assert!(eventually(|| proxy.held().connections == 4));
    for _ in 0..3 {
        // A byte has to be there before it can be waited for the rest.
        assert!(eventually(|| passes(proxy.connect(), &Delivery::of(b"x"))));
    }
    assert!((1..=3).contains(&told_to_go(&mut takers)));
    drop(takers);
    proxy.assert_nothing_held();
}

fn unread_refusals_do_not_keep_connections(driver: Driver) {
    let (_application, proxy) = start(driver, &["connections = 2", "body_size = \"1KiB\""]);
    // Refused by its head; what might still come is read for two seconds, so that the answer arrives.
    let takers = strangers(&proxy, 2, &Delivery::forged(&noise(10_000)).head());
    assert!(eventually(|| proxy.endings() == ["body_too_large"; 2]));
    assert_eq!(proxy.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    drop(takers);
    proxy.assert_nothing_held();
}

fn unread_answers_do_not_keep_others_from_being_asked(driver: Driver) {
    let long = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20).into_bytes(), vec![b'x'; 64 << 20]];
    let application = Application::answering(&long.concat());
    let proxy = Proxy::on(driver, &application).limit("requests_in_flight = 1").start();
    let mut taker = proxy.connect_from(STRANGER);
    SockRef::from(&taker.stream).set_recv_buffer_size(4096).unwrap();
    taker.send(&Delivery::of(b"x").bytes());
    assert!(eventually(|| proxy.held().requests == 1));
    // The relay looks twice before it takes a client for one who does not read, and the client has a grace then.
    assert!(eventually(|| passes(proxy.connect(), &Delivery::of(b"x"))));
    assert!(proxy.endings().contains(&"response_gave_way"));
}

fn a_slow_sender_outlives_those_who_hold_more(driver: Driver) {
    let (application, proxy) = start(driver, &["body_memory = \"64KiB\"", "body_size = \"48KiB\""]);
    let whole = Delivery::of(&noise(600)).bytes();
    let (half, rest) = whole.split_at(whole.len() / 2);
    let mut slow = proxy.connect();
    slow.send(half);
    assert!(eventually(|| proxy.held().body_memory > 0));
    std::thread::sleep(GRACE);
    // Others come and go while it waits, and it has waited longest.
    let unfinished = Delivery::forged(&noise(16_000)).bytes();
    let mut takers = Vec::new();
    for _ in 0..4 {
        takers.extend(strangers(&proxy, 4, but_one(&unfinished)));
        assert!(eventually(|| proxy.held().body_memory > 40_000));
        // Less than the grace. What they cost others grows with the time for which they hold it.
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(proxy.connect().ask(&Delivery::of(&noise(40_000)).bytes()).status, 200);
    }
    assert_eq!(slow.ask(rest).status, 200);
    application.assert_requests(5);
}

fn a_client_that_holds_as_much_waits_for_the_grace(driver: Driver) {
    let (application, proxy) = start(driver, &["requests_in_flight = 1"]);
    let mut taker = strangers(&proxy, 1, &Delivery::forged(b"x").head());
    assert!(eventually(|| proxy.held().requests == 1));
    let mut slow = proxy.connect();
    assert_eq!(slow.ask(&Delivery::of(b"x").head()).status, 503);
    std::thread::sleep(GRACE);
    let mut slow = proxy.connect();
    slow.send(&Delivery::of(b"x").head());
    assert!(eventually(|| gave_way(&proxy) == 1));
    assert_eq!(slow.ask(b"x").status, 200);
    assert_eq!(told_to_go(&mut taker), 1);
    application.assert_requests(1);
}

fn a_client_that_comes_and_goes_does_not_push_a_slow_sender_out(driver: Driver) {
    let (_application, proxy) = start(driver, &["requests_in_flight = 40"]);
    let mut slow = proxy.connect();
    slow.send(&Delivery::of(b"x").head());
    let mut takers = strangers(&proxy, 39, &Delivery::forged(b"x").head());
    assert!(eventually(|| proxy.held().requests == 40));
    std::thread::sleep(GRACE);
    for _ in 0..39 {
        takers.extend(strangers(&proxy, 1, &Delivery::forged(b"x").head()));
    }
    assert!(eventually(|| gave_way(&proxy) == 39));
    assert_eq!(slow.ask(b"x").status, 200);
}

/// What `check` adds up, in bytes.
fn sum_of(config: &Path) -> usize {
    let output = Command::new(BINARY).arg("check").arg("--config").arg(config).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.trim_start().starts_with("all ")).unwrap_or_else(|| panic!("{text}"));
    let sum = line.trim().rsplit(' ').next().and_then(|size| size.strip_suffix("MiB")).expect("MiB");
    (sum.parse::<f64>().expect("a number") * f64::from(1 << 20)) as usize
}

/// With a process of its own, of which the kernel says how much memory it ever had.
fn unfinished_bodies_take_no_more_memory_than_check_adds_up(driver: Driver) {
    let application = Application::answering(OK);
    let limits = ["body_memory = \"8MiB\"", "body_size = \"1MiB\"", "connections = 256", "clients_tracked = 1024"];
    let plan = limits.iter().fold(Proxy::on(driver, &application), |plan, line| plan.limit(line));
    let folder = Folder::new();
    let config = folder.write("countersign.toml", &plan.text());
    let program = Program::run(&config);
    assert_eq!(program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    let before = program.peak_memory();
    let unfinished = Delivery::forged(&noise(1 << 20)).bytes();
    let strangers: Vec<Client> = (0..200_u8)
        .map(|number| {
            let mut client = Client::connect_from([127, 0, 3, number % 25 + 1], program.address());
            client.send(&unfinished[..unfinished.len() / 2]);
            client
        })
        .collect();
    // It asks for more than each of the strangers holds, and they have a grace.
    assert!(eventually(|| passes(program.connect(), &Delivery::of(&noise(1 << 20)))));
    let (grown, sum) = (program.peak_memory() - before, sum_of(&config));
    drop(strangers);
    assert!(grown > 4 << 20, "{grown} bytes: they have not taken what they can");
    eprintln!("{grown} of {sum}");
    assert!(grown <= sum, "{grown} of {sum} bytes");
}
