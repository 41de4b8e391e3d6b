//! Who the client is: behind proxies, behind load balancers, and on the lists of a route.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    strangers_cannot_say_who_they_are,
    trusted_proxies_say_who_the_client_is,
    forwarded_becomes_the_list_that_applications_read,
    two_headers_that_disagree_are_not_believed,
    each_listener_trusts_its_own_proxies,
    a_load_balancer_says_who_the_client_is,
    a_long_header_of_a_load_balancer,
    a_load_balancer_in_front_of_a_proxy,
    clients_that_the_load_balancer_cannot_name,
    connections_that_do_not_begin_as_they_must_are_closed,
    a_header_that_does_not_come_in_time_closes_the_connection,
    other_clients_are_refused_before_their_body_is_read,
    lists_judge_the_client_and_not_the_proxy,
    a_file_of_networks_is_a_list_too,
    an_observed_list_counts_and_lets_pass,
    the_log_names_the_client,
    every_address_is_of_both_kinds_and_clients_are_who_they_are,
    a_listener_of_its_own_for_ipv4_goes_first,
}

/// From `source` to the last listener.
fn from(source: [u8; 4], proxy: &Proxy) -> Client {
    Client::connect_from(source, *proxy.addresses().last().unwrap())
}

fn trusting(driver: Driver, application: &Application) -> Plan {
    Proxy::on(driver, application).listener_line("trusted_proxies = [\"127.0.1.0/24\", \"10.0.0.0/8\"]")
}

fn balanced(driver: Driver, application: &Application) -> Plan {
    trusting(driver, application).listener_line("proxy_protocol = \"v1v2\"")
}

#[track_caller]
fn assert_clients(proxy: &Proxy, expected: &[&str]) {
    assert_eq!(proxy.clients(), expected);
}

fn strangers_cannot_say_who_they_are(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application).start();
    let delivery = Delivery::of(b"{}")
        .field("X-Forwarded-For", "203.0.113.1")
        .field("X-Forwarded-Proto", "https")
        .field("X-Forwarded-Host", "evil.example")
        .field("Forwarded", "for=203.0.113.1");
    assert_eq!(from([127, 0, 2, 1], &proxy).ask(&delivery.bytes()).status, 200);
    let request = application.assert_requests(1).pop().unwrap();
    assert_eq!(request.field("X-Forwarded-For"), "127.0.2.1");
    assert_eq!(request.field("X-Forwarded-Proto"), "http");
    assert_eq!(request.field("X-Forwarded-Host"), "hooks.example");
    assert!(request.all("Forwarded").is_empty());
    proxy.assert_endings(&["forwarded"]);
    assert_clients(&proxy, &["127.0.2.1"]);
    // The proxy protocol means nothing where it is not spoken.
    let mut client = from([127, 0, 1, 1], &proxy);
    let header = b"PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\n".as_slice();
    assert_eq!(client.ask(&[header, &delivery.bytes()].concat()).status, 400);
}

fn trusted_proxies_say_who_the_client_is(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application).start();
    let mut client = from([127, 0, 1, 1], &proxy);
    let delivery = Delivery::of(b"{}")
        .field("X-Forwarded-For", "6.6.6.6")
        .field("X-Forwarded-Proto", "https")
        .field("X-Forwarded-Host", "public.example")
        .field("X-Forwarded-Port", "443")
        .field("X-Forwarded-For", "203.0.113.1, 10.1.1.1");
    assert_eq!(client.ask(&delivery.bytes()).status, 200);
    // The same connection may bring other clients, and none at all.
    assert_eq!(client.ask(&Delivery::of(b"{}").field("X-Forwarded-For", "[2001:db8::1]:9").bytes()).status, 200);
    assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
    assert_eq!(client.ask(&Delivery::of(b"{}").field("X-Forwarded-For", "1.1.1.1, nonsense").bytes()).status, 200);
    let requests = application.assert_requests(4);
    assert_eq!(requests[0].field("X-Forwarded-For"), "6.6.6.6, 203.0.113.1, 10.1.1.1, 127.0.1.1");
    assert_eq!(requests[0].field("X-Forwarded-Proto"), "https");
    assert_eq!(requests[0].field("X-Forwarded-Host"), "public.example");
    assert!(requests[0].all("X-Forwarded-Port").is_empty());
    assert_eq!(requests[1].field("X-Forwarded-For"), "[2001:db8::1]:9, 127.0.1.1");
    assert_eq!(requests[2].field("X-Forwarded-For"), "127.0.1.1");
    assert_eq!(requests[2].field("X-Forwarded-Proto"), "http");
    assert_eq!(requests[2].field("X-Forwarded-Host"), "hooks.example");
    proxy.assert_endings(&["forwarded"; 4]);
    assert_clients(&proxy, &["203.0.113.1", "2001:db8::1", "127.0.1.1", "127.0.1.1"]);
}

