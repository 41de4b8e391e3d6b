//! Proxies, lists of networks and the files that hold them.

use countersign::config::Severity;
use countersign::outcome::Rejection;

use crate::support::{ROUTE, assert_mistakes, directory, github, problems};

/// Lines for the listener, from line 3 on.
fn listener(lines: &str) -> String {
    let upstream = "[upstream]\naddress = 'app:1'\n";
    format!("[[listener]]\naddress = '127.0.0.1:8080'\n{lines}\n{upstream}{ROUTE}")
}

#[test]
fn mistakes_about_proxies() {
    assert_mistakes(
        Severity::Error,
        &[
            (
                &listener("trusted_proxies = ['10.0.0.0/8', '10.0.0.1/8']"),
                3,
                "listener[0].trusted_proxies[1]",
                "\"10.0.0.1/8\" is an address inside a network",
                "write \"10.0.0.0/8\"",
            ),
            (
                &listener("trusted_proxies = ['lb']"),
                3,
                "listener[0].trusted_proxies[0]",
                "not a network",
                "192.0.2.0/24",
            ),
            (&listener("trusted_proxies = ['::/129']"), 3, "listener[0].trusted_proxies[0]", "more bits", "0 to 128"),
            (&listener("trusted_proxies = '::/0'"), 3, "listener[0].trusted_proxies", "a list of strings", "brackets"),
            (
                &listener("trusted_proxies = ['0.0.0.0/0']"),
                3,
                "listener[0].trusted_proxies",
                "every address",
                "your own",
            ),
            (
                &listener("trusted_proxies = ['::/1', '8000::/1', '10.0.0.0/8']"),
                3,
                "listener[0].trusted_proxies",
                "every address",
                "your own",
            ),
            (&listener("proxy_protocol = 'v2'"), 3, "listener[0].proxy_protocol", "not one of the choices", "\"v1v2\""),
            (
                &listener("proxy_protocol = 'v1v2'"),
                3,
                "listener[0].proxy_protocol",
                "no client could connect",
                "trusted_proxies",
            ),
            (
                &listener("proxy_protocol = 'v1v2'\ntrusted_proxies = []"),
                3,
                "listener[0].proxy_protocol",
                "no client could connect",
                "trusted_proxies",
            ),
        ],
    );
    let twice = listener("trusted_proxies = ['10.0.0.0/8', '::ffff:10.0.0.0/104']");
    let expected = ("10.0.0.0/8 is given twice", "remove one");
    assert_mistakes(Severity::Warning, &[(&twice, 3, "listener[0].trusted_proxies[1]", expected.0, expected.1)]);
    assert!(problems(&listener("proxy_protocol = 'v1v2'\ntrusted_proxies = ['10.0.0.0/8', '::1']")).is_empty());
}

#[test]
fn mistakes_about_clients() {
    assert_mistakes(
        Severity::Error,
        &[
            (&github("allow = ['192.0.2.1/24']"), 9, "route[0].allow[0]", "inside a network", "\"192.0.2.0/24\""),
            (&github("allow = [\n  '::1',\n  'x',\n]"), 11, "route[0].allow[1]", "not a network", "2001:db8::/32"),
            (&github("deny = ['10.0.0.0/33']"), 9, "route[0].deny[0]", "more bits", "0 to 32"),
            (&github("deny = [1]"), 9, "route[0].deny[0]", "expected a string", "quotes"),
            (&github("allow_file = ''"), 9, "route[0].allow_file", "is empty", "name the file"),
            (&github("allow_file = 'nowhere'"), 9, "route[0].allow_file", "cannot be read", "check the path"),
            (&github("allow = ['::1']\nobserve = ['alow']"), 10, "route[0].observe[0]", "be observed", "\"allow\""),
            (&github("observe = ['allow']"), 9, "route[0].observe[0]", "everyone may call", "add allow"),
            (&github("observe = ['tolerance']"), 9, "route[0].observe[0]", "signs no timestamp", "remove it"),
            (
                &github("observe = ['replay']\nreplay.mode = 'off'"),
                9,
                "route[0].observe[0]",
                "nothing is remembered",
                "enforce",
            ),
            (&github("observe = ['signature']"), 9, "route[0].observe[0]", "be observed", "verification cannot"),
        ],
    );
    assert_mistakes(
        Severity::Warning,
        &[
            (&github("allow = ['::1', '::1/128']"), 9, "route[0].allow[1]", "::1/128 is given twice", "remove one"),
            (
                &github("observe = ['rate', 'rate']\nrate = { rate = '1/s', burst = 1 }"),
                9,
                "route[0].observe[1]",
                "given twice",
                "remove",
            ),
        ],
    );
}

#[test]
fn a_file_of_networks_is_read_with_the_configuration() {
    let directory = directory();
    directory.write("good", "# ours\n192.0.2.0/24\n\n2001:db8::/32 # office\n");
    let loaded = directory.load(&github("allow_file = 'good'\nallow = ['10.0.0.0/8']")).unwrap();
    let route = loaded.gate.routes.resolve(b"x", "/github", b"POST").unwrap();
    let admit = |client: &str| route.clients.admit(client.parse().ok());
    assert!(["192.0.2.9", "2001:db8::1", "10.1.2.3"].into_iter().all(|client| admit(client).is_ok()));
    assert_eq!(admit("198.51.100.1"), Err(Rejection::ClientNotAllowed));
    assert!(!route.observe.allow);
}

#[test]
fn mistakes_in_a_file_of_networks_have_its_name_and_line() {
    let directory = directory();
    directory.write("bad", "192.0.2.0/24\n192.0.2.7/24\n\n  nonsense # here\n");
    directory.write("empty", "# nothing yet\n");
    directory.write("latin1", b"# caf\xe9\n");
    directory.write("huge", "#".repeat((1 << 20) + 1));
    let errors = |name: &str| {
        let problems = directory.load(&github(&format!("allow_file = '{name}'"))).unwrap_err();
        let about = |problem: &countersign::config::Problem| {
            let file = problem.place.file.rsplit('/').next().unwrap_or_default().to_owned();
            (file, problem.place.line, problem.message.clone())
        };
        problems.iter().map(about).collect::<Vec<_>>()
    };
    let bad = errors("bad");
    assert_eq!(bad.iter().map(|(file, line, _)| (file.as_str(), *line)).collect::<Vec<_>>(), [("bad", 2), ("bad", 4)]);
    let empty = errors("empty");
    assert!(empty.len() == 1 && empty[0].0 == "empty" && empty[0].2.contains("no client could call"), "{empty:?}");
    for (name, part) in [("latin1", "not UTF-8"), ("huge", "longer than"), ("secrets", "not a regular file")] {
        let found = errors(name);
        assert!(found.len() == 1 && found[0].0 == "countersign.toml" && found[0].2.contains(part), "{found:?}");
    }
}
