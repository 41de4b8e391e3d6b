//! The mistakes that show only at run time, as people make them in their first hour: each is said with its cause and with
//! what to do. (A port below 1024 is in src/control/bind_advice.rs: the tests may run as root.)

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;
use crate::support::{Client, Delivery, Program, eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A folder with a configuration for one sender. `admin` is the address of the admin port.
fn folder(listen: &str, admin: &str, upstream: &str) -> Folder {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    folder.write(
        "countersign.toml",
        &format!(
            "[server]\nworkers = 1\n[[listener]]\naddress = '{listen}'\n[upstream]\naddress = '{upstream}'\n[admin]\naddress = '{admin}'\ncapture_refused = 5\n\
             [access_log]\noutput = 'access.jsonl'\nformat = 'json'\n\
             [[route]]\nname = 'hook'\npath = '/hook'\nscheme = 'github'\nsecrets = [{{ id = '1', file = 'secret' }}]\n\
             [[route]]\nname = 'later'\npath = '/later'\nscheme = 'github'\n\
             secrets = [{{ id = '1', file = 'secret', not_before = 2999-01-01T00:00:00Z }}]\n"
        ),
    );
    folder
}

fn said(folder: &Folder, arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).current_dir(folder.path("")).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[track_caller]
fn assert_said(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} in:\n{text}"));
}

#[test]
fn a_port_that_is_taken_is_said_with_how_to_find_the_other_program() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let advice = format!("ss -ltnp 'sport = :{}'", address.port());
    for (listen, admin) in [(&*address.to_string(), "127.0.0.1:0"), ("127.0.0.1:0", &*address.to_string())] {
        let folder = folder(listen, admin, "127.0.0.1:9");
        let mut program = Program::run(&folder.path("countersign.toml"));
        assert_eq!(program.end().0.code(), Some(2));
        assert_said(&program.log().join("\n"), &["Address already in use", &advice, "choose another port"]);
    }
}

/// Lines of the access log, once there are so many.
fn records(folder: &Folder, count: usize) -> Vec<Value> {
    let text = || std::fs::read_to_string(folder.path("access.jsonl")).unwrap_or_default();
    assert!(eventually(|| text().lines().count() >= count), "{}", text());
    text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_a_request_met_is_told_from_the_log_with_what_to_do() {
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder("127.0.0.1:0", "127.0.0.1:0", &away.to_string());
    let program = Program::run(&folder.path("countersign.toml"));
    // The warnings of the start are lines of the log like all others, with a time.
    let warning = program.await_line("no key that counts at present");
    assert!(warning.starts_with("20") && warning.contains("Z WARN "), "{warning}");
    let ask = |bytes: &[u8]| Client::connect(program.address()).ask(bytes).status;
    let post = |path: &str| Delivery::signed_with(SECRET, b"{}").line(&format!("POST {path} HTTP/1.1")).bytes();
    assert_eq!(ask(&[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]), 400);
    assert_eq!(ask(&post("/hook/")), 404);
    assert_eq!(ask(&post("/hok")), 404);
    assert_eq!(ask(&Delivery::unsigned(b"").line("GET /hook HTTP/1.1").bytes()), 405);
    assert_eq!(ask(&post("/hook")), 503);
    assert_eq!(ask(&post("/later")), 401);
    for (record, parts) in records(&folder, 6).iter().zip([
        &["tls_unexpected", "begins a TLS handshake", "speaks HTTPS to a listener for plain HTTP"][..],
        &["route_unknown", "the nearest route is hook, path /hook: the request has a slash at the end"],
        &["route_unknown", "the nearest route is hook, path /hook"],
        &["method_not_allowed", "the nearest route is hook, path /hook: it takes POST"],
        &["upstream_connect", "No connection to the application", "is the application running"],
        &["key_inactive", "give the route a key whose not_before"],
    ]) {
        let id = record["request_id"].as_str().unwrap();
        assert_said(&said(&folder, &["explain", id, "--log", "access.jsonl"]), parts);
    }
    // Nothing is kept of them: the words have each of these reasons.
    let admin = program.await_line("admin port at ");
    let admin = admin.rsplit(' ').next().unwrap();
    let id = records(&folder, 6)[1]["request_id"].as_str().unwrap().to_owned();
    assert_said(
        &said(&folder, &["explain", &id, "--admin", admin]),
        &["no route stands for it (404)", "the application failed (502", "--log FILE"],
    );
}

#[test]
fn what_a_capture_has_is_told_in_units_for_people() {
    let folder = folder("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:9");
    let capture = |path: &str, headers: &str, body: &str| {
        let length = body.len();
        let text = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n\r\n{body}");
        folder.write("request", &text);
    };
    let explain = |arguments: &[&str]| said(&folder, &[&["explain", "--request", "request"], arguments].concat());
    let signature = format!("X-Hub-Signature-256: {}", github_signature(SECRET, b"{}"));
    capture("/later", &signature, "{}");
    assert_said(&explain(&["--route", "later"]), &["key `1`: counts only in ", " d "]);
    capture("/hook", &signature, "{}\n");
    assert_said(
        &explain(&["--route", "hook"]),
        &["the body ends with a newline", "with that undone the signature would match"],
    );
    capture("/hook", "X-Other: 1", "{}");
    assert_said(
        &explain(&["--route", "hook"]),
        &["header X-Hub-Signature-256: not found", "set the secret at the sender"],
    );
    folder.write("spaced", &format!("{SECRET} "));
    capture("/hook", &signature, "{}");
    assert_said(&explain(&["--scheme", "github", "--secret-file", "spaced"]), &["without the white space around it"]);
    let stale = "Stripe-Signature: t=1700000000,v1=00";
    capture("/hook", stale, "{}");
    assert_said(
        &explain(&["--scheme", "stripe", "--secret-file", "secret", "--at", "1706000000"]),
        &["69 d 10 h (6000000 s) old, outside of the tolerance of 5 min (300 s)"],
    );
    folder.write("whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    capture("/hook", "webhook-id: msg.1\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: v1,AAAA", "{}");
    assert_said(
        &explain(&["--scheme", "standard-webhooks", "--secret-file", "whsec", "--at", "1700000000"]),
        &["the id contains `.`, which separates the parts of what is signed", "another separator in `content`"],
    );
    assert_said(&said(&folder, &["sign", "--scheme", "svix", "--secret-file", "whsec"]), &["give one: --id msg_1"]);
}

#[test]
fn senders_are_found_by_the_names_that_people_use() {
    let folder = Folder::new();
    for (name, scheme) in [("facebook", "meta"), ("whatsapp", "meta"), ("x", "x-twitter")] {
        assert_said(&said(&folder, &["schemes", name]), &[&format!("# {name} is another name of {scheme}.")]);
    }
    for (name, scheme) in [("WhatsApp", "meta"), ("shopify-app", "shopify"), ("Standard_Webhooks", "standard-webhooks")]
    {
        assert_said(&said(&folder, &["schemes", name]), &[&format!("it is called \"{scheme}\" here")]);
    }
    assert_said(&said(&folder, &["schemes"]), &["vercel", "third-party"]);
}
