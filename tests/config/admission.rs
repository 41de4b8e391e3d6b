//! Mistakes in the bounds of admission, of the process and of a route.

use countersign::config::{Severity, parse_str};
use countersign::gate::limits::OverBudget;
use countersign::gate::token_bucket::Rate;

use crate::support::{FRAME, ROUTE, assert_mistakes, github, problems};

#[test]
fn mistakes_in_the_limits() {
    let with = |text: &str| format!("{FRAME}{ROUTE}[limits]\n{text}\n");
    let unverified = "limits.unverified_per_client";
    assert_mistakes(
        Severity::Error,
        &[
            (&with("connections = 0"), 10, "limits.connections", "out of range", "1 to 1000000"),
            (&with("connections_per_client = 0"), 10, "limits.connections_per_client", "out of range", "1 to 1000000"),
            (&with("requests_in_flight = -1"), 10, "limits.requests_in_flight", "out of range", "1 to 1000000"),
            (&with("clients_tracked = 99999999"), 10, "limits.clients_tracked", "out of range", "1 to 16777216"),
            (&with("body_rate_min = '1KiB'"), 10, "limits.body_rate_min", "not a number of bytes a second", "1KiB/s"),
            (&with("body_rate_min = 1024"), 10, "limits.body_rate_min", "no unit", "1KiB/s"),
            (&with("body_memory = '1KiB'"), 10, "limits.body_memory", "out of range", "16KiB to 1024GiB"),
            (
                &with("unverified_per_client = { rate = '100', burst = 1 }"),
                10,
                &format!("{unverified}.rate"),
                "not a rate",
                "100/s",
            ),
            (
                &with("unverified_per_client = { rate = '0/s', burst = 1 }"),
                10,
                &format!("{unverified}.rate"),
                "out of range",
                "1 to 1000000",
            ),
            (&with("unverified_per_client = { rate = '1/s' }"), 10, &format!("{unverified}.burst"), "missing", "both"),
            (&with("unverified_per_client = '1/s'"), 10, unverified, "expected a table", "a table"),
            (&with("over_budget = 'drop'"), 10, "limits.over_budget", "not", "\"queue\""),
            (&with("over_budget = true"), 10, "limits.over_budget", "expected a string", "quotes"),
            (&with("over_budget_percent = 0"), 10, "limits.over_budget_percent", "out of range", "1 to 100"),
            (&with("over_budget_percent = 101"), 10, "limits.over_budget_percent", "out of range", "1 to 100"),
            (&with("over_budget_percent = '50%'"), 10, "limits.over_budget_percent", "expected a whole number", ""),
            (
                &with("handshakes_per_client = { rate = '1/s' }"),
                10,
                "limits.handshakes_per_client.burst",
                "missing",
                "both",
            ),
            (
                &with("unverified_per_client = { rate = '1/s', burst = 1, brst = 2 }"),
                10,
                &format!("{unverified}.brst"),
                "unknown key",
                "burst",
            ),
        ],
    );
}

#[test]
fn a_bound_that_another_one_makes_useless_is_warned_about() {
    let with = |text: &str| format!("{FRAME}{ROUTE}[limits]\n{text}\n");
    let key = "limits.connections_per_client";
    let expected = ("there are 20 connections at a time", "smaller than connections");
    for text in ["connections = 20\nconnections_per_client = 21", "connections_per_client = 21\nconnections = 20"] {
        let line = if text.starts_with("connections =") { 11 } else { 10 };
        assert_mistakes(Severity::Warning, &[(&with(text), line, key, expected.0, expected.1)]);
    }
    for text in ["connections = 20", "connections = 20\nconnections_per_client = 20"] {
        assert!(problems(&with(text)).is_empty(), "{text}");
    }
}

#[test]
fn mistakes_in_a_route() {
    assert_mistakes(
        Severity::Error,
        &[
            (&github("rate = { rate = '1/d', burst = 1 }"), 9, "route[0].rate.rate", "not a rate", "1000/h"),
            (&github("content_types = []"), 9, "route[0].content_types", "has 0 media types", "leave it out"),
            (&github("content_types = ['json']"), 9, "route[0].content_types", "not a media type", "application/json"),
            (&github("content_types = ['*/*']"), 9, "route[0].content_types", "not a media type", "no wildcards"),
            (&github("content_types = ['a/b;c=d']"), 9, "route[0].content_types", "parameters", "write \"a/b\""),
            (&github("content_types = ['a/b', 'A/B']"), 9, "route[0].content_types", "given twice", "remove"),
            (&github("observe = ['rates']"), 9, "route[0].observe[0]", "can be observed", "\"rate\""),
            (&github("observe = ['verification']"), 9, "route[0].observe[0]", "can be observed", "\"rate\""),
            (&github("observe = ['rate']"), 9, "route[0].observe[0]", "no effect", "a rate"),
            (
                &github("body_size = '2MiB'\n[limits]\nbody_memory = '1MiB'"),
                9,
                "route[0].body_size",
                "can never come in",
                "larger",
            ),
        ],
    );
}

#[test]
fn what_becomes_of_requests_over_the_budget_is_read() {
    let of = |text: &str| {
        let text = format!("{FRAME}{ROUTE}[limits]\n{text}\n");
        let (settings, warnings) = parse_str("test.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        (settings.limits.admission.over_budget, settings.limits.admission.over_budget_percent, warnings.len())
    };
    assert_eq!(of(""), (OverBudget::Queue, 50, 0));
    assert_eq!(of("over_budget = 'queue'\nover_budget_percent = 5"), (OverBudget::Queue, 5, 0));
    assert_eq!(of("over_budget = 'refuse'"), (OverBudget::Refuse, 50, 0));
    let useless = format!("{FRAME}{ROUTE}[limits]\nover_budget_percent = 5\nover_budget = 'refuse'\n");
    let key = "limits.over_budget_percent";
    assert_mistakes(Severity::Warning, &[(&useless, 10, key, "has no effect", "over_budget = \"queue\"")]);
}

#[test]
fn rates_are_read_with_their_period() {
    let text = format!(
        "{FRAME}{ROUTE}rate = {{ rate = '30/m', burst = 5 }}\ncontent_types = ['Application/JSON']\n\
         [limits]\nunverified_per_client = {{ rate = '7/h', burst = 9 }}\nbody_rate_min = '0B/s'\n"
    );
    let (settings, _) = parse_str("test.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    let seconds = core::time::Duration::from_secs;
    let route = &settings.routes[0].admission;
    assert_eq!(route.rate, Some(Rate { tokens: 30, per: seconds(60), burst: 5 }));
    assert_eq!(route.content_types, ["application/json"]);
    let unverified = settings.limits.admission.unverified_per_client;
    assert_eq!(unverified, Rate { tokens: 7, per: seconds(3600), burst: 9 });
    assert_eq!(settings.limits.body_rate_min, 0);
}
