//! Refused requests that are kept for explanations: only where that is asked for, only a few, and nothing of others.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::answer::{Answer, AnswerReader};
use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::delivery::{SECRET, github_signature};
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::{Application, Delivery, Driver, PATIENCE, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    a_refused_request_is_kept_and_explained,
    the_status_page_is_told_why_a_request_was_refused,
    only_so_many_are_kept,
    a_request_is_explained_as_of_when_it_came,
}

const BODY: &str = r#"{"zen":"Keep it logically awesome."}"#;

struct Kept {
    program: Program,
    folder: Folder,
    _application: Application,
}

impl Kept {
    fn start(driver: Driver, admin: &str) -> Self {
        Self::with(driver, "127.0.0.1:0", &format!("{admin}\n"), |plan| plan)
    }

    /// With an admin port at this address, and a configuration like this. `{folder}` in the address is where its file is.
    fn with(driver: Driver, address: &str, admin: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        let (application, folder) = (Application::answering(OK), Folder::new());
        let text = change(Proxy::on(driver, &application)).text();
        let address = address.replace("{folder}", &folder.path("").display().to_string());
        let text = format!("[admin]\naddress = \"{address}\"\n{admin}\n{text}");
        let program = Program::run(&folder.write("countersign.toml", &text));
        program.await_line(" ready: ");
        Self { program, folder, _application: application }
    }

