//! One signature is one delivery: bytes that move from one signed part to its neighbour make it another one, which is
//! refused. And what a signature may name is bounded.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use ring::hmac;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::application::OK;
use crate::support::delivery::{SECRET, github_signature};
use crate::support::{Application, Delivery, Driver, Proxy, on_both_drivers};

on_both_drivers! {
    an_id_that_takes_over_the_time_and_some_of_the_body,
    a_header_that_takes_over_some_of_the_body,
    a_query_that_takes_over_some_of_the_body,
    a_signature_names_a_few_headers_each_once,
}

fn route(scheme: &str, more: &str) -> String {
    format!(
        "name = \"{scheme}\"\npath = \"/{scheme}\"\nscheme = \"{scheme}\"\n{more}\n\
         secrets = [{{ id = \"k\", value = \"{SECRET}\" }}]"
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn an_id_that_takes_over_the_time_and_some_of_the_body(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route("twitch", "")).replay("{ mode = \"enforce\" }").start();
    let moment = OffsetDateTime::from_unix_timestamp(i64::try_from(now()).unwrap()).unwrap();
    let time = moment.format(&Rfc3339).unwrap();
    let body = format!("{{\"created_at\":\"{time}\",\"x\":1}}");
    let signature = github_signature(SECRET, format!("msg-1{time}{body}").as_bytes());
    let send = |id: &str, body: &str| {
        let delivery = Delivery::unsigned(body.as_bytes())
            .line("POST /twitch HTTP/1.1")
            .field("Twitch-Eventsub-Message-Id", id)
            .field("Twitch-Eventsub-Message-Timestamp", &time)
            .field("Twitch-Eventsub-Message-Signature", &signature);
        proxy.connect().ask(&delivery.bytes()).status
    };
    assert_eq!(send("msg-1", &body), 200);
    assert_eq!(send(&format!("msg-1{time}{{\"created_at\":\""), "\",\"x\":1}"), 401);
    application.assert_requests(1);
    proxy.assert_endings(&["forwarded", "id_malformed"]);
}

/// A delivery of the Coinbase Developer Platform, which names the headers that it signs; `signed` stands after the time.
fn coinbase(names: &str, signed: &str, body: &[u8]) -> Delivery {
    let time = now();
    let signature = github_signature(SECRET, format!("{time}.{names}.{signed}").as_bytes());
    let hex = signature.strip_prefix("sha256=").unwrap();
    Delivery::unsigned(body)
        .line("POST /coinbase-cdp HTTP/1.1")
        .field("X-Hook0-Signature", &format!("t={time},h={names},v1={hex}"))
}

fn a_header_that_takes_over_some_of_the_body(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route("coinbase-cdp", "")).start();
    let ask = |delivery: Delivery| proxy.connect().ask(&delivery.bytes()).status;
    let names = "x-hook0-id content-type";
    let body = "{\"amount\":1.5,\"currency\":\"EUR\"}";
    let delivery = |content_type: &str, body: &str| {
        coinbase(names, "id1.application/json.{\"amount\":1.5,\"currency\":\"EUR\"}", body.as_bytes())
            .field("X-Hook0-Id", "id1")
            .field("Content-Type", content_type)
    };
    assert_eq!(ask(delivery("application/json", body)), 200);
    assert_eq!(ask(delivery("application/json.{\"amount\":1", "5,\"currency\":\"EUR\"}")), 401);
    // The names that are in use today, of whose values one has dots: the dots belong to that one.
    let today = |kind: &str, id: &str| {
        let signed = "application/json.evt_1.onchain.activity.detected.{}";
        coinbase("content-type x-event-id x-event-type", signed, b"{}")
            .field("Content-Type", "application/json")
            .field("X-Event-Id", id)
            .field("X-Event-Type", kind)
    };
    assert_eq!(ask(today("onchain.activity.detected", "evt_1")), 200);
    assert_eq!(ask(today("activity.detected", "evt_1.onchain")), 401);
    application.assert_requests(2);
    proxy.assert_endings(&["forwarded", "content_ambiguous", "forwarded", "content_ambiguous"]);
}

fn a_query_that_takes_over_some_of_the_body(driver: Driver) {
    let application = Application::answering(OK);
    let route = route("square", "public_url = \"https://h.example/square\"");
    let proxy = Proxy::on(driver, &application).route(&route).start();
    let send = |signed: &str, query: &str, body: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = hmac::sign(&key, format!("https://h.example/square{signed}").as_bytes());
        let delivery = Delivery::unsigned(body.as_bytes())
            .line(&format!("POST /square{query} HTTP/1.1"))
            .field("x-square-hmacsha256-signature", &base64::engine::general_purpose::STANDARD.encode(tag));
        proxy.connect().ask(&delivery.bytes()).status
    };
    assert_eq!(send("?t=1{\"event_id\":\"1\"}", "?t=1", "{\"event_id\":\"1\"}"), 200);
    // What Square never sends has no place where it begins.
    for (query, body) in [("?t=1", "a=1&b=2"), ("?t=1a=1&", "b=2"), ("", "?t=1a=1&b=2")] {
        assert_eq!(send("?t=1a=1&b=2", query, body), 401, "{query} {body}");
    }
    assert_eq!(send("?t=1{{}}", "?t=1{", "{}}"), 401);
    application.assert_requests(1);
    let refused = "content_ambiguous";
    proxy.assert_endings(&["forwarded", refused, refused, refused, refused]);
}

fn a_signature_names_a_few_headers_each_once(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route("coinbase-cdp", "")).start();
    let ask = |delivery: Delivery| proxy.connect().ask(&delivery.bytes()).status;
    let named = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("x-{n}")).collect();
        let values = vec!["v"; count].join(".");
        let delivery = coinbase(&names.join(" "), &format!("{values}.{{}}"), b"{}");
        names.iter().fold(delivery, |delivery, name| delivery.field(name, "v"))
    };
    assert_eq!(ask(named(32)), 200);
    assert_eq!(ask(named(33)), 401);
    let twice = coinbase("a A", "v.v.{}", b"{}").field("a", "v");
    assert_eq!(ask(twice), 401);
    // 1,300 names, and options of Connection that would each be compared with all of them.
    let names: Vec<String> = (0..1300).map(|n| format!("{}{}", char::from(b'a' + n as u8 % 26), n % 10)).collect();
    let many = coinbase(&names.join(" "), "{}", b"{}").field("Connection", &vec!["z"; 30].join(","));
    assert_eq!(ask(many), 401);
    application.assert_requests(1);
    let refused = "content_unavailable";
    proxy.assert_endings(&["forwarded", refused, refused, refused]);
}
