//! Applications over TLS: who is trusted and who is not, what is told then, and that deliveries and answers pass whole.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::date_time_ymd;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::secure::{Authority, Credential};
use crate::support::{Delivery, Driver, Program, Proxy, eventually, noise, on_both_drivers};

on_both_drivers! {
    deliveries_over_one_connection,
    large_bodies_both_ways,
    an_answer_before_the_body_was_read,
    applications_that_are_not_trusted,
    a_certificate_that_the_application_demands,
    a_server_that_closes_in_the_middle_of_its_answer,
    tickets_on_an_idle_connection_are_no_answer,
    plain_text_and_silence_are_no_handshake,
    another_authority_ends_the_connections_of_the_one_before,
    files_that_change_are_read_again,
    stored_deliveries_over_tls,
    the_doctor_makes_the_handshake,
}

type Conversation = StreamOwned<ServerConnection, TcpStream>;

/// An application that speaks TLS.
struct SecureApplication {
    port: u16,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    connections: Arc<AtomicUsize>,
}

fn server(shown: &Credential, asks: Option<&Authority>, change: impl FnOnce(&mut ServerConfig)) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap(),
            )
        }
    };
    let (chain, key) = shown.der();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    change(&mut config);
    config
}

impl SecureApplication {
    /// Each connection is given to `script`, which reads requests of it.
    fn following(
        config: ServerConfig,
        script: impl Fn(&mut Conversation, &mut dyn FnMut(Vec<u8>)) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let (config, script) = (Arc::new(config), Arc::new(script));
        let (heard, counted) = (Arc::clone(&bodies), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                let (config, script, heard) = (Arc::clone(&config), Arc::clone(&script), Arc::clone(&heard));
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).unwrap();
                    let mut stream = StreamOwned::new(connection, stream);
                    let _ = script(&mut stream, &mut |body| heard.lock().unwrap().push(body));
                });
            }
        });
        Self { port, bodies, connections }
    }

    /// Answers every request with `reply`.
    fn answering(config: ServerConfig, reply: &[u8]) -> Self {
        let reply = reply.to_vec();
        Self::following(config, move |stream, heard| {
            while let Some(body) = request(stream)? {
                heard(body);
                stream.write_all(&reply)?;
            }
            Ok(())
        })
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A proxy that reaches it by name and trusts `ca`, with these lines in its `tls`.
    fn proxy(&self, driver: Driver, ca: &Authority, tls: &str) -> Plan {
        Proxy::towards(driver, &format!("localhost:{}", self.port))
            .upstream(&format!("tls = {{ ca = \"app-ca.crt\"{tls} }}"))
            .file("app-ca.crt", &ca.pem())
    }
}

/// Reads a head.
fn head(stream: &mut impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.extend(byte);
    }
    Ok(Some(String::from_utf8(head).unwrap()))
}

/// Reads a request; gives its body.
fn request(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let Some(head) = head(stream)? else { return Ok(None) };
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(body))
}

fn genuine() -> Vec<u8> {
    Delivery::of(b"{}").bytes()
}

fn deliveries_over_one_connection(driver: Driver) {
    let ours = Authority::new("ours");
    let application = SecureApplication::answering(server(&ours.certify(&["localhost"]), None, |_| ()), OK);
    let proxy = application.proxy(driver, &ours, "").start();
    let mut client = proxy.connect();
    for number in 0..20 {
        let answer = client.ask(&Delivery::of(format!("{{\"n\":{number}}}").as_bytes()).bytes());
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
    }
    assert_eq!((application.bodies().len(), application.connections()), (20, 1));
    // By its address, where the certificate is for another name.
    let by_address = Proxy::towards(driver, &format!("127.0.0.1:{}", application.port))
        .upstream("tls = { ca = \"app-ca.crt\", server_name = \"localhost\" }")
        .file("app-ca.crt", &ours.pem())
        .start();
    assert_eq!(by_address.connect().ask(&genuine()).status, 200);
}

