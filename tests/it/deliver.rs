//! What is genuine arrives, byte for byte, and what is not does not; on both drivers.

use crate::support::application::OK;
use crate::support::delivery::{OLDER_SECRET, SECRET, github_signature};
use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Driver, Proxy, noise, on_both_drivers};

on_both_drivers! {
    genuine_bodies_of_every_size_arrive_unchanged,
    chunks_of_odd_sizes_arrive_as_one_body,
    a_head_may_come_byte_by_byte,
    forged_deliveries_reach_no_application,
    a_connection_serves_many_deliveries,
    pipelined_deliveries_are_answered_in_order,
    a_client_that_waits_is_invited_once_its_head_is_admitted,
    no_client_is_invited_to_send_what_is_refused_anyway,
    http_1_0_clients_are_served,
    head_requests_have_no_body,
    any_method_may_have_a_body,
    connection_close_is_honoured,
    unix_socket_upstream,
    listeners_and_routes_have_their_own_upstreams,
    keys_rotate,
    keys_outside_their_validity_do_not_count,
    unknown_paths_and_methods,
    concurrent_deliveries_do_not_mix,
    an_upstream_may_be_named,
    a_client_that_goes_leaves_nothing_behind,
}

fn genuine_bodies_of_every_size_arrive_unchanged(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).limit("body_size = \"2MiB\"").start();
    for (position, size) in [0, 1, 256, 5 << 10, 64 << 10, 1 << 20].into_iter().enumerate() {
        let body = noise(size);
        let answer = proxy.connect().ask(&Delivery::of(&body).bytes());
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]), "{size}");
        let arrived = application.assert_requests(position + 1).pop().unwrap();
        assert!(arrived.body == body, "{size} bytes arrive unchanged");
        assert_eq!(arrived.field("Content-Length"), size.to_string());
    }
}

fn chunks_of_odd_sizes_arrive_as_one_body(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).limit("body_size = \"2MiB\"").start();
    let mut client = proxy.connect();
    for (size, chunks) in [
        (0, &[][..]),
        (1, &[1][..]),
        (256, &[1; 255][..]),
        (5 << 10, &[7, 1000, 1, 4000][..]),
        (64 << 10, &[1 << 10, 65, 30_000][..]),
        (1 << 20, &[500_000, 1][..]),
    ] {
        let body = noise(size);
        let answer = client.ask(&Delivery::of(&body).chunked(chunks).bytes());
        assert_eq!(answer.status, 200, "{size}");
        let arrived = application.requests().pop().unwrap();
        assert!(arrived.body == body, "{size} bytes arrive unchanged");
        assert_eq!(arrived.field("Content-Length"), size.to_string());
        assert!(arrived.all("Transfer-Encoding").is_empty());
    }
}

fn a_head_may_come_byte_by_byte(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    for delivery in [Delivery::of(b"{}"), Delivery::of(b"hello").chunked(&[2])] {
        let mut client = proxy.connect();
        for byte in delivery.bytes() {
            client.send(&[byte]);
        }
        assert_eq!(client.answer().status, 200);
    }
    let bodies: Vec<_> = application.assert_requests(2).into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"{}".to_vec(), b"hello".to_vec()]);
}

fn forged_deliveries_reach_no_application(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let signature = github_signature(SECRET, b"body");
    let unsigned = Delivery::unsigned(b"body");
    let deliveries = [
        (Delivery::forged(b"body"), "signature_mismatch"),
        (Delivery::forged(b"body").chunked(&[1]), "signature_mismatch"),
        (Delivery::signed_with("another-secret-of-another-route-0123", b"body"), "signature_mismatch"),
        (unsigned.clone(), "signature_missing"),
        (unsigned.clone().field("X-Hub-Signature-256", ""), "signature_missing"),
        (unsigned.clone().field("X-Hub-Signature-256", "sha256=00"), "signature_malformed"),
        (unsigned.clone().field("X-Hub-Signature-256", &signature.replace("sha256", "sha1")), "signature_malformed"),
        (Delivery::of(b"body").field("X-Hub-Signature-256", &signature), "signature_duplicate"),
        (unsigned.field("X_Hub_Signature_256", &signature), "header_reserved"),
    ];
    let mut refusals = Vec::new();
    for (delivery, reason) in deliveries {
        let answer = proxy.connect().ask(&delivery.bytes());
        assert_eq!(answer.status, if reason == "header_reserved" { 400 } else { 401 }, "{reason}");
        refusals.push(reason);
        proxy.assert_endings(&refusals);
    }
    application.assert_saw_nothing("forged");
}

