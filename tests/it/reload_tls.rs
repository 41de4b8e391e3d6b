//! Certificates and authorities that change under a running proxy: what new handshakes see, what becomes of connections
//! that are there, and what the log says.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::reload::publish;
use crate::reload_live::on_command;
use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::secure::{Authority, Credential, SecureClient};
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    a_certificate_and_its_key_change_together,
    half_of_a_pair_changes_nothing,
    mounts_of_cert_manager,
    authorities_are_read_again,
    a_connection_goes_with_the_authority_that_vouched_for_it,
    names_of_a_connection_are_those_of_the_policy,
    no_connection_goes_on_in_plain_text,
}

/// Noticed by events alone, and by looking alone.
const NOTICED: [&str; 2] = ["watch = true\npoll = \"0s\"", "watch = false\npoll = \"100ms\""];

const END: &str = "until 4096-01-01T00:00:00Z";

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

pub(crate) fn fingerprint(pem: &str) -> String {
    let hash = digest(&SHA256, &der(pem));
    hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// A process with one encrypted listener, whose files a test changes.
struct Site {
    folder: Folder,
    ours: Authority,
    program: Program,
    _application: Application,
}

impl Site {
    fn new(driver: Driver, noticed: &str, lines: &str, arrange: impl FnOnce(&Folder, &Authority)) -> Self {
        let (folder, application, ours) = (Folder::new(), Application::answering(OK), Authority::new("ours"));
        arrange(&folder, &ours);
        let (driver, upstream) = (driver.name(), application.address());
        let config = folder.write(
            "countersign.toml",
            &format!(
                "[server]\nworkers = 1\ndriver = \"{driver}\"\ndrain_delay = \"0s\"\ndrain_grace = \"0s\"\n\
                 [reload]\n{noticed}\n[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n{lines}\n\
                 [upstream]\naddress = \"{upstream}\"\n[[route]]\npath = \"/hook\"\nscheme = \"none\"\n"
            ),
        );
        let program = Program::run(&config);
        program.address();
        Self { folder, ours, program, _application: application }
    }

    /// As many deployers do it: written under another name, then renamed.
    fn replace(&self, name: &str, text: &str) {
        let path = self.folder.write(&format!("{name}.new"), text);
        fs::rename(path, self.folder.path(name)).unwrap();
    }

    /// A new connection, with no session to resume.
    fn connect(&self) -> SecureClient {
        self.ours.client(None).connect(self.program.address())
    }

    #[track_caller]
    fn await_shown(&self, credential: &Credential) {
        let expected = der(&credential.certificate);
        assert!(eventually(|| self.connect().shown() == expected), "{:#?}", self.program.log());
        assert_eq!(self.connect().ask(&delivery()).status, 200);
    }

    fn status_of(&self, own: &Credential) -> u16 {
        self.ours.client(Some(own)).ask(self.program.address(), &delivery()).map_or(0, |answer| answer.status)
    }

    fn told(&self, text: &str) -> usize {
        self.program.log().iter().filter(|line| line.contains(text)).count()
    }
}

fn delivery() -> Vec<u8> {
    Delivery::unsigned(b"{}").bytes()
}

fn write_pair(folder: &Folder, credential: &Credential) {
    folder.write("tls.crt", &credential.certificate);
    folder.write("tls.key", &credential.key);
}

const PAIR: &str = "certificate = \"tls.crt\"\nkey = \"tls.key\"";

fn a_certificate_and_its_key_change_together(driver: Driver) {
    for noticed in NOTICED {
        let mut shown = None;
        let site = Site::new(driver, noticed, PAIR, |folder, ours| {
            let credential = ours.certify(&["localhost"]);
            write_pair(folder, &credential);
            shown = Some(credential);
        });
        let first = shown.unwrap();
        let mut kept = site.connect();
        assert_eq!((kept.ask(&delivery()).status, kept.shown()), (200, der(&first.certificate)));
        let second = site.ours.certify(&["localhost"]);
        site.replace("tls.key", &second.key);
        site.replace("tls.crt", &second.certificate);
        site.await_shown(&second);
        assert_eq!(kept.ask(&delivery()).status, 200, "an open connection stays");
        let (old, new) = (fingerprint(&first.certificate), fingerprint(&second.certificate));
        site.program.await_line(&format!(
            "certificate tls.crt of listener 127.0.0.1:0 changed from SHA-256 {old} {END} to SHA-256 {new} {END}"
        ));
        let secrets = [&first.key, &second.key].map(|key| key.lines().nth(1).unwrap().to_owned());
        assert!(site.program.log().iter().all(|line| secrets.iter().all(|secret| !line.contains(secret))));
    }
}

fn half_of_a_pair_changes_nothing(driver: Driver) {
    for noticed in NOTICED {
        let mut shown = None;
        let site = Site::new(driver, noticed, PAIR, |folder, ours| {
            let credential = ours.certify(&["localhost"]);
            write_pair(folder, &credential);
            shown = Some(credential);
        });
        let first = shown.unwrap();
        let second = site.ours.certify(&["localhost"]);
        site.replace("tls.key", &second.key);
        site.program.await_line("reload refused, nothing has changed: generation=1 stays in force");
        site.program.await_line("the key in tls.key is not that of the certificate in tls.crt");
        site.await_shown(&first);
        let (half, _) = second.certificate.split_at(second.certificate.len() / 2);
        site.replace("tls.crt", half);
        site.program.await_line("tls.crt is not whole PEM");
        site.await_shown(&first);
        site.replace("tls.crt", &second.certificate);
        site.await_shown(&second);
        // What is in force is told a moment later.
        site.program.await_line("reloaded generation=");
        assert_eq!(site.told("reloaded generation="), 1, "{:#?}", site.program.log());
    }
}

fn mounts_of_cert_manager(driver: Driver) {
    let lines = "certificate = \"tls/tls.crt\"\nkey = \"tls/tls.key\"";
    let put = |volume: &Path, version: &str, credential: &Credential, ca: &str| {
        let files = [("ca.crt", ca), ("tls.crt", &credential.certificate), ("tls.key", &credential.key)];
        publish(volume, version, &files);
    };
    for noticed in NOTICED {
        let site = Site::new(driver, noticed, lines, |folder, ours| {
            fs::create_dir(folder.path("tls")).unwrap();
            put(&folder.path("tls"), "1", &ours.certify(&["localhost"]), &ours.pem());
        });
        for version in 2..6 {
            let next = site.ours.certify(&["localhost"]);
            put(&site.folder.path("tls"), &version.to_string(), &next, &site.ours.pem());
            site.await_shown(&next);
        }
        assert_eq!((site.told("reloaded generation="), site.told("refused,")), (4, 0), "{:#?}", site.program.log());
    }
}

fn authorities_are_read_again(driver: Driver) {
    for noticed in NOTICED {
        let [one, two] = ["one", "two"].map(Authority::new);
        let [of_one, of_two] = [&one, &two].map(|authority| authority.certify(&["sender.example"]));
        let lines = format!("{PAIR}\nclient_ca = \"ca.crt\"");
        let site = Site::new(driver, noticed, &lines, |folder, ours| {
            write_pair(folder, &ours.certify(&["localhost"]));
            folder.write("ca.crt", &one.pem());
        });
        assert_eq!((site.status_of(&of_one), site.status_of(&of_two)), (200, 0));
        site.replace("ca.crt", &(one.pem() + &two.pem()));
        let [first, second] = [&one, &two].map(|authority| fingerprint(&authority.pem()));
        let line = "client_ca ca.crt of listener 127.0.0.1:0 changed:";
        site.program.await_line(&format!("{line} added SHA-256 {second} {END}"));
        assert_eq!((site.status_of(&of_one), site.status_of(&of_two)), (200, 200));
        let mut kept = site.ours.client(Some(&of_one)).connect(site.program.address());
        let mut trusted = site.ours.client(Some(&of_two)).connect(site.program.address());
        assert_eq!((kept.ask(&delivery()).status, trusted.ask(&delivery()).status), (200, 200));
        // Long enough for both to be idle, without a buffer.
        std::thread::sleep(Duration::from_millis(400));
        site.replace("ca.crt", &two.pem());
        site.program.await_line(&format!("{line} removed SHA-256 {first} {END}"));
        assert_eq!((site.status_of(&of_one), site.status_of(&of_two)), (0, 200));
        kept.assert_closed();
        assert_eq!(trusted.ask(&delivery()).status, 200);
        site.replace("ca.crt", "not PEM\n");
        site.program.await_line("ca.crt is not PEM");
        assert_eq!((trusted.ask(&delivery()).status, site.status_of(&of_two)), (200, 200));
    }
}

/// A proxy that asks for certificates of these authorities.
fn asking(driver: Driver, application: &Application, ours: &Authority, (ca, lines): (&Authority, &str)) -> Plan {
    let shown = ours.certify(&["localhost"]);
    let lines = format!("client_ca = \"ca.crt\"\n{lines}");
    Proxy::on(driver, application).file("ca.crt", &ca.pem()).encrypted(&shown, &lines)
}

fn a_connection_goes_with_the_authority_that_vouched_for_it(driver: Driver) {
    let (application, answer) = on_command();
    let [ours, one, two] = ["ours", "one", "two"].map(Authority::new);
    let plan = asking(driver, &application, &ours, (&one, ""));
    let mut proxy = plan.clone().start();
    let own = one.certify(&["sender.example"]);
    let dialer = ours.client(Some(&own));
    let [mut waiting, mut sending, mut fresh, mut idle] = [(); 4].map(|()| dialer.connect(proxy.addresses()[0]));
    let request = Delivery::of(b"x");
    answer();
    assert_eq!(idle.ask(&request.bytes()).status, 200);
    waiting.send(&request.bytes());
    application.assert_requests(2);
    sending.send(&request.head());
    answer();
    // The same authority in another file, and other things that change, are nothing to part for.
    proxy.apply(&plan.clone().limit("headers = 50"));
    assert!(!waiting.answer().closes());
    waiting.send(&request.bytes());
    application.assert_requests(3);
    proxy.apply(&plan.clone().file("ca.crt", &two.pem()));
    idle.assert_closed();
    fresh.assert_closed();
    sending.send(b"x");
    application.assert_requests(4);
    answer();
    answer();
    for client in [&mut waiting, &mut sending] {
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (200, true), "what has begun is finished");
        client.assert_closed();
    }
    assert!(eventually(|| proxy.connection_ends().len() >= 4));
    assert_eq!(proxy.connection_ends(), ["tls_certificate_unknown_authority"; 4]);
    proxy.assert_nothing_held();
}

