//! The mistakes of a first hour, as people make them: each is named with cause, place and what to do.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use countersign::config::moment::moment_problems;
use countersign::config::{Problem, Severity};
use countersign::now::Now;

use crate::support::{FRAME, ROUTE, directory, github, route};

/// A mistake: its text; whether it is refused; key path, and parts of message and fix.
struct Mistake {
    text: String,
    refused: bool,
    key_path: &'static str,
    message: &'static str,
    fix: &'static str,
}

fn wrong(text: impl Into<String>, key_path: &'static str, message: &'static str, fix: &'static str) -> Mistake {
    Mistake { text: text.into(), refused: true, key_path, message, fix }
}

fn warned(text: impl Into<String>, key_path: &'static str, message: &'static str, fix: &'static str) -> Mistake {
    Mistake { refused: false, ..wrong(text, key_path, message, fix) }
}

/// A route with this scheme and these secrets.
fn scheme(name: &str, lines: &str) -> String {
    route(&format!("path = '/a'\nscheme = '{name}'\nsecrets = [{{ id = '1', file = 'secrets/good' }}]\n{lines}"))
}

/// A route for GitHub whose secret stands in this file.
fn secret(file: &str) -> String {
    route(&format!("path = '/a'\nscheme = 'github'\nsecrets = [{{ id = '1', file = 'secrets/{file}' }}]"))
}

fn listener(address: &str) -> String {
    format!("[[listener]]\naddress = '{address}'\n[upstream]\naddress = '127.0.0.1:9000'\n{ROUTE}")
}

fn upstream(address: &str) -> String {
    format!("[[listener]]\naddress = '127.0.0.1:8080'\n[upstream]\naddress = '{address}'\n{ROUTE}")
}

fn own(lines: &str) -> String {
    scheme("mine", &format!("[scheme.mine]\n{lines}"))
}

/// What the files of the mistakes hold, by name in `secrets`.
const FILES: [(&str, &str); 8] = [
    ("empty", "\n"),
    ("two", "0123456789abcdef0123456789abcdef\r\nfedcba9876543210fedcba9876543210\r\n"),
    ("variable", "${GH_SECRET}\n"),
    ("stripe-key", "sk_live_51HabcDEFghiJKLmnoPQR\n"),
    ("github-token", "ghp_0123456789abcdefghijABCDEFGHIJ012345\n"),
    ("slack-token", "xoxb-0123456789-abcdefghijkl\n"),
    ("assigned", "GITHUB_SECRET=0123456789abcdef0123456789abcdef\n"),
    ("space", "0123456789abcdef0123456789abcdef \n"),
];

fn of_files() -> Vec<Mistake> {
    let raw = "0123456789abcdef0123456789abcdef";
    vec![
        wrong(secret("none"), "route[0].secrets[0].file", "cannot be read", "write the secret to it"),
        wrong(secret("empty"), "route[0].secrets[0].file", "is empty", "as the sender shows it"),
        warned(secret("two"), "route[0].secrets[0].file", "line break inside", "each secret a file"),
        wrong(secret("variable"), "route[0].secrets[0].file", "not filled in", "write env = \"GH_SECRET\""),
        warned(secret("stripe-key"), "route[0].secrets[0].file", "is an API key of Stripe", "whsec_…"),
        warned(secret("github-token"), "route[0].secrets[0].file", "access token of GitHub", "settings of the webhook"),
        warned(secret("slack-token"), "route[0].secrets[0].file", "token of Slack", "Signing Secret"),
        warned(secret("assigned"), "route[0].secrets[0].file", "NAME=value", "the value alone"),
        warned(secret("space"), "route[0].secrets[0].file", "white space", "printf %s"),
        wrong(
            scheme("none", "")
                .replace("'none'", "'github'")
                .replace("file = 'secrets/good'", "env = 'COUNTERSIGN_NOT_SET'"),
            "route[0].secrets[0].env",
            "no environment variable",
            "set COUNTERSIGN_NOT_SET",
        ),
        wrong(
            scheme("standard-webhooks", "").replace("file = 'secrets/good'", &format!("value = '{raw}!'")),
            "route[0].secrets[0].value",
            "base64",
            "copy it again",
        ),
        wrong(
            scheme("github", "").replace("secrets = [{ id = '1', file = 'secrets/good' }]", "secret = 'x'"),
            "route[0].secrets",
            "is missing",
            "secrets = [{ id",
        ),
        wrong(
            scheme("github", "").replace("[{ id = '1', file = 'secrets/good' }]", "['secrets/good']"),
            "route[0].secrets",
            "list of tables",
            "{ id = \"1\", file",
        ),
        wrong(
            scheme("github", "").replace("[{ id = '1', file = 'secrets/good' }]", "{}"),
            "route[0].secrets",
            "list of tables",
            "{ id = \"1\", file",
        ),
        wrong(scheme("github", "").replace("id = '1', ", ""), "route[0].secrets[0].id", "is missing", "add id ="),
        warned(
            scheme("github", "").replace(
                "[{ id = '1', file = 'secrets/good' }]",
                "[{ id = '1', file = 'secrets/good' }, { id = '2', file = 'secrets/good' }]",
            ),
            "route[0].secrets[1].file",
            "same as the key",
            "a rotation needs a second key",
        ),
        wrong(
            scheme("github", "").replace("'secrets/good' }", "'secrets/good', not_after = 2027-01-01T00:00:00 }"),
            "route[0].secrets[0].not_after",
            "with an offset",
            "2026-11-24T00:00:00Z",
        ),
        wrong(scheme("discord", ""), "route[0].secrets", "no use for secrets", "public_keys"),
    ]
}

