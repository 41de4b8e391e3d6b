//! `/ready` by what becomes of applications: refused connections, deliveries that fail, sockets that are not there yet.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::admin::{Observed, healthcheck};
use crate::support::answer::Answer;
use crate::support::application::{OK, Stoppable};
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::{Application, Delivery, Driver, Proxy, eventually};

/// An address without a listener.
fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

fn admin(ready: &str) -> String {
    format!("[admin]\naddress = \"127.0.0.1:0\"\n{ready}")
}

/// A process that asks for applications in this way.
fn observed(plan: &Plan, ready: &str) -> Observed {
    let observed = Observed::start(&plan.text(), &admin(ready));
    observed.program.await_line(" ready: ");
    observed
}

/// Judges quickly: a connection is made every tenth of a second.
const QUICK: &str = "ready = { upstreams = \"all\", failures = 2, successes = 2, interval = \"100ms\" }";
/// Makes up its mind at the first look, and never again.
const SLOW: &str = "ready = { upstreams = \"all\", failures = 100, interval = \"1m\" }";

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).expect("text")
}

/// Waits until `/ready` says this.
#[track_caller]
fn await_ready(observed: &Observed, status: u16, words: &str) {
    let said = || {
        let answer = observed.get("/ready");
        (answer.status, text(&answer))
    };
    eventually(|| said().0 == status && said().1.contains(words));
    let (found, body) = said();
    assert!(found == status && body.contains(words), "{found} {body:?}: {:#?}", observed.program.log());
}

fn status(observed: &Observed) -> serde_json::Value {
    // A page is made at most ten times a second.
    std::thread::sleep(Duration::from_millis(110));
    serde_json::from_slice(&observed.get("/status").body).expect("JSON")
}

/// Reloads, and what the answer says.
#[track_caller]
fn reload(observed: &Observed, plan: &Plan, ready: &str) -> Answer {
    observed.folder.write("countersign.toml", &format!("{}\n{}", admin(ready), plan.text()));
    observed.post("/-/reload", "")
}

#[test]
fn an_application_that_stops_and_comes_back() {
    let address = free_address();
    let observed = observed(&Proxy::towards(Driver::Epoll, &address.to_string()).drain("60s", "0s"), QUICK);
    let upstream = format!("upstream {address}");
    await_ready(&observed, 503, &format!("{upstream} is unhealthy: cannot connect: Connection refused"));
    observed.program.await_line(&format!("WARN  {upstream} is unhealthy, so that /ready says no: cannot connect"));
    // Nothing of this is a reason to start it anew.
    assert_eq!((observed.get("/live").status, observed.get("/startup").status), (200, 200));
    let series = format!("countersign_upstream_healthy{{upstream=\"{address}\"}}");
    let port = observed.admin().to_string();
    let mut application: Option<Stoppable> = None;
    for round in 0..2 {
        if let Some(application) = application.take() {
            application.stop();
            await_ready(&observed, 503, &format!("{upstream} is unhealthy: cannot connect"));
        }
        observed.await_number(&series, 0.0);
        observed.metrics().assert("countersign_ready", 0.0);
        let shown = status(&observed);
        assert_eq!((&shown["phase"], &shown["ready"]), (&"ready".into(), &false.into()));
        let health = &shown["upstreams"][0]["health"];
        assert_eq!((&health["standing"], &health["good"]), (&"unhealthy".into(), &false.into()), "{round}: {health}");
        assert!(health["trouble"].as_str().unwrap().starts_with("cannot connect: "), "{health}");
        assert!(health["since"].as_u64() > Some(1_700_000_000), "{health}");
        let (code, said) = healthcheck(&["--ready", "--address", &port]);
        assert!(code == Some(1) && said.contains(&format!("/ready says 503: {upstream} is unhealthy")), "{said}");

        application = Some(Application::answering_at(address, OK));
        await_ready(&observed, 200, "ready");
        observed.await_number(&series, 1.0);
        observed.metrics().assert("countersign_ready", 1.0);
        assert_eq!(healthcheck(&["--ready", "--address", &port]), (Some(0), "ready\n".to_owned()));
        let shown = status(&observed);
        assert_eq!((&shown["ready"], &shown["upstreams"][0]["health"]["trouble"]), (&true.into(), &().into()));
    }
    let changes = |words: &str| observed.program.log().iter().filter(|line| line.contains(words)).count();
    assert!(eventually(|| changes(&format!("INFO  {upstream} is healthy")) == 2));
    assert_eq!(changes("is unhealthy"), 2);
    // Its last word is that of its life.
    assert_eq!(observed.post("/-/drain", "").status, 200);
    assert_eq!(text(&observed.get("/ready")), "draining\n");
}

