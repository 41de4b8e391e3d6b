//! The binary: how it starts, how it stops, and how it lives without what it would like to have.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::{Value, json};

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    sigterm_ends_an_idle_process_at_once,
    sigterm_lets_exchanges_finish,
    sigterm_lets_answers_finish,
    while_stopping_a_missing_application_means_try_again,
    the_grace_period_is_kept,
    bounds_are_in_the_log,
    strangers_cannot_flood_the_log,
    running_out_of_descriptors_is_survived,
    unread_outputs_do_not_keep_it,
    no_further_thread_is_needed_to_go_on_and_to_end,
}

/// "Well under a second", on a machine that has other things to do.
const AT_ONCE: Duration = Duration::from_millis(800);

/// Writes a configuration; `change` is what the test wants to have otherwise.
fn configured(
    folder: &Folder,
    driver: Driver,
    application: &Application,
    change: impl Fn(String) -> String,
) -> Program {
    let text = change(Proxy::on(driver, application).text());
    Program::run(&folder.write("countersign.toml", &text))
}

/// With time for what is in flight.
fn graceful(text: &str, grace: &str) -> String {
    text.replace("drain_grace = \"0s\"", &format!("drain_grace = \"{grace}\""))
}

fn sigterm_ends_an_idle_process_at_once(driver: Driver) {
    let application = Application::answering(OK);
    for (signal, busy) in [("TERM", false), ("TERM", true), ("INT", true)] {
        let folder = Folder::new();
        let mut program = configured(&folder, driver, &application, |text| {
            graceful(&text, "20s").replace("workers = 1", "workers = 2")
        });
        program.await_line(&format!("driver={}", driver.name()));
        let mut clients: Vec<Client> = (0..if busy { 8 } else { 0 }).map(|_| program.connect()).collect();
        // Half of them have said nothing yet, the others wait with keep-alive.
        for client in clients.iter_mut().take(4) {
            assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
        }
        program.signal(signal);
        let (status, took) = program.end();
        assert_eq!(status.code(), Some(0), "{:#?}", program.log());
        // A client that has just connected is given a second for a first request.
        let most = if busy { Duration::from_secs(1) + AT_ONCE } else { AT_ONCE };
        assert!(took < most, "{took:?}");
        program.await_line(&format!("SIG{signal}: stopping"));
        assert!(program.log().last().is_some_and(|line| line.ends_with("stopped")), "{:#?}", program.log());
        clients.iter_mut().for_each(Client::assert_closed);
    }
}

