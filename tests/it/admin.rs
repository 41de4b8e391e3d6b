//! The admin port of a running process: probes, metrics that are exactly right, and what it refuses.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign::telemetry::names;
use rustls::version::{TLS12, TLS13};

use crate::support::answer::{Answer, AnswerReader};
use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::secure::{Authority, Credential};
use crate::support::{Application, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    probes_say_what_is,
    a_drain_is_a_stop,
    what_stays_goes_on_counting_through_reloads,
    keys_have_an_age,
    handshakes_and_certificates_are_told,
    numbers_are_exactly_those_of_the_traffic,
    upstream_connections_are_counted,
    what_applications_do_wrong_is_counted,
}

/// A process with an admin port.
pub(crate) struct Observed {
    pub(crate) program: Program,
    pub(crate) folder: Folder,
}

impl Observed {
    pub(crate) fn start(text: &str, admin: &str) -> Self {
        let folder = Folder::new();
        let program = Program::run(&folder.write("countersign.toml", &format!("{admin}\n{text}")));
        Self { program, folder }
    }

    pub(crate) fn on(driver: Driver, application: &Application) -> Self {
        let text = Proxy::on(driver, application).workers(2).text();
        Self::start(&text, "[admin]\naddress = \"127.0.0.1:0\"")
    }

    /// Where the admin port is.
    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        let line = self.program.await_line("admin port at ");
        line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, fields: &str) -> Answer {
        self.ask(&format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n"))
    }

    #[track_caller]
    pub(crate) fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        AnswerReader::default().read(&mut stream, request.starts_with("HEAD")).expect("an answer")
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.admin()).expect("it listens");
        stream.set_read_timeout(Some(crate::support::PATIENCE)).expect("a timeout");
        stream
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Metrics::parse(&String::from_utf8(answer.body).expect("text"))
    }

    /// Waits until a number has this value.
    #[track_caller]
    pub(crate) fn await_number(&self, series: &str, value: f64) {
        let read = || self.metrics().samples.get(series).copied();
        eventually(|| {
            // A page is made at most ten times a second.
            std::thread::sleep(Duration::from_millis(100));
            read() == Some(value)
        });
        assert_eq!(read(), Some(value), "{series}");
    }

    /// Waits until it takes deliveries.
    pub(crate) fn await_ready(&self) {
        self.program.await_line(" ready: ");
        assert!(eventually(|| self.get("/ready").status == 200));
    }
}

/// The page for Prometheus, read as strictly as Prometheus does.
pub(crate) struct Metrics {
    text: String,
    types: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<String, f64>,
}

impl Metrics {
    #[track_caller]
    fn parse(text: &str) -> Self {
        let (mut types, mut helps, mut samples) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            let split = |rest: &str| {
                let (name, rest) = rest.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
                (name.to_owned(), rest.to_owned())
            };
            let twice = if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = split(rest);
                types.insert(name, kind).is_some()
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = split(rest);
                helps.insert(name, help).is_some()
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
                let name = series.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let family = family.filter(|family| types.contains_key(*family)).unwrap_or(name);
                assert!(types.contains_key(family), "{line:?} comes after its TYPE");
                samples.insert(series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line:?}"))).is_some()
            };
            assert!(!twice, "{line:?} comes twice");
        }
        Self { text: text.to_owned(), types, helps, samples }
    }

    #[track_caller]
    pub(crate) fn assert(&self, series: &str, value: f64) {
        assert_eq!(self.samples.get(series), Some(&value), "{series} in\n{}", self.text);
    }

    /// All series of a metric together.
    fn sum(&self, name: &str) -> f64 {
        let of = |series: &&String| series.as_str() == name || series.starts_with(&format!("{name}{{"));
        self.samples.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }
}

fn probes_say_what_is(driver: Driver) {
    let application = Application::answering(OK);
    let mut observed = Observed::on(driver, &application);
    observed.await_ready();
    for path in ["/live", "/ready", "/startup"] {
        let answer = observed.get(path);
        assert_eq!((answer.status, answer.closes()), (200, true), "{path}");
    }
    observed.program.signal("TERM");
    assert_eq!(observed.program.end().0.code(), Some(0));
}

