//! TLS: real handshakes, on both drivers, with rustls's own client and with strangers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};

use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::secure::{Authority, Dialer};
use crate::support::{Application, Client, Delivery, Driver, PATIENCE, Proxy, eventually, noise, on_both_drivers};

on_both_drivers! {
    a_delivery_arrives_encrypted,
    both_versions_are_spoken_and_the_older_one_can_be_refused,
    the_order_of_cipher_suites_is_ours,
    bodies_of_every_size_arrive_unchanged,
    large_answers_arrive_unchanged,
    deliveries_may_be_pipelined_and_cut_anywhere,
    a_client_that_has_said_all_gets_its_answer,
    a_client_that_has_said_all_stops_no_other_in_a_crowd,
    a_connection_that_is_cut_is_no_end_of_a_body,
    sessions_are_resumed_on_every_worker,
    the_name_that_is_asked_for_chooses_the_certificate,
    only_http_1_1_is_spoken,
    plain_text_is_answered_in_plain_text,
    a_handshake_has_its_time,
    a_record_has_the_time_of_a_head,
    handshakes_are_bounded,
    handshakes_that_are_not_made_give_way,
    handshakes_that_bring_nothing_wait_behind_others,
    genuine_deliveries_have_no_rate_of_handshakes,
    nonsense_is_no_handshake,
    idle_connections_are_closed_politely,
    a_new_policy_brings_new_certificates,
    a_load_balancer_speaks_before_the_handshake,
    openssl_is_served,
    curl_is_served,
}

/// An authority, a proxy that shows its certificate, and a client that trusts it.
struct Scene {
    application: Application,
    proxy: Proxy,
    client: Dialer,
}

fn scene(driver: Driver, plan: impl FnOnce(Plan) -> Plan) -> Scene {
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let proxy = plan(Proxy::on(driver, &application)).encrypted(&authority.certify(&["localhost"]), "").start();
    Scene { application, proxy, client: authority.client(None) }
}

#[track_caller]
fn assert_connection_ends(proxy: &Proxy, expected: &[&str]) {
    eventually(|| proxy.connection_ends().len() >= expected.len());
    assert_eq!(proxy.connection_ends(), expected);
}

fn a_delivery_arrives_encrypted(driver: Driver) {
    let Scene { application, proxy, client } = scene(driver, |plan| plan);
    let mut client = client.connect(proxy.addresses()[0]);
    assert_eq!(client.alpn(), Some(b"http/1.1".as_slice()));
    for _ in 0..20 {
        assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
        assert_eq!(client.ask(&Delivery::forged(b"{}").bytes()).status, 401);
    }
    let request = application.assert_requests(20).pop().unwrap();
    assert_eq!(request.field("X-Forwarded-Proto"), "https");
    assert!(request.all("X-Countersign-Client-Name").is_empty());
    drop(client);
    proxy.assert_nothing_held();
    assert_connection_ends(&proxy, &[]);
}

fn both_versions_are_spoken_and_the_older_one_can_be_refused(driver: Driver) {
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let credential = authority.certify(&["localhost"]);
    let older = authority.client_of(None, &[&TLS12]);
    let newer = authority.client_of(None, &[&TLS13]);
    let proxy = Proxy::on(driver, &application).encrypted(&credential, "").start();
    for (client, version) in [(&older, ProtocolVersion::TLSv1_2), (&newer, ProtocolVersion::TLSv1_3)] {
        let mut client = client.connect(proxy.addresses()[0]);
        assert_eq!(client.version(), Some(version));
        assert_eq!(client.ask(&Delivery::of(&noise(50_000)).bytes()).status, 200);
        assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
    }
    let proxy = Proxy::on(driver, &application).encrypted(&credential, "min_version = \"1.3\"").start();
    assert!(older.try_connect(proxy.addresses()[0]).is_err());
    assert_eq!(newer.connect(proxy.addresses()[0]).ask(&Delivery::of(b"{}").bytes()).status, 200);
    assert_connection_ends(&proxy, &["tls_nothing_in_common"]);
    application.assert_requests(5);
}