/// An application that answers when it is told to.
fn application_on_command() -> (Application, impl Fn()) {
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

/// Waits until nothing new is accepted: from then on the process is stopping.
fn refuses(address: SocketAddr) -> bool {
    eventually(|| TcpStream::connect(address).is_err())
}

fn sigterm_lets_exchanges_finish(driver: Driver) {
    let (application, answer) = application_on_command();
    let folder = Folder::new();
    let mut program = configured(&folder, driver, &application, |text| graceful(&text, "20s"));
    let address = program.address();
    let (mut forwarded, mut sending) = (program.connect(), program.connect());
    let delivery = Delivery::of(b"in two parts");
    sending.send(&delivery.head());
    forwarded.send(&delivery.bytes());
    application.assert_requests(1);
    program.signal("TERM");
    program.await_line("SIGTERM: stopping");
    assert!(refuses(address));
    assert!(!program.has_ended());
    answer();
    let reply = forwarded.answer();
    assert_eq!((reply.status, reply.closes()), (200, true));
    forwarded.assert_closed();
    // A request that had begun to arrive is served too.
    sending.send(&delivery.framed_body());
    answer();
    let reply = sending.answer();
    assert_eq!((reply.status, reply.closes()), (200, true));
    drop((forwarded, sending));
    let (status, took) = program.end();
    assert_eq!(status.code(), Some(0));
    assert!(took < AT_ONCE, "{took:?}");
    application.assert_requests(2);
}

/// The client has read a part of a long answer when the signal comes: it gets the rest.
fn sigterm_lets_answers_finish(driver: Driver) {
    const SIZE: usize = 20 << 20;
    let application = Application::following(|visit| {
        visit.request();
        visit.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
        visit.say(&vec![b'x'; SIZE]);
        visit.wait_for_end();
    });
    let folder = Folder::new();
    let mut program = configured(&folder, driver, &application, |text| graceful(&text, "20s"));
    let mut client = program.connect();
    client.send(&Delivery::of(b"x").bytes()).expect(b"HTTP/1.1 200 OK\r\n");
    program.signal("TERM");
    program.await_line("SIGTERM: stopping");
    let rest = client.rest();
    assert!(rest.len() > SIZE && rest.ends_with(b"xxx"), "{} bytes", rest.len());
    drop(client);
    assert_eq!(program.end().0.code(), Some(0));
}

fn while_stopping_a_missing_application_means_try_again(driver: Driver) {
    let unused = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().to_string();
    let folder = Folder::new();
    let text = graceful(&Proxy::towards(driver, &unused).text(), "20s");
    let mut program = Program::run(&folder.write("countersign.toml", &text));
    let delivery = Delivery::of(b"x");
    let mut client = program.connect();
    client.send(&delivery.head());
    // The head must have been read before the signal comes: another delivery over the same listener says so.
    assert_eq!(program.connect().ask(&delivery.bytes()).status, 503);
    let address = program.address();
    program.signal("TERM");
    assert!(refuses(address));
    let answer = client.ask(&delivery.framed_body());
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(answer.field("Retry-After").is_some_and(|value| value.parse::<u64>().is_ok()));
    drop(client);
    assert_eq!(program.end().0.code(), Some(0));
}

/// Refusals are logged with their reason, a bounded number of them, and without anything that the stranger wrote.
fn bounds_are_in_the_log(driver: Driver) {
    let application = Application::answering(OK);
    let folder = Folder::new();
    let rate = "scheme = \"github\"\nrate = { rate = \"1/h\", burst = 1 }\nobserve = [\"rate\"]";
    let mut program = configured(&folder, driver, &application, |text| {
        text.replace("[limits]\n", "[limits]\nconnections = 1\n").replace("scheme = \"github\"", rate)
    });
    let mut client = program.connect();
    program.connect().assert_closed();
    program.await_line("connection closed reason=connections_full client=127.0.0.1");
    for _ in 0..2 {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    }
    let line = program.await_output("\"observed\":[\"route_rate_limited\"]");
    for part in ["\"outcome\":\"passed\"", "\"reason\":\"forwarded\"", "\"route\":\"hook\""] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    program.signal("TERM");
    program.end();
}

fn strangers_cannot_flood_the_log(driver: Driver) {
    let application = Application::answering(OK);
    let folder = Folder::new();
    let mut program = configured(&folder, driver, &application, |text| {
        let text =
            text.replace("[limits]\n", "[limits]\nunverified_per_client = { rate = \"1000/s\", burst = 1000 }\n");
        format!("{text}\n[access_log]\nrefused = \"20/s\"")
    });
    let mut client = program.connect();
    for round in 0..400 {
        let forged = Delivery::forged(b"stranger").field("X", "stranger").line("POST /hook?stranger HTTP/1.1");
        assert_eq!(client.ask(&forged.bytes()).status, 401, "{round}");
    }
    program.signal("TERM");
    program.end();
    let lines: Vec<Value> = program.output().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(program.output().iter().all(|line| !line.contains("stranger") && !line.contains("sha256=")));
    let (refused, notes): (Vec<&Value>, Vec<&Value>) = lines.iter().partition(|line| line["event"].is_null());
    assert!((20..200).contains(&refused.len()), "{} lines", refused.len());
    for line in &refused {
        assert_eq!((&line["reason"], &line["status"]), (&json!("signature_mismatch"), &json!(401)));
        assert_eq!((&line["route"], &line["client"]), (&json!("hook"), &json!("127.0.0.1")));
    }
    // Nothing is left out in silence.
    let left_out: u64 = notes.iter().map(|note| note["left_out"].as_u64().unwrap()).sum();
    assert_eq!(left_out + refused.len() as u64, 400);
    assert!(notes.iter().all(|note| note["lost"] == 0));
    assert!(program.log().iter().all(|line| !line.contains("reason=")), "{:#?}", program.log());
}

fn the_grace_period_is_kept(driver: Driver) {
    let (application, _never) = application_on_command();
    let folder = Folder::new();
    let mut program = configured(&folder, driver, &application, |text| graceful(&text, "300ms"));
    let mut client = program.connect();
    client.send(&Delivery::of(b"x").bytes());
    application.assert_requests(1);
    program.signal("TERM");
    let (status, took) = program.end();
    assert_eq!(status.code(), Some(0));
    assert!((Duration::from_millis(250)..AT_ONCE + AT_ONCE).contains(&took), "{took:?}");
    program.await_line("1 exchanges were cut off");
    client.assert_closed();
}

#[test]
fn a_second_signal_means_now() {
    let (application, _never) = application_on_command();
    let folder = Folder::new();
    let mut program = configured(&folder, Driver::Epoll, &application, |text| graceful(&text, "20s"));
    program.connect().send(&Delivery::of(b"x").bytes());
    let _client = program.connect().send(&Delivery::of(b"x").bytes());
    application.assert_requests(2);
    program.signal("TERM");
    program.await_line("SIGTERM: stopping");
    program.signal("TERM");
    let (status, took) = program.end();
    assert_eq!(status.code(), Some(2));
    assert!(took < AT_ONCE, "{took:?}");
}

fn output(arguments: &[&str], config: &std::path::Path) -> (Output, String) {
    let output = Command::new(BINARY).args(arguments).arg("--config").arg(config).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, errors)
}

