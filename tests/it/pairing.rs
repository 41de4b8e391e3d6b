//! Pairing: the window in which the secret of a sender's first call is taken, byte for byte, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ring::hmac;

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    asana_is_paired_in_its_window,
    notion_is_paired_in_its_window,
    a_window_closes_by_its_time_and_by_command,
    a_secret_that_is_there_is_replaced_only_when_that_is_said,
    what_cannot_be_a_secret_or_cannot_be_stored_is_refused,
}

const PAIRED: &str = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";
const OTHER: &str = "0d9ef1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e";
const TOKEN: &str = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl";

/// A process with a route whose secret is `secret` in the folder.
fn started(folder: &Folder, driver: Driver, application: &Application, sender: &str) -> (Program, PathBuf) {
    let route = format!(
        "[[route]]\nname = \"{sender}\"\npath = \"/{sender}\"\nscheme = \"{sender}\"\nreplay.mode = \"off\"\n\
         secrets = [{{ id = \"1\", file = \"secrets/{sender}\" }}]\n"
    );
    let text = Proxy::on(driver, application).text();
    let admin = folder.path("admin.sock");
    let text = format!("{text}\n{route}[admin]\naddress = \"unix:{}\"\n", admin.display());
    let config = folder.write("countersign.toml", &text);
    (Program::run(&config), config)
}

fn pair(config: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).arg("pair").args(arguments).arg("--config").arg(config).output().unwrap()
}

