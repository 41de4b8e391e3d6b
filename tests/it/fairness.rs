//! One address is not one attacker: whatever strangers send from the address of a sender, its deliveries pass, in their
//! turn, as long as there is capacity; and copies of one delivery count like refusals.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign::telemetry::suspicion::Suspicion;

use crate::support::application::{OK, Visit};
use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, eventually, noise, on_both_drivers};

on_both_drivers! {
    forgeries_from_the_senders_own_address_refuse_none_of_its_deliveries,
    a_fast_flood_from_the_senders_own_address_refuses_none_either,
    bodies_that_are_cut_refuse_no_delivery_from_their_address,
    connections_that_forge_make_room_for_others_of_their_address,
    connections_that_wait_make_room_for_others_of_their_address,
    connections_that_have_just_come_make_room_for_others_of_their_address,
    a_large_delivery_stays_where_others_of_its_address_wait,
    connections_that_are_with_the_application_stay,
    clients_behind_one_proxy_do_not_answer_for_one_another,
    clients_for_whom_there_is_no_room_do_not_refuse_one_another,
    suspects_are_refused_when_their_share_is_full,
    a_large_body_of_a_suspect_passes_alone,
    the_mode_is_changed_while_it_runs,
    copies_count_like_refusals,
    copies_are_written_down_within_the_rate,
}

/// A budget that is soon empty.
const SMALL: &str = "unverified_per_client = { rate = \"1/h\", burst = 3 }";

fn start(driver: Driver, limits: &[&str]) -> (Application, Proxy) {
    let application = Application::answering(OK);
    let plan = limits.iter().fold(Proxy::on(driver, &application), |plan, line| plan.limit(line));
    let proxy = plan.start();
    (application, proxy)
}

fn status(client: &mut Client, delivery: &Delivery) -> u16 {
    client.send(&delivery.bytes()).try_answer().map_or(0, |answer| answer.status)
}

fn genuine() -> Delivery {
    Delivery::of(b"genuine")
}

/// Empties the budget of an address.
fn exhaust(proxy: &Proxy) {
    let mut client = proxy.connect();
    (0..4).for_each(|_| assert_eq!(status(&mut client, &Delivery::forged(b"x")), 401));
}

fn ends(proxy: &Proxy, suspicion: Suspicion) -> u64 {
    proxy.metrics().workers().iter().map(|cells| cells.suspicions(suspicion)).sum()
}

/// Strangers that go on until they are told to stop; what they count is how many of their requests were refused unseen.
struct Strangers {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Strangers {
    /// So many threads, each with connections of its own. `pause` is between two requests of a thread.
    fn forge(proxy: &Proxy, (threads, connections): (usize, usize), pause: Duration) -> Self {
        let (stop, refused, sent) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let address = proxy.addresses()[0];
        let run = |_| {
            let (stop, refused, sent) = (Arc::clone(&stop), Arc::clone(&refused), Arc::clone(&sent));
            thread::spawn(move || {
                let mut clients: Vec<Client> = (0..connections).map(|_| Client::connect(address)).collect();
                let forged = Delivery::forged(b"forged");
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let client = &mut clients[round % connections];
                    match status(client, &forged) {
                        401 => {}
                        0 => *client = Client::connect(address),
                        _ => drop(refused.fetch_add(1, Ordering::Relaxed)),
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(pause);
                }
            })
        };
        let threads = (0..threads).map(run).collect();
        Self { stop, refused, sent, threads }
    }

