//! Which handshakes a route answers, and what is said about keys that do not fit.

use crate::support::{FRAME, directory, problems};

fn route(lines: &str) -> String {
    format!("{FRAME}[[route]]\npath = '/a'\nsecrets = [{{ id = '1', file = 'secrets/good' }}]\n{lines}\n")
}

/// The handshake that a route with these lines answers, and whether that is the default.
fn answered(lines: &str) -> Option<(String, bool)> {
    let loaded = directory().load(&route(lines)).unwrap_or_else(|problems| panic!("{lines}: {problems}"));
    let challenge = loaded.settings.routes[0].challenge.as_ref();
    challenge.map(|it| (it.handshake.name.clone(), it.is_default))
}

const TOKENS: &str = "challenge_tokens = [{ id = '1', file = 'secrets/other' }]";

#[test]
fn a_handshake_is_answered_by_default_where_that_is_safe() {
    let default = |name: &str| Some((name.to_owned(), true));
    let asked = |name: &str| Some((name.to_owned(), false));
    assert_eq!(answered("scheme = 'slack'"), default("slack"));
    assert_eq!(answered("scheme = 'x-twitter'"), default("x-twitter"));
    assert_eq!(answered("scheme = 'slack'\nchallenge = true"), asked("slack"));
    assert_eq!(answered("scheme = 'slack'\nchallenge = false"), None);
    assert_eq!(answered("scheme = 'github'"), None);
    // An alias is another name of the same sender.
    assert_eq!(answered("scheme = 'whatsapp'"), None, "there is no verify token");
    assert_eq!(answered(&format!("scheme = 'whatsapp'\n{TOKENS}")), asked("meta"));
    assert_eq!(answered("scheme = 'websub'"), None);
    assert_eq!(answered("scheme = 'websub'\nchallenge = true"), asked("websub"));
    assert_eq!(answered("scheme = 'token'\nhandshake = 'monday'"), asked("monday"));
}

#[test]
fn what_does_not_fit_is_refused_with_a_fix() {
    for (lines, place, message) in [
        ("scheme = 'github'\nchallenge = true", "route[0].challenge", "has no handshake that is known here"),
        ("scheme = 'token'\nhandshake = 'mondai'", "route[0].handshake", "there is no handshake"),
        ("scheme = 'slack'\nchallenge = false\nfirst_calls = true", "route[0].first_calls", "has no effect"),
        ("scheme = 'github'\nfirst_calls = true", "route[0].first_calls", "no handshake is answered"),
        (
            "scheme = 'trello'\npublic_url = 'https://h/a'\nfirst_calls = true",
            "route[0].first_calls",
            "no unsigned first call",
        ),
        ("scheme = 'meta'\nchallenge = true", "route[0].challenge_tokens", "is missing"),
        (&format!("scheme = 'slack'\n{TOKENS}"), "route[0].challenge_tokens", "has no verify token"),
        ("scheme = 'slack'\nchallenge_url = 'https://h/a'", "route[0].challenge_url", "not answered with a URL"),
        (&format!("scheme = 'token'\nhandshake = 'ebay'\n{TOKENS}"), "route[0].challenge_url", "is missing"),
        ("scheme = 'token'\nhandshake = 'linkedin'", "route[0].handshake", "whose scheme has none"),
        // Any client could have a delivery of its own signed.
        ("scheme = 'hmac-sha256-hex'\nhandshake = 'x-twitter'", "route[0].handshake", "would pass"),
        (
            "scheme = 'meta'\nchallenge_tokens = [{ id = '1', file = 'secrets/none' }]",
            "route[0].challenge_tokens[0].file",
            "",
        ),
    ] {
        let found = problems(&route(lines));
        let fits = |it: &&countersign::config::Problem| it.place.key_path == place && it.message.contains(message);
        assert!(found.iter().find(fits).is_some_and(|it| !it.fix.is_empty()), "{lines}: {found:#?}");
    }
}

#[test]
fn a_handshake_of_the_file_is_named_by_a_route() {
    let own = |name: &str| {
        format!(
            "[handshake.{name}]\ncall = [{{ method = 'GET', value = {{ query = 'c' }}, answer = {{ text = '{{value}}' }} }}]\n"
        )
    };
    let text = |name: &str| format!("scheme = 'token'\nhandshake = 'mine'\n{}", own(name));
    assert_eq!(answered(&text("mine")).map(|(name, _)| name), Some("mine".to_owned()));
    let unused = problems(&route(&format!("scheme = 'token'\n{}", own("mine"))));
    assert!(unused.iter().any(|it| it.message == "no route answers this handshake"), "{unused:#?}");
    let taken = problems(&route(&format!("scheme = 'token'\nhandshake = 'meta'\n{}", own("meta"))));
    assert!(
        taken.iter().any(|it| it.place.key_path == "handshake.meta" && it.message.contains("built in")),
        "{taken:#?}"
    );
}
