//! Fields by which applications believe who called or what was asked: a genuine delivery does not carry them to the
//! application, unless they are true, signed, or kept by the operator.

use crate::support::application::{OK, Request};
use crate::support::delivery::SECRET;
use crate::support::proxy::Plan;
use crate::support::{Application, Client, Delivery, Driver, Proxy, on_both_drivers};

on_both_drivers! {
    words_of_a_sender_do_not_reach_the_application,
    other_spellings_of_judged_headers_are_refused,
    an_address_reaches_it_where_it_is_true,
    a_trusted_proxy_does_not_vouch_for_what_it_may_not_know,
    what_is_kept_arrives_as_it_came_until_a_reload,
    what_the_signature_covers_arrives,
}

/// Every one of them, as strangers and unsuspecting senders write them.
const WORDS: &[(&str, &str)] = &[
    ("X-Real-IP", "6.6.6.6"),
    ("x_real_ip", "6.6.6.6"),
    ("True-Client-IP", "6.6.6.6"),
    ("CF-Connecting-IP", "6.6.6.6"),
    ("Fastly-Client-IP", "6.6.6.6"),
    ("X-Client-IP", "6.6.6.6"),
    ("X-Cluster-Client-IP", "6.6.6.6"),
    ("Client-Ip", "6.6.6.6"),
    ("X-Original-Forwarded-For", "6.6.6.6"),
    ("Forwarded-For", "6.6.6.6"),
    ("X-Forwarded", "for=6.6.6.6"),
    ("Forwarded", "for=6.6.6.6;host=evil.example"),
    ("X-Original-URL", "/evil"),
    ("X-Original-URI", "/evil"),
    ("X-Rewrite-URL", "/evil"),
    ("X-Original-Host", "evil.example"),
    ("X-Host", "evil.example"),
    ("X-HTTP-Host-Override", "evil.example"),
    ("Script-Name", "/evil"),
    ("SCRIPT_NAME", "/evil"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X_HTTP_METHOD_OVERRIDE", "DELETE"),
    ("X-HTTP-Method", "DELETE"),
    ("X-Method-Override", "DELETE"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Server", "evil.example"),
    ("X-Forwarded-User", "root"),
    ("X-Forwarded-Client-Cert", "evil"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Ssl", "on"),
    ("Front-End-Https", "on"),
    ("X-Url-Scheme", "https"),
    ("X-SSL-Client-Verify", "SUCCESS"),
    ("X-SSL-Client-S-DN", "CN=root"),
    ("SSL-Client-Cert", "evil"),
    ("SSL_CLIENT_VERIFY", "SUCCESS"),
    ("X-Client-Cert", "evil"),
    ("Client-Cert", ":ZXZpbA==:"),
    ("X-ARR-ClientCert", "evil"),
    ("Remote-User", "root"),
    ("X-Remote-User", "root"),
    ("X-Auth-Request-Email", "root@evil.example"),
    ("Proxy", "http://evil.example:80"),
    ("X-Sendfile-Type", "X-Accel-Redirect"),
    ("X-Middleware-Subrequest", "middleware:middleware"),
    ("X-Matched-Path", "/evil"),
    ("X-Invoke-Path", "/evil"),
    ("X-Invoke-Query", "evil"),
    ("X-Now-Route-Matches", "1=evil"),
    ("Cdn-Src-Ip", "6.6.6.6"),
    ("X-Cdn-Src-Ip", "6.6.6.6"),
    ("Cdn-Real-Ip", "6.6.6.6"),
    ("Ali-CDN-Real-IP", "6.6.6.6"),
    ("X-True-IP", "6.6.6.6"),
    ("X-Trusted-IP", "6.6.6.6"),
    ("X-From-Ip", "6.6.6.6"),
    ("X-Coming-From", "6.6.6.6"),
    ("X-Forward-For", "6.6.6.6"),
    ("X-Envoy-Original-Host", "evil.example"),
    ("X-Envoy-Original-Method", "DELETE"),
    ("X-Envoy-Internal", "true"),
    ("X-Original-Prefix", "/evil"),
    ("X-Request-Uri", "/evil"),
    ("Request-Uri", "/evil"),
    ("X-Real-Host", "evil.example"),
    ("X-Originating-Host", "evil.example"),
    ("X-Gateway-Host", "evil.example"),
    ("X-Backend-Host", "evil.example"),
    ("Base-Url", "http://evil.example"),
    ("X-Method", "DELETE"),
    ("HTTPS", "on"),
    ("X-Https", "on"),
    ("X-Appengine-Https", "on"),
    ("X-Authenticated-User", "root"),
    ("X-User", "root"),
    ("X-Token-Subject", "root"),
    ("X-Accel-Redirect", "/evil"),
    ("X-Real--IP", "6.6.6.6"),
    ("X__Real__IP", "6.6.6.6"),
    ("X-Real-IP_", "6.6.6.6"),
    ("-X-Real-IP", "6.6.6.6"),
    ("Remote--User", "root"),
    ("Remote-User-", "root"),
    ("X--SSL-Client-Verify", "SUCCESS"),
    ("X-Original-URL_", "/evil"),
    ("X--Countersign-Verified", "true"),
];

/// Spellings of headers that are judged or set on the way: an application that folds names would read them instead.
const REFUSED: &[&str] = &[
    "Content-Length_",
    "Content--Length",
    "Transfer-Encoding_",
    "Transfer_Encoding",
    "Host_",
    "_Host",
    "X_Forwarded_For",
    "X-Forwarded--For",
    "X-Request-Id-",
    "X-Hub--Signature-256",
    "X-Hub-Signature-256_",
];

fn with(fields: &[(&str, &str)]) -> Delivery {
    fields.iter().fold(Delivery::of(b"{}"), |delivery, (name, value)| delivery.field(name, value))
}

/// Which of these fields the application got.
fn arrived<'w>(request: &Request, words: &[(&'w str, &str)]) -> Vec<&'w str> {
    let came = |(name, value): &&(&str, &str)| request.all(name).contains(value);
    words.iter().filter(came).map(|(name, _)| *name).collect()
}

