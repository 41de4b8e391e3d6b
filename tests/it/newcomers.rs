//! The mistakes that show only at run time, as people make them in their first hour: each is said with its cause and with
//! what to do.

use std::io;
use std::net::TcpListener;
use std::process::Command;

use countersign::control::supervisor::StartError;
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

/// A mistake at run time: what is said of it, and what of that is its cause, its place and its fix.
struct Mistake {
    what: &'static str,
    said: String,
    cause: &'static str,
    place: String,
    fix: String,
}

fn mistake(what: &'static str, said: String, cause: &'static str, (place, fix): (&str, &str)) -> Mistake {
    Mistake { what, said, cause, place: place.to_owned(), fix: fix.to_owned() }
}

/// Ports that cannot be had, at the start.
fn of_ports() -> Vec<Mistake> {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let advice = format!("ss -ltnp 'sport = :{}'", taken.local_addr().unwrap().port());
    let start = |listen: &str, admin: &str| {
        let folder = folder(listen, admin, "127.0.0.1:9");
        let mut program = Program::run(&folder.path("countersign.toml"));
        assert_eq!(program.end().0.code(), Some(2));
        program.log().join("\n")
    };
    // The tests may run as root.
    let low = StartError::Listen("127.0.0.1:80".parse().unwrap(), io::ErrorKind::PermissionDenied.into());
    vec![
        mistake(
            "port taken",
            start(&address, "127.0.0.1:0"),
            "in use",
            (&format!("cannot listen on {address}"), &advice),
        ),
        mistake(
            "admin port taken",
            start("127.0.0.1:0", &address),
            "in use",
            (&format!("admin port at {address}"), &advice),
        ),
        mistake(
            "port below 1024",
            low.to_string(),
            "permission denied",
            ("cannot listen on 127.0.0.1:80", "CAP_NET_BIND_SERVICE"),
        ),
    ]
}

