//! From a worker's hands through the store and the delivering thread to an application, over real sockets.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::edge::clock::Clock;
use crate::edge::deliver::{self, DeliveryNews, DeliveryPlan, DurableRoute, Mailbox, StoreSide};
use crate::edge::driver::DriverChoice;
use crate::edge::observer::Observer;
use crate::edge::policy::{Addresses, Target, Upstream};
use crate::inbox::backoff::Backoff;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::lane::LaneTerms;
use crate::inbox::store::{StoreOrder, StoreRefusal};
use crate::telemetry::attempt::Attempted;
use crate::telemetry::exchange::Exchange;

use super::disk_in_tests::SimulatedDisk;
use super::shelf::Shelf;
use super::shelf_tests::terms;
use super::spooler::{SpoolDoor, Spooler};
use super::spooling::{SpoolAnswer, SpoolRequest, SpoolTold};

/// An application that answers with the statuses it is given, and then with 200.
struct Application {
    address: SocketAddr,
    requests: Receiver<String>,
}

fn application(statuses: &[u16]) -> Application {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let statuses = Arc::new(Mutex::new(statuses.to_vec()));
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (statuses, sender) = (Arc::clone(&statuses), sender.clone());
            std::thread::spawn(move || serve(stream, &statuses, &sender));
        }
    });
    Application { address, requests }
}