    fn admin(&self) -> SocketAddr {
        let line = self.program.await_line("admin port at ");
        line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    fn get(&self, path: &str, host: &str) -> Answer {
        let mut stream = TcpStream::connect(self.admin()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
        AnswerReader::default().read(&mut stream, false).expect("an answer")
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_slice(&self.get("/captured", "localhost").body).expect("a list")
    }

    /// What is kept, once this request is: that is noted when its sender has been answered.
    fn list_with(&self, id: &str) -> Vec<Value> {
        assert!(eventually(|| self.list().iter().any(|it| it["request_id"] == id)), "{:?}", self.list());
        self.list()
    }

    /// Sends a genuine delivery whose body has got an additional newline on its way; its id.
    fn spoiled(&self, body: &str) -> String {
        let genuine = Delivery::of(body.as_bytes()).line("POST /hook?token=of-the-query HTTP/1.1");
        let genuine = genuine.field("Cookie", "session=of-a-client").field("Authorization", "Bearer of-others");
        // Whatever else is neither signed nor known: there is no list of all credentials.
        let genuine = genuine.field("X-Api-Key", "of-a-gateway").field("CF-Access-Client-Secret", "of-another");
        let mut bytes = genuine.field("X-GitHub-Event", "ping").bytes();
        let length = format!("Content-Length: {}", body.len());
        let longer = format!("Content-Length: {}", body.len() + 1);
        let text = String::from_utf8(bytes.clone()).expect("text").replace(&length, &longer);
        bytes = format!("{text}\n").into_bytes();
        let answer = self.program.connect().ask(&bytes);
        assert_eq!(answer.status, 401);
        answer.field("X-Request-Id").expect("an id").to_owned()
    }

    fn explain(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(BINARY);
        let output =
            command.arg("explain").args(arguments).current_dir(self.folder.path("")).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    }
}

fn a_refused_request_is_kept_and_explained(driver: Driver) {
    let kept = Kept::start(driver, "capture_refused = 5");
    kept.program.await_line("are kept in memory, with bodies and signatures");
    // What passes is not kept.
    assert_eq!(kept.program.connect().ask(&Delivery::of(b"fine").bytes()).status, 200);
    let id = kept.spoiled(BODY);
    let list = kept.list_with(&id);
    let [described] = list.as_slice() else { panic!("one is kept: {list:?}") };
    assert_eq!(
        (&described["request_id"], &described["reason"]),
        (&Value::from(id.as_str()), &"signature_mismatch".into())
    );
    let shown = described.to_string();
    assert!(!shown.contains("sha256=") && !shown.contains("of-the-query"), "{shown}");
    let whole = kept.get(&format!("/captured/{id}"), "localhost");
    let text = String::from_utf8(whole.body).expect("text");
    assert!(
        text.starts_with("POST /hook?token=of-the-query HTTP/1.1\r\n") && text.ends_with(&format!("{BODY}\n")),
        "{text}"
    );
    assert!(text.contains("sha256=") && !text.contains("of-a-client") && !text.contains("of-others"), "{text}");
    assert!(!text.contains("of-a-gateway") && !text.contains("of-another"), "{text}");
    assert!(text.contains("X-Api-Key: (12 bytes left out)") && text.contains("X-GitHub-Event: ping"), "{text}");
    assert_eq!(kept.get(&format!("/captured/{id}"), "rebind.example").status, 421);
    assert_eq!(kept.get("/captured/00", "localhost").status, 404);

    kept.program.await_line(&format!("cause body_line_end: `countersign explain {id}`"));
    let (code, told) = kept.explain(&[&id, "--admin", &kept.admin().to_string()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("signature_mismatch") && told.contains("newline"), "{told}");
    let (code, told) = kept.explain(&[&"0".repeat(32), "--admin", &kept.admin().to_string()]);
    assert!(code == Some(2) && told.contains("is kept (any more)"), "{told}");
}

/// By the keys that count, with neither a secret nor the tag that would have been right.
fn the_status_page_is_told_why_a_request_was_refused(driver: Driver) {
    let kept = Kept::start(driver, "capture_refused = 5");
    let id = kept.spoiled(BODY);
    kept.list_with(&id);
    let why = kept.get(&format!("/captured/{id}/why"), "localhost");
    let text = String::from_utf8(why.body).expect("text");
    assert_eq!(why.status, 200, "{text}");
    assert!(text.contains("explained: the body ends with a newline") && text.contains("signature_mismatch"), "{text}");
    assert!(!text.contains(SECRET) && !text.contains(&github_signature(SECRET, BODY.as_bytes())[7..]), "{text}");
    // What was not verified is told by its reason.
    let get = kept.program.connect().ask(&Delivery::of(b"").line("GET /hook HTTP/1.1").bytes());
    assert_eq!(get.status, 405);
    assert_eq!(kept.get(&format!("/captured/{}/why", "0".repeat(32)), "localhost").status, 404);
    assert_eq!(kept.get(&format!("/captured/{id}/why"), "rebind.example").status, 421);
    let status: Value = serde_json::from_slice(&kept.get("/status", "localhost").body).expect("JSON");
    let configuration = kept.folder.path("countersign.toml").display().to_string();
    assert_eq!((&status["captures"], &status["configuration"]), (&5.into(), &configuration.into()));
    assert!(status["host"].as_str().is_some_and(|host| !host.is_empty()), "{status}");
    // Each reason that can stand in a refusal has its words.
    let reasons: Value = serde_json::from_slice(&kept.get("/reasons", "localhost").body).expect("JSON");
    for refusal in status["refusals"].as_array().expect("a list") {
        let words = &reasons[refusal["reason"].as_str().expect("a code")];
        assert!(words["means"].as_str().is_some_and(|it| it.len() > 10), "{refusal}: {words}");
        assert!(words["helps"].as_str().is_some_and(|it| it.len() > 10), "{refusal}: {words}");
    }
    assert_eq!(
        (&reasons["signature_mismatch"]["status"], &reasons["idle_closed"]["status"]),
        (&401.into(), &Value::Null)
    );
}

fn only_so_many_are_kept(driver: Driver) {
    let kept = Kept::start(driver, "capture_refused = 1");
    let unsigned = kept.program.connect().ask(&Delivery::unsigned(b"x").bytes());
    assert_eq!(unsigned.status, 401);
    kept.list_with(unsigned.field("X-Request-Id").expect("an id"));
    let id = kept.spoiled(BODY);
    let list = kept.list_with(&id);
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(list[0]["request_id"], id.as_str());
}

/// A scheme that signs milliseconds, with the shortest tolerance that there is.
const TIMED: &str = "name = \"timed\"\npath = \"/timed\"\nscheme = \"timed\"\n\
                     secrets = [{ id = \"k\", value = \"correct-horse-battery-staple-0123456789\" }]\n\
                     replay.mode = \"off\"\n\
                     [scheme.timed]\nalgorithm = \"hmac-sha256\"\ncontent = \"{timestamp}.{body}\"\n\
                     signature = { header = \"X-Signature\", prefix = \"sha256=\", encoding = \"hex\" }\n\
                     timestamp = { header = \"X-Time\", unit = \"ms\", tolerance = \"1s\" }";

/// A delivery of `timed` whose signature is that of another body, sent by a clock that is this late.
fn timed(age: Duration) -> (u64, Delivery) {
    let millis = u64::try_from((now() - age).as_millis()).expect("a time");
    let signature = github_signature(SECRET, format!("{millis}.{BODY}").as_bytes());
    let delivery = Delivery::unsigned(format!("{BODY}\n").as_bytes()).line("POST /timed HTTP/1.1");
    (millis, delivery.field("X-Signature", &signature).field("X-Time", &millis.to_string()))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn a_request_is_explained_as_of_when_it_came(driver: Driver) {
    let kept = Kept::with(driver, "127.0.0.1:0", "capture_refused = 20", |plan| plan.route(TIMED));
    let admin = kept.admin().to_string();
    let send = |age| {
        let (signed, delivery) = timed(age);
        let id = kept.program.connect().ask(&delivery.bytes()).field("X-Request-Id").expect("an id").to_owned();
        let kept = kept.list_with(&id).into_iter().find(|it| it["request_id"] == id.as_str()).expect("it is there");
        (signed, id, kept)
    };
    // Just within the tolerance when it comes, and outside of it when it is looked at. One that is late all the same has
    // taken so long that there is room for the next among those that are kept.
    let (mut signed, mut id, mut described) = send(Duration::from_millis(500));
    let edge = eventually(|| {
        let timely = described["reason"] == "signature_mismatch";
        if !timely {
            (signed, id, described) = send(Duration::from_millis(500));
        }
        timely
    });
    assert!(edge && eventually(|| now().as_millis() > u128::from(signed) + 1000), "{described}");
    let (code, told) = kept.explain(&[&id, "--admin", &admin]);
    assert!(code == Some(1) && told.contains("the body ends with a newline"), "{told}");
    assert!(told.contains("timestamp: ") && told.contains(" old, 1 s are allowed"), "{told}");
    assert!(!told.contains("timestamp_stale") && told.contains("refused: signature_mismatch"), "{told}");
    // That is because of when it came, and of nothing else.
    let later = (now().as_secs() + 60).to_string();
    let (_, told) = kept.explain(&[&id, "--admin", &admin, "--at", &later]);
    assert!(told.contains("refused: timestamp_stale"), "{told}");

    // How late one was is told as it was when it came.
    let (signed, id, described) = send(Duration::from_secs(3600));
    assert_eq!(described["reason"], "timestamp_stale");
    let age = Duration::from_millis(described["at"].as_u64().expect("a time") - signed);
    assert!(age >= Duration::from_secs(3600) && age < Duration::from_secs(3600) + PATIENCE, "{age:?}");
    let (_, told) = kept.explain(&[&id, "--admin", &admin]);
    assert!(told.contains("timestamp: 1 h old, 1 s are allowed (header `X-Time`)"), "{age:?}: {told}");
}

/// A signature may name the fields that it covers: they are kept, and what is printed of them shows no value.
#[test]
fn what_a_signature_names_is_kept() {
    const NAMED: &str = "name = \"named\"\npath = \"/named\"\nscheme = \"coinbase-cdp\"\n\
                         secrets = [{ id = \"k\", value = \"correct-horse-battery-staple-0123456789\" }]";
    let kept = Kept::with(Driver::Epoll, "127.0.0.1:0", "capture_refused = 5", |plan| plan.route(NAMED));
    let signature = format!("t={},h=x-hook0-id cookie,v1={}", now().as_secs(), "0".repeat(64));
    let delivery = Delivery::unsigned(b"{}").line("POST /named HTTP/1.1").field("X-Hook0-Signature", &signature);
    let delivery = delivery.field("X-Hook0-Id", "the-id").field("Cookie", "of-a-client").field("X-Other", "of-others");
    let id = kept.program.connect().ask(&delivery.bytes()).field("X-Request-Id").expect("an id").to_owned();
    kept.list_with(&id);
    let text = String::from_utf8(kept.get(&format!("/captured/{id}"), "localhost").body).expect("text");
    assert!(text.contains("X-Hook0-Id: the-id") && text.contains(&signature), "{text}");
    assert!(!text.contains("of-a-client") && !text.contains("of-others"), "{text}");
}

#[test]
fn the_configuration_says_where_to_ask() {
    let kept = Kept::with(Driver::Epoll, "unix:{folder}admin.sock", "capture_refused = 5", |plan| plan);
    let id = kept.spoiled(BODY);
    let explained = |arguments: &[&str]| {
        let mut told = (None, String::new());
        // It is kept when its sender has been answered.
        eventually(|| {
            told = kept.explain(arguments);
            told.0 == Some(1)
        });
        told.1
    };
    let told = explained(&[&id, "--config", "countersign.toml"]);
    assert!(told.contains("refused on route hook: signature_mismatch") && told.contains("newline"), "{told}");
    // It is the file that is read if nothing else is said; and a socket may be named, too.
    assert_eq!(explained(&[&id]), told);
    let socket = format!("unix:{}", kept.folder.path("admin.sock").display());
    assert_eq!(explained(&[&id, "--admin", &socket]), told);

    let kept = Kept::start(Driver::Epoll, "capture_refused = 5");
    let id = kept.spoiled(BODY);
    kept.list_with(&id);
    let text = std::fs::read_to_string(kept.folder.path("countersign.toml")).expect("it is there");
    let text = text.replacen("127.0.0.1:0", &kept.admin().to_string(), 1);
    kept.folder.write("asked.toml", &text);
    let (code, told) = kept.explain(&[&id, "--config", "asked.toml"]);
    assert!(code == Some(1) && told.contains("newline"), "{told}");
    kept.folder.write("without.toml", &text.replacen("[admin]", "[reload]", 1).replacen("address =", "# address =", 1));
    let (code, told) = kept.explain(&[&id, "--config", "without.toml"]);
    assert!(code == Some(2) && told.contains("without.toml has no [admin] address"), "{told}");
}

#[test]
fn what_is_explained_is_what_the_files_say_now() {
    let admin = "capture_refused = 5\n[reload]\nwatch = false\npoll = \"0s\"";
    let kept = Kept::with(Driver::Epoll, "127.0.0.1:0", admin, |plan| plan);
    let newer = "a-newer-horse-and-its-battery-0123456789";
    let answer = kept.program.connect().ask(&Delivery::signed_with(newer, b"x").bytes());
    let id = answer.field("X-Request-Id").expect("an id");
    kept.list_with(id);
    let address = kept.admin().to_string();
    let (code, told) = kept.explain(&[id, "--admin", &address]);
    assert!(code == Some(1) && told.contains("no known mistake fits"), "{told}");
    let text = std::fs::read_to_string(kept.folder.path("countersign.toml")).expect("it is there");
    kept.folder.write("countersign.toml", &text.replace(SECRET, newer));
    let (code, told) = kept.explain(&[id, "--admin", &address]);
    assert!(code == Some(0) && told.contains("genuine: it matches the key `current`"), "{told}");
    assert!(told.contains("refused all the same: its key, or what else counts on the route, has changed"), "{told}");
}

#[test]
fn what_its_bytes_do_not_explain_is_told_by_its_reason() {
    let kept = Kept::with(Driver::Epoll, "127.0.0.1:0", "capture_refused = 5", |plan| {
        plan.route_line("content_types = [\"application/json\"]")
    });
    let address = kept.admin().to_string();
    let explained = |delivery: &[u8], length: usize| {
        let answer = kept.program.connect().ask(&delivery[..length]);
        let id = answer.field("X-Request-Id").expect("an id").to_owned();
        kept.list_with(&id);
        let (code, told) = kept.explain(&[&id, "--admin", &address]);
        assert_eq!(code, Some(1), "{told}");
        told
    };
    let plain = Delivery::of(b"x").field("Content-Type", "text/plain").bytes();
    let told = explained(&plain, plain.len());
    assert!(told.contains("refused on route hook: content_type_refused") && !told.contains("genuine"), "{told}");
    assert!(told.contains("what to do: add the media type to `content_types`"), "{told}");
    // A body of which only the beginning is kept has no signature that could be judged.
    let long = Delivery::forged(&[b'x'; 70_000]).field("Content-Type", "application/json").bytes();
    let told = explained(&long, long.len());
    assert!(
        told.contains("not all of it is kept") && told.contains("refused on route hook: signature_mismatch"),
        "{told}"
    );
    assert!(!told.contains("explained:") && !told.contains("none of the usual"), "{told}");
    assert!(told.contains("nothing is wrong that can be seen without the body"), "{told}");
    // Nor has one that was refused before its body came.
    let malformed = Delivery::unsigned(b"x").field("Content-Type", "application/json");
    let malformed = malformed.field("X-Hub-Signature-256", "sha256=00");
    let told = explained(&malformed.bytes(), malformed.head().len());
    assert!(told.contains("not all of it is kept") && told.contains("refused: signature_malformed"), "{told}");
}

#[test]
fn nothing_is_kept_where_the_configuration_does_not_ask_for_it() {
    let kept = Kept::start(Driver::Epoll, "");
    let id = kept.spoiled(BODY);
    assert_eq!(kept.get("/captured", "localhost").status, 404);
    let (code, told) = kept.explain(&[&id, "--admin", &kept.admin().to_string()]);
    assert!(code == Some(2) && told.contains("capture_refused is not set"), "{told}");
}
