//! Processes and their engine are killed at random moments under load: what was acknowledged is delivered, in order by key; what
//! was refused is not.
//!
//! `COUNTERSIGN_KILLS` says how often; `tests/live/run engine-crash` sets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

/// How often something is killed where nothing is said.
const KILLS: usize = 6;
const REPLICAS: usize = 3;
const SENDERS: usize = 16;

/// Numbers that are the same for one seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What the senders know at the end: by body, the ids that they were told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<String, BTreeSet<String>>,
    refused: BTreeSet<String>,
    unanswered: usize,
}

fn text(key: usize, number: usize) -> String {
    format!("{{\"key\":{key},\"n\":{number}}}")
}

/// Sends deliveries of one key, each until it is acknowledged; some that are refused at first are given up.
fn sender(key: usize, addresses: &Mutex<Vec<SocketAddr>>, stop: &AtomicBool, told: &Mutex<Told>) {
    let mut dice = Dice(0x9e37_79b9 + key as u64);
    for number in 0.. {
        let body = text(key, number);
        for attempt in 0.. {
            let address = addresses.lock().unwrap()[dice.below(REPLICAS as u64) as usize];
            let answer = try_send(address, &body);
            match answer.as_deref().map(status) {
                Some("202") => {
                    let id = field(answer.as_deref().unwrap_or_default(), "X-Countersign-Delivery").to_owned();
                    told.lock().unwrap().acknowledged.entry(body).or_default().insert(id);
                    break;
                }
                Some("200") => {
                    told.lock().unwrap().acknowledged.entry(body).or_default();
                    break;
                }
                Some("503") if attempt == 0 && dice.below(2) == 0 => {
                    told.lock().unwrap().refused.insert(body);
                    break;
                }
                Some("503" | "409") => {}
                Some(other) => panic!("{other}"),
                None => told.lock().unwrap().unanswered += 1,
            }
            thread::sleep(Duration::from_millis(20));
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(Duration::from_millis(dice.below(8)));
    }
}

/// What the application was given: by body, how often and with which ids.
#[derive(Default)]
struct Given {
    bodies: BTreeMap<String, (usize, BTreeSet<String>)>,
    last: HashMap<u64, u64>,
    out_of_order: Vec<String>,
}

impl Given {
    fn add(&mut self, request: &str) {
        let text = body(request).to_owned();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (key, number) = (value["key"].as_u64().unwrap(), value["n"].as_u64().unwrap());
        if self.last.get(&key).is_some_and(|last| *last > number) {
            let known = if self.bodies.contains_key(&text) { ", for another time" } else { "" };
            let attempt = field(request, "X-Countersign-Attempt");
            self.out_of_order.push(format!("{text} after {}, attempt {attempt}{known}", self.last[&key]));
        }
        self.last.insert(key, number);
        let (count, ids) = self.bodies.entry(text).or_default();
        *count += 1;
        ids.insert(field(request, "X-Countersign-Delivery").to_owned());
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_processes_and_the_engine_are_killed() {
    let kills = std::env::var("COUNTERSIGN_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(KILLS);
    let Some(mut engine) = Engine::start(&KEEPS) else { return };
    let application = application("127.0.0.1:0", &[]);
    let ordered = Terms { delivery: ", order = \"json:/key\"", ..USUAL };
    let start = |engine: &Engine| Process::start(engine, application.address, ordered);
    let mut replicas: Vec<Process> = (0..REPLICAS).map(|_| start(&engine)).collect();
    let addresses = Mutex::new(replicas.iter().map(Process::open).collect::<Vec<_>>());
    let (stop, told, mut given) = (AtomicBool::new(false), Mutex::new(Told::default()), Given::default());
    let mut of_engine = 0;
    thread::scope(|scope| {
        for key in 0..SENDERS {
            let (addresses, stop, told) = (&addresses, &stop, &told);
            scope.spawn(move || sender(key, addresses, stop, told));
        }
        let mut dice = Dice(7);
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(200 + dice.below(800)));
            application.drain(|request| given.add(request));
            if dice.below(4) == 0 {
                of_engine += 1;
                engine.stop();
                thread::sleep(Duration::from_millis(dice.below(1_000)));
                engine.restart(&KEEPS);
                continue;
            }
            let at = dice.below(REPLICAS as u64) as usize;
            replicas[at].end();
            replicas[at] = start(&engine);
            addresses.lock().unwrap()[at] = replicas[at].address();
        }
        eventually("replicas that are open", || {
            replicas.iter().all(|it| it.page("/status").contains("\"state\":\"open\""))
        });
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    let told = told.into_inner().unwrap();
    let begun = Instant::now();
    let lost = |given: &Given| told.acknowledged.keys().filter(|it| !given.bodies.contains_key(*it)).count();
    while lost(&given) > 0 && begun.elapsed() < PATIENCE {
        application.drain(|request| given.add(request));
        thread::sleep(Duration::from_millis(50));
    }
    eventually("an empty inbox", || replicas[0].page("/status").contains("\"waiting\":0"));
    application.drain(|request| given.add(request));
    let refused = told.refused.iter().filter(|body| given.bodies.contains_key(*body)).count();
    let again = given.bodies.values().filter(|(count, _)| *count > 1).count();
    let twice = given.bodies.values().filter(|(_, ids)| ids.len() > 1).count();
    println!(
        "{kills} kills, {of_engine} of them of the engine: {} acknowledged, {} lost; {} refused and given up, {refused} of \
         them delivered; {} out of order; {} requests without an answer; {again} delivered more than once, {twice} of \
         them under more than one id",
        told.acknowledged.len(),
        lost(&given),
        told.refused.len(),
        given.out_of_order.len(),
        told.unanswered,
    );
    assert_eq!((lost(&given), refused, twice), (0, 0, 0));
    assert_eq!(given.out_of_order, Vec::<String>::new());
    assert!(told.acknowledged.len() > 20 * kills.min(20), "there was load");
    let foreign = given.bodies.iter().filter(|(body, (_, ids))| {
        told.acknowledged.get(*body).is_some_and(|known| !known.is_empty() && known.is_disjoint(ids))
    });
    assert_eq!(foreign.count(), 0, "a delivery has the id that its sender was told");
}
