//! An engine that is spoken to over TLS, and one whose place changes.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::support::*;

/// A port that nothing listens on at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn deliveries_go_to_the_engine_over_tls_and_only_to_the_right_one() {
    let papers = folder();
    let path = |name: &str| papers.join(name).display().to_string();
    for (authority, host) in [("ca", "localhost"), ("other-ca", "localhost")] {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(path(authority), root.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        fs::write(path(&format!("{authority}.engine")), params.signed_by(&key, &root).unwrap().pem()).unwrap();
        fs::write(path(&format!("{authority}.key")), key.serialize_pem()).unwrap();
    }
    let (port, certificate, key, ca) = (free_port(), path("ca.engine"), path("ca.key"), path("ca"));
    let text = port.to_string();
    let mut options = KEEPS.to_vec();
    options.extend(["--tls-port", &text, "--bind", "127.0.0.1", "--tls-cert-file", &certificate]);
    options.extend(["--tls-key-file", &key, "--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]);
    let Some(engine) = Engine::start(&options) else { return };
    let application = application("127.0.0.1:0", &[]);
    let place = |ca: &str| format!("address = \"rediss://localhost:{port}\"\ntls = {{ ca = \"{}\" }}", path(ca));
    let process = Process::start(&engine, application.address, Terms { place: &place("ca"), ..USUAL });
    let address = process.open();
    let large = format!("{{\"n\":\"{}\"}}", "x".repeat(300_000));
    assert_eq!(status(&send(address, &large)), "202");
    assert_eq!(body(&application.heard()), large);
    process.stop();
    let process = Process::start(&engine, application.address, Terms { place: &place("other-ca"), ..USUAL });
    let line = process.await_line("the inbox in the engine cannot be opened");
    assert!(line.contains("certificate_refused"), "{line}");
    assert_eq!(status(&send(process.address(), "{}")), "503");
    process.stop();
    fs::remove_dir_all(papers).unwrap();
}

struct Sentinel(Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_engine_that_fails_over_is_found_by_its_sentinels() {
    let (master, follower, port) = (free_port(), free_port(), free_port());
    let (master_port, follower_port) = (master.to_string(), follower.to_string());
    let mut options = KEEPS.to_vec();
    options.extend(["--port", &master_port, "--bind", "127.0.0.1"]);
    let Some(mut engine) = Engine::start(&options) else { return };
    let mut options = KEEPS.to_vec();
    options.extend(["--port", &follower_port, "--bind", "127.0.0.1", "--replicaof", "127.0.0.1", &master_port]);
    let other = Engine::start(&options).unwrap();
    eventually("a replica", || engine.ask(&["INFO", "replication"]).contains("state=online"));
    let config = format!(
        "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor mymaster 127.0.0.1 {master} 1\n\
         sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 4000\n",
        engine.folder.display()
    );
    let path = engine.folder.join("sentinel.conf");
    fs::write(&path, config).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(&path).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
    let _sentinel = Sentinel(command.spawn().unwrap());
    eventually("a sentinel", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let upstream = away();
    let place = format!("sentinels = [\"127.0.0.1:{port}\"]\nservice = \"mymaster\"");
    let process = Process::start(&engine, upstream, Terms { place: &place, ..USUAL });
    let address = process.open();
    eventually("what follows", || process.page("/status").contains("a failover can lose the last ones"));
    (0..5).for_each(|at| _ = send_until_acknowledged(address, &format!("{{\"n\":{at}}}")));
    engine.ask(&["WAIT", "1", "5000"]);
    engine.stop();
    eventually("a new master", || other.ask(&["ROLE"]).contains("master"));
    send_until_acknowledged(address, "{\"n\":5}");
    let application = application(&upstream.to_string(), &[]);
    let mut bodies: Vec<String> = (0..6).map(|_| body(&application.heard()).to_owned()).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 6);
    process.stop();
}