fn forwarded_becomes_the_list_that_applications_read(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application).start();
    let delivery = Delivery::of(b"{}").field("Forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https");
    assert_eq!(from([127, 0, 1, 1], &proxy).ask(&delivery.bytes()).status, 200);
    let request = application.assert_requests(1).pop().unwrap();
    assert_eq!(request.field("X-Forwarded-For"), "2001:db8::1, 127.0.1.1");
    assert!(request.all("Forwarded").is_empty());
    proxy.assert_endings(&["forwarded"]);
    assert_clients(&proxy, &["2001:db8::1"]);
}

fn two_headers_that_disagree_are_not_believed(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application)
        .route("name = \"listed\"\npath = \"/listed\"\nscheme = \"none\"\ndeny = [\"203.0.113.0/24\"]")
        .start();
    let mut client = from([127, 0, 1, 1], &proxy);
    let delivery = Delivery::of(b"{}").field("X-Forwarded-For", "198.51.100.1").field("Forwarded", "for=203.0.113.1");
    assert_eq!(client.ask(&delivery.bytes()).status, 200);
    assert_eq!(application.assert_requests(1)[0].field("X-Forwarded-For"), "127.0.1.1");
    // Where a list decides, a client without a known address is refused.
    assert_eq!(client.ask(&delivery.clone().line("POST /listed HTTP/1.1").bytes()).status, 403);
    let agreed = Delivery::of(b"{}").field("X-Forwarded-For", "198.51.100.1").field("Forwarded", "for=198.51.100.1");
    assert_eq!(client.ask(&agreed.line("POST /listed HTTP/1.1").bytes()).status, 200);
    proxy.assert_endings(&["forwarded", "client_not_allowed", "forwarded"]);
    assert_clients(&proxy, &["127.0.1.1", "127.0.1.1", "198.51.100.1"]);
}

fn each_listener_trusts_its_own_proxies(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application).listeners(2).workers(2).start();
    let delivery = Delivery::of(b"{}").field("X-Forwarded-For", "203.0.113.1").bytes();
    for address in proxy.addresses() {
        assert_eq!(Client::connect_from([127, 0, 1, 1], *address).ask(&delivery).status, 200);
    }
    proxy.assert_endings(&["forwarded", "forwarded"]);
    assert_clients(&proxy, &["127.0.1.1", "203.0.113.1"]);
}

/// A header of version 2 for a TCP connection over IPv4, and a field of an unknown type.
fn version_2(source: [u8; 4]) -> Vec<u8> {
    let [a, b, c, d] = source;
    let rest = [a, b, c, d, 127, 0, 0, 1, 0x12, 0x67, 0, 80, 0xee, 0, 3, 1, 2, 3];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x12".as_slice(), &rest].concat()
}

fn a_load_balancer_says_who_the_client_is(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = balanced(driver, &application).start();
    let delivery = Delivery::of(b"{}").field("X-Forwarded-For", "6.6.6.6").bytes();
    let v1 = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n".to_vec();
    // As nginx writes it: its own address beside that of its client, of whatever family.
    let mixed = b"PROXY TCP6 ::ffff:203.0.113.3 127.0.0.1 4711 80\r\n".to_vec();
    for header in [v1, version_2([203, 0, 113, 2]), mixed] {
        // In one piece with two requests, and byte by byte.
        let mut client = from([127, 0, 1, 1], &proxy);
        client.send(&[header.as_slice(), &delivery, &delivery].concat());
        assert_eq!((client.answer().status, client.answer().status), (200, 200));
        let mut client = from([127, 0, 1, 1], &proxy);
        for byte in [header.as_slice(), &delivery].concat().chunks(1) {
            client.send(byte);
        }
        assert_eq!(client.answer().status, 200);
    }
    let clients = ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(|client| [client; 3]).concat();
    let requests = application.assert_requests(9);
    let told: Vec<&str> = requests.iter().map(|request| request.field("X-Forwarded-For")).collect();
    assert_eq!(told, clients);
    proxy.assert_endings(&["forwarded"; 9]);
    assert_clients(&proxy, &clients);
}