/// A client of OpenSSL would rather have the last of our suites.
fn the_order_of_cipher_suites_is_ours(driver: Driver) {
    let Scene { proxy, .. } = scene(driver, |plan| plan);
    let address = proxy.addresses()[0].to_string();
    for (version, suites, expected) in [
        ("-tls1_3", ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"], "TLS_AES_256_GCM_SHA384"),
        ("-tls1_3", ["-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"], "TLS_AES_128_GCM_SHA256"),
        (
            "-tls1_2",
            ["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"],
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (
            "-tls1_2",
            ["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384"],
            "ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
    ] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, version]).args(suites).stdin(Stdio::null());
        let Ok(output) = command.output() else { return eprintln!("left out: there is no openssl here") };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&format!("Cipher is {expected}")), "{text}");
    }
}

fn bodies_of_every_size_arrive_unchanged(driver: Driver) {
    let Scene { application, proxy, client } = scene(driver, |plan| plan.limit("body_size = \"2MiB\""));
    let mut client = client.connect(proxy.addresses()[0]);
    for (position, size) in [0, 1, 256, 5 << 10, 16_384, 20_000, 64 << 10, 1 << 20].into_iter().enumerate() {
        let body = noise(size);
        assert_eq!(client.ask(&Delivery::of(&body).bytes()).status, 200, "{size}");
        let arrived = application.assert_requests(position + 1).pop().unwrap();
        assert!(arrived.body == body, "{size} bytes arrive unchanged");
    }
    let body = noise(300_000);
    assert_eq!(client.ask(&Delivery::of(&body).chunked(&[1, 70_000, 5]).bytes()).status, 200);
    assert!(application.requests().pop().unwrap().body == body);
}

fn large_answers_arrive_unchanged(driver: Driver) {
    let body = noise(1 << 20);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let application = Application::answering(&[head.as_bytes(), &body].concat());
    let authority = Authority::new("ca");
    let proxy = Proxy::on(driver, &application).encrypted(&authority.certify(&["localhost"]), "").start();
    for version in [&TLS12, &TLS13] {
        let mut client = authority.client_of(None, &[version]).connect(proxy.addresses()[0]);
        for _ in 0..2 {
            let answer = client.ask(&Delivery::of(b"{}").bytes());
            assert!(answer.whole && answer.body == body);
        }
    }
    proxy.assert_endings(&["forwarded"; 4]);
}

fn deliveries_may_be_pipelined_and_cut_anywhere(driver: Driver) {
    let Scene { application, proxy, client } = scene(driver, |plan| plan);
    let mut client = client.connect(proxy.addresses()[0]);
    let bodies: Vec<Vec<u8>> = [10, 9000, 0, 30_000, 1].into_iter().map(noise).collect();
    let all = bodies.iter().map(|body| Delivery::of(body).bytes()).collect::<Vec<_>>().concat();
    // As one piece, whose records end where they like; then with records of their own for every few bytes.
    for piece in [all.len(), 997, 20_000] {
        for part in all.chunks(piece) {
            client.send(part);
        }
        for _ in &bodies {
            assert_eq!(client.answer().status, 200);
        }
    }
    let arrived: Vec<Vec<u8>> = application.assert_requests(15).into_iter().map(|request| request.body).collect();
    assert!(arrived == [bodies.clone(), bodies.clone(), bodies].concat());
}

fn a_client_that_has_said_all_gets_its_answer(driver: Driver) {
    let Scene { proxy, client, .. } = scene(driver, |plan| plan);
    let mut client = client.connect(proxy.addresses()[0]);
    let request = Delivery::of(&noise(5000)).bytes();
    client.send(&[request.as_slice(), &request].concat()).stop_talking();
    assert_eq!((client.answer().status, client.answer().status), (200, 200));
    client.assert_closed();
    proxy.assert_endings(&["forwarded"; 2]);
}

/// What it said last came along with its request: the socket alone looks idle, and nothing more comes.
fn a_client_that_has_said_all_stops_no_other_in_a_crowd(driver: Driver) {
    let Scene { proxy, client, .. } = scene(driver, |plan| plan.limit("connections = 8"));
    let _crowd: Vec<Client> = (0..7).map(|_| proxy.connect()).collect();
    assert!(eventually(|| proxy.held().connections == 7));
    let mut client = client.connect(proxy.addresses()[0]);
    client.stream.conn.writer().write_all(&Delivery::of(b"x").bytes()).unwrap();
    assert_eq!(client.stop_talking().answer().status, 200);
    client.assert_closed();
    assert!(eventually(|| proxy.held().connections == 7));
}

