//! The connection to the engine over TLS, and the user that the documentation gives us there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use countersign::ledger::shared::EngineTrouble;
use countersign::telemetry::engine::{EngineAsk, EngineEnd};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::sentinels::{Sentinel, configure_with};
use crate::support::*;

/// An authority, a certificate of the engine and one of ours, as files.
pub(crate) struct Papers {
    folder: PathBuf,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let folder = folder();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.crt"), root.pem()).unwrap();
        for (name, host) in [("engine", "localhost"), ("replica", "countersign")] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            // Another name than that of the authority: OpenSSL takes a certificate with the same two for one of its own authority.
            params.distinguished_name.push(DnType::CommonName, host);
            let leaf = params.signed_by(&key, &root).unwrap();
            fs::write(folder.join(format!("{name}.crt")), leaf.pem()).unwrap();
            fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// An engine with a port for TLS.
    fn engine(&self, asks: &str, more: &[&str]) -> Option<(Engine, u16)> {
        if !speaks_tls() {
            eprintln!("left out: {} was built without TLS", server());
            return None;
        }
        let port = free_port();
        let (certificate, key, ca) = (self.path("engine.crt"), self.path("engine.key"), self.path("ca.crt"));
        let port_text = port.to_string();
        let mut options = vec!["--tls-port", &port_text, "--bind", "127.0.0.1", "--tls-cert-file", &certificate];
        options.extend(["--tls-key-file", &key, "--tls-ca-cert-file", &ca, "--tls-auth-clients", asks]);
        options.extend(more);
        Some((Engine::start(&options)?, port))
    }
}

/// Whether the server was built with TLS: it is asked for it without a certificate, so it ends at once and says why.
pub(crate) fn speaks_tls() -> bool {
    let asked = Command::new(server()).args(["--port", "0", "--tls-replication", "yes"]).output();
    let said = asked.map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
    // Where there is no server at all, that is said where it is started.
    said.map_or(true, |said| !said.contains("Failed finding TLS support") && !said.contains("Bad directive"))
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn replica(address: &str, application: &Application, shared: &str, terms: Terms<'_>) -> Replica {
    Replica::start(&configure(address, application, Terms { shared, ..terms }))
}

#[test]
fn claims_and_rates_over_tls_are_the_same() {
    for driver in DRIVERS {
        let papers = Papers::new();
        let Some((_engine, port)) = papers.engine("no", &[]) else { return };
        let application = application(true);
        let shared = format!("response_timeout = \"1s\"\ntls = {{ ca = \"{}\" }}", papers.path("ca.crt"));
        let terms = Terms { driver, route: "rate = { rate = \"1000000/s\", burst = 1000, shared = true }", ..USUAL };
        let replicas: Vec<Replica> =
            (0..2).map(|_| replica(&format!("rediss://localhost:{port}"), &application, &shared, terms)).collect();
        replicas.iter().for_each(Replica::await_engine);
        thread::scope(|scope| {
            for client in 0..8 {
                let replicas = &replicas;
                scope.spawn(move || {
                    for number in 0..40 {
                        let body = format!("{{\"number\":{}}}", number / 2);
                        let status = deliver(replicas[(client + number) % 2].address(), &body);
                        assert!(status == 200 || status == 409, "{status}");
                    }
                });
            }
        });
        let mut bodies: Vec<String> = application.bodies.try_iter().collect();
        bodies.sort();
        let before = bodies.len();
        bodies.dedup();
        assert_eq!((bodies.len(), before), (20, 20), "each of them once, {driver}");
        // A connection that is quiet is tried now and then.
        thread::sleep(std::time::Duration::from_millis(2500));
        assert!(replicas.iter().all(|replica| replica.trouble().is_none()));
    }
}

#[test]
fn an_engine_that_is_not_the_right_one_is_named_and_not_used() {
    let (papers, others) = (Papers::new(), Papers::new());
    let Some((_engine, port)) = papers.engine("yes", &[]) else { return };
    let application = application(true);
    let ours = |name: &str| papers.path(name);
    let pair = format!("certificate = \"{}\", key = \"{}\"", ours("replica.crt"), ours("replica.key"));
    let strangers =
        format!("certificate = \"{}\", key = \"{}\"", others.path("replica.crt"), others.path("replica.key"));
    let (ca, other_ca) = (ours("ca.crt"), others.path("ca.crt"));
    let encrypted = format!("rediss://localhost:{port}");
    for (tls, trouble) in [
        (format!("ca = \"{ca}\", {pair}"), None),
        (format!("ca = \"{other_ca}\", {pair}"), Some(EngineTrouble::CertificateRefused)),
        (format!("ca = \"{ca}\", {pair}, server_name = \"redis.internal\""), Some(EngineTrouble::CertificateRefused)),
        (pair.clone(), Some(EngineTrouble::CertificateRefused)),
        (format!("ca = \"{ca}\""), Some(EngineTrouble::TlsFailed)),
        (format!("ca = \"{ca}\", {strangers}"), Some(EngineTrouble::TlsFailed)),
    ] {
        let replica = replica(&encrypted, &application, &format!("tls = {{ {tls} }}"), USUAL);
        // Before the first try is over it stands as it begins.
        eventually("an end of the beginning", || replica.trouble() != Some(EngineTrouble::Starting));
        assert_eq!(replica.trouble(), trouble, "{tls}");
        let status = deliver(replica.address(), "{\"encrypted\":1}");
        assert_eq!(status, if trouble.is_none() { 200 } else { 503 }, "{tls}");
    }
    // Plain text at a port for TLS.
    let replica = replica(&format!("localhost:{port}"), &application, "", USUAL);
    eventually("a connection that is closed", || replica.trouble() == Some(EngineTrouble::Closed));
    assert_eq!(application.bodies.try_iter().count(), 1);
}

#[test]
fn tls_to_a_port_that_speaks_plain_text_comes_to_nothing() {
    let papers = Papers::new();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in plain.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 8192]);
            let _ = stream.write_all(b"-ERR unknown command\r\n");
            let _ = stream.read(&mut [0]);
        }
    });
    let application = application(true);
    let shared = format!("tls = {{ ca = \"{}\" }}", papers.path("ca.crt"));
    let replica = replica(&format!("rediss://localhost:{port}"), &application, &shared, USUAL);
    eventually("no handshake", || replica.trouble() == Some(EngineTrouble::TlsFailed));
    assert_eq!(deliver(replica.address(), "{\"plain\":1}"), 503);
}