/// Facts about TLS that the load balancer adds: 534 bytes, and as many as there may be.
fn a_long_header_of_a_load_balancer(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = balanced(driver, &application).start();
    let delivery = Delivery::of(b"{}").bytes();
    let header = |length: usize| {
        let addresses = [203, 0, 113, 2, 127, 0, 0, 1, 0x12, 0x67, 0, 80];
        let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
        let vector = u16::try_from(length - 15).unwrap().to_be_bytes();
        let rest = vec![b'x'; length - 15];
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &[high, low][..], &addresses, &[0x20], &vector, &rest].concat()
    };
    for length in [534, 4080] {
        let mut client = from([127, 0, 1, 1], &proxy);
        assert_eq!(client.ask(&[header(length), delivery.clone()].concat()).status, 200, "{length}");
        let mut client = from([127, 0, 1, 1], &proxy);
        for piece in [header(length), delivery.clone()].concat().chunks(100) {
            client.send(piece);
        }
        assert_eq!(client.answer().status, 200, "{length} in pieces");
    }
    // One byte more than there may be, and a vector that is longer than the header.
    let mut cut = header(534);
    cut[29] = 0xff;
    for header in [header(4081), cut] {
        from([127, 0, 1, 1], &proxy).send(&header).assert_closed();
    }
    assert!(eventually(|| proxy.connection_ends() == ["proxy_header_invalid"; 2]));
    assert_clients(&proxy, &["203.0.113.2"; 4]);
}

/// The load balancer names a proxy that is trusted, and that one names the client.
fn a_load_balancer_in_front_of_a_proxy(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = balanced(driver, &application).start();
    let delivery = Delivery::of(b"{}").field("X-Forwarded-For", "203.0.113.9");
    let bytes = [version_2([10, 0, 0, 7]), delivery.bytes()].concat();
    assert_eq!(from([127, 0, 1, 1], &proxy).ask(&bytes).status, 200);
    assert_eq!(application.assert_requests(1)[0].field("X-Forwarded-For"), "203.0.113.9, 10.0.0.7");
    proxy.assert_endings(&["forwarded"]);
    assert_clients(&proxy, &["203.0.113.9"]);
}

/// The connection has no known client: it is not the load balancer's, and what it says of its client cannot be trusted.
fn clients_that_the_load_balancer_cannot_name(driver: Driver) {
    let application = Application::answering(OK);
    let listed = "path = \"/listed\"\nscheme = \"none\"\nallow = [\"127.0.0.0/8\", \"203.0.113.0/24\"]";
    let proxy = balanced(driver, &application).route(listed).start();
    let unix = [b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8".as_slice(), &[b'/'; 216]].concat();
    // The last two are connections of the load balancer itself: health checks (LOCAL).
    let headers = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00".as_slice(),
        &unix,
        b"PROXY UNKNOWN ffff::1 x\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
        b"\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x0c\xcb\x00\x71\x09\x7f\x00\x00\x01\x00\x01\x00\x02",
    ];
    for header in headers {
        let spoofing = |line: &str| {
            let delivery = Delivery::of(b"{}").line(line).field("X-Forwarded-For", "203.0.113.9");
            [header, &delivery.bytes()].concat()
        };
        assert_eq!(from([127, 0, 1, 1], &proxy).ask(&spoofing("POST /hook HTTP/1.1")).status, 200);
        assert_eq!(from([127, 0, 1, 1], &proxy).ask(&spoofing("POST /listed HTTP/1.1")).status, 403);
    }
    for request in application.assert_requests(headers.len()) {
        assert_eq!(request.field("X-Forwarded-For"), "unknown");
    }
    assert!(eventually(|| proxy.endings().len() == 10));
    assert_clients(&proxy, &[""; 10]);
}

