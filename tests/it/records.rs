//! What is written down of exchanges, as it arrives in files.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::delivery::OLDER_SECRET;
use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, eventually, noise, on_both_drivers};

on_both_drivers! {
    an_exchange_is_a_line,
    what_a_request_says_of_itself_is_in_its_line,
    verification_that_fails_takes_its_time,
    so_does_that_of_a_delivery_that_has_been_here,
    the_log_follows_its_name,
    hostile_bytes_stay_in_their_line,
    a_log_that_cannot_be_written_harms_no_delivery,
    a_line_for_which_there_is_no_room_leaves_nothing_behind,
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn logged(folder: &Folder, driver: Driver, application: &Application, keys: &str) -> Program {
    let text = format!("{}\n[access_log]\n{keys}", Proxy::on(driver, application).text());
    Program::run(&folder.write("countersign.toml", &text))
}

fn an_exchange_is_a_line(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let program = logged(&folder, driver, &application, "output = \"access.jsonl\"\nquery = true");
    let delivery = Delivery::of(b"{\"a\":1}").line("POST /hook?token=1 HTTP/1.1");
    let answer = program.connect().ask(&delivery.bytes());
    assert_eq!(answer.status, 200);
    program.connect().ask(&Delivery::of(b"x").line("GET /elsewhere HTTP/1.1").bytes());
    program.connect().send(b"GET nonsense\r\n\r\n").rest();
    let log = folder.path("access.jsonl");
    assert!(eventually(|| lines(&log).len() == 3), "{:#?}", lines(&log));
    let [first, second, third] = <[Value; 3]>::try_from(lines(&log)).unwrap();
    for (name, value) in [
        ("route", json!("hook")),
        ("scheme", json!("github")),
        ("client", json!("127.0.0.1")),
        ("method", json!("POST")),
        ("path", json!("/hook")),
        ("query", json!("token=1")),
        ("outcome", json!("passed")),
        ("reason", json!("forwarded")),
        ("status", json!(200)),
        ("key_id", json!("current")),
        ("received", json!(7)),
        ("sent", json!(2)),
    ] {
        assert_eq!(first[name], value, "{name} in {first}");
    }
    let us = |name: &str| first[name].as_u64().unwrap_or_else(|| panic!("{name} in {first}"));
    let stages = us("head_us") + us("body_us") + us("verify_us") + us("upstream_us");
    assert!(us("upstream_us") > 0 && stages <= us("total_us") + 4, "{first}");
    assert!(first["time"].as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{first}");
    let request = application.assert_requests(1).remove(0);
    assert_eq!(Some(request.field("X-Request-Id")), first["request_id"].as_str());
    assert_eq!((&second["reason"], &second["path"]), (&json!("route_unknown"), &json!("/elsewhere")));
    assert_eq!(
        (&third["reason"], &third["path"], &third["route"]),
        (&json!("head_malformed"), &Value::Null, &Value::Null)
    );
}

/// By these an operator finds a delivery again: at its sender, in its code, in a trace. None of them is signed by GitHub.
fn what_a_request_says_of_itself_is_in_its_line(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let admin = "[admin]\naddress = \"127.0.0.1:0\"";
    let program = logged(&folder, driver, &application, &format!("output = \"access.jsonl\"\n{admin}"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let told = |delivery: Delivery, id: &str| {
        let delivery = delivery.field("X-GitHub-Delivery", id).field("User-Agent", "GitHub-Hookshot/44\t\u{e9}");
        delivery.field("user-agent", "another").field("TraceParent", trace).bytes()
    };
    assert_eq!(program.connect().ask(&told(Delivery::of(b"{}"), "72d3162e")).status, 200);
    assert_eq!(program.connect().ask(&told(Delivery::forged(b"{}"), &"x".repeat(300))).status, 401);
    let log = folder.path("access.jsonl");
    assert!(eventually(|| lines(&log).len() == 2), "{:#?}", lines(&log));
    let [passed, refused] = <[Value; 2]>::try_from(lines(&log)).unwrap();
    for line in [&passed, &refused] {
        assert_eq!(line["user_agent"], "GitHub-Hookshot/44\t\u{e9}", "{line}");
        assert_eq!((&line["traceparent"], &line["delivery_id"]), (&json!(trace), &Value::Null), "{line}");
    }
    assert_eq!(passed["unsigned_delivery_id"], "72d3162e");
    assert_eq!(refused["unsigned_delivery_id"], "x".repeat(128));
    // By what GitHub's page shows, the line is found.
    let explain = ["explain", "72d3162e", "--log", "access.jsonl"];
    let told = Command::new(BINARY).args(explain).current_dir(folder.path("")).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("delivery 72d3162e (unsigned)") && told.contains("passed with 200"), "{told}");
    // The application gets all of it as it came.
    assert_eq!(application.assert_requests(1).remove(0).field("X-GitHub-Delivery"), "72d3162e");
    let admin = program.await_line("admin port at ").rsplit(' ').next().unwrap().parse().unwrap();
    let answer = Client::connect(admin).ask(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let status: Value = serde_json::from_slice(&answer.body).unwrap();
    let refusal = &status["refusals"][0];
    assert_eq!((&refusal["unsigned_delivery_id"], &refusal["traceparent"]), (&json!("x".repeat(128)), &json!(trace)));
    assert_eq!(refusal["user_agent"], "GitHub-Hookshot/44\\x09\\xc3\\xa9");
}

/// A refusal has its stages, too: here a body is hashed once more under a second key, after it has come.
fn verification_that_fails_takes_its_time(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let program = logged(&folder, driver, &application, "output = \"access.jsonl\"");
    assert_eq!(program.connect().ask(&Delivery::forged(&noise(1 << 20)).bytes()).status, 401);
    let log = folder.path("access.jsonl");
    assert!(eventually(|| lines(&log).len() == 1), "{:#?}", lines(&log));
    let line = lines(&log).remove(0);
    assert_eq!(line["reason"], "signature_mismatch");
    let us = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}"));
    assert!(us("verify_us") > 0 && us("body_us") > 0, "{line}");
    assert!(us("head_us") + us("body_us") + us("verify_us") <= us("total_us") + 3, "{line}");
}

/// A loop is seen after verification, which takes its time here because the body is hashed once more under a second key.
fn so_does_that_of_a_delivery_that_has_been_here(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let program = logged(&folder, driver, &application, "output = \"access.jsonl\"");
    let delivery = Delivery::signed_with(OLDER_SECRET, &noise(1 << 20));
    assert_eq!(program.connect().ask(&delivery.clone().bytes()).status, 200);
    let via = application.requests().remove(0).field("Via").to_owned();
    assert_eq!(program.connect().ask(&delivery.field("Via", &via).bytes()).status, 508);
    let log = folder.path("access.jsonl");
    assert!(eventually(|| lines(&log).len() == 2), "{:#?}", lines(&log));
    for line in lines(&log) {
        assert!(line["verify_us"].as_u64().is_some_and(|verify| verify > 0), "{line}");
    }
}

/// An operator moves the file away, or removes it: lines are lost for a moment at most.
fn the_log_follows_its_name(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let program = logged(&folder, driver, &application, "output = \"access.jsonl\"");
    let log = folder.path("access.jsonl");
    let mut client = program.connect();
    let mut ask = || assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    ask();
    assert!(eventually(|| lines(&log).len() == 1));
    fs::rename(&log, folder.path("access.1")).unwrap();
    assert!(eventually(|| {
        ask();
        !lines(&log).is_empty()
    }));
    fs::remove_file(&log).unwrap();
    assert!(eventually(|| {
        ask();
        !lines(&log).is_empty()
    }));
}

fn hostile_bytes_stay_in_their_line(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let keys = "output = \"access.jsonl\"\nrefused = \"1000/s\"\nquery = true";
    let program = logged(&folder, driver, &application, keys);
    let mut sent = 0;
    for byte in 0..=255_u8 {
        for place in [&b"PO\xffST /hook HTTP/1.1"[..], b"POST /ho\xffok HTTP/1.1", b"POST /hook?\xff HTTP/1.1"] {
            let line: Vec<u8> = place.iter().map(|b| if *b == 0xff { byte } else { *b }).collect();
            let mut client = program.connect();
            client.send(
                &[&line[..], b"\r\nHost: x\r\nX-Hub-Signature-256: \xff\x00\r\nConnection: close\r\n\r\n"].concat(),
            );
            client.rest();
            sent += 1;
        }
    }
    let log = folder.path("access.jsonl");
    assert!(eventually(|| lines(&log).len() >= sent), "{} of {sent}", lines(&log).len());
    assert_eq!(lines(&log).len(), sent);
    application.assert_requests(0);
}

fn a_log_that_cannot_be_written_harms_no_delivery(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let program = logged(&folder, driver, &application, "output = \"/dev/full\"");
    let mut client = program.connect();
    for _ in 0..50 {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    }
    program.await_line("the access log cannot be written");
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
}

/// A disk that is full in the middle of a line.
fn a_line_for_which_there_is_no_room_leaves_nothing_behind(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let text = Proxy::on(driver, &application).text();
    let config = folder.write("countersign.toml", &format!("{text}\n[access_log]\noutput = \"access.jsonl\""));
    let script = "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" run --config \"$1\"";
    let program = Program::start(Command::new("sh").arg("-c").arg(script).arg(BINARY).arg(config));
    let mut client = program.connect();
    let mut sent = 0;
    let mut ask = || {
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
        sent += 1;
    };
    let full = || program.log().iter().any(|line| line.contains("the access log cannot be written"));
    assert!(eventually(|| {
        ask();
        full()
    }));
    // There is room again.
    let limit = ["--fsize=unlimited:", "--pid", &program.id().to_string()];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    ask();
    // Every line is whole, and what has no line has been counted.
    let log = folder.path("access.jsonl");
    let lost = || lines(&log).iter().filter_map(|line| line["lost"].as_u64()).sum::<u64>();
    let here = || lines(&log).iter().filter(|line| line["outcome"] == "passed").count() as u64;
    assert!(eventually(|| lost() > 0 && here() + lost() == sent), "{} + {}: {sent}", here(), lost());
}
