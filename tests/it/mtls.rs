//! Clients that prove who they are, and those that cannot: on both drivers, in both versions.

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::support::application::OK;
use crate::support::child::Program;
use crate::support::folder::Folder;
use crate::support::proxy::Plan;
use crate::support::secure::{Authority, Credential};
use crate::support::{Application, Client, Delivery, Driver, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    a_client_without_a_certificate_is_refused_where_one_is_required,
    a_client_without_a_certificate_has_no_name_where_one_is_requested,
    certificates_that_do_not_hold_are_refused,
    each_cause_has_its_code,
    eight_intermediates_may_be_sent_and_nine_may_not,
    intermediates_in_any_order_and_useless_ones_do_no_harm,
    log_and_metric_name_cause_and_subject,
    a_handshake_with_a_certificate_that_holds_has_no_rate,
    only_listed_names_may_call,
    routes_have_names_of_their_own,
    the_name_is_told_and_cannot_be_claimed,
    no_session_is_resumed_where_certificates_are_asked_for,
    requests_are_counted_for_the_name,
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The authority of the servers, and that of the clients.
struct Cast {
    application: Application,
    ours: Authority,
    theirs: Authority,
    shown: Credential,
}

impl Cast {
    fn new() -> Self {
        let ours = Authority::new("ours");
        let shown = ours.certify(&["localhost"]);
        Self { application: Application::answering(OK), ours, theirs: Authority::new("theirs"), shown }
    }

    fn plan(&self, driver: Driver, lines: &str) -> Plan {
        let lines = format!("client_ca = \"ca.crt\"\n{lines}");
        Proxy::on(driver, &self.application).file("ca.crt", &self.theirs.pem()).encrypted(&self.shown, &lines)
    }

    /// The status of an answer, or 0 where there is none.
    fn ask(&self, proxy: &Proxy, own: Option<&Credential>, version: &'static SupportedProtocolVersion) -> u16 {
        let client = self.ours.client_of(own, &[version]);
        client.ask(proxy.addresses()[0], &Delivery::of(b"{}").bytes()).map_or(0, |answer| answer.status)
    }
}

#[track_caller]
fn assert_connection_ends(proxy: &Proxy, expected: &[&str]) {
    eventually(|| proxy.connection_ends().len() >= expected.len());
    assert_eq!(proxy.connection_ends(), expected);
}

fn a_client_without_a_certificate_is_refused_where_one_is_required(driver: Driver) {
    let cast = Cast::new();
    let proxy = cast.plan(driver, "").start();
    let own = cast.theirs.certify(&["sender.example"]);
    for version in VERSIONS {
        assert_eq!(cast.ask(&proxy, None, version), 0);
        assert_eq!(cast.ask(&proxy, Some(&own), version), 200);
    }
    assert_connection_ends(&proxy, &["tls_certificate_missing"; 2]);
    cast.application.assert_requests(2);
    proxy.assert_nothing_held();
}

fn a_client_without_a_certificate_has_no_name_where_one_is_requested(driver: Driver) {
    let cast = Cast::new();
    let proxy = cast.plan(driver, "client_auth = \"request\"\nclient_names = [\"sender.example\"]").start();
    let [own, other] = ["sender.example", "other.example"].map(|name| cast.theirs.certify(&[name]));
    for version in VERSIONS {
        assert_eq!(cast.ask(&proxy, None, version), 200);
        assert_eq!(cast.ask(&proxy, Some(&own), version), 200);
        // A certificate that is shown must hold, and have a name that may call.
        assert_eq!(cast.ask(&proxy, Some(&other), version), 0);
        assert_eq!(cast.ask(&proxy, Some(&cast.ours.certify(&["sender.example"])), version), 0);
    }
    proxy.assert_endings(&["forwarded"; 4]);
    assert_eq!(proxy.callers(), ["", "sender.example", "", "sender.example"]);
    assert_connection_ends(&proxy, &["tls_name_refused", "tls_certificate_unknown_authority"].repeat(2));
}

fn certificates_that_do_not_hold_are_refused(driver: Driver) {
    let cast = Cast::new();
    let proxy = cast.plan(driver, "").start();
    let expired = cast.theirs.certify_until(&["sender.example"], 2020);
    let stranger = Authority::new("theirs").certify(&["sender.example"]);
    for version in VERSIONS {
        for own in [&expired, &stranger] {
            assert_eq!(cast.ask(&proxy, Some(own), version), 0);
        }
    }
    // An authority of the same name has signed with another key.
    assert_connection_ends(&proxy, &["tls_certificate_expired", "tls_certificate_bad_signature"].repeat(2));
    cast.application.assert_saw_nothing("no client had the name that it claimed");
}

/// What `openssl x509 -req` makes of a request without extensions: version 1. With its key.
const FIRST_VERSION: [&str; 2] = [include_str!("../config/version1.crt"), include_str!("../config/version1.key")];

fn each_cause_has_its_code(driver: Driver) {
    let cast = Cast::new();
    let proxy = cast.plan(driver, "").start();
    let theirs = |change: fn(&mut CertificateParams)| cast.theirs.certify_as(&["sender.example"], change);
    let [certificate, key] = FIRST_VERSION.map(str::to_owned);
    let names: Vec<String> = (0..300).map(|number| format!("{number}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sender = cast.theirs.certify(&["sender.example"]);
    let below = cast.theirs.authorize("below");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let padding: Vec<String> = (0..8).map(|number| Authority::new(&"x".repeat(2400 + number)).pem()).collect();
    let cases = [
        ("tls_certificate_expired", theirs(|params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("tls_certificate_not_yet_valid", theirs(|params| params.not_before = date_time_ymd(4000, 1, 1))),
        ("tls_certificate_unknown_authority", Authority::new("another").certify(&["sender.example"])),
        ("tls_certificate_unknown_authority", below.certify(&["sender.example"])),
        ("tls_certificate_bad_signature", Authority::new("theirs").certify(&["sender.example"])),
        // The certificate of another client.
        ("tls_certificate_bad_signature", Credential { key: theirs(|_| ()).key, ..sender.clone() }),
        (
            "tls_certificate_wrong_purpose",
            theirs(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        ("tls_certificate_old_version", Credential { certificate, key }),
        ("tls_certificate_of_authority", cast.theirs.credential()),
        ("tls_certificate_of_authority", below.credential()),
        ("tls_certificate_too_large", cast.theirs.certify(&names)),
        ("tls_certificate_too_large", sender.clone().behind(&padding)),
        ("tls_certificate_malformed", Credential { certificate: garbage.to_owned(), key: sender.key.clone() }),
        ("tls_certificate_refused", theirs(|params| params.custom_extensions = vec![critical()])),
    ];
    for version in VERSIONS {
        for (code, own) in &cases {
            let before = proxy.connection_ends().len();
            assert_eq!(cast.ask(&proxy, Some(own), version), 0, "{code}");
            assert!(eventually(|| proxy.connection_ends().len() > before), "{code}");
            assert_eq!(proxy.connection_ends().last(), Some(code), "{version:?}");
            let refused = proxy.refused_certificates().pop().expect("a certificate");
            assert!(!refused.why.is_empty() && refused.why.is_ascii(), "{code}: {refused:?}");
            assert_eq!(refused.subject.is_empty(), *code == "tls_certificate_malformed", "{code}: {refused:?}");
        }
    }
    assert_eq!(proxy.refused_certificates().len(), 2 * cases.len());
    let hint = proxy.refused_certificates().iter().filter(|it| it.why.contains("basicConstraints")).count();
    assert_eq!(hint, 2, "an authority that shows its own certificate is told what to do");
    assert_eq!(cast.ask(&proxy, Some(&sender), VERSIONS[0]), 200);
    cast.application.assert_requests(1);
    proxy.assert_nothing_held();
}

/// An extension that is critical and unknown.
fn critical() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    extension
}

fn eight_intermediates_may_be_sent_and_nine_may_not(driver: Driver) {
    let cast = Cast::new();
    let proxy = cast.plan(driver, "").start();
    let between = cast.theirs.authorize("between");
    let useless =
        |count: usize| -> Vec<String> { (0..count).map(|at| Authority::new(&format!("u{at}")).pem()).collect() };
    let with = |count: usize| between.certify(&["sender.example"]).behind(&[between.pem()]).behind(&useless(count));
    for version in VERSIONS {
        assert_eq!(cast.ask(&proxy, Some(&with(7)), version), 200);
        assert_eq!(cast.ask(&proxy, Some(&with(8)), version), 0);
        assert_eq!(cast.ask(&proxy, Some(&with(110)), version), 0);
    }
    assert_connection_ends(&proxy, &["tls_certificate_chain_too_long"; 4]);
}

fn intermediates_in_any_order_and_useless_ones_do_no_harm(driver: Driver) {
    let cast = Cast::new();
    let proxy = cast.plan(driver, "").start();
    let [first, second] = [cast.theirs.authorize("first"), cast.theirs.authorize("second")];
    let (below, other) = (first.authorize("below"), second.authorize("below"));
    let own = |authorities: &[&Authority]| {
        let pems: Vec<String> = authorities.iter().map(|it| it.pem()).collect();
        below.certify(&["sender.example"]).behind(&pems)
    };
    assert_eq!(cast.ask(&proxy, Some(&own(&[&below, &first])), VERSIONS[0]), 200);
    assert_eq!(cast.ask(&proxy, Some(&own(&[&first, &cast.theirs, &below])), VERSIONS[1]), 200);
    assert_eq!(cast.ask(&proxy, Some(&own(&[&below, &other, &first, &second])), VERSIONS[0]), 200);
    assert_eq!(cast.ask(&proxy, Some(&own(&[&below])), VERSIONS[1]), 0);
    assert_connection_ends(&proxy, &["tls_certificate_unknown_authority"]);
}

fn log_and_metric_name_cause_and_subject(driver: Driver) {
    let cast = Cast::new();
    let text = cast.plan(driver, "").text();
    let folder = Folder::new();
    for (name, text) in
        [("tls.crt", &cast.shown.certificate), ("tls.key", &cast.shown.key), ("ca.crt", &cast.theirs.pem())]
    {
        folder.write(name, text);
    }
    let config = folder.write("countersign.toml", &format!("[admin]\naddress = \"127.0.0.1:0\"\n{text}"));
    let program = Program::run(&config);
    let address = program.address();
    let own = cast.theirs.certify_as(&["sender.example"], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("a \"b\u{1b}[31m\nc{}", "x".repeat(500)));
    });
    assert!(cast.ours.client(Some(&own)).ask(address, &Delivery::of(b"{}").bytes()).is_err());
    let line = program.await_line("reason=tls_certificate_expired");
    assert!(line.contains(" client=127.0.0.1 subject=\"CN=a \\\"b\\u{1b}[31m\\ncxxx"), "{line}");
    assert!(line.contains("xxx...\" why=\"") && line.contains("expired") && line.len() < 700, "{line}");
    let admin = program.await_line("admin port at ");
    let admin: std::net::SocketAddr =
        admin.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    let page = Client::connect(admin).ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("countersign_connections_ended_total{reason=\"tls_certificate_expired\"} 1\n"), "{page}");
    assert!(page.contains("countersign_client_ca_not_after_timestamp_seconds{listener=\"127.0.0.1:0\",client_ca=\"ca.crt\",authority=\"1\"} "), "{page}");
}

fn a_handshake_with_a_certificate_that_holds_has_no_rate(driver: Driver) {
    let cast = Cast::new();
    let limit = "handshakes_per_client = { rate = \"1/h\", burst = 1 }";
    let proxy = cast.plan(driver, "client_auth = \"request\"").limit(limit).start();
    let own = cast.theirs.certify(&["sender.example"]);
    let forged = Delivery::forged(b"{}").bytes();
    for _ in 0..4 {
        assert_eq!(cast.ours.client(Some(&own)).ask(proxy.addresses()[0], &forged).unwrap().status, 401);
    }
    assert_eq!(proxy.handshakes_over_rate(), 0);
    for _ in 0..4 {
        assert_eq!(cast.ours.client(None).ask(proxy.addresses()[0], &forged).unwrap().status, 401, "it is not refused");
    }
    assert_eq!(proxy.handshakes_over_rate(), 3);
}

fn only_listed_names_may_call(driver: Driver) {
    let cast = Cast::new();
    let names = "client_names = [\"*.hooks.example\", \"one.example\", \"spiffe://example.org/sender\"]";
    let proxy = cast.plan(driver, names).start();
    let mut refused = 0;
    for (names, name) in [
        (&["a.hooks.example"][..], Some("a.hooks.example")),
        (&["B.Hooks.Example"], Some("b.hooks.example")),
        (&["x.example", "one.example", "a.hooks.example"], Some("one.example")),
        (&["spiffe://example.org/sender"], Some("spiffe://example.org/sender")),
        (&["hooks.example"], None),
        (&["a.b.hooks.example"], None),
        (&["*.hooks.example"], None),
        (&["aone.example", "one.example.org"], None),
        (&["spiffe://example.org/sender/x"], None),
        (&["127.0.0.1"], None),
        (&[], None),
    ] {
        let own = cast.theirs.certify(names);
        assert_eq!(
            cast.ask(&proxy, Some(&own), VERSIONS[refused % 2]),
            if name.is_some() { 200 } else { 0 },
            "{names:?}"
        );
        match name {
            Some(name) => assert!(eventually(|| proxy.callers().last().is_some_and(|it| it == name))),
            None => refused += 1,
        }
    }
    assert_connection_ends(&proxy, &vec!["tls_name_refused"; refused]);
}

fn routes_have_names_of_their_own(driver: Driver) {
    let cast = Cast::new();
    let route = "path = \"/two\"\nscheme = \"none\"\nclient_names = [\"two.example\"]";
    let proxy = cast.plan(driver, "client_auth = \"request\"").route(route).start();
    let both = cast.theirs.certify(&["one.example", "two.example"]);
    let one = cast.theirs.certify(&["one.example"]);
    let ask = |own: Option<&Credential>| {
        let mut client = cast.ours.client(own).connect(proxy.addresses()[0]);
        let two = Delivery::unsigned(b"{}").line("POST /two HTTP/1.1").bytes();
        // A refusal does not end the connection.
        (client.ask(&two).status, client.ask(&Delivery::of(b"{}").bytes()).status)
    };
    assert_eq!(ask(None), (403, 200));
    assert_eq!(ask(Some(&one)), (403, 200));
    assert_eq!(ask(Some(&both)), (200, 200));
    let refused = ["client_name_refused", "forwarded"];
    proxy.assert_endings(&[refused.as_slice(), &refused, &["forwarded", "forwarded"]].concat());
    let told: Vec<String> = cast
        .application
        .assert_requests(4)
        .iter()
        .map(|request| request.all("X-Countersign-Client-Name").join("+"))
        .collect();
    // The name by which the route knows it, or else its first.
    assert_eq!(told, ["", "one.example", "two.example", "one.example"]);
}

fn the_name_is_told_and_cannot_be_claimed(driver: Driver) {
    let cast = Cast::new();
    let proxy = cast.plan(driver, "client_auth = \"request\"").start();
    let claim = Delivery::of(b"{}")
        .field("X-Countersign-Client-Name", "admin.example")
        .field("x_countersign_client_name", "admin.example")
        .bytes();
    let own = cast.theirs.certify(&["sender.example"]);
    for own in [None, Some(&own)] {
        let answer = cast.ours.client(own).ask(proxy.addresses()[0], &claim).unwrap();
        assert_eq!(answer.status, 200);
    }
    let requests = cast.application.assert_requests(2);
    assert!(requests.iter().all(|request| request.all("x_countersign_client_name").is_empty()));
    assert!(requests[0].all("X-Countersign-Client-Name").is_empty());
    assert_eq!(requests[1].field("X-Countersign-Client-Name"), "sender.example");
    proxy.assert_endings(&["forwarded"; 2]);
    assert_eq!(proxy.callers(), ["", "sender.example"]);
}

/// Tickets are good on every listener; what they vouch for is not.
fn no_session_is_resumed_where_certificates_are_asked_for(driver: Driver) {
    let cast = Cast::new();
    let stranger = Authority::new("others");
    let listener = |lines: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n{lines}"
        )
    };
    // A listener that asks for certificates, one that does not, and one that trusts another authority.
    let plan = cast
        .plan(driver, "client_auth = \"request\"")
        .file("other.crt", &stranger.pem())
        .listener_line(&listener(""))
        .listener_line(&listener("client_ca = \"other.crt\""));
    let proxy = plan.start();
    let [asking, open, other] = proxy.addresses() else { panic!("three listeners") };
    let (old, renewed) = (cast.theirs.certify(&["sender.example"]), stranger.certify(&["sender.example"]));
    let request = Delivery::of(b"{}").bytes();
    for version in VERSIONS {
        // A client that resumes a session of any listener shows its certificate anew, and is judged by that.
        for (first, own, then, expected) in [
            (asking, &old, asking, 200),
            (open, &old, asking, 200),
            (open, &renewed, other, 200),
            (asking, &old, other, 0),
        ] {
            let client = cast.ours.client_of(Some(own), &[version]);
            assert_eq!(client.ask(*first, &request).unwrap().status, 200);
            let status = client.ask(*then, &request).map_or(0, |answer| answer.status);
            assert_eq!(status, expected, "{version:?}");
            assert!(then == other && expected == 0 || !client.connect(*then).resumed());
        }
        // A client that has renewed its certificate is not held to the old one.
        let client = cast.ours.client_of(Some(&renewed), &[version]);
        assert_eq!(client.ask(*other, &request).unwrap().status, 200);
    }
}

fn requests_are_counted_for_the_name(driver: Driver) {
    let cast = Cast::new();
    let limit = "unverified_per_client = { rate = \"1/h\", burst = 3 }";
    let proxy = cast.plan(driver, "client_auth = \"request\"").limit(limit).limit("over_budget = \"refuse\"").start();
    let forged = Delivery::forged(b"{}").bytes();
    let [one, two] = ["one.example", "two.example"].map(|name| cast.theirs.certify(&[name]));
    // All from one address, each name with a bucket of its own; and the same name shares its bucket between connections.
    for own in [Some(&one), Some(&two), None] {
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let mut client = cast.ours.client(own).connect(proxy.addresses()[0]);
            statuses.extend([client.ask(&forged).status, client.ask(&forged).status]);
        }
        assert_eq!(statuses, [401, 401, 401, 429]);
    }
}