#[test]
fn sentinels_and_the_engine_that_they_name_are_both_spoken_to_over_tls() {
    let papers = Papers::new();
    let Some((_engine, engine_port)) = papers.engine("no", &[]) else { return };
    let (port, application) = (free_port(), application(true));
    let (ca, certificate, key) = (papers.path("ca.crt"), papers.path("engine.crt"), papers.path("engine.key"));
    let more = format!(
        "port 0\ntls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n\
         tls-auth-clients no\ntls-replication yes"
    );
    let sentinel = Sentinel::spawn(port, engine_port, 1, &more);
    let with = |tls: &str| {
        let shared = format!("connect_timeout = \"5s\"\ntls = {{ ca = \"{ca}\", {tls} }}");
        Replica::start(&configure_with(&[sentinel.port], &application, &shared))
    };
    let replica = with("server_name = \"localhost\"");
    replica.await_engine();
    assert_eq!(deliver(replica.address(), "{\"named\":1}"), 200);
    let replica = with("server_name = \"another\"");
    eventually("a certificate that is refused", || replica.trouble() == Some(EngineTrouble::CertificateRefused));
}

/// The line of the documentation for a user of its own, without the word that begins it.
pub(crate) fn documented_user() -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/replicas.md")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("user countersign ")).expect("a line for the user");
    format!("countersign {}", line.replace("PASSWORD", "a-password"))
}

#[test]
fn a_user_of_its_own_needs_no_more_than_the_documentation_says() {
    let papers = Papers::new();
    let rules = documented_user();
    let application = application(true);
    let tls = format!("tls = {{ ca = \"{}\" }}", papers.path("ca.crt"));
    let shared = format!("username = \"countersign\"\npassword_file = \"password\"\n{tls}");
    let start = |rules: &str| {
        let mut options = vec!["--user"];
        options.extend(rules.split_whitespace());
        let (engine, port) = papers.engine("no", &options)?;
        let terms = Terms { shared: &shared, route: "rate = { rate = \"9/s\", burst = 9, shared = true }", ..USUAL };
        let config = configure(&format!("rediss://localhost:{port}"), &application, terms);
        fs::write(config.with_file_name("password"), "a-password\n").unwrap();
        Some((Replica::start(&config), Replica::start(&config), engine))
    };
    let Some((one, other, engine)) = start(&rules) else { return };
    one.await_engine();
    other.await_engine();
    assert_eq!(deliver(one.address(), "{\"user\":1}"), 200);
    eventually("a commit", || one.counted(EngineAsk::Commit, EngineEnd::Done) == 1);
    assert_eq!(deliver(other.address(), "{\"user\":1}"), 200, "a copy");
    assert_eq!(other.counted(EngineAsk::Claim, EngineEnd::Duplicate), 1);
    assert_eq!(one.counted(EngineAsk::Take, EngineEnd::Done), 1);
    assert!(engine.ask(&["CLIENT", "LIST"]).contains("name=countersign-"));
    // What is left out is found when the connection begins.
    for missing in [" +evalsha", " +get", " +set", " +time", " +info"] {
        assert!(rules.contains(missing), "{missing}");
        let Some((replica, ..)) = start(&rules.replace(missing, "")) else { return };
        eventually(missing, || replica.trouble() == Some(EngineTrouble::NotPermitted));
    }
}
