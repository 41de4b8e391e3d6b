//! `values` of a route and `named_key` of a scheme: each mistake, with its place.

use countersign::config::Severity;

use crate::support::{FRAME, directory, problems};

fn route(lines: &str) -> String {
    format!("{FRAME}[[route]]\npath = '/a'\nscheme = 'aws-sns'\n{lines}\n")
}

fn own(named_key: &str, more: &str) -> String {
    format!(
        "{FRAME}[[route]]\npath = '/a'\nscheme = 'own'\n[scheme.own]\nalgorithm = 'ecdsa-p256-sha256'\ncontent = '{{body}}'\n\
         signature = {{ header = 'X-S', encoding = 'base64' }}\nequal_bytes = 'one-event'\nnamed_key = {{ {named_key} }}\n{more}\n"
    )
}

#[test]
fn the_values_that_only_a_route_knows_are_asked_for() {
    for (text, key, message) in [
        (route(""), "values", "TopicArn"),
        (route("values = { TopicArn = '' }"), "TopicArn", "is no value"),
        (route("values = { TopicArn = [] }"), "TopicArn", "is no value"),
        (route("values = { TopicArn = 'a', Other = 'b' }"), "values", "does not ask for `Other`"),
        (route("values = { TopicArn = 'a' }\nsecrets = [{ id = '1', value = 'x' }]"), "secrets", "no use for secrets"),
        (route("values = { webhook_id = ['a', 'b'] }").replace("aws-sns", "paypal"), "values", "several values"),
        (route("values = { a = 'b' }").replace("aws-sns", "fal"), "values", "asks for no values"),
    ] {
        let found = problems(&text);
        let is = |problem: &&countersign::config::Problem| {
            problem.severity == Severity::Error
                && problem.place.key_path.contains(key)
                && problem.message.contains(message)
        };
        assert!(found.iter().find(is).is_some(), "{text}\n{found:?}");
    }
    let loaded =
        directory().load(&route("values = { TopicArn = ['a', 'b'] }")).unwrap_or_else(|found| panic!("{found}"));
    let key = &loaded.gate.routes.routes()[0].verifier.keys()[0];
    assert!(key.pinned().is_some());
}

#[test]
fn a_pin_that_pins_nothing_is_refused() {
    for (named_key, more, message) in [
        ("header = 'X-K', url = 'https://*/x'", "", "pins nothing"),
        ("header = 'X-K', url = 'http://keys.example.com/*'", "", "pins nothing"),
        ("header = 'X-K', url = 'https://keys.example.com/x'", "", "pins nothing"),
        ("header = 'X-K', json = 'k', url = 'https://keys.example.com/*'", "", "where a delivery names"),
        ("url = 'https://keys.example.com/*'", "", "where a delivery names"),
        ("header = 'X-K'", "", "is missing"),
        ("header = 'X-K', insert = 'https://keys.example.com/*/*'", "", "fills one gap"),
        ("header = 'X-K', url = 'https://keys.example.com/*', chain = true", "", "without `certificate`"),
        ("header = 'X-K', insert = 'https://keys.example.com/*'", "keys_url = 'https://a.example/b'", "`keys_url`"),
        ("header = 'X-K', insert = 'https://keys.example.com/*'", "values = ['x']", "neither a signed field"),
    ] {
        let found = problems(&own(named_key, more));
        assert!(found.iter().any(|problem| problem.message.contains(message)), "{named_key} {more}\n{found:?}");
    }
    let loaded = directory().load(&own("header = 'X-K', insert = 'https://keys.example.com/*'", ""));
    assert!(loaded.is_ok(), "{:?}", loaded.err());
}

#[test]
fn a_credential_is_read_where_the_scheme_asks_for_one_and_nowhere_else() {
    let circle = |lines: &str| format!("{FRAME}[[route]]\npath = '/a'\nscheme = 'circle'\n{lines}\n");
    let file = "key_credential_file = 'secrets/circle'";
    let directory = directory();
    directory.write("secrets/circle", "TEST_API_KEY:0a1b:2c3d\n");
    directory.write("secrets/words", "two words\n");
    for (text, message) in [
        (circle(""), "is missing"),
        (circle("key_credential_file = ''"), "is empty"),
        (circle("key_credential_file = 'secrets/nowhere'"), "cannot be read"),
        (circle("key_credential_file = 'secrets/words'"), "visible ASCII"),
        (circle(&format!("{file}\npublic_keys = [{{ id = '1', value = 'x' }}]")), "has no effect"),
        (route(&format!("values = {{ TopicArn = 'a' }}\n{file}")), "has no effect"),
        (
            own("header = 'X-K', insert = 'https://keys.example.com/*', credential = 'basic'", ""),
            "not one of the choices",
        ),
    ] {
        let found = directory.load(&text).unwrap_err();
        assert!(found.iter().any(|problem| problem.message.contains(message)), "{text}\n{found}");
        assert!(!found.to_string().contains("0a1b") && !found.to_string().contains("two words"), "{found}");
    }
    let loaded = directory.load(&circle(file)).unwrap_or_else(|found| panic!("{found}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let key = loaded.gate.routes.routes()[0].verifier.keys()[0].pinned().unwrap();
    assert_eq!(key.credential(), Some("TEST_API_KEY:0a1b:2c3d"));
    assert!(!format!("{:?}{:?}", loaded.settings, loaded.gate).contains("0a1b"));
}