fn large_bodies_both_ways(driver: Driver) {
    const MEBIBYTE: usize = 1 << 20;
    let ours = Authority::new("ours");
    let body = noise(MEBIBYTE);
    for framing in ["length", "chunked", "close"] {
        let reply = body.clone();
        let config = server(&ours.certify(&["localhost"]), None, |_| ());
        let application = SecureApplication::following(config, move |stream, heard| {
            while let Some(body) = request(stream)? {
                heard(body);
                match framing {
                    "length" => {
                        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", reply.len())?;
                        stream.write_all(&reply)?;
                    }
                    "chunked" => {
                        write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                        for chunk in reply.chunks(40_000) {
                            write!(stream, "{:x}\r\n", chunk.len())?;
                            stream.write_all(chunk)?;
                            stream.write_all(b"\r\n")?;
                        }
                        stream.write_all(b"0\r\n\r\n")?;
                    }
                    _ => {
                        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                        stream.write_all(&reply)?;
                        stream.conn.send_close_notify();
                        return stream.flush();
                    }
                }
            }
            Ok(())
        });
        let proxy = application.proxy(driver, &ours, "").limit("body_size = \"2MiB\"").start();
        let mut client = proxy.connect();
        let sent = noise(MEBIBYTE);
        for _ in 0..3 {
            let answer = client.ask(&Delivery::of(&sent).bytes());
            assert_eq!((answer.status, answer.body == body), (200, true), "{framing}");
        }
        let bodies = application.bodies();
        assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == sent), "{framing}");
        assert_eq!(application.connections(), if framing == "close" { 3 } else { 1 });
    }
}

