//! What commands print can be looked at: nothing in it moves a cursor or turns text around, wherever it comes from, and
//! a secret in the wrong place is not carried on.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Program, Proxy};

/// Clears the screen, in three ways; deletes; turns around; another line of a log.
const HOSTILE: &str = "x\u{1b}[2J\u{9b}2J\u{1b}]0;t\u{7}\u{7f}\u{202e}\u{2066}\u{200f}\r\u{8}y";

#[track_caller]
fn assert_plain(what: &str, bytes: &[u8]) {
    let text =
        String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| panic!("{what}: not UTF-8: {}", bytes.escape_ascii()));
    let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
    let turns =
        |c: char| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.chars().any(|c| odd(c) || turns(c)), "{what}: {}", text.escape_debug());
}

/// Runs the program; both outputs. It must have said something.
#[track_caller]
fn said(folder: &Folder, arguments: &[&str]) -> Vec<u8> {
    said_with(folder, arguments, "countersign.toml")
}

#[track_caller]
fn said_with(folder: &Folder, arguments: &[&str], config: &str) -> Vec<u8> {
    let mut command = Command::new(BINARY);
    let output =
        command.args(arguments).current_dir(folder.path("")).env("COUNTERSIGN_CONFIG", config).output().unwrap();
    assert!(output.stdout.len() + output.stderr.len() > 0, "{arguments:?}");
    [output.stdout, output.stderr].concat()
}

fn route(lines: &str) -> String {
    format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n[upstream]\naddress = '127.0.0.1:9'\n[[route]]\npath = '/a'\n{lines}\n"
    )
}

/// The text inside of a basic string of TOML.
fn toml(text: &str) -> String {
    text.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect()
}

#[test]
fn no_problem_of_a_configuration_reaches_a_terminal_as_it_is() {
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef");
    let hostile = toml(HOSTILE);
    let key = "scheme = 'github'\nsecrets = [{ id = '1', file = 'secret' }]";
    for text in [
        format!("\"{hostile}\" = 1\n{}", route(key)),
        format!("{}[\"{hostile}\"]\na = 1\n", route(key)),
        format!("{}[scheme.\"{hostile}\"]\n\"{hostile}\" = 1\n", route(key)),
        route(&format!("name = \"{hostile}\"\n{key}")),
        route(&format!("host = \"{hostile}\"\n{key}")),
        route(&format!("upstream = \"{hostile}\"\n{key}")),
        route(&format!("scheme = \"{hostile}\"")),
        route(&format!("scheme = 'github'\nsecrets = [{{ id = \"{hostile}\", file = 'secret' }}]")),
        route(&format!("scheme = 'github'\nsecrets = [{{ id = '1', file = \"{hostile}\" }}]")),
        route(&format!("scheme = 'github'\nsecrets = [{{ id = '1', env = \"{hostile}\" }}]")),
        route(&format!("scheme = 'github'\nsecrets = [{{ id = '1', file = 'secret', not_after = \"{hostile}\" }}]")),
        route(&format!("{key}\ntolerance = \"{hostile}\"\nallow = [\"{hostile}\"]\nmethods = [\"{hostile}\"]")),
        route(&format!(
            "{key}\ncontent_types = [\"{hostile}\"]\nobserve = [\"{hostile}\"]\nallow_file = \"{hostile}\""
        )),
        format!(
            "[access_log]\noutput = \"{hostile}\"\n[audit]\nfile = \"{hostile}/a\"\nkey = {{ id = 'k', file = 'secret' }}\n{}",
            route(key)
        ),
        format!("a = {HOSTILE}\n"),
        format!("{HOSTILE}\n"),
    ] {
        folder.write("countersign.toml", &text);
        for command in ["check", "run", "healthcheck"] {
            if command == "run" && text.contains("[audit]") {
                continue;
            }
            assert_plain(&text, &said(&folder, &[command]));
        }
        assert_plain(&text, &said(&folder, &["verify", "--config", "countersign.toml", "--route", HOSTILE]));
        assert_plain(
            &text,
            &said(&folder, &["explain", "--request", "secret", "--config", "countersign.toml", "--route", "a"]),
        );
        assert_plain(
            &text,
            &said(&folder, &["sign", "--scheme", "x", "--secret-file", "secret", "--config", "countersign.toml"]),
        );
    }
    for command in ["check", "run", "healthcheck"] {
        assert_plain(command, &said(&folder, &[command, "--config", HOSTILE]));
        assert_plain(command, &said_with(&folder, &[command], HOSTILE));
        assert_plain(command, &said_with(&folder, &[command, "--help"], HOSTILE));
    }
    folder.write(HOSTILE, "nonsense");
    assert_plain("a file", &said(&folder, &["check", "--config", HOSTILE]));
}

