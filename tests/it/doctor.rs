//! `countersign doctor`: silent where nothing is wrong, and the right sentence for each fault, provoked for real.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::process::{EPERM, launched_without_io_uring};
use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Program};

/// A configuration with nothing wrong in it, and its secret.
struct Set {
    folder: Folder,
    text: String,
}

impl Set {
    fn healthy(application: &str) -> Self {
        let folder = Folder::new();
        folder.write("github", "0123456789abcdef0123456789abcdef");
        let text = format!(
            "[server]\nworkers = 1\ndriver = \"epoll\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
             [upstream]\naddress = \"{application}\"\n[limits]\nconnections = 100\nrequests_in_flight = 100\n\
             body_memory = \"8MiB\"\nclients_tracked = 1024\n[admin]\naddress = \"unix:{}\"\n\
             [[route]]\npath = \"/hook\"\nscheme = \"github\"\nreplay = {{ capacity = 1000 }}\n\
             secrets = [{{ id = \"1\", file = \"github\" }}]\n",
            folder.path("admin.sock").display()
        );
        Self { folder, text }
    }

    fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{}", self.text);
        self.text = self.text.replace(from, to);
        self
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.write("countersign.toml", &self.text)
    }

    fn examine(&self) -> Examined {
        let config = self.config();
        Examined::of(Command::new(BINARY).args(["doctor", "--json", "--config"]).arg(config))
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// What it said.
struct Examined {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Examined {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let page: Value = serde_json::from_slice(&stdout)
            .unwrap_or_else(|_| panic!("{} {}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)));
        Self { code: status.code(), findings: page["findings"].as_array().unwrap().clone() }
    }

    /// Findings that are not good.
    fn bad(&self) -> Vec<&Value> {
        self.findings.iter().filter(|it| it["verdict"] != "ok").collect()
    }

    /// Exactly one finding is not good: this one, with a fix.
    #[track_caller]
    fn assert_only(&self, examined: &str, verdict: &str, says: &str, fix: &str) {
        let bad = self.bad();
        assert_eq!(bad.len(), 1, "{bad:#?}");
        assert_eq!((&bad[0]["examined"], &bad[0]["verdict"]), (&examined.into(), &verdict.into()), "{bad:#?}");
        assert!(bad[0]["says"].as_str().unwrap().contains(says), "{bad:#?}");
        assert!(bad[0]["fix"].as_str().unwrap().contains(fix), "{bad:#?}");
        assert_eq!(self.code, Some(i32::from(verdict == "fault")));
    }
}

#[test]
fn where_nothing_is_wrong_nothing_is_said() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address());
    let examined = set.examine();
    assert_eq!((examined.code, examined.bad()), (Some(0), Vec::new()));
    let names: Vec<&str> = examined.findings.iter().map(|it| it["examined"].as_str().unwrap()).collect();
    for name in [
        "configuration",
        "io_uring",
        "clock",
        "mounts",
        "descriptors",
        "cpu",
        "memory",
        "permissions",
        "listeners",
        "clients",
        "application",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let text = Command::new(BINARY).args(["doctor", "--config"]).arg(set.config()).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).ends_with("0 faults, 0 warnings, 0 notes\n"));
}

#[test]
fn an_application_that_is_away() {
    // No program listens on this port.
    let set = Set::healthy("127.0.0.1:1");
    set.examine().assert_only(
        "application",
        "fault",
        "does not accept connections: Connection refused",
        "127.0.0.1, whatever",
    );
}

#[test]
fn a_port_that_is_taken_and_an_address_of_another_host() {
    let application = Application::answering(OK);
    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let set = Set::healthy(&application.address());
    let own = set.text.lines().find(|line| line.starts_with("address")).unwrap().to_owned();
    let taken = format!("address = \"{}\"", other.local_addr().unwrap());
    let set = set.with(&own, &taken);
    set.examine().assert_only("listeners", "fault", "another process listens on 127.0.0.1:", "ss -ltnp");
    let set = set.with(&taken, "address = \"192.0.2.1:8080\"");
    let examined = set.examine();
    assert!(
        examined.bad().iter().any(|it| it["says"] == "192.0.2.1 is no address of this host"),
        "{:#?}",
        examined.bad()
    );
    assert_eq!(examined.code, Some(1));
}

#[test]
fn secrets_that_every_user_may_read() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address());
    fs::set_permissions(set.folder.path("github"), fs::Permissions::from_mode(0o644)).unwrap();
    set.examine().assert_only("permissions", "warning", "(mode 0644)", "defaultMode: 0440");
    let strict = Command::new(BINARY).args(["doctor", "--strict", "--config"]).arg(set.config()).output().unwrap();
    assert_eq!(strict.status.code(), Some(1), "a warning counts with --strict");
}