fn an_answer_before_the_body_was_read(driver: Driver) {
    let ours = Authority::new("ours");
    // Enough for every buffer on the way to be full.
    let body = noise(8 << 20);
    for reads_on in [false, true] {
        let config = server(&ours.certify(&["localhost"]), None, |_| ());
        let application = SecureApplication::following(config, move |stream, heard| {
            let Some(head) = head(stream)? else { return Ok(()) };
            let status = if reads_on { "200 OK" } else { "413 Content Too Large" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok")?;
            if reads_on {
                let length =
                    head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
                let mut body = vec![0; length];
                stream.read_exact(&mut body)?;
                heard(body);
            }
            thread::sleep(Duration::from_secs(2));
            Ok(())
        });
        let plan = application.proxy(driver, &ours, "").limit("body_size = \"10MiB\"\nbody_memory = \"64MiB\"");
        let proxy = plan.start();
        let answer = proxy.connect().ask(&Delivery::of(&body).bytes());
        assert_eq!((answer.status, answer.body.as_slice()), (if reads_on { 200 } else { 413 }, b"ok".as_slice()));
        if reads_on {
            assert!(eventually(|| application.bodies().first() == Some(&body)), "it gets the rest");
        }
    }
}

fn applications_that_are_not_trusted(driver: Driver) {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let expired = ours.certify_as(&["localhost"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    for (shown, what) in [
        (others.certify(&["localhost"]), "of another authority"),
        (ours.certify(&["app.internal"]), "for another name"),
        (ours.certify(&["127.0.0.1"]), "for the address"),
        (expired, "expired"),
    ] {
        let application = SecureApplication::answering(server(&shown, None, |_| ()), OK);
        let proxy = application.proxy(driver, &ours, "").start();
        let mut client = proxy.connect();
        let answer = client.ask(&genuine());
        assert_eq!((answer.status, answer.closes()), (502, false), "{what}");
        proxy.assert_endings(&["upstream_certificate"]);
        assert!(application.bodies().is_empty(), "{what}: nothing was sent");
    }
    // Without `ca` the authorities of the system are trusted, and ours is none of them.
    let application = SecureApplication::answering(server(&ours.certify(&["localhost"]), None, |_| ()), OK);
    let proxy = Proxy::towards(driver, &format!("localhost:{}", application.port)).upstream("tls = {}").start();
    assert_eq!(proxy.connect().ask(&genuine()).status, 502);
    proxy.assert_endings(&["upstream_certificate"]);
}

fn a_certificate_that_the_application_demands(driver: Driver) {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let of = |authority: &Authority| {
            let roots = Arc::new(authority.roots());
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().unwrap();
            let (chain, key) = ours.certify(&["localhost"]).der();
            let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
            builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
        };
        let application = SecureApplication::answering(of(&ours), OK);
        let shown = ", certificate = \"own.crt\", key = \"own.key\"";
        for (own, status) in
            [(Some(ours.certify(&["proxy"])), 200), (Some(others.certify(&["proxy"])), 502), (None, 502)]
        {
            let plan = match &own {
                Some(own) => {
                    application.proxy(driver, &ours, shown).file("own.crt", &own.certificate).file("own.key", &own.key)
                }
                None => application.proxy(driver, &ours, ""),
            };
            let proxy = plan.start();
            assert_eq!(proxy.connect().ask(&genuine()).status, status);
            proxy.assert_endings(&[if status == 200 { "forwarded" } else { "upstream_tls" }]);
        }
        assert_eq!(application.bodies().len(), 1);
    }
}

fn a_server_that_closes_in_the_middle_of_its_answer(driver: Driver) {
    let ours = Authority::new("ours");
    // Without a word of TLS, and with one: neither is the end of an answer.
    for (polite, head, ending) in [
        (false, "Content-Length: 100", "upstream_truncated"),
        (true, "Content-Length: 100", "upstream_truncated"),
        (false, "Connection: close", "upstream_truncated"),
        (false, "", "upstream_closed"),
    ] {
        let config = server(&ours.certify(&["localhost"]), None, |_| ());
        let application = SecureApplication::following(config, move |stream, heard| {
            if let Some(body) = request(stream)? {
                heard(body);
                if !head.is_empty() {
                    write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\nthe beginning")?;
                }
                if polite {
                    stream.conn.send_close_notify();
                }
                stream.flush()?;
                stream.sock.shutdown(std::net::Shutdown::Write)?;
                let _ = stream.sock.read(&mut [0]);
            }
            Ok(())
        });
        let proxy = application.proxy(driver, &ours, "").start();
        let mut client = proxy.connect();
        client.send(&genuine());
        match ending {
            "upstream_closed" => assert_eq!(client.answer().status, 502),
            _ => assert!(!client.answer().whole, "{head}: a broken answer is not taken for a whole one"),
        }
        proxy.assert_endings(&[ending]);
        assert_eq!((application.bodies().len(), application.connections()), (1, 1), "never sent twice");
    }
}

fn tickets_on_an_idle_connection_are_no_answer(driver: Driver) {
    let ours = Authority::new("ours");
    let config = server(&ours.certify(&["localhost"]), None, |_| ());
    let application = SecureApplication::following(config, move |stream, heard| {
        while let Some(body) = request(stream)? {
            heard(body);
            stream.write_all(OK)?;
            stream.flush()?;
            // What the protocol says itself, on a connection that rests.
            stream.conn.refresh_traffic_keys().unwrap();
            stream.flush()?;
        }
        Ok(())
    });
    let proxy = application.proxy(driver, &ours, "").start();
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.ask(&genuine()).status, 200);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((application.bodies().len(), application.connections()), (5, 1));
}

fn plain_text_and_silence_are_no_handshake(driver: Driver) {
    let ours = Authority::new("ours");
    for (greeting, status, ending) in [
        (Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice()), 502, "upstream_tls"),
        (Some(b"".as_slice()), 502, "upstream_tls"),
        (None, 504, "upstream_connect_timeout"),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                match greeting {
                    None => kept.push(stream),
                    Some(text) => {
                        let _ = stream.read(&mut [0; 4096]);
                        let _ = stream.write_all(text);
                    }
                }
            }
        });
        let proxy = Proxy::towards(driver, &format!("localhost:{port}"))
            .upstream("connect_timeout = \"300ms\"\ntls = { ca = \"app-ca.crt\" }")
            .file("app-ca.crt", &ours.pem())
            .start();
        let answer = proxy.connect().ask(&genuine());
        assert_eq!((answer.status, answer.closes()), (status, false));
        proxy.assert_endings(&[ending]);
    }
}

fn another_authority_ends_the_connections_of_the_one_before(driver: Driver) {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let application = SecureApplication::answering(server(&ours.certify(&["localhost"]), None, |_| ()), OK);
    let plan = application.proxy(driver, &ours, "");
    let mut proxy = plan.clone().start();
    let mut client = proxy.connect();
    assert_eq!(client.ask(&genuine()).status, 200);
    // The same files again: the connection is still good.
    proxy.apply(&plan);
    assert_eq!(client.ask(&genuine()).status, 200);
    assert_eq!(application.connections(), 1);
    proxy.apply(&application.proxy(driver, &others, ""));
    assert_eq!(client.ask(&genuine()).status, 502);
    proxy.apply(&plan);
    assert_eq!(client.ask(&genuine()).status, 200);
    proxy.assert_endings(&["forwarded", "forwarded", "upstream_certificate", "forwarded"]);
}