/// An attacker who cuts the connection, with or without a close_notify, must not be able to shorten a message.
fn a_connection_that_is_cut_is_no_end_of_a_body(driver: Driver) {
    let Scene { application, proxy, client } = scene(driver, |plan| plan);
    let whole = Delivery::of(&noise(5000)).bytes();
    let chunked = Delivery::of(&noise(5000)).chunked(&[1000]).bytes();
    let mut endings = Vec::new();
    for bytes in [&whole, &chunked] {
        for polite in [false, true] {
            let mut client = client.connect(proxy.addresses()[0]);
            client.send(&bytes[..bytes.len() - 5]);
            if polite {
                client.stop_talking();
            }
            client.stream.sock.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            let _ = client.stream.read_to_end(&mut rest);
            assert!(rest.is_empty(), "no answer to half a request");
            endings.push("downstream_closed");
        }
    }
    proxy.assert_endings(&endings);
    application.assert_saw_nothing("no delivery was whole");
}

fn sessions_are_resumed_on_every_worker(driver: Driver) {
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let plan = Proxy::on(driver, &application).workers(2);
    let proxy = plan.encrypted(&authority.certify(&["localhost"]), "").start();
    for version in [&TLS12, &TLS13] {
        let client = authority.client_of(None, &[version]);
        let mut first = client.connect(proxy.addresses()[0]);
        assert!(!first.resumed());
        assert_eq!(first.ask(&Delivery::of(b"{}").bytes()).status, 200);
        // The kernel spreads connections over the workers: it takes luck to meet one only.
        for round in 0..12 {
            let mut again = client.connect(proxy.addresses()[0]);
            assert!(again.resumed(), "{version:?} {round}");
            assert_eq!(again.ask(&Delivery::of(b"{}").bytes()).status, 200);
        }
        assert!(!client.clone().afresh().connect(proxy.addresses()[0]).resumed());
    }
    let workers: std::collections::HashSet<usize> = proxy.workers().into_iter().collect();
    assert_eq!(workers.len(), 2, "both workers have served");
}

fn the_name_that_is_asked_for_chooses_the_certificate(driver: Driver) {
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let [first, exact, wild] =
        [["localhost", "x.example"], ["a.hooks.example", "b.example"], ["*.hooks.example", "y.example"]]
            .map(|names| authority.certify(&names));
    let more = "certificates = [{ certificate = \"wild.crt\", key = \"wild.key\" }, \
                { certificate = \"exact.crt\", key = \"exact.key\" }]";
    let plan = Proxy::on(driver, &application).credential("wild", &wild).credential("exact", &exact);
    let proxy = plan.encrypted(&first, more).start();
    for (name, expected) in [
        ("localhost", &first),
        ("a.hooks.example", &exact),
        ("A.Hooks.Example", &exact),
        ("b.example", &exact),
        ("c.hooks.example", &wild),
        ("y.example", &wild),
    ] {
        let client = authority.client(None).name(name).connect(proxy.addresses()[0]);
        let expected = CertificateDer::from_pem_slice(expected.certificate.as_bytes()).unwrap();
        assert_eq!(client.shown(), expected.to_vec(), "{name}");
    }
    // Another name, or none (an address is none), gets the first, and may like it or not.
    for name in ["c.d.hooks.example", "hooks.example", "elsewhere.example", "127.0.0.1"] {
        assert!(authority.client(None).name(name).try_connect(proxy.addresses()[0]).is_err(), "{name}");
    }
    assert_connection_ends(&proxy, &["tls_refused_by_client"; 4]);
}

fn only_http_1_1_is_spoken(driver: Driver) {
    let Scene { proxy, client, .. } = scene(driver, |plan| plan);
    let address = proxy.addresses()[0];
    assert!(client.clone().alpn(&["h2"]).try_connect(address).is_err());
    assert_connection_ends(&proxy, &["tls_nothing_in_common"]);
    assert_eq!(client.clone().alpn(&["h2", "http/1.1"]).connect(address).alpn(), Some(b"http/1.1".as_slice()));
    let mut silent = client.alpn(&[]).connect(address);
    assert_eq!(silent.alpn(), None);
    assert_eq!(silent.ask(&Delivery::of(b"{}").bytes()).status, 200);
}

fn plain_text_is_answered_in_plain_text(driver: Driver) {
    let Scene { application, proxy, .. } = scene(driver, |plan| plan);
    for body in [noise(10), noise(100_000)] {
        let mut client = proxy.connect();
        let answer = client.ask(&Delivery::of(&body).bytes());
        assert_eq!((answer.status, answer.closes(), answer.whole), (400, true, true));
        assert!(answer.body.starts_with(b"{\"error\":\"tls_required\""));
        client.assert_closed();
    }
    assert_connection_ends(&proxy, &["tls_plaintext"; 2]);
    application.assert_saw_nothing("nothing was encrypted");
}