    /// How many requests there were, and how many were refused unseen.
    fn stop(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        (self.sent.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

/// Twenty deliveries a second, each second one over a fresh connection.
fn deliver_for(proxy: &Proxy, time: Duration) -> usize {
    let (begun, mut kept, mut count) = (Instant::now(), proxy.connect(), 0);
    while begun.elapsed() < time {
        let status =
            if count % 2 == 0 { status(&mut kept, &genuine()) } else { status(&mut proxy.connect(), &genuine()) };
        assert_eq!(status, 200, "after {count}, {:?}", proxy.connection_ends());
        count += 1;
        thread::sleep(Duration::from_millis(50));
    }
    count
}

fn forgeries_from_the_senders_own_address_refuse_none_of_its_deliveries(driver: Driver) {
    let (application, proxy) = start(driver, &["unverified_per_client = { rate = \"1/s\", burst = 5 }"]);
    // Two hundred a second.
    let strangers = Strangers::forge(&proxy, (2, 2), Duration::from_millis(10));
    let count = deliver_for(&proxy, Duration::from_secs(3));
    let (sent, refused) = strangers.stop();
    assert!(sent > 50 && count > 10, "{sent} {count}");
    assert_eq!(refused, 0, "what is suspect is verified, too");
    application.assert_requests(count);
    assert!(!proxy.endings().contains(&"client_rate_limited"));
    assert!(ends(&proxy, Suspicion::Genuine) > 0 && ends(&proxy, Suspicion::NotGenuine) > 0);
    assert_eq!(ends(&proxy, Suspicion::Refused), 0);
    proxy.assert_nothing_held();
}

fn a_fast_flood_from_the_senders_own_address_refuses_none_either(driver: Driver) {
    let (application, proxy) = start(driver, &[SMALL]);
    let strangers = Strangers::forge(&proxy, (4, 40), Duration::ZERO);
    let count = deliver_for(&proxy, Duration::from_secs(2));
    let (sent, refused) = strangers.stop();
    assert!(sent > 200 && count > 5, "{sent} {count}");
    assert_eq!(refused, 0);
    application.assert_requests(count);
    proxy.assert_nothing_held();
}

fn bodies_that_are_cut_refuse_no_delivery_from_their_address(driver: Driver) {
    let (application, proxy) = start(driver, &[SMALL, "connections_per_client = 20"]);
    let unfinished = Delivery::forged(&noise(2000)).bytes();
    let mut held = Vec::new();
    for round in 0..100 {
        let mut client = proxy.connect();
        client.send(&unfinished[..unfinished.len() / 2]);
        if round % 2 == 0 {
            held.push(client);
        }
        if round % 10 == 0 {
            assert_eq!(
                status(&mut proxy.connect(), &genuine()),
                200,
                "in round {round}: {:?}",
                proxy.connection_ends()
            );
        }
    }
    drop(held);
    application.assert_requests(10);
    proxy.assert_nothing_held();
}

/// A client's connections are all busy with forgeries: none is idle, and none makes us wait.
fn connections_that_forge_make_room_for_others_of_their_address(driver: Driver) {
    let (application, proxy) = start(driver, &[SMALL, "connections_per_client = 8"]);
    let mut kept = proxy.connect();
    assert_eq!(status(&mut kept, &genuine()), 200);
    let strangers = Strangers::forge(&proxy, (8, 1), Duration::from_millis(1));
    thread::sleep(Duration::from_millis(100));
    for _ in 0..60 {
        assert_eq!(status(&mut proxy.connect(), &genuine()), 200, "{:?}", proxy.connection_ends());
        assert_eq!(status(&mut kept, &genuine()), 200, "one on which deliveries are proven stays");
        thread::sleep(Duration::from_millis(10));
    }
    strangers.stop();
    application.assert_requests(121);
    drop(kept);
    proxy.assert_nothing_held();
}

fn connections_that_wait_make_room_for_others_of_their_address(driver: Driver) {
    let (application, proxy) = start(driver, &["connections_per_client = 8"]);
    let mut kept = proxy.connect();
    assert_eq!(status(&mut kept, &genuine()), 200);
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut client = proxy.connect();
        client.send(b"POST /hook HTTP/1.1\r\n");
        held.push(client);
        assert_eq!(status(&mut kept, &genuine()), 200);
        assert!(proxy.held().connections <= 8 + 32, "{:?}", proxy.held());
    }
    assert_eq!(status(&mut proxy.connect(), &genuine()), 200);
    application.assert_requests(62);
    drop((held, kept));
    proxy.assert_nothing_held();
}

/// They have just been accepted, and have sent nothing: an attacker that resets what it has opened has many of them.
fn connections_that_have_just_come_make_room_for_others_of_their_address(driver: Driver) {
    let (application, proxy) = start(driver, &["connections_per_client = 8"]);
    let mut kept = proxy.connect();
    assert_eq!(status(&mut kept, &genuine()), 200);
    let silent: Vec<Client> = (0..60).map(|_| proxy.connect()).collect();
    assert_eq!(status(&mut proxy.connect(), &genuine()), 200);
    assert_eq!(status(&mut kept, &genuine()), 200);
    assert!(proxy.connection_ends().iter().all(|end| *end == "idle_closed"), "{:?}", proxy.connection_ends());
    application.assert_requests(3);
    drop((silent, kept));
    proxy.assert_nothing_held();
}

fn a_large_delivery_stays_where_others_of_its_address_wait(driver: Driver) {
    let (application, proxy) = start(driver, &["connections_per_client = 8"]);
    let large = Delivery::of(&noise(640 << 10));
    let bytes = large.bytes();
    let (begun, rest) = bytes.split_at(bytes.len() / 2);
    let mut sender = proxy.connect();
    sender.send(begun);
    assert!(eventually(|| proxy.held().body_memory > 100 << 10), "{:?}", proxy.held());
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut client = proxy.connect();
        client.send(&genuine().bytes()[..100]);
        held.push(client);
        assert!(eventually(|| proxy.held().connections <= 8 + 32), "{:?}", proxy.held());
    }
    sender.send(rest);
    let answer = sender.answer();
    assert_eq!(answer.status, 200, "{answer:?} {:?}", proxy.connection_ends());
    application.assert_requests(1);
    drop((held, sender));
    proxy.assert_nothing_held();
}

fn connections_that_are_with_the_application_stay(driver: Driver) {
    let application = Application::following(Visit::say_nothing);
    let proxy = Proxy::on(driver, &application).limit("connections_per_client = 1").start();
    let busy: Vec<Client> = (0..33)
        .map(|count| {
            let mut client = proxy.connect();
            client.send(&genuine().bytes());
            assert!(eventually(|| proxy.held().requests == count + 1));
            client
        })
        .collect();
    proxy.connect().assert_closed();
    assert_eq!((proxy.connection_ends(), proxy.held().requests), (vec!["client_connections_full"], 33));
    drop(busy);
}

fn clients_behind_one_proxy_do_not_answer_for_one_another(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).listener_line("trusted_proxies = [\"127.0.0.1\"]").limit(SMALL).start();
    let mut shared = proxy.connect();
    let of = |delivery: Delivery, address: &str| delivery.field("X-Forwarded-For", address);
    for _ in 0..20 {
        assert_eq!(status(&mut shared, &of(Delivery::forged(b"x"), "192.0.2.66")), 401);
        assert_eq!(status(&mut shared, &of(genuine(), "192.0.2.1")), 200);
    }
    application.assert_requests(20);
    // What one has proven is no reason to prefer another.
    assert_eq!(ends(&proxy, Suspicion::NotGenuine), 17);
    assert_eq!(ends(&proxy, Suspicion::Genuine), 0);
}

/// As many networks of IPv6 as a subscriber has with one line.
fn clients_for_whom_there_is_no_room_do_not_refuse_one_another(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application)
        .listener_line("trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = \"v1v2\"")
        .limit("clients_tracked = 1\nconnections_per_client = 2")
        .limit(SMALL)
        .start();
    let from = |network: usize| {
        let mut client = proxy.connect();
        client.send(format!("PROXY TCP6 2001:db8:{network:x}::1 2001:db8::1 1000 443\r\n").as_bytes());
        client
    };
    let strangers: Vec<Client> = (1..40)
        .map(|network| {
            let mut client = from(network);
            (0..2).for_each(|_| assert_eq!(status(&mut client, &Delivery::forged(b"x")), 401, "{network}"));
            client
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(status(&mut from(999), &genuine()), 200);
    }
    assert!(!proxy.connection_ends().contains(&"client_connections_full"));
    drop(strangers);
    proxy.assert_nothing_held();
}

fn suspects_are_refused_when_their_share_is_full(driver: Driver) {
    let limits = [SMALL, "requests_in_flight = 100", "over_budget_percent = 2"];
    let (application, proxy) = start(driver, &limits);
    exhaust(&proxy);
    let unfinished = Delivery::forged(b"xy").bytes();
    let begin = || {
        let mut client = proxy.connect();
        client.send(&unfinished[..unfinished.len() - 1]);
        client
    };
    let mut held = [begin(), begin()];
    assert!(eventually(|| proxy.held().suspects == 2));
    // Another one that lets us wait does not push them out, at first.
    let answer = begin().answer();
    assert_eq!((answer.status, answer.closes()), (429, true));
    assert!(answer.field("Retry-After").is_some());
    // One that has sent everything does.
    assert_eq!(status(&mut proxy.connect(), &genuine()), 200);
    assert_eq!((held[0].answer().status, proxy.held().suspects), (503, 1));
    assert_eq!(held[1].ask(b"y").status, 401);
    application.assert_requests(1);
    assert_eq!([Suspicion::Genuine, Suspicion::Refused].map(|end| ends(&proxy, end)), [1, 1]);
    drop(held);
    proxy.assert_nothing_held();
}

fn a_large_body_of_a_suspect_passes_alone(driver: Driver) {
    let limits = [SMALL, "body_memory = \"256KiB\"", "body_size = \"200KiB\"", "over_budget_percent = 10"];
    let (application, proxy) = start(driver, &limits);
    exhaust(&proxy);
    let large = Delivery::of(&noise(150_000));
    let mut client = proxy.connect();
    assert_eq!(status(&mut client, &large), 200, "larger than the share, but there is no other");
    // Beside others of the kind it has to fit, unless they make us wait for theirs.
    let mut other = proxy.connect();
    let bytes = Delivery::forged(&noise(100_000)).bytes();
    other.send(&bytes[..bytes.len() - 1]);
    assert!(eventually(|| proxy.held().suspect_memory > 80_000), "{:?}", proxy.held());
    assert_eq!(status(&mut proxy.connect(), &genuine()), 200);
    assert_eq!(proxy.held().suspect_memory, 0, "it gave way");
    application.assert_requests(2);
    drop((client, other));
    proxy.assert_nothing_held();
}

fn the_mode_is_changed_while_it_runs(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application).limit(SMALL);
    let mut proxy = plan.clone().start();
    exhaust(&proxy);
    let ask = |proxy: &Proxy| status(&mut proxy.connect(), &genuine());
    assert_eq!(ask(&proxy), 200);
    proxy.apply(&plan.clone().limit("over_budget = \"refuse\""));
    assert_eq!(ask(&proxy), 429);
    proxy.apply(&plan.limit("over_budget = \"queue\"\nover_budget_percent = 30"));
    assert_eq!(ask(&proxy), 200);
    assert_eq!(proxy.bounds().suspects, 4096 * 30 / 100);
}