fn from(source: [u8; 4], proxy: &Proxy) -> Client {
    Client::connect_from(source, proxy.addresses()[0])
}

fn trusting(driver: Driver, application: &Application) -> Plan {
    Proxy::on(driver, application).listener_line("trusted_proxies = [\"127.0.1.0/24\"]")
}

fn words_of_a_sender_do_not_reach_the_application(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    // Names that fold into one that we set ourselves are no requests at all; all others are.
    assert_eq!(proxy.connect().ask(&with(WORDS).bytes()).status, 200);
    assert_eq!(arrived(&application.assert_requests(1)[0], WORDS), Vec::<&str>::new());
    let plain =
        [("X-GitHub-Event", "push"), ("X-Client-Id", "7"), ("User-Agent", "x"), ("X-Original", "1"), ("X-SSLs", "1")];
    assert_eq!(proxy.connect().ask(&with(&plain).bytes()).status, 200);
    assert_eq!(arrived(&application.assert_requests(2)[1], &plain).len(), plain.len());
}

fn other_spellings_of_judged_headers_are_refused(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    for name in REFUSED {
        assert_eq!(proxy.connect().ask(&with(&[(name, "1")]).bytes()).status, 400, "{name}");
    }
    application.assert_requests(0);
}

fn an_address_reaches_it_where_it_is_true(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application).start();
    let words = [("X-Real-IP", "203.0.113.1"), ("CF-Connecting-IP", "203.0.113.1"), ("True-Client-IP", "6.6.6.6")];
    // A proxy that is trusted, whose list agrees.
    let delivery = with(&words).field("X-Forwarded-For", "6.6.6.6, 203.0.113.1");
    assert_eq!(from([127, 0, 1, 1], &proxy).ask(&delivery.bytes()).status, 200);
    // The same words from a stranger, and one of them that is true.
    let delivery = delivery.field("Client-IP", "127.0.2.1");
    assert_eq!(from([127, 0, 2, 1], &proxy).ask(&delivery.bytes()).status, 200);
    // A proxy that contradicts itself is not believed.
    let delivery = with(&words).field("X-Forwarded-For", "203.0.113.1").field("Forwarded", "for=203.0.113.2");
    assert_eq!(from([127, 0, 1, 1], &proxy).ask(&delivery.bytes()).status, 200);
    let requests = application.assert_requests(3);
    assert_eq!(arrived(&requests[0], &words), ["X-Real-IP", "CF-Connecting-IP"]);
    assert_eq!(arrived(&requests[1], &words), Vec::<&str>::new());
    assert_eq!(requests[1].field("Client-IP"), "127.0.2.1");
    assert_eq!(arrived(&requests[2], &words), Vec::<&str>::new());
}