fn a_handshake_has_its_time(driver: Driver) {
    let Scene { proxy, .. } = scene(driver, |plan| plan.limit("handshake_timeout = \"150ms\""));
    let begun = Instant::now();
    // Nothing, the beginning of a hello, and one that drips.
    proxy.connect().assert_closed();
    proxy.connect().send(b"\x16\x03\x01\x02\x00\x01").assert_closed();
    let mut dripping = proxy.connect();
    for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3] {
        dripping.send(&[byte]);
        std::thread::sleep(Duration::from_millis(20));
    }
    dripping.assert_closed();
    assert!(begun.elapsed() < PATIENCE / 2);
    assert_connection_ends(&proxy, &["tls_handshake_timeout"; 3]);
    // A health check, which is not logged.
    proxy.connect().stop_talking().assert_closed();
    proxy.assert_nothing_held();
    assert_eq!(proxy.connection_ends().len(), 3);
}

/// The first byte of a record is the first byte of a request.
fn a_record_has_the_time_of_a_head(driver: Driver) {
    let limits = |plan: Plan| plan.limit("head_timeout = \"400ms\"").limit("idle_timeout = \"60s\"");
    let Scene { proxy, client, .. } = scene(driver, limits);
    let mut client = client.connect(proxy.addresses()[0]);
    assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
    client.stream.sock.write_all(b"\x17\x03\x03\x01\x00half of a record").unwrap();
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (408, true));
    client.assert_closed();
    proxy.assert_endings(&["forwarded", "head_timeout"]);
}

fn handshakes_are_bounded(driver: Driver) {
    let limits = |plan: Plan| plan.limit("handshakes = 2");
    let Scene { proxy, client, .. } = scene(driver, limits);
    let address = proxy.addresses()[0];
    // A connection that has sent nothing yet takes no place.
    let _silent: Vec<Client> = (0..5).map(|_| proxy.connect()).collect();
    let mut begun: Vec<Client> = (0..2).map(|_| proxy.connect()).collect();
    for client in &mut begun {
        client.send(b"\x16\x03\x01\x02\x00\x01");
    }
    assert!(eventually(|| proxy.held().handshakes == 2));
    assert!(client.try_connect(address).is_err());
    assert_connection_ends(&proxy, &["tls_handshakes_full"]);
    begun.pop();
    assert!(eventually(|| proxy.held().handshakes == 1));
    // Connections whose handshake is done take no place either.
    let clients: Vec<_> = (0..4).map(|_| client.connect(address)).collect();
    assert!(eventually(|| proxy.held().handshakes == 1));
    drop((clients, begun));
    assert!(eventually(|| proxy.held().handshakes == 0));
}

fn handshakes_that_are_not_made_give_way(driver: Driver) {
    let limits = |plan: Plan| plan.limit("handshakes = 4");
    let Scene { proxy, client, application } = scene(driver, limits);
    let mut strangers: Vec<Client> = (0..4).map(|_| proxy.connect_from([127, 0, 0, 66])).collect();
    for stranger in &mut strangers {
        stranger.send(b"\x16\x03\x01\x02\x00\x01");
    }
    assert!(eventually(|| proxy.held().handshakes == 4));
    for round in 1..=3 {
        assert_eq!(client.ask(proxy.addresses()[0], &Delivery::of(b"x").bytes()).unwrap().status, 200, "{round}");
    }
    application.assert_requests(3);
    let ends = proxy.connection_ends();
    assert!(!ends.is_empty() && ends.iter().all(|end| *end == "tls_handshakes_full"), "{ends:?}");
    drop(strangers);
    assert!(eventually(|| proxy.held().handshakes == 0));
}