fn connections_that_do_not_begin_as_they_must_are_closed(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = balanced(driver, &application).start();
    let delivery = Delivery::of(b"{}").bytes();
    let header = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n";
    // Not from a trusted proxy, whatever it says.
    let mut client = from([127, 0, 2, 1], &proxy);
    client.send(&[header, delivery.as_slice()].concat()).assert_closed();
    assert!(eventually(|| proxy.connection_ends() == ["proxy_unknown"]));
    // From one, but not as it must be.
    let oversize = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[0; 1000]].concat();
    let endless = format!("PROXY UNKNOWN {}\r\n", "f".repeat(200));
    let beginnings: [&[u8]; 6] = [
        b"",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY TCP4 203.0.113.1 127.0.0.1 1 2\n",
        &oversize,
        endless.as_bytes(),
        b"\0",
    ];
    for beginning in beginnings {
        let mut client = from([127, 0, 1, 1], &proxy);
        client.send(&[beginning, &delivery].concat()).assert_closed();
    }
    // One header, not two.
    let mut client = from([127, 0, 1, 1], &proxy);
    assert_eq!(client.ask(&[header.as_slice(), header, &delivery].concat()).status, 400);
    // Half of one.
    let mut client = from([127, 0, 1, 1], &proxy);
    client.send(b"PROXY TCP4 203").stop_talking().assert_closed();
    // Nothing at all: a health check, which is not logged.
    from([127, 0, 1, 1], &proxy).stop_talking().assert_closed();
    let mut ends = vec!["proxy_unknown"];
    ends.extend(["proxy_header_invalid"; 7]);
    assert!(eventually(|| proxy.connection_ends().len() >= ends.len()));
    assert_eq!(proxy.connection_ends(), ends);
    proxy.assert_endings(&["head_malformed"]);
    application.assert_saw_nothing("no connection began as it must");
}

fn a_header_that_does_not_come_in_time_closes_the_connection(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = balanced(driver, &application).limit("head_timeout = \"100ms\"").start();
    from([127, 0, 1, 1], &proxy).send(b"PROXY TCP4 203").assert_closed();
    from([127, 0, 1, 1], &proxy).assert_closed();
    assert!(eventually(|| proxy.connection_ends() == ["proxy_header_invalid"; 2]));
    proxy.assert_endings(&[]);
}

fn other_clients_are_refused_before_their_body_is_read(driver: Driver) {
    let application = Application::answering(OK);
    let lists = "allow = [\"127.0.3.0/24\", \"2001:db8::/32\"]\ndeny = [\"127.0.3.7\"]";
    let proxy = Proxy::on(driver, &application).route_line(lists).start();
    let waiting = Delivery::of(&[b'x'; 5000]).field("Expect", "100-continue");
    for stranger in [[127, 0, 0, 1], [127, 0, 2, 255], [127, 0, 4, 0], [127, 0, 3, 7]] {
        // Not a byte of the body has been sent, or asked for.
        let answer = from(stranger, &proxy).ask(&waiting.head());
        assert_eq!((answer.status, answer.closes()), (403, true), "{stranger:?}");
        assert!(answer.body.starts_with(b"{\"error\":\"forbidden\""), "{:?}", answer.body.escape_ascii().to_string());
    }
    // With the body at hand, the connection can go on; and another route has other lists.
    let mut client = from([127, 0, 2, 1], &proxy);
    assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 403);
    assert_eq!(client.ask(&Delivery::of(b"{}").line("POST /other HTTP/1.1").bytes()).status, 404);
    application.assert_saw_nothing("no client was allowed");
    assert_eq!(from([127, 0, 3, 8], &proxy).ask(&Delivery::of(b"{}").bytes()).status, 200);
    // To be allowed is not to be genuine.
    assert_eq!(from([127, 0, 3, 8], &proxy).ask(&Delivery::forged(b"{}").bytes()).status, 401);
    let mut endings = vec!["client_not_allowed"; 5];
    endings.extend(["route_unknown", "forwarded", "signature_mismatch"]);
    proxy.assert_endings(&endings);
}