#[track_caller]
fn open(config: &Path, arguments: &[&str]) {
    let output = pair(config, arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[track_caller]
fn refused(config: &Path, arguments: &[&str], why: &str) {
    let output = pair(config, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
}

/// The first call of Asana.
fn asana(secret: &str) -> Vec<u8> {
    Delivery::unsigned(b"{}").line("POST /asana HTTP/1.1").field("X-Hook-Secret", secret).bytes()
}

fn delivery(path: &str, (name, prefix): (&str, &str), secret: &str) -> Vec<u8> {
    let body = br#"{"events":[]}"#;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Delivery::unsigned(body).line(&format!("POST {path} HTTP/1.1")).field(name, &format!("{prefix}{tag}")).bytes()
}

fn signed(secret: &str) -> Vec<u8> {
    delivery("/asana", ("X-Hook-Signature", ""), secret)
}

/// The bytes of an answer; what differs each time is a star.
fn shown(answer: &[u8]) -> String {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let lines = text.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name @ ("Date" | "X-Request-Id"), _)) => format!("{name}: *"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn assert_private(path: &Path, secret: &str) {
    assert_eq!(fs::read_to_string(path).unwrap(), secret);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "nothing is left beside it");
}

/// Nothing of a secret is in the log.
#[track_caller]
fn assert_untold(program: &Program, secret: &str) {
    let log = program.log();
    assert!(log.iter().all(|line| !line.contains(&secret[..12])), "{log:#?}");
}

fn asana_is_paired_in_its_window(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let (program, config) = started(&folder, driver, &application, "asana");
    program.address();
    program.await_line("is not there yet");
    // Without a window a secret is refused, and no delivery passes.
    assert_eq!(program.connect().ask(&asana(OTHER)).status, 401);
    assert_eq!(program.connect().ask(&signed(PAIRED)).status, 401);
    open(&config, &["asana", "--for", "5m"]);
    program.await_line("the pairing window of route asana is open for 5m");
    let call = [
        "POST /asana HTTP/1.1",
        "Host: hooks.example",
        &format!("X-Hook-Secret: {PAIRED}"),
        "Content-Type: application/json",
        "Connection: close",
        "Content-Length: 2",
        "",
        "{}",
    ];
    let answer = program.connect().send(call.join("\r\n").as_bytes()).rest();
    let wanted = format!(
        "HTTP/1.1 200 OK\nDate: *\nX-Content-Type-Options: nosniff\nCache-Control: no-store\nX-Request-Id: *\n\
         X-Hook-Secret: {PAIRED}\nConnection: close\nContent-Length: 0\n\n"
    );
    assert_eq!(shown(&answer), wanted);
    // It is durable and in force when it is answered.
    assert_private(&folder.path("secrets/asana"), PAIRED);
    assert_eq!(program.connect().ask(&signed(PAIRED)).status, 200);
    application.assert_requests(1);
    // The window is closed.
    assert_eq!(program.connect().ask(&asana(OTHER)).status, 401);
    program.await_line("route asana is paired: the secret of 127.0.0.1 (request ");
    assert_private(&folder.path("secrets/asana"), PAIRED);
    assert_untold(&program, PAIRED);
    assert_untold(&program, OTHER);
}

fn notion_is_paired_in_its_window(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let (program, config) = started(&folder, driver, &application, "notion");
    program.address();
    open(&config, &["notion"]);
    let body = format!(r#"{{"verification_token":"{TOKEN}"}}"#);
    let call = Delivery::unsigned(body.as_bytes()).line("POST /notion HTTP/1.1").bytes();
    let answer = program.connect().ask(&call);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_private(&folder.path("secrets/notion"), TOKEN);
    let delivery = delivery("/notion", ("X-Notion-Signature", "sha256="), TOKEN);
    assert_eq!(program.connect().ask(&delivery).status, 200);
    application.assert_requests(1);
    assert_untold(&program, TOKEN);
}

fn a_window_closes_by_its_time_and_by_command(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let (program, config) = started(&folder, driver, &application, "asana");
    program.address();
    open(&config, &["asana", "--for", "1s"]);
    program.await_line("is closed: no secret was stored in its time");
    assert_eq!(program.connect().ask(&asana(PAIRED)).status, 401);
    open(&config, &["asana"]);
    open(&config, &["asana", "--close"]);
    assert_eq!(program.connect().ask(&asana(PAIRED)).status, 401);
    refused(&config, &["asana", "--close"], "no pairing window of route asana is open");
    refused(&config, &["hook"], "brings no secret");
    refused(&config, &["elsewhere"], "there is no route elsewhere");
    refused(&config, &["asana", "--key", "2"], "has no key \"2\"");
    assert!(!folder.path("secrets/asana").exists());
}

fn a_secret_that_is_there_is_replaced_only_when_that_is_said(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    fs::create_dir(folder.path("secrets")).unwrap();
    let secret = folder.write("secrets/asana", OTHER);
    let (program, config) = started(&folder, driver, &application, "asana");
    program.address();
    refused(&config, &["asana"], "has a secret");
    assert_eq!(program.connect().ask(&asana(PAIRED)).status, 401);
    open(&config, &["asana", "--replace"]);
    assert_eq!(program.connect().ask(&signed(OTHER)).status, 200);
    assert_eq!(program.connect().ask(&asana(PAIRED)).status, 200);
    assert_private(&secret, PAIRED);
    assert_eq!(program.connect().ask(&signed(PAIRED)).status, 200);
    assert_eq!(program.connect().ask(&signed(OTHER)).status, 401);
    application.assert_requests(2);
}

fn what_cannot_be_a_secret_or_cannot_be_stored_is_refused(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let (program, config) = started(&folder, driver, &application, "asana");
    program.address();
    open(&config, &["asana"]);
    for unfit in ["short", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "<script>alert(document.cookie)</script>"] {
        assert_eq!(program.connect().ask(&asana(unfit)).status, 400, "{unfit}");
    }
    // What has come to lie there meanwhile is not overwritten.
    let lain = folder.write("secrets/asana", OTHER);
    assert_eq!(program.connect().ask(&asana(PAIRED)).status, 503);
    program.await_line("cannot be stored");
    assert_private(&lain, OTHER);
    // The window is still open: the operator makes room, and the sender tries again.
    fs::remove_file(&lain).unwrap();
    assert!(eventually(|| program.connect().ask(&asana(PAIRED)).status == 200));
    assert_private(&lain, PAIRED);
    assert_untold(&program, PAIRED);
}