#[test]
fn no_argument_reaches_a_terminal_as_it_is() {
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef");
    let flag = format!("--{HOSTILE}");
    for command in ["run", "check", "sign", "verify", "explain", "audit", "schemes", "healthcheck", "demo", HOSTILE] {
        assert_plain(command, &said(&folder, &[command, &flag]));
        assert_plain(command, &said(&folder, &[command, HOSTILE, HOSTILE]));
    }
    let header = format!("X-A: {HOSTILE}");
    let name = format!("{HOSTILE}: a");
    for arguments in [
        &["schemes", HOSTILE][..],
        &["sign", "--scheme", HOSTILE, "--secret-file", "secret"],
        &["sign", "--scheme", "github", "--secret-file", HOSTILE],
        &["sign", "--scheme", "github", "--secret-file", "secret", "-H", &header],
        &["sign", "--scheme", "github", "--secret-file", "secret", "-H", &name],
        &["sign", "--scheme", "github", "--secret-file", "secret", "-H", HOSTILE],
        &["sign", "--scheme", "github", "--secret-file", "secret", "--url", HOSTILE],
        &["sign", "--scheme", "github", "--secret-file", "secret", "--body-file", HOSTILE],
        &["sign", "--scheme", "github", "--secret-file", "secret", "--format", HOSTILE],
        &[
            "sign",
            "--scheme",
            "github",
            "--secret-file",
            "secret",
            "--format",
            "curl",
            "-H",
            &header,
            "--method",
            HOSTILE,
        ],
        &["sign", "--scheme", "standard-webhooks", "--secret-file", "secret", "--id", HOSTILE],
        &["verify", "--scheme", "github", "--secret-file", "secret", "-H", &header],
        &["verify", "--scheme", "github", "--secret-file", "secret", "--method", HOSTILE, "--url", HOSTILE],
        &["verify", "--scheme", "github", "--secret-file", "secret", "--now", HOSTILE],
        &["verify", "--scheme", "discord", "--public-key-file", HOSTILE],
        &["explain", HOSTILE],
        &["explain", HOSTILE, "--log", "secret"],
        &["explain", "--request", HOSTILE, "--scheme", "github", "--secret-file", "secret"],
        &["explain", "--request", "secret", "--scheme", "github", "--secret-file", "secret", "--at", HOSTILE],
        &["audit", "verify", HOSTILE],
        &["audit", "verify", "secret", "--expect-last", HOSTILE],
        &["audit", "show", HOSTILE, "--since", HOSTILE],
        &["healthcheck", "--address", HOSTILE],
    ] {
        assert_plain(&format!("{arguments:?}"), &said(&folder, arguments));
    }
}