/// Recorded first messages, from an address that is over its rate: they wait, at most a quarter of the handshakes there
/// may be, while another client is served.
fn handshakes_that_bring_nothing_wait_behind_others(driver: Driver) {
    let limits =
        |plan: Plan| plan.limit("handshakes = 100").limit("handshakes_per_client = { rate = \"1/h\", burst = 1 }");
    let Scene { proxy, client, application } = scene(driver, limits);
    let hello = client.hello();
    let mut deliveries = 0;
    let refused = eventually(|| {
        let mut strangers: Vec<Client> = (0..90).map(|_| proxy.connect_from([127, 0, 0, 66])).collect();
        for stranger in &mut strangers {
            stranger.send(&hello);
        }
        assert_eq!(client.ask(proxy.addresses()[0], &Delivery::of(b"x").bytes()).unwrap().status, 200);
        deliveries += 1;
        proxy.connection_ends().contains(&"tls_handshake_rate_limited")
    });
    assert!(refused, "{:?}", proxy.connection_ends());
    let over_rate = proxy.handshakes_over_rate();
    assert!((20..90 * deliveries).contains(&over_rate), "{over_rate}");
    application.assert_requests(usize::try_from(deliveries).unwrap());
    // Alone, it is served although it is over its rate.
    assert!(eventually(|| proxy.held().handshakes == 0));
    let mut stranger = proxy.connect_from([127, 0, 0, 66]);
    stranger.send(&hello);
    let mut answer = [0];
    stranger.stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [22], "a handshake goes on");
    assert_eq!(proxy.held().handshakes_over_rate, 0);
}

fn genuine_deliveries_have_no_rate_of_handshakes(driver: Driver) {
    let limits = |plan: Plan| plan.limit("handshakes_per_client = { rate = \"1/h\", burst = 2 }");
    let Scene { proxy, client, .. } = scene(driver, limits);
    let ask =
        |delivery: &Delivery| client.clone().afresh().ask(proxy.addresses()[0], &delivery.bytes()).unwrap().status;
    for _ in 0..6 {
        assert_eq!(ask(&Delivery::of(b"{}")), 200);
    }
    assert_eq!(proxy.handshakes_over_rate(), 0);
    for _ in 0..5 {
        assert_eq!(ask(&Delivery::forged(b"{}")), 401, "it waits, and is not refused");
    }
    assert_eq!(proxy.handshakes_over_rate(), 3);
    assert_eq!(ask(&Delivery::of(b"{}")), 200);
    assert_eq!(proxy.connection_ends(), Vec::<&str>::new());
    assert!(eventually(|| proxy.held().handshakes == 0));
}