/// As after SIGTERM: no longer ready, but alive, and what comes is served until the delay is over.
fn a_drain_is_a_stop(driver: Driver) {
    let application = Application::answering(OK);
    let start = |delay| {
        let text = Proxy::on(driver, &application).drain(delay, "20s").text();
        let observed = Observed::start(&text, "[admin]\naddress = \"127.0.0.1:0\"");
        observed.await_ready();
        assert_eq!(observed.post("/-/drain", "").status, 200);
        assert_eq!(observed.get("/ready").status, 503);
        observed
    };
    let mut observed = start("1500ms");
    assert_eq!(observed.get("/live").status, 200);
    assert_eq!(observed.program.connect().ask(&Delivery::of(b"late").bytes()).status, 200);
    assert_eq!(observed.metrics().samples["countersign_ready"], 0.0);
    let again = observed.post("/-/drain", "");
    assert_eq!((again.status, again.body.as_slice()), (200, &b"draining already\n"[..]));
    // A kubelet sends SIGTERM whatever was asked before: that cuts nothing short.
    observed.program.signal("TERM");
    let (status, _) = observed.program.end();
    assert_eq!(status.code(), Some(0), "{:#?}", observed.program.log());
    // But a second signal means: now.
    let mut observed = start("60s");
    assert!(eventually(|| {
        observed.program.signal("TERM");
        std::thread::sleep(Duration::from_millis(50));
        observed.program.has_ended()
    }));
    assert_eq!(observed.program.end().0.code(), Some(2));
}

fn what_stays_goes_on_counting_through_reloads(driver: Driver) {
    let application = Application::answering(OK);
    let route = "name = \"gone\"\npath = \"/gone\"\nscheme = \"none\"";
    let plan = || Proxy::on(driver, &application).workers(2).limit("connections = 100");
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\n[reload]\nwatch = false\npoll = \"0s\"";
    let observed = Observed::start(&plan().route(route).text(), admin);
    observed.await_ready();
    let mut client = observed.program.connect();
    assert_eq!(client.ask(&Delivery::of(b"one").bytes()).status, 200);
    let answer = observed.post("/-/reload", "");
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"nothing has changed\n"[..]));

    let rewrite = |text: &str, admin: &str| {
        observed.folder.write("countersign.toml", &format!("{admin}\n{text}"));
        observed.post("/-/reload", "")
    };
    let later = plan().limit("requests_in_flight = 77").text().replace("connections = 100", "connections = 99");
    let answer = rewrite(&later, &format!("{admin}\n").replace("127.0.0.1:0", "127.0.0.1:1"));
    let words = String::from_utf8(answer.body).unwrap();
    assert!(answer.status == 200 && words.starts_with("configuration 2 is in force: "), "{words}");
    assert!(words.contains("[admin] changed") && words.contains("route gone removed"), "{words}");
    observed
        .program
        .await_line("admin.address stays 127.0.0.1:0 until the process is restarted; 127.0.0.1:1 is wanted");
    assert_eq!(client.ask(&Delivery::of(b"two").bytes()).status, 200);

    observed.await_number("countersign_verifications_total{route=\"hook\",key=\"current\"}", 2.0);
    let metrics = observed.metrics();
    metrics.assert("countersign_exchange_duration_seconds_count{route=\"hook\"}", 2.0);
    assert!(!metrics.text.contains("gone"), "{}", metrics.text);
    // The connection to the application has come along, and is counted where it was.
    let label = format!("{{upstream=\"{}\"}}", application.address());
    metrics.assert(&format!("countersign_upstream_connections_opened_total{label}"), 1.0);
    metrics.assert(&format!("countersign_upstream_connections_reused_total{label}"), 1.0);
    metrics.assert("countersign_connections_limit", 99.0);
    metrics.assert("countersign_requests_in_flight_limit", 77.0);
    metrics.assert("countersign_config_generation", 2.0);
    metrics.assert("countersign_config_reloads_total{result=\"success\"}", 2.0);

    let answer = rewrite(&later.replace("\"github\"", "\"gitub\""), admin);
    assert_eq!(answer.status, 500);
    let words = String::from_utf8(answer.body).unwrap();
    assert!(words.contains("did you mean \"github\"?"), "{words}");
    observed.await_number("countersign_config_last_reload_successful", 0.0);
    let metrics = observed.metrics();
    metrics.assert("countersign_config_reloads_total{result=\"failure\"}", 1.0);
    metrics.assert("countersign_config_generation", 2.0);
    let status: serde_json::Value = serde_json::from_slice(&observed.get("/status").body).unwrap();
    assert!(status["reload"]["error"].as_str().unwrap().contains("did you mean"), "{status}");
    assert_eq!(client.ask(&Delivery::of(b"three").bytes()).status, 200);
}

