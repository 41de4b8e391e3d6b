//! What the application is told in the head: what came, what we vouch for, and nothing that a client can forge.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::application::OK;
use crate::support::delivery::{SECRET, github_signature, standard_signature};
use crate::support::{Application, Delivery, Driver, Proxy, noise, on_both_drivers};

on_both_drivers! {
    forwarding_headers_are_ours,
    verdict_headers_cannot_be_forged,
    verdicts_of_signed_ids_and_timestamps,
    hop_by_hop_headers_end_here,
    other_headers_arrive_as_they_were_written,
    a_head_that_outgrows_its_place_arrives_all_the_same,
    loops_are_seen,
}

fn forwarding_headers_are_ours(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let delivery = Delivery::of(b"{}")
        .host(Some("hooks.example:8443"))
        .field("X-Forwarded-For", "6.6.6.6")
        .field("x-forwarded-proto", "gopher")
        .field("X-FORWARDED-HOST", "evil.example")
        .field("X-Forwarded-Port", "1")
        .field("Forwarded", "for=6.6.6.6")
        .field("X-Request-Id", "mine")
        .field("Via", "1.1 elsewhere");
    assert_eq!(proxy.connect().ask(&delivery.bytes()).status, 200);
    let request = application.assert_requests(1).pop().unwrap();
    assert_eq!(request.field("Host"), "hooks.example:8443");
    assert_eq!(request.field("X-Forwarded-For"), "127.0.0.1");
    assert_eq!(request.field("X-Forwarded-Proto"), "http");
    assert_eq!(request.field("X-Forwarded-Host"), "hooks.example:8443");
    assert!(request.all("Forwarded").is_empty() && request.all("X-Forwarded-Port").is_empty());
    assert!(!request.field("X-Request-Id").contains("mine") && !request.field("X-Request-Id").is_empty());
    let via = request.all("Via");
    assert_eq!(via[0], "1.1 elsewhere");
    assert!(via.len() == 2 && via[1].starts_with("1.1 countersign-"), "{via:?}");
}

fn verdict_headers_cannot_be_forged(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let mut delivery = Delivery::of(b"{}");
    for name in [
        "X-Countersign-Route",
        "x-countersign-key-id",
        "X_Countersign_Scheme",
        "x_countersign-Delivery_Id",
        "X-Countersign",
        "X-COUNTERSIGN-ANYTHING",
        "X-Countersign_Timestamp",
    ] {
        delivery = delivery.field(name, "forged");
    }
    assert_eq!(proxy.connect().ask(&delivery.bytes()).status, 200);
    let request = application.assert_requests(1).pop().unwrap();
    assert!(request.fields.iter().all(|(_, value)| value != "forged"), "{:?}", request.fields);
    assert_eq!(request.field("X-Countersign-Route"), "hook");
    assert_eq!(request.field("X-Countersign-Scheme"), "github");
    assert_eq!(request.field("X-Countersign-Key-Id"), "current");
    // GitHub signs neither an id nor a timestamp: there is nothing to vouch for.
    assert!(request.all("X-Countersign-Delivery-Id").is_empty() && request.all("X-Countersign-Timestamp").is_empty());
    // Other headers of ours cannot be had in another spelling either.
    for name in ["X_Forwarded_For", "X-Request_Id", "Content_Length", "transfer_encoding", "x_forwarded_client_cert"] {
        let answer = proxy.connect().ask(&Delivery::of(b"{}").field(name, "1").bytes());
        assert_eq!(answer.status, 400, "{name}");
    }
    application.assert_requests(1);
}

