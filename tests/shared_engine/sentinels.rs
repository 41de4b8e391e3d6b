//! An engine whose place changes: its sentinels are asked for it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use countersign::ledger::shared::EngineTrouble;
use countersign::telemetry::engine::{EngineAsk, EngineEnd};

use crate::support::*;

/// A sentinel that watches one engine.
pub(crate) struct Sentinel {
    child: Child,
    folder: PathBuf,
    pub(crate) port: u16,
}

impl Sentinel {
    fn start(engine: u16, quorum: usize, more: &str) -> Self {
        let port = free_port();
        let sentinel = Self::spawn(port, engine, quorum, &format!("port {port}\n{more}"));
        eventually("a sentinel that answers", || !ask_at(port, &["PING"]).is_empty());
        sentinel
    }

    /// One with a port of its own, which `more` opens.
    pub(crate) fn spawn(port: u16, engine: u16, quorum: usize, more: &str) -> Self {
        let folder = folder();
        let config = format!(
            "bind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {engine} {quorum}\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 4000\n{more}\n",
            folder.display()
        );
        let path = folder.join("sentinel.conf");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(server());
        command.arg(&path).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        Self { child: command.spawn().expect("the server starts"), folder, port }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a server at a port answers, as it is written; nothing where none listens.
fn ask_at(port: u16, command: &[&str]) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let text = command
        .iter()
        .fold(format!("*{}\r\n", command.len()), |text, part| format!("{text}${}\r\n{part}\r\n", part.len()));
    let mut answer = String::new();
    if stream.write_all(text.as_bytes()).is_ok() {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

fn engine_at(port: u16, more: &[&str]) -> Option<Engine> {
    let port = port.to_string();
    let mut options = vec!["--port", &port, "--bind", "127.0.0.1"];
    options.extend(more);
    Engine::start(&options)
}

/// A configuration with these sentinels instead of an address.
pub(crate) fn configure_with(sentinels: &[u16], application: &Application, shared: &str) -> PathBuf {
    let list: Vec<String> = sentinels.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let shared = format!("sentinels = [{}]\nservice = \"mymaster\"\n{shared}", list.join(", "));
    let config = configure("left:1", application, Terms { shared: &shared, ..USUAL });
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("address = \"left:1\"\n", "")).unwrap();
    config
}

#[test]
fn a_failover_in_the_middle_of_traffic_makes_no_copy_of_what_was_replicated() {
    let (first, second) = (free_port(), free_port());
    let Some(mut master) = engine_at(first, &[]) else { return };
    let first_text = first.to_string();
    let Some(follower) = engine_at(second, &["--replicaof", "127.0.0.1", &first_text]) else { return };
    eventually("a replica that follows", || follower.ask(&["INFO", "replication"]).contains("master_link_status:up"));
    let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(first, 2, "")).collect();
    let ports: Vec<u16> = sentinels.iter().map(|sentinel| sentinel.port).collect();
    eventually("sentinels that know each other and the replica", || {
        ports.iter().all(|port| {
            let state = ask_at(*port, &["INFO", "sentinel"]);
            state.contains("slaves=1,sentinels=3")
        })
    });
    let application = application(true);
    let replicas: Vec<Replica> = (0..2).map(|_| Replica::start(&configure_with(&ports, &application, ""))).collect();
    replicas.iter().for_each(Replica::await_engine);
    let before: Vec<String> = (0..20).map(|number| format!("{{\"before\":{number}}}")).collect();
    before.iter().for_each(|body| assert_eq!(deliver(replicas[0].address(), body), 200));
    eventually("commits", || replicas[0].counted(EngineAsk::Commit, EngineEnd::Done) == 20);
    eventually("a replica that has them", || follower.ask(&["DBSIZE"]) == master.ask(&["DBSIZE"]));
    let during = traffic(&replicas, || {
        master.stop();
        eventually("replicas that know", || replicas.iter().any(|replica| replica.trouble().is_some()));
        replicas.iter().for_each(Replica::await_engine);
        assert!(follower.ask(&["INFO", "replication"]).contains("role:master"));
    });
    let all: Vec<String> = before.iter().chain(&during).cloned().collect();
    let counts = accepted_with_copies(&replicas, &application, &all);
    assert!(before.iter().all(|body| counts[body] == 1), "what the new master had");
    assert!(during.iter().all(|body| counts.contains_key(body)), "nothing is lost");
    let twice = counts.values().filter(|count| **count > 1).count();
    println!("{} deliveries during the failover, {twice} of them accepted twice", during.len());
    // The documented case: accepted, and told the master that died before its replica had it. One for each sender at most.
    assert!(counts.values().all(|count| *count <= 2) && twice <= 4, "{twice} of {}", during.len());
}

#[test]
fn sentinels_that_do_not_help_are_named() {
    let port = free_port();
    let Some(engine) = engine_at(port, &[]) else { return };
    let application = application(true);
    let sentinel = Sentinel::start(port, 1, "requirepass a-password");
    let password = "sentinel_password_file = \"sentinel-password\"";
    let start = |ports: &[u16], shared: &str, content: &str| {
        let config = configure_with(ports, &application, shared);
        fs::write(config.with_file_name("sentinel-password"), content).unwrap();
        Replica::start(&config)
    };
    let gone = free_port();
    // One that is gone is no harm while another answers.
    let replica = start(&[gone, sentinel.port], password, "a-password\n");
    replica.await_engine();
    assert_eq!(deliver(replica.address(), "{\"found\":1}"), 200);
    for (replica, trouble) in [
        (start(&[sentinel.port], "", ""), EngineTrouble::PasswordRefused),
        (start(&[sentinel.port], password, "another"), EngineTrouble::PasswordRefused),
        (start(&[gone], "", ""), EngineTrouble::Unreachable),
        (start(&[port], "", ""), EngineTrouble::Malformed),
    ] {
        eventually(trouble.code(), || replica.trouble() == Some(trouble));
    }
    let path = configure_with(&[sentinel.port], &application, password);
    fs::write(path.with_file_name("sentinel-password"), "a-password").unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("\"mymaster\"", "\"another\"");
    fs::write(&path, text).unwrap();
    let replica = Replica::start(&path);
    eventually("no master", || replica.trouble() == Some(EngineTrouble::NoMaster));
    drop(engine);
}