fn copies_count_like_refusals(driver: Driver) {
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application).replay("{ mode = \"enforce\" }").limit(SMALL);
    let mut proxy = plan.clone().limit("over_budget = \"refuse\"").start();
    let mut client = proxy.connect();
    let statuses: Vec<u16> = (0..6).map(|_| status(&mut client, &genuine())).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    proxy.apply(&plan);
    // A retry still gets its acknowledgement.
    (0..20).for_each(|_| assert_eq!(status(&mut client, &genuine()), 200));
    assert!(eventually(|| proxy.endings().iter().filter(|code| **code == "duplicate").count() == 23));
    // And what is new is not refused for it.
    assert_eq!(status(&mut client, &Delivery::of(b"another")), 200);
    assert_eq!(status(&mut client, &Delivery::of(b"a third")), 200, "proven, it needs no token");
    application.assert_requests(3);
}

fn copies_are_written_down_within_the_rate(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    folder.write("key", "the-key-of-the-seals-0123456789");
    let text = Proxy::on(driver, &application).replay("{ mode = \"enforce\" }").text();
    let config = folder.write(
        "countersign.toml",
        &format!(
            "{text}\n[access_log]\noutput = \"access.jsonl\"\nrefused = \"20/s\"\n[audit]\nfile = \"audit.jsonl\"\n\
             key = {{ id = \"k\", file = \"key\" }}\nfsync = \"each\"\nrefused = \"20/s\"\n"
        ),
    );
    let mut program = Program::run(&config);
    let (begun, copies) = (Instant::now(), 600_usize);
    let mut client = program.connect();
    for _ in 0..=copies {
        assert_eq!(status(&mut client, &genuine()), 200, "a retry is told that nothing is left to do");
    }
    let most = 20 * (begun.elapsed().as_secs() as usize + 3);
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    for name in ["access.jsonl", "audit.jsonl"] {
        let text = fs::read_to_string(folder.path(name)).unwrap();
        let own = text
            .lines()
            .filter(|line| line.contains("\"reason\":\"duplicate\"") && line.contains("\"request_id\""))
            .count();
        assert!((1..=most).contains(&own), "{name}: {own} of at most {most}");
        assert_eq!(text.lines().filter(|line| line.contains("\"reason\":\"forwarded\"")).count(), 1, "{name}");
        let counted: usize = text.lines().map(left_out).sum();
        assert_eq!(own + counted, copies, "{name}: {own} and {counted}");
    }
    application.assert_requests(1);
}

/// How many a line stands for that have none of their own.
fn left_out(line: &str) -> usize {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let count = |key: &str| value[key].as_u64().unwrap_or_default() as usize;
    count("count") + count("left_out")
}
