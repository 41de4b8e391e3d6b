//! What a configuration amounts to, kept for comparison with the next one: digests of its parts, so that a reload can
//! say in words what it has changed, and never what a secret was or is.

use core::fmt;
use std::collections::BTreeMap;

use crate::config::differences::{Difference, changed, differences};
use crate::config::digest::Digest;
use crate::config::secret::Secret;
use crate::config::section::listener::outline::ListenerOutline;
use crate::config::section::route::outline::RouteOutline;
use crate::config::settings::Settings;

/// Sections, listeners, routes and keys of a configuration that holds.
#[derive(Clone, Default)]
pub struct Outline {
    sections: [(&'static str, Digest); 12],
    listeners: BTreeMap<String, ListenerOutline>,
    routes: BTreeMap<String, RouteOutline>,
}

impl fmt::Debug for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outline").field("routes", &self.routes.keys()).finish_non_exhaustive()
    }
}

impl Outline {
    /// Of settings and the bytes of their keys, in the order of [`Settings::routes`].
    #[must_use]
    pub fn of(settings: &Settings, keys: &[Vec<Option<Secret>>]) -> Self {
        let Settings { listeners, routes, upstreams, .. } = settings;
        let listeners = listeners.iter().map(|it| (it.address.to_string(), ListenerOutline::of(it)));
        let routes = routes.iter().enumerate().map(|(position, route)| {
            let bytes = keys.get(position).map(Vec::as_slice).unwrap_or_default();
            (route.name.clone(), RouteOutline::of(route, &upstreams.get(route.upstream), bytes))
        });
        Self { sections: settings.digests(), listeners: listeners.collect(), routes: routes.collect() }
    }

    /// Says since when each key has been what it is: as long as in `older`, where it was the same. Another one, or one
    /// that is new there, since `now` (in unix seconds); with nothing before, since its file was written.
    #[must_use]
    pub fn dated(mut self, older: Option<&Self>, now: i64) -> Self {
        for (name, route) in &mut self.routes {
            for (id, key) in &mut route.keys {
                let before = older.and_then(|older| older.routes.get(name)?.keys.get(id));
                key.since = match before {
                    Some(before) if before.content == key.content => before.since,
                    _ if older.is_some() => Some(now),
                    _ => Some(key.since.map_or(now, |written| written.min(now))),
                };
            }
        }
        self
    }