fn lists_judge_the_client_and_not_the_proxy(driver: Driver) {
    let application = Application::answering(OK);
    let allow = "allow = [\"203.0.113.0/24\", \"2001:db8::/32\"]";
    let proxy = trusting(driver, &application).route_line(allow).start();
    let mut client = from([127, 0, 1, 1], &proxy);
    for (told, status) in [
        ("203.0.113.1", 200),
        ("::ffff:203.0.113.1", 200),
        ("2001:db8::7", 200),
        ("203.0.113.1, 198.51.100.1", 403),
        ("203.0.113.1, unknown", 403),
        ("198.51.100.1, 203.0.113.1", 200),
        ("", 403),
    ] {
        let delivery = Delivery::of(b"{}").field("X-Forwarded-For", told);
        assert_eq!(client.ask(&delivery.bytes()).status, status, "{told}");
    }
    application.assert_requests(4);
    // A stranger with the right word.
    let delivery = Delivery::of(b"{}").field("X-Forwarded-For", "203.0.113.1");
    assert_eq!(from([127, 0, 2, 1], &proxy).ask(&delivery.bytes()).status, 403);
    // The same lists behind a load balancer.
    let proxy = balanced(driver, &application).route_line(allow).start();
    for (source, status) in [("::ffff:203.0.113.1", 200), ("::ffff:198.51.100.1", 403), ("2001:db8::1", 200)] {
        let header = format!("PROXY TCP6 {source} ::1 1 2\r\n");
        let bytes = [header.as_bytes(), &Delivery::of(b"{}").bytes()].concat();
        assert_eq!(from([127, 0, 1, 1], &proxy).ask(&bytes).status, status, "{source}");
    }
    application.assert_requests(6);
}

fn a_file_of_networks_is_a_list_too(driver: Driver) {
    let application = Application::answering(OK);
    let lists = "allow = [\"127.0.5.0/24\"]\nallow_file = \"ranges\"";
    let plan = Proxy::on(driver, &application).file("ranges", "# ours\n127.0.3.0/24 # office\n\n2001:db8::/32\n");
    let proxy = plan.route_line(lists).start();
    for (source, status) in [([127, 0, 3, 9], 200), ([127, 0, 5, 9], 200), ([127, 0, 4, 9], 403)] {
        assert_eq!(from(source, &proxy).ask(&Delivery::of(b"{}").bytes()).status, status, "{source:?}");
    }
}

fn an_observed_list_counts_and_lets_pass(driver: Driver) {
    let application = Application::answering(OK);
    let lists = "allow = [\"127.0.3.0/24\"]\nobserve = [\"allow\"]";
    let proxy = Proxy::on(driver, &application).route_line(lists).start();
    assert_eq!(from([127, 0, 2, 1], &proxy).ask(&Delivery::of(b"{}").bytes()).status, 200);
    assert_eq!(from([127, 0, 3, 1], &proxy).ask(&Delivery::of(b"{}").bytes()).status, 200);
    // Verification is in force all the same.
    assert_eq!(from([127, 0, 2, 1], &proxy).ask(&Delivery::forged(b"{}").bytes()).status, 401);
    proxy.assert_endings(&["forwarded", "forwarded", "signature_mismatch"]);
    assert_clients(&proxy, &["127.0.2.1", "127.0.3.1", "127.0.2.1"]);
    assert_eq!(proxy.observed(), ["client_not_allowed", "", "client_not_allowed"]);
}

/// A process of its own, whose log is read.
fn the_log_names_the_client(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let plan = balanced(driver, &application).route_line("allow = [\"192.0.2.0/24\"]").route(
        "name = \"tried\"\npath = \"/tried\"\nscheme = \"none\"\ndeny = [\"203.0.113.0/24\"]\nobserve = [\"allow\"]",
    );
    let program = Program::run(&folder.write("countersign.toml", &plan.text()));
    let mut client = Client::connect_from([127, 0, 1, 1], program.address());
    client.send(b"PROXY TCP4 10.0.0.9 127.0.0.1 1 2\r\n");
    let delivery = Delivery::of(b"{}").field("X-Forwarded-For", "203.0.113.1");
    assert_eq!(client.ask(&delivery.bytes()).status, 403);
    let line = program.await_output("\"reason\":\"client_not_allowed\"");
    let who = |route, scheme| {
        format!("\"route\":\"{route}\",\"scheme\":\"{scheme}\",\"client\":\"203.0.113.1\",\"peer\":\"10.0.0.9\"")
    };
    assert!(line.contains("\"outcome\":\"refused\"") && line.contains(&who("hook", "github")), "{line}");
    assert_eq!(client.ask(&delivery.line("POST /tried HTTP/1.1").bytes()).status, 200);
    let line = program.await_output("\"observed\":[\"client_not_allowed\"]");
    assert!(line.contains("\"reason\":\"forwarded\"") && line.contains(&who("tried", "none")), "{line}");
    Client::connect_from([127, 0, 2, 1], program.address()).assert_closed();
    let line = program.await_line("reason=proxy_unknown");
    assert!(line.contains("client=127.0.2.1"), "{line}");
}