#[test]
fn nothing_of_a_request_or_a_record_reaches_a_terminal_as_it_is() {
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef");
    let of_scheme = ["--scheme", "github", "--secret-file", "secret"];
    for request in [
        format!(
            "POST /{HOSTILE}?{HOSTILE} HTTP/1.1\r\nX-Hub-Signature: {HOSTILE}\r\n{HOSTILE}-Signature: 1\r\n\r\n{HOSTILE}"
        ),
        format!("POST / HTTP/1.1\r\n{HOSTILE}\r\n\r\n{HOSTILE}"),
        format!("{HOSTILE} / HTTP/1.1\r\nX-Hub-Signature-256: sha256={HOSTILE}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nX-Hub-Signature-256: {}\r\n\r\n{HOSTILE}", github_signature("a", b"b")),
    ] {
        folder.write("request", &request);
        assert_plain(&request, &said(&folder, &[&["explain", "--request", "request"], &of_scheme[..]].concat()));
    }
    let id = "0".repeat(32);
    let members = [
        "request_id",
        "time",
        "method",
        "path",
        "client",
        "route",
        "scheme",
        "key_id",
        "delivery_id",
        "unsigned_delivery_id",
        "outcome",
        "reason",
    ];
    let members: Vec<String> = members
        .iter()
        .map(|name| {
            format!("\"{name}\":{}", serde_json::Value::from(if *name == "request_id" { &id } else { HOSTILE }))
        })
        .collect();
    let record = format!("{{{},\"observed\":[{}]}}", members.join(","), serde_json::Value::from(HOSTILE));
    folder.write("log", &format!("{record}\n"));
    assert_plain("a log", &said(&folder, &["explain", &id, "--log", "log"]));
    folder.write("trail", &format!("{record}\n{{\"a\":\"\u{9b}\u{202e}\u{7f}\"}}\n"));
    let shown = said(&folder, &["audit", "show", "trail"]);
    assert_plain("records", &shown);
    // It is still the JSON that it was.
    let last = String::from_utf8(shown).unwrap().lines().last().map(str::to_owned).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&last).unwrap()["a"], "\u{9b}\u{202e}\u{7f}");
    folder.write(HOSTILE, &format!("{HOSTILE}\n"));
    assert_plain("a trail", &said(&folder, &["audit", "verify", HOSTILE]));
}

/// What answers at the admin port may be something else.
#[test]
fn nothing_of_an_answer_reaches_a_terminal_as_it_is() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let id = "0".repeat(32);
    let list = serde_json::json!([{ "request_id": id, "route": HOSTILE, "reason": HOSTILE, "at": 0 }]).to_string();
    let path = format!("/captured/{id} ");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut asked) = (stream.unwrap(), [0; 1024]);
            let length = stream.read(&mut asked).unwrap();
            let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
            let (status, body) = match () {
                () if asked.contains("/captured ") => ("200 OK", list.as_str()),
                () if asked.contains(&path) => ("200 OK", HOSTILE),
                () if asked.contains("/live ") => ("503 no", HOSTILE),
                () => ("200 OK", HOSTILE),
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    assert_plain("a probe", &said(&folder, &["healthcheck", "--address", &address]));
    assert_plain("a probe", &said(&folder, &["healthcheck", "--live", "--address", &address]));
    let captured = said(&folder, &["explain", &id, "--admin", &address]);
    assert!(String::from_utf8_lossy(&captured).contains("refused on route x"));
    assert_plain("a capture", &captured);
}

#[test]
fn nothing_that_a_client_sends_reaches_the_terminal_of_a_process() {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let text = Proxy::on(Driver::Epoll, &application).text();
    let config = folder.write("countersign.toml", &format!("{text}\n[access_log]\nformat = \"text\"\nquery = true\n"));
    let mut program = Program::run(&config);
    let address = program.address();
    for line in [
        "POST /hook?\u{9b}2J HTTP/1.1",
        "GET /\u{202e} HTTP/1.1",
        "POST /\u{1b}[2J HTTP/1.1",
        "\u{7f}\u{1b} / HTTP/1.1",
    ] {
        let delivery = Delivery::of(b"{}").line(line).field("User-Agent", "a\u{9b}b");
        let mut client = crate::support::Client::connect(address);
        client.try_send(&delivery.bytes());
        let _ = client.try_answer();
    }
    program.signal("TERM");
    program.end();
    assert_plain("the log", program.log().join("\n").as_bytes());
    assert_plain("the access log", program.output().join("\n").as_bytes());
}

/// Secrets as senders and machines make them.
const SECRETS: [&str; 6] = [
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "sk_live_51HabcDEFghiJKLmno",
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "5d8a3c1be2f94706a1c8d05be72f9346",
    "correct-horse-battery-staple-0123456789",
    "q83vEjRWeJq83vEjRWeJqw",
];

