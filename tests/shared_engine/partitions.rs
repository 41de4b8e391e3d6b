//! An engine that is cut off, and one that is killed, in the middle of traffic: it forgets nothing, so nothing is accepted twice.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use countersign::ledger::shared::EngineTrouble;

use crate::support::*;

/// A network namespace with one link to this one; gone at the end.
struct Elsewhere {
    name: String,
    link: String,
    network: String,
}

fn ip(words: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(words.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Elsewhere {
    /// Nothing where namespaces cannot be made: that takes root and iproute2.
    fn new() -> Option<Self> {
        let number = std::process::id() % 60_000;
        // In a network for tests of devices (RFC 2544).
        let network = format!("198.18.{}", number % 250);
        let made = Self { name: format!("cs-{number}"), link: format!("csl{number}"), network };
        let Self { name, link, network } = &made;
        let all = [
            format!("netns add {name}"),
            format!("link add {link} type veth peer name engine netns {name}"),
            format!("addr add {network}.1/24 dev {link}"),
            format!("link set {link} up"),
            format!("-n {name} addr add {network}.2/24 dev engine"),
            format!("-n {name} link set engine up"),
            format!("-n {name} link set lo up"),
        ];
        if all.iter().all(|words| ip(words)) {
            return Some(made);
        }
        eprintln!("left out: network namespaces cannot be made here");
        None
    }

    fn cut(&self, cut: bool) {
        assert!(ip(&format!("link set {} {}", self.link, if cut { "down" } else { "up" })));
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.link));
        ip(&format!("netns del {}", self.name));
    }
}

#[test]
fn a_partition_lets_nothing_pass_twice() {
    for driver in DRIVERS {
        let Some(elsewhere) = Elsewhere::new() else { return };
        let address = format!("{}.2", elsewhere.network);
        let within = ["ip", "netns", "exec", &elsewhere.name];
        let options = ["--port", "6379", "--bind", &address, "--protected-mode", "no"];
        let Some(engine) = Engine::start_within(&within, &options) else { return };
        let application = application(true);
        let terms = Terms { driver, ..USUAL };
        // One is cut off from the engine, the other is not: it reaches it by its socket.
        let replicas = [
            Replica::start(&configure(&format!("{address}:6379"), &application, terms)),
            Replica::of(&engine, &application, terms),
        ];
        replicas.iter().for_each(Replica::await_engine);
        let bodies = traffic(&replicas, || {
            elsewhere.cut(true);
            eventually("a replica that knows", || replicas[0].trouble().is_some());
            let begun = Instant::now();
            assert_eq!(deliver(replicas[0].address(), "{\"cut\":1}"), 503);
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            assert_eq!(deliver(replicas[1].address(), "{\"cut\":2}"), 200);
            assert_eq!(replicas[1].trouble(), None);
            thread::sleep(Duration::from_secs(2));
            elsewhere.cut(false);
            replicas[0].await_engine();
        });
        let counts = accepted_with_copies(&replicas, &application, &bodies);
        assert!(bodies.len() > 50, "{}", bodies.len());
        assert!(bodies.iter().all(|body| counts.get(body) == Some(&1)), "{driver}: {counts:?}");
    }
}

#[test]
fn an_engine_that_is_killed_in_the_middle_of_traffic_forgets_nothing_that_is_on_its_disk() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut engine) = Engine::start(&options) else { return };
    let application = application(true);
    let replicas: Vec<Replica> = (0..2).map(|_| Replica::of(&engine, &application, USUAL)).collect();
    replicas.iter().for_each(Replica::await_engine);
    let bodies = traffic(&replicas, || {
        for _ in 0..5 {
            engine.stop();
            eventually("replicas that know", || replicas.iter().all(|it| it.trouble().is_some()));
            engine.restart(&options);
            replicas.iter().for_each(Replica::await_engine);
            thread::sleep(Duration::from_millis(100));
        }
    });
    let counts = accepted_with_copies(&replicas, &application, &bodies);
    assert!(bodies.iter().all(|body| counts.get(body) == Some(&1)), "{counts:?}");
    assert!(replicas.iter().all(|replica| replica.trouble() != Some(EngineTrouble::Starting)));
}