fn serve(mut stream: TcpStream, statuses: &Mutex<Vec<u16>>, sender: &Sender<String>) {
    let (mut received, mut piece) = (Vec::new(), [0; 65_536]);
    while let Ok(count) = stream.read(&mut piece).map(|count| if count == 0 { usize::MAX } else { count }) {
        if count == usize::MAX {
            return;
        }
        received.extend_from_slice(&piece[..count]);
        let Some(head) = memchr::memmem::find(&received, b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&received[..head]).into_owned();
        let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let end = head + 4 + length.parse::<usize>().unwrap();
        if received.len() < end {
            continue;
        }
        let request = String::from_utf8_lossy(&received[..end]).into_owned();
        received.drain(..end);
        let mut statuses = statuses.lock().unwrap();
        let status = if statuses.is_empty() { 200 } else { statuses.remove(0) };
        drop(statuses);
        sender.send(request).unwrap();
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

struct Running {
    door: Arc<SpoolDoor>,
    mailbox: Arc<Mailbox>,
    threads: Vec<JoinHandle<()>>,
    told: Arc<Told>,
}

/// What an observer is told of attempts.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn exchange(&self, _: &Exchange<'_>) {}
    fn accept_failed(&self, _: &std::io::Error) {}
    fn attempted(&self, attempt: &Attempted<'_>) {
        let Attempted { attempt: number, reason, status, .. } = *attempt;
        let id = attempt.request_id.map_or("-".to_owned(), |id| String::from_utf8_lossy(&id[..4]).into_owned());
        let line = format!("{} {id} {number} {} {reason} {status}", attempt.route, attempt.result.word());
        self.0.lock().unwrap().push(line);
    }
}

fn start(disk: &SimulatedDisk, address: SocketAddr, driver: DriverChoice) -> Running {
    let clock = Clock::start();
    let store = Shelf::open(Box::new(disk.clone()), terms(&[]), clock.now()).unwrap();
    let door = SpoolDoor::new(2);
    let (mailbox, ear) = Mailbox::new().unwrap();
    let spooler = Spooler {
        store: Box::new(store),
        door: Arc::clone(&door),
        mailbox: Arc::clone(&mailbox),
        clock: clock.clone(),
        batch_bytes: 1 << 20,
    };
    let (backoff, told) = (Backoff { first: 20, cap: 50 }, Arc::<Told>::default());
    let plan = DeliveryPlan {
        routes: vec![DurableRoute {
            name: Arc::from("orders"),
            terms: LaneTerms { backoff, give_up_after: u64::MAX / 4, ..LaneTerms::default() },
            timeout: Duration::from_secs(5),
        }],
        upstreams: vec![Upstream {
            target: Target::Tcp(Arc::new(Addresses::new("app".to_owned(), vec![address]))),
            tls: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            idle_connections: 8,
            reuse_after: Duration::ZERO,
        }],
        seed: 1,
        meters: Arc::default(),
        observer: Arc::<Told>::clone(&told),
        driver,
        clock,
    };
    let side: Arc<dyn StoreSide> = Arc::<SpoolDoor>::clone(&door);
    let box_of = Arc::clone(&mailbox);
    let delivering = std::thread::spawn(move || deliver::run(plan, &box_of, ear, &side).unwrap());
    Running { door, mailbox, threads: vec![spooler.start().unwrap(), delivering], told }
}

impl Running {
    fn submit(&self, worker: usize, body: &[u8]) -> Receiver<SpoolAnswer> {
        let (sender, answers) = channel();
        let id = "X-Request-Id: 0123456789abcdef0123456789abcdef";
        let head = format!("POST /hook HTTP/1.1\r\nHost: app\r\n{id}\r\nContent-Length: {}\r\n", body.len());
        let request =
            SpoolRequest { head: head.as_bytes(), body, accepted: 1_795_478_400_000, ..SpoolRequest::default() };
        let told = SpoolTold::by(move |answer| sender.send(answer).unwrap());
        self.door.submit(worker, &Arc::from("orders"), &request, told);
        answers
    }

    fn stored(&self, body: &[u8]) -> DeliveryId {
        match self.submit(0, body).recv_timeout(Duration::from_secs(20)).unwrap() {
            SpoolAnswer::Durable(id) => id,
            SpoolAnswer::Refused(why) => panic!("{why}"),
        }
    }

    fn until(&self, what: &str, holds: impl Fn(&SpoolDoor) -> bool) {
        for _ in 0..2_000 {
            if holds(&self.door) {
                return;
            }
            pause();
        }
        panic!("{what}: {:?}", self.door.standing());
    }

    fn stop(self) {
        self.mailbox.post([DeliveryNews::Stop(Duration::from_secs(30))]);
        self.door.stop();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[allow(clippy::disallowed_methods, reason = "waits for another thread")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

fn heard(application: &Application) -> String {
    application.requests.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn each_attempt_is_told_of_with_what_follows() {
    let application = application(&[503, 200, 410]);
    let running = start(&SimulatedDisk::default(), application.address, DriverChoice::Epoll);
    running.stored(b"1");
    running.until("is delivered", |_| running.told.0.lock().unwrap().len() == 2);
    running.stored(b"2");
    running.until("is dead", |door| door.standing().dead == 1);
    let told = Arc::clone(&running.told);
    running.stop();
    let expected = [
        "orders 0123 1 again answered 503",
        "orders 0123 2 delivered delivered 200",
        "orders 0123 1 dead refused_by_application 410",
    ];
    assert_eq!(*told.0.lock().unwrap(), expected);
}

#[test]
fn what_is_stored_is_delivered_until_it_is_accepted() {
    for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
        let application = application(&[503, 500]);
        let running = start(&SimulatedDisk::default(), application.address, driver);
        let id = running.stored(b"{\"a\":1}");
        for attempt in 1..=3 {
            let request = heard(&application);
            assert!(request.starts_with("POST /hook HTTP/1.1\r\nHost: app\r\n"), "{request}");
            assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
            for line in [
                format!("\r\nX-Countersign-Delivery: {id}\r\n"),
                format!("\r\nX-Countersign-Attempt: {attempt}\r\n"),
                "\r\nX-Countersign-Accepted: 2026-11-24T00:00:00Z\r\n".to_owned(),
            ] {
                assert!(request.contains(&line), "{line} in {request}");
            }
            assert!(!request.contains("Redriven"));
        }
        running.until("it is removed when it is accepted", |door| door.standing().waiting == 0);
        assert_eq!(application.requests.try_iter().count(), 0);
        running.stop();
    }
}

#[test]
fn a_dead_letter_is_redriven_and_a_held_route_waits() {
    let application = application(&[400]);
    let running = start(&SimulatedDisk::default(), application.address, DriverChoice::Auto);
    let id = running.stored(b"x");
    heard(&application);
    running.until("it is dead", |door| door.standing().dead == 1);
    running.door.order(StoreOrder::Hold("orders".to_owned(), true)).unwrap();
    let redrive = StoreOrder::Redrive(DeliveryFilter { ids: vec![id], ..DeliveryFilter::default() }, 10);
    assert_eq!(running.door.order(redrive).unwrap(), [id]);
    running.until("it waits", |door| door.standing().waiting == 1);
    assert!(application.requests.recv_timeout(Duration::from_millis(200)).is_err(), "it is held");
    running.door.order(StoreOrder::Hold("orders".to_owned(), false)).unwrap();
    let request = heard(&application);
    assert!(request.contains("X-Countersign-Attempt: 1\r\n") && request.contains("X-Countersign-Redriven: true\r\n"));
    running.until("it is done", |door| door.standing().waiting == 0 && door.standing().dead == 0);
    running.stop();
}

#[test]
fn what_was_not_delivered_is_delivered_after_a_restart() {
    let disk = SimulatedDisk::default();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let running = start(&disk, away, DriverChoice::Auto);
    let large = vec![b'y'; 150_000];
    let answers: Vec<_> = (0..20).map(|at| running.submit(at % 2, &large[..at * 7_000])).collect();
    for answer in answers {
        let answer = answer.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(answer, SpoolAnswer::Durable(_)), "{answer:?}");
    }
    running.stop();
    let application = application(&[]);
    let running = start(&disk, application.address, DriverChoice::Auto);
    let mut lengths: Vec<usize> =
        (0..20).map(|_| heard(&application).split("\r\n\r\n").nth(1).unwrap().len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (0..20).map(|at| at * 7_000).collect::<Vec<_>>());
    running.until("all are done", |door| door.standing().waiting == 0);
    running.stop();
}

#[test]
fn what_gathers_while_the_disk_is_slow_is_stored_in_parts() {
    let (door, mailbox) = (SpoolDoor::new(4), Mailbox::new().unwrap().0);
    let (body, (sender, answers)) = (vec![b'z'; 200_000], channel());
    let request = SpoolRequest { head: b"h", body: &body, ..SpoolRequest::default() };
    for at in 0..60 {
        let sender = sender.clone();
        let told = SpoolTold::by(move |answer| sender.send(answer).unwrap());
        door.submit(at % 4, &Arc::from("orders"), &request, told).unwrap();
    }
    let (clock, terms) = (Clock::start(), terms(&[]));
    let batch_bytes = terms.batch_bytes();
    let store = Box::new(Shelf::open(Box::new(SimulatedDisk::default()), terms, clock.now()).unwrap());
    let mut spooler = Spooler { store, door, mailbox, clock, batch_bytes };
    while spooler.round() {}
    let answers: Vec<SpoolAnswer> = answers.try_iter().collect();
    assert_eq!(answers.len(), 60);
    assert!(answers.iter().all(|answer| matches!(answer, SpoolAnswer::Durable(_))), "{answers:?}");
}

#[test]
fn what_the_store_has_not_taken_can_be_withdrawn_and_a_failing_disk_refuses() {
    let door = SpoolDoor::new(1);
    let request = SpoolRequest { head: b"h", body: b"b", ..SpoolRequest::default() };
    let (sender, answers) = channel();
    let told = SpoolTold::by(move |answer| sender.send(answer).unwrap());
    let place = door.submit(0, &Arc::from("orders"), &request, told).unwrap();
    assert!(door.withdraw(0, place) && !door.withdraw(0, place));
    assert!(answers.recv().is_err(), "its bell does not ring");
    let disk = SimulatedDisk::default();
    disk.fail_writes(true);
    let application = application(&[]);
    let running = start(&disk, application.address, DriverChoice::Auto);
    let answer = running.submit(0, b"x").recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(answer, SpoolAnswer::Refused(StoreRefusal::Failed));
    disk.fail_writes(false);
    running.until("it recovers", |door| door.standing().failing_since.is_none());
    pause();
    running.until("it stores again", |_| {
        matches!(running.submit(0, b"x").recv_timeout(Duration::from_secs(20)), Ok(SpoolAnswer::Durable(_)))
    });
    heard(&application);
    running.stop();
}