const WRONG: &str = r#"
[[listener]]
address = "127.0.0.1"

[limits]
body_size = "1 MB of data"
head_timout = "1s"

[[route]]
path = "hook"
scheme = "gitub"
secrets = [{ id = "1", value = "changeme" }]

[[route]]
path = "/other"
scheme = "github"
secrets = [{ id = "1", file = "no-such-file" }]
"#;

#[test]
fn all_problems_of_a_configuration_are_told_at_once() {
    let folder = Folder::new();
    let config = folder.write("countersign.toml", WRONG);
    for command in ["check", "run"] {
        let (output, errors) = output(&[command], &config);
        assert_eq!(output.status.code(), Some(1), "{command}: {errors}");
        let told = |line: usize| errors.contains(&format!("{}:{line}:", config.display()));
        for line in [3, 6, 7, 10, 11, 17] {
            assert!(told(line), "{command} says nothing about line {line}: {errors}");
        }
        for word in ["head_timeout", "github", "no-such-file", "upstream"] {
            assert!(errors.contains(word), "{command} does not say {word:?}: {errors}");
        }
        assert!(!errors.contains("changeme"), "{errors}");
    }
}

#[test]
fn files_that_are_no_configuration() {
    let folder = Folder::new();
    for (name, text) in [("not.toml", Some("this is = not [ toml")), ("missing.toml", None), ("empty.toml", Some(""))] {
        let config = folder.path(name);
        text.map(|text| folder.write(name, text));
        for command in ["check", "run"] {
            let (output, errors) = output(&[command], &config);
            assert_eq!(output.status.code(), Some(1), "{command} {name}: {errors}");
            assert!(errors.contains(name), "{errors}");
        }
    }
    let output = Command::new(BINARY).arg("no-such-command").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_good_configuration_is_checked_without_being_run() {
    let folder = Folder::new();
    let application = Application::answering(OK);
    let text = Proxy::on(Driver::Epoll, &application).text().replace("127.0.0.1:0", "127.0.0.1:1");
    let config = folder.write("countersign.toml", &text);
    let (output, errors) = output(&["check"], &config);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(summary.contains("/hook") && summary.contains("github"), "{summary}");
    for secret in [crate::support::delivery::SECRET, crate::support::delivery::OLDER_SECRET] {
        assert!(!summary.contains(secret) && !errors.contains(secret));
    }
    assert_eq!(application.connections(), 0);
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let application = Application::answering(OK);
    let mut program = configured(&folder, Driver::Epoll, &application, |text| text.replace("127.0.0.1:0", &address));
    assert_eq!(program.end().0.code(), Some(2));
    program.await_line(&format!("cannot listen on {address}"));
}

/// More connections than descriptors: idle ones make room for those with a request, the process stays, and
/// serves as before when the crowd has gone.
fn running_out_of_descriptors_is_survived(driver: Driver) {
    let application = Application::answering(OK);
    let folder = Folder::new();
    let text = Proxy::on(driver, &application).text();
    let config = folder.write("countersign.toml", &text);
    let mut program = Program::run_with_open_files(&config, 40);
    program.await_line(&format!("driver={}", driver.name()));
    assert_eq!(program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    let crowd: Vec<Client> = (0..60).map(|_| program.connect()).collect();
    program.await_line("accepting connections pauses");
    program.await_line("reason=idle_closed");
    // Before any of the crowd is closed because it has said nothing for ten seconds.
    assert_eq!(program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    drop(crowd);
    for _ in 0..3 {
        assert_eq!(program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    }
    assert!(!program.has_ended());
    // It pauses twenty times a second while the crowd is there, and says so once in a while.
    let pauses = program.log().iter().filter(|line| line.contains("accepting connections pauses")).count();
    assert!(pauses <= 2, "{pauses} lines");
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
}

/// The environment variable that tells [`launcher`] what to run.
const LAUNCH: &str = "COUNTERSIGN_IT_LAUNCH";

/// And the error that `io_uring_setup` shall give.
const ERRNO: &str = "COUNTERSIGN_IT_ERRNO";

/// And the command; `run` if it is not set.
const COMMAND: &str = "COUNTERSIGN_IT_COMMAND";

/// Not a test: becomes countersign in a process that may not use io_uring, as in many containers.
#[test]
#[ignore = "started by other tests, as a process of its own"]
fn launcher() {
    /// The number of `io_uring_setup(2)`, on all architectures.
    const IO_URING_SETUP: i64 = 425;
    let Some(config) = std::env::var_os(LAUNCH) else { return };
    let errno = std::env::var(ERRNO).unwrap().parse().unwrap();
    let rules = [(IO_URING_SETUP, vec![])].into_iter().collect();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    let command = std::env::var(COMMAND).unwrap_or_else(|_| "run".to_owned());
    let error = Command::new(BINARY).args(command.split(' ')).arg("--config").arg(config).exec();
    panic!("cannot become countersign: {error}");
}

/// `countersign COMMAND` where `io_uring_setup` fails with `errno`. What the launcher itself prints is cut off: standard
/// output has JSON alone.
pub(crate) fn launched_without_io_uring(config: &std::path::Path, command: &str, errno: u32) -> Command {
    let script = "exec \"$0\" --ignored --exact process::launcher --nocapture -q | sed -n '/^{/p'";
    let mut launch = Command::new("bash");
    launch.args(["-o", "pipefail", "-c", script]).arg(std::env::current_exe().expect("this binary"));
    launch.env(LAUNCH, config).env(ERRNO, errno.to_string()).env(COMMAND, format!("{command} --json"));
    launch
}

/// Starts countersign where `io_uring_setup` fails with `errno`.
fn without_io_uring(folder: &Folder, driver: &str, application: &Application, errno: u32) -> Program {
    let text = Proxy::on(Driver::Epoll, application).text();
    let text =
        text.replace("driver = \"epoll\"", &format!("driver = \"{driver}\"")).replace("workers = 1", "workers = 2");
    let config = folder.write("countersign.toml", &text);
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--ignored", "--exact", "process::launcher", "--nocapture"]);
    Program::start(command.env(LAUNCH, config).env(ERRNO, errno.to_string()))
}

pub(crate) const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

#[test]
fn where_io_uring_is_denied_auto_serves_on_epoll_and_says_why() {
    let application = Application::answering(OK);
    for errno in [EPERM, ENOSYS] {
        let folder = Folder::new();
        let program = without_io_uring(&folder, "auto", &application, errno);
        program.await_line("driver=epoll workers=2");
        assert_eq!(program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
        let log = program.log();
        let lines: Vec<&String> = log.iter().filter(|line| line.contains("io_uring")).collect();
        assert_eq!(lines.len(), 1, "{log:#?}");
        assert!(lines[0].contains("WARN") && lines[0].contains("seccomp"), "{log:#?}");
    }
}

#[test]
fn where_io_uring_is_denied_it_cannot_be_insisted_on() {
    let application = Application::answering(OK);
    for errno in [EPERM, ENOSYS] {
        let folder = Folder::new();
        let mut program = without_io_uring(&folder, "io_uring", &application, errno);
        let (status, took) = program.end();
        assert_eq!(status.code(), Some(2), "{:#?}", program.log());
        assert!(took < Duration::from_secs(3), "{took:?}");
        let line = program.await_line("io_uring is not available");
        assert!(line.contains("ERROR") && line.contains("seccomp"), "{line}");
        assert!(!program.log().iter().any(|line| line.contains("ready")));
    }
}

/// As when the collector of a container's logs hangs.
fn unread_outputs_do_not_keep_it(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = folder.write("countersign.toml", &Proxy::on(driver, &application).text());
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = Command::new(BINARY)
        .args(["run", "--config"])
        .arg(config)
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(&reader).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.split_once("listening on ")?.1.parse().ok()).unwrap();
    assert!(lines.any(|line| line.contains(" ready: ")));
    let mut client = Client::connect(address);
    // A pipe has room for 64 KiB, a line has some 350 bytes.
    for _ in 0..1000 {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    }
    drop(client);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let ended = eventually(|| child.try_wait().unwrap().is_some());
    child.kill().unwrap();
    assert!(ended && child.wait().unwrap().code() == Some(0));
    drop(reader);
}

/// As where a container may have only so many threads, and others have taken them.
fn no_further_thread_is_needed_to_go_on_and_to_end(driver: Driver) {
    let (application, answer) = application_on_command();
    let folder = Folder::new();
    let plan = Proxy::on(driver, &application);
    let text = |plan: &Plan| format!("{}\n[admin]\naddress = \"127.0.0.1:0\"", graceful(&plan.text(), "20s"));
    let mut program = Program::run(&folder.write("countersign.toml", &text(&plan)));
    let mut client = program.connect();
    client.send(&Delivery::of(b"x").bytes());
    application.assert_requests(1);
    // No room for the stack of another thread, though for everything else.
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")).unwrap();
    let limit = format!("--as={}", (size.parse::<u64>().unwrap() + 1024) << 10);
    assert!(Command::new("prlimit").args(["--pid", &program.id().to_string(), &limit]).status().unwrap().success());
    let admin = program.await_line("admin port at ").rsplit(' ').next().unwrap().parse().unwrap();
    let reply = Client::connect(admin).ask(b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let words = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(reply.status == 500 && words.starts_with("it cannot be begun: "), "{} {words}", reply.status);
    let more = "name = \"named\"\npath = \"/named\"\nscheme = \"none\"\nupstream = \"localhost:9\"";
    folder.write("countersign.toml", &text(&plan.clone().route(more)));
    program.signal("HUP");
    program.await_line("reloaded generation=2");
    program.signal("TERM");
    program.await_line("SIGTERM: stopping");
    answer();
    assert_eq!(client.answer().status, 200);
    drop(client);
    assert_eq!(program.end().0.code(), Some(0), "{:#?}", program.log());
    assert!(program.log().last().is_some_and(|line| line.ends_with("stopped")), "{:#?}", program.log());
}
