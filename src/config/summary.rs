//! What a configuration amounts to, in words, for `check`: every route, every bound, and the memory that strangers
//! can make us use.

use crate::config::memory;
use crate::config::section::route::copies::old_copies;
use crate::config::section::{listener, route};
use crate::config::settings::Settings;
use crate::now::Now;

/// Describes settings for people. `now` tells which keys count at present.
#[must_use]
pub fn summary(settings: &Settings, now: Now) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = settings.describe(&mut text, now).and_then(|()| memory::write(&mut text, settings));
    text
}

/// What will be wrong with these settings at this moment although they hold, in full sentences: routes of which no key
/// counts, certificates that do not hold.
#[must_use]
pub fn moment_warnings(settings: &Settings, now: Now) -> Vec<String> {
    let tls = settings.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let old = old_copies(&settings.routes, settings.range_moment(now));
    let old =
        old.map(|(route, sender, why)| format!("The route \"{}\" allows {}: {why}.", route.name, sender.source.name));
    let warnings = listener::described::moment_warnings(tls, now).chain(route::moment_warnings(&settings.routes, now));
    warnings.chain(old).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use core::time::Duration;

    use super::*;
    use crate::config::settings::parse_str;

    const TEXT: &str = r#"
[server]
workers = 1
[[listener]]
address = "127.0.0.1:8080"
[upstream]
address = "127.0.0.1:9000"
[[route]]
path = "/github"
rate = { rate = "500/s", burst = 1000 }
observe = ["rate"]
content_types = ["Application/JSON"]
host = "hooks.example.com"
scheme = "github"
secrets = [
  { id = "new", file = "new", not_before = 2026-06-01T00:00:00Z },
  { id = "old", file = "old", not_after = 2026-07-01T00:00:00Z },
]
[[route]]
path = "/open"
scheme = "none"
body_size = "5MiB"
allow = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.7", "2001:db8::/32"]
deny = ["192.0.2.1"]
observe = ["allow"]
upstream = "unix:/run/app.sock"
"#;

    fn at(seconds: u64) -> String {
        let (settings, _) = parse_str("test.toml", TEXT).unwrap();
        summary(&settings, Now::at_unix(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_summary_names_what_matters() {
        let text = at(1_781_000_000);
        for part in [
            "listener    127.0.0.1:8080",
            "admin       no port: neither probes nor metrics",
            "the client is the peer: no proxy is trusted",
            "clients     everyone",
            "clients     192.0.2.0/24, 198.51.100.0/24, 203.0.113.7/32 and 1 more (only counted)",
            "            never 192.0.2.1/32 (only counted)",
            "POST hooks.example.com/github",
            "POST /open (any host)",
            "{body} with",
            "replay key  tag of the signed content, by one key of the route",
            "replays     duplicates of accepted deliveries are acknowledged (200) and not forwarded\n",
            "            for 10m after the application has accepted them",
            "            262144 deliveries in at most 45.7MiB; when there are more, new ones are refused (503)",
            "            neither id nor time is signed; bodies of this sender name their event: equal bytes are one event",
            "            what is equal within this time counts as one delivery",
            "replays     1 tables, when full: 45.7MiB",
            "\"new\", counts from 2026-06-01T00:00:00Z",
            "\"old\", counts until 2026-07-01T00:00:00Z",
            "tolerance   none",
            "more of one: wait for their turn, with all others like them in at most 50 %:",
            "            2048 in flight, bodies of 128MiB, that share of each worker's time",
            "WARNING     nothing is verified",
            "body        at most 1MiB\n  WARNING     github sends up to 25MiB; what is longer than the bound is refused (413)",
            "upstream    unix:/run/app.sock",
            "rate        500/s, 1000 at once (only counted)",
            "media types application/json",
            "10000, of one client 256",
            "not genuine, of each: 100/s, 200 at once",
            "10000 connections × 26576B = 253.4MiB",
            "bodies      all together 256.0MiB",
            "65536, when all are there: 9.2MiB",
            "all         576.5MiB",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_tells_deliveries_apart_is_said_with_what_it_means() {
        let told = |scheme: &str, lines: &str| {
            let text = format!(
                "[[listener]]\naddress = '127.0.0.1:1'\n[upstream]\naddress = '127.0.0.1:2'\n\
                 [[route]]\npath = '/'\nscheme = '{scheme}'\nsecrets = [{{ id = '1', file = 'x' }}]\n{lines}\n"
            );
            summary(&parse_str("test.toml", &text).unwrap().0, Now::at_unix(Duration::from_secs(1)))
        };
        for (scheme, lines, part) in [
            ("svix", "", "replay key  delivery id\n              the id is signed: what has the same id"),
            ("stripe", "", "the time is signed, and no id: what is equal at another time is another delivery"),
            ("shopify", "", "bodies of this sender name their event: equal bytes are one event"),
            ("dropbox", "", "two events of this sender can have equal bytes\n  replays     off"),
            ("dropbox", "replay.mode = 'enforce'", "WARNING     the second of two equal events is lost within 10m"),
            ("meta", "", "it is not known whether two events can have equal bytes\n  replays     off"),
            ("token", "", "nothing is signed: equal bodies cannot be told apart\n  replays     off"),
            ("github", "body_size = '25MiB'", "body        at most 25MiB\n  upstream"),
        ] {
            let text = told(scheme, lines);
            assert!(text.contains(part), "{scheme}: {part}\n{text}");
            assert_eq!(text.matches("replay key").count(), 1, "{text}");
        }
    }

    #[test]
    fn what_a_route_keeps_is_named() {
        let text =
            TEXT.replace("scheme = \"none\"", "scheme = \"none\"\nkeep_headers = [\"X-Real-IP\", \"Forwarded\"]");
        let (settings, _) = parse_str("test.toml", &text).unwrap();
        let text = summary(&settings, Now::at_unix(Duration::from_secs(1_781_000_000)));
        assert_eq!(text.matches("  keeps       X-Real-IP, Forwarded, as any client sends them\n").count(), 1, "{text}");
    }

    #[test]
    fn keys_are_judged_at_the_given_moment() {
        assert!(at(1_700_000_000).contains("\"new\", does not count yet: it counts from 2026-06-01T00:00:00Z"));
        assert!(at(1_800_000_000).contains("\"old\", expired at 2026-07-01T00:00:00Z"));
        assert!(!at(1_800_000_000).contains("no key that counts"));
    }

    #[test]
    fn a_route_without_a_key_at_the_moment_is_named() {
        let text = TEXT.replace(
            "scheme = \"none\"",
            "scheme = \"github\"\nsecrets = [{ id = \"1\", file = \"x\", not_after = 2026-01-01T00:00:00Z }]",
        );
        let (settings, _) = parse_str("test.toml", &text).unwrap();
        let moment = |seconds| Now::at_unix(Duration::from_secs(seconds));
        let warnings = moment_warnings(&settings, moment(1_781_000_000));
        assert_eq!(
            warnings,
            ["The route \"open\" has no key that counts at present: every delivery to it will be refused."]
        );
        assert!(summary(&settings, moment(1_781_000_000)).contains("WARNING     the route has no key that counts"));
        assert!(moment_warnings(&settings, moment(1_700_000_000)).is_empty());
    }
}
