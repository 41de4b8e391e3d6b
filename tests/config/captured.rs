//! Refused requests that are kept: asked for in a range, warned about, and counted into the memory of the process.

use core::time::Duration;

use countersign::config::Severity;
use countersign::config::summary::summary;
use countersign::now::Now;

use crate::support::{FRAME, ROUTE, assert_mistakes, directory, problems};

fn with(lines: &str) -> String {
    format!("{FRAME}{ROUTE}[admin]\naddress = '127.0.0.1:9'\n{lines}\n")
}

fn shown(text: &str) -> String {
    let loaded = directory().load(text).unwrap_or_else(|problems| panic!("{problems}"));
    summary(&loaded.settings, Now::at_unix(Duration::ZERO))
}

/// The last line with this word in front, without it.
fn line<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.lines().rev().find_map(|line| line.trim_start().strip_prefix(word)).map(str::trim)
}

#[test]
fn a_configuration_that_keeps_refused_requests_is_warned_about() {
    let message = "the last 20 refused requests are kept in memory, with bodies and signatures";
    let fix = "remove it when you have found out why they are refused";
    let key = "admin.capture_refused";
    assert_mistakes(Severity::Warning, &[(&with("capture_refused = 20"), 11, key, message, fix)]);
    assert!(problems(&with("capture_refused = 0")).is_empty() && problems(&with("")).is_empty());
    assert_mistakes(
        Severity::Error,
        &[
            (&with("capture_refused = 101"), 11, key, "out of range", "0 to 100"),
            (&with("capture_refused = true"), 11, key, "expected a whole number", "number"),
        ],
    );
}

#[test]
fn what_is_kept_is_in_the_sum_of_memory() {
    let (without, with) = (shown(&with("")), shown(&with("capture_refused = 32\n[server]\nworkers = 1")));
    assert_eq!(line(&with, "captured"), Some("32 refused requests × 80.0KiB = 2.5MiB"), "{with}");
    assert_eq!(line(&without, "captured"), None, "{without}");
    let all = |captures| {
        let lines = format!(
            "capture_refused = {captures}\n[server]\nworkers = 1\n[limits]\nconnections = 1\n\
             clients_tracked = 1024\nbody_memory = '2MiB'"
        );
        line(&shown(&self::with(&lines)), "all").and_then(mebibytes).expect("a sum")
    };
    // 100 × 80 KiB; both are shown with one digit after the point.
    let more = all(100) - all(0);
    assert!((more - 7.8125).abs() < 0.11, "{more}");
}

fn mebibytes(text: &str) -> Option<f64> {
    text.strip_suffix("MiB")?.parse().ok()
}
