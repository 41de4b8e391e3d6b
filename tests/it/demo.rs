//! The demo after its table: a line for each request, commands that work, and the status page.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::support::child::BINARY;
use crate::support::{Client, Delivery, Program, eventually};

/// The address behind `before` in what the demo has said.
fn address(program: &Program, before: &str) -> SocketAddr {
    let line = program.await_output(before);
    let rest = line.split(before).nth(1).unwrap();
    let end = rest.find(['/', ' ']).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn the_table_says_what_its_rows_show_and_ends_well() {
    let output = Command::new(BINARY).args(["demo", "--once"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("Everything was as it should be."), "{text}");
    for part in ["What the rows show", "a copy is acknowledged", "an hour old, but no time is signed"] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains("Status page"), "{text}");
}

#[test]
fn each_request_to_the_demo_is_a_line_with_verdict_reason_and_what_to_do() {
    let mut program = Program::start(Command::new(BINARY).arg("demo"));
    program.await_output("The other routes are");
    let (proxy, page) = (address(&program, "proxy on "), address(&program, "Status page: http://"));
    assert_eq!(
        Client::connect(proxy).ask(&Delivery::unsigned(b"{}").line("POST /elsewhere HTTP/1.1").bytes()).status,
        404
    );
    program.await_output("404 route_unknown        POST /elsewhere: No route for this host and path.");
    program.await_output("    what to do: compare host and path with those of the routes");
    // The command that it prints, with what curl would send.
    let line = program.await_output("--route github").replace(" | sh", "").replace("--format curl", "");
    let signed = Command::new("sh").arg("-c").arg(line.split(" | sed").next().unwrap()).output().unwrap();
    let headers = String::from_utf8(signed.stdout).unwrap();
    let deliver = |body: &[u8]| {
        let delivery = Delivery::unsigned(body).line("POST /webhooks/github HTTP/1.1");
        let delivery = headers.lines().fold(delivery, |delivery, line| {
            let (name, value) = line.split_once(": ").unwrap();
            delivery.field(name, value)
        });
        let answer = Client::connect(proxy).ask(&delivery.bytes());
        (answer.status, answer.field("X-Request-Id").unwrap_or_default().to_owned())
    };
    assert_eq!(deliver(b"{\"hello\":\"world\"}").0, 200);
    program.await_output(
        "200 forwarded            POST /webhooks/github: genuine by the key demo, the application got 17 bytes",
    );
    let (status, id) = deliver(b"{\"hello\":\"w0rld\"}");
    assert_eq!(status, 401);
    program.await_output("401 signature_mismatch   POST /webhooks/github: ");
    // The page knows of it, and explains it.
    let get = |path: &str| {
        let answer = Client::connect(page).ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    assert!(get("/").1.contains("<title>countersign"));
    // It is kept when its sender has been answered.
    let path = format!("/captured/{id}/why");
    assert!(eventually(|| get(&path).0 == 200), "{:?}", get(&path));
    let why = get(&path).1;
    assert!(why.contains("scheme: github") && why.contains("what to do: "), "{why}");
    // The numbers of the page are read once a second at most.
    let shows = || {
        let status: Value = serde_json::from_str(&get("/status").1).unwrap();
        status["refusals"].as_array().unwrap().iter().any(|it| it["reason"] == "signature_mismatch")
    };
    assert!(eventually(shows));
    program.signal("INT");
    assert_eq!(program.end().0.code(), Some(0));
}
