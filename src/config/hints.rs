//! What people put into a configuration by mistake, and what they meant: another format, a credential of another kind,
//! the name of a variable.

/// The format that a text is written in, where that is plainly not TOML.
pub(super) fn other_format(text: &str) -> Option<&'static str> {
    let content = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let first = text.lines().map(str::trim).find(content)?;
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let after_colon = |(key, rest): (&str, &str)| is_key(key) && (rest.is_empty() || rest.starts_with(' '));
    if first.starts_with('{') {
        Some("JSON")
    } else if first == "---" || first.strip_prefix("- ").unwrap_or(first).split_once(':').is_some_and(after_colon) {
        Some("YAML")
    } else {
        None
    }
}

/// A kind of credential that is no secret of webhooks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongCredential {
    /// Completes "the key in FILE …".
    pub(super) what: &'static str,
    /// What to use instead.
    pub(super) fix: &'static str,
}

const STRIPE: &str = "use the signing secret of the endpoint (whsec_…), which Stripe shows under Webhooks, and exchange the API key if others could read it";
const GITHUB: &str =
    "use the secret that was entered in the settings of the webhook, and exchange the token if others could read it";
const SLACK: &str =
    "use the Signing Secret that Slack shows under Basic Information, and exchange the token if others could read it";
const OTHER: &str = "use the secret of the webhook, and exchange this one if others could read it";

/// Beginnings of credentials that senders hand out for their own API: who holds one can act for its owner, and no sender
/// signs with it.
const CREDENTIALS: [(&[&str], WrongCredential); 7] = [
    (
        &["sk_live_", "sk_test_", "rk_live_", "rk_test_"],
        WrongCredential { what: "is an API key of Stripe", fix: STRIPE },
    ),
    (
        &["pk_live_", "pk_test_"],
        WrongCredential { what: "is a publishable key of Stripe, which is no secret", fix: STRIPE },
    ),
    (
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        WrongCredential { what: "is an access token of GitHub", fix: GITHUB },
    ),
    (&["xoxb-", "xoxp-", "xoxa-", "xapp-"], WrongCredential { what: "is a token of Slack", fix: SLACK }),
    (&["glpat-"], WrongCredential { what: "is an access token of GitLab", fix: OTHER }),
    (&["AKIA", "ASIA"], WrongCredential { what: "is an access key of AWS", fix: OTHER }),
    (&["SG."], WrongCredential { what: "is an API key of SendGrid", fix: OTHER }),
];

/// What kind of credential a secret is that is for something else.
pub(super) fn wrong_credential(secret: &[u8]) -> Option<&'static WrongCredential> {
    // Beginnings alone could be those of a word: what follows is long in all of them.
    let begins = |start: &&str| secret.strip_prefix(start.as_bytes()).is_some_and(|rest| rest.len() >= 8);
    CREDENTIALS.iter().find(|(starts, _)| starts.iter().any(&begins)).map(|(_, wrong)| wrong)
}

/// The name in `${NAME}` or `$(NAME)`, which means a variable of the environment.
pub(super) fn variable(text: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(text.trim_ascii()).ok()?.strip_prefix('$')?;
    let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let name = name.or_else(|| text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')))?;
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_recognized() {
        for (text, format) in [
            ("listener:\n  - address: x\n", Some("YAML")),
            ("---\na: 1\n", Some("YAML")),
            ("# a comment\n\n- a: 1\n", Some("YAML")),
            ("{\"listener\": []}", Some("JSON")),
            ("a = 1\n", None),
            ("[[listener]]\naddress = \"a:1\"\n", None),
            ("a:1 = 2", None),
            ("", None),
        ] {
            assert_eq!(other_format(text), format, "{text}");
        }
    }

    #[test]
    fn credentials_for_something_else_are_recognized() {
        for text in
            ["sk_live_51Habcdefgh", "pk_test_0123456789", "ghp_0123456789ab", "xoxb-0123-456789", "AKIA0123456789AB"]
        {
            assert!(wrong_credential(text.as_bytes()).is_some(), "{text}");
        }
        for text in
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "shpss_0123456789abcdef", "sk_live_", "AKIA", "0123456789"]
        {
            assert_eq!(wrong_credential(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn variables_are_named() {
        assert_eq!(variable(b"${GH_SECRET}"), Some("GH_SECRET"));
        assert_eq!(variable(b" $(a1)\n"), Some("a1"));
        for text in ["$GH", "${}", "${a b}", "{{ a }}", "x"] {
            assert_eq!(variable(text.as_bytes()), None);
        }
    }
}