#[test]
fn an_application_on_a_unix_socket_that_is_not_there_yet() {
    let folder = Folder::new();
    let path = folder.path("app.sock");
    let observed = observed(&Proxy::towards(Driver::Epoll, &format!("unix:{}", path.display())), QUICK);
    await_ready(&observed, 503, "app.sock is unhealthy: cannot connect: No such file");
    let application = Application::on_unix_socket(&path);
    await_ready(&observed, 200, "ready");
    assert_eq!(observed.program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    application.assert_requests(1);
}

/// Sends deliveries one after the other until `until` holds; whether it did.
fn deliver(observed: &Observed, mut until: impl FnMut() -> bool) -> bool {
    let mut client = observed.program.connect();
    eventually(|| {
        let answer = client.ask(&Delivery::of(b"x").bytes());
        if answer.closes() {
            client = observed.program.connect();
        }
        until()
    })
}

/// It answers over connections that are there, although it accepts no more: no new connection is made to find out.
#[test]
fn answers_are_enough_whatever_they_say() {
    let once = "ready = { upstreams = \"all\", failures = 1, successes = 1, interval = \"500ms\" }";
    let reply = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let application = Application::answering_at(free_address(), reply);
    let observed = observed(&Proxy::on(Driver::Epoll, &application.application), once);
    await_ready(&observed, 200, "ready");
    let mut application = Some(application);
    let mut stopped: Option<(Instant, Application)> = None;
    let mut client = observed.program.connect();
    assert!(eventually(|| {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 500);
        if let Some(application) = application.take_if(|it| !it.application.requests().is_empty()) {
            stopped = Some((Instant::now(), application.stop()));
        }
        stopped.as_ref().is_some_and(|(since, _)| since.elapsed() > Duration::from_millis(1600))
    }));
    assert!(!observed.program.log().iter().any(|line| line.contains("unhealthy")), "{:#?}", observed.program.log());
    assert_eq!(observed.get("/ready").status, 200);
    // Without a delivery only a probe finds out.
    await_ready(&observed, 503, "is unhealthy: cannot connect: Connection refused");
}

/// It accepts connections and answers nothing: no connection would ever show that.
#[test]
fn deliveries_that_fail_count_although_it_accepts_connections() {
    let application = Application::following(|visit| drop(visit.request()));
    let observed = observed(&Proxy::on(Driver::Epoll, &application), QUICK);
    await_ready(&observed, 200, "ready");
    assert!(deliver(&observed, || observed.get("/ready").status == 503));
    observed.program.await_line("is unhealthy, so that /ready says no: deliveries fail (upstream_closed)");
    // No delivery is sent to it any more: a connection is all that can be seen of it.
    await_ready(&observed, 200, "ready");
}

#[test]
fn only_what_is_listed_is_asked_for() {
    let (application, away) = (Application::answering(OK), free_address());
    let more = format!("name = \"away\"\npath = \"/away\"\nscheme = \"none\"\nupstream = \"{away}\"");
    let plan = Proxy::on(Driver::Epoll, &application).route(&more);
    let listed = |address: &str| QUICK.replace("\"all\"", &format!("[\"{address}\"]"));
    let observed = observed(&plan, &listed(&application.address()));
    await_ready(&observed, 200, "ready");
    let shown = status(&observed);
    assert_eq!(
        (&shown["upstreams"][0]["health"]["good"], &shown["upstreams"][1]["health"]),
        (&true.into(), &().into())
    );
    assert_eq!(reload(&observed, &plan, &listed("127.0.0.1:1")).status, 500);
    assert_eq!(reload(&observed, &plan, QUICK).status, 200);
    await_ready(&observed, 503, &format!("upstream {away} is unhealthy"));
    assert!(!text(&observed.get("/ready")).contains(&application.address()));
    // A reload is no amnesty.
    assert_eq!(reload(&observed, &plan, SLOW).status, 200);
    assert!(text(&observed.get("/ready")).starts_with(&format!("upstream {away} is unhealthy: cannot connect")));
}

