//! What an explanation says of a JSON Web Token. Its signature is never shown, and claims only where they are judged.

use core::time::Duration;

use super::report::Report;
use super::spans::shown_span;
use crate::gate::verify::{Delivery, inspect};

/// The longest text of a token that is shown, in characters.
const SHOWN: usize = 120;

impl<D: Delivery> Report<'_, D> {
    /// What the token says about itself, beside what is asked of it.
    pub(super) fn token(&mut self, algorithm: &str) {
        self.say(format!("what is signed: a JSON Web Token by {algorithm}"));
        let Some(facts) = inspect::token_facts(self.scheme, self.delivery) else {
            return self
                .say("token: none that can be read: three parts in base64url, the first two of them JSON objects");
        };
        match facts.algorithm {
            Some(named) if named == algorithm => {}
            Some(named) => self.say(format!(
                "token: made by `{}`, but the scheme wants {algorithm}: a token does not choose",
                shown(&named)
            )),
            None => self.say("token: its header names no algorithm"),
        }
        for refused in facts.refused {
            self.say(format!("token: its header has `{refused}`, for which it is refused"));
        }
        if let Some(name) = facts.key {
            let known = self.verifier.keys().iter().any(|key| key.name() == Some(&name));
            let known = if known { "a key of the route" } else { "no key of the route has this name" };
            self.say(format!("token: names the key `{}` ({known})", shown(&name)));
        }
        self.claims(&facts.claims);
    }

    fn claims(&mut self, claims: &[(String, String)]) {
        let scheme = self.scheme;
        let values = |name: &str| -> Vec<&String> {
            claims.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect()
        };
        for rule in &scheme.token.claims {
            let found = values(&rule.name);
            let wanted = rule.values.join("` or `");
            if found.is_empty() {
                self.say(format!("claim {}: missing; it must be `{wanted}`", rule.name));
            } else if !found.iter().any(|value| rule.values.contains(value)) {
                let found: Vec<String> = found.iter().take(4).map(|value| shown(value)).collect();
                self.say(format!("claim {}: `{}`, not `{wanted}`", rule.name, found.join("`, `")));
            }
        }
        let now = i64::try_from(self.now.unix.as_secs()).unwrap_or(i64::MAX);
        for name in ["exp", "nbf", "iat"] {
            let Some(seconds) = values(name).first().and_then(|text| text.parse::<i64>().ok()) else { continue };
            let span = shown_span(Duration::from_secs(seconds.abs_diff(now)));
            let direction = if seconds < now { "ago" } else { "from now" };
            self.say(format!("claim {name}: {span} {direction}"));
        }
        if scheme.token.expires && values("exp").is_empty() {
            self.say("claim exp: missing; the token must expire");
        }
    }
}

/// A text of the token, without what a terminal would act on.
fn shown(text: &str) -> String {
    text.escape_debug().take(SHOWN).collect()
}
