//! `[listener.tls]`: every mistake with its place, the files that belong together, and what `check` says of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use countersign::config::summary::{moment_warnings, summary};
use countersign::config::{Problem, Severity};
use countersign::now::Now;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm, date_time_ymd};

use crate::support::{Directory, ROUTE, directory};

fn credential(names: &[&str], algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    let key = KeyPair::generate_for(algorithm).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// With `tls.crt`, `tls.key`, `other.crt`, `other.key` and `ca.crt`.
fn certified() -> Directory {
    let directory = directory();
    let (certificate, key) = credential(&["hooks.example.com", "192.0.2.1"], &rcgen::PKCS_ECDSA_P256_SHA256);
    directory.write("tls.crt", &certificate);
    directory.write("tls.key", &key);
    directory.write("ca.crt", certificate);
    let (certificate, key) = credential(&["*.example.org"], &PKCS_ED25519);
    directory.write("other.crt", certificate);
    directory.write("other.key", key);
    directory
}

/// The lines of `[listener.tls]` begin at line 6.
fn with(lines: &str) -> String {
    format!(
        "[upstream]\naddress = '127.0.0.1:9000'\n[[listener]]\naddress = '127.0.0.1:8443'\n[listener.tls]\n{lines}\n{ROUTE}"
    )
}

const PAIR: &str = "certificate = 'tls.crt'\nkey = 'tls.key'\n";

fn problems_of(directory: &Directory, text: &str) -> Vec<Problem> {
    match directory.load(text) {
        Ok(loaded) => loaded.warnings.iter().cloned().collect(),
        Err(problems) => problems.iter().cloned().collect(),
    }
}

/// Line, key path, a part of the message, a part of the fix.
type Expected<'e> = (u32, &'e str, &'e str, &'e str);