/// A configuration of a process, in a folder.
fn configure(driver: Driver, folder: &Folder, application: &SecureApplication, more: (&str, &str)) -> PathBuf {
    let (sections, route) = more;
    let text = format!(
        "[server]\nworkers = 1\ndriver = \"{}\"\ndrain_delay = \"0s\"\ndrain_grace = \"0s\"\n\
         [reload]\nwatch = true\npoll = \"0s\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [upstream]\naddress = \"localhost:{}\"\n\
         tls = {{ ca = \"app-ca.crt\", certificate = \"own.crt\", key = \"own.key\" }}\n{sections}\
         [[route]]\npath = \"/hook\"\nscheme = \"none\"\nbody_size = \"2MiB\"\n{route}",
        driver.name(),
        application.port
    );
    folder.write("countersign.toml", &text)
}

fn write_own(folder: &Folder, own: &Credential) {
    for (name, text) in [("own.crt", &own.certificate), ("own.key", &own.key)] {
        let path = folder.write(&format!("{name}.new"), text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(path, folder.path(name)).unwrap();
    }
}

fn unsigned(body: &[u8]) -> Vec<u8> {
    Delivery::unsigned(body).bytes()
}

fn files_that_change_are_read_again(driver: Driver) {
    let (folder, ours, others) = (Folder::new(), Authority::new("ours"), Authority::new("others"));
    let application = SecureApplication::answering(server(&ours.certify(&["localhost"]), Some(&ours), |_| ()), OK);
    folder.write("app-ca.crt", &ours.pem());
    write_own(&folder, &others.certify(&["proxy"]));
    let program = Program::run(&configure(driver, &folder, &application, ("", "")));
    assert_eq!(program.connect().ask(&unsigned(b"{}")).status, 502, "no certificate of ours");
    write_own(&folder, &ours.certify(&["proxy"]));
    assert!(eventually(|| program.connect().ask(&unsigned(b"{}")).status == 200), "{:#?}", program.log());
    folder.write("app-ca.crt", &others.pem());
    assert!(eventually(|| program.connect().ask(&unsigned(b"{}")).status == 502), "{:#?}", program.log());
    assert!(program.log().iter().any(|line| line.contains("[upstream] changed")), "{:#?}", program.log());
}

fn stored_deliveries_over_tls(driver: Driver) {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let application = SecureApplication::answering(server(&ours.certify(&["localhost"]), Some(&ours), |_| ()), OK);
    folder.write("app-ca.crt", &ours.pem());
    write_own(&folder, &ours.certify(&["proxy"]));
    let more = ("[inbox]\ndirectory = \"inbox\"\nsize = \"64MiB\"\n", "acknowledge = \"durable\"\n");
    let program = Program::run(&configure(driver, &folder, &application, more));
    assert!(eventually(|| program.log().iter().any(|line| line.contains("the inbox is open"))), "{:#?}", program.log());
    let body = noise(1 << 20);
    for number in 1..=5 {
        assert_eq!(program.connect().ask(&unsigned(&body)).status, 202);
        assert!(eventually(|| application.bodies().len() == number), "{:#?}", program.log());
    }
    assert!(application.bodies().iter().all(|stored| *stored == body));
    assert_eq!(application.connections(), 1);
}

fn the_doctor_makes_the_handshake(driver: Driver) {
    let (folder, ours, others) = (Folder::new(), Authority::new("ours"), Authority::new("others"));
    let application = SecureApplication::answering(server(&ours.certify(&["localhost"]), Some(&ours), |_| ()), OK);
    folder.write("app-ca.crt", &ours.pem());
    let config = configure(driver, &folder, &application, ("", ""));
    let examine = |own: &Credential, ca: &Authority| {
        folder.write("app-ca.crt", &ca.pem());
        write_own(&folder, own);
        let output = Command::new(BINARY).args(["doctor", "--json", "--config"]).arg(&config).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let good = examine(&ours.certify(&["proxy"]), &ours);
    assert!(good.contains("over TLS, and its certificate holds"), "{good}");
    for (own, ca, why) in
        [(ours.certify(&["proxy"]), &others, "UnknownIssuer"), (others.certify(&["proxy"]), &ours, "alert")]
    {
        let bad = examine(&own, ca);
        assert!(bad.contains("the handshake of TLS fails") && bad.contains(why), "{bad}");
    }
}