fn names_of_a_connection_are_those_of_the_policy(driver: Driver) {
    let application = Application::answering(OK);
    let [ours, theirs] = ["ours", "theirs"].map(Authority::new);
    let with = |lines: &str| asking(driver, &application, &ours, (&theirs, lines));
    let mut proxy = with("client_names = [\"one.example\", \"two.example\"]").start();
    let both = theirs.certify(&["one.example", "two.example"]);
    let mut client = ours.client(Some(&both)).connect(proxy.addresses()[0]);
    let mut without = None;
    let steps = [
        ("client_auth = \"request\"\nclient_names = [\"two.example\"]", "two.example"),
        ("client_auth = \"request\"", "one.example"),
        ("client_auth = \"require\"\nclient_names = [\"*.example\"]", "one.example"),
    ];
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    for (position, (lines, name)) in steps.into_iter().enumerate() {
        proxy.apply(&with(lines));
        assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
        assert!(eventually(|| proxy.callers().last().is_some_and(|it| it == name)), "{:?}", proxy.callers());
        if position == 0 {
            let mut stranger = ours.client(None).connect(proxy.addresses()[0]);
            assert_eq!(stranger.ask(&Delivery::of(b"x").bytes()).status, 200);
            assert!(eventually(|| proxy.callers().last().is_some_and(String::is_empty)));
            without = Some(stranger);
        }
    }
    // It has no certificate, and now one is required.
    without.unwrap().assert_closed();
    proxy.apply(&with("client_names = [\"three.example\"]"));
    client.assert_closed();
    assert_eq!(proxy.connection_ends(), ["tls_certificate_missing", "tls_name_refused"]);
}

fn no_connection_goes_on_in_plain_text(driver: Driver) {
    let application = Application::answering(OK);
    let ours = Authority::new("ours");
    let plain = Proxy::on(driver, &application);
    let encrypted = plain.clone().encrypted(&ours.certify(&["localhost"]), "");
    let mut proxy = plain.clone().start();
    let address = proxy.addresses()[0];
    let mut client = Client::connect(address);
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    proxy.apply(&encrypted);
    client.assert_closed();
    let mut client = ours.client(None).connect(address);
    assert_eq!(client.ask(&Delivery::of(b"x").bytes()).status, 200);
    proxy.apply(&plain);
    client.assert_closed();
    assert_eq!(Client::connect(address).ask(&Delivery::of(b"x").bytes()).status, 200);
    assert_eq!(proxy.connection_ends(), Vec::<&str>::new());
}