#[track_caller]
fn assert_problems(directory: &Directory, lines: &str, severity: Severity, expected: &[Expected<'_>]) {
    let found = problems_of(directory, &with(lines));
    assert_eq!(found.len(), expected.len(), "{lines}\n{found:#?}");
    for (problem, (line, path, message, fix)) in found.iter().zip(expected) {
        assert_eq!((problem.place.line, problem.place.key_path.as_str()), (*line, *path), "{problem}");
        assert_eq!(problem.severity, severity, "{problem}");
        assert!(problem.message.contains(message) && problem.fix.contains(fix), "{problem}");
    }
}

#[test]
fn certificates_and_keys_of_every_kind_load() {
    let directory = certified();
    let (certificate, key) = credential(&["p384.example.com"], &PKCS_ECDSA_P384_SHA384);
    directory.write("p384.crt", certificate);
    directory.write("p384.key", key);
    let more = "certificates = [{ certificate = 'other.crt', key = 'other.key' }, \
                { certificate = 'p384.crt', key = 'p384.key' }]\nclient_ca = 'ca.crt'\nclient_auth = 'request'\n\
                client_names = ['*.hooks.example.com', 'spiffe://example.com/x']\nmin_version = '1.3'";
    let loaded = directory.load(&with(&format!("{PAIR}{more}"))).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let tls = loaded.tls[0].as_ref().unwrap();
    assert_eq!(tls.certificates.len(), 3);
    assert!(tls.callers.as_ref().is_some_and(|(roots, callers)| roots.len() == 1 && !callers.required));
}

/// What `openssl x509 -req` makes of a request without extensions: version 1. With its key.
const FIRST_VERSION: [&str; 2] = [include_str!("version1.crt"), include_str!("version1.key")];

#[test]
fn a_certificate_that_cannot_be_used_is_not_the_fault_of_its_key() {
    let directory = certified();
    let [certificate, key] = FIRST_VERSION;
    directory.write("tls.crt", certificate);
    directory.write("tls.key", key);
    let expected = (6, "listener[0].tls.certificate", "the certificate in tls.crt cannot be used", "version 3");
    assert_problems(&directory, PAIR, Severity::Error, &[expected]);
}

#[test]
fn mistakes_in_the_keys() {
    let directory = certified();
    let mistakes: [(&str, &[Expected<'_>]); 12] = [
        (
            "",
            &[
                (5, "listener[0].tls.certificate", "is missing", "tls.crt"),
                (5, "listener[0].tls.key", "is missing", "tls.key"),
            ],
        ),
        (
            "certificate = ''\nkey = 7",
            &[
                (6, "listener[0].tls.certificate", "is empty", "name the file"),
                (7, "listener[0].tls.key", "expected a string", "quotes"),
            ],
        ),
        (
            "cert = 'tls.crt'\ncertificate = 'tls.crt'\nkey = 'tls.key'",
            &[(6, "listener[0].tls.cert", "unknown key", "certificate, key")],
        ),
        (
            &format!("{PAIR}client_names = ['a.example']\nclient_auth = 'require'"),
            &[
                (8, "listener[0].tls.client_names", "no client_ca", "add client_ca"),
                (9, "listener[0].tls.client_auth", "no client_ca", "add client_ca"),
            ],
        ),
        (
            &format!("{PAIR}client_ca = 'ca.crt'\nclient_auth = 'required'"),
            &[(9, "listener[0].tls.client_auth", "not one of the choices", "\"require\"")],
        ),
        (
            &format!("{PAIR}client_ca = 'ca.crt'\nclient_names = []"),
            &[(9, "listener[0].tls.client_names", "has 0 names", "leave it out")],
        ),
        (
            &format!("{PAIR}client_ca = 'ca.crt'\nclient_names = ['a b', 'a.*.b', '*', 'h:443']"),
            &[
                (9, "listener[0].tls.client_names[0]", "neither a host name nor a URI", "spiffe://"),
                (9, "listener[0].tls.client_names[1]", "wildcard", "one label"),
                (9, "listener[0].tls.client_names[2]", "wildcard", "one label"),
                (9, "listener[0].tls.client_names[3]", "neither a host name nor a URI", "spiffe://"),
            ],
        ),
        (
            &format!("{PAIR}min_version = '1.1'"),
            &[(8, "listener[0].tls.min_version", "not one of the choices", "\"1.2\"")],
        ),
        (&format!("{PAIR}min_version = 1.2"), &[(8, "listener[0].tls.min_version", "expected a string", "quotes")]),
        (&format!("{PAIR}crl = 'x'"), &[(8, "listener[0].tls.crl", "unknown key", "known here")]),
        (
            &format!("{PAIR}certificates = [{{ certificate = 'other.crt' }}]"),
            &[(8, "listener[0].tls.certificates[0].key", "is missing", "tls.key")],
        ),
        (
            &format!("{PAIR}certificates = ['other.crt']"),
            &[(8, "listener[0].tls.certificates", "expected a list of tables", "certificates = [{")],
        ),
    ];
    for (lines, expected) in mistakes {
        assert_problems(&directory, lines, Severity::Error, expected);
    }
}

#[test]
fn mistakes_in_the_files() {
    let directory = certified();
    let certificate = fs::read_to_string(directory.0.join("tls.crt")).unwrap();
    let key = fs::read_to_string(directory.0.join("tls.key")).unwrap();
    directory.write("empty", " \n");
    directory.write("text", "certificate of hooks.example.com\n");
    directory.write("cut", &certificate[..certificate.len() - 60]);
    directory.write("not-x509", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    directory.write("bad-key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    directory.write("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    directory.write(
        "locked-rsa",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    directory.write("whole", format!("{certificate}{key}"));
    let (crt, pem_key, ca) = ("listener[0].tls.certificate", "listener[0].tls.key", "listener[0].tls.client_ca");
    let mistakes: [(&str, &str, &[Expected<'_>]); 12] = [
        ("missing", "tls.key", &[(6, crt, "cannot be read", "check the path")]),
        ("tls.crt", "missing", &[(7, pem_key, "cannot be read", "check the path")]),
        ("empty", "empty", &[(6, crt, "is empty", "in PEM"), (7, pem_key, "is empty", "in PEM")]),
        ("text", "text", &[(6, crt, "is not PEM", "openssl x509"), (7, pem_key, "is not PEM", "openssl pkey")]),
        ("cut", "tls.key", &[(6, crt, "not whole PEM", "again")]),
        (
            "tls.key",
            "tls.crt",
            &[(6, crt, "no certificate in", "right file"), (7, pem_key, "no private key in", "right file")],
        ),
        ("not-x509", "tls.key", &[(6, crt, "not a certificate", "X.509")]),
        ("tls.crt", "bad-key", &[(7, pem_key, "not supported", "P-256")]),
        ("tls.crt", "locked", &[(7, pem_key, "is encrypted", "openssl pkey")]),
        ("tls.crt", "locked-rsa", &[(7, pem_key, "is encrypted", "openssl pkey")]),
        // One of the two files has been replaced, the other not yet.
        ("tls.crt", "other.key", &[(7, pem_key, "is not that of the certificate in tls.crt", "belong together")]),
        ("whole", "whole", &[]),
    ];
    for (certificate, key, expected) in mistakes {
        let lines = format!("certificate = '{certificate}'\nkey = '{key}'");
        assert_problems(&directory, &lines, Severity::Error, expected);
    }
    for (file, message) in [
        ("missing", "cannot be read"),
        ("text", "is not PEM"),
        ("tls.key", "no certificate"),
        ("not-x509", "cannot be an authority"),
    ] {
        assert_problems(&directory, &format!("{PAIR}client_ca = '{file}'"), Severity::Error, &[(8, ca, message, "")]);
    }
}

#[test]
fn everything_is_reported_at_once() {
    let lines = "certificate = 'missing'\nkey = 'other.key'\nclient_ca = 'missing'\nclient_names = ['*']\n\
                 certificates = [{ certificate = 'tls.crt', key = 'other.key' }]";
    let found = problems_of(&certified(), &format!("{}body_size = 1\n", with(lines)));
    let paths: Vec<&str> = found.iter().map(|problem| problem.place.key_path.as_str()).collect();
    let tls = |key: &str| format!("listener[0].tls.{key}");
    let expected = ["certificate", "client_ca", "client_names[0]", "certificates[0].key"].map(tls);
    assert_eq!(
        paths,
        [expected.each_ref().map(String::as_str).as_slice(), &["route[0].body_size"]].concat(),
        "{found:#?}"
    );
}

#[test]
fn a_key_that_every_user_can_read_is_warned_about() {
    let directory = certified();
    let path = directory.0.join("tls.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let expected = [(7, "listener[0].tls.key", "read by every user", "chmod o-rwx")];
    assert_problems(&directory, PAIR, Severity::Warning, &expected);
}

#[test]
fn a_route_that_asks_for_names_needs_a_listener_that_asks_for_certificates() {
    let directory = certified();
    let route = "client_names = ['a.example']\n";
    let found = problems_of(&directory, &format!("{}{route}", with(PAIR)));
    assert_eq!((found.len(), found[0].place.line, found[0].place.key_path.as_str()), (1, 13, "route[0].client_names"));
    assert!(found[0].message.contains("no client could call") && found[0].fix.contains("client_ca"), "{}", found[0]);
    let asking = with(&format!("{PAIR}client_ca = 'ca.crt'"));
    assert!(problems_of(&directory, &format!("{asking}{route}")).is_empty());
}

#[test]
fn a_summary_says_what_is_shown_to_whom_until_when() {
    let directory = certified();
    let more = "client_ca = 'ca.crt'\nclient_names = ['*.hooks.example.com']";
    let loaded = directory.load(&with(&format!("{PAIR}{more}"))).unwrap();
    let at = |seconds: u64| Now::at_unix(Duration::from_secs(seconds));
    let text = summary(&loaded.settings, at(1_790_000_000));
    for part in [
        "TLS 1.3 and 1.2, HTTP/1.1",
        "certificate hooks.example.com, 192.0.2.1 (also for",
        "from 2026-01-01T00:00:00Z until 2027-01-01T00:00:00Z",
        "SHA-256 ",
        "a certificate of ca.crt; without one they are refused",
        "with one of these names: *.hooks.example.com",
        "TLS handshake within 10s, 1024 of them",
        "handshakes without a genuine delivery, of each client: 50/s, 100 at once; more wait behind others",
        "and as much for their handshakes = 9.2MiB",
        "key ECDSA P-256 or Ed25519",
        "records     10000 connections × ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("WARNING     this certificate"), "{text}");
    assert!(moment_warnings(&loaded.settings, at(1_790_000_000)).is_empty());
    for (seconds, part) in [
        (1_700_000_000, "does not hold before 2026-01-01T00:00:00Z"),
        (1_798_500_000, "expires soon, at 2027-01-01T00:00:00Z"),
        (1_800_000_000, "expired at 2027-01-01T00:00:00Z"),
    ] {
        let warnings = moment_warnings(&loaded.settings, at(seconds));
        // The authority is the same certificate.
        assert!(warnings.len() == 2 && warnings[0].contains("tls.crt") && warnings[0].contains(part), "{warnings:?}");
        assert!(warnings[1].contains("in client_ca ca.crt") && warnings[1].contains(part), "{warnings:?}");
        assert!(summary(&loaded.settings, at(seconds)).contains(part));
    }
}

#[test]
fn an_authority_that_has_ended_is_warned_about() {
    let directory = certified();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "an old\u{1b}[31m root");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2011, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let old = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let current = fs::read_to_string(directory.0.join("ca.crt")).unwrap();
    directory.write("ca.crt", format!("{current}{old}"));
    let loaded = directory.load(&with(&format!("{PAIR}client_ca = 'ca.crt'"))).unwrap();
    let now = Now::at_unix(Duration::from_secs(1_790_000_000));
    let warnings = moment_warnings(&loaded.settings, now);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("an old") && warnings[0].contains("expired at 2021-01-01T00:00:00Z"), "{warnings:?}");
    assert!(warnings[0].contains("accepted all the same") && !warnings[0].contains('\u{1b}'), "{warnings:?}");
    let text = summary(&loaded.settings, now);
    assert!(text.contains("WARNING     this authority expired at 2021-01-01T00:00:00Z"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// What `openssl req -x509 -newkey rsa:4096` makes.
const RSA: [&str; 2] = [include_str!("rsa4096.crt"), include_str!("rsa4096.key")];

#[test]
fn what_an_rsa_key_costs_is_told() {
    let directory = certified();
    directory.write("tls.crt", RSA[0]);
    directory.write("tls.key", RSA[1]);
    let loaded = directory.load(&with(PAIR)).unwrap_or_else(|problems| panic!("{problems}"));
    let text = summary(&loaded.settings, Now::at_unix(Duration::from_secs(1_790_000_000)));
    assert!(text.contains("WARNING     key RSA 4096: handshakes cost 40 times those with ECDSA P-256"), "{text}");
}

#[test]
fn every_address_is_said_to_be_of_both_kinds() {
    let directory = certified();
    let of = |address: &str| {
        let text = with(PAIR).replace("127.0.0.1:8443", address);
        summary(&directory.load(&text).unwrap().settings, Now::at_unix(Duration::from_secs(1_790_000_000)))
    };
    assert!(of("[::]:8443").contains("all addresses, IPv6 and IPv4"));
    for address in ["0.0.0.0:8443", "[::1]:8443"] {
        assert!(!of(address).contains("IPv6 and IPv4"), "{address}");
    }
}
