//! The first hour of an operator: the files that `init` writes, running without a file, configurations from standard
//! input, and deliveries signed for a route.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Program, eventually};

/// Runs a command in the folder.
fn command(folder: &Folder, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).current_dir(folder.path("")).output().unwrap()
}

#[track_caller]
fn succeeds(folder: &Folder, arguments: &[&str]) -> String {
    let output = command(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and everything that was said.
fn said(folder: &Folder, arguments: &[&str]) -> (i32, String) {
    let output = command(folder, arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn program(folder: &Folder, arguments: &[&str]) -> Program {
    Program::start(Command::new(BINARY).args(arguments).current_dir(folder.path("")))
}

fn mode(folder: &Folder, name: &str) -> u32 {
    folder.path(name).metadata().unwrap().permissions().mode() & 0o777
}

/// The delivery that `sign` describes by its headers.
fn delivery(path: &str, headers: &str, body: &str) -> Delivery {
    let delivery = Delivery::unsigned(body.as_bytes()).line(&format!("POST {path} HTTP/1.1"));
    headers.lines().fold(delivery, |delivery, line| {
        let (name, value) = line.split_once(": ").unwrap();
        delivery.field(name, value)
    })
}

#[test]
fn what_init_writes_guards_an_application() {
    let application = Application::answering(OK);
    let folder = Folder::new();
    let to = application.address();
    let told = succeeds(&folder, &["init", "github", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--to", &to]);
    assert_eq!((mode(&folder, "secrets"), mode(&folder, "secrets/github")), (0o700, 0o600));
    let secret = std::fs::read_to_string(folder.path("secrets/github")).unwrap();
    assert_eq!(secret.trim().len(), 64);
    assert_eq!(told.matches(secret.trim()).count(), 1, "it is shown once: {told}");
    let program = program(&folder, &["run"]);
    let body = "{\"hello\":\"world\"}";
    let headers = succeeds(&folder, &["sign", "--route", "github", "--body", body]);
    let mut client = Client::connect(program.address());
    assert_eq!(client.ask(&delivery("/webhooks/github", &headers, body).bytes()).status, 200);
    assert_eq!(client.ask(&delivery("/webhooks/github", &headers, "{}").bytes()).status, 401);
    let curl = succeeds(&folder, &["sign", "--route", "github", "--body", body, "--format", "curl"]);
    assert!(
        curl.contains("--data-raw '{\"hello\":\"world\"}'") && curl.trim().ends_with("/webhooks/github'"),
        "{curl}"
    );
}

#[test]
fn init_takes_ports_and_leaves_nothing_behind_when_it_fails() {
    let folder = Folder::new();
    // A file in the place of the folder: the secret cannot be written.
    folder.write("secrets", "");
    let (code, text) = said(&folder, &["init", "github", "--to", "9000"]);
    assert!(code == 2 && text.contains("the folder secrets for secrets/github: "), "{code}: {text}");
    assert!(!std::fs::exists(folder.path("countersign.toml")).unwrap());
    std::fs::remove_file(folder.path("secrets")).unwrap();
    succeeds(&folder, &["init", "github", "--to", "9000", "--listen", ":8081", "--admin", "9091"]);
    let text = std::fs::read_to_string(folder.path("countersign.toml")).unwrap();
    for address in ["127.0.0.1:9000", "127.0.0.1:8081", "127.0.0.1:9091"] {
        assert!(text.contains(&format!("address = \"{address}\"")), "{address}: {text}");
    }
}

#[test]
fn init_replaces_neither_configurations_nor_secrets() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("secrets")).unwrap();
    folder.write("secrets/stripe", "whsec_5Vb0iXxJt2nDqkq8KzPz4w9rF3uY7hLm");
    let told = succeeds(&folder, &["init", "stripe", "-c", "stripe.toml"]);
    assert!(told.contains("secrets/stripe is there already") && !told.contains("whsec_5V"), "{told}");
    let before = std::fs::read_to_string(folder.path("stripe.toml")).unwrap();
    let (code, text) = said(&folder, &["init", "github", "-c", "stripe.toml"]);
    assert!(code == 2 && text.contains("stripe.toml exists") && text.contains("--force"), "{text}");
    assert_eq!(std::fs::read_to_string(folder.path("stripe.toml")).unwrap(), before);
    succeeds(&folder, &["init", "github", "-c", "stripe.toml", "--force"]);
    assert_ne!(std::fs::read_to_string(folder.path("stripe.toml")).unwrap(), before);
    for (arguments, code, part) in [
        (&["init", "gihtub"][..], 2, "did you mean \"github\"?"),
        (&["init"], 2, "countersign init github"),
        (&["init", "square"], 2, "--public-url"),
        (&["init", "discord", "-c", "d.toml"], 1, "Write the public key that it shows you to secrets/discord.pub"),
    ] {
        let output = Command::new(BINARY).args(arguments).current_dir(folder.path("")).stdin(Stdio::null()).output();
        let output = output.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.code() == Some(code) && text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn the_example_starts_as_it_is_shipped() {
    let folder = Folder::new();
    let told = succeeds(&folder, &["init", "--example"]);
    let run = told.lines().find(|line| line.contains("countersign run")).unwrap();
    assert!(run.contains("GITHUB_WEBHOOK_SECRET=$(cat "), "{told}");
    let name = "secrets/of-variable-github_webhook_secret";
    let variable = std::fs::read_to_string(folder.path(name)).unwrap();
    assert_eq!((mode(&folder, name), mode(&folder, "tls/tls.key")), (0o600, 0o600));
    // Tests take ports from the system.
    let text = std::fs::read_to_string(folder.path("countersign.toml")).unwrap();
    let text = ["8080", "8443", "9090"]
        .into_iter()
        .fold(text, |text, port| text.replace(&format!("address = \"127.0.0.1:{port}\""), "address = \"127.0.0.1:0\""));
    std::fs::write(folder.path("countersign.toml"), text).unwrap();
    let mut run = Command::new(BINARY);
    let mut program =
        Program::start(run.arg("run").env("GITHUB_WEBHOOK_SECRET", variable).current_dir(folder.path("")));
    program.await_line(" ready: ");
    program.signal("INT");
    assert_eq!(program.end().0.code(), Some(0));
}

#[test]
fn an_application_is_guarded_without_a_file() {
    let application = Application::answering(OK);
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef\n");
    let to = application.address();
    let options = ["run", "--scheme", "github", "--secret-file", "secret", "--listen", "127.0.0.1:0", "--to", &to];
    let program = program(&folder, &options);
    let mut client = Client::connect(program.address());
    let sign =
        |secret: &str| succeeds(&folder, &["sign", "--scheme", "github", "--secret-file", secret, "--body", "{}"]);
    assert_eq!(client.ask(&delivery("/any/path", &sign("secret"), "{}").bytes()).status, 200);
    // The secret is exchanged as in a file: its file is watched.
    folder.write("other", "fedcba9876543210fedcba9876543210\n");
    std::fs::rename(folder.path("other"), folder.path("secret")).unwrap();
    assert!(eventually(|| {
        Client::connect(program.address()).ask(&delivery("/b", &sign("secret"), "{}").bytes()).status == 200
    }));
    for (arguments, part) in [
        (&["run", "--scheme", "github"][..], "--to 127.0.0.1:9000"),
        (&["run", "--scheme", "github", "--to", "9"], "--secret-file FILE"),
        (&["run", "--scheme", "gihtub", "--to", "9", "--secret-file", "secret"], "did you mean \"github\"?"),
        (&["run", "--to", "9"], "say which sender"),
        (&["run", "x.toml", "--scheme", "github"], "exclude each other"),
        (&["run", "--scheme", "square", "--to", "9", "--secret-file", "secret"], "route[0].public_url: is missing"),
    ] {
        let (code, text) = said(&folder, arguments);
        assert!(code != 0 && text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn a_configuration_may_come_from_standard_input_and_from_a_pipe() {
    let folder = Folder::new();
    succeeds(&folder, &["init", "github", "-c", "a.toml"]);
    let text = std::fs::read(folder.path("a.toml")).unwrap();
    let check = |arguments: &[&str], text: &[u8]| {
        let mut command = Command::new(BINARY);
        let command = command.arg("check").args(arguments).current_dir(folder.path(""));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    for arguments in [&["-"][..], &["-c", "-"], &["--config", "/dev/stdin"]] {
        let (code, said) = check(arguments, &text);
        assert!(code == 0 && said.contains("route github"), "{arguments:?}: {said}");
    }
    let (code, said) = check(&["-"], b"[[listener]]\naddress = 1\n");
    assert!(code == 1 && said.contains("(standard input):2:11: error: listener[0].address"), "{said}");
    let (code, said) = check(&["a.toml", "-c", "b.toml"], b"");
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
}

#[test]
fn every_command_reads_the_default_configuration() {
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef\n");
    folder.write(
        "countersign.toml",
        "[[listener]]\naddress = '127.0.0.1:0'\n[upstream]\naddress = '127.0.0.1:9'\n\
         [[route]]\nname = 'own'\npath = '/own'\nscheme = 'mine'\nsecrets = [{ id = '1', file = 'secret' }]\n\
         [scheme.mine]\nalgorithm = 'hmac-sha256'\ncontent = '{body}'\nsignature = { header = 'X-Mine', encoding = 'hex' }\n",
    );
    let by_route = succeeds(&folder, &["sign", "--route", "own", "--body", "{}"]);
    let by_scheme = succeeds(&folder, &["sign", "--scheme", "mine", "--secret-file", "secret", "--body", "{}"]);
    assert_eq!(by_route, by_scheme);
    folder.write("body", "{}");
    let verdict = succeeds(&folder, &["verify", "--route", "own", "--header", by_route.trim(), "--body-file", "body"]);
    assert!(verdict.contains("accept key=1"), "{verdict}");
    folder.write(
        "request",
        &format!("POST /own HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{}\r\n\r\n{{}}", by_route.trim()),
    );
    succeeds(&folder, &["explain", "--request", "request", "--route", "own"]);
    let (code, text) = said(&folder, &["sign", "--scheme", "unknown", "--secret-file", "secret"]);
    assert!(code == 2 && text.contains("no route of countersign.toml uses it"), "{text}");
    let (code, text) = said(&folder, &["sign", "--route", "unknown"]);
    assert!(code == 2 && text.contains("it has own"), "{text}");
    let (code, text) = said(&folder, &["sign", "--scheme", "svix", "--secret-file", "secret"]);
    assert!(code == 2 && text.contains("--id msg_1"), "{text}");
}

#[test]
fn check_counts_and_speaks_json() {
    let folder = Folder::new();
    succeeds(&folder, &["init", "github"]);
    let (code, text) = said(&folder, &["check"]);
    assert!(code == 0 && text.trim_end().ends_with("0 errors, 1 warning"), "{text}");
    let (code, text) = said(&folder, &["check", "--strict"]);
    assert!(code == 1 && text.contains("1 warning (--strict: warnings count as errors)"), "{text}");
    let value: Value = serde_json::from_str(&succeeds(&folder, &["check", "--output", "json"])).unwrap();
    assert_eq!((&value["ok"], &value["errors"], &value["warnings"]), (&json!(true), &json!(0), &json!(1)));
    assert_eq!(value["problems"][0]["key"], "admin.capture_refused");
    folder.write("bad.toml", "[[listener]]\naddress = 1\n");
    let (code, text) = said(&folder, &["check", "bad.toml", "-o", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &value["ok"]), (1, &json!(false)));
    assert!(value["problems"].as_array().unwrap().iter().any(|it| it["line"] == 2 && it["column"] == 11), "{value}");
    assert!(
        value["problems"].as_array().unwrap().iter().all(|it| it["fix"].as_str().is_some_and(|fix| !fix.is_empty()))
    );
}

#[test]
fn verdicts_and_schemes_are_json_for_programs() {
    let folder = Folder::new();
    succeeds(&folder, &["init", "github"]);
    folder.write("body", "{}");
    let header = succeeds(&folder, &["sign", "--route", "github", "--body", "{}"]);
    let verify = ["verify", "--route", "github", "--body-file", "body", "-o", "json", "--header"];
    let value: Value = serde_json::from_str(&succeeds(&folder, &[&verify[..], &[header.trim()]].concat())).unwrap();
    assert_eq!(value["ok"], true);
    let (code, text) = said(&folder, &[&verify[..], &["X-Other: 1"]].concat());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &value["ok"], &value["reason"]), (1, &json!(false), &json!("signature_missing")));
    folder.write("request", &format!("POST / HTTP/1.1\r\nContent-Length: 3\r\n{}\r\n\r\n{{}}\n", header.trim()));
    let (code, text) = said(&folder, &["explain", "--request", "request", "--route", "github", "-o", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &value["reason"]), (1, &json!("signature_mismatch")));
    assert!(value["explained"][0].as_str().unwrap().contains("newline"), "{value}");
    let value: Value = serde_json::from_str(&succeeds(&folder, &["schemes", "-o", "json"])).unwrap();
    assert!(value.as_array().unwrap().iter().any(|it| it["name"] == "stripe" && it["signs_time"] == true));
}

#[test]
fn the_binary_says_what_it_is_and_how_it_is_used() {
    let folder = Folder::new();
    let text = succeeds(&folder, &["version"]);
    for part in ["countersign ", "commit ", "target ", "driver ", "rustls with ring"] {
        assert!(text.contains(part), "{text}");
    }
    let value: Value = serde_json::from_str(&succeeds(&folder, &["version", "-o", "json"])).unwrap();
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeeds(&folder, &["completions", shell]).contains("healthcheck"), "{shell}");
    }
    assert!(succeeds(&folder, &["man"]).contains(".TH countersign 1"));
    succeeds(&folder, &["man", "--directory", "man"]);
    for page in ["countersign.1", "countersign-run.1", "countersign-init.1"] {
        assert!(folder.path("man").join(page).exists(), "{page}");
    }
}