fn nonsense_is_no_handshake(driver: Driver) {
    let Scene { proxy, client, .. } = scene(driver, |plan| plan);
    let beginnings: [Vec<u8>; 5] = [
        vec![0; 100],
        noise(3000),
        [b"\x16\x03\x01\x40\x01".as_slice(), &noise(20_000)].concat(),
        // A message that is longer than any.
        [b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".as_slice(), &noise(100_000)].concat(),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
    ];
    let number = beginnings.len();
    for mut beginning in beginnings {
        beginning[0] = if beginning[0].is_ascii_alphabetic() { 0xff } else { beginning[0] };
        let mut client = proxy.connect();
        client.send(&beginning).stop_talking();
        // An alert perhaps, and the end.
        assert!(client.rest().len() < 50);
    }
    eventually(|| proxy.connection_ends().len() == number);
    let ends = proxy.connection_ends();
    assert_eq!(ends.iter().filter(|end| **end == "tls_handshake_failed").count(), number - 1, "{ends:?}");
    assert_eq!(ends.last(), Some(&"tls_refused_by_client"));
    // In the middle of a connection, nonsense ends it.
    let mut client = client.connect(proxy.addresses()[0]);
    client.stream.sock.write_all(&[b"\x17\x03\x03\x01\x00".as_slice(), &noise(256)].concat()).unwrap();
    assert!(client.try_answer().is_err());
    assert_eq!(proxy.connect().ask(b"GET / HTTP/1.1\r\n\r\n").status, 400, "others are served");
    proxy.assert_endings(&[]);
}

fn idle_connections_are_closed_politely(driver: Driver) {
    let Scene { proxy, client, .. } = scene(driver, |plan| plan.limit("idle_timeout = \"400ms\""));
    let mut client = client.connect(proxy.addresses()[0]);
    assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
    client.assert_closed();
    proxy.assert_nothing_held();
}

/// Connections that are there go on, tickets stay good, and new connections see what is new.
fn a_new_policy_brings_new_certificates(driver: Driver) {
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let [first, second] = [(); 2].map(|()| authority.certify(&["localhost"]));
    let plan = Proxy::on(driver, &application);
    let mut proxy = plan.clone().encrypted(&first, "").start();
    let address = proxy.addresses()[0];
    let client = authority.client(None);
    let mut before = client.connect(address);
    assert_eq!(before.ask(&Delivery::of(b"{}").bytes()).status, 200);
    proxy.apply(&plan.encrypted(&second, ""));
    assert_eq!(before.ask(&Delivery::of(b"{}").bytes()).status, 200);
    assert!(client.connect(address).resumed());
    let mut fresh = client.afresh().connect(address);
    let shown = CertificateDer::from_pem_slice(second.certificate.as_bytes()).unwrap();
    assert_eq!(fresh.shown(), shown.to_vec());
    assert_eq!(fresh.ask(&Delivery::of(b"{}").bytes()).status, 200);
}

fn a_load_balancer_speaks_before_the_handshake(driver: Driver) {
    let balanced = |plan: Plan| plan.listener_line("proxy_protocol = \"v1v2\"\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let Scene { application, proxy, client } = scene(driver, balanced);
    let dialer = client.preface(b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n");
    let mut client = dialer.connect(proxy.addresses()[0]);
    assert_eq!(client.ask(&Delivery::of(b"{}").bytes()).status, 200);
    assert_eq!(application.assert_requests(1)[0].field("X-Forwarded-For"), "203.0.113.1");
    let mut plain = proxy.connect();
    plain.send(b"PROXY TCP4 203.0.113.2 127.0.0.1 4711 80\r\n").send(&Delivery::of(b"{}").bytes());
    assert_eq!(plain.answer().status, 400);
    assert!(dialer.preface(b"").try_connect(proxy.addresses()[0]).is_err());
    assert_connection_ends(&proxy, &["tls_plaintext", "proxy_header_invalid"]);
    proxy.assert_endings(&["forwarded"]);
    assert_eq!(proxy.clients(), ["203.0.113.1"]);
}

/// Whether a program is here; says so if it is not.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("left out: {program} is not installed");
    }
    found
}

fn openssl_is_served(driver: Driver) {
    if !installed("openssl") {
        return;
    }
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let proxy = Proxy::on(driver, &application).encrypted(&authority.certify(&["localhost"]), "").start();
    let folder = Folder::new();
    let ca = folder.write("ca.crt", &authority.pem());
    let session = folder.path("session");
    for version in ["-tls1_3", "-tls1_2"] {
        for (resume, expected) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
            let address = proxy.addresses()[0].to_string();
            let mut child = Command::new("openssl")
                .args(["s_client", "-connect", &address, "-servername", "localhost", "-ign_eof", version])
                .args(["-verify_return_error", "-verify_hostname", "localhost", "-CAfile"])
                .arg(&ca)
                .arg(resume)
                .arg(&session)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let request = Delivery::of(b"{}").field("Connection", "close").bytes();
            child.stdin.take().unwrap().write_all(&request).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("HTTP/1.1 200 OK") && text.contains(expected), "{version} {resume}: {text}");
        }
    }
    application.assert_requests(4);
}

fn curl_is_served(driver: Driver) {
    if !installed("curl") {
        return;
    }
    let Scene { application, proxy, .. } = scene(driver, |plan| plan.limit("body_size = \"2MiB\""));
    let folder = Folder::new();
    let body = "x".repeat(1 << 20);
    let file = folder.write("body", &body);
    let signature = crate::support::delivery::github_signature(crate::support::delivery::SECRET, body.as_bytes());
    let url = format!("https://localhost:{}/hook", proxy.addresses()[0].port());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "20", "--data-binary"])
        .arg(format!("@{}", file.display()))
        .args(["-H", &format!("X-Hub-Signature-256: {signature}"), "-w", "%{http_code} %{http_version}", &url, &url])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok200 1.1ok200 1.1", "{output:?}");
    let requests = application.assert_requests(2);
    assert!(requests.iter().all(|request| request.body == body.as_bytes()));
}

#[test]
fn no_task_waits_for_a_socket_that_is_gone() {
    let application = Application::answering(OK);
    let authority = Authority::new("ca");
    let proxy = Proxy::on(Driver::Epoll, &application).encrypted(&authority.certify(&["localhost"]), "").start();
    let mut gone: TcpStream = TcpStream::connect(proxy.addresses()[0]).unwrap();
    gone.write_all(b"\x16\x03\x01\x02").unwrap();
    drop(gone);
    assert_connection_ends(&proxy, &["tls_handshake_failed"]);
    proxy.assert_nothing_held();
}