#[test]
fn a_secret_in_the_wrong_place_is_not_echoed() {
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef");
    let key = "scheme = 'github'\nsecrets = [{ id = '1', file = 'secret' }]";
    for secret in SECRETS {
        let hidden = |what: &str, bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(!text.contains(secret) && !text.contains(&secret[4..20]), "{what}: {text}");
        };
        for text in [
            format!("\"{secret}\" = 1\n{}", route(key)),
            format!("{secret} = {secret}\n{}", route(key)),
            format!("{}[\"{secret}\"]\na = 1\n", route(key)),
            format!("{}[{secret}.{secret}]\n{secret} = 1\n", route(key)),
            route(&format!("scheme = \"{secret}\"")),
            route(&format!("scheme = 'github'\nsecrets = \"{secret}\"")),
            route(&format!("scheme = 'github'\nsecrets = [\"{secret}\"]")),
            route(&format!("scheme = 'github'\nsecrets = [{{ {secret} = '1', file = 'secret' }}]")),
            route(&format!("scheme = 'github'\nsecrets = [{{ id = \"{secret} \", file = 'secret' }}]")),
            route(&format!("scheme = 'github'\nsecrets = [{{ id = '1', file = \"{secret}\" }}]")),
            route(&format!("scheme = 'github'\nsecrets = [{{ id = '1', file = \"/etc/{secret}\" }}]")),
            route(&format!("scheme = 'github'\nsecrets = [{{ id = '1', env = \"{secret}\" }}]")),
            route(&format!("scheme = 'github'\nsecrets = [{{ id = '1', file = 'secret', not_after = \"{secret}\" }}]")),
            route(&format!("{key}\ntolerance = \"{secret}\"\nallow = [\"{secret}\"]\nmethods = [\"{secret}\"]")),
            route(&format!("{key}\nobserve = [\"{secret}\"]\nallow_file = \"{secret}\"\nhost = \"{secret}\"")),
            route(&format!("{key}\nupstream = \"{secret}\"")),
        ] {
            folder.write("countersign.toml", &text);
            for command in ["check", "run"] {
                let mut child = Command::new(BINARY);
                let output = child.arg(command).current_dir(folder.path("")).output().unwrap();
                assert_eq!(output.status.code(), Some(1), "{text}");
                hidden(&text, &output.stderr);
            }
            hidden(&text, &said(&folder, &["verify", "--config", "countersign.toml", "--route", "a"]));
        }
        let flag = format!("--{secret}");
        let valued = format!("--secret={secret}");
        for arguments in [
            &[secret][..],
            &["check", secret],
            &["check", &flag],
            &["run", &valued],
            &["check", "--config", secret],
            &["schemes", secret],
            &["sign", "--scheme", secret, "--secret-file", "secret"],
            &["sign", "--scheme", "github", "--secret-file", secret],
            &["verify", "--scheme", "github", "--secret-file", secret],
            &["verify", "--scheme", "github", "--secret-file", "secret", "--now", secret],
            &["verify", "--scheme", "github", "--secret-file", "secret", "-H", secret],
            &["explain", secret],
            &["explain", "--request", secret, "--scheme", "github", "--secret-file", "secret"],
            &["explain", "--request", "secret", "--scheme", "github", "--secret-file", "secret", "--at", secret],
            &["audit", "verify", "secret", "--key-file", secret, "--key-id", "1"],
            &["audit", "verify", "secret", "--expect-last", secret],
            &["audit", "show", "secret", "--since", secret],
            &["healthcheck", "--address", secret],
        ] {
            hidden(&format!("{arguments:?}"), &said(&folder, arguments));
        }
        let help = said_with(&folder, &["check", "--help"], secret);
        hidden("the environment", &help);
        hidden("the environment", &said_with(&folder, &["check"], secret));
        assert!(!help.is_empty() && OsStr::new(secret).len() > 16);
    }
}

/// An id is shown in many places: one that looks like a secret is warned about.
#[test]
fn an_id_that_looks_like_a_secret_is_warned_about() {
    let folder = Folder::new();
    folder.write("secret", "a-secret-of-sufficient-length");
    folder.write(
        "countersign.toml",
        &route("scheme = 'github'\nsecrets = [{ id = 'whsec_MfKQ9r8GKYqrTwjU', file = 'secret' }]"),
    );
    let output = Command::new(BINARY).arg("check").current_dir(folder.path("")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("warning: route[0].secrets[0].id: looks like a secret, and ids are shown"), "{told}");
}
