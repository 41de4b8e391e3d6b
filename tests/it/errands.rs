//! The admin port over a process that is made up: what it says when workers are stuck, and how it has things done.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::admin::desk::{Desk, Errand, Phase};
use countersign::admin::request::Access;
use countersign::admin::server::{self, Admin, AdminAddress};
use countersign::edge::clock::Clock;
use countersign::now::Now;
use countersign::telemetry::metrics::Metrics;
use countersign::telemetry::readings::{CertificateReading, Readings, ReloadReading};

use crate::support::answer::{Answer, AnswerReader};

struct Made {
    clock: Clock,
    /// What the monotonic clock reads beyond the truth.
    ahead: Mutex<Duration>,
    phase: Mutex<Phase>,
    reloads: Mutex<Receiver<Errand>>,
}

impl Desk for Made {
    fn now(&self) -> Now {
        let now = self.clock.now();
        Now { monotonic: now.monotonic + *self.ahead.lock().unwrap(), ..now }
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap()
    }

    fn readings(&self) -> Readings {
        let error = Some("countersign.toml:3:1: unknown key".to_owned());
        Readings {
            generation: 7,
            reload: Some(ReloadReading { succeeded: 6, failed: 2, at: 1_781_000_000, error }),
            certificates: vec![CertificateReading {
                listener: "0.0.0.0:8443".to_owned(),
                name: "tls/tls.crt".to_owned(),
                hosts: vec!["hooks.example".to_owned()],
                fingerprint: "AB:CD".to_owned(),
                not_before: 1_780_000_000,
                not_after: 1_790_000_000,
            }],
            ..Readings::default()
        }
    }

    fn reload(&self) -> Errand {
        self.reloads.lock().unwrap().recv().expect("what comes of it")
    }

    fn drain(&self) -> Errand {
        *self.phase.lock().unwrap() = Phase::Draining;
        Errand::Done("draining".to_owned())
    }
}

struct Port {
    desk: Arc<Made>,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    finish: Sender<Errand>,
    _admin: Admin,
}

impl Port {
    fn open() -> Self {
        let (finish, reloads) = channel();
        let desk = Arc::new(Made {
            clock: Clock::start(),
            ahead: Mutex::default(),
            phase: Mutex::default(),
            reloads: Mutex::new(reloads),
        });
        let metrics = Metrics::new(2);
        let bound = server::bind(&AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("a port");
        let AdminAddress::Tcp(address) = bound.address else { panic!("it is TCP") };
        let desk_too: Arc<dyn Desk> = Arc::<Made>::clone(&desk);
        let admin = Admin::start(bound, Access::default(), desk_too, Arc::clone(&metrics)).expect("it starts");
        Self { desk, metrics, address, finish, _admin: admin }
    }

    #[track_caller]
    fn begin(&self, line: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(crate::support::PATIENCE)).expect("a timeout");
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("sent");
        stream
    }

    #[track_caller]
    fn ask(&self, line: &str) -> Answer {
        finish(&mut self.begin(line))
    }

    #[track_caller]
    fn status(&self, line: &str) -> u16 {
        self.ask(line).status
    }
}

#[track_caller]
fn finish(stream: &mut TcpStream) -> Answer {
    AnswerReader::default().read(stream, false).expect("an answer")
}

#[test]
fn probes_follow_the_phases() {
    let port = Port::open();
    for (phase, live, ready, startup) in [
        (Phase::Starting, 200, 503, 503),
        (Phase::Ready, 200, 200, 200),
        (Phase::Draining, 200, 503, 200),
        (Phase::Stopping, 200, 503, 200),
    ] {
        *port.desk.phase.lock().unwrap() = phase;
        let said = ["GET /live", "GET /ready", "GET /startup"].map(|line| port.status(line));
        assert_eq!(said, [live, ready, startup], "{phase:?}");
    }
}

#[test]
fn a_worker_that_does_not_beat_is_stuck() {
    let port = Port::open();
    let beat = || port.metrics.workers().iter().for_each(|cells| cells.beat(port.desk.now().monotonic, 0, 0));
    // Workers that have not begun are not stuck, however long ago the process was started.
    *port.desk.ahead.lock().unwrap() = Duration::from_secs(100);
    assert_eq!(port.status("GET /live"), 200);
    port.metrics.workers().iter().for_each(|cells| cells.runs_on(1));
    beat();
    assert_eq!(port.status("GET /live"), 200);
    *port.desk.ahead.lock().unwrap() = Duration::from_secs(112);
    let answer = port.ask("GET /live");
    assert_eq!((answer.status, answer.body.as_slice()), (503, &b"2 workers are stuck\n"[..]));
    beat();
    assert_eq!(port.status("GET /live"), 200);
}

#[test]
fn a_reload_takes_its_time_and_delays_no_delivery() {
    let port = Port::open();
    let mut first = port.begin("POST /-/reload");
    // It is being done: probes are answered, a second one is not begun.
    assert_eq!(port.status("POST /-/reload"), 409);
    assert_eq!(port.status("GET /live"), 200);
    port.finish.send(Errand::Done("configuration 8 is in force".to_owned())).unwrap();
    let answer = finish(&mut first);
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"configuration 8 is in force\n"[..]));
    port.finish.send(Errand::Failed("line 3: unknown key".to_owned())).unwrap();
    let answer = port.ask("POST /-/reload");
    assert_eq!((answer.status, answer.body.as_slice()), (500, &b"line 3: unknown key\n"[..]));
    assert_eq!(port.status("POST /-/drain"), 200);
    assert_eq!(*port.desk.phase.lock().unwrap(), Phase::Draining);
}

#[test]
fn a_failed_reload_and_certificates_are_shown() {
    let port = Port::open();
    let status: serde_json::Value = serde_json::from_slice(&port.ask("GET /status").body).expect("JSON");
    assert_eq!(status["generation"], 7);
    assert_eq!(status["reload"]["error"], "countersign.toml:3:1: unknown key");
    assert_eq!(status["certificates"][0]["name"], "tls/tls.crt");
    let page = String::from_utf8(port.ask("GET /metrics").body).unwrap();
    for line in [
        "countersign_config_generation 7",
        "countersign_config_reloads_total{result=\"failure\"} 2",
        "countersign_config_last_reload_successful 0",
        "countersign_certificate_not_after_timestamp_seconds{listener=\"0.0.0.0:8443\",certificate=\"tls/tls.crt\"} 1790000000",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} in\n{page}");
    }
}
