//! Further names of presets, in a configuration.

use countersign::config::{Problem, Severity};

use crate::support::{FRAME, directory, problems};

fn route(scheme: &str) -> String {
    format!("{FRAME}[[route]]\npath = '/a'\nscheme = '{scheme}'\nsecrets = [{{ id = '1', file = 'secrets/good' }}]\n")
}

fn scheme_of(text: &str) -> (String, String) {
    let loaded = directory().load(text).unwrap_or_else(|problems| panic!("{problems}"));
    let verification = loaded.settings.routes[0].verification.as_ref().unwrap();
    (verification.scheme.name.clone(), verification.scheme.content.to_string())
}

#[test]
fn a_route_may_name_a_scheme_by_an_alias() {
    let own = "[scheme.hubspot]\nalgorithm = 'hmac-sha256'\ncontent = '{body}'\nsignature = { header = 'X', encoding = 'hex' }\n\
               equal_bytes = 'one-event'\n";
    assert_eq!(scheme_of(&route("whatsapp")).0, "meta");
    // A configuration that had such a scheme before the alias came means its own.
    assert_eq!(scheme_of(&format!("{}{own}", route("hubspot"))), ("hubspot".to_owned(), "{body}".to_owned()));
}

#[test]
fn an_alias_is_suggested_and_the_name_of_a_preset_is_taken() {
    let found = problems(&route("whatsap"));
    assert!(found[0].fix.contains("did you mean \"whatsapp\"?"), "{}", found[0]);
    let found =
        problems(&format!("{}[scheme.meta]\nalgorithm = 'token'\nsignature = {{ header = 'X' }}\n", route("meta")));
    let taken = |problem: &Problem| problem.severity == Severity::Error && problem.place.key_path == "scheme.meta";
    assert!(found.iter().any(taken), "{found:?}");
}
