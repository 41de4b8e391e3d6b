//! What we ship for Prometheus and Grafana: every query asks for metrics and labels that there are, and every alert
//! fires for its cause.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign::now::Now;
use countersign::outcome::{Observed, Outcome};
use countersign::telemetry::exchange::{Exchange, RouteTag, Stage, Stages, Stated};
use countersign::telemetry::metrics::{Metrics, RouteLabels};
use countersign::telemetry::names::{self, MetricKind, MetricName};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(shipped(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a histogram is exported as.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn known(series: &str) -> Option<&'static MetricName> {
    let part = PARTS.iter().find_map(|part| series.strip_suffix(part));
    names::ALL.iter().find(|name| match name.kind {
        MetricKind::Histogram => part == Some(name.name),
        MetricKind::Counter | MetricKind::Gauge => name.name == series,
    })
}

/// Each series that a text asks for, and the labels that it is asked by.
fn asked(text: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        rest = &rest[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if !["countersign_", "process_"].iter().any(|start| word.starts_with(start)) {
            continue;
        }
        let matchers = after.strip_prefix('{').and_then(|inside| inside.split('}').next()).unwrap_or_default();
        let labels = matchers.split(',').filter_map(|matcher| matcher.split(['=', '!']).next());
        let labels = labels.map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect();
        found.push((word.to_owned(), labels));
    }
    found
}

/// The names of all series in a text, each of which must be one of ours.
#[track_caller]
fn check(text: &str) -> BTreeSet<&'static str> {
    let mut used = BTreeSet::new();
    for (series, labels) in asked(text) {
        let name = known(&series).unwrap_or_else(|| panic!("{series} is not exported, in {text}"));
        for label in labels {
            let of_prometheus =
                ["instance", "job"].contains(&label.as_str()) || (label == "le" && series.ends_with("_bucket"));
            assert!(of_prometheus || name.labels.contains(&label.as_str()), "{series} has no label {label}, in {text}");
        }
        used.insert(name.name);
    }
    used
}

#[test]
fn every_query_of_the_dashboard_asks_for_what_there_is_and_all_of_it_is_shown() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana/countersign.json")).unwrap();
    let mut shown = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let targets = panel["targets"].as_array().into_iter().flatten();
        let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
        assert!(!queries.is_empty() || panel["type"] == "row", "{}", panel["title"]);
        for query in queries {
            let used = check(query);
            assert!(!used.is_empty(), "{query}");
            shown.extend(used);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().skip(1) {
        check(variable["query"]["query"].as_str().unwrap());
    }
    let hidden: Vec<&str> = names::ALL.iter().map(|name| name.name).filter(|name| !shown.contains(name)).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn every_alert_asks_for_what_there_is_and_is_tested() {
    let (rules, tests) = (read("prometheus/countersign.rules.yml"), read("prometheus/countersign.rules.test.yml"));
    let comments =
        |text: &str| text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    assert!(check(&comments(&rules)).len() > 10);
    check(&comments(&tests));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        let quiet = tests.contains(&format!("{{ eval_time: 26h, alertname: {alert} }}"));
        let fires = tests.contains(&format!("alertname: {alert}\n        exp_alerts:"));
        assert!(quiet && fires, "{alert}: quiet {quiet}, fires {fires}");
    }
}

#[test]
fn promtool_agrees() {
    let run = |arguments: &[&str]| {
        let output = Command::new("promtool").args(arguments).current_dir(shipped("prometheus")).output();
        let Ok(output) = output else { return eprintln!("left out: promtool is not installed") };
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    };
    run(&["check", "rules", "countersign.rules.yml"]);
    run(&["check", "config", "prometheus.yml"]);
    run(&["test", "rules", "countersign.rules.test.yml"]);
}

#[test]
fn the_reader_of_queries_reads() {
    let query = "sum by (le) (rate(countersign_exchange_duration_seconds_bucket{route=~\"$r\",le!=\"1\"}[5m])) / process_threads";
    let found = asked(query);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].1, ["route", "le"]);
    assert!(known(&found[0].0).is_some() && known("countersign_exchange_duration_seconds").is_none());
    assert!(known("countersign_ready_count").is_none());
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Samples that are kept until a scrape would take more than a hundred megabytes here.
#[test]
fn counting_without_scrapes_takes_no_memory() {
    let route = RouteLabels { name: "hook".to_owned(), scheme: "github".to_owned(), keys: vec!["k".into()] };
    let meters = Metrics::new(1).register(&[route], &[]);
    let mut exchange = Exchange {
        worker: 0,
        request_id: [b'0'; 32],
        ended: Now::at_unix(Duration::from_secs(1_781_000_000)),
        route: Some(RouteTag { position: 0, name: "hook", scheme: "github" }),
        peer: None,
        client: None,
        caller: None,
        method: b"POST",
        path: b"/hook",
        query: b"",
        outcome: Outcome::Forwarded { status: 200 },
        accepted: None,
        broken_rule: None,
        observed: Observed::NONE,
        key_id: Some("k"),
        delivery_id: None,
        stated: Stated::default(),
        body: None,
        received: 256,
        sent: 2,
        stages: Stages::default(),
    };
    let before = resident();
    for number in 0..4_000_000_u32 {
        exchange.stages.mark(Stage::Answered, Duration::from_nanos(u64::from(number) * 7));
        exchange.stages.mark(Stage::Total, Duration::from_nanos(u64::from(number) * 9));
        meters.record(&exchange);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    let totals = meters.metrics().registered().routes[0].totals();
    assert_eq!(
        (totals.forwarded(), totals.total.count(), totals.upstream.count()),
        (4_000_000, 4_000_000, 4_000_000 - 1)
    );
}