#[test]
fn a_clock_that_is_behind() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address());
    let secret = fs::File::options().append(true).open(set.folder.path("github")).unwrap();
    secret.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    set.examine().assert_only("clock", "warning", "from now: this clock is behind", "synchronise the clock");
}

#[test]
fn too_few_descriptors() {
    let application = Application::answering(OK);
    let config = Set::healthy(&application.address());
    let path = config.config();
    let script = "ulimit -n 128; exec \"$0\" doctor --json --config \"$1\"";
    let examined = Examined::of(Command::new("sh").arg("-c").arg(script).arg(BINARY).arg(path));
    examined.assert_only("descriptors", "warning", "128 files may be open", "LimitNOFILE");
}

#[test]
fn workers_and_bounds_beyond_the_memory() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address()).with("driver = \"epoll\"", "driver = \"auto\"");
    // Both are judged by values in unit tests, and in a container with limits by tests/live/image.py.
    let examined = set.examine();
    assert_eq!(examined.code, Some(0), "{:#?}", examined.bad());
}

#[test]
fn io_uring_that_is_denied() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address()).with("driver = \"epoll\"", "driver = \"auto\"");
    let examine = |set: &Set| Examined::of(&mut launched_without_io_uring(&set.config(), "doctor", EPERM));
    let examined = examine(&set);
    examined.assert_only("io_uring", "note", "the process uses epoll", "seccomp.json");
    assert!(examined.bad()[0]["says"].as_str().unwrap().contains("seccomp profile"), "the cause is named");
    let set = set.with("driver = \"auto\"", "driver = \"io_uring\"");
    examine(&set).assert_only("io_uring", "fault", "the process does not start", "driver = \"epoll\"");
}

#[test]
fn a_configuration_that_does_not_hold() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address()).with("scheme = \"github\"", "scheme = \"gitub\"");
    set.examine().assert_only("configuration", "fault", "problems", "countersign check");
    let none = Command::new(BINARY).args(["doctor", "--config", "/nonexistent"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn keys_that_have_ended() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address())
        .with("file = \"github\"", "file = \"github\", not_after = 2020-01-01T00:00:00Z");
    set.examine().assert_only("keys", "fault", "no key that counts", "countersign check");
}

#[test]
fn a_public_listener_that_trusts_no_proxy() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address())
        .with("[[listener]]\naddress = \"127.0.0.1", "[[listener]]\naddress = \"0.0.0.0");
    set.examine().assert_only("clients", "note", "all clients look like one", "trusted_proxies");
}

#[test]
fn a_proxy_that_is_not_trusted_before_a_running_process() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address())
        .with("replay = { capacity = 1000 }", "replay = { mode = \"off\" }")
        .with("127.0.0.1:0", &format!("127.0.0.1:{}", free_port()));
    let program = Program::run(&set.config());
    program.await_line(" ready: ");
    let mut client = program.connect();
    let secret = "0123456789abcdef0123456789abcdef";
    for number in 0..30 {
        let body = format!("{{\"number\":{number}}}");
        let delivery = Delivery::signed_with(secret, body.as_bytes()).field("X-Forwarded-For", "192.0.2.7");
        assert_eq!(client.ask(&delivery.bytes()).status, 200);
    }
    let examined = set.examine();
    examined.assert_only(
        "proxies",
        "fault",
        "30 of 30 genuine deliveries came with X-Forwarded-For",
        "trusted_proxies",
    );
    let says: Vec<&str> = examined.findings.iter().map(|it| it["says"].as_str().unwrap()).collect();
    assert!(says.iter().any(|it| it.ends_with("belongs to the running process")), "{says:?}");
    assert!(says.iter().any(|it| it.starts_with("a process is running: 1 workers")), "{says:?}");
}

/// As a `subPath` of a volume, or `podman run -v FILE:FILE`.
#[test]
fn a_secret_that_is_mounted_as_a_single_file() {
    let application = Application::answering(OK);
    let set = Set::healthy(&application.address());
    let (config, secret) = (set.config(), set.folder.path("github"));
    let original = set.folder.write("original", "0123456789abcdef0123456789abcdef");
    let script = "mount --bind \"$1\" \"$2\" && exec \"$0\" doctor --json --config \"$3\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, BINARY]).args([&original, &secret, &config]);
    match command.output() {
        Ok(output) if output.stdout.starts_with(b"{") => {
            Examined::of(&mut command).assert_only("mounts", "warning", "it never changes", "without subPath");
        }
        _ => eprintln!("left out: mounting takes privileges"),
    }
}
