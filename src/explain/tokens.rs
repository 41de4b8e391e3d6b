//! What an explanation says of a JSON Web Token. Its signature is never shown, and claims only where they are judged.

use core::time::Duration;

use super::case::TriedCase;
use super::given::Given;
use super::quoted::quoted_start;
use super::spans::shown_span;
use crate::gate::verify::{Scheme, inspect};
use crate::now::Now;

/// The longest text of a token that is shown, in characters.
const SHOWN: usize = 120;

/// What the token says about itself, beside what is asked of it.
pub(super) fn token(given: &Given<'_>, case: TriedCase<'_>, algorithm: &str) -> Vec<String> {
    let Some(facts) = inspect::token_facts(case.scheme, &case.seen) else {
        return vec![
            "token: none that can be read: three parts in base64url, the first two of them JSON objects".to_owned(),
        ];
    };
    let mut lines = Vec::new();
    match facts.algorithm {
        Some(named) if named == algorithm => {}
        Some(named) => lines.push(format!(
            "token: made by `{}`, but the scheme wants {algorithm}: a token does not choose",
            shown(&named)
        )),
        None => lines.push("token: its header names no algorithm".to_owned()),
    }
    for refused in facts.refused {
        lines.push(format!("token: its header has `{refused}`, for which it is refused"));
    }
    if let Some(name) = facts.key {
        let known = given.verifier.keys().iter().any(|key| key.name() == Some(&name));
        let known = if known { "a key of the route" } else { "no key of the route has this name" };
        lines.push(format!("token: names the key `{}` ({known})", shown(&name)));
    }
    lines.extend(judged_claims(case.scheme, &facts.claims, given.now));
    lines
}

/// The claims that are judged, where they are not what is asked, and the times.
fn judged_claims(scheme: &Scheme, claims: &[(String, String)], now: Now) -> Vec<String> {
    let values = |name: &str| -> Vec<&String> {
        claims.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect()
    };
    let mut lines = Vec::new();
    for rule in &scheme.token.claims {
        let found = values(&rule.name);
        let wanted = rule.values.join("` or `");
        if found.is_empty() {
            lines.push(format!("claim {}: missing; it must be `{wanted}`", rule.name));
        } else if !found.iter().any(|value| rule.values.contains(value)) {
            let found: Vec<String> = found.iter().take(4).map(|value| shown(value)).collect();
            lines.push(format!("claim {}: `{}`, not `{wanted}`", rule.name, found.join("`, `")));
        }
    }
    let now = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    for name in ["exp", "nbf", "iat"] {
        let Some(seconds) = values(name).first().and_then(|text| text.parse::<i64>().ok()) else { continue };
        let span = shown_span(Duration::from_secs(seconds.abs_diff(now)));
        let direction = if seconds < now { "ago" } else { "from now" };
        lines.push(format!("claim {name}: {span} {direction}"));
    }
    if scheme.token.expires && values("exp").is_empty() {
        lines.push("claim exp: missing; the token must expire".to_owned());
    }
    lines
}

/// A text of the token, without what a terminal would act on.
fn shown(text: &str) -> String {
    quoted_start(text, SHOWN)
}