#[test]
fn it_can_be_turned_on_and_off_while_it_runs() {
    let (away, application) = (free_address(), Application::answering(OK));
    let plan = Proxy::towards(Driver::Epoll, &away.to_string());
    let observed = observed(&plan, "");
    assert_eq!(observed.get("/ready").status, 200);
    assert_eq!(observed.metrics().samples.keys().find(|series| series.contains("upstream_healthy")), None);
    // What was answered before anybody asked does not count.
    let before = Application::answering_at(away, OK);
    assert_eq!(observed.program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    before.stop();
    // One look alone is no reason to take traffic away.
    let answer = reload(&observed, &plan, SLOW);
    assert_eq!(answer.status, 200, "{}", text(&answer));
    let health = || status(&observed)["upstreams"][0]["health"].clone();
    assert!(eventually(|| health()["trouble"].is_string()));
    assert_eq!((&health()["standing"], &health()["good"]), (&"unknown".into(), &true.into()));
    assert_eq!(observed.get("/ready").status, 200);
    observed.await_number(&format!("countersign_upstream_healthy{{upstream=\"{away}\"}}"), 1.0);
    // Other thresholds, from the next look on.
    assert_eq!(reload(&observed, &plan, QUICK).status, 200);
    await_ready(&observed, 503, &format!("upstream {away} is unhealthy"));
    // Another application: the one that was away does not count any more, but nothing is known of this one.
    assert_eq!(reload(&observed, &plan.clone().to(&application), SLOW).status, 200);
    await_ready(&observed, 200, "ready");
    observed.await_number(&format!("countersign_upstream_healthy{{upstream=\"{}\"}}", application.address()), 1.0);
    assert!(!observed.metrics().samples.keys().any(|series| series.contains(&away.to_string())));
    assert_eq!(reload(&observed, &plan, QUICK).status, 200);
    await_ready(&observed, 503, &format!("upstream {away} is unhealthy"));
    assert_eq!(reload(&observed, &plan, "").status, 200);
    assert_eq!(observed.get("/ready").status, 200);
    assert!(!observed.program.log().iter().any(|line| line.contains("until the process is restarted")));
}

/// A sidecar is there before its application: from the start on, nothing is presumed.
#[test]
fn it_is_not_ready_before_the_application_has_been_reached_once() {
    let (away, also_away) = (free_address(), free_address());
    let plan = Proxy::towards(Driver::Epoll, &away.to_string());
    let observed = observed(&plan, SLOW);
    await_ready(&observed, 503, &format!("upstream {away} has not been reached yet: cannot connect"));
    // Nor by a reload.
    let other = Proxy::towards(Driver::Epoll, &also_away.to_string());
    assert_eq!(reload(&observed, &other, SLOW).status, 200);
    await_ready(&observed, 503, &format!("upstream {also_away} has not been reached yet: cannot connect"));
    assert_eq!(reload(&observed, &other, "").status, 200);
    assert_eq!(observed.get("/ready").status, 200);
}

/// A full queue does not even refuse: a connect waits until its deadline.
#[test]
fn one_that_does_not_answer_delays_no_other() {
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let silent_address = silent.local_addr().unwrap().as_socket().unwrap();
    let fill = |_| TcpStream::connect_timeout(&silent_address, Duration::from_millis(100)).ok();
    let _queue: Vec<TcpStream> = (0..4).map_while(fill).collect();
    let application = Application::answering_at(free_address(), OK);
    let more = format!("name = \"silent\"\npath = \"/silent\"\nscheme = \"none\"\nupstream = \"{silent_address}\"");
    let plan = Proxy::on(Driver::Epoll, &application.application).route(&more).upstream("connect_timeout = \"1m\"");
    let observed = observed(&plan, QUICK);
    let series = format!("countersign_upstream_healthy{{upstream=\"{}\"}}", application.application.address());
    observed.await_number(&series, 1.0);
    let _application = application.stop();
    observed.await_number(&series, 0.0);
    await_ready(&observed, 503, &format!("upstream {silent_address} has not been reached yet"));
}