    /// Each key by route and id, and since when it has been what it is.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str, Option<i64>)> {
        self.routes
            .iter()
            .flat_map(|(name, route)| route.keys.iter().map(move |(id, key)| (name.as_str(), id.as_str(), key.since)))
    }

    /// What is different in `newer`, one phrase each; nothing when both amount to the same.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<String> {
        let mut words: Vec<String> =
            changed(&self.sections, &newer.sections).map(|name| format!("{name} changed")).collect();
        for (address, change) in differences(&self.listeners, &newer.listeners, ListenerOutline::eq) {
            match change {
                Difference::Other(old, new) => words.extend(old.changes(new, address)),
                _ => words.push(format!("listener {address} {}", change.word())),
            }
        }
        for (name, change) in differences(&self.routes, &newer.routes, |_, _| false) {
            match change {
                Difference::Other(old, new) => words.extend(old.changes(new, name)),
                _ => words.push(format!("route {name} {}", change.word())),
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::section::route::RouteSettings;
    use crate::config::settings::parse_str;

    const TEXT: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[upstream]
address = "127.0.0.1:9000"
[[route]]
name = "hook"
path = "/hook"
scheme = "github"
allow = ["192.0.2.0/24"]
secrets = [{ id = "old", file = "a" }]
[[route]]
name = "other"
path = "/other"
scheme = "none"
"#;

    fn outline(text: &str, secret: &str) -> Outline {
        let (settings, _) = parse_str("test.toml", text).unwrap();
        let of = |route: &RouteSettings| {
            let keys = route.verification.iter().flat_map(|it| &it.keys);
            keys.map(|_| Some(Secret::new(secret.as_bytes().to_vec()))).collect()
        };
        let keys: Vec<_> = settings.routes.iter().map(of).collect();
        Outline::of(&settings, &keys)
    }

    fn changes(text: &str, secret: &str) -> Vec<String> {
        outline(TEXT, "first").changes(&outline(text, secret))
    }

    #[test]
    fn lines_that_move_and_files_of_another_name_change_nothing() {
        assert_eq!(changes(&format!("# a comment\n\n{TEXT}"), "first"), Vec::<String>::new());
        assert_eq!(changes(&TEXT.replace("file = \"a\"", "file = \"b\""), "first"), Vec::<String>::new());
    }

    #[test]
    fn every_change_has_its_words() {
        for (from, to, words) in [
            ("192.0.2.0/24", "192.0.2.0/25", "route hook changed (clients)"),
            ("allow = [", "keep_headers = [\"X-Real-IP\"]\nallow = [", "route hook changed (headers)"),
            ("scheme = \"github\"", "scheme = \"shopify\"", "route hook changed (verification)"),
            (
                "scheme = \"github\"",
                "scheme = \"github\"\nrate = { rate = \"5/s\", burst = 5 }",
                "route hook changed (limits)",
            ),
            ("path = \"/hook\"", "path = \"/hooks\"", "route hook changed (requests)"),
            ("127.0.0.1:9000", "127.0.0.1:9001", "route hook changed (upstream); route other changed (upstream)"),
            ("name = \"other\"", "name = \"another\"", "route another added; route other removed"),
            ("id = \"old\"", "id = \"new\"", "key \"new\" of route hook added; key \"old\" of route hook removed"),
            ("file = \"a\"", "file = \"a\", not_after = 2030-01-01T00:00:00Z", "key \"old\" of route hook changed"),
            ("127.0.0.1:8080", "127.0.0.1:8081", "listener 127.0.0.1:8080 removed; listener 127.0.0.1:8081 added"),
            ("8080\"\n", "8080\"\ntrusted_proxies = [\"192.0.2.1\"]\n", "listener 127.0.0.1:8080 changed"),
            ("[upstream]\n", "[upstream]\nidle_timeout = \"1s\"\n", "[upstream] changed"),
            ("[upstream]\n", "[limits]\nheaders = 50\n[upstream]\n", "[limits] changed"),
            ("[upstream]\n", "[reload]\nwatch = false\n[upstream]\n", "[reload] changed"),
        ] {
            assert_eq!(changes(&TEXT.replacen(from, to, 1), "first").join("; "), words);
        }
        assert_eq!(changes(TEXT, "second"), ["key \"old\" of route hook changed"]);
    }

    #[test]
    fn a_key_is_as_old_as_its_content() {
        let since = |outline: &Outline| outline.keys().map(|(_, _, since)| since.unwrap()).collect::<Vec<_>>();
        let mut first = outline(TEXT, "first");
        first.routes.get_mut("hook").unwrap().keys.get_mut("old").unwrap().since = Some(50);
        let first = first.dated(None, 100);
        assert_eq!(since(&first), [50], "since its file was written");
        assert_eq!(since(&outline(TEXT, "first").dated(None, 100)), [100], "in no file: since it was read");
        let same = outline(&TEXT.replace("file = \"a\"", "file = \"b\""), "first").dated(Some(&first), 200);
        assert_eq!(since(&same), [50], "the same elsewhere");
        let other = outline(TEXT, "second").dated(Some(&same), 300);
        assert_eq!(since(&other), [300]);
        let more = TEXT.replace("{ id = \"old\"", "{ id = \"new\", file = \"n\" }, { id = \"old\"");
        assert_eq!(since(&outline(&more, "second").dated(Some(&other), 400)), [400, 300]);
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        let printed = format!("{:?} {:?}", outline(TEXT, "hunter2"), changes(TEXT, "hunter2"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