/// An address on which nothing listens, for IPv4 and IPv6; nothing where there is no IPv6.
fn both_kinds() -> Option<[SocketAddr; 2]> {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("left out: there is no IPv6");
        return None;
    }
    // Below the ports that the system chooses: none is taken by a client between here and there.
    let first = 10_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    let free = |port: &u16| std::net::TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))).is_ok();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let port = (0..100).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed)).find(free).expect("a free port");
    Some([SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))])
}

fn through_ipv4(source: [u8; 4], every: SocketAddr, delivery: Delivery) -> u16 {
    Client::connect_from(source, SocketAddr::from((Ipv4Addr::LOCALHOST, every.port()))).ask(&delivery.bytes()).status
}

fn every_address_is_of_both_kinds_and_clients_are_who_they_are(driver: Driver) {
    if both_kinds().is_none() {
        return;
    }
    let application = Application::answering(OK);
    let proxy = trusting(driver, &application)
        .listening_on(&[SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))])
        .route_line("allow = [\"127.0.0.5/32\", \"::1/128\"]")
        .limit("connections_per_client = 2")
        .start();
    let every = proxy.addresses()[0];
    let delivery = || Delivery::of(b"{}");
    assert_eq!(through_ipv4([127, 0, 0, 5], every, delivery()), 200);
    assert_eq!(through_ipv4([127, 0, 0, 6], every, delivery()), 403);
    // A proxy that is trusted by its IPv4 address.
    let forwarded = |field, client| delivery().field(field, client);
    assert_eq!(through_ipv4([127, 0, 1, 1], every, forwarded("X-Forwarded-For", "127.0.0.5")), 200);
    assert_eq!(through_ipv4([127, 0, 1, 1], every, forwarded("Forwarded", "for=127.0.0.6")), 403);
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, every.port()));
    assert_eq!(Client::connect(six).ask(&delivery().bytes()).status, 200);
    proxy.assert_endings(&["forwarded", "client_not_allowed", "forwarded", "client_not_allowed", "forwarded"]);
    assert_eq!(proxy.clients(), ["127.0.0.5", "127.0.0.6", "127.0.0.5", "127.0.0.6", "::1"]);
    let told: Vec<String> =
        application.assert_requests(3).iter().map(|request| request.field("X-Forwarded-For").to_owned()).collect();
    assert_eq!(told, ["127.0.0.5", "127.0.0.5, 127.0.1.1", "::1"]);
    // Each is counted for itself, and not all of IPv4 for one /64.
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, every.port()));
    let _held: Vec<Client> =
        (20..24).flat_map(|last| [last; 2]).map(|last| Client::connect_from([127, 0, 0, last], at)).collect();
    assert!(eventually(|| proxy.held().connections >= 8));
    assert_eq!(through_ipv4([127, 0, 0, 5], every, delivery()), 200);
    // One more of a client that has all of its connections is let in, too (see fairness.rs).
    assert_eq!(through_ipv4([127, 0, 0, 20], every, delivery()), 403);
}

fn a_listener_of_its_own_for_ipv4_goes_first(driver: Driver) {
    let Some([every, four]) = both_kinds() else { return };
    let application = Application::answering(OK);
    let plan = Proxy::on(driver, &application).route_line("allow = [\"127.0.0.5/32\", \"::1/128\"]");
    let believing = |plan: Plan| plan.listener_line("trusted_proxies = [\"127.0.1.0/24\"]");
    let both = believing(plan.clone().listening_on(&[every, four]));
    let mut proxy = both.clone().start();
    assert!(proxy.shared().is_empty(), "both are ours");
    let ask = || through_ipv4([127, 0, 1, 1], every, Delivery::of(b"{}").field("X-Forwarded-For", "127.0.0.5"));
    let six = || {
        Client::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, every.port()))).ask(&Delivery::of(b"{}").bytes()).status
    };
    // Only the listener for IPv4 believes that proxy.
    assert_eq!((ask(), six()), (200, 200));
    proxy.apply(&plan.listening_on(&[every]));
    assert!(eventually(|| ask() == 403), "what is left takes IPv4, too");
    assert_eq!(six(), 200);
    proxy.apply(&both);
    assert_eq!((ask(), six()), (200, 200));
    assert!(proxy.shared().is_empty());
}