fn verdicts_of_signed_ids_and_timestamps(driver: Driver) {
    let application = Application::answering(OK);
    let route = "name = \"svix\"\npath = \"/svix\"\nscheme = \"standard-webhooks\"\n\
                 secrets = [{ id = \"k1\", value = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\" }]";
    let proxy = Proxy::on(driver, &application).route(route).start();
    let key = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let delivery = |timestamp: u64| {
        Delivery::unsigned(b"{\"a\":1}")
            .line("POST /svix?x=1 HTTP/1.1")
            .field("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")
            .field("webhook-timestamp", &timestamp.to_string())
            .field(
                "webhook-signature",
                &standard_signature(&key, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", timestamp, b"{\"a\":1}"),
            )
    };
    for stale in [now - 3600, now + 3600] {
        assert_eq!(proxy.connect().ask(&delivery(stale).bytes()).status, 401);
    }
    proxy.assert_endings(&["timestamp_stale", "timestamp_future"]);
    application.assert_saw_nothing("stale");
    assert_eq!(proxy.connect().ask(&delivery(now).bytes()).status, 200);
    let request = application.assert_requests(1).pop().unwrap();
    assert_eq!(request.line, "POST /svix?x=1 HTTP/1.1");
    assert_eq!(request.field("X-Countersign-Route"), "svix");
    assert_eq!(request.field("X-Countersign-Scheme"), "standard-webhooks");
    assert_eq!(request.field("X-Countersign-Key-Id"), "k1");
    assert_eq!(request.field("X-Countersign-Delivery-Id"), "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W");
    assert_eq!(request.field("X-Countersign-Timestamp"), now.to_string());
    assert_eq!(request.field("webhook-timestamp"), now.to_string());

    // Observed, it passes and is noted.
    let proxy = Proxy::on(driver, &application).route(&format!("{route}\nobserve = [\"tolerance\"]")).start();
    assert_eq!(proxy.connect().ask(&delivery(now - 3600).bytes()).status, 200);
    proxy.assert_endings(&["forwarded"]);
    assert_eq!(proxy.observed(), ["timestamp_stale"]);
}

fn hop_by_hop_headers_end_here(driver: Driver) {
    let application = Application::answering(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-App: y\r\n\
          Upgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    );
    let proxy = Proxy::on(driver, &application).start();
    let delivery = Delivery::of(b"{}")
        .field("Connection", "keep-alive, X-Hop, Upgrade")
        .field("X-Hop", "1")
        .field("Keep-Alive", "timeout=5")
        .field("Proxy-Connection", "keep-alive")
        .field("Proxy-Authorization", "Basic eA==")
        .field("TE", "trailers")
        .field("Trailer", "X-Sum")
        .field("Upgrade", "h2c")
        .field("X-Kept", "1");
    let answer = proxy.connect().ask(&delivery.bytes());
    assert_eq!((answer.status, answer.field("X-App")), (200, Some("y")));
    for name in ["Connection", "X-Hop", "Keep-Alive", "Upgrade"] {
        assert!(answer.all(name).is_empty(), "{name}");
    }
    let request = application.assert_requests(1).pop().unwrap();
    assert_eq!(request.field("X-Kept"), "1");
    let ended =
        ["Connection", "X-Hop", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer", "Upgrade"];
    for name in ended {
        assert!(request.all(name).is_empty(), "{name}");
    }
}

fn other_headers_arrive_as_they_were_written(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let delivery = Delivery::of(b"{}")
        .line("POST /hook?a=/../b&c=%2e%2e HTTP/1.1")
        .field("x-MIXED-Case", "a  b,;\"c\"")
        .field("X-Twice", "1")
        .field("Content-Type", "application/json; charset=utf-8")
        .field("X-Twice", "2")
        .field("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
        .field("Under_score", "yes")
        .field("Empty", "");
    let mut bytes = delivery.bytes();
    // Bytes beyond ASCII are passed on as they are: only the application interprets them.
    let at = memchr::memmem::find(&bytes, b"a  b").unwrap();
    bytes[at + 1] = 0xff;
    assert_eq!(proxy.connect().ask(&bytes).status, 200);
    let request = application.assert_requests(1).pop().unwrap();
    assert_eq!(request.line, "POST /hook?a=/../b&c=%2e%2e HTTP/1.1");
    let kept: Vec<_> = request.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let signature = github_signature(SECRET, b"{}");
    for field in [
        ("X-Hub-Signature-256", signature.as_str()),
        ("x-MIXED-Case", "a\u{ff} b,;\"c\""),
        ("Content-Type", "application/json; charset=utf-8"),
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("Under_score", "yes"),
        ("Empty", ""),
    ] {
        assert!(kept.contains(&field), "{field:?} in {kept:?}");
    }
    assert_eq!(request.all("X-Twice"), ["1", "2"]);
}

/// The new head stands where the old one was, in front of the body; one that has no room there travels apart.
fn a_head_that_outgrows_its_place_arrives_all_the_same(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let host = ["long-label"; 400].join(".");
    let body = noise(20_000);
    let mut client = proxy.connect();
    let pipelined = [Delivery::of(&body).host(Some(&host)).bytes(), Delivery::of(b"next").bytes()].concat();
    client.send(&pipelined);
    assert_eq!((client.answer().status, client.answer().status), (200, 200));
    let requests = application.assert_requests(2);
    assert!(requests[0].body == body && requests[0].field("X-Forwarded-Host") == host);
    assert_eq!(requests[1].body, b"next");
}

fn loops_are_seen(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
    let via = application.requests().pop().unwrap().field("Via").to_owned();
    assert_eq!(client.ask(&Delivery::of(b"{}").field("Via", "1.1 countersign-other").bytes()).status, 200);
    let answer = client.ask(&Delivery::of(b"{}").field("Via", &format!("1.1 a, {via}")).bytes());
    assert_eq!((answer.status, answer.closes()), (508, true));
    proxy.assert_endings(&["forwarded", "forwarded", "loop_detected"]);
    application.assert_requests(2);
}