/// Lines of the access log, once there are so many.
fn records(folder: &Folder, count: usize) -> Vec<Value> {
    let text = || std::fs::read_to_string(folder.path("access.jsonl")).unwrap_or_default();
    assert!(eventually(|| text().lines().count() >= count), "{}", text());
    text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What requests met, told by `explain ID --log` in order.
fn of_requests() -> Vec<Mistake> {
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder("127.0.0.1:0", "127.0.0.1:0", &away.to_string());
    let program = Program::run(&folder.path("countersign.toml"));
    let ask = |bytes: &[u8]| Client::connect(program.address()).ask(bytes).status;
    let post = |path: &str| Delivery::signed_with(SECRET, b"{}").line(&format!("POST {path} HTTP/1.1")).bytes();
    let get = Delivery::unsigned(b"").line("GET /hook HTTP/1.1").bytes();
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let asked: [(&[u8], u16); 5] =
        [(&tls, 400), (&post("/hook/"), 404), (&get, 405), (&post("/hook"), 503), (&post("/later"), 401)];
    asked.iter().for_each(|(bytes, status)| assert_eq!(ask(bytes), *status));
    let told: Vec<String> = records(&folder, asked.len())
        .iter()
        .map(|record| said(&folder, &["explain", record["request_id"].as_str().unwrap(), "--log", "access.jsonl"]))
        .collect();
    let [tls, slash, method, away, later] = <[String; 5]>::try_from(told).unwrap();
    vec![
        mistake(
            "HTTPS to a plain port",
            tls,
            "begins a TLS handshake",
            ("from 127.0.0.1", "register http:// with the sender"),
        ),
        mistake(
            "a slash too many",
            slash,
            "No route for this host and path",
            ("POST /hook/", "the nearest route is hook, path /hook: the request has a slash at the end"),
        ),
        mistake("another method", method, "does not take this method", ("GET /hook", "add the method to `methods`")),
        mistake(
            "no application",
            away,
            "No connection to the application",
            ("route hook", "is the application running"),
        ),
        mistake("a key of the future", later, "key_inactive", ("route later", "give the route a key whose not_before")),
    ]
}

/// Deliveries that `explain --request` looks at.
fn of_captures() -> Vec<Mistake> {
    let folder = folder("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:9");
    folder.write("spaced", &format!("{SECRET} "));
    folder.write("whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let explain = |(headers, body): (&str, &str), arguments: &[&str]| {
        let length = body.len();
        let text = format!("POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n\r\n{body}");
        folder.write("request", &text);
        said(&folder, &[&["explain", "--request", "request"], arguments].concat())
    };
    let signature = format!("X-Hub-Signature-256: {}", github_signature(SECRET, b"{}"));
    let newline = explain((&signature, "{}\n"), &["--route", "hook"]);
    let missing = explain(("X-Other: 1", "{}"), &["--route", "hook"]);
    let spaced = explain((&signature, "{}"), &["--scheme", "github", "--secret-file", "spaced"]);
    let stripe = ["--scheme", "stripe", "--secret-file", "secret", "--at", "1706000000"];
    let old = format!("Stripe-Signature: t=1700000000,v1={}", "0".repeat(64));
    let stale = explain((&old, "{}"), &stripe);
    let named = "webhook-id: msg.1\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let standard = ["--scheme", "standard-webhooks", "--secret-file", "whsec", "--at", "1700000000"];
    let dotted = explain((named, "{}"), &standard);
    vec![
        mistake(
            "an editor added a newline",
            newline,
            "signature_mismatch",
            ("the body ends with a newline", "proven: with that corrected the signature matches"),
        ),
        mistake(
            "no secret at the sender",
            missing,
            "signature_missing",
            ("the header `X-Hub-Signature-256` is not there", "set the secret at the sender"),
        ),
        mistake(
            "a secret with a blank",
            spaced,
            "signature_mismatch",
            ("the secret `spaced` has white space around it", "what to do: "),
        ),
        mistake("an old delivery", stale, "69 d 10 h old", ("5 min are allowed", "what to do: ")),
        mistake(
            "an id with the separator",
            dotted,
            "contains `.`",
            ("separates the parts of what is signed", "another separator in `content`"),
        ),
    ]
}

/// Commands that lack something.
fn of_commands() -> Vec<Mistake> {
    let folder = folder("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:9");
    folder.write("whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let id = said(&folder, &["sign", "--scheme", "svix", "--secret-file", "whsec"]);
    let elsewhere = Folder::new();
    elsewhere.write("secret", SECRET);
    let own = said(&elsewhere, &["sign", "--scheme", "mycompany", "--secret-file", "secret"]);
    vec![
        mistake("an id that is signed", id, "signs a delivery id", ("svix", "--id msg_1")),
        mistake("a scheme of one's own", own, "there is no scheme", ("\"mycompany\"", "where --config says")),
    ]
}

#[test]
fn each_of_fifteen_mistakes_at_run_time_is_said_with_its_cause_its_place_and_its_fix() {
    let mistakes: Vec<Mistake> =
        [of_ports(), of_requests(), of_captures(), of_commands()].into_iter().flatten().collect();
    let wrong = mistakes.iter().flat_map(|it| {
        let parts = [("cause", it.cause), ("place", &*it.place), ("fix", &*it.fix)];
        let text = it.said.to_lowercase();
        let missing = parts.into_iter().filter(move |(_, part)| !text.contains(&part.to_lowercase()));
        missing.map(|(kind, part)| format!("{}: no {kind} {part:?} in:\n{}", it.what, it.said))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    assert_eq!(mistakes.len(), 15);
}

#[test]
fn warnings_of_the_start_are_lines_of_the_log_and_a_404_has_no_capture() {
    let folder = folder("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:9");
    let program = Program::run(&folder.path("countersign.toml"));
    let warning = program.await_line("no key that counts at present");
    assert!(warning.starts_with("20") && warning.contains("Z WARN "), "{warning}");
    let unknown = Delivery::signed_with(SECRET, b"{}").line("POST /hok HTTP/1.1").bytes();
    assert_eq!(Client::connect(program.address()).ask(&unknown).status, 404);
    let id = records(&folder, 1)[0]["request_id"].as_str().unwrap().to_owned();
    assert_said(
        &said(&folder, &["explain", &id, "--log", "access.jsonl"]),
        &["route_unknown", "the nearest route is hook, path /hook"],
    );
    let admin = program.await_line("admin port at ");
    let admin = admin.rsplit(' ').next().unwrap();
    assert_said(
        &said(&folder, &["explain", &id, "--admin", admin]),
        &["no route stands for it (404)", "the application failed (502", "--log FILE"],
    );
}

#[test]
fn a_key_of_the_future_is_told_in_units_for_people() {
    let folder = folder("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:9");
    let signature = github_signature(SECRET, b"{}");
    let head = format!("POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX-Hub-Signature-256: {signature}");
    folder.write("request", &format!("{head}\r\n\r\n{{}}"));
    assert_said(
        &said(&folder, &["explain", "--request", "request", "--route", "later"]),
        &["key `1`: counts only in ", " d"],
    );
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