fn a_trusted_proxy_does_not_vouch_for_what_it_may_not_know(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application).start();
    // `Forwarded` would contradict the list.
    let words: Vec<_> = WORDS.iter().filter(|(name, _)| *name != "Forwarded").copied().collect();
    let delivery = with(&words).field("X-Forwarded-For", "203.0.113.1").field("X-Forwarded-Host", "public.example");
    assert_eq!(from([127, 0, 1, 1], &proxy).ask(&delivery.bytes()).status, 200);
    let request = &application.assert_requests(1)[0];
    assert_eq!(arrived(request, &words), Vec::<&str>::new());
    assert_eq!(request.field("X-Forwarded-Host"), "public.example");
}

fn what_is_kept_arrives_as_it_came_until_a_reload(driver: Driver) {
    let application = Application::answering(OK);
    let keeping = |names: &str| Proxy::on(driver, &application).route_line(&format!("keep_headers = [{names}]"));
    let mut proxy = keeping("\"x-real-ip\", \"X-SSL-Client-Verify\", \"Forwarded\", \"X-Forwarded-Port\"").start();
    let mut client = proxy.connect();
    let kept = ["X-Real-IP", "Forwarded", "X-Forwarded-Port", "X-SSL-Client-Verify"];
    assert_eq!(client.ask(&with(WORDS).bytes()).status, 200);
    assert_eq!(arrived(&application.assert_requests(1)[0], WORDS), kept);
    let applied = proxy.apply(&keeping("\"X-Rewrite-URL\""));
    drop(applied);
    assert_eq!(client.ask(&with(WORDS).bytes()).status, 200);
    assert_eq!(arrived(&application.assert_requests(2)[1], WORDS), ["X-Rewrite-URL"]);
}

/// The scheme reads one of these names, and the signature of another delivery covers one.
fn what_the_signature_covers_arrives(driver: Driver) {
    let application = Application::answering(OK);
    let scheme = "name = \"own\"\npath = \"/own\"\nscheme = \"own\"\n\
                  secrets = [{ id = \"a\", value = \"correct-horse-battery-staple-0123456789\" }]\n\
                  [scheme.own]\nalgorithm = \"hmac-sha256\"\ncontent = \"{header:X-Original-URL}\\n{body}\"\n\
                  signature = { header = \"X-Signature\", encoding = \"hex\" }\n[[route]]\n\
                  path = \"/last\"\nscheme = \"none\"";
    let proxy = Proxy::on(driver, &application).route(scheme).start();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, b"/signed\n{}");
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let delivery = Delivery::unsigned(b"{}")
        .line("POST /own HTTP/1.1")
        .field("X-Original-URL", "/signed")
        .field("X-Signature", &hex)
        .field("X-Rewrite-URL", "/unsigned");
    assert_eq!(proxy.connect().ask(&delivery.bytes()).status, 200);
    let request = &application.assert_requests(1)[0];
    assert_eq!(request.field("X-Original-URL"), "/signed");
    assert!(request.all("X-Rewrite-URL").is_empty());
    // Another spelling of it is a twin of a signed header.
    assert_eq!(proxy.connect().ask(&delivery.field("X_Original_URL", "/evil").bytes()).status, 400);
}