fn a_connection_serves_many_deliveries(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    for round in 0..20_u8 {
        let body = noise(usize::from(round) * 100 + 1);
        let answer = client.ask(&Delivery::of(&body).bytes());
        assert_eq!((answer.status, answer.closes()), (200, false));
        let answer = client.ask(&Delivery::forged(&body).bytes());
        assert_eq!((answer.status, answer.closes()), (401, false));
    }
    let requests = application.assert_requests(20);
    assert!(requests.iter().all(|request| request.connection == 0), "one connection to the application suffices");
}

fn pipelined_deliveries_are_answered_in_order(driver: Driver) {
    let application = echo();
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    let input: Vec<u8> = [
        Delivery::of(b"first"),
        Delivery::forged(b"second"),
        Delivery::of(&noise(30_000)).chunked(&[9999]),
        Delivery::of(b"").line("POST /nowhere HTTP/1.1"),
        Delivery::of(b"last"),
    ]
    .iter()
    .flat_map(Delivery::bytes)
    .collect();
    client.send(&input);
    let answers: Vec<_> = (0..5).map(|_| client.answer()).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 401, 200, 404, 200]);
    assert_eq!((&answers[0].body[..], &answers[4].body[..]), (&b"first"[..], &b"last"[..]));
    assert!(answers[2].body == noise(30_000));
    application.assert_requests(3);
}

fn a_client_that_waits_is_invited_once_its_head_is_admitted(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    for delivery in [Delivery::of(b"hello"), Delivery::of(b"hello").chunked(&[1])] {
        let delivery = delivery.field("Expect", "100-continue");
        let mut client = proxy.connect();
        client.send(&delivery.head()).expect(b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.ask(&delivery.framed_body()).status, 200);
        // A client that does not wait gets no invitation.
        assert_eq!(client.ask(&delivery.bytes()).status, 200);
    }
    assert!(application.assert_requests(4).iter().all(|request| request.all("Expect").is_empty()));
}

fn no_client_is_invited_to_send_what_is_refused_anyway(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).limit("body_size = \"100B\"").start();
    for (delivery, status) in [
        (Delivery::of(b"hello").line("POST /nowhere HTTP/1.1"), 404),
        (Delivery::of(b"hello").line("GET /hook HTTP/1.1"), 405),
        (Delivery::unsigned(b"hello"), 401),
        (Delivery::unsigned(b"hello").field("X-Hub-Signature-256", "sha256=1"), 401),
        (Delivery::of(&noise(101)), 413),
    ] {
        let mut client = proxy.connect();
        let answer = client.ask(&delivery.field("Expect", "100-continue").head());
        assert_eq!((answer.status, answer.closes()), (status, true));
        client.assert_closed();
    }
    for delivery in [Delivery::of(b"hello"), Delivery::of(b"hello").chunked(&[]), Delivery::of(b"").without_framing()] {
        let answer = proxy.connect().ask(&delivery.field("Expect", "200-ok").head());
        assert_eq!((answer.status, answer.closes()), (417, true));
    }
    application.assert_saw_nothing("refused");
}

fn http_1_0_clients_are_served(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let delivery = Delivery::of(b"hello").line("POST /hook HTTP/1.0");
    let mut client = proxy.connect();
    let answer = client.ask(&delivery.bytes());
    assert_eq!((answer.status, answer.closes()), (200, true));
    client.assert_closed();
    let mut client = proxy.connect();
    let kept = delivery.clone().field("Connection", "keep-alive");
    let answer = client.ask(&kept.bytes());
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("keep-alive")));
    assert_eq!(client.ask(&delivery.clone().host(None).bytes()).status, 200, "HTTP/1.0 may do without Host");
    // There is no 100 in HTTP/1.0: the expectation is ignored, and the body is waited for.
    let mut client = proxy.connect();
    let expecting = delivery.field("Expect", "100-continue");
    client.send(&expecting.head()).send(&expecting.framed_body());
    assert_eq!(client.answer().status, 200);
    let requests = application.assert_requests(4);
    assert!(requests.iter().all(|request| request.line == "POST /hook HTTP/1.1"));
    assert!(requests[0].field("Via").starts_with("1.0 countersign-"));
}