fn numbers_are_exactly_those_of_the_traffic(driver: Driver) {
    let application = Application::answering(OK);
    let text = Proxy::on(driver, &application)
        .workers(2)
        .replay("{ mode = \"enforce\" }")
        .route(
            "name = \"open\"\npath = \"/open\"\nscheme = \"none\"\nobserve = [\"allow\"]\nallow = [\"192.0.2.0/24\"]",
        )
        .text();
    let observed = Observed::start(&text, "[admin]\naddress = \"127.0.0.1:0\"");
    observed.await_ready();
    let body = |number: usize| format!("delivery {number:05}").into_bytes();
    // Many connections, so that both workers serve some.
    for round in 0..20 {
        let mut client = observed.program.connect();
        for number in 0..5 {
            assert_eq!(client.ask(&Delivery::of(&body(round * 5 + number)).bytes()).status, 200);
        }
        assert_eq!(client.ask(&Delivery::of(&body(round * 5)).bytes()).status, 200, "a duplicate");
        assert_eq!(client.ask(&Delivery::forged(b"12345").bytes()).status, 401);
        assert_eq!(client.ask(&Delivery::unsigned(b"").bytes()).status, 401);
        let open = Delivery::unsigned(b"123").line("POST /open HTTP/1.1");
        assert_eq!(client.ask(&open.bytes()).status, 200);
        let nowhere = Delivery::unsigned(b"").line("POST /nowhere HTTP/1.1");
        assert_eq!(client.ask(&nowhere.bytes()).status, 404);
    }
    let older = Delivery::signed_with(crate::support::delivery::OLDER_SECRET, b"older");
    assert_eq!(observed.program.connect().ask(&older.bytes()).status, 200);
    // The last answer is counted after it has been sent.
    observed.await_number("countersign_verifications_total{route=\"hook\",key=\"older\"}", 1.0);
    let metrics = observed.metrics();
    let hook = |outcome: &str| {
        format!("countersign_exchanges_total{{route=\"hook\",scheme=\"github\",outcome=\"{outcome}\"}}")
    };
    metrics.assert(&hook("forwarded"), 101.0);
    metrics.assert(&hook("duplicate"), 20.0);
    metrics.assert(&hook("rejected"), 40.0);
    metrics.assert(&hook("failed"), 0.0);
    metrics.assert("countersign_exchanges_total{route=\"open\",scheme=\"none\",outcome=\"forwarded\"}", 20.0);
    metrics.assert("countersign_exchanges_total{route=\"\",scheme=\"\",outcome=\"rejected\"}", 20.0);
    assert_eq!(metrics.sum("countersign_exchanges_total"), 201.0);
    metrics.assert("countersign_rejections_total{route=\"hook\",reason=\"signature_mismatch\"}", 20.0);
    metrics.assert("countersign_rejections_total{route=\"hook\",reason=\"signature_missing\"}", 20.0);
    metrics.assert("countersign_rejections_total{route=\"hook\",reason=\"duplicate\"}", 20.0);
    metrics.assert("countersign_rejections_total{route=\"\",reason=\"route_unknown\"}", 20.0);
    assert_eq!(metrics.sum("countersign_rejections_total"), 80.0);
    assert_eq!(metrics.sum("countersign_faults_total"), 0.0);
    metrics.assert("countersign_duplicates_total{route=\"hook\",state=\"committed\"}", 20.0);
    metrics.assert("countersign_observed_refusals_total{route=\"open\",reason=\"client_not_allowed\"}", 20.0);
    metrics.assert("countersign_verifications_total{route=\"hook\",key=\"current\"}", 120.0);
    metrics.assert("countersign_forwarded_responses_total{route=\"hook\",class=\"2xx\"}", 101.0);
    // 100 deliveries and 20 duplicates of 14 bytes, 20 forged ones of 5, and one of 5.
    metrics.assert("countersign_request_body_bytes_total{route=\"hook\"}", f64::from(120 * 14 + 20 * 5 + 5));
    metrics.assert("countersign_request_body_bytes_total{route=\"open\"}", 60.0);
    metrics.assert("countersign_response_body_bytes_total{route=\"open\"}", 40.0);
    metrics.assert("countersign_exchange_duration_seconds_count{route=\"hook\"}", 101.0);
    metrics.assert("countersign_exchange_duration_seconds_bucket{route=\"hook\",le=\"+Inf\"}", 101.0);
    metrics.assert("countersign_upstream_duration_seconds_count{route=\"hook\"}", 101.0);
    metrics.assert("countersign_replay_entries{route=\"hook\"}", 101.0);
    metrics.assert("countersign_replay_claims_in_flight{route=\"hook\"}", 0.0);
    metrics.assert("countersign_connections_accepted_total", 21.0);
    metrics.assert(&format!("countersign_workers{{driver=\"{}\"}}", driver.name()), 2.0);
    metrics.assert("countersign_config_generation", 1.0);
    metrics.assert("countersign_ready", 1.0);
    let total = metrics.samples["countersign_exchange_duration_seconds_sum{route=\"hook\"}"];
    let upstream = metrics.samples["countersign_upstream_duration_seconds_sum{route=\"hook\"}"];
    assert!(total > upstream && upstream > 0.0, "{total} {upstream}");
    // Where no certificate is shown, no key has an end, and /ready asks for no application, there are no such numbers.
    let absent = [
        "countersign_key_not_",
        "countersign_certificate_",
        "countersign_client_ca_",
        "countersign_audit_failing",
        "countersign_audit_unproven",
        "countersign_published_keys",
        "countersign_key_fetches",
        "countersign_published_ranges",
        "countersign_range_fetches",
        "countersign_inbox_",
        "countersign_shared_",
        HEALTH,
    ];
    every_name_is_there(&metrics, &absent);
}

