//! Networks of senders in `allow`: names, tables of the file, copies that are old, and what `check` says of them.

use std::time::Duration;

use countersign::config::Severity;
use countersign::config::moment::moment_problems;
use countersign::config::summary::summary;
use countersign::now::Now;
use countersign::outcome::Rejection;

use crate::support::{assert_mistakes, directory, github, problems};

const OWN: &str = "[ranges.office]\nnetworks = ['192.0.2.0/24']\n";

/// 2026-12-01.
const DECEMBER: u64 = 1_796_083_200;

fn own(lines: &str) -> String {
    github(&format!("allow = ['office']\n[ranges.office]\n{lines}"))
}

#[test]
fn mistakes_about_senders_in_allow() {
    let fetched = "[published_ranges]\nrefresh = '24h'\n";
    assert_mistakes(
        Severity::Error,
        &[
            (&github("allow = ['githb']"), 9, "route[0].allow[0]", "nor a sender", "did you mean \"github\"?"),
            (&github("allow = ['nonsense-sender']"), 9, "route[0].allow[0]", "nor a sender", "docs/ranges.md"),
            (&github("allow = ['GitHub']"), 9, "route[0].allow[0]", "not a network", "192.0.2.0/24"),
            (&github("deny = ['github']"), 9, "route[0].deny[0]", "not a network", "192.0.2.0/24"),
            (&github("allow = ['datadog']"), 9, "route[0].allow[0]", "not fetched", "[published_ranges]"),
            (
                &github("[published_ranges]\nrefresh = '1s'"),
                10,
                "published_ranges.refresh",
                "out of range",
                "1m to 168h",
            ),
            (&github("[ranges.github]\nnetworks = ['192.0.2.0/24']"), 9, "ranges.github", "built in", "my-github"),
            (
                &github("[ranges.'My Own']\nnetworks = ['192.0.2.0/24']"),
                9,
                "ranges.My Own",
                "is no name",
                "small letter",
            ),
            (&own("networks = []"), 10, "ranges.office", "neither a list", "networks ="),
            (&own("url = 'http://a/b'\nlines = true"), 11, "ranges.office.url", "is not a place", "https://"),
            (&own("url = 'https://u:p@a/b'\nlines = true"), 11, "ranges.office.url", "is not a place", "https://"),
            (&own("url = 'https://a/b'"), 11, "ranges.office.url", "not said how", "lines = true"),
            (&own("url = 'https://a/b'\njson = 'x'\nlines = true"), 11, "ranges.office.url", "not said how", "json"),
            (&own("url = 'https://a/b'\njson = 'x'"), 12, "ranges.office.json", "no place in JSON", "/hooks"),
            (&own("url = 'https://a/b'\nlines = true"), 9, "route[0].allow[0]", "not fetched", "refresh"),
            (&own("networks = ['192.0.2.1/24']"), 11, "ranges.office.networks[0]", "inside a network", "192.0.2.0/24"),
        ],
    );
    assert_mistakes(
        Severity::Warning,
        &[
            (&github("allow = ['github', 'github']"), 9, "route[0].allow[1]", "given twice", "remove"),
            (&github(OWN), 9, "ranges.office", "no route allows", "allow ="),
        ],
    );
    for good in [
        github("allow = ['github', '192.0.2.0/24']"),
        github(&format!("allow = ['datadog']\n{fetched}")),
        github(&format!("allow = ['office']\n{OWN}")),
        github(&format!("allow = ['office']\n{fetched}[ranges.office]\nurl = 'https://a/b'\njson = ['/a', '/*/b']")),
        github("allow = ['github']\nobserve = ['allow']"),
    ] {
        assert_eq!(problems(&good).len(), 0, "{good}: {:?}", problems(&good));
    }
}

#[test]
fn the_networks_of_a_sender_are_let_in_beside_others() {
    let text = github(&format!("allow = ['github', 'office', '198.51.100.7']\ndeny = ['140.82.112.9']\n{OWN}"));
    let loaded = directory().load(&text).unwrap();
    let route = loaded.gate.routes.resolve(b"x", "/github", b"POST").unwrap();
    let admit = |client: &str| route.clients.admit(client.parse().ok());
    for client in ["140.82.112.1", "9.234.98.161", "2606:50c0::1", "192.0.2.1", "198.51.100.7"] {
        assert_eq!(admit(client), Ok(()), "{client}");
    }
    for client in ["203.0.113.1", "140.82.112.9", "::1"] {
        assert_eq!(admit(client), Err(Rejection::ClientNotAllowed), "{client}");
    }
}

#[test]
fn an_old_copy_is_warned_about_unless_it_is_fetched() {
    let old = "its networks are those of 2022-05-05";
    for (lines, now, warns) in [
        ("allow = ['github']", DECEMBER, false),
        ("allow = ['github']", DECEMBER + 300 * 24 * 3600, true),
        ("allow = ['pagerduty']", DECEMBER, true),
        ("allow = ['pagerduty']\n[published_ranges]\nrefresh = '24h'", DECEMBER, false),
        // The sender has no list for programs.
        ("allow = ['paddle']\n[published_ranges]\nrefresh = '24h'", DECEMBER + 300 * 24 * 3600, true),
    ] {
        let loaded = directory().load(&github(lines)).unwrap();
        let now = Now::at_unix(Duration::from_secs(now));
        let found: Vec<_> = moment_problems(&loaded.settings, now).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), usize::from(warns), "{lines}: {found:?}");
        let text = summary(&loaded.settings, now);
        assert_eq!(text.matches("WARNING").count(), 1 + usize::from(warns), "github has bodies up to 25MiB\n{text}");
        if lines.contains("pagerduty") && warns {
            assert!(found[0].contains(old) && found[0].contains("route[0].allow[0]"), "{found:?}");
            assert!(text.contains(old), "{text}");
        }
    }
}

#[test]
fn check_says_how_many_networks_count_and_since_when() {
    let now = Now::at_unix(Duration::from_secs(DECEMBER));
    let told = |lines: &str| summary(&directory().load(&github(lines)).unwrap().settings, now);
    let text = told("allow = ['192.0.2.0/24', 'github', 'paddle']\nobserve = ['allow']");
    for part in [
        "  ranges      not fetched: the copies that are built in count",
        "  clients     192.0.2.0/24 (only counted)\n              github: 9 networks as of 2026-10-08, not fetched (only counted)\n",
        "              paddle: 6 networks as of 2026-11-30; the sender has no list for programs (only counted)\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = told("allow = ['github', 'datadog']\n[published_ranges]\nrefresh = '24h'");
    for part in [
        "  ranges      fetched every 24h;",
        "  clients     github: 9 networks as of 2026-10-08, fetched every 24h\n              datadog: no copy, fetched every 24h\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!told("").contains("  ranges "), "nothing is said where no route names a sender");
}