fn head_requests_have_no_body(driver: Driver) {
    let application = Application::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nX-App: y\r\n\r\n");
    let proxy = Proxy::on(driver, &application).route_line("methods = [\"HEAD\", \"POST\"]").start();
    let mut client = proxy.connect();
    let head = Delivery::of(b"").without_framing();
    for _ in 0..2 {
        let answer = client.send(&head.clone().line("HEAD /hook HTTP/1.1").bytes()).answer_to_head();
        assert_eq!((answer.status, answer.field("Content-Length")), (200, Some("5000")));
        assert_eq!(answer.field("X-App"), Some("y"));
    }
    for (line, status) in [("HEAD /nowhere HTTP/1.1", 404), ("HEAD /hook HTTP/1.1", 401)] {
        let unsigned = Delivery::unsigned(b"").without_framing().line(line);
        assert_eq!(client.send(&unsigned.bytes()).answer_to_head().status, status);
    }
    let requests = application.assert_requests(2);
    assert!(requests.iter().all(|request| request.line == "HEAD /hook HTTP/1.1"));
    assert!(requests.iter().all(|request| request.all("Content-Length").is_empty()), "no body, no word about it");
}

fn any_method_may_have_a_body(driver: Driver) {
    let application = Application::answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    let methods = ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "QUERY"];
    let proxy = Proxy::on(driver, &application).route_line(&format!("methods = {methods:?}")).start();
    let mut client = proxy.connect();
    for method in methods {
        let delivery = Delivery::of(b"GET / HTTP/1.1\r\n\r\n").line(&format!("{method} /hook HTTP/1.1"));
        assert_eq!(client.ask(&delivery.bytes()).status, 204, "{method}");
        assert_eq!(client.ask(&delivery.chunked(&[3]).bytes()).status, 204, "{method}");
    }
    for (position, request) in application.assert_requests(14).into_iter().enumerate() {
        assert_eq!(request.line, format!("{} /hook HTTP/1.1", methods[position / 2]));
        assert_eq!(request.body, b"GET / HTTP/1.1\r\n\r\n");
    }
}

fn connection_close_is_honoured(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    for value in ["close", "Close", "keep-alive, close"] {
        let mut client = proxy.connect();
        let answer = client.ask(&Delivery::of(b"hello").field("Connection", value).bytes());
        assert_eq!((answer.status, answer.closes()), (200, true), "{value}");
        client.assert_closed();
    }
    let mut client = proxy.connect();
    client.send(&Delivery::of(b"hello").bytes()).stop_talking();
    assert_eq!(client.answer().status, 200, "a client that says that it is done still gets its answer");
    client.assert_closed();
}

fn unix_socket_upstream(driver: Driver) {
    let folder = Folder::new();
    let application = Application::on_unix_socket(&folder.path("app.sock"));
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    for size in [1, 300_000] {
        let body = noise(size);
        assert_eq!(client.ask(&Delivery::of(&body).bytes()).status, 200);
        assert!(application.requests().pop().unwrap().body == body);
    }
    assert_eq!(application.connections(), 1);
}

fn listeners_and_routes_have_their_own_upstreams(driver: Driver) {
    let (first, second) = (Application::answering(OK), Application::answering(OK));
    let route = format!(
        "path = \"/tenants/{{tenant}}/hook\"\nscheme = \"github\"\nupstream = \"{}\"\n\
         secrets = [{{ id = \"1\", value = \"{OLDER_SECRET}\" }}]",
        second.address()
    );
    let proxy = Proxy::on(driver, &first).route(&route).listeners(2).start();
    let addresses = proxy.addresses().to_vec();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let mut client = Client::connect(address);
        assert_eq!(client.ask(&Delivery::of(b"to the first").bytes()).status, 200);
        let delivery = Delivery::signed_with(OLDER_SECRET, b"to the second").line("POST /tenants/a/hook HTTP/1.1");
        assert_eq!(client.ask(&delivery.bytes()).status, 200);
        // The current key of one route is no key of the other.
        let crossed = Delivery::of(b"to the second").line("POST /tenants/a/hook HTTP/1.1");
        assert_eq!(client.ask(&crossed.bytes()).status, 401);
    }
    assert!(first.assert_requests(2).iter().all(|request| request.body == b"to the first"));
    let requests = second.assert_requests(2);
    assert!(requests.iter().all(|request| request.field("X-Countersign-Route") == "tenants-tenant-hook"));
}

fn keys_rotate(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    for (secret, key) in [(SECRET, "current"), (OLDER_SECRET, "older"), (SECRET, "current")] {
        let body = noise(9000);
        assert_eq!(client.ask(&Delivery::signed_with(secret, &body).chunked(&[1000]).bytes()).status, 200);
        assert_eq!(application.requests().pop().unwrap().field("X-Countersign-Key-Id"), key);
    }
}