fn of_addresses() -> Vec<Mistake> {
    let tail = format!("[upstream]\naddress = '127.0.0.1:9000'\n{ROUTE}");
    vec![
        wrong(&*tail, "listener", "is missing", "[[listener]]"),
        wrong(listener(":8080"), "listener[0].address", "not an IP address", "127.0.0.1:8080"),
        wrong(listener("localhost:8080"), "listener[0].address", "not an IP address", "127.0.0.1:8080"),
        warned(listener("0.0.0.0:8080"), "listener[0].address", "no proxy is trusted", "trusted_proxies = ["),
        wrong(listener("127.0.0.1:9000"), "listener[0].address", "is this listener", "another port"),
        wrong(upstream("http://localhost:9000/"), "upstream.address", "is a URL", "127.0.0.1:9000"),
        wrong(
            format!("[[listener]]\naddress = '127.0.0.1:8080'\n{ROUTE}"),
            "route[0].upstream",
            "no application",
            "[upstream]",
        ),
        wrong(
            github("[admin]\naddress = '127.0.0.1:8080'"),
            "admin.address",
            "taken by the listener in line 2",
            "another",
        ),
        wrong(github("allow = ['10.0.0.0/33']"), "route[0].allow[0]", "/33", "choose from 0 to 32"),
        wrong(format!("{FRAME}[[routes]]\npath = '/a'\n"), "routes", "unknown key", "did you mean \"route\"?"),
    ]
}

fn of_routes() -> Vec<Mistake> {
    let twice =
        "[[route]]\nname = 'b'\npath = '/github'\nscheme = 'github'\nsecrets = [{ id = '1', file = 'secrets/good' }]";
    vec![
        wrong(scheme("Github", ""), "route[0].scheme", "no scheme \"Github\"", "write scheme = \"github\""),
        wrong(scheme("codeberg", ""), "route[0].scheme", "no scheme \"codeberg\"", "write scheme = \"forgejo\""),
        wrong(github("tolerance = '5m'"), "route[0].tolerance", "signs no timestamp", "remove it"),
        wrong(
            scheme("stripe", "tolerance = 300"),
            "route[0].tolerance",
            "300 has no unit",
            "in quotes and with a unit",
        ),
        wrong(scheme("stripe", "tolerance = '5 minutes'"), "route[0].tolerance", "unknown unit", "5m"),
        wrong(github("body_size = '10M'"), "route[0].body_size", "unknown unit", "MiB"),
        wrong(scheme("github", "").replace("'/a'", "'gh'"), "route[0].path", "begins with", "\"/gh\""),
        warned(scheme("github", "").replace("'/a'", "'/gh/:id'"), "route[0].path", "stands for itself", "{id}"),
        warned(scheme("github", "").replace("'/a'", "'/gh/*'"), "route[0].path", "stands for itself", "{*rest}"),
        wrong(scheme("square", ""), "route[0].public_url", "is missing", "registered with the sender"),
        wrong(github("methods = 'POST'"), "route[0].methods", "expected a list", "[\"…\"]"),
        warned(github("methods = ['POST', 'GET']"), "route[0].methods", "GET has no body", "second [[route]]"),
        wrong(github(twice), "route[1].path", "cannot be told apart", "other hosts"),
        wrong(
            own("algorithm = 'hmac-sha256'\ncontent = '{payload}'\nsignature = { header = 'X', encoding = 'hex' }"),
            "scheme.mine.content",
            "payload",
            "{body}",
        ),
        wrong(
            own("algorithm = 'hmac-sha256'\ncontent = '{body}'\nsignature = { header = 'X', encoding = 'hexa' }"),
            "scheme.mine.signature.encoding",
            "not one of the choices",
            "did you mean \"hex\"?",
        ),
        wrong(
            own("algorithm = 'HMAC-SHA256'\ncontent = '{body}'\nsignature = { header = 'X', encoding = 'hex' }"),
            "scheme.mine.algorithm",
            "not one of the choices",
            "did you mean \"hmac-sha256\"?",
        ),
    ]
}

