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