fn keys_outside_their_validity_do_not_count(driver: Driver) {
    let application = Application::answering(OK);
    let keys =
        |keys: &str| format!("path = \"/{}\"\nscheme = \"github\"\nsecrets = [{keys}]", keys.contains("current"));
    let expired = format!("{{ id = \"older\", value = \"{OLDER_SECRET}\", not_after = 2020-01-01T00:00:00Z }}");
    let current = format!("{{ id = \"current\", value = \"{SECRET}\" }}");
    let proxy =
        Proxy::on(driver, &application).route(&keys(&expired)).route(&keys(&format!("{expired}, {current}"))).start();
    let mut client = proxy.connect();
    let delivery = Delivery::signed_with(OLDER_SECRET, b"{}");
    assert_eq!(client.ask(&delivery.clone().line("POST /false HTTP/1.1").bytes()).status, 401);
    assert_eq!(client.ask(&delivery.line("POST /true HTTP/1.1").bytes()).status, 401);
    application.assert_saw_nothing("expired");
    assert_eq!(client.ask(&Delivery::of(b"{}").line("POST /true HTTP/1.1").bytes()).status, 200);
    proxy.assert_endings(&["key_inactive", "signature_mismatch", "forwarded"]);
}

fn unknown_paths_and_methods(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    for path in ["/", "/hook/", "/Hook", "/hook,a", "/hoo"] {
        let answer = client.ask(&Delivery::of(b"{}").line(&format!("POST {path} HTTP/1.1")).bytes());
        assert_eq!((answer.status, answer.closes()), (404, false), "{path}");
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
    }
    let answer = client.ask(&Delivery::of(b"{}").line("PUT /hook HTTP/1.1").bytes());
    assert_eq!((answer.status, answer.field("Allow")), (405, Some("POST")));
    assert_eq!(client.ask(&Delivery::of(b"{}").line("post /hook HTTP/1.1").bytes()).status, 405);
    application.assert_saw_nothing("no route");
    assert_eq!(client.ask(&Delivery::of(b"{}").line("POST http://hooks.example/hook HTTP/1.1").bytes()).status, 200);
    assert_eq!(application.assert_requests(1)[0].line, "POST /hook HTTP/1.1");
}

/// Answers with the body of the request.
fn echo() -> Application {
    Application::following(|visit| {
        while let Some(request) = visit.request() {
            visit.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).as_bytes());
            visit.say(&request.body);
        }
    })
}

fn concurrent_deliveries_do_not_mix(driver: Driver) {
    let application = echo();
    let proxy = Proxy::on(driver, &application).workers(2).start();
    let address = proxy.addresses()[0];
    let client = |number: usize| {
        move || {
            let mut client = Client::connect(address);
            for round in 0..40 {
                let size = (number * 997 + round * 4999) % 40_000;
                let body = [format!("{number} {round} ").as_bytes(), &noise(size)].concat();
                if round % 3 == number % 3 {
                    assert_eq!(client.ask(&Delivery::forged(&body).bytes()).status, 401);
                }
                let delivery = Delivery::of(&body);
                let delivery = if round % 2 == 0 { delivery.chunked(&[round * 100 + 1]) } else { delivery };
                let answer = client.ask(&delivery.bytes());
                assert!(answer.status == 200 && answer.body == body, "{number} {round}");
            }
        }
    };
    std::thread::scope(|scope| (0..8).for_each(|number| drop(scope.spawn(client(number)))));
    application.assert_requests(8 * 40);
}

fn an_upstream_may_be_named(driver: Driver) {
    let application = Application::answering(OK);
    let named = application.address().replace("127.0.0.1", "localhost");
    let proxy = Proxy::towards(driver, &named).start();
    assert_eq!(proxy.connect().ask(&Delivery::of(b"{}").bytes()).status, 200);
}

/// Clients that go in the middle of a head or a body, or without waiting for the answer, disturb no other client.
fn a_client_that_goes_leaves_nothing_behind(driver: Driver) {
    let application = echo();
    let proxy = Proxy::on(driver, &application).start();
    let bytes = Delivery::of(&noise(9000)).bytes();
    for sent in [1, 30, 200, 5000, bytes.len() - 1] {
        proxy.connect().send(&bytes[..sent]);
    }
    proxy.assert_endings(&["downstream_closed"; 5]);
    application.assert_saw_nothing("incomplete");
    proxy.connect().send(&bytes);
    application.assert_requests(1);
    let mut client = proxy.connect();
    assert!(client.ask(&bytes).body == noise(9000));
    assert!(client.ask(&bytes).body == noise(9000));
}
