//! A new process in the place of an old one, with an admin port and an audit trail, and with the sockets of a service
//! manager: nothing that a client sends fails, and the trail stays one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Driver, Program, on_both_drivers};

on_both_drivers! {
    a_service_manager_replaces_processes_without_a_failed_delivery,
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// How often a process is replaced.
const REPLACED: usize = 8;

fn configuration(folder: &Folder, driver: Driver, listen: SocketAddr, admin: &str, rest: &str, to: &str) {
    folder.write("secret", SECRET);
    folder.write("seal", "fedcba9876543210fedcba9876543210");
    folder.write(
        "countersign.toml",
        &format!(
            "[server]\nworkers = 2\ndriver = '{}'\ndrain_delay = '0s'\ndrain_grace = '10s'\n\
             [[listener]]\naddress = '{listen}'\n[upstream]\naddress = '{to}'\n[admin]\naddress = '{admin}'\n\
             [access_log]\noutput = 'off'\n{rest}\
             [[route]]\nname = 'hook'\npath = '/hook'\nscheme = 'github'\nreplay.mode = 'off'\n\
             secrets = [{{ id = '1', file = 'secret' }}]\n",
            driver.name()
        ),
    );
}

/// The program with these two sockets, as a service manager starts it.
fn start_with(folder: &Folder, sockets: [&TcpListener; 2], notify: &str) -> Program {
    let [first, second] = sockets.map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
    // Standard error is collected; the shell gives the sockets the places that are agreed on.
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" run --config \"$1\"";
    let mut outer = Command::new("sh");
    outer.arg("-c").arg(format!("exec 4<&1 1>/dev/null; {script}")).arg(BINARY).arg(folder.path("countersign.toml"));
    outer.env("NOTIFY_SOCKET", notify).stdin(Stdio::from(first)).stdout(Stdio::from(second));
    Program::spawn(&mut outer)
}

/// Delivers on a connection of its own again and again; how many were answered 200, and every other thing that happened.
fn deliver(address: SocketAddr, stop: &AtomicBool, answered: &AtomicU64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let body = number.to_string();
        let delivery = Delivery::unsigned(body.as_bytes())
            .field("X-Hub-Signature-256", &github_signature(SECRET, body.as_bytes()))
            .field("Connection", "close");
        let answer = TcpStream::connect(address).and_then(|stream| {
            let mut client = Client::over(stream);
            client.send(&delivery.bytes());
            client.try_answer()
        });
        match answer {
            Ok(answer) if answer.status == 200 => _ = answered.fetch_add(1, Ordering::Relaxed),
            Ok(answer) => wrong.push(format!("status {}", answer.status)),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    wrong
}

/// Asks the admin port again and again whether the process lives; every answer but 200.
fn probe(admin: SocketAddr, stop: &AtomicBool) -> Vec<String> {
    let mut wrong = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = TcpStream::connect(admin).and_then(|stream| {
            let mut client = Client::over(stream);
            client.send(format!("GET /live HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes());
            client.try_answer()
        });
        match answer {
            Ok(answer) if answer.status == 200 => thread::sleep(Duration::from_millis(1)),
            Ok(answer) => wrong.push(format!("status {}", answer.status)),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    wrong
}

fn a_service_manager_replaces_processes_without_a_failed_delivery(driver: Driver) {
    let application = Application::answering(OK);
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let audit = "[audit]\nfile = 'audit.jsonl'\nkey = { id = 'k', file = 'seal' }\n";
    configuration(&folder, driver, address, &admin.local_addr().unwrap().to_string(), audit, &application.address());
    let manager = UnixDatagram::bind(folder.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut bytes = [0; 512];
        let length = loop {
            match manager.recv(&mut bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let start = || {
        let program = start_with(&folder, [&listener, &admin], folder.path("notify").to_str().unwrap());
        assert!(told().starts_with("READY=1\nSTATUS=guards 1 routes"));
        program
    };
    let mut current = start();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || deliver(address, &stop, &answered))
        })
        .collect();
    let (asked, until) = (admin.local_addr().unwrap(), Arc::clone(&stop));
    let prober = thread::spawn(move || probe(asked, &until));
    for _ in 0..REPLACED {
        let before = answered.load(Ordering::Relaxed);
        assert!(crate::support::eventually(|| answered.load(Ordering::Relaxed) > before + 20));
        current.signal("TERM");
        assert!(told().starts_with("STOPPING=1"));
        assert_eq!(current.end().0.code(), Some(0), "{:#?}", current.log());
        current = start();
    }
    stop.store(true, Ordering::Relaxed);
    let wrong: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), answered.load(Ordering::Relaxed));
    let wrong = prober.join().unwrap();
    assert!(wrong.is_empty(), "probes: {wrong:?}");
    current.signal("TERM");
    assert_eq!(current.end().0.code(), Some(0));
    let verify = ["audit", "verify", "audit.jsonl", "--key-file", "seal", "--key-id", "k"];
    let output = Command::new(BINARY).args(verify).current_dir(folder.path("")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let trail = std::fs::read_to_string(folder.path("audit.jsonl")).unwrap();
    let count = |event: &str| trail.lines().filter(|line| line.contains(event)).count() as u64;
    assert_eq!(count("\"event\":\"start\""), REPLACED as u64 + 1);
    assert_eq!(count("\"reason\":\"forwarded\""), answered.load(Ordering::Relaxed));
}

/// The way of `SO_REUSEPORT`: the new one starts beside the old one, the admin port too.
#[test]
fn two_processes_share_the_ports_of_listener_and_admin() {
    let application = Application::answering(OK);
    let folder = Folder::new();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, admin) = (free(), free());
    configuration(&folder, Driver::Epoll, address, &admin.to_string(), "", &application.address());
    let mut old = Program::run(&folder.path("countersign.toml"));
    old.await_line(" ready: ");
    let new = Program::run(&folder.path("countersign.toml"));
    new.await_line(" ready: ");
    new.await_line("another process listens on");
    old.signal("TERM");
    assert_eq!(old.end().0.code(), Some(0));
    let delivery = Delivery::unsigned(b"x").field("X-Hub-Signature-256", &github_signature(SECRET, b"x"));
    assert_eq!(Client::connect(address).ask(&delivery.bytes()).status, 200);
    let probe = Command::new(BINARY).args(["healthcheck", "--address", &admin.to_string()]).output().unwrap();
    assert!(probe.status.success(), "{probe:?}");
}

/// Two processes cannot write one trail: the second one says what to do.
#[test]
fn a_trail_of_another_process_is_said_with_the_way_to_replace_it() {
    let folder = Folder::new();
    let audit = "[audit]\nfile = 'audit.jsonl'\nkey = { id = 'k', file = 'seal' }\n";
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    configuration(&folder, Driver::Epoll, any, "127.0.0.1:0", audit, "127.0.0.1:9");
    let first = Program::run(&folder.path("countersign.toml"));
    first.await_line(" ready: ");
    let mut second = Program::run(&folder.path("countersign.toml"));
    assert_eq!(second.end().0.code(), Some(2));
    second.await_line("socket activation");
}

/// A probe that the process has accepted when it ends is answered, and not reset.
#[test]
fn a_question_that_has_begun_is_answered_at_the_end() {
    let folder = Folder::new();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    configuration(&folder, Driver::Epoll, any, &admin.to_string(), "", "127.0.0.1:9");
    let mut program = Program::run(&folder.path("countersign.toml"));
    program.await_line(" ready: ");
    let mut client = Client::connect(admin);
    client.send(b"GET /live HTTP/1.1\r\n");
    // The connection has been accepted when a later one has been answered.
    let mut other = Client::connect(admin);
    other.send(format!("GET /live HTTP/1.1\r\nHost: {admin}\r\n\r\n").as_bytes());
    assert_eq!(other.try_answer().unwrap().status, 200);
    program.signal("TERM");
    program.await_line(" stopped");
    client.send(format!("Host: {admin}\r\n\r\n").as_bytes());
    assert_eq!(client.try_answer().unwrap().status, 200);
    assert_eq!(program.end().0.code(), Some(0));
}