/// Of the file at the start, and of the reload that changed what is in it; not of one that only touched it.
fn keys_have_an_age(driver: Driver) {
    let application = Application::answering(OK);
    let text = Proxy::on(driver, &application).text();
    let key = "{ id = \"current\", value = ";
    let from = text.find(key).expect("a key");
    let to = from + text[from..].find('}').expect("its end");
    let text = format!("{}{{ id = \"current\", file = \"secret\" {}", &text[..from], &text[to..]);
    let folder = Folder::new();
    let write = |secret: &str, seconds: u64| {
        let path = folder.write("secret", secret);
        let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    write("a-first-secret-0123456789", 1_700_000_000);
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\n[reload]\nwatch = false\npoll = \"0s\"";
    let program = Program::run(&folder.write("countersign.toml", &format!("{admin}\n{text}")));
    let observed = Observed { program, folder };
    observed.await_ready();
    let series = "countersign_key_changed_timestamp_seconds{route=\"hook\",key=\"current\"}";
    observed.metrics().assert(series, 1_700_000_000.0);
    let older = "countersign_key_changed_timestamp_seconds{route=\"hook\",key=\"older\"}";
    let started = observed.metrics().samples[older];
    assert!(started > 1_750_000_000.0, "{started}");
    let folder = &observed.folder;
    let again = folder.write("secret", "a-first-secret-0123456789");
    let config = folder.path("countersign.toml");
    std::fs::write(&config, format!("# touched\n{}", std::fs::read_to_string(&config).unwrap())).unwrap();
    assert_eq!(observed.post("/-/reload", "").status, 200);
    observed.await_number("countersign_config_generation", 2.0);
    observed.metrics().assert(series, 1_700_000_000.0);
    std::fs::write(again, "a-second-secret-0123456789").unwrap();
    assert_eq!(observed.post("/-/reload", "").status, 200);
    observed.await_number("countersign_config_generation", 3.0);
    let metrics = observed.metrics();
    assert!(metrics.samples[series] >= started, "{}", metrics.text);
    metrics.assert(older, started);
    let status: serde_json::Value = serde_json::from_slice(&observed.get("/status").body).unwrap();
    assert!(status["routes"][0]["keys"][0]["since"].as_f64().unwrap() >= started, "{status}");
}

fn handshakes_and_certificates_are_told(driver: Driver) {
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let route = format!(
        "name = \"dated\"\npath = \"/dated\"\nscheme = \"github\"\nreplay = {{ mode = \"enforce\" }}\n\
         secrets = [{{ id = \"k\", value = \"{}\", not_before = \"2020-01-01T00:00:00Z\", \
         not_after = \"2999-01-01T00:00:00Z\" }}]",
        crate::support::delivery::OLDER_SECRET
    );
    let credential = authority.certify(&["localhost", "hooks.example"]);
    let plan = Proxy::on(driver, &application).workers(2).route(&route).encrypted(&credential, "");
    let folder = Folder::new();
    write(&folder, &credential);
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\n[reload]\nwatch = false\npoll = \"0s\"";
    let config = folder.write("countersign.toml", &format!("{admin}\n{}", plan.text()));
    let observed = Observed { program: Program::run(&config), folder };
    observed.await_ready();
    let address = observed.program.address();
    for version in [&TLS12, &TLS13] {
        let client = authority.client_of(None, &[version]);
        for resumed in [false, true, true] {
            let mut client = client.connect(address);
            assert_eq!(client.resumed(), resumed);
            let dated =
                Delivery::signed_with(crate::support::delivery::OLDER_SECRET, b"x").line("POST /dated HTTP/1.1");
            assert_eq!(client.ask(&dated.bytes()).status, 200);
        }
    }
    assert_eq!(observed.program.connect().ask(&Delivery::of(b"x").bytes()).status, 400, "plain text");
    observed.await_number("countersign_connections_ended_total{reason=\"tls_plaintext\"}", 1.0);
    let metrics = observed.metrics();
    for version in ["1.2", "1.3"] {
        let of = |kind| format!("countersign_tls_handshakes_total{{version=\"{version}\",kind=\"{kind}\"}}");
        metrics.assert(&of("full"), 1.0);
        metrics.assert(&of("resumed"), 2.0);
    }
    metrics.assert("countersign_tls_handshakes_in_progress", 0.0);
    // Nothing is observed here; all else is there.
    every_name_is_there(
        &metrics,
        &[
            "countersign_observed_",
            "countersign_published_keys",
            "countersign_key_fetches",
            "countersign_published_ranges",
            "countersign_range_fetches",
            "countersign_inbox_",
            "countersign_shared_",
            "countersign_client_ca_",
            "countersign_audit_failing",
            "countersign_audit_unproven",
            HEALTH,
        ],
    );
    let until = |metrics: &Metrics| {
        let series =
            "countersign_certificate_not_after_timestamp_seconds{listener=\"127.0.0.1:0\",certificate=\"tls.crt\"}";
        metrics.samples.get(series).copied().unwrap_or_else(|| panic!("{}", metrics.text))
    };
    let shown = || {
        let status: serde_json::Value = serde_json::from_slice(&observed.get("/status").body).unwrap();
        status["certificates"].clone()
    };
    let (before, first) = (shown(), until(&metrics));
    assert_eq!(before[0]["hosts"], serde_json::json!(["localhost", "hooks.example"]));
    assert_eq!(before[0]["fingerprint"].as_str().map(str::len), Some(95), "{before}");
    // A renewed one is told as soon as it is shown.
    write(&observed.folder, &authority.certify_until(&["localhost"], 3000));
    assert_eq!(observed.post("/-/reload", "").status, 200);
    assert!(eventually(|| {
        std::thread::sleep(Duration::from_millis(100));
        until(&observed.metrics()) != first
    }));
    assert!(until(&observed.metrics()) < first);
    assert_ne!(shown()[0]["fingerprint"], before[0]["fingerprint"]);
}

fn write(folder: &Folder, credential: &Credential) {
    folder.write("tls.crt", &credential.certificate);
    folder.write("tls.key", &credential.key);
}

/// Each declared name, but for those that begin so, with its kind and its meaning, nothing else; and the opinion of promtool, where it is installed.
#[track_caller]
fn every_name_is_there(metrics: &Metrics, absent: &[&str]) {
    let absent = |name: &str| absent.iter().any(|start| name.starts_with(start));
    for name in names::ALL.iter().filter(|name| !absent(name.name)) {
        assert_eq!(metrics.types.get(name.name).map(String::as_str), Some(name.kind.name()), "{}", name.name);
        assert_eq!(metrics.helps.get(name.name).map(String::as_str), Some(name.help), "{}", name.name);
    }
    let strange: Vec<&String> =
        metrics.types.keys().filter(|name| !names::ALL.iter().any(|known| known.name == **name)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let promtool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else { return eprintln!("left out: promtool is not installed") };
    promtool.stdin.take().unwrap().write_all(metrics.text.as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success());
}

fn upstream_connections_are_counted(driver: Driver) {
    let application = Application::answering(OK);
    let text = Proxy::on(driver, &application).text();
    let observed = Observed::start(&text, "[admin]\naddress = \"127.0.0.1:0\"");
    observed.await_ready();
    let mut client = observed.program.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    }
    let label = format!("{{upstream=\"{}\"}}", application.address());
    observed.await_number(&format!("countersign_upstream_connections_reused_total{label}"), 4.0);
    let metrics = observed.metrics();
    metrics.assert(&format!("countersign_upstream_connections_opened_total{label}"), 1.0);
    metrics.assert(&format!("countersign_upstream_connections_idle{label}"), 1.0);
    metrics.assert(&format!("countersign_upstream_connect_failures_total{label}"), 0.0);
    metrics.assert(&format!("countersign_upstream_stray_answers_total{label}"), 0.0);
    metrics.assert("countersign_connections{state=\"active\"}", 1.0);
    drop(client);
    observed.await_number("countersign_connections{state=\"active\"}", 0.0);
}

/// What an application sends beyond its answer, with it or behind it, and the rules that its answers break.
fn what_applications_do_wrong_is_counted(driver: Driver) {
    let application = Application::following(|visit| {
        const BROKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok";
        match visit.connection {
            0 => {
                visit.request();
                visit.say(&[OK, b"more"].concat());
                visit.wait_for_end();
            }
            1 => {
                visit.request();
                visit.say(OK);
                std::thread::sleep(Duration::from_millis(20));
                visit.say(OK);
                visit.mark();
                visit.wait_for_end();
            }
            _ => {
                visit.request();
                visit.say(BROKEN);
                visit.wait_for_end();
            }
        }
    });
    let text = Proxy::on(driver, &application).text();
    let observed = Observed::start(&text, "[admin]\naddress = \"127.0.0.1:0\"");
    observed.await_ready();
    let mut client = observed.program.connect();
    let mut ask = || client.ask(&Delivery::of(b"x").bytes()).status;
    assert_eq!((ask(), ask()), (200, 200));
    application.await_mark(1);
    assert_eq!((ask(), ask()), (502, 502));
    let label = format!("{{upstream=\"{}\"}}", application.address());
    observed.await_number(&format!("countersign_upstream_stray_answers_total{label}"), 2.0);
    let rule = |rule: &str| format!("countersign_upstream_broken_answers_total{{route=\"hook\",rule=\"{rule}\"}}");
    observed.await_number(&rule("content_length_twice"), 2.0);
    observed.metrics().assert(&rule("both_framings"), 0.0);
}

/// Only where `/ready` asks for applications.
const HEALTH: &str = "countersign_upstream_healthy";

pub(crate) fn healthcheck(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(crate::support::child::BINARY).arg("healthcheck").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_container_asks_without_curl() {
    let observed = idle();
    let address = observed.admin().to_string();
    for probe in ["--live", "--ready", "--startup"] {
        assert_eq!(healthcheck(&[probe, "--address", &address]).0, Some(0), "{probe}");
    }
    let drained = observed.post("/-/drain", "");
    assert_eq!(drained.status, 200);
    assert_eq!(healthcheck(&["--address", &address]), (Some(1), "/ready says 503: draining\n".to_owned()));
    assert_eq!(healthcheck(&["--live", "--address", &address]), (Some(0), "live\n".to_owned()));
    // The address of the configuration, even after mistakes have come into the rest of it.
    let text = format!("[admin]\naddress = \"0.0.0.0:{}\"\n[limits]\nhead_size = 1\n", observed.admin().port());
    let config = observed.folder.write("other.toml", &text).display().to_string();
    assert_eq!(healthcheck(&["--live", "--config", &config]).0, Some(0));
    let config = observed.folder.write("without.toml", "[server]\nworkers = 1\n").display().to_string();
    let (code, said) = healthcheck(&["--live", "--config", &config]);
    assert!(code == Some(1) && said.contains("has no [admin] address"), "{said}");
    drop(observed);
    let (code, said) = healthcheck(&["--live", "--address", &address]);
    assert!(code == Some(1) && said.contains("does not answer"), "{said}");
}

/// One that needs no application.
fn idle() -> Observed {
    let text = Proxy::towards(Driver::Epoll, "127.0.0.1:9").drain("60s", "0s").text();
    let observed = Observed::start(&text, "[admin]\naddress = \"127.0.0.1:0\"");
    observed.await_ready();
    observed
}

#[test]
fn what_is_refused() {
    let observed = idle();
    let ask = |request: &str| observed.ask(&request.replace('\n', "\r\n")).status;
    assert_eq!(ask("GET /status HTTP/1.1\nHost: rebind.example\n\n"), 421);
    assert_eq!(ask("GET /status HTTP/1.1\nHost: localhost:9090\n\n"), 200);
    assert_eq!(ask("GET /secrets HTTP/1.1\nHost: localhost\n\n"), 404);
    assert_eq!(ask("GET /-/reload HTTP/1.1\nHost: localhost\n\n"), 405);
    assert_eq!(ask("POST /status HTTP/1.1\nHost: localhost\n\n"), 405);
    assert_eq!(ask("PUT /status HTTP/1.1\nHost: localhost\n\n"), 405);
    assert_eq!(ask("nonsense\n\n"), 400);
    assert_eq!(ask("GET /status HTTP/1.1\n\n"), 400);
    // As load balancers ask: HAProxy's `option httpchk`.
    assert_eq!(ask("GET /ready HTTP/1.0\n\n"), 200);
    assert_eq!(ask("HEAD /live HTTP/1.0\n\n"), 200);
    assert_eq!(ask("GET /status HTTP/1.0\n\n"), 421);
    assert_eq!(ask("GET /ready HTTP/1.0\nHost: rebind.example\n\n"), 421);
    assert_eq!(ask("POST /-/drain HTTP/1.1\nHost: localhost\nContent-Length: 3\n\nabc"), 400);
    let long = format!("GET /status HTTP/1.1\nHost: localhost\nX: {}\n\n", "x".repeat(20_000));
    assert_eq!(ask(&long), 431);
    assert_eq!(observed.post("/-/drain", "Origin: http://evil.example\r\n").status, 403);
    assert_eq!(observed.post("/-/drain", "Sec-Fetch-Site: cross-site\r\n").status, 403);
    assert_eq!(observed.get("/ready").status, 200, "none of it has had an effect");
    let answer = observed.ask("HEAD /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn every_answer_is_closed_to_browsers() {
    let observed = idle();
    for path in ["/", "/status", "/reasons", "/metrics", "/live", "/nowhere"] {
        let answer = observed.get(path);
        assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"), "{path}");
        assert_eq!(answer.field("X-Frame-Options"), Some("DENY"), "{path}");
        assert_eq!(answer.field("Cache-Control"), Some("no-store"), "{path}");
        assert_eq!(answer.field("Access-Control-Allow-Origin"), None, "{path}");
        let policy = answer.field("Content-Security-Policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{path}: {policy}");
    }
}

/// The document as Chromium has it after it has run, and what it complained about; nothing without Chromium.
fn rendered(address: SocketAddr, folder: &Folder) -> Option<(String, String)> {
    let profile = format!("--user-data-dir={}", folder.path("profile").display());
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", &profile])
        .args(["--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom"])
        .arg(format!("http://{address}/"))
        .output();
    let output = output.map_err(|_| eprintln!("left out: chromium is not installed")).ok()?;
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn the_page_shows_what_is_refused_and_runs_nothing_of_strangers() {
    let application = Application::answering(OK);
    let observed = Observed::on(Driver::Epoll, &application);
    observed.await_ready();
    let mut client = observed.program.connect();
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    assert_eq!(client.ask(&Delivery::forged(b"x").bytes()).status, 401);
    let hostile = "/hook/'onload=alert(1)&lt";
    let asked = Delivery::unsigned(b"").line(&format!("POST {hostile} HTTP/1.1"));
    let refused = client.ask(&asked.bytes());
    assert_eq!(refused.status, 404);
    // A refusal is noted when its sender has been answered.
    let mut status = serde_json::Value::Null;
    let told = eventually(|| {
        status = serde_json::from_slice(&observed.get("/status").body).expect("JSON");
        status["refusals"][0]["path"] == hostile
    });
    assert!(told, "{}", status["refusals"]);
    assert_eq!(status["routes"][0]["reasons"]["signature_mismatch"], 1);
    let Some((page, complaints)) = rendered(observed.admin(), &observed.folder) else { return };
    for part in [
        ">ready<",
        ">hook<",
        ">signature_mismatch<",
        ">route_unknown<",
        "/hook/'onload=alert(1)&amp;lt",
        ">What it means: <",
        ">reachable<",
        ">copy id<",
        " below 10 %",
    ] {
        assert!(page.contains(part), "{part} in {page}\n{complaints}");
    }
    assert!(!complaints.contains("Content Security Policy") && !complaints.contains("Uncaught"), "{complaints}");
}

/// Routes without names of their own all begin with `webhooks-`.
#[test]
fn names_that_begin_alike_are_cut_from_the_left() {
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef");
    let route = |path: &str| {
        let keys = "scheme = 'github'\nsecrets = [{ id = '1', file = 'secret' }]\n";
        format!("[[route]]\npath = '/webhooks/{path}'\n{keys}")
    };
    let text = format!(
        "[server]\nworkers = 1\n[[listener]]\naddress = '127.0.0.1:0'\n[upstream]\naddress = '127.0.0.1:9'\n\
         [admin]\naddress = '127.0.0.1:0'\n{}{}",
        route("github"),
        route("storefront")
    );
    let program = Program::run(&folder.write("countersign.toml", &text));
    program.await_line(" ready: ");
    let admin = program.await_line("admin port at ").rsplit(' ').next().unwrap().parse().unwrap();
    let Some((page, complaints)) = rendered(admin, &folder) else { return };
    for part in ["> …github<", "> …storefront<", ">webhooks-storefront<", ">countersign.toml · 1<", "no traffic"] {
        assert!(page.contains(part), "{part} in {page}\n{complaints}");
    }
}

#[test]
fn slow_and_silent_clients_do_not_delay_a_probe() {
    let observed = idle();
    // More than there are places; half of them have begun to ask.
    let mut slow: Vec<TcpStream> = (0..200).map(|_| observed.connect()).collect();
    for stream in slow.iter_mut().step_by(2) {
        // The port may have closed it already.
        let _ = stream.write_all(b"GET /live HTTP/1.1\r\nHost: ");
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(observed.get("/live").status, 200);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    // A connection that sends no request is closed.
    let last = slow.last_mut().unwrap();
    let mut rest = Vec::new();
    let _ = last.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn a_unix_socket_is_its_owners() {
    let folder = Folder::new();
    let path = folder.path("admin.sock");
    let start = |delay| {
        let text = Proxy::towards(Driver::Epoll, "127.0.0.1:9").drain(delay, "0s").text();
        let observed = Observed::start(&text, &format!("[admin]\naddress = \"unix:{}\"", path.display()));
        observed.program.await_line(" ready: ");
        observed
    };
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(request.as_bytes()).expect("sent");
        AnswerReader::default().read(&mut stream, false).expect("an answer").status
    };
    // A drain that outlives every question, however slow we are.
    let observed = start("60s");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ask("GET /ready HTTP/1.1\r\nHost: whatever.example\r\n\r\n"), 200);
    assert_eq!(ask("POST /-/drain HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    assert_eq!(ask("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"), 503);
    // It is killed, and leaves the socket behind; the next one takes its place, and cleans up.
    drop(observed);
    assert!(path.exists());
    let mut observed = start("0s");
    assert_eq!(ask("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    observed.program.signal("TERM");
    assert_eq!(observed.program.end().0.code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn an_admin_port_that_is_taken_is_a_reason_not_to_start() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let text = Proxy::towards(Driver::Epoll, "127.0.0.1:9").text();
    let admin = format!("[admin]\naddress = \"{}\"", taken.local_addr().unwrap());
    let mut observed = Observed::start(&text, &admin);
    assert_eq!(observed.program.end().0.code(), Some(2));
    observed.program.await_line("cannot open the admin port");
}