fn of_formats() -> Vec<Mistake> {
    vec![
        wrong(
            "listener:\n  - address: 127.0.0.1:8080\n",
            "",
            "this is YAML, and countersign reads TOML",
            "countersign init",
        ),
        wrong("{ \"listener\": [] }", "", "this is JSON, and countersign reads TOML", "countersign init"),
        wrong(github("name = 'a"), "", "not TOML", "correct the TOML here"),
    ]
}

/// What is missing in what is said.
fn unnamed(mistake: &Mistake, found: &[Problem]) -> Option<String> {
    let all: Vec<String> = found.iter().map(ToString::to_string).collect();
    let missing = |what: &str| Some(format!("{what} ({:?})\n{}\n\n{}", mistake.message, mistake.text, all.join("\n")));
    let severity = if mistake.refused { Severity::Error } else { Severity::Warning };
    let named = found.iter().find(|it| it.place.key_path == mistake.key_path && it.message.contains(mistake.message));
    match named {
        None => missing(&format!("nothing is said of {:?}", mistake.key_path)),
        Some(named) if named.severity != severity => missing("another severity"),
        Some(named) if named.place.line == 0 => missing("no line"),
        Some(named) if !named.fix.contains(mistake.fix) => missing(&format!("the fix has no {:?}", mistake.fix)),
        _ if !mistake.refused && found.iter().any(|it| it.severity == Severity::Error) => missing("it is refused"),
        _ => None,
    }
}

#[track_caller]
fn assert_named(mistake: &Mistake, found: &[Problem]) {
    if let Some(missing) = unnamed(mistake, found) {
        panic!("{missing}");
    }
}

#[test]
fn every_mistake_of_a_first_hour_is_named_with_its_place_and_its_fix() {
    let mistakes: Vec<Mistake> =
        [of_files(), of_addresses(), of_routes(), of_formats()].into_iter().flatten().collect();
    let mut wrong = Vec::new();
    for mistake in &mistakes {
        let directory = directory();
        FILES.iter().for_each(|(name, text)| drop(directory.write(&format!("secrets/{name}"), text)));
        let found: Vec<Problem> = match directory.load(&mistake.text) {
            Ok(loaded) => loaded.warnings.iter().cloned().collect(),
            Err(problems) => problems.iter().cloned().collect(),
        };
        wrong.extend(unnamed(mistake, &found));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    // With those below: certificates, weak senders, readable secrets, keys out of their time.
    assert!(mistakes.len() >= 46, "{}", mistakes.len());
}

/// What is not wrong with the text, but at this moment.
#[test]
fn keys_that_do_not_count_at_present_are_named_where_they_stand() {
    let text = scheme("github", "");
    let now = Now::at_unix(Duration::from_secs(1_790_000_000));
    for (validity, fix) in [
        ("not_after = 2026-01-01T00:00:00Z", "add the key with which the sender signs today"),
        ("not_before = 2030-01-01T00:00:00Z", "the first one counts from 2030-01-01T00:00:00Z"),
    ] {
        let dated = text.replace("'secrets/good' }", &format!("'secrets/good', {validity} }}"));
        let loaded = directory().load(&dated).unwrap_or_else(|problems| panic!("{problems}"));
        let found: Vec<Problem> = moment_problems(&loaded.settings, now).iter().cloned().collect();
        let key_path = "route[0].secrets[0].file";
        assert_named(&warned(dated, key_path, "no key that counts at present", fix), &found);
    }
    let loaded = directory().load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(moment_problems(&loaded.settings, now).is_empty());
}

#[test]
fn what_a_sender_does_weakly_is_said_with_what_the_operator_can_do() {
    for (name, message, fix) in [
        ("token-query", "stands in the URL", "out of logs"),
        ("gitlab", "nothing is signed", "something stronger"),
        ("vercel", "not confirmed by its own documentation", "let the sender send one"),
    ] {
        let text = scheme(name, "");
        let found: Vec<Problem> = match directory().load(&text) {
            Ok(loaded) => loaded.warnings.iter().cloned().collect(),
            Err(problems) => problems.iter().cloned().collect(),
        };
        assert_named(&warned(text, "route[0].scheme", message, fix), &found);
    }
}

#[test]
fn a_secret_that_others_can_read_is_named() {
    let directory = directory();
    let path = directory.write("secrets/open", "0123456789abcdef0123456789abcdef\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = secret("open");
    let loaded = directory.load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let found: Vec<Problem> = loaded.warnings.iter().cloned().collect();
    assert_named(&warned(text, "route[0].secrets[0].file", "can be read by every user", "chmod o-rwx"), &found);
}

/// An empty list of proxies is an answer, and TLS needs none.
#[test]
fn a_listener_for_all_hosts_is_not_warned_about_twice_told() {
    let text = listener("0.0.0.0:8080").replace("'0.0.0.0:8080'", "'0.0.0.0:8080'\ntrusted_proxies = []");
    assert!(directory().load(&text).unwrap_or_else(|problems| panic!("{problems}")).warnings.is_empty());
}
